"""What to know before a run's scores are trusted, in sentences made from the run's own numbers.

A rule looks at the facts of a run. It returns a Caution that says what is wrong and which command
comes next, or a few words on what is in order, or None where the run has nothing to judge by.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from helpers.base import artifacts, recipe
from helpers.base.settings import Config
from helpers.listeners import naming
from helpers.metrics import evaluate, intervals
from helpers.run import journal
from helpers.view import curves

WIDE = 0.2  # of an interval: wider than this, no two models can be told apart
NAMED = 5  # classes at most in a sentence
POSITIVES = 10  # of a class in a test set, on average: with fewer it is not judged
UNEQUAL = 1.5  # times the mean: with a class that large, others are rare
# What of the settings undoes a shortcut, by the column of the audit that tells it.
REMEDIES = {
    "sample_rate": "audio.sample_rate={lowest_rate}",
    "dc_offset": "clean.high_pass_hz=40",
    "peak": "clean.normalise=true",
    "rms_db": "clean.normalise=true train.gain_db=12.0",
    "silence_fraction": "audio.short_clips=loop",
    "leading_silence_seconds": "train.shift=1.0",
}


@dataclass(frozen=True)
class Caution:
    """One thing to know before the scores are trusted."""

    level: str  # "red": do not use them as they are; "amber": know this before; "green": in order
    says: str
    do: str = ""  # the command that comes next


@dataclass(frozen=True)
class Facts:
    """What the rules look at; what a run has not made yet is empty."""

    folder: Path
    config: Config
    metrics: dict  # metrics.json
    board: pd.DataFrame  # leaderboard.csv
    history: list  # history.json
    shortcuts: dict  # shortcuts.json
    check: dict  # submission_check.json
    recordings: pd.DataFrame  # recordings.csv

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

    def again(self, settings: str = "") -> str:
        """The command of a further run with some settings changed, never a smoke run."""
        return journal.command(self.folder, settings, fast=False)

    def longer(self) -> str:
        """The command of a run with twice the epochs; after a smoke run, of a whole one."""
        epochs = 2 * self.config.train.epochs
        return self.again("" if self.config.fast else f"train.epochs={epochs}")


ENDS = {"value": "", "low": "_low", "high": "_high"}


def of(folder: Path, submitted: bool = True) -> list[Caution]:
    """What to know of a run, from the files that its folder holds so far.

    Red ones come first, last a green one with all that was checked and found in order.

    Args: folder of the run; submitted whether 08 has been run since, or its check is of an earlier
        time.
    """
    facts = read(Path(folder))
    facts = facts if submitted else replace(facts, check={})
    told = [rule(facts) for rule in RULES]
    found = [caution for caution in told if isinstance(caution, Caution)]
    fine = "; ".join(words for words in told if isinstance(words, str))
    return found + ([Caution("green", f"Checked and in order: {fine}.")] if fine else [])


def read(folder: Path) -> Facts:
    """The facts of a run, from its files."""

    def value(name, empty):
        path = folder / name
        return artifacts.read(path) if path.is_file() else empty

    return Facts(
        folder=folder,
        config=Config(**value("run.json", {}).get("config", {})),
        metrics=value("metrics.json", {}),
        board=value("leaderboard.csv", pd.DataFrame(columns=["model"])),
        history=value("history.json", []),
        shortcuts=value("shortcuts.json", {}),
        check=value("submission_check.json", {}),
        recordings=value("recordings.csv", pd.DataFrame(columns=["sample_rate"])),
    )


# --- the rules, red ones first


def behind_the_best(facts: Facts) -> Caution | str | None:
    """Another model is better than the submitted one, by more than chance."""
    behind = facts.score("difference")
    if not behind or len(facts.board) < 2:
        return None
    if behind["high"] >= 0:
        return f"no model is clearly better than {facts.model}, which is submitted"
    best = facts.board["model"].iloc[0]
    says = (
        f"The submitted model, {facts.model}, is clearly below {best}: {evaluate.points(**behind)} "
        f"points of {evaluate.in_words(facts.metric)}, on the same recordings. "
    )
    if facts.config.fast:
        return Caution("red", f"{says}A smoke run cannot tell; make a whole one:", facts.again())
    says += f"Submit {best}:"
    return Caution("red", says, journal.command(facts.folder, f"submit.model={best}"))


def no_better_than_chance(facts: Facts) -> Caution | str | None:
    """The submitted model may know nothing."""
    several = facts.config.data.multilabel
    metric = evaluate.HEADLINE[several][0]
    chance = facts.metrics.get("chance_average_precision" if several else "majority_class_accuracy")
    score = facts.score(metric)
    if not score or chance is None:
        return None
    if score["low"] > chance:
        return f"{facts.model} is better than chance"
    nothing = "random scores give" if several else "always predicting the largest class gives"
    says = (
        f"The submitted model, {facts.model}, may be no better than chance: "
        f"{evaluate.in_words(metric)} {evaluate.percent(score)}; {nothing} {100 * chance:.1f} %. "
    )
    if facts.config.fast:
        return Caution(
            "red", f"{says}A smoke run is too short to learn; make a whole one:", facts.again()
        )
    better = facts.board.loc[facts.board[f"{metric}_low"].gt(chance), "model"].tolist()
    if better:
        do = facts.again(f"submit.model={better[0]}")
        return Caution("red", f"{says}{better[0]} is better than that. Submit it:", do)
    return Caution("red", f"{says}Listen in 01_explore: do the labels fit the sounds?", "make lab")


def test_set_differs(facts: Facts) -> Caution | str | None:
    """The score on the test key lies clearly beside the one out of fold."""
    test = facts.check.get("hidden_test", {}).get(facts.metric)
    own = facts.score(facts.metric)
    if not test or not own or facts.check.get("model") != facts.model or _few_positives(facts):
        return None
    words = evaluate.in_words(facts.metric)
    both = f"{words} {evaluate.percent(test)}, out of fold {evaluate.percent(own)}"
    prove = f"make verify RUN={facts.folder.name}"
    if test["high"] < own["low"]:
        why = "the test set differs from training, or a fold leaks. See whether anything crosses:"
        says = f"The test key gives clearly less than the folds ({both}): {why}"
        return Caution("red", says, prove)
    if test["low"] > own["high"]:
        why = "does training hold what is tested? See whether anything crosses:"
        says = f"The test key gives clearly more than the folds ({both}): {why}"
        return Caution("red", says, prove)
    return "the test key and the folds agree"


def _few_positives(facts):
    """Whether the test set has too few recordings of a class for an average precision.

    Ranked at random, one recording of twelve gets 26 %, one of a hundred 5 %.
    """
    share = facts.metrics.get("chance_average_precision", 1)
    recordings = facts.check["hidden_test"].get("n_recordings", math.inf)
    return facts.config.data.multilabel and share * recordings < POSITIVES


def shortcuts_flagged(facts: Facts) -> Caution | str | None:
    """The class, or the side, can be told without listening."""
    told = []
    columns = []
    for audit in filter(None, facts.shortcuts.values()):
        entries = [*audit["columns"], *audit["kinds"]]
        if audit["verdict"] == "suspicious":
            flagged = [entry["column"] for entry in entries if entry["flagged"]]
            told.append(f"{audit['asks']} by {_some(flagged)}")
            columns += flagged
    if not told:
        return "no fact about the files gives the class away" if facts.shortcuts else None
    says = (
        f"A model that hears nothing tells {' and '.join(told)}: a network may listen to that, "
        "not to the sound. "
    )
    if settings := _remedies(facts, columns):
        return Caution("amber", f"{says}Undo it, and see what the score becomes:", settings)
    return Caution("amber", f"{says}02_clean says what can be done about each:", "make lab")


def _remedies(facts, columns):
    """The command that undoes what settings can undo of some columns; "" where they do already."""
    lowest_rate = facts.recordings["sample_rate"].min()
    if pd.isna(lowest_rate) or lowest_rate >= facts.config.audio.sample_rate:
        columns = [name for name in columns if name != "sample_rate"]
    words = " ".join(REMEDIES.get(name, "") for name in columns).format(lowest_rate=lowest_rate)
    missing = [word for word in words.split() if not _is_set(word, facts.config)]
    return facts.again(" ".join(missing)) if missing else ""


def _is_set(word, config):
    """Whether a setting such as "clean.normalise=true" has this value already."""
    key, _, value = word.partition("=")
    section, _, name = key.partition(".")
    return str(getattr(getattr(config, section), name)).lower() == value


def never_said(facts: Facts) -> Caution | str | None:
    """The network never gives some class as its answer."""
    names = facts.metrics.get("never_predicted")
    if names is None:
        return None
    if not names:
        return "the CNN predicts every class"
    says = f"The CNN never predicts {_some(names)}. "
    share = facts.metrics.get("majority_class_accuracy", 0) * facts.metrics.get("n_classes", 1)
    if share > UNEQUAL and facts.config.train.balance == "none":
        do = facts.again("train.balance=sampling")
        return Caution("amber", f"{says}Rare classes can be drawn more often:", do)
    return Caution("amber", f"{says}Listen to them, and train longer:", facts.longer())


def loss_falling(facts: Facts) -> Caution | str | None:
    """Training ended too early."""
    says = curves.unfinished(facts.history, facts.config)
    if not says:
        return None if says is None else "training was long enough"
    return Caution("amber", f"{says} Train twice as long:", facts.longer())


def listener_unknown(facts: Facts) -> Caution | str | None:
    """A listener may have learned from the recordings on which its models are tested."""
    if not facts.config.features.listener or facts.board.empty:
        return None
    kind, what = naming.parts(facts.config)
    if kind == "run":
        return f"the listener, {what}, has learned from none of these recordings"
    models = [facts.board["model"].iloc[0], *facts.config.submitted()]
    heard = [model for model in models if recipe.reads(model) in recipe.HEARD]
    if not heard:
        return None
    says = (
        f"{heard[0]} learns from what {kind}:{Path(what).name} hears. Whether that network has "
        "learned from these very recordings only its makers can tell: if so, the scores with it "
        "are too good, and only a hidden test set tells how good it is."
    )
    return Caution("amber", says)


def few_sources(facts: Facts) -> Caution | str | None:
    """The recordings come from few sources."""
    n_groups = facts.metrics.get("n_groups")
    if n_groups is None:
        return None
    says = intervals.few_sources(n_groups)
    if not says:
        return f"{n_groups} sources"
    return Caution("amber", f"{says} Add recordings of others, then:", facts.again())


def wide_interval(facts: Facts) -> Caution | str | None:
    """The score is hardly known; with few sources that has been said."""
    score = facts.score(facts.metric)
    if isinstance(few_sources(facts), Caution) or not score:
        return None
    metric = evaluate.in_words(facts.metric)
    width = score["high"] - score["low"]
    if width <= WIDE:
        return f"{metric} is known to within {100 * width:.0f} points"
    says = (
        f"The interval of {metric} is wide, {evaluate.percent(score)}: too few recordings, or "
        "sources, to choose a model by. Add more, then:"
    )
    return Caution("amber", says, facts.again())


RULES = (
    *(behind_the_best, no_better_than_chance, test_set_differs),
    *(shortcuts_flagged, never_said, loss_falling),
    *(listener_unknown, few_sources, wide_interval),
)


def _some(names):
    """The first few of several names."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
