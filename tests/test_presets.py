"""Settings that follow from the recordings."""

import numpy as np
import pytest
import soundfile

from helpers.base import settings
from helpers.run import presets

AUTO = dict.fromkeys(presets.KEYS, presets.AUTO)


@pytest.fixture
def folder(tmp_path):
    def fill(seconds, rate=8000, where="a"):
        (tmp_path / where).mkdir(exist_ok=True)
        for number, length in enumerate(seconds):
            soundfile.write(
                tmp_path / where / f"{number}.wav", np.zeros(round(length * rate)), rate
            )
        return tmp_path

    return fill


def test_clips_are_as_long_as_nine_of_ten_recordings(folder):
    chosen = presets.settle(AUTO, folder([0.65] * 19 + [3.0]), 16000)
    assert chosen["audio.clip_seconds"] == 0.7


@pytest.mark.parametrize(
    ("seconds", "clip", "hop"), [(0.05, 0.5, 160), (2.0, 2.0, 208), (30.0, 5.0, 512)]
)
def test_clips_and_hops_stay_within_their_limits(folder, seconds, clip, hop):
    chosen = presets.settle(AUTO, folder([seconds] * 4), 16000)
    assert (chosen["audio.clip_seconds"], chosen["features.hop_length"]) == (clip, hop)


@pytest.mark.parametrize(("count", "epochs"), [(4, 120), (12, 40), (40, 20), (2, 150)])
def test_a_small_set_is_heard_more_often_than_a_large_one(folder, monkeypatch, count, epochs):
    monkeypatch.setattr(presets, "CLIPS_HEARD", 480)
    assert presets.settle(AUTO, folder([1.6] * count, rate=1000), 16000)["train.epochs"] == epochs


@pytest.mark.parametrize(("count", "epochs"), [(500, 150), (2000, 63)])
def test_short_clips_are_heard_more_often_for_the_same_work(folder, count, epochs):
    """2 000 clips of 0.6 s were heard 24 times, and the loss was still falling."""
    root = folder([0.6])
    for number in range(1, count):
        (root / "a" / f"{number}.wav").hardlink_to(root / "a" / "0.wav")
    loaded = presets.load("folder", str(root))
    assert (loaded.audio.clip_seconds, loaded.train.epochs) == (0.6, epochs)


def test_long_recordings_count_by_their_clips(folder, monkeypatch):
    monkeypatch.setattr(presets, "CLIPS_HEARD", 480)
    assert presets.settle(AUTO, folder([20.0] * 3, rate=1000), 16000)["train.epochs"] == 480 / 12


def test_only_what_is_auto_is_chosen_and_a_given_length_decides_the_hop(folder):
    values = {**AUTO, "audio.clip_seconds": 1.0, "train.epochs": 7}
    assert presets.settle(values, folder([4.0] * 4), 16000) == {"features.hop_length": 160}


@pytest.mark.parametrize("root", [None, "nowhere"])
def test_without_recordings_the_defaults_hold(root):
    assert presets.settle(AUTO, root, 16000) == {}
    loaded = presets.load("folder")
    assert loaded.train.epochs == settings.Config().train.epochs


def test_what_soundfile_cannot_read_is_left_out(folder):
    root = folder([2.0] * 4)
    (root / "a" / "broken.wav").write_bytes(b"no sound")
    assert presets.settle(AUTO, root, 16000)["audio.clip_seconds"] == 2.0


def test_auto_becomes_a_number_in_the_configuration(folder):
    root = folder([1.0] * 4)
    folder([1.0] * 4, where="b")
    loaded = presets.load(data=str(root))
    assert (loaded.preset, loaded.audio.clip_seconds, loaded.features.hop_length) == (
        "folder",
        1.0,
        160,
    )
    assert presets.load(data=str(root), settings="audio.clip_seconds=2.5").audio.clip_seconds == 2.5
    assert (
        presets.load(data=str(root), settings="train.epochs=auto").train.epochs == presets.EPOCHS[1]
    )
