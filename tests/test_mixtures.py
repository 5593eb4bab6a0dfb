"""The multi-label demo: the same seed gives the same bytes, and its tables say what its folders
hold.
"""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
from tables import small_config

from helpers.base import artifacts, targets
from helpers.data import sources
from helpers.demo import dataset, mixtures

N_TRAIN, N_TEST = 20, 12
TAKE = re.compile(r"(?P<group>[0-9a-f]{6})-(\d+)")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small set: its root and its key."""
    folder = tmp_path_factory.mktemp("mixtures")
    root, key = folder / "set", folder / "hidden" / "key.csv"
    assert mixtures.ensure(root, key, seed=3, n_train=N_TRAIN, n_test=N_TEST) == root
    return root, key


def contents(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def table(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def names(folder):
    return {path.name for path in folder.iterdir()}


# --- files and tables --------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_another_seed_others(tmp_path):
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        mixtures.ensure(tmp_path / name, tmp_path / f"{name}.csv", seed, n_train=3, n_test=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "again")
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "again.csv").read_bytes()
    sounds = {
        name: {
            content for path, content in contents(tmp_path / name).items() if "ffffff" not in path
        }
        for name in ("one", "other")
    }
    assert not sounds["one"] & sounds["other"]


def test_the_tables_list_exactly_the_files(made):
    root, key = made
    train, sample, answers = (
        table(root / "train.csv"),
        table(root / "sample_submission.csv"),
        table(key),
    )
    assert names(root) == {"train", "test", "train.csv", "sample_submission.csv"}
    assert list(train) == ["fname", "labels"] and list(answers) == ["filename", "label"]
    assert list(sample) == ["fname", *sorted(dataset.CLASS_WEIGHTS)]
    for listed, folder in ((train["fname"], "train"), (sample["fname"], "test")):
        assert listed.is_unique and set(listed) == names(root / folder)
    assert set(answers["filename"]) | {"ffffff-1.wav"} == names(root / "test")
    assert (len(train), len(sample), len(answers)) == (N_TRAIN + 1, N_TEST + 1, N_TEST)
    assert (sample.drop(columns="fname") == "0").all(axis=None)


def test_none_to_three_known_sounds_are_heard_at_once(made):
    root, key = made
    labels = [
        *table(root / "train.csv")["labels"].map(lambda text: [x for x in text.split(",") if x])
    ]
    labels += [targets.split(label) for label in table(key)["label"]]
    counts = [len(found) for found in labels]
    assert set(counts) <= {0, 1, 2, 3} and counts.count(1) and counts.count(2)
    assert all(
        found == sorted(set(found)) and set(found) <= set(dataset.CLASS_WEIGHTS) for found in labels
    )


def test_the_key_is_hidden_from_whoever_reads_the_folder(made):
    root, key = made
    assert root not in key.parents
    for path, content in contents(root).items():
        if not path.startswith("train"):
            assert not any(
                b"," + label.encode() + b"\n" in content.split(b"\n", 1)[-1]
                for label in dataset.CLASS_WEIGHTS
            )
    assert not any(
        label in name for name in names(root / "test") for label in dataset.CLASS_WEIGHTS
    )


def test_takes_of_one_scene_share_the_names_head_its_labels_and_its_recorder(made):
    root, _ = made
    train = table(root / "train.csv").iloc[:-1]
    heads = train["fname"].map(lambda name: TAKE.fullmatch(name.rsplit(".", 1)[0]).group("group"))
    takes = train.groupby(heads)
    assert (
        takes.size().isin([1, 2]).all() and (takes.size() == 2).any() and (takes.size() == 1).any()
    )
    assert (takes["labels"].nunique() == 1).all()
    rates = train["fname"].map(lambda name: soundfile.info(root / "train" / name).samplerate)
    assert (rates.groupby(heads).nunique() == 1).all()
    assert (train["fname"].str.rsplit(".").str[-1].groupby(heads).nunique() == 1).all()


def test_every_sound_is_heard_below_full_scale_and_no_two_are_the_same(made):
    root, _ = made
    paths = [
        path
        for side in ("train", "test")
        for path in (root / side).iterdir()
        if "ffffff" not in path.name
    ]
    for path in paths:
        sound, rate = soundfile.read(path)
        assert sound.ndim == 1 and rate in dataset.SAMPLE_RATES and 1.9 < len(sound) / rate < 6.1
        assert 0.5 < np.abs(sound).max() < 1 and np.sqrt(np.mean(sound**2)) > 0.005, path.name
    assert len({path.read_bytes() for path in paths}) == len(paths) == N_TRAIN + N_TEST


def test_one_file_of_each_side_cannot_be_heard(made):
    root, _ = made
    for side, content in mixtures.BROKEN.items():
        assert (root / side / "ffffff-1.wav").read_bytes() == content


@pytest.fixture
def listed(made):
    """The audio files of the set as `sources` lists them, by name; ids and labels are taken from
    train.csv.
    """
    data = {
        "multilabel": True,
        "labels_csv": "train.csv",
        "name_pattern": r"(?P<group>[0-9a-f]{6})-\d+",
    }
    found = sources.find(made[0], small_config(data=data).data)
    found = found[found["status"].eq("ok")]
    return found.set_index(found["path"].str.rsplit("/").str[-1])


def test_the_finder_reads_it_as_its_tables_say(made, listed):
    train, test = (listed[listed["split"].eq(side)] for side in ("train", "test"))
    truth = table(made[0] / "train.csv").set_index("fname")["labels"].str.replace(",", "|")
    assert train["label"].to_dict() == truth.to_dict() and len(test) == N_TEST + 1
    assert train["source"].str.fullmatch("[0-9a-f]{6}").all()
    assert test["label"].drop("ffffff-1.wav").eq("").all()


def test_a_test_file_does_not_take_the_label_of_a_training_file_of_the_same_name(listed):
    assert listed[listed["split"].eq("test")]["label"].eq("").all()


# --- the plan ----------------------------------------------------------------------------------


def test_a_plan_gives_as_many_scenes_as_were_asked_for_and_none_on_both_sides():
    for n_train, n_test in ((1, 1), (12, 12), (300, 50)):
        train, test = mixtures.plan(0, n_train, n_test)
        assert (len(train), len(test)) == (n_train, n_test)
        assert not {scene.seed for scene in train} & {scene.seed for scene in test}
        assert len({scene.name for scene in [*train, *test]}) == n_train + n_test
        assert len({scene.seed for scene in test}) == n_test
        assert len({(scene.seed, scene.name[:6]) for scene in train}) == len(
            {scene.seed for scene in train}
        )


def test_sounds_come_together_as_often_as_they_should_and_the_rarest_class_comes_least():
    train, _ = mixtures.plan(0, 3000, 1)
    counts = pd.Series([len(scene.labels) for scene in train]).value_counts(normalize=True)
    for count, share in mixtures.HOW_MANY.items():
        assert counts[count] == pytest.approx(share, abs=0.04)
    heard = pd.Series([label for scene in train for label in scene.labels]).value_counts()
    assert set(heard.index) == set(dataset.CLASS_WEIGHTS) and heard.idxmin() == "bell"
    assert 1.5 < heard.max() / heard.min() < 3.5


@pytest.mark.parametrize("labels", [(), ("rain",), ("bell", "dog_bark", "wind")])
@pytest.mark.parametrize("sample_rate", [8000, 48000])
def test_a_take_is_performed_the_same_every_time_and_its_takes_differ(labels, sample_rate):
    scene, other = (
        mixtures.Scene("", labels, (5, 7), take, 2.0, sample_rate, "wav_16") for take in (1, 2)
    )
    sound, events = mixtures.perform(scene)
    assert sound.shape == (2 * sample_rate, 1) and np.isfinite(sound).all()
    assert np.abs(sound).max() == pytest.approx(10 ** (-3 / 20))
    np.testing.assert_array_equal(sound, mixtures.perform(scene)[0])
    assert not np.allclose(sound, mixtures.perform(other)[0], atol=1e-3)
    assert [label for *_, label in events] == list(labels)
    assert all(0 <= onset < offset <= 2 for _, onset, offset, _ in events)


def test_an_event_begins_and_ends_where_its_sound_is_20_db_below_its_loudest_moment():
    size = mixtures.STUDIO_RATE // 100  # samples in 10 ms
    loudness = np.r_[np.zeros(5), 0.05, 0.2, 1.0, 0.0, 0.5, 0.09, np.zeros(3)]
    assert mixtures.heard_within(np.repeat(loudness, size)).tolist() == [6 * size, 10 * size]


def test_beside_the_key_stands_when_each_test_sound_is_heard_and_nowhere_in_the_data(made):
    root, key = made
    events, answers = table(mixtures.events_path(key)), table(key)
    assert list(events) == list(mixtures.EVENT)
    assert not any("events" in path for path in contents(root))
    heard = events.groupby("filename")["label"].agg(lambda names: "|".join(sorted(names)))
    labelled = answers[answers["label"].ne("")].set_index("filename")["label"]
    assert heard.to_dict() == labelled.to_dict()
    for row in events.itertuples():
        info = soundfile.info(root / "test" / row.filename)
        assert 0 <= float(row.onset) < float(row.offset) <= info.duration + 0.01


# --- writing only where something changed ------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    """Make a very small set with these settings; whether anything was written."""
    root, key = tmp_path / "set", tmp_path / "key.csv"

    def ensure(**changed):
        before = (
            (root.stat().st_ino, key.stat().st_ino) if root.is_dir() and key.is_file() else None
        )
        mixtures.ensure(root, key, **{"seed": 0, "n_train": 2, "n_test": 1, **changed})
        return before != (root.stat().st_ino, key.stat().st_ino)

    ensure.root, ensure.key = root, key
    return ensure


def test_nothing_is_written_again_where_nothing_changed(small):
    assert small() and not small()
    first = contents(small.root)
    for changed in ({"seed": 1}, {"n_train": 3}):
        assert small(**changed) and not small(**changed), changed
        assert contents(small.root) != first
    assert small() and contents(small.root) == first


def test_what_is_missing_is_written_again(small, monkeypatch):
    small()
    whole = contents(small.root)
    small.key.unlink()
    assert small() and small.key.is_file()
    shutil.rmtree(small.root)
    assert small() and contents(small.root) == whole
    monkeypatch.setattr(mixtures, "VERSION", mixtures.VERSION + 1)
    assert small()


def test_a_folder_that_nothing_claims_is_never_replaced(small):
    small()
    before = contents(small.root)
    small.key.with_suffix(".json").unlink()
    with pytest.raises(FileExistsError, match="move it away"):
        small()
    assert contents(small.root) == before


def test_a_set_of_a_version_that_noted_no_place_is_replaced(small):
    small()
    marker = small.key.with_suffix(".json")
    artifacts.write_json(marker, {"version": 1, "seed": 0, "n_train": 2, "n_test": 1})
    assert small() and not small()


def test_nothing_of_an_earlier_set_stays(small):
    small(n_train=4)
    small(n_train=1)
    assert len(names(small.root / "train")) == 2
    assert names(small.root.parent) == {"set", "key.csv", "key.json"}


def test_a_key_inside_the_data_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="inside"):
        mixtures.ensure(tmp_path / "set", tmp_path / "set" / "key.csv", n_train=1, n_test=1)


def test_an_interrupted_change_is_not_taken_for_the_set_of_before(small, monkeypatch):
    small()
    before = contents(small.root)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(artifacts, "write_text", interrupted_at(small.key))
        small(seed=1)
    small()
    assert contents(small.root) == before


def interrupted_at(path, write=artifacts.write_text):
    """A write_text that is interrupted before it writes one file."""

    def write_or_stop(target, text):
        if target == path:
            raise KeyboardInterrupt
        write(target, text)

    return write_or_stop
