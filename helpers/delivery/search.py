"""A search for better settings on validation folds, and what its choice is worth on other folds.

``python -m helpers search --preset demo --minutes 60`` (or ``make search``). The folds are divided
once. Within some of them settings are tried: short trainings, each validated on folds of their own
that it has not learned from. What scores best there is then trained as usual, and so is the preset;
both are tested on the other folds, of which no trial has seen a clip. Optuna proposes the settings
where it is installed; without it they come in a random order, the same each time.
"""

import hashlib
import itertools
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from helpers.audio import augment, features
from helpers.base import artifacts, code, errors
from helpers.base.settings import Config
from helpers.base.targets import counted
from helpers.data.sources import LEARNED_ONLY
from helpers.metrics import decisions, evaluate
from helpers.splits import partition, rules
from helpers.training import train
from helpers.view import score_plots

# What is tried beside the preset's own value: so many times as much, or these values.
TIMES = {
    "audio.sample_rate": (0.5, 2),
    "audio.clip_seconds": (0.5, 2),
    "features.n_mels": (0.5, 2),
    "train.learning_rate": (0.5, 2),
}
VALUES = {
    "model.name": ("cnn", "resnet"),
    "train.mix": ("none", "mixup", "between_class"),
    "train.speed": (0.0, 0.2),
    "train.masks": (0, 2),
}
FILLED = 1.5  # clips are no longer than this, of what nine of ten recordings last
TESTED = 3  # folds at most that the comparison tests
VALIDATED = 3  # folds at most that a trial is validated on, and parts of an official training side
EPOCHS = 0.5  # of the preset's, that a trial lasts
SPARE = 1.15  # of the time that the comparison should take
PRESET = "the preset"
CHOICE = "the choice"
SECTIONS = (
    *("data", "audio", "clean", "split", "augment"),
    *("features", "model", "train", "evaluate"),
)


# --- what is tried


def space(config: Config, recordings: pd.DataFrame) -> dict[str, list]:
    """The settings that are tried, and the values of each, in their order.

    No rate above that of most recordings, and no longer clips where nearly all recordings fit in
    one.
    Where the rows of a submission or the times of labels decide, clips stay as long as they are.
    Args: config; recordings with sample_rate and duration_seconds.
    """
    most = {
        "audio.sample_rate": recordings["sample_rate"].median(),
        "audio.clip_seconds": FILLED * recordings["duration_seconds"].quantile(0.9),
    }
    tried = {}
    for setting, times in TIMES.items():
        own = value_of(config, setting)
        others = [type(own)(float(f"{own * factor:.6g}")) for factor in times]
        tried[setting] = [value for value in others if value <= most.get(setting, np.inf)]
    tried |= VALUES
    if config.audio.test_windows or config.data.start_column:
        del tried["audio.clip_seconds"]
    if config.model.weights:
        del tried["model.name"]
    for setting, values in tried.items():
        others = [value for value in values if allows(config, {setting: value})]
        tried[setting] = sorted({value_of(config, setting), *others})
    return {setting: values for setting, values in tried.items() if len(values) > 1}


def value_of(config: Config, setting: str):
    """The value of a setting such as "train.mix"."""
    section, key = setting.split(".")
    return getattr(getattr(config, section), key)


def changed(config: Config, settings: dict) -> Config:
    """The config with some settings changed; a network has its own width, and at another rate a
    spectrogram's windows last as long as before. Raises ValueError where others forbid it.

    >>> half = changed(Config(), {"audio.sample_rate": 8000})
    >>> half.features.n_fft, half.features.hop_length
    (512, 160)
    """
    for setting, value in settings.items():
        if setting == "model.name":
            config = config.with_network(value)
        elif setting == "audio.sample_rate":
            config = _at_rate(config, value)
        else:
            config = config.but(setting, value)
    return config


def _at_rate(config, sample_rate):
    times = sample_rate / config.audio.sample_rate
    own = config.features
    sizes = {
        "n_fft": round(times * own.n_fft),
        "more_n_fft": tuple(round(times * size) for size in own.more_n_fft),
        "hop_length": round(times * own.hop_length),
    }
    audio = {**dict(config.audio), "sample_rate": sample_rate}
    parts = {"audio": audio, "features": {**dict(own), **sizes}}
    return Config.model_validate({**dict(config), **parts})


