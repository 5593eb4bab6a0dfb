"""Birds as competitors train them: labels that are not sure, the clip where the call is, noise
mixed in, windows that overlap; and the demo in BirdCLEF's layout, through the whole chain.
"""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from competitions import birdclef_2025
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import small_config

from benchmarks import birds as bench
from helpers.audio import features, windowing
from helpers.base import artifacts, errors, targets
from helpers.base.settings import Audio, Data, Train
from helpers.data import folders, sources
from helpers.demo import birds
from helpers.metrics import scoring
from helpers.rounds import learner
from helpers.run import pipeline, presets
from helpers.splits import rules
from helpers.submission import priors, submit
from helpers.training import batches, perturb

law = settings(deadline=None, max_examples=25, derandomize=True)
RATE = 8000  # Hz
BIRDS = {
    "labels_csv": "train.csv",
    "label_column": "bird",
    "multilabel": True,
    "secondary_column": "also",
    "weight_column": "rating",
    "empty_label": "nocall",
}


# --- labels that are not sure ------------------------------------------------------------------


@pytest.fixture
def told(tmp_path):
    """A folder of recordings and a table with secondary labels, a rating and nocall; its facts."""
    rows = ["file,bird,also,rating", "a.wav,owl,\"['jay', 'lynx', 'owl']\",5", "b.wav,jay,[''],2.5"]
    rows += ["c.wav,owl,[],0", "d.wav,nocall,[],"]
    (tmp_path / "train.csv").write_text("\n".join(rows), encoding="utf-8")
    for number, name in enumerate("abcd"):
        sound = np.random.default_rng(number).uniform(-0.5, 0.5, RATE)
        soundfile.write(tmp_path / f"{name}.wav", sound, RATE)
    table = sources.find(tmp_path, Data(**BIRDS)).query("status == 'ok'")
    return table.set_index(table["path"].str[0])


def test_secondary_labels_are_labels_of_which_it_is_known_that_they_are(told):
    assert told["label"].to_dict() == {"a": "jay|owl", "b": "jay", "c": "owl", "d": ""}
    assert told["secondary"].to_dict() == {"a": "jay", "b": "", "c": "", "d": ""}


def test_nocall_is_heard_as_none_of_the_classes(told):
    assert targets.classes(told, multilabel=True) == ["jay", "owl"]
    assert told.loc["d", "status"] == "ok"


def test_a_rating_is_what_a_recording_is_worth_and_none_is_the_mean(told):
    assert told["weight"].to_dict() == {"a": 1.0, "b": 0.5, "c": 0.75, "d": 0.75}


def test_they_stand_in_the_tables_of_a_run_only_where_a_table_tells_them(told, tmp_path):
    written = {"sample_rate": 8000, "start_seconds": 0, "valid_seconds": 1, "clip_id": "a"}
    table = told.reindex(columns=[*told, *artifacts.SCHEMAS["recordings.csv"]]).assign(**written)
    table = table.loc[:, ~table.columns.duplicated()].fillna({"reason": "", "flags": ""})
    for more in (table, table.drop(columns=["secondary", "weight"])):
        artifacts.write_table(tmp_path / "recordings.csv", more)
        read = artifacts.read_table(tmp_path / "recordings.csv")
        assert artifacts.sureness(read) == artifacts.sureness(more)
    assert table["weight"].dtype == float


def round_of(rows, **settled):
    """A round of training that knows these rows."""
    labels = targets.classes(rows, multilabel=True)
    config = small_config(data={"multilabel": True}, train=settled)
    packed = np.zeros((len(rows), 800), np.int16)
    turn = {"test": 1, "validation": None, "train": (2,)}
    return learner.Round(packed, rows, labels, turn, config, "cpu", None, None, None)


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_what_is_asked_for_of_a_secondary_label_is_its_weight(told, weight):
    rows = told.assign(split="train").reset_index(drop=True)
    wanted = round_of(rows, secondary_weight=weight).wanted(rows)
    np.testing.assert_allclose(wanted, [[weight, 1], [1, 0], [0, 1], [0, 0]], atol=1e-6)


def test_clips_are_drawn_in_proportion_to_what_they_are_worth(told):
    rows = told.assign(split="train").reset_index(drop=True)
    learner = round_of(rows, batch_size=4)
    drawn = learner.batches(rows.index, learner.wanted(rows), torch.Generator().manual_seed(0))
    seen = torch.cat([drawn._order() for _ in range(2000)]).bincount() / 8000
    np.testing.assert_allclose(seen, np.array([1, 0.5, 0.75, 0.75]) / 3, atol=0.02)
    assert learner.batches(rows.index, learner.wanted(rows)).chances is None


