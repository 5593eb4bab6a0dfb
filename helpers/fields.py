"""The types that settings are made of: sections that are checked and frozen, and ranges by name."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Whole = Annotated[int, Field(strict=True)]  # true is not 1
Count = Annotated[Whole, Field(ge=1)]
# A mapping, kept as pairs so that a Config can be hashed.
Pairs = Annotated[
    tuple[tuple[str, str], ...], BeforeValidator(lambda m: tuple(m.items()) if isinstance(m, dict) else m)
]


class Section(BaseModel):
    """Settings that belong together: unknown keys are refused, and nothing changes them afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