def allows(config: Config, settings: dict) -> bool:
    """Whether settings go together, and each mel band catches a frequency."""
    try:
        features.front_end(changed(config, settings))
    except ValueError:
        return False
    return True


def propose(trials: list[dict], tried: dict[str, list], config: Config) -> dict | None:
    """The settings of the next trial: first the preset's own, never the same twice.

    It follows from the trials before it and the seed alone, so that a search that was stopped goes
    on as if it had not been. None where there is nothing left to try.
    Args: trials dicts of settings, with their score; tried of `space`; config.
    """
    past = [{setting: trial[setting] for setting in tried} for trial in trials]
    first = {setting: value_of(config, setting) for setting in tried}
    wanted = [first] if not trials else _by_optuna(trials, tried, config.seed)
    left = itertools.chain(wanted, _in_random_order(tried, config.seed))
    return next((one for one in left if one not in past and allows(config, one)), None)


def _in_random_order(tried, seed):
    combinations = list(itertools.product(*tried.values()))
    for number in np.random.default_rng(seed).permutation(len(combinations)):
        yield dict(zip(tried, combinations[number], strict=True))


def _by_optuna(trials, tried, seed):
    """What Optuna's sampler (TPE) proposes, a list of one; none where it is not installed."""
    if not (library := optuna()):
        return []
    sampler = library.samplers.TPESampler(seed=1000 * seed + len(trials))
    study = _study(library, trials, tried, sampler=sampler)
    return [study.ask(_distributions(library, tried)).params]


def optuna():
    """The library, silent; None where it is not installed."""
    try:
        import optuna as library
    except ImportError:
        return None
    library.logging.set_verbosity(library.logging.WARNING)
    return library


def _distributions(library, tried):
    kind = library.distributions.CategoricalDistribution
    return {setting: kind(values) for setting, values in tried.items()}


def _study(library, trials, tried, **options):
    study = library.create_study(direction="maximize", **options)
    kinds = _distributions(library, tried)
    for trial in trials:
        params = {setting: trial[setting] for setting in tried}
        study.add_trial(
            library.trial.create_trial(params=params, distributions=kinds, value=trial["score"])
        )
    return study


def importance(trials: list[dict], tried: dict[str, list], seed: int) -> dict[str, float]:
    """How much of the scores' spread each setting explains, the most first.

    By Optuna's fANOVA (Hutter et al. 2014), whose shares sum to 1; without Optuna the share of the
    variance that lies between the means of a setting's values.
    """
    if len(trials) < 2:
        return {}
    if library := optuna():
        judge = library.importance.FanovaImportanceEvaluator(seed=seed)
        study = _study(library, trials, tried)
        shares = library.importance.get_param_importances(study, evaluator=judge)
    else:
        table = pd.DataFrame(trials)
        means = {name: table.groupby(name)["score"].transform("mean") for name in tried}
        whole = table["score"].var() or 1.0
        shares = {name: column.var() / whole for name, column in means.items()}
    shares = {name: round(float(share), 3) for name, share in shares.items()}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


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
        `space`; key as of `key_of`.
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
        short = {"epochs": max(1, round(EPOCHS * own["epochs"])), "seeds": 1, "distil": 0.0}
        plain = {"select": "last", "schedule": "cosine", "monitor": "loss"}
        free = {"max_minutes": None, "pseudo_labels": None}
        return changed(self.config.but("train", {**own, **short, **plain, **free}), settings)

    def whole_config(self, settings: dict) -> Config:
        """What the comparison trains: all that the preset says, but for labels of test clips."""
        return changed(self.config.but("train.pseudo_labels", None), settings)

    @property
    def longer(self) -> float:
        """How many times as long as a trial one side of the comparison takes, about."""
        own = self.config.train
        networks = own.seeds + train.taught_again(own)
        epochs = own.epochs / self.trial_config({}).train.epochs
        learned = _learned(self.recordings, self.test_turns)
        return networks * epochs * learned / _learned(self.inside, self.trial_turns)

    def attempt(self, settings: dict, number: int) -> dict:
        """A trial: its settings, its score on the validated folds with interval, its seconds."""
        started = time.monotonic()
        config = self.trial_config(settings)
        predictions = self.answers(config, self.inside, self.trial_turns)
        metric = evaluate.headline(config)[0]
        entry = evaluate.scores_of(predictions, config)[metric]
        score = {"score": entry["value"], "low": entry["low"], "high": entry["high"]}
        seconds = {"seconds": round(time.monotonic() - started, 1)}
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
            with tempfile.TemporaryDirectory() as scratch:
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
        for name, settings in ((PRESET, {}), (CHOICE, choice)):
            config = self.whole_config(settings)
            path = self.folder / "compared" / config.digest(SECTIONS)[:16] / "predictions.csv"
            if not path.is_file():
                table = self.answers(config, self.recordings, self.test_turns)
                artifacts.write_table(path, decisions.with_paths(table, self.recordings))
            scored[name] = artifacts.read_table(path)
        return evaluate.leaderboard(scored, {}, self.config, against=PRESET)


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
    return _digest(*made_of, json.dumps([TIMES, VALUES, EPOCHS, TESTED, VALIDATED]))


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
    folds = (recordings, inside, tested)
    key = key_of(run, config)
    return Search(run / "search", Path(root), config, *folds, space(config, recordings), key)