# --- the clip where the call is ----------------------------------------------------------------


def chirp(seconds=0.6):
    time = np.arange(round(seconds * RATE)) / RATE
    return np.sin(2 * np.pi * (2500 + 400 * np.sin(20 * time)) * time)


def long_recording(at_seconds, level=0.05, seconds=40.0, seed=0):
    """A faint call in a recording with a loud hum that never stops."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    sound = 0.4 * np.sin(2 * np.pi * 120 * time) + 0.01 * rng.standard_normal(len(time))
    for at in at_seconds:
        start = round(at * RATE)
        sound[start : start + len(chirp())] += level * chirp()
    return sound.astype(np.float32)


@settings(deadline=None, max_examples=8, derandomize=True)
@given(st.floats(6, 39), st.integers(0, 5), st.sampled_from([1e-3, 1.0]))
def test_the_clip_that_is_chosen_holds_the_call_however_loud_the_recording(at, seed, gain):
    audio = Audio(sample_rate=RATE, clip_seconds=5.0, max_clips=1, choose="energy")
    [(start, _, clip)] = windowing.cut(gain * long_recording([at], seed=seed), audio, -200)
    assert start <= at and at + 0.6 <= start + 5 and len(clip) == 5 * RATE
    [(first, _, _)] = windowing.cut(
        long_recording([at]), audio.model_copy(update={"choose": "first"})
    )
    assert first == 0


@settings(deadline=None, max_examples=8, derandomize=True)
@given(st.integers(1, 6), st.lists(st.floats(0, 39), min_size=1, max_size=4))
def test_chosen_clips_do_not_overlap_and_stand_in_their_order(most, calls):
    audio = Audio(sample_rate=RATE, clip_seconds=5.0, max_clips=most, choose="energy")
    starts = [start for start, _, _ in windowing.cut(long_recording(calls), audio)]
    assert 1 <= len(starts) <= most
    assert (np.diff(starts) >= 5).all() and starts[-1] + 5 <= 40 + 1e-3


def test_a_recording_with_no_more_clips_than_that_keeps_all_as_they_are():
    sound = long_recording([3], seconds=12.0)
    audio = Audio(sample_rate=RATE, clip_seconds=5.0)
    chosen = audio.model_copy(update={"max_clips": 2, "choose": "energy"})
    for one, other in zip(windowing.cut(sound, audio), windowing.cut(sound, chosen), strict=True):
        assert one[:2] == other[:2] and np.array_equal(one[2], other[2])


# --- windows that overlap ----------------------------------------------------------------------


def test_windows_that_begin_in_between_are_whole_and_the_others_stay():
    sound = np.random.default_rng(0).uniform(-1, 1, round(17.0 * RATE)).astype(np.float32)
    audio = Audio(sample_rate=RATE, clip_seconds=5.0)
    plain, denser = (
        windowing.cut(sound, audio.model_copy(update={"test_steps": steps}), every=True)
        for steps in (1, 2)
    )
    assert [start for start, *_ in plain] == [0, 5, 10, 15]
    assert [start for start, *_ in denser] == [0, 2.5, 5, 7.5, 10, 15]
    assert all(valid == 5 for start, valid, _ in denser if start % 5)


def test_a_row_is_the_mean_of_what_overlaps_it_by_how_much_it_does():
    starts = [0, 2.5, 5, 7.5, 10]
    clips = pd.DataFrame({"start_seconds": starts, "valid_seconds": 5.0, "recording_id": "r"})
    clips["clip_id"] = [f"c{start}" for start in starts]
    heard = clips[["clip_id"]].assign(owl=[0.0, 0.4, 0.8, 0.0, 0.4])
    rows = pd.DataFrame({"recording_id": ["r"] * 4, "end_seconds": [5.0, 10, 15, 20]})
    known = priors.Prior(pd.Series({"owl": 0.1}))

    def answers(steps):
        audio = {"clip_seconds": 5.0, "test_windows": True, "test_steps": steps}
        config = small_config(audio=audio, data={"multilabel": True})
        table = submit.row_probabilities(SimpleNamespace(rows=rows), heard, clips, known, config)
        assert table["heard"].tolist() == [True, True, True, False]
        return table["owl"].tolist()

    assert answers(1) == pytest.approx([0.0, 0.8, 0.4, 0.1])
    halves = [(0 + 0.4 / 2) / 1.5, (0.8 + 0.4 / 2 + 0 / 2) / 2, (0.4 + 0 / 2) / 1.5, 0.1]
    assert answers(2) == pytest.approx(halves)


# --- noise from a folder -----------------------------------------------------------------------


@law
@given(st.integers(0, 1000), st.sampled_from([0.0, 10.0]), st.sampled_from([4000, 3000]))
def test_noise_is_added_at_the_ratio_that_was_drawn(seed, noise_db, samples):
    generator = torch.Generator().manual_seed(seed)
    bank = torch.randn(3, 4000, generator=generator)
    bank /= bank.square().mean(dim=1, keepdim=True).sqrt()
    settled = Train(noise_db=noise_db, noise_folder="noise", mix="none", masks=0)
    drawn = perturb.draw(64, settled, generator).noise
    x = torch.randn(64, samples, generator=generator)
    added = perturb.add_noise(x, drawn, bank) - x
    heard = drawn[:, 2] > 0
    assert not added[~heard].any() and heard.any()
    levels = [clips.square().mean(dim=1).sqrt()[heard] for clips in (x, added)]
    ratio_db = 20 * torch.log10(levels[0] / levels[1])
    assert ((ratio_db > noise_db - 1) & (ratio_db < noise_db + 21)).all()
    torch.testing.assert_close(levels[1] / levels[0], drawn[heard, 2], rtol=0.1, atol=0)


def noisy_set(folder, **train):
    """Recordings to learn and to test, a folder of noise with a copy of a test recording in it,
    and a config.
    """
    rng = np.random.default_rng(0)
    names = {"train": "ab", "test": "c", "noise": "xyz"}
    for side, files in names.items():
        (folder / side).mkdir(parents=True)
        for name in files:
            soundfile.write(folder / side / f"{name}.wav", rng.uniform(-0.5, 0.5, 2 * RATE), RATE)
    (folder / "noise" / "copy.wav").write_bytes((folder / "test" / "c.wav").read_bytes())
    (folder / "noise" / "broken.wav").write_bytes(b"RIFF")
    paths = ["train/a.wav", "train/b.wav", "test/c.wav"]
    used = pd.DataFrame({"path": paths, "split": ["train", "train", "test"], "label": "a"})
    used["recording_id"] = list("abc")
    used["status"] = "used"
    used["sha256"] = [artifacts.content_digest(folder / path) for path in paths]
    audio = {"sample_rate": RATE, "clip_seconds": 1.0}
    return used, small_config(audio=audio, train={"noise_db": 0.0, **train})


def test_noise_lies_packed_behind_the_clips_and_holds_nothing_of_either_side(tmp_path):
    used, config = noisy_set(tmp_path / "set", noise_folder="noise")
    clips = rules.write_clips(used, tmp_path / "set", config, tmp_path / "clips")
    clips = clips.assign(group="g", fold=1)
    copies = clips.head(0).assign(parent_id="", transforms="")
    rows = features.pack(clips, copies, tmp_path, tmp_path / "waveforms.npy", config)
    packed = np.load(tmp_path / "waveforms.npy")
    assert len(packed) == len(rows) + 6  # two clips of each of x, y and z
    bank = batches.noise(packed, rows, config.train)
    assert bank.square().mean(dim=1).tolist() == pytest.approx([1.0] * 6, rel=1e-3)
    own = features.unpack(packed[: len(rows)])
    assert np.abs(np.corrcoef(np.concatenate([own, bank]))[: len(rows), len(rows) :]).max() < 0.1
    assert batches.noise(packed, rows, config.but("train.noise_folder", None).train) is None


@pytest.mark.parametrize("folder", ["test", "train", ".", "nowhere"])
def test_a_folder_of_recordings_that_are_learned_or_tested_is_no_noise(tmp_path, folder):
    used, config = noisy_set(tmp_path / "set", noise_folder=folder)
    with pytest.raises(errors.SourceError, match="noise_folder"):
        rules.write_clips(used, tmp_path / "set", config, tmp_path / "clips")


def test_a_folder_of_noise_needs_a_level():
    with pytest.raises(ValueError, match="noise_db"):
        Train(noise_folder="noise")


# --- the metric --------------------------------------------------------------------------------


def test_classes_that_are_not_there_are_left_out_of_the_mean():
    truth = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1]], bool)  # always, never, sometimes there
    scores = np.array([[0.9, 0.9, 0.1], [0.5, 0.9, 0.2], [0.2, 0.9, 0.3]])
    ones = np.ones((1, 3))
    assert scoring.macro_auc(truth, scores, ones).tolist() == [0.5]  # of the first class alone
    assert presets.load("birdclef_2025").evaluate.metric == "roc_auc"


# --- the demo ----------------------------------------------------------------------------------

N_TRAIN, N_TEST = 80, 2


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small set of ten species: its root and its key."""
    home = tmp_path_factory.mktemp("birds")
    birds.ensure(home / "set", home / "key.csv", 1, N_TRAIN, N_TEST)
    return home / "set", pd.read_csv(home / "key.csv", dtype=str, keep_default_na=False)


