"""A search for better settings on validation folds, and what its choice is worth on other folds.

``python -m helpers search --preset demo --minutes 60`` (or ``make search``). The folds are divided
once. Within some of them settings are tried: short trainings, each validated on folds of their own
that it has not learned from. What scores best there is then trained as usual, and so is the preset;
both are tested on the other folds, of which no trial has seen a clip. Optuna proposes the settings
where it is installed; without it they come in a random order, the same each time.
"""

import hashlib
import json
import math
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.audio import augment, features
from helpers.base import artifacts, code, errors
from helpers.base.settings import Config
from helpers.data.sources import LEARNED_ONLY
from helpers.metrics import decisions, evaluate
from helpers.rounds import train
from helpers.splits import partition, rules
from helpers.tuning import variants, words
from helpers.view import score_plots

TESTED = 3  # folds at most that the comparison tests
VALIDATED = 3  # folds at most that a trial is validated on, and parts of an official training side
EPOCHS = 0.5  # of the preset's, that a trial lasts
SPARE = 1.15  # of the time that the comparison should take
SECTIONS = (
    *("data", "audio", "clean", "split", "augment"),
    *("features", "model", "train", "evaluate"),
)


# --- on which folds


def divide(recordings: pd.DataFrame, config: Config) -> tuple[pd.DataFrame, list[int]]:
    """The recordings that settings are tried on, with their folds, and the folds left to test.

    The first folds are left, half of them at most: with split.test_folds a run tests these alone.
    Where the data brings an official validation side it is what is left, and the training side is
    dealt into folds. Raises SplitError where there are too few folds.
    """
    folds = sorted(recordings["fold"].unique())
    if LEARNED_ONLY in folds:
        inside = recordings[recordings["fold"].eq(LEARNED_ONLY)]
        unofficial = inside.assign(official_fold=pd.array([pd.NA] * len(inside), "Int64"))
        several = config.data.multilabel
        dealt, _ = partition.folds(unofficial, VALIDATED, config.seed, several)
        return inside.assign(fold=dealt), [fold for fold in folds if fold != LEARNED_ONLY]
    # One tested fold would leave no other one to learn thresholds on, or a stack's weights.
    least = 4 if config.data.multilabel or "stacking" in config.compare.models else 3
    if len(folds) < least:
        raise errors.SplitError(
            f"A search needs {least} folds here, one or more of which it never sees; there are "
            f"{len(folds)}. Set split.folds, or add recordings from other sources."
        )
    count = min(len(folds) // 2, TESTED, config.split.test_folds or TESTED)
    left = folds[:count]
    return recordings[~recordings["fold"].isin(left)], left


# --- a search


@dataclass(frozen=True)
class Search:
    """A search in the folder of a run that has finished 02.

    recordings: the used ones of the training side, with group and fold; inside those that settings
        are tried on, with their folds of the search; tested the folds of the comparison; tried of
        `variants.space`; key as of `key_of`.
    """

    folder: Path
    root: Path
    config: Config
    recordings: pd.DataFrame
    inside: pd.DataFrame
    tested: list[int]
    tried: dict[str, list]
    key: str

    @property
    def trial_turns(self) -> list[dict]:
        """The rounds of a trial: each fold of the search is validated once, VALIDATED at most."""
        return partition.rounds(self.inside["fold"], "last")[:VALIDATED]

    @property
    def test_turns(self) -> list[dict]:
        """The rounds of the comparison: each tested fold once, all others are learned from."""
        turns = partition.rounds(self.recordings["fold"], self.config.train.select)
        return [turn for turn in turns if turn["test"] in self.tested]

    def trial_config(self, settings: dict) -> Config:
        """What a trial trains: one network per fold, EPOCHS of the epochs, the last one kept."""
        own = dict(self.config.train)
        short = {"epochs": max(1, round(EPOCHS * own["epochs"])), "max_minutes": None}
        alone = {"seeds": 1, "distil": 0.0, "pseudo_labels": None}
        last = {"select": "last", "schedule": "cosine", "monitor": "loss"}
        brief = self.config.but("train", {**own, **short, **alone, **last})
        return variants.changed(brief, settings)

    def whole_config(self, settings: dict) -> Config:
        """What the comparison trains: all that the preset says, but for labels of test clips."""
        return variants.changed(self.config.but("train.pseudo_labels", None), settings)

    @property
    def has_sides(self) -> bool:
        """Whether the data brings an official validation side."""
        return LEARNED_ONLY in set(self.recordings["fold"])

    def changes(self, trial: dict) -> dict:
        """The settings of a trial that are not the preset's own."""
        own = {setting: variants.value_of(self.config, setting) for setting in self.tried}
        return {setting: trial[setting] for setting in own if trial[setting] != own[setting]}

    @property
    def longer(self) -> float:
        """How many times as long as a trial one side of the comparison takes, about."""
        own = self.config.train
        networks = own.seeds + bool(own.distil)
        epochs = own.epochs / self.trial_config({}).train.epochs
        learned = _learned(self.recordings, self.test_turns)
        return networks * epochs * learned / _learned(self.inside, self.trial_turns)

    def attempt(self, settings: dict, number: int) -> dict:
        """A trial: its settings, its score on the validated folds with interval, its seconds.

        Those of preparing its waveforms stand apart: few trials have to.
        """
        started = time.monotonic()
        config = self.trial_config(settings)
        self.prepare(config, self.inside)
        preparing = time.monotonic() - started
        predictions = self.answers(config, self.inside, self.trial_turns)
        metric = evaluate.headline(config)[0]
        entry = evaluate.scores_of(predictions, config)[metric]
        score = {"score": entry["value"], "low": entry["low"], "high": entry["high"]}
        whole = time.monotonic() - started
        seconds = {"preparing": round(preparing, 1), "seconds": round(whole, 1)}
        about = {"metric": metric, "search": self.key}
        return {"trial": number, **settings, **score, **seconds, **about}

    def answers(self, config: Config, recordings: pd.DataFrame, turns: list[dict]) -> pd.DataFrame:
        """Train and predict in some rounds: predictions per recording.

        What was stopped goes on where it was.
        """
        packed, rows = self.prepare(config, recordings)
        under_way = self.folder / "checkpoints"
        with tempfile.TemporaryDirectory() as scratch:
            table, _ = train.cross_validate(
                packed, rows, config, scratch, checkpoint_folder=under_way, plan=turns
            )
        shutil.rmtree(under_way, ignore_errors=True)
        return decisions.of_recordings(table, rows, config)

    def prepare(self, config: Config, recordings: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
        """The waveforms of recordings, and their rows, as 02 to 04 make them.

        They are kept until the search ends, since most trials differ in training alone.
        """
        sections = ("data", "audio", "clean", "augment", "train.noise_folder")
        ways = config.digest((*sections, "train.augmented_copies"))
        place = self.folder / "waveforms" / _digest(ways, recordings["fold"].to_csv())
        if not (place / "waveforms.csv").is_file():  # which is written last
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=place) as scratch:
                rows = self.pack(config, recordings, Path(scratch), place / "waveforms.npy")
            artifacts.write_table(place / "waveforms.csv", rows)
        return artifacts.read(place / "waveforms.npy"), artifacts.read(place / "waveforms.csv")

    def pack(self, config, recordings, scratch: Path, path: Path) -> pd.DataFrame:
        """Clean, cut and pack recordings. Args: scratch an empty folder; path of the array."""
        cut = rules.write_clips(recordings, self.root, config, scratch / "clips")
        clips = partition.deal(cut, recordings, recordings["fold"])
        copies = pd.DataFrame(columns=list(artifacts.SCHEMAS["augmented.csv"]), dtype=str)
        if config.train.augmented_copies:
            copies = augment.write_copies(clips, scratch, config, scratch / "augmented")
        return features.pack(clips, copies, scratch, path, config)

    def compare(self, choice: dict) -> pd.DataFrame:
        """The choice beside the preset, on the folds that the search never saw: a leaderboard."""
        scored = {}
        for name, settings in ((words.PRESET, {}), (words.CHOICE, choice)):
            config = self.whole_config(settings)
            path = self.folder / "compared" / config.digest(SECTIONS)[:16] / "predictions.csv"
            if not path.is_file():
                table = self.answers(config, self.recordings, self.test_turns)
                artifacts.write_table(path, decisions.with_paths(table, self.recordings))
            scored[name] = artifacts.read_table(path)
        return evaluate.leaderboard(scored, {}, self.config, against=words.PRESET)


def _digest(*parts):
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _learned(recordings, turns):
    """How many recordings are learned from in some rounds, all together."""
    counts = recordings["fold"].value_counts()
    return sum(counts.reindex(turn["train"]).sum() for turn in turns)


def key_of(run: Path, config: Config) -> str:
    """Equal keys mean that trials can be compared: settings, recordings, folds, code."""
    files = [artifacts.digest(run / name) for name in ("recordings.csv", "clips.csv")]
    made_of = [config.digest(SECTIONS), *files, code.module_digest("training.fit")]
    return _digest(*made_of, json.dumps([variants.TIMES, variants.VALUES]))


def begin(run: Path, config: Config, root) -> Search:
    """A search for the settings of a run.

    Args: run its folder, with the files of 01 and 02; config; root data folder. Raises ConfigError,
        SplitError.
    """
    if config.train.inputs == "images":
        raise errors.ConfigError("A search trains on waveforms: set train.inputs=waveforms.")
    train.require_strangers(run, config)
    clips = artifacts.read(run / "clips.csv")
    facts = clips.loc[clips["split"].eq("train"), ["recording_id", "group", "fold"]]
    table = artifacts.read(run / "recordings.csv").assign(status="used")
    recordings = table.merge(facts.drop_duplicates(), on="recording_id")
    inside, tested = divide(recordings, config)
    tried = variants.space(config, recordings)
    parts = (recordings, inside, tested, tried, key_of(run, config))
    return Search(run / "search", Path(root), config, *parts)


def read_trials(folder: Path, key: str) -> list[dict]:
    """The trials that a search has made, without those of another key."""
    path = folder / "trials.csv"
    if not path.is_file():
        return []
    table = artifacts.read_table(path)
    settings = [name for name in table if "." in name]
    table[settings] = table[settings].map(_typed)
    return table[table["search"].eq(key)].to_dict("records")


def _typed(cell):
    """A cell of a table as the number that it is, or its text."""
    try:
        return json.loads(cell)
    except ValueError:
        return cell


def run(search: Search, minutes: float, force: bool = False) -> Iterator[str]:
    """Try settings for so many minutes, the comparison's included; yield what is to be said.

    No trial is begun that would leave too little time, judged by the longest so far.
    Args: search of `begin`; minutes of this call; force begins again. Raises StageError where the
        time is too short for a second trial.
    """
    deadline = time.monotonic() + 60 * minutes
    trials = [] if force else read_trials(search.folder, search.key)
    if not trials:
        artifacts.remove(search.folder)
    yield words.introduction(search, trials)
    while settings := variants.propose(trials, search.tried, search.config):
        if trials and needed(search, trials) > deadline - time.monotonic():
            break
        trials.append(search.attempt(settings, len(trials)))
        artifacts.write_table(search.folder / "trials.csv", pd.DataFrame(trials))
        yield words.trial_in_words(trials, search, deadline - time.monotonic())
    if len(trials) < 2:
        more = math.ceil(needed(search, trials) / 60)
        raise errors.StageError(
            f"{minutes:g} minutes are too few for a second trial and the comparison. The first "
            f"trial is kept: call again with MINUTES={more} or more."
        )
    yield from conclude(search, trials)
    artifacts.remove(search.folder / "waveforms")


def needed(search: Search, trials: list[dict]) -> float:
    """Seconds that one more trial and the comparison after it take, at most."""
    table = pd.DataFrame(trials)
    training = table["seconds"] - table["preparing"]
    trained = search.longer * (training.iloc[0] + training.max())
    more = len(search.recordings) / len(search.inside)
    prepared = 2 * more * table["preparing"].max()
    return table["seconds"].max() + SPARE * (trained + prepared)


# --- what comes of it


def conclude(search: Search, trials: list[dict]) -> Iterator[str]:
    """Compare the best trial with the preset, and write search.yaml, search.json and search.png."""
    best = words.best_of(trials)
    said = [words.choice_in_words(best, trials, search)]
    yield said[0]
    choice = search.changes(best)
    artifacts.remove(search.folder / "comparison.csv")
    if choice:
        board = search.compare(choice)
        artifacts.write_table(search.folder / "comparison.csv", board)
        said.append(words.verdict(board, search))
        yield said[1]
    shares = variants.importance(trials, search.tried, search.config.seed)
    result = {"key": search.key, "says": [words.introduction(search), *said], "importance": shares}
    artifacts.write_json(search.folder / "search.json", result)
    artifacts.write_text(search.folder / "search.yaml", words.preset_of(search, choice, said))
    with artifacts.replacing(search.folder / "search.png") as path:
        picture = score_plots.tried_settings(pd.DataFrame(trials), shares)
        picture.savefig(path, dpi=150, format="png")


def read_result(run: Path, config: Config) -> tuple[dict, pd.DataFrame] | None:
    """What a run's search said, and its trials; None where there is none of these settings."""
    path = run / "search" / "search.json"
    if not path.is_file():
        return None
    result = artifacts.read_json(path)
    trials = read_trials(path.parent, result["key"])
    return (result, pd.DataFrame(trials)) if result["key"] == key_of(run, config) else None