def read_trials(folder: Path, key: str) -> list[dict]:
    """The trials that a search has made, without those of another key."""
    path = folder / "trials.csv"
    table = artifacts.read_table(path) if path.is_file() else pd.DataFrame({"search": []})
    return table[table["search"].eq(key)].map(_typed).to_dict("records")


def _typed(cell):
    """A cell of a table as the number that it is, or text."""
    try:
        return json.loads(cell) if isinstance(cell, str) else cell
    except ValueError:
        return cell


def run(search: Search, minutes: float, force: bool = False) -> Iterator[str]:
    """Try settings for so many minutes, the comparison's included; yield what is to be said.

    No trial is begun that would leave too little time, judged by the longest so far.
    Args: search of `begin`; minutes of this call; force begins again. Raises StageError where the
        time is too short for a second trial.
    """
    ends = time.monotonic() + 60 * minutes
    trials = [] if force else read_trials(search.folder, search.key)
    if not trials:
        artifacts.remove(search.folder)
    yield introduction(search, trials)
    while settings := propose(trials, search.tried, search.config):
        if trials and needed(search, trials) > ends - time.monotonic():
            break
        trials.append(search.attempt(settings, len(trials)))
        artifacts.write_table(search.folder / "trials.csv", pd.DataFrame(trials))
        yield trial_in_words(trials, search, ends - time.monotonic())
    if len(trials) < 2:
        more = needed(search, trials) / 60
        raise errors.StageError(
            f"{minutes:g} minutes are too few: a second trial and the comparison take about "
            f"{more:.1f} more. The first trial is kept; call again with more MINUTES."
        )
    yield from conclude(search, trials)
    artifacts.remove(search.folder / "waveforms")


def needed(search: Search, trials: list[dict]) -> float:
    """Seconds that one more trial and the comparison after it take, at most."""
    longest = max(trial["seconds"] for trial in trials)
    return longest + SPARE * search.longer * (trials[0]["seconds"] + longest)


# --- what comes of it


def conclude(search: Search, trials: list[dict]) -> Iterator[str]:
    """Compare the best trial with the preset, and write search.yaml, search.json and search.png."""
    best = max(trials, key=lambda trial: trial["score"])
    said = [choice_in_words(best, trials, search)]
    yield said[0]
    choice = changes(best, trials[0], search.tried)
    artifacts.remove(search.folder / "comparison.csv")
    if choice:
        board = search.compare(choice)
        artifacts.write_table(search.folder / "comparison.csv", board)
        said.append(verdict(board, search))
        yield said[1]
    shares = importance(trials, search.tried, search.config.seed)
    result = {"key": search.key, "says": [introduction(search), *said], "importance": shares}
    artifacts.write_json(search.folder / "search.json", result)
    artifacts.write_text(search.folder / "search.yaml", preset_of(search, choice, said))
    with artifacts.replacing(search.folder / "search.png") as path:
        picture = score_plots.tried_settings(pd.DataFrame(trials), shares)
        picture.savefig(path, dpi=150, format="png")


def read_result(run: Path, config: Config) -> tuple[dict, pd.DataFrame] | None:
    """What a run's search said, and its trials; None where there is none of these settings."""
    path = run / "search" / "search.json"
    result = artifacts.read_json(path) if path.is_file() else {"key": None}
    if result["key"] != key_of(run, config):
        return None
    return result, pd.DataFrame(read_trials(run / "search", result["key"]))


