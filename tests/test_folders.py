"""The recordings lie where the config says; the key of a hidden test set is read from where it was
put.
"""

import pandas as pd
import pytest
from signals import plant

from helpers.base import artifacts
from helpers.base.errors import SourceError
from helpers.data import folders, public
from helpers.demo import dataset, mixtures
from helpers.run import presets


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "home", lambda: tmp_path)
    return tmp_path


def test_a_data_folder_must_be_there_and_a_link_to_it_is_followed(tmp_path):
    with pytest.raises(SourceError, match="nowhere"):
        folders.locate(presets.load(data=tmp_path / "nowhere"))
    with pytest.raises(SourceError, match="DATA="):
        folders.locate(presets.load("folder"))
    plant(tmp_path / "there", "x")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    assert folders.locate(presets.load(data=tmp_path / "link")) == (tmp_path / "there").resolve()


def test_a_file_is_no_data_folder(tmp_path):
    plant(tmp_path, "all.zip")
    with pytest.raises(SourceError, match=r"all\.zip"):
        folders.locate(presets.load("folder", data=tmp_path / "all.zip"))


@pytest.mark.parametrize("preset", ["demo", "demo_multilabel", "esc10"])
def test_a_folder_that_is_given_comes_before_what_the_preset_would_make(home, monkeypatch, preset):
    for module, name in ((dataset, "ensure"), (mixtures, "ensure"), (public, "fetch")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("made"))
    assert folders.locate(presets.load(preset, data=home)) == home.resolve()


def test_the_demo_is_made_with_the_configs_seed_and_sizes_beside_its_key(home, monkeypatch):
    made = []
    monkeypatch.setattr(
        dataset, "ensure", lambda *paths, **sizes: made.append((*paths, *sizes.values()))
    )
    chosen = presets.load("demo", seed=3, settings="data.demo_train=40 data.demo_test=9")
    assert folders.locate(chosen) == home / "data" / "demo-40"
    assert made == [(home / "data" / "demo-40", home / "data" / "demo-40-key.csv", 3, 40, 9)]


@pytest.mark.parametrize("source", ["esc10", "esc50"])
def test_a_public_set_is_downloaded_below_data(home, monkeypatch, source):
    monkeypatch.setattr(public, "fetch", lambda name, folder: folder / public.SETS[name].folder)
    chosen = presets.load("folder", settings=f"data.source={source}")
    assert folders.locate(chosen) == home / "data" / "ESC-50"


@pytest.mark.parametrize(
    ("preset", "fast", "name"),
    [
        ("demo", False, "demo"),
        ("demo", True, "demo-60"),
        ("demo_multilabel", False, "demo-multilabel"),
        ("demo_multilabel", True, "demo-multilabel-60"),
    ],
)
def test_a_demo_of_another_size_or_kind_lies_elsewhere(home, preset, fast, name):
    folder, key = folders.demo_paths(presets.load(preset, fast=fast))
    assert (folder, key) == (home / "data" / name, home / "data" / f"{name}-key.csv")
    assert not key.is_relative_to(folder)  # what lies in the data folder is no secret


RECORDINGS = pd.DataFrame(
    [
        ("r1", "train/dog/a.wav", "dog", "train"),
        ("r2", "test/b.wav", "", "test"),
        ("r3", "test/cat/c.wav", "cat", "test"),
        ("r4", "test/NA.wav", "", "test"),
    ],
    columns=["recording_id", "path", "label", "split"],
)


def test_the_demos_labels_are_those_of_its_key(home):
    chosen = presets.load("demo")
    root, key = folders.demo_paths(chosen)
    plant(root, "x")
    key.write_text("filename,label\nb.wav,rain\nNA.wav,NA\na.wav,dog\n")
    assert folders.hidden_labels(root, RECORDINGS, chosen).to_dict() == {"r2": "rain", "r4": "NA"}
    known = folders.hidden_labels(home / "elsewhere", RECORDINGS, chosen)
    assert known.to_dict() == {"r3": "cat"}


def test_when_sounds_are_heard_is_known_of_the_multi_label_demo_only(home, tmp_path):
    chosen = presets.load("demo_multilabel")
    root, key = folders.demo_paths(chosen)
    plant(root, "x")
    assert folders.hidden_events(root, chosen).empty
    mixtures.events_path(key).write_text("filename,onset,offset,label\nb.wav,0.5,2,rain\n")
    known = folders.hidden_events(root, chosen)
    assert known.to_dict("list") == {
        "filename": ["b.wav"],
        "onset": [0.5],
        "offset": [2.0],
        "label": ["rain"],
    }
    assert folders.hidden_events(tmp_path, presets.load("folder", data=tmp_path)).empty


def test_a_users_labels_are_those_of_the_test_folders(tmp_path):
    chosen = presets.load("folder", data=tmp_path)
    assert folders.hidden_labels(tmp_path, RECORDINGS, chosen).to_dict() == {"r3": "cat"}
    assert folders.hidden_labels(tmp_path, RECORDINGS[:2], chosen).empty
