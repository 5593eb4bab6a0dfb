"""A search for settings: what is tried, on which folds, within the minutes given, resumed; what it
chose, compared on folds that it never saw.
"""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from signals import write_wav
from tables import noise, prediction_rows, small_config, tone

from helpers.base import artifacts, errors, work
from helpers.base.settings import Config
from helpers.data.sources import LEARNED_ONLY
from helpers.metrics import evaluate
from helpers.rounds import train
from helpers.run import cli, presets, report
from helpers.tuning import search, variants, words
from helpers.view import score_plots

RATE = 8000
FOLDS = 5
TINY = {"train": {"epochs": 2, "select": "last"}, "split": {"folds": FOLDS}}


@pytest.fixture
def few(monkeypatch):
    """Only mixing and the rate are tried."""
    monkeypatch.setattr(variants, "TIMES", {"audio.sample_rate": (0.5,)})
    monkeypatch.setattr(variants, "VALUES", {"train.mix": ("none", "mixup")})


@pytest.fixture
def no_optuna(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """A folder of noisy tones, two classes of ten recordings."""
    root = tmp_path_factory.mktemp("sounds")
    for label, pitch_hz in (("low", 400), ("high", 2000)):
        for number in range(10):
            sound = tone(pitch_hz * (1 + 0.02 * number)) + noise(4000, number, 0.05)
            write_wav(root / label / f"{label}{number}.wav", sound, RATE)
    return root


@pytest.fixture
def small(sounds, tmp_path):
    """Settings and the folder of a run that has its recordings and clips."""
    config = small_config(data={"root": str(sounds)}, **TINY)
    return config, keep_run(tmp_path / "small", config, range(1, FOLDS + 1))


def keep_run(folder, config, folds):
    """What 01 and 02 leave of the folder of sounds, as far as a search sees it."""
    paths = [f"{label}/{label}{number}.wav" for label in ("low", "high") for number in range(10)]
    names = [path.partition("/")[2][:-4] for path in paths]
    labels = [path.partition("/")[0] for path in paths]
    table = pd.DataFrame({"recording_id": names, "path": paths, "label": labels, "status": "ok"})
    table = table.assign(split="train", sample_rate=RATE, duration_seconds=0.5)
    empty = [name for name in artifacts.SCHEMAS["recordings.csv"] if name not in table]
    artifacts.write_table(folder / "recordings.csv", table.assign(**dict.fromkeys(empty, "")))
    fold = np.resize(list(folds), len(names))
    facts = {"clip_id": names, "group": names, "fold": fold, "start_seconds": 0.0}
    clips = table[["recording_id", "label", "split"]].assign(path="", valid_seconds=0.5, **facts)
    artifacts.write_table(folder / "clips.csv", clips)
    return folder


TIMED = ["preparing", "seconds"]


class Pretended:
    """Trainings that take no time but that of a clock, and score as their settings say."""

    def __init__(self, monkeypatch, seconds=lambda config: 10.0):
        self.now = 0.0
        self.trained = []
        self.prepared = set()
        self.seconds = seconds
        monkeypatch.setattr(search, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(search.Search, "answers", self.answers)
        monkeypatch.setattr(search.Search, "prepare", self.prepare)

    def prepare(self, config, recordings):
        made = (config.audio, len(recordings))
        self.now += 0.1 * len(recordings) * (str(made) not in self.prepared)
        self.prepared.add(str(made))

    def answers(self, config, recordings, turns):
        self.prepare(config, recordings)
        self.trained.append(config)
        learned = [recordings["fold"].isin(turn["train"]).sum() for turn in turns]
        self.now += self.seconds(config) * config.train.epochs * sum(learned) / 36
        tested = [turn["test"] for turn in turns]
        rows = recordings[recordings["fold"].isin(tested)]
        right = 0.4 + 0.3 * (config.train.mix == "none") + 0.2 * (config.train.speed > 0)
        hit = np.arange(len(rows)) < right * len(rows)
        other = {"low": "high", "high": "low"}
        said = [label if ok else other[label] for label, ok in zip(rows["label"], hit, strict=True)]
        table = prediction_rows(rows["label"], said, rows["group"], ("high", "low"))
        return table.assign(recording_id=list(rows["recording_id"]), fold=list(rows["fold"]))


def made(run, config, minutes=5.0, **options):
    """What a search says, and its trials."""
    begun = search.begin(run, config, config.data.root)
    said = list(search.run(begun, minutes, **options))
    return said, search.read_trials(begun.folder, begun.key)


# --- what is tried -----------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["demo", "esc10"])
def test_each_value_has_the_type_of_its_setting_and_is_allowed(preset):
    config = presets.load(preset)
    heard = pd.DataFrame({"sample_rate": [44100], "duration_seconds": [60.0]})
    tried = variants.space(config, heard)
    assert set(tried) == {*variants.TIMES, *variants.VALUES}
    for setting, values in tried.items():
        own = variants.value_of(config, setting)
        assert own in values and len(set(values)) == len(values) > 1
        assert {type(value) for value in values} == {type(own)}
        assert all(variants.allows(config, {setting: value}) for value in values)


def test_no_rate_above_the_recordings_and_no_clip_far_longer_than_they_are():
    heard = pd.DataFrame({"sample_rate": [16000] * 3, "duration_seconds": [4.0] * 3})
    tried = variants.space(Config(), heard)
    assert tried["audio.sample_rate"] == [8000, 16000]
    assert tried["audio.clip_seconds"] == [2.0, 4.0]


def test_rows_of_a_submission_and_loaded_weights_stay():
    heard = pd.DataFrame({"sample_rate": [44100], "duration_seconds": [60.0]})
    config = Config().but("audio.test_windows", True).but("model.weights", "run:other")
    assert not {"audio.clip_seconds", "model.name"} & set(variants.space(config, heard))


def test_at_another_rate_spectrograms_have_as_many_frames_of_as_many_seconds():
    config = Config().but("features.more_n_fft", (4096,))
    half = variants.vary(config, "audio.sample_rate", 8000)
    for one, other in ((config, half), (config, variants.vary(half, "audio.sample_rate", 16000))):
        seconds = [size / one.audio.sample_rate for size in one.features.windows]
        assert [size / other.audio.sample_rate for size in other.features.windows] == seconds
    assert half.features.hop_length == config.features.hop_length / 2


@pytest.mark.parametrize("library", [True, False])
def test_every_combination_comes_once_the_presets_own_first(library, few, request):
    if not library:
        request.getfixturevalue("no_optuna")
    config = small_config()
    tried = variants.space(config, pd.DataFrame({"sample_rate": [RATE], "duration_seconds": [1]}))
    trials = []
    while settings := variants.propose(trials, tried, config):
        again = variants.propose(trials, tried, config)
        assert settings == again
        trials.append({**settings, "score": len(trials) / 10})
    combinations = {tuple(trial[setting] for setting in tried) for trial in trials}
    assert len(combinations) == len(trials) == 4  # two rates, two kinds of mixing
    assert trials[0]["train.mix"] == config.train.mix


@pytest.mark.parametrize("library", [True, False])
def test_what_decides_the_score_matters_most(library, request):
    if not library:
        request.getfixturevalue("no_optuna")
    tried = {"train.mix": ["mixup", "none"], "train.masks": [0, 2]}
    trials = [
        {"train.mix": mix, "train.masks": masks, "score": 0.5 + 0.3 * (mix == "none")}
        for mix in tried["train.mix"]
        for masks in tried["train.masks"]
    ]
    shares = variants.importance(trials, tried, seed=0)
    assert list(shares) == ["train.mix", "train.masks"] and shares["train.mix"] > 0.9
    alike = [{**trial, "score": 0.5} for trial in trials]
    assert set(variants.importance(alike, tried, seed=0).values()) == {0}


# --- on which folds ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folds", "test_folds", "tested"),
    [
        ((1, 2, 3), None, {1}),
        ((1, 2, 3, 4, 5), None, {1, 2}),
        (range(1, 11), None, {1, 2, 3}),
        ((1, 2, 3, 4, 5), 1, {1}),
        ((LEARNED_ONLY, LEARNED_ONLY, 1), None, {1}),
    ],
)
def test_no_trial_sees_a_recording_that_the_comparison_tests(
    folds, test_folds, tested, few, sounds, tmp_path, monkeypatch
):
    config = small_config(data={"root": str(sounds)}, train=TINY["train"])
    config = config.but("split.test_folds", test_folds)
    run = keep_run(tmp_path / "run", config, folds)
    clips = artifacts.read_table(run / "clips.csv")
    kept_back = set(clips.loc[clips["fold"].isin(tested), "recording_id"])
    calls = []

    def spy(packed, rows, config, *args, plan, **options):
        assert len(packed) == len(rows)
        calls.append((config.train.epochs, rows, plan))
        answers = rows[rows["fold"].isin([turn["test"] for turn in plan])][["clip_id", "fold"]]
        hit = rows.loc[answers.index, "label"].eq("low") == (config.train.mix == "none")
        return answers.assign(low=hit.astype(float), high=1.0 - hit), []

    monkeypatch.setattr(train, "cross_validate", spy)
    made(run, config)
    trials = [(rows, plan) for epochs, rows, plan in calls if epochs < config.train.epochs]
    compared = [(rows, plan) for epochs, rows, plan in calls if epochs == config.train.epochs]
    assert len(trials) == 4 and len(compared) == 2
    for rows, plan in trials:
        assert kept_back and not kept_back & set(rows["recording_id"])
        assert all(turn["test"] not in turn["train"] for turn in plan)
    for rows, plan in compared:
        assert {turn["test"] for turn in plan} == tested
        assert all(turn["test"] not in turn["train"] for turn in plan)
        assert set(rows["recording_id"]) == set(clips["recording_id"])


def test_too_few_folds_are_refused(sounds, tmp_path):
    config = small_config(data={"root": str(sounds)}, **TINY)
    run = keep_run(tmp_path / "two", config, (1, 2))
    with pytest.raises(errors.SplitError, match="needs 3 folds"):
        search.begin(run, config, sounds)
    run = keep_run(tmp_path / "three", config, (1, 2, 3))
    with pytest.raises(errors.SplitError, match="needs 4 folds"):
        search.begin(run, config.but("data.multilabel", True), sounds)


def test_images_are_refused(small):
    config, run = small
    with pytest.raises(errors.ConfigError, match=r"train\.inputs=waveforms"):
        search.begin(run, config.but("train.inputs", "images"), config.data.root)


# --- minutes, and going on ---------------------------------------------------------------------


@pytest.mark.parametrize("minutes", [3, 10])
def test_the_minutes_are_kept_the_comparison_included(minutes, small, monkeypatch):
    """The longest trial takes three times as long as the shortest."""
    config, run = small
    clock = Pretended(monkeypatch, lambda config: 8 if config.model.name == "cnn" else 24)
    _, trials = made(run, config, minutes)
    assert len(trials) >= 2 and clock.now <= 60 * minutes
    assert len(clock.trained) == len(trials) + 2  # and the comparison
    assert sum(trial["preparing"] > 0 for trial in trials) < len(trials)  # what is there is taken
    longest = max(trial["seconds"] for trial in trials)
    assert clock.now + 6 * longest > 60 * minutes or minutes == 3


def test_too_few_minutes_are_said_and_the_first_trial_is_kept(small, monkeypatch):
    config, run = small
    clock = Pretended(monkeypatch)
    with pytest.raises(errors.StageError, match=r"too few .* MINUTES=\d+ or more") as told:
        made(run, config, 0.2)
    said, trials = made(run, config, float(str(told.value).split("=")[1].split()[0]))
    assert "1 trial is done already" in said[0]
    assert sum(one.train.epochs == 1 for one in clock.trained) == len(trials)


@pytest.mark.parametrize("library", [True, False])
def test_a_search_that_goes_on_does_what_one_in_a_go_does(library, small, monkeypatch, request):
    if not library:
        request.getfixturevalue("no_optuna")
    config, run = small
    Pretended(monkeypatch)
    _, whole = made(run, config, 6)
    _, first = made(run, config, 3, force=True)
    begun = search.begin(run, config, config.data.root)
    goes_on = search.run(begun, 60)
    while len(search.read_trials(begun.folder, begun.key)) < len(whole):
        next(goes_on)
    parts = search.read_trials(begun.folder, begun.key)
    parts, whole = (pd.DataFrame(trials).drop(columns=TIMED) for trials in (parts, whole))
    assert len(first) < len(whole)
    pd.testing.assert_frame_equal(parts, whole)


def test_other_settings_recordings_or_force_begin_again(small, few, monkeypatch):
    config, run = small
    clock = Pretended(monkeypatch)
    made(run, config)
    for changed in (config.but("seed", 1), config.but("train.epochs", 4)):
        assert search.read_trials(run / "search", search.key_of(run, changed)) == []
    count = len(clock.trained)
    made(run, config)
    assert len(clock.trained) == count  # all is done, the comparison too
    made(run, config, force=True)
    assert len(clock.trained) == 2 * count
    clips = artifacts.read_table(run / "clips.csv")
    artifacts.write_table(run / "clips.csv", clips.assign(fold=clips["fold"] % FOLDS + 1))
    assert search.read_trials(run / "search", search.key_of(run, config)) == []


# --- what comes of it --------------------------------------------------------------------------


def test_the_choice_is_a_preset_whose_run_tests_only_what_chose_nothing(small, monkeypatch):
    config, run = small
    Pretended(monkeypatch)
    _, trials = made(run, config)
    best = max(trials, key=lambda trial: trial["score"])
    loaded = presets.load(str(run / "search" / "search.yaml"))
    for setting in (*variants.TIMES, *variants.VALUES):
        if setting in best:
            assert variants.value_of(loaded, setting) == best[setting]
    assert loaded.train.mix == "none" and loaded.split.test_folds == 2
    assert loaded.train.epochs == config.train.epochs
    assert loaded.data.root == config.data.root


def test_where_nothing_beats_the_preset_nothing_is_compared(small, few, monkeypatch):
    config, run = small
    config = config.but("train.mix", "none")
    clock = Pretended(monkeypatch)
    said, trials = made(run, config)
    assert "keep the preset" in said[-1] and len(clock.trained) == len(trials)
    assert not (run / "search" / "comparison.csv").exists()
    loaded = presets.load(str(run / "search" / "search.yaml"))
    assert loaded.train == config.train and loaded.split == config.split


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [(0.01, 0.1, "is better"), (-0.1, -0.01, "is worse, keep"), (-0.1, 0.1, "no clear gain, keep")],
)
def test_only_a_clear_gain_is_called_one(low, high, says, small):
    config, run = small
    begun = search.begin(run, config, config.data.root)
    board = pd.DataFrame({"model": [words.PRESET, words.CHOICE], "accuracy": [0.8, 0.85]})
    board[evaluate.DIFFERENCE] = [0.0, 0.05]
    board[f"{evaluate.DIFFERENCE}_low"] = [0.0, low]
    board[f"{evaluate.DIFFERENCE}_high"] = [0.0, high]
    said = words.verdict(board, begun)
    assert says in said and "8 recordings of fold 1 and fold 2" in said
    assert "85.0 % with the choice, 80.0 % with the preset" in said