def changes(trial: dict, first: dict, tried: dict) -> dict:
    """The settings of a trial that are not those of the first one, the preset's own."""
    return {setting: trial[setting] for setting in tried if trial[setting] != first[setting]}


def preset_of(search: Search, choice: dict, said: list[str]) -> str:
    """The choice as a preset, whose run tests the folds alone that chose nothing."""
    config = changed(search.config, choice)
    says = list(said)
    if choice and LEARNED_ONLY not in set(search.recordings["fold"]):
        config = config.but("split.test_folds", len(search.tested))
        says.append("split.test_folds leaves a run the folds that no trial saw; keep the seed.")
    tree = config.model_dump(mode="json", exclude_defaults=True, exclude={"preset", "recognised"})
    lines = [f"# {line}" for line in says]
    return "\n".join([*lines, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)])


# --- in words


def introduction(search: Search, trials: list[dict] = ()) -> str:
    """What is tried and how, in a few sentences."""
    order = "proposed by Optuna" if optuna() else "in a random order, since Optuna is not installed"
    folds = counted(len(search.trial_turns), "validation fold", "validation folds")
    epochs = search.trial_config({}).train.epochs
    before = f" {counted(len(trials), 'trial is', 'trials are')} done." if trials else ""
    return (
        f"Tried are {', '.join(search.tried)}, {order}. Each trial trains {epochs} of "
        f"{search.config.train.epochs} epochs and is scored on {folds}; "
        f"{_tested(search)} takes no part in any.{before}"
    )


def _tested(search):
    """What the comparison tests, in words."""
    if LEARNED_ONLY in set(search.recordings["fold"]):
        return "the official validation side"
    return " and ".join(f"fold {number}" for number in search.tested)


def trial_in_words(trials: list[dict], search: Search, left: float) -> str:
    """The last trial in a line. Args: left seconds."""
    trial = trials[-1]
    best = max(trials, key=lambda one: one["score"])
    made = in_words(changes(trial, trials[0], search.tried)) or "the preset's own settings"
    score = f"{evaluate.in_words(trial['metric'])} {_percent(trial)}"
    minutes = f"{max(0, left) / 60:.1f} min left"
    return (
        f"trial {trial['trial']}: {score} · {trial['seconds']:.0f} s · {made} · "
        f"best: trial {best['trial']} · {minutes}"
    )


def in_words(settings: dict) -> str:
    """Settings in a line.

    >>> in_words({"train.mix": "none", "train.masks": 0})
    'train.mix=none train.masks=0'
    """
    return " ".join(f"{setting}={value}" for setting, value in settings.items())


def _percent(trial):
    return evaluate.percent({"value": trial["score"], "low": trial["low"], "high": trial["high"]})


def choice_in_words(best: dict, trials: list[dict], search: Search) -> str:
    """Which trial scored highest, and what its score is not."""
    own = _percent(trials[0])
    metric = evaluate.in_words(best["metric"])
    choice = changes(best, trials[0], search.tried)
    if not choice:
        return (
            f"None of {len(trials)} trials scored higher than the preset's own settings, "
            f"{metric} {own}: keep the preset."
        )
    return (
        f"Of {len(trials)} trials number {best['trial']} scored highest: {metric} "
        f"{_percent(best)} with {in_words(choice)}; the preset's own settings reach {own}. "
        "The highest of many scores is too high by luck: only the comparison counts."
    )


def verdict(board: pd.DataFrame, search: Search) -> str:
    """Whether the choice is better than the preset, on what the search never saw.

    Args: board of `Search.compare`.
    """
    row = board.set_index("model").loc[CHOICE]
    value, low, high = row[score_plots.ends(evaluate.DIFFERENCE)]
    metric = evaluate.headline(search.config)[0]
    ending = "no clear gain: keep the preset"
    if low > 0:
        ending = "the choice is better: use search.yaml"
    elif high < 0:
        ending = "the choice is worse: keep the preset"
    tested = search.recordings[search.recordings["fold"].isin(search.tested)]
    recordings = counted(len(tested), "recording", "recordings")
    return (
        f"Both trained as usual and tested on {_tested(search)} ({recordings}): "
        f"{evaluate.in_words(metric)} of the choice is {100 * row[metric]:.1f} %, minus the "
        f"preset's {evaluate.points(value, low, high)} points: {ending}."
    )