def test_the_demo_is_laid_out_as_birdclef_is(made, tmp_path):
    root, _ = made
    real = birdclef_2025(tmp_path / "real").folder
    for name in ("train.csv", "taxonomy.csv"):
        assert list(pd.read_csv(root / name)) == list(pd.read_csv(real / name))
    sample = pd.read_csv(root / "sample_submission.csv")
    assert list(sample) == [
        "row_id",
        *sorted(path.name for path in (root / "train_audio").iterdir()),
    ]
    assert len(sample) == 3 and presets.load(data=root).preset == "birdclef_2025"


def test_most_species_are_rare_and_all_have_two_authors(made):
    table = pd.read_csv(made[0] / "train.csv")
    counts = table["primary_label"].value_counts()
    assert counts.size == 10 and counts.max() > 3 * counts.min() >= 3 * birds.RAREST
    assert table.groupby("primary_label")["author"].nunique().min() >= 2
    assert table["rating"].between(0, 5).all() and table["secondary_labels"].ne("['']").any()


def test_the_key_answers_every_window_of_the_soundscapes(made):
    root, key = made
    stems = [path.stem for path in (root / "test_soundscapes").iterdir()]
    assert set(key["filename"]) == {f"{s}_{end}" for s in stems for end in range(5, 61, 5)}
    species = {name for label in key["label"] for name in targets.split(label)}
    assert species <= {path.name for path in (root / "train_audio").iterdir()}
    assert key["label"].str.contains("|", regex=False).any()