def test_the_report_shows_a_search_of_these_settings_alone(small, monkeypatch):
    config, run = small
    Pretended(monkeypatch)
    made(run, config)
    shown = report._search(run, config)
    assert (
        len(shown["figures"]) == 2
        and "Left out of all trials: fold 1 and fold 2" in shown["says"][0]
    )
    pages = "".join(shown["figures"])
    assert all(setting in pages for setting in variants.VALUES)
    assert report._search(run, config.but("seed", 1)) is None
    assert report._search(run.parent, config) is None


def test_a_picture_has_a_panel_for_each_setting_and_no_small_print():
    trials = pd.DataFrame({"train.mix": ["none", "mixup"] * 3, "train.speed": [0.0, 0.2, 0.2] * 2})
    trials = trials.assign(score=np.linspace(0.5, 0.8, 6), metric="accuracy")
    figure = score_plots.tried_settings(trials, {"train.speed": 0.7, "train.mix": 0.3})
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        "train.speed · 70 % of the spread",
        "train.mix · 30 % of the spread",
    ]
    pixels = 390 / figure.get_size_inches()[0] / 72  # of a point, on a phone
    texts = [text for text in figure.findobj(score_plots.matplotlib.text.Text) if text.get_text()]
    assert min(text.get_fontsize() for text in texts) * pixels >= 11


