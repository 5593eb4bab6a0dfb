"""What should worry whoever reads a run's scores, in sentences made from the run's own numbers.

A rule looks at the facts of a run and says what is wrong and what to do, or nothing. A good run has
no caution.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from helpers.base import artifacts
from helpers.base.settings import Config
from helpers.metrics import evaluate, intervals
from helpers.view import curves

WIDE = 0.2  # of an interval: wider than this, no two models can be told apart
NAMED = 5  # classes at most in a sentence


@dataclass(frozen=True)
class Caution:
    """One thing to worry about."""

    level: str  # "red": do not use these results as they are; "amber": know this before you do
    says: str


@dataclass(frozen=True)
class Facts:
    """What the rules look at; what a run has not made yet is empty."""

    config: Config
    metrics: dict  # metrics.json
    board: pd.DataFrame  # leaderboard.csv
    history: list  # history.json
    shortcuts: dict  # shortcuts.json
    check: dict  # submission_check.json

    @property
    def model(self) -> str:
        """The model that is submitted."""
        return self.config.submit.model

    @property
    def row(self) -> dict:
        """The submitted model's row of the leaderboard; empty where there is none."""
        rows = self.board[self.board["model"].eq(self.model)].to_dict("records")
        return rows[0] if rows else {}

    @property
    def metric(self) -> str:
        """The metric that comes first in every table."""
        return evaluate.headline(self.config)[0]

    def score(self, name: str) -> dict:
        """A metric of the submitted model with its interval; empty where there is none."""
        return {part: self.row[name + end] for part, end in ENDS.items() if name in self.row}


ENDS = {"value": "", "low": "_low", "high": "_high"}


def of(folder: Path, submitted: bool = True) -> list[Caution]:
    """The cautions of a run, red ones first, from the files that its folder holds so far.

    Args: folder of the run; submitted whether 08 has been run since, or its check is of an earlier
        time.
    """
    facts = read(Path(folder))
    facts = facts if submitted else replace(facts, check={})
    said = [Caution(level, rule(facts)) for level, rule in RULES]
    return [caution for caution in said if caution.says]


def read(folder: Path) -> Facts:
    """The facts of a run, from its files."""

    def value(name, empty):
        path = folder / name
        return artifacts.read(path) if path.is_file() else empty

    return Facts(
        config=Config(**value("run.json", {}).get("config", {})),
        metrics=value("metrics.json", {}),
        board=value("leaderboard.csv", pd.DataFrame(columns=["model"])),
        history=value("history.json", []),
        shortcuts=value("shortcuts.json", {}),
        check=value("submission_check.json", {}),
    )


# --- the rules


def behind_the_best(facts: Facts) -> str:
    """Another model is better than the submitted one, by more than chance."""
    behind = facts.score("difference")
    if not behind or behind["high"] >= 0:
        return ""
    best = facts.board["model"].iloc[0]
    return (
        f"The submitted model, {facts.model}, is clearly below {best}: {evaluate.points(**behind)} "
        f"points of {evaluate.in_words(facts.metric)}, on the same recordings. "
        f"SET=submit.model={best} submits that one."
    )


def no_better_than_chance(facts: Facts) -> str:
    """The submitted model may know nothing."""
    several = facts.config.data.multilabel
    metric = evaluate.HEADLINE[several][0]
    name = "chance_average_precision" if several else "majority_class_accuracy"
    chance = facts.metrics.get(name, 0)
    score = facts.score(metric)
    if not score or score["low"] > chance:
        return ""
    nothing = "scores drawn by chance have" if several else "always saying the largest class has"
    return (
        f"The submitted model, {facts.model}, may be no better than chance: "
        f"{evaluate.in_words(metric)} {evaluate.percent(score)}; {nothing} {100 * chance:.1f} %."
    )


def test_set_differs(facts: Facts) -> str:
    """The score on the test key lies clearly beside the one out of fold."""
    test = facts.check.get("hidden_test", {}).get(facts.metric)
    own = facts.score(facts.metric)
    if not test or not own or facts.check.get("model") != facts.model:
        return ""
    words = evaluate.in_words(facts.metric)
    both = f"{words} {evaluate.percent(test)}, out of fold {evaluate.percent(own)}"
    if test["high"] < own["low"]:
        return (
            f"The test key gives clearly less than the folds ({both}): the test set is another "
            "world, or a fold leaks."
        )
    if test["low"] > own["high"]:
        return (
            f"The test key gives clearly more than the folds ({both}): does training hold what is "
            "tested?"
        )
    return ""


def shortcuts_flagged(facts: Facts) -> str:
    """The class, or the side, can be told without listening."""
    told = []
    for audit in filter(None, facts.shortcuts.values()):
        entries = [*audit["columns"], *audit["kinds"]]
        if audit["verdict"] == "suspicious":
            columns = [entry["column"] for entry in entries if entry["flagged"]]
            told.append(f"{audit['asks']} by {_some(columns)}")
    if not told:
        return ""
    return (
        f"A model that hears nothing tells {' and '.join(told)}: a network may listen to that, "
        "not to the sound."
    )


def never_said(facts: Facts) -> str:
    """The network never gives some class as its answer."""
    names = facts.metrics.get("never_predicted")
    if not names:
        return ""
    return f"The CNN never says {_some(names)}: listen to them, and look at the confusion matrix."


def loss_falling(facts: Facts) -> str:
    """Training ended too early."""
    return curves.still_falling(facts.history, facts.config)


def few_sources(facts: Facts) -> str:
    """The recordings come from few sources."""
    n_groups = facts.metrics.get("n_groups")
    return intervals.few_sources(n_groups) if n_groups else ""


def wide_interval(facts: Facts) -> str:
    """The score is hardly known; with few sources that has been said."""
    score = facts.score(facts.metric)
    if few_sources(facts) or not score or score["high"] - score["low"] <= WIDE:
        return ""
    return (
        f"The interval of {evaluate.in_words(facts.metric)} is wide, {evaluate.percent(score)}: "
        "too few recordings, or sources, to choose a model by."
    )


RULES = (
    ("red", behind_the_best),
    ("red", no_better_than_chance),
    ("red", test_set_differs),
    ("amber", shortcuts_flagged),
    ("amber", never_said),
    ("amber", loss_falling),
    ("amber", few_sources),
    ("amber", wide_interval),
)


def _some(names):
    """The first few of several names."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
