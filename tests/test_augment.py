"""Offline copies: nothing in place, the same seed the same copy, whatever runs beside it; training
clips only.
"""

import json
import re
import tempfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import soundfile
from tables import noise, small_config, tone

from helpers.audio import augment, recording
from helpers.base import artifacts
from helpers.base.settings import Augment, Transform

RATE = 8000
NAMES = ("shift", "pitch_shift", "time_stretch", "gaussian_noise", "reverb")


@pytest.fixture(autouse=True)
def own_rooms(tmp_path_factory, monkeypatch):
    """Impulse responses go to a folder of this test, not of this machine."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("rooms")))


def certain(name, **span):
    return augment.pipeline(Augment(transforms=(Transform(name=name, p=1.0, **span),)), RATE)


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_depends_on_its_seed_and_keeps_length_dtype_and_input(name):
    waveform = tone(440) + noise(4000)
    before = waveform.copy()
    first, again, other = (
        augment.augment_clip(waveform, RATE, certain(name), seed)[0] for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(waveform, before)
    assert first.shape == waveform.shape and first.dtype == np.float32
    assert not np.array_equal(first, other) and not np.array_equal(first, waveform)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_samples", [700, 4001])
def test_a_copy_of_a_loud_clip_peaks_at_099(name, n_samples):
    for seed in range(3):
        copy, _ = augment.augment_clip(np.sign(noise(n_samples)), RATE, certain(name), seed)
        assert copy.shape == (n_samples,) and np.isfinite(copy).all()
        assert np.abs(copy).max() <= 0.99 + 1e-6


def test_a_quiet_copy_is_not_made_louder():
    waveform = tone(440, amplitude=0.1)
    copy, _ = augment.augment_clip(waveform, RATE, certain("shift"), 0)
    assert np.abs(copy).max() == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "gaussian_noise"])
def test_silence_stays_silence(name):
    copy, _ = augment.augment_clip(np.zeros(4000, np.float32), RATE, certain(name), 0)
    assert np.abs(copy).max() < 1e-6


def test_what_was_applied_is_recorded():
    both = Augment(
        transforms=(Transform(name="shift", p=1.0), Transform(name="gaussian_noise", p=0.0))
    )
    waveform = tone(440)
    _, applied = augment.augment_clip(waveform, RATE, augment.pipeline(both, RATE), 0)
    assert list(applied) == ["Shift"] and -0.3 <= applied["Shift"]["shift_amount"] <= 0.3
    assert re.fullmatch(r"shift -?0\.\d+ of the clip", augment.in_words(applied))


def test_a_transform_of_probability_zero_changes_nothing():
    never = Augment(transforms=tuple(Transform(name=name, p=0.0) for name in NAMES))
    copy, applied = augment.augment_clip(tone(440), RATE, augment.pipeline(never, RATE), 0)
    assert applied == {}
    np.testing.assert_array_equal(copy, tone(440))


def test_parameters_are_drawn_from_the_given_range():
    transform = certain("pitch_shift", low=1.0, high=1.5)
    drawn = [
        augment.augment_clip(tone(440), RATE, transform, seed)[1]["PitchShift"] for seed in range(5)
    ]
    assert all(1.0 <= parameters["num_semitones"] <= 1.5 for parameters in drawn)


def test_the_plan_is_heard_at_its_ends_with_units_and_nothing_else_is():
    rare = (
        Transform(name="pitch_shift", low=-4, high=12, p=0.01),
        Transform(name="gaussian_noise", p=0.01),
    )
    waveform = tone(440)
    (low, high), (soft, loud) = augment.demonstrate(waveform, RATE, Augment(transforms=rare))
    assert (low[0], high[0]) == ("pitch shift -4 semitones", "pitch shift 12 semitones")
    peaks = [np.abs(np.fft.rfft(copy)).argmax() * RATE / len(copy) for _, copy in (low, high)]
    assert peaks == pytest.approx([440 * 2 ** (-4 / 12), 880], rel=0.02)
    assert (soft[0], loud[0]) == (
        "gaussian noise 0.001 of full scale (RMS)",
        "gaussian noise 0.015 of full scale (RMS)",
    )
    levels = [np.std(copy - waveform) for _, copy in (soft, loud)]
    assert levels == pytest.approx([0.001, 0.015], rel=0.05)
    assert augment.demonstrate(waveform, RATE, Augment(transforms=())) == []


def test_every_transform_has_ends_that_differ_and_a_unit_in_the_plan():
    every = Augment(transforms=tuple(Transform(name=name) for name in NAMES))
    waveform = tone(440) * np.linspace(0, 1, 4000, dtype=np.float32)
    pairs = augment.demonstrate(waveform, RATE, every)
    assert all(not np.array_equal(low, high) for (_, low), (_, high) in pairs)
    table = augment.plan(every)
    assert table["transform"].tolist() == [name.replace("_", " ") for name in NAMES]
    assert table["unit"].str.len().gt(0).all() and table["chance"].eq(0.5).all()
    assert augment.plan(every.model_copy(update={"mode": "one_of"}))["chance"].eq(1 / 6).all()


def test_the_rooms_of_a_reverb_are_as_long_as_asked():
    short, long = (augment.impulse_responses(RATE, 1, rt60_seconds=(s, s)) for s in (0.1, 0.5))
    lengths = [soundfile.info(str(Path(folder) / "0.flac")).duration for folder in (short, long)]
    assert lengths == pytest.approx([0.1, 0.5], abs=0.001)


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("learned", [True, False])
def test_it_is_said_who_learns_from_the_copies(learned, fixed):
    config = small_config(train={"augmented_copies": learned}, compare={"augmented_copies": fixed})
    says = augment.who_learns(config)
    assert ("networks of 05 and 06 never do" in says) is not learned
    assert ("06) learn from these copies" in says) is fixed
    assert "no model learns" in augment.who_learns(small_config(augment={"copies": 0}))


def test_the_clip_that_shows_a_shift_best_is_the_one_whose_level_varies():
    steady, burst = tone(440), tone(440) * (np.arange(4000) < 800)
    assert augment.most_varied({"steady": steady, "burst": burst}, RATE) == "burst"


def test_one_of_applies_at_most_one_transform_to_a_clip():
    one_of = Augment(
        mode="one_of",
        transforms=(Transform(name="shift"), Transform(name="gaussian_noise", low=0.01)),
    )
    for seed in range(12):
        copy, applied = augment.augment_clip(tone(440), RATE, augment.pipeline(one_of, RATE), seed)
        shifted_only = np.allclose(np.sort(copy), np.sort(tone(440)), atol=0.02)
        assert len(set(applied) - {"Gain"}) <= 1
        assert shifted_only == ("AddGaussianNoise" not in applied)


def test_one_of_records_only_this_clips_transform():
    one_of = Augment(
        mode="one_of", transforms=(Transform(name="shift"), Transform(name="gaussian_noise"))
    )
    shared = augment.pipeline(one_of, RATE)  # as write_copies does: one pipeline for many clips
    alone = [
        augment.augment_clip(tone(440), RATE, augment.pipeline(one_of, RATE), seed)[1]
        for seed in range(12)
    ]
    assert [augment.augment_clip(tone(440), RATE, shared, seed)[1] for seed in range(12)] == alone


def test_one_of_now_and_then_applies_nothing():
    one_of = Augment(mode="one_of", transforms=(Transform(name="gaussian_noise", low=0.01),))
    changed = [
        not np.allclose(
            augment.augment_clip(tone(440), RATE, augment.pipeline(one_of, RATE), seed)[0],
            tone(440),
        )
        for seed in range(20)
    ]
    assert 0 < sum(changed) < 20


def test_impulse_responses_start_with_the_direct_sound_and_decay_by_60_db():
    folder = augment.impulse_responses(RATE, count=3)
    files = sorted(Path(folder).iterdir())
    assert len(files) == 3
    for file in files:
        response, rate = soundfile.read(file)
        assert rate == RATE and 0.2 * RATE - 1 <= len(response) <= 1.2 * RATE + 1
        assert np.argmax(np.abs(response)) == 0
        early, late = np.array_split(response[1:], 10)[0], np.array_split(response, 10)[-1]
        assert recording.level_db(early) - recording.level_db(late) == pytest.approx(54, abs=6)


def test_impulse_responses_are_the_same_on_every_machine(tmp_path, monkeypatch):
    rooms = []
    for machine in ("one", "other"):
        (tmp_path / machine).mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / machine))
        rooms.append(
            [
                path.read_bytes()
                for path in sorted(Path(augment.impulse_responses(RATE, 3)).iterdir())
            ]
        )
    assert rooms[0] == rooms[1] and len(set(rooms[0])) == 3


@pytest.fixture
def run(tmp_path):
    """A run folder with three training clips and a test clip: (folder, clips)."""
    (tmp_path / "clips").mkdir()
    rows = []
    for number, (label, split, fold) in enumerate(
        [("a/b", "train", 1), ("", "test", None), ("c", "train", 2), ("a/b", "train", 2)]
    ):
        recording.write(tmp_path / "clips" / f"{number}.flac", tone(300 + 100 * number), RATE)
        rows.append(
            (
                f"r{number}-000",
                f"r{number}",
                label,
                split,
                f"g{number}",
                f"clips/{number}.flac",
                fold,
            )
        )
    columns = ["clip_id", "recording_id", "label", "split", "group", "path", "fold"]
    return tmp_path, pd.DataFrame(rows, columns=columns).astype({"fold": "Int64"}).assign(
        valid_seconds=0.5
    )


def copies_config(copies=2, mode="each"):
    transforms = ({"name": "shift", "p": 0.6}, {"name": "gaussian_noise", "p": 0.6})
    return small_config(augment={"copies": copies, "mode": mode, "transforms": transforms})


def write(run, name, config):
    with joblib.parallel_config("sequential"):
        return augment.write_copies(run[1], run[0], config, run[0] / name)


def test_copies_are_made_of_training_clips_only_and_follow_their_parents(run):
    table = write(run, "augmented", copies_config())
    parents = run[1].set_index("clip_id").loc[table["parent_id"]].reset_index()
    assert len(table) == 2 * 3 and table["clip_id"].is_unique
    assert parents["split"].eq("train").all()
    for column in ("recording_id", "label", "group", "fold"):
        assert table[column].tolist() == parents[column].tolist()
    for row in table.itertuples():
        copy, rate = soundfile.read(run[0] / row.path, dtype="float32")
        assert rate == RATE and len(copy) == 4000
        assert set(json.loads(row.transforms)) <= {"Shift", "AddGaussianNoise"}


def test_copies_are_the_same_whatever_runs_beside_them(run):
    """Two processes at first, then one: the seed belongs to the clip, not to the worker."""
    config = copies_config()
    first = augment.write_copies(run[1], run[0], config, run[0] / "augmented")
    again = write(run, "again", config)
    pd.testing.assert_frame_equal(first, again)
    files = sorted(
        path.relative_to(run[0] / "again") for path in (run[0] / "again").rglob("*.flac")
    )
    assert len(files) == 6
    for file in files:
        assert (run[0] / "again" / file).read_bytes() == (run[0] / "augmented" / file).read_bytes()


def test_every_copy_of_every_clip_draws_its_own_parameters(run):
    always = small_config(augment={"copies": 3, "transforms": ({"name": "shift", "p": 1.0},)})
    assert write(run, "augmented", always)["transforms"].is_unique


def test_another_seed_makes_other_copies(run):
    first, other = (
        write(run, f"seed{seed}", copies_config().model_copy(update={"seed": seed}))
        for seed in (0, 1)
    )
    assert first["transforms"].tolist() != other["transforms"].tolist()


def test_no_copies_give_an_empty_table_with_its_columns(run):
    table = write(run, "augmented", copies_config(copies=0))
    assert table.empty and list(table) == list(artifacts.SCHEMAS["augmented.csv"])