# --- the command -------------------------------------------------------------------------------


def test_the_command_makes_what_it_needs_and_goes_on(sounds, home, few, monkeypatch, capsys):
    tiny = "audio.sample_rate=8000 audio.clip_seconds=0.5 features.n_fft=256 features.n_mels=16 "
    tiny += "features.hop_length=128 model.name=cnn model.channels=[4,8] train.epochs=2 "
    tiny += "train.views=1 train.batch_size=8 evaluate.bootstrap_samples=50 "
    tiny += "split.folds=4 split.near_duplicates=false"
    words = ["search", "--data", str(sounds), "--run", "tiny", "--set", tiny, "--minutes", "5"]
    with work.cpu_threads(1):
        assert cli.main(words) == 0
    folder = home / "outputs" / "tiny" / "search"
    said = capsys.readouterr().out
    assert "proposed by Optuna" in said and "trial 0: accuracy" in said
    assert {path.name for path in folder.iterdir()} >= {"trials.csv", "search.yaml", "search.png"}
    before = artifacts.read_table(folder / "trials.csv")
    assert len(before) == 6  # two rates, three kinds of mixing
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert cli.main(["search", "--run", "tiny", "--minutes", "5"]) == 0  # its own preset and data
    said = capsys.readouterr().out
    assert "nothing changed" in said and "in a random order" in said and "6 trials" in said
    pd.testing.assert_frame_equal(artifacts.read_table(folder / "trials.csv"), before)
