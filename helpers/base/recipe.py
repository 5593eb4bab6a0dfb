"""The recipe: the network and how it is trained. Every ingredient is a key; `make ablation` says
what it is worth.
"""

import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Names = tuple[str, ...]
Text = str | None


def whole(least: int, most: int | None = None):
    """The type of whole numbers from `least` to `most`; true is not 1."""
    return Annotated[int, Field(strict=True, ge=least, le=most)]


Count = whole(1)
# A mapping, kept as pairs so that a Config can be hashed.
Pairs = Annotated[
    tuple[tuple[str, str], ...],
    BeforeValidator(lambda m: tuple(m.items()) if isinstance(m, dict) else m),
]


class Section(BaseModel):
    """Settings that belong together: unknown keys are refused, and nothing changes them."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


NETWORKS = ("picture", "frames", "waveform")  # what networks read
HEARD = ("embedding", "both")  # the embeddings of a listener, alone or with the features
TABLES = ("table", *HEARD)  # what models on tables read
# A network's own width, where another one is compared with it.
WIDTHS = {"cnn": (32, 64, 128, 256), "resnet": (24, 24, 48, 96)}
PLAIN = "plain_cnn"  # what "cnn" is called among the compared models, where "cnn" is the run's own
# Besides those that are registered: what such networks of others read.
PUBLISHED = {
    r"timm:[\w.\-]+": "picture",
    r"(torchaudio|hf):\S+": "waveform",
}
CALLED = {"picture": ("timm:<name>",), "waveform": ("torchaudio:<BUNDLE>", "hf:<name>")}


MAKERS = {}  # what makes a model, by its name, filled where it stands: `model`
MADE_IN = ("models/networks.py", "compare/classic.py")


def model(name: str, reads: str):
    """A decorator: the function below it makes the model of this name, which reads this."""

    def register(make):
        MAKERS[name] = make
        return make

    return register


@functools.cache
def kinds() -> dict[str, str]:
    """Every model that has a name, and what it reads: of NETWORKS or TABLES.

    It is looked up in the source: to import what makes them takes seconds, and half a gigabyte.

    >>> kinds()["gru"], kinds()["svm"]
    ('frames', 'table')
    """
    source = [(Path(__file__).parents[1] / name).read_text("utf-8") for name in MADE_IN]
    written = r"""^@recipe\.model\(\s*["'](\w+)["'],\s*reads=["'](\w+)["'],?\s*\)"""
    named = re.findall(written, "\n".join(source), re.M)
    return dict(named)


def reads(name: str) -> str | None:
    """What a model reads; None if there is no model of this name.

    >>> reads("gru"), reads("timm:resnet18"), reads("hf:microsoft/wavlm-base"), reads("wavenet")
    ('frames', 'picture', 'waveform', None)
    """
    published = (kind for name_of, kind in PUBLISHED.items() if re.fullmatch(name_of, name))
    return next(published, kinds().get(name))


def named(*wanted: str) -> Names:
    """The names of the models that read one of these.

    >>> named("waveform")
    ('cnn1d',)
    """
    return tuple(name for name, kind in kinds().items() if kind in wanted)


def require(key: str, name: str, names: Iterable[str], published: Names = ()) -> None:
    """Refuse a name that is none of these.

    Args: key of the setting that it stands in; published what networks of others may read that may
        stand there too. Raises ValueError with all that there are.
    """
    is_published = ":" in name and reads(name) in published
    if name in names or is_published:
        return
    others = [word for kind in published for word in CALLED[kind]]
    raise ValueError(f"{key}: got {name!r}. There are: {', '.join([*names, *others])}")


Channels = whole(1, 4096)


class Model(Section):
    name: str = "resnet"  # the network of 05
    # Of each block; resnet: of the stem, then of each block, which halves the picture where it
    # changes their number.
    channels: Annotated[tuple[Channels, ...], Field(min_length=1, max_length=8)] = WIDTHS["resnet"]
    # resnet: what the first convolution divides the spectrogram's size by
    stem_stride: Literal[1, 2] = 2
    coordinate: bool = True  # resnet: a second input channel that says which frequency a pixel has
    # resnet: over time, after the mean over frequency; attention: each frame answers, which finds
    # events more finely
    pooling: Literal["mean", "mean_max", "gem", "attention"] = "mean_max"
    dropout: Probability = 0.2
    # a published network (timm, torchaudio, hf) starts from its weights, where they can be had
    pretrained: bool = True
    # how a recording's clips give one answer
    aggregate: Literal["mean", "max", "top", "noisy_or"] = "mean"
    # timm, torchaudio: a file of such weights, its path absolute or from the folder that holds
    # data/; any network: run:<name>, which begins from the network of another run, but for the last
    # layer
    weights: Text = None

    @property
    def begins_from(self) -> Text:
        """The name of the run whose network is begun from; None where there is none.

        >>> Model(weights="run:esc10").begins_from
        'esc10'
        """
        kind, _, name = (self.weights or "").partition(":")
        return name if kind == "run" else None


class Train(Section):
    """Training of the network, from waveforms or from the spectrogram images."""

    inputs: Literal["waveforms", "images"] = "waveforms"  # images: the PNG files of 04

    # How long, how fast, and what is kept
    epochs: Count = 60
    # for all networks of 05; what is cut short can be trained on; None: no limit
    max_minutes: Positive | None = None
    batch_size: whole(2) = 32  # clips per step, over all processes
    learning_rate: Positive = 4e-3
    weight_decay: NotNegative = 0.05
    # plateau: halved where validation loss stalls
    schedule: Literal["cosine", "plateau"] = "cosine"
    warmup_fraction: Probability = 0.05  # of all steps
    plateau_patience: Count = 10  # epochs that it may stall
    clip_norm: Positive = 1.0  # gradients are scaled down to this norm
    ema: BelowOne = 0.99  # weights averaged over steps, so much of the old ones kept; 0: off
    # the last epoch, or the best one on a validation fold
    select: Literal["validation", "last"] = "last"
    # what the best epoch is best in; score: accuracy, or macro AP
    monitor: Literal["loss", "score"] = "loss"
    patience: Count = 10  # epochs without a better one before stopping
    balance: Literal["none", "weights", "sampling", "focal"] = "none"  # how rare classes are helped
    secondary_weight: Probability = 0.5  # what is asked for labels of data.secondary_column
    # share of a pretrained network's layers, from the input on, that is not trained
    freeze: Probability = 0.0
    unfreeze: Share = 1.0  # until so much of the training is over
    layer_decay: Share = 1.0  # a pretrained layer's learning rate, of the next one's

    # What is done to the clips
    augmented_copies: bool = False  # train on 03's offline copies too
    crop: Share = 1.0  # share of a clip that a step learns from, from anywhere in it
    shift: Probability = 1.0  # circular shift by up to this fraction of the clip
    speed: BelowOne = 0.2  # playback speed drawn within +- this fraction
    gain_db: NotNegative = 6.0  # gain drawn within +- this
    polarity: bool = True  # turned upside down, every other time
    noise_db: float | None = None  # coloured noise this far below the clip or further; None: none
    # a folder of recordings of which noise is taken instead, below the data folder or absolute
    noise_folder: Text = None
    # bands made louder or softer within +- this (FilterAugment); 0: off
    filter_db: NotNegative = 0.0
    # with a partner: by amplitude, or by loudness
    mix: Literal["none", "mixup", "between_class"] = "between_class"
    mixup_alpha: NotNegative = 0.4  # of the Beta distribution that mixup draws from; 0: off
    mix_share: Probability = 1.0  # of the batches that are mixed
    masks: whole(0, 8) = 2  # SpecAugment masks along each axis
    mask_fraction: BelowOne = 0.17  # longest mask, as a fraction of the axis
    label_smoothing: BelowOne = 0.05
    flip: Probability = 0.0  # images only: share that is mirrored in time
    # images only: turned by up to this share of a full turn
    rotate: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    zoom: BelowOne = 0.0  # images only: zoomed within +- this fraction

    # Several networks, and what they teach
    # networks per fold, from different random numbers, whose probabilities are averaged
    seeds: Count = 1
    views: Count = 8  # shifted views whose probabilities are averaged when predicting
    # share of the networks' own answer in the labels of one that replaces them; 0: off
    distil: Probability = 0.0
    # clips of data.unlabelled and of the test set that they answer so surely are learned too, by
    # one that replaces them; 0: all
    pseudo_labels: Probability | None = None
    # how often: the one that was taught answers anew and teaches the next
    pseudo_rounds: Count = 1
    # their answers are raised to this power before they are learned; above 1: what is unsure fades
    pseudo_power: Positive = 1.0
    # how often such a clip is drawn, of a labelled one; an epoch is so much shorter
    pseudo_weight: Share = 1.0

    # The machine
    # auto: half on a GPU, or where a CPU is faster so
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    capture: bool = True  # on one GPU: the whole step as one CUDA graph
    threads: whole(0) = 0  # CPU threads; 0: a short trial says how many
    processes: Count = 1  # each trains whole folds, on a GPU of its own where there are several

    @model_validator(mode="after")
    def _fits_together(self):
        if self.select == "last" and (self.schedule == "plateau" or self.monitor == "score"):
            raise ValueError(
                "train.schedule=plateau and train.monitor need a validation fold: "
                "train.select=validation"
            )
        if self.noise_folder and self.noise_db is None:
            raise ValueError(
                "train.noise_folder needs train.noise_db: how far below the clip (dB) its noise "
                "is at most, 0 for as loud as the clip"
            )
        if self.inputs == "images" and self.pseudo_labels is not None:
            raise ValueError(
                "train.pseudo_labels needs train.inputs=waveforms: test clips have no images"
            )
        return self