def test_the_same_seed_makes_the_same_recordings(made, tmp_path):
    rows = birds.plan(1, N_TRAIN)
    assert rows == birds.plan(1, N_TRAIN) != birds.plan(2, N_TRAIN)
    songs = [birds.Call.draw(np.random.default_rng(number)) for number in range(10)]
    one, again = (birds.perform(rows[0], songs, 1) for _ in range(2))
    assert np.array_equal(one, again) and np.isfinite(one).all()


YEARS = ["2021", "2022", "2023", "2024", "2025"]


@pytest.mark.parametrize("year", YEARS)
def test_every_year_is_trained_with_several_labels(year):
    config = presets.load(f"birdclef_{year}")
    assert config.data.multilabel and config.data.secondary_column and config.data.weight_column
    assert (config.data.empty_label, config.audio.choose) == ("nocall", "energy")
    assert config.audio.clip_seconds == 5 and config.audio.test_windows


# --- the whole chain ---------------------------------------------------------------------------

SHORT = (
    "data.demo_train=48 data.demo_test=2 data.max_per_class=4 split.folds=2 train.epochs=1 "
    "train.batch_size=16 train.precision=fp32 compare.models=[mfcc_linear]"
)


@pytest.mark.layouts
def test_the_benchmark_scores_each_way_out_of_fold_and_on_soundscapes(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("EARSHOT_HOME", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["birds", "--ways", "1", "--set", f"fast=true {SHORT}"])
    bench.main()
    header, row = (line.split(" | ") for line in capsys.readouterr().out.splitlines())
    assert len(header) == len(row) and row[0] == "one label per recording"
    aucs = [float(cell.split()[0]) for cell in row[1:4]]
    assert all(0 <= value <= 1 for value in aucs) and float(row[5]) > 0


@pytest.mark.layouts
def test_from_the_demo_to_a_submission_that_its_key_scores(tmp_path, monkeypatch):
    monkeypatch.setenv("EARSHOT_HOME", str(tmp_path))
    folder, ran = pipeline.run_all("demo_birds", run="birds", fast=True, settings=SHORT)
    assert len(ran) == 8
    config = presets.load("demo_birds", fast=True, settings=SHORT)
    root = folders.locate(config)
    submission = pd.read_csv(folder / "submission.csv")
    species = sorted(path.name for path in (root / "train_audio").iterdir())
    assert list(submission) == ["row_id", *species] and len(submission) == 2 * 12
    assert submission[species].to_numpy().min() >= 0 and submission[species].to_numpy().max() <= 1
    hidden = artifacts.read_json(folder / "submission_check.json")["hidden_test"]
    assert hidden["n_recordings"] == 24 and 0 <= hidden["roc_auc"]["value"] <= 1
    rows = artifacts.read_table(folder / "waveforms.csv")
    assert rows["secondary"].ne("").any() and rows.query("split == 'train'")["weight"].gt(0).all()
    assert len(np.load(folder / "waveforms.npy")) > len(rows)  # noise lies behind the clips
