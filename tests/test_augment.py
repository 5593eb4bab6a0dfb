"""Augmentation: nothing at strength zero, nothing in place, the same seed the same copy, labels that stay shares."""

import json
import math
import tempfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import noise, small_config, tone

from helpers import audio, augment
from helpers.settings import Augment, Transform

RATE = 8000
NAMES = ("shift", "pitch_shift", "time_stretch", "gaussian_noise", "reverb")
law = settings(deadline=None, max_examples=30, derandomize=True)
seeds = st.integers(0, 2**31 - 1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def always_highest(monkeypatch):
    """Let every draw be the upper end of its range."""
    monkeypatch.setattr(
        augment, "_uniform", lambda like, generator, low, high: torch.full((len(like), 1), high).to(like)
    )


@pytest.fixture(autouse=True)
def own_rooms(tmp_path_factory, monkeypatch):
    """Impulse responses go to a folder of this test, not of this machine."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("rooms")))


# --- batched -----------------------------------------------------------------------------------------------


@law
@given(seeds, st.integers(1, 4), st.integers(2, 3000), st.sampled_from([torch.float32, torch.float64]))
def test_perturb_is_the_identity_at_strength_zero(seed, batch, n, dtype):
    waveforms = torch.randn(batch, n, generator=generator(seed), dtype=dtype)
    assert torch.equal(augment.perturb(waveforms, 0.0, 0.0, 0.0, generator(seed)), waveforms)


@law
@given(seeds, st.integers(1, 4), st.integers(2, 3000), st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 12))
def test_perturb_keeps_shape_dtype_and_input_and_adds_no_more_than_its_gain(seed, batch, n, shift, speed, gain_db):
    waveforms = torch.rand(batch, n, generator=generator(seed)) * 2 - 1
    before = waveforms.clone()
    perturbed = augment.perturb(waveforms, shift, speed, gain_db, generator(seed))
    assert perturbed.shape == waveforms.shape and perturbed.dtype == waveforms.dtype
    assert torch.equal(waveforms, before)
    assert perturbed.abs().max() <= before.abs().max() * 10 ** (gain_db / 20) * (1 + 1e-5)


def test_perturb_repeats_with_the_generator_and_differs_without():
    waveforms = torch.randn(3, 500, generator=generator())
    first, again, other = (augment.perturb(waveforms, 1.0, 0.1, 6.0, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_perturb_shifts_around_the_circle(monkeypatch):
    always_highest(monkeypatch)
    waveforms = torch.randn(2, 1024, generator=generator())
    shifted = augment.perturb(waveforms, 100 / 1024, 0.0, 0.0, None)
    torch.testing.assert_close(shifted, waveforms.roll(-100, dims=1), rtol=0, atol=0)


def test_perturb_interpolates_between_samples_even_across_the_seam(monkeypatch):
    always_highest(monkeypatch)
    waveforms = torch.randn(2, 8, generator=generator())
    half_a_sample = augment.perturb(waveforms, 0.5 / 8, 0.0, 0.0, None)
    torch.testing.assert_close(half_a_sample, (waveforms + waveforms.roll(-1, dims=1)) / 2)


def test_perturb_speeds_a_tone_up_by_the_drawn_ratio(monkeypatch):
    always_highest(monkeypatch)
    fast = augment.perturb(torch.from_numpy(tone(800, RATE, 1.0))[None], 0.0, 0.25, 0.0, None)[0]
    assert torch.fft.rfft(fast).abs().argmax().item() == 1000  # one second: bin = Hz


def test_perturb_applies_the_drawn_gain_in_decibels(monkeypatch):
    always_highest(monkeypatch)
    waveforms = torch.randn(2, 64, generator=generator())
    torch.testing.assert_close(augment.perturb(waveforms, 0.0, 0.0, 20.0, None), 10 * waveforms)


def test_mixup_is_the_formula():
    x, y = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    mixed_x, mixed_y = augment.mixup(x, y, torch.tensor([1, 0]), torch.tensor([0.75, 0.5]))
    torch.testing.assert_close(mixed_x, torch.tensor([[1.5, 2.75], [2.0, 3.5]]))
    torch.testing.assert_close(mixed_y, torch.tensor([[0.75, 0.25], [0.5, 0.5]]))


@law
@given(seeds, st.integers(1, 9), st.integers(2, 6), st.floats(0, 5), st.floats(0, 0.9))
def test_mixed_and_smoothed_labels_stay_distributions(seed, batch, n_classes, alpha, smoothing):
    labels = torch.randint(n_classes, (batch,), generator=generator(seed))
    smoothed = augment.smooth(torch.eye(n_classes)[labels], smoothing)
    x = torch.randn(batch, 2, 3, 4, generator=generator(seed))
    before = x.clone(), smoothed.clone()
    mixed_x, mixed_y = augment.mixup(x, smoothed, *augment.draw_mixup(batch, alpha, generator(seed)))
    assert mixed_x.shape == x.shape and torch.equal(x, before[0]) and torch.equal(smoothed, before[1])
    for rows in (smoothed, mixed_y):
        assert (rows >= 0).all()
        torch.testing.assert_close(rows.sum(1), torch.ones(batch))
    assert torch.equal(smoothed.argmax(1), labels)


@law
@given(seeds, st.integers(1, 9), st.integers(1, 6), st.floats(0, 0.9))
def test_with_several_labels_each_class_is_smoothed_towards_a_half_for_itself(seed, batch, n_classes, smoothing):
    targets = torch.randint(2, (batch, n_classes), generator=generator(seed)).float()
    before = targets.clone()
    smoothed = augment.smooth(targets, smoothing, multilabel=True)
    torch.testing.assert_close(smoothed - 0.5, (1 - smoothing) * (targets - 0.5))
    assert torch.equal(targets, before)


@law
@given(seeds, st.integers(1, 64), st.floats(0, 5))
def test_drawn_partners_are_a_permutation_and_weights_at_least_a_half(seed, batch, alpha):
    partner, weight = augment.draw_mixup(batch, alpha, generator(seed))
    assert sorted(partner.tolist()) == list(range(batch))
    assert ((weight >= 0.5) & (weight <= 1)).all()
    assert torch.equal(weight, augment.draw_mixup(batch, alpha, generator(seed))[1])


def test_mixup_without_alpha_changes_nothing():
    x, y = torch.randn(4, 8, generator=generator()), torch.eye(4)
    mixed_x, mixed_y = augment.mixup(x, y, *augment.draw_mixup(4, 0.0, generator()))
    assert torch.equal(mixed_x, x) and torch.equal(mixed_y, y)


@pytest.mark.parametrize("y", [torch.tensor([0, 1]), torch.tensor([0.0, 1.0]), torch.tensor([[1, 0], [0, 1]])])
def test_mixup_refuses_labels_that_are_not_distributions(y):
    with pytest.raises(ValueError, match="one-hot"):
        augment.mixup(torch.zeros(2, 3), y, torch.tensor([1, 0]), torch.ones(2))


@law
@given(seeds, st.integers(0, 4), st.floats(0, 0.9), st.integers(1, 40), st.integers(1, 40))
def test_masks_blank_at_most_their_share_of_each_axis(seed, masks, fraction, n_mels, n_frames):
    x = torch.ones(3, 1, n_mels, n_frames)
    masked = augment.mask_spectrogram(x, masks, fraction, generator(seed))
    assert masked.shape == x.shape and (x == 1).all() and ((masked == 0) | (masked == 1)).all()
    for clip in masked[:, 0]:
        kept_bands, kept_frames = clip.amax(1).sum(), clip.amax(0).sum()
        if kept_bands and kept_frames:
            assert n_mels - kept_bands <= masks * math.ceil(fraction * n_mels)
            assert n_frames - kept_frames <= masks * math.ceil(fraction * n_frames)
            assert clip.sum() == kept_bands * kept_frames  # whole bands and whole frames, nothing else


def test_no_masks_change_nothing_and_many_change_something():
    x = torch.randn(2, 1, 16, 30, generator=generator())
    assert torch.equal(augment.mask_spectrogram(x, 0, 0.5, generator()), x)
    assert not torch.equal(augment.mask_spectrogram(x, 2, 0.5, generator()), x)


# --- offline copies ----------------------------------------------------------------------------------------


def certain(name, **span):
    return augment.pipeline(Augment(transforms=(Transform(name=name, p=1.0, **span),)), RATE)


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_depends_on_its_seed_and_keeps_length_dtype_and_input(name):
    waveform = tone(440) + noise(4000)
    before = waveform.copy()
    first, again, other = (augment.augment_clip(waveform, RATE, certain(name), seed)[0] for seed in (5, 5, 6))
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
    both = Augment(transforms=(Transform(name="shift", p=1.0), Transform(name="gaussian_noise", p=0.0)))
    waveform = tone(440)
    _, applied = augment.augment_clip(waveform, RATE, augment.pipeline(both, RATE), 0)
    assert list(applied) == ["Shift"] and -0.3 <= applied["Shift"]["shift_amount"] <= 0.3
    assert "Shift" in augment.in_words(applied)


def test_a_transform_of_probability_zero_changes_nothing():
    never = Augment(transforms=tuple(Transform(name=name, p=0.0) for name in NAMES))
    copy, applied = augment.augment_clip(tone(440), RATE, augment.pipeline(never, RATE), 0)
    assert applied == {}
    np.testing.assert_array_equal(copy, tone(440))


def test_parameters_are_drawn_from_the_given_range():
    transform = certain("pitch_shift", low=1.0, high=1.5)
    drawn = [augment.augment_clip(tone(440), RATE, transform, seed)[1]["PitchShift"] for seed in range(5)]
    assert all(1.0 <= parameters["num_semitones"] <= 1.5 for parameters in drawn)


def test_demonstrate_applies_each_transform_alone_and_for_certain():
    rare = [Transform(name=name, p=0.01) for name in NAMES]
    copies = augment.demonstrate(tone(440) + noise(4000), RATE, rare)
    assert [name for name, _, _ in copies] == list(NAMES)
    assert all(len(applied) == 1 for _, applied, _ in copies)


def test_one_of_applies_at_most_one_transform_to_a_clip():
    one_of = Augment(mode="one_of", transforms=(Transform(name="shift"), Transform(name="gaussian_noise", low=0.01)))
    for seed in range(12):
        copy, applied = augment.augment_clip(tone(440), RATE, augment.pipeline(one_of, RATE), seed)
        shifted_only = np.allclose(np.sort(copy), np.sort(tone(440)), atol=0.02)
        assert len(set(applied) - {"Gain"}) <= 1
        assert shifted_only == ("AddGaussianNoise" not in applied)


def test_one_of_records_only_this_clips_transform():
    one_of = Augment(mode="one_of", transforms=(Transform(name="shift"), Transform(name="gaussian_noise")))
    shared = augment.pipeline(one_of, RATE)  # as write_copies does: one pipeline for many clips
    alone = [augment.augment_clip(tone(440), RATE, augment.pipeline(one_of, RATE), seed)[1] for seed in range(12)]
    assert [augment.augment_clip(tone(440), RATE, shared, seed)[1] for seed in range(12)] == alone


def test_one_of_now_and_then_applies_nothing():
    one_of = Augment(mode="one_of", transforms=(Transform(name="gaussian_noise", low=0.01),))
    changed = [
        not np.allclose(augment.augment_clip(tone(440), RATE, augment.pipeline(one_of, RATE), seed)[0], tone(440))
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
        assert audio.level_db(early) - audio.level_db(late) == pytest.approx(54, abs=6)


def test_impulse_responses_are_the_same_on_every_machine(tmp_path, monkeypatch):
    rooms = []
    for machine in ("one", "other"):
        (tmp_path / machine).mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / machine))
        rooms.append([path.read_bytes() for path in sorted(Path(augment.impulse_responses(RATE, 3)).iterdir())])
    assert rooms[0] == rooms[1] and len(set(rooms[0])) == 3


@pytest.fixture
def run(tmp_path):
    """A run folder with three training clips and a test clip: (folder, clips)."""
    (tmp_path / "clips").mkdir()
    rows = []
    for number, (label, split, fold) in enumerate(
        [("a/b", "train", 1), ("", "test", None), ("c", "train", 2), ("a/b", "train", 2)]
    ):
        audio.write(tmp_path / "clips" / f"{number}.flac", tone(300 + 100 * number), RATE)
        rows.append((f"r{number}-000", f"r{number}", label, split, f"g{number}", f"clips/{number}.flac", fold))
    columns = ["clip_id", "recording_id", "label", "split", "group", "path", "fold"]
    return tmp_path, pd.DataFrame(rows, columns=columns).astype({"fold": "Int64"}).assign(valid_seconds=0.5)


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
    files = sorted(path.relative_to(run[0] / "again") for path in (run[0] / "again").rglob("*.flac"))
    assert len(files) == 6
    for file in files:
        assert (run[0] / "again" / file).read_bytes() == (run[0] / "augmented" / file).read_bytes()


def test_every_copy_of_every_clip_draws_its_own_parameters(run):
    always = small_config(augment={"copies": 3, "transforms": ({"name": "shift", "p": 1.0},)})
    assert write(run, "augmented", always)["transforms"].is_unique


def test_another_seed_makes_other_copies(run):
    first, other = (write(run, f"seed{seed}", copies_config().model_copy(update={"seed": seed})) for seed in (0, 1))
    assert first["transforms"].tolist() != other["transforms"].tolist()


def test_no_copies_give_an_empty_table_with_its_columns(run):
    table = write(run, "augmented", copies_config(copies=0))
    assert table.empty and list(table) == list(augment.artifacts.SCHEMAS["augmented.csv"])
