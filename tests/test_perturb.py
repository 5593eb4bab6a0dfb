"""Augmentation while training: nothing at strength zero or in place, what is drawn is heard, labels
stay shares.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import noise, tone

from helpers.base.recipe import Train
from helpers.training import perturb

RATE = 8000
QUIET = {
    **{
        "crop": 1.0,
        "shift": 0.0,
        "speed": 0.0,
        "gain_db": 0.0,
        "polarity": False,
        "noise_db": None,
        "filter_db": 0.0,
    },
    **{"mix": "none", "mix_share": 1.0, "masks": 0, "mask_fraction": 0.15, "label_smoothing": 0.0},
}
law = settings(deadline=None, max_examples=30, derandomize=True)
seeds = st.integers(0, 2**31 - 1)
mixes = pytest.mark.parametrize("mix", [perturb.mixup, perturb.between_class])
strengths = st.fixed_dictionaries(
    {
        "crop": st.sampled_from([1.0, 0.4]),
        "shift": st.sampled_from([0.0, 0.3, 1.0]),
        "speed": st.sampled_from([0.0, 0.2]),
        "gain_db": st.sampled_from([0.0, 6.0]),
        "polarity": st.booleans(),
        "noise_db": st.sampled_from([None, 20.0]),
        "filter_db": st.sampled_from([0.0, 6.0]),
        "mix": st.sampled_from(["none", "mixup", "between_class"]),
        "mixup_alpha": st.sampled_from([0.0, 0.4]),
        "mix_share": st.sampled_from([0.0, 0.5, 1.0]),
        "masks": st.sampled_from([0, 2]),
    }
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(size, seed=0, **train):
    """Draws for so many clips; nothing is done but what is named."""
    return perturb.draw(size, Train(**{**QUIET, **train}), generator(seed))


def altered(x, seed=0, **train):
    """Waveforms after all that is named, and nothing else."""
    draws = drawn(len(x), seed, **train)
    return perturb.alter(x, torch.eye(len(x)), draws, Train(**{**QUIET, **train}))[0]


def always_highest(monkeypatch):
    """Let every draw be the upper end of its range."""
    monkeypatch.setattr(
        perturb,
        "_uniform",
        lambda size, generator, low, high, columns=1: torch.full((size, columns), high * 1.0),
    )


def column(*values):
    return torch.tensor(values)[:, None]


def level(x):
    return x.square().mean(dim=1).sqrt()


# --- drawing -----------------------------------------------------------------------------------


@law
@given(seeds, st.integers(2, 9), strengths)
def test_what_is_drawn_repeats_with_the_generator_and_lies_in_its_range(seed, size, train):
    first, again = (drawn(size, seed, **train) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert (one is None and other is None) or (torch.equal(one, other) and len(one) == size)
    if first.rate is not None:
        assert ((first.offset >= 0) & (first.offset < 1)).all()
        allowed = 1 + train["speed"]
        assert ((first.rate >= 1 / allowed - 1e-6) & (first.rate <= allowed + 1e-6)).all()
    if first.partner is not None:
        assert sorted(first.partner.tolist()) == list(range(size))
    if first.masks is not None:
        start, width = first.masks.unbind(dim=-1)
        assert first.masks.shape == (size, 2, 2, 2)
        assert (start >= 0).all() and (width >= 0).all() and (start + width <= 1 + 1e-6).all()


def test_another_generator_draws_otherwise_and_the_global_one_is_left_alone():
    state = torch.get_rng_state()
    train = {
        "shift": 1.0,
        "speed": 0.1,
        "noise_db": 20.0,
        "filter_db": 6.0,
        "mix": "between_class",
        "masks": 2,
    }
    first, other = (drawn(4, seed, **train) for seed in (1, 2))
    assert all(
        one is None or not torch.equal(one, another)
        for one, another in zip(first, other, strict=True)
    )
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "key", ["offset", "rate", "gain", "noise", "partner", "weight", "bands_db", "masks"]
)
def test_at_strength_zero_nothing_is_drawn(key):
    assert getattr(drawn(3), key) is None


@law
@given(seeds, st.integers(1, 64), st.floats(0.01, 5))
def test_drawn_partners_are_a_permutation_and_weights_at_least_a_half(seed, batch, alpha):
    partner, weight = perturb.draw_mix(
        batch, Train(mix="mixup", mixup_alpha=alpha), generator(seed)
    )
    assert sorted(partner.tolist()) == list(range(batch))
    assert weight.shape == (batch, 1) and ((weight >= 0.5) & (weight <= 1)).all()
    assert torch.equal(
        weight, perturb.draw_mix(batch, Train(mix="mixup", mixup_alpha=alpha), generator(seed))[1]
    )


def test_between_class_weights_cover_the_unit_interval_evenly():
    weight = perturb.draw_mix(4000, Train(mix="between_class"), generator())[1]
    counts = torch.histc(weight, 4, 0, 1)
    torch.testing.assert_close(counts / 4000, torch.full((4,), 0.25), atol=0.03, rtol=0)


@pytest.mark.parametrize("mix", ["mixup", "between_class"])
def test_a_share_of_the_batches_is_mixed_and_the_others_keep_every_clip(mix):
    train = Train(mix=mix, mix_share=0.25)
    weights = [perturb.draw_mix(8, train, generator(seed))[1] for seed in range(400)]
    untouched = [bool((weight == 1).all()) for weight in weights]
    assert np.mean(untouched) == pytest.approx(0.75, abs=0.06)
    assert all(
        (weight < 1).all() for weight, kept in zip(weights, untouched, strict=True) if not kept
    )


@pytest.mark.parametrize(
    "train",
    [{"mix": "none"}, {"mix": "mixup", "mixup_alpha": 0.0}, {"mix": "mixup", "mix_share": 0.0}],
)
def test_without_mixing_there_are_no_partners(train):
    assert perturb.draw_mix(4, Train(**train), generator()) == (None, None)


# --- on waveforms ------------------------------------------------------------------------------


@law
@given(
    seeds, st.integers(2, 4), st.integers(2, 3000), st.sampled_from([torch.float32, torch.float64])
)
def test_waveforms_are_left_alone_at_strength_zero(seed, batch, n, dtype):
    x = torch.randn(batch, n, generator=generator(seed), dtype=dtype)
    assert torch.equal(altered(x, seed), x)


@law
@given(seeds, st.integers(2, 4), st.integers(4, 3000), strengths)
def test_waveforms_keep_shape_dtype_and_input_and_stay_finite(seed, batch, n, train):
    x, y = torch.rand(batch, n, generator=generator(seed)) * 2 - 1, torch.eye(batch)
    x[0] = 0  # silence
    before, draws = x.clone(), drawn(batch, seed, **train)
    found, wanted = perturb.alter(x, y, draws, Train(**{**QUIET, **train}))
    assert (
        found.shape == (batch, round(train["crop"] * n))
        and found.dtype == x.dtype
        and found.isfinite().all()
    )
    assert torch.equal(x, before) and torch.equal(y, torch.eye(batch))
    assert (wanted >= 0).all()
    torch.testing.assert_close(wanted.sum(1), torch.ones(batch))


@law
@given(
    seeds,
    st.integers(1, 4),
    st.integers(2, 3000),
    st.floats(0, 1),
    st.floats(0, 0.5),
    st.floats(0, 12),
)
def test_playing_adds_no_more_than_its_gain(seed, batch, n, shift, speed, gain_db):
    x = torch.rand(batch, n, generator=generator(seed)) * 2 - 1
    found = altered(x, seed, shift=shift, speed=speed, gain_db=gain_db)
    assert found.abs().max() <= x.abs().max() * 10 ** (gain_db / 20) * (1 + 1e-5)


@law
@given(
    seeds, st.integers(1, 4), st.integers(1, 3000), st.sampled_from([torch.float32, torch.float64])
)
def test_played_from_the_start_at_its_own_speed_a_clip_is_itself(seed, batch, n, dtype):
    x = torch.randn(batch, n, generator=generator(seed), dtype=dtype)
    assert torch.equal(perturb.play(x, torch.zeros(batch, 1), torch.ones(batch, 1)), x)


@law
@given(seeds, st.lists(st.integers(0, 1023), min_size=1, max_size=4))
def test_played_from_another_sample_on_a_clip_is_rolled(seed, offsets):
    x = torch.randn(len(offsets), 1024, generator=generator(seed))
    played = perturb.play(x, column(*offsets) / 1024, torch.ones(len(offsets), 1))
    assert torch.equal(
        played, torch.stack([clip.roll(-k) for clip, k in zip(x, offsets, strict=True)])
    )


def test_the_largest_shift_is_drawn_around_the_circle(monkeypatch):
    always_highest(monkeypatch)
    x = torch.randn(2, 1024, generator=generator())
    torch.testing.assert_close(altered(x, shift=100 / 1024), x.roll(-100, dims=1), rtol=0, atol=0)


def test_playing_interpolates_between_samples_even_across_the_seam():
    x = torch.randn(2, 8, generator=generator())
    half_a_sample = perturb.play(x, torch.full((2, 1), 0.5 / 8), torch.ones(2, 1))
    torch.testing.assert_close(half_a_sample, (x + x.roll(-1, dims=1)) / 2)


@law
@given(seeds, st.integers(2, 600), st.floats(0, 0.999), st.floats(0.5, 2), st.floats(0.01, 1))
def test_a_crop_is_the_beginning_of_the_whole_clip_as_it_is_played(seed, n, offset, rate, crop):
    x, length = torch.randn(2, n, generator=generator(seed)), max(1, round(crop * n))
    whole = perturb.play(x, column(offset, 0.0), column(rate, 1.0))
    assert torch.equal(
        perturb.play(x, column(offset, 0.0), column(rate, 1.0), length), whole[:, :length]
    )


def test_a_crop_begins_anywhere_in_the_clip_even_where_nothing_is_shifted():
    x = torch.arange(1024.0).repeat(400, 1)
    cropped = altered(x, crop=0.25)
    assert cropped.shape == (400, 256)
    quarters = torch.histc(cropped[:, 0], 4, 0, 1024) / 400
    torch.testing.assert_close(quarters, torch.full((4,), 0.25), atol=0.08, rtol=0)
    steps = cropped.diff(dim=1)
    assert (
        (steps - 1).abs() < 1e-2
    ).float().mean() > 0.99  # its samples follow each other, but where the clip ends


@pytest.mark.parametrize(("rate", "found_hz"), [(1.25, 1000), (0.75, 600), (2.0, 1600), (1.0, 800)])
def test_a_tone_moves_by_the_drawn_ratio(rate, found_hz):
    x = torch.from_numpy(tone(800, RATE, 1.0))[None]
    played = perturb.play(x, column(0.0), column(rate))[0]
    assert torch.fft.rfft(played).abs().argmax().item() == found_hz  # one second: bin = Hz


def test_each_clip_is_played_at_its_own_rate():
    x = torch.from_numpy(tone(800, RATE, 1.0))[None].repeat(2, 1)
    played = perturb.play(x, column(0.0, 0.0), column(1.25, 0.75))
    assert torch.fft.rfft(played).abs().argmax(1).tolist() == [1000, 600]


def test_the_drawn_gain_is_in_decibels(monkeypatch):
    always_highest(monkeypatch)
    x = torch.randn(2, 64, generator=generator())
    torch.testing.assert_close(altered(x, gain_db=20.0), 10 * x)


def test_polarity_turns_about_every_other_clip_upside_down_and_changes_nothing_else():
    x = torch.randn(400, 16, generator=generator())
    found = altered(x, polarity=True)
    turned = (found == -x).all(dim=1)
    assert torch.equal(found[~turned], x[~turned])
    assert turned.float().mean().item() == pytest.approx(0.5, abs=0.08)


# --- noise -------------------------------------------------------------------------------------


@law
@given(st.integers(0, 2), st.floats(0, 0.999), st.floats(0.001, 1), st.integers(50, 4000))
def test_noise_is_as_loud_as_drawn_relative_to_its_clip(colour, first, relative, n):
    x = torch.from_numpy(np.stack([tone(440, seconds=n / RATE), 0.1 * tone(440, seconds=n / RATE)]))
    added = (
        perturb.add_noise(x, torch.tensor([[(colour + 0.5) / 3, first, relative]]).repeat(2, 1)) - x
    )
    torch.testing.assert_close(level(added), relative * level(x), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("number", "slope_db"), [(0, 0.0), (1, -3.01), (2, -6.02)])
def test_noise_falls_by_0_3_or_6_db_per_octave(number, slope_db):
    power = (
        torch.fft.rfft(perturb.noise_bank(2**16, torch.device("cpu"), torch.float32)[number])
        .abs()
        .square()
    )
    octaves = [power[2**k : 2 ** (k + 1)].mean().log10().item() * 10 for k in range(8, 15)]
    assert np.polyfit(range(7), octaves, 1)[0] == pytest.approx(slope_db, abs=0.25)


def test_every_colour_and_beginning_is_drawn_and_levels_lie_within_20_db(monkeypatch):
    monkeypatch.setattr(perturb, "NOISE_SHARE", 1.0)
    noise_drawn = drawn(600, noise_db=30.0).noise
    assert torch.bincount((noise_drawn[:, 0] * 3).long(), minlength=3).min() > 150
    below_db = -20 * noise_drawn[:, 2].log10()
    assert below_db.min() >= 30 - 1e-3 and below_db.max() <= 50 + 1e-3


def test_a_share_of_the_clips_gets_noise_and_the_others_are_left_alone(monkeypatch):
    monkeypatch.setattr(perturb, "NOISE_SHARE", 0.3)
    x = torch.randn(600, 64, generator=generator())
    same = (altered(x, noise_db=20.0) == x).all(dim=1)
    assert same.float().mean().item() == pytest.approx(0.7, abs=0.06)


def test_noise_added_to_silence_is_silence(monkeypatch):
    monkeypatch.setattr(perturb, "NOISE_SHARE", 1.0)
    assert torch.equal(altered(torch.zeros(3, 100), noise_db=0.0), torch.zeros(3, 100))


# --- mixing ------------------------------------------------------------------------------------


def test_mixup_is_the_formula():
    x, y = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    mixed_x, mixed_y = perturb.mixup(x, y, torch.tensor([1, 0]), column(0.75, 0.5))
    torch.testing.assert_close(mixed_x, torch.tensor([[1.5, 2.75], [2.0, 3.5]]))
    torch.testing.assert_close(mixed_y, torch.tensor([[0.75, 0.25], [0.5, 0.5]]))


@law
@given(seeds, st.integers(1, 9), st.integers(2, 6), st.floats(0.01, 5), st.floats(0, 0.9))
def test_mixed_and_smoothed_labels_stay_distributions(seed, batch, n_classes, alpha, smoothing):
    labels = torch.randint(n_classes, (batch,), generator=generator(seed))
    smoothed = perturb.smooth(torch.eye(n_classes)[labels], smoothing)
    x = torch.randn(batch, 2, 3, 4, generator=generator(seed))
    before = x.clone(), smoothed.clone()
    mixed_x, mixed_y = perturb.mixup(
        x,
        smoothed,
        *perturb.draw_mix(batch, Train(mix="mixup", mixup_alpha=alpha), generator(seed)),
    )
    assert (
        mixed_x.shape == x.shape and torch.equal(x, before[0]) and torch.equal(smoothed, before[1])
    )
    for rows in (smoothed, mixed_y):
        assert (rows >= 0).all()
        torch.testing.assert_close(rows.sum(1), torch.ones(batch))
    assert torch.equal(smoothed.argmax(1), labels)


@law
@given(seeds, st.integers(1, 9), st.integers(1, 6), st.floats(0, 0.9))
def test_with_several_labels_each_class_is_smoothed_towards_a_half_for_itself(
    seed, batch, n_classes, smoothing
):
    targets = torch.randint(2, (batch, n_classes), generator=generator(seed)).float()
    before = targets.clone()
    smoothed = perturb.smooth(targets, smoothing, multilabel=True)
    torch.testing.assert_close(smoothed - 0.5, (1 - smoothing) * (targets - 0.5))
    assert torch.equal(targets, before)


@mixes
@pytest.mark.parametrize(
    "y", [torch.tensor([0, 1]), torch.tensor([0.0, 1.0]), torch.tensor([[1, 0], [0, 1]])]
)
def test_mixing_refuses_labels_that_are_not_distributions(mix, y):
    with pytest.raises(ValueError, match="one-hot"):
        mix(torch.zeros(2, 3), y, torch.tensor([1, 0]), torch.ones(2, 1))


@mixes
def test_a_whole_weight_keeps_the_clip_and_none_the_partner(mix):
    x, y = (
        torch.from_numpy(np.stack([noise(4000), 0.01 * noise(4000, 1), noise(4000, 2)])),
        torch.eye(3),
    )
    partner = torch.tensor([2, 0, 1])
    for weight, expected in ((1.0, torch.arange(3)), (0.0, partner)):
        mixed_x, mixed_y = mix(x, y, partner, torch.full((3, 1), weight))
        assert torch.equal(mixed_x, x[expected]) and torch.equal(mixed_y, y[expected])


@law
@given(seeds, st.floats(0, 1), st.floats(-40, 40))
def test_between_class_labels_are_the_weights_however_loud_the_clips_are(seed, weight, gain_db):
    x = torch.randn(2, 500, generator=generator(seed)) * column(1.0, 10 ** (gain_db / 20))
    before = x.clone()
    mixed, wanted = perturb.between_class(
        x, torch.eye(2), torch.tensor([1, 0]), column(weight, weight)
    )
    torch.testing.assert_close(wanted, torch.tensor([[weight, 1 - weight], [1 - weight, weight]]))
    assert mixed.isfinite().all() and torch.equal(x, before)


@law
@given(st.floats(0, 1))
def test_between_class_mixing_keeps_the_energy_of_uncorrelated_clips_of_one_loudness(weight):
    x = torch.from_numpy(
        np.stack([tone(400), tone(1000)])
    )  # whole periods in each of 50 parts: equally loud
    mixed, _ = perturb.between_class(x, torch.eye(2), torch.tensor([1, 0]), column(weight, weight))
    torch.testing.assert_close(level(mixed), level(x), rtol=1e-3, atol=0)


def test_a_quiet_clip_mixed_half_and_half_with_a_loud_one_is_raised_to_its_loudness():
    """Levels 0.8 and 0.1: p = 1 / (1 + 8) = 1/9 of the loud one, 8/9 of the quiet; divided by
    sqrt(65) / 9.
    """
    x = torch.zeros(2, 100)
    x[0, ::2], x[1, 1::2] = 0.8, 0.1  # never at the same time
    mixed, wanted = perturb.between_class(x, torch.eye(2), torch.tensor([1, 0]), column(0.5, 0.5))
    equal = 0.8 / math.sqrt(65)
    torch.testing.assert_close(mixed, torch.full((2, 100), equal))
    torch.testing.assert_close(wanted, torch.full((2, 2), 0.5))


@law
@given(st.floats(0.01, 0.99), st.floats(-30, 30))
def test_the_heard_levels_stand_to_each_other_as_the_weights(weight, gain_db):
    gain = 10 ** (gain_db / 20)
    x = torch.from_numpy(np.stack([tone(400), np.float32(gain) * tone(1000)]))
    mixed = perturb.between_class(x, torch.eye(2), torch.tensor([1, 0]), column(weight, weight))[0][
        0
    ]
    spectrum = torch.fft.rfft(mixed).abs()  # half a second: bin = 2 Hz
    assert (spectrum[200] / spectrum[500]).item() == pytest.approx(weight / (1 - weight), rel=1e-2)


def test_a_clip_is_as_loud_as_its_loudest_fiftieth():
    x = torch.zeros(2, 5000)
    x[0, 1300:1400], x[1] = 0.5, 0.25
    torch.testing.assert_close(perturb.loudness(x), column(0.5, 0.25))


@pytest.mark.parametrize("n", [1, 49, 51, 120])
def test_clips_of_any_length_have_a_loudness(n):
    torch.testing.assert_close(perturb.loudness(torch.full((2, n), 0.3)), column(0.3, 0.3))


def test_mixing_with_silence_stays_finite():
    x = torch.stack([torch.zeros(4000), torch.from_numpy(tone(440))])
    for weight in (0.0, 0.3, 1.0):
        mixed, _ = perturb.between_class(
            x, torch.eye(2), torch.tensor([1, 0]), column(weight, weight)
        )
        assert mixed.isfinite().all() and mixed.abs().max() <= 0.51
    silent, _ = perturb.between_class(0 * x, torch.eye(2), torch.tensor([1, 0]), column(0.5, 0.5))
    assert torch.equal(silent, torch.zeros_like(x))


# --- on spectrograms ---------------------------------------------------------------------------


@law
@given(seeds, st.integers(1, 3), st.integers(2, 64), st.integers(1, 9))
def test_bands_filtered_by_0_db_are_themselves(seed, batch, mels, frames):
    bands = torch.randn(batch, mels, frames, generator=generator(seed)) * 20
    assert torch.equal(perturb.filter_bands(bands, torch.zeros(batch, perturb.NODES)), bands)


@law
@given(seeds, st.integers(1, 4), st.integers(2, 128), st.floats(0.1, 12))
def test_filtering_stays_within_the_drawn_gains_and_is_alike_in_all_frames(
    seed, batch, mels, filter_db
):
    bands = torch.randn(batch, mels, 5, generator=generator(seed))
    before, bands_db = bands.clone(), drawn(batch, seed, filter_db=filter_db).bands_db
    curve = perturb.filter_bands(bands, bands_db) - bands
    assert torch.equal(bands, before) and bands_db.abs().max() <= filter_db
    low, high = bands_db.amin(dim=1)[:, None, None], bands_db.amax(dim=1)[:, None, None]
    assert (curve >= low - 1e-4).all() and (curve <= high + 1e-4).all()
    torch.testing.assert_close(curve, curve[:, :, :1].expand_as(curve), rtol=0, atol=1e-4)


def test_the_filters_curve_is_linear_between_its_nodes():
    nodes = torch.tensor([[0.0, 6, -6, 3, 0, 1]])
    curve = perturb.filter_bands(torch.zeros(1, 51, 2), nodes)[0, :, 0]
    expected = np.interp(np.arange(51), np.arange(0, 51, 10), nodes[0])
    np.testing.assert_allclose(curve, expected, atol=1e-5)


@law
@given(seeds, st.integers(1, 4), st.floats(0.01, 0.9), st.integers(1, 40), st.integers(1, 40))
def test_masks_blank_at_most_their_share_of_each_axis(seed, masks, fraction, n_mels, n_frames):
    x = torch.ones(3, 1, n_mels, n_frames)
    masked = perturb.mask(x, drawn(3, seed, masks=masks, mask_fraction=fraction).masks)
    assert masked.shape == x.shape and (x == 1).all() and ((masked == 0) | (masked == 1)).all()
    for clip in masked[:, 0]:
        kept_bands, kept_frames = clip.amax(1).sum(), clip.amax(0).sum()
        if kept_bands and kept_frames:
            assert n_mels - kept_bands <= masks * math.ceil(fraction * n_mels)
            assert n_frames - kept_frames <= masks * math.ceil(fraction * n_frames)
            assert (
                clip.sum() == kept_bands * kept_frames
            )  # whole bands and whole frames, nothing else


def test_masks_of_no_width_change_nothing_and_wide_ones_something():
    x = torch.randn(2, 1, 16, 30, generator=generator())
    narrow = torch.rand(2, 2, 2, 2, generator=generator()) * torch.tensor([1.0, 0.0])
    assert torch.equal(perturb.mask(x, narrow), x)
    assert not torch.equal(perturb.mask(x, drawn(2, masks=2, mask_fraction=0.5).masks), x)


def test_a_mask_covers_the_share_that_it_says():
    masks = torch.tensor(
        [[[[0.25, 0.5]], [[0.0, 0.1]]]]
    )  # bands 4 to 11 of 16, frames 0 and 1 of 20
    kept = perturb.mask(torch.ones(1, 1, 16, 20), masks)[0, 0]
    expected = torch.ones(16, 20)
    expected[4:12], expected[:, :2] = 0, 0
    assert torch.equal(kept, expected)


@law
@given(seeds, st.integers(2, 5))
def test_what_is_done_to_a_clip_does_not_depend_on_its_company(seed, batch):
    x = torch.randn(batch, 300, generator=generator(seed))
    draws = drawn(batch, seed, shift=1.0, speed=0.2, gain_db=6.0, noise_db=20.0)
    found, _ = perturb.alter(x, torch.eye(batch), draws, Train(**QUIET))
    for k in range(batch):
        alone = perturb.Draws(*(None if d is None else d[k : k + 1] for d in draws))
        again, _ = perturb.alter(x[k : k + 1], torch.eye(1), alone, Train(**QUIET))
        torch.testing.assert_close(again[0], found[k])
