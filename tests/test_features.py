"""Features: the front end agrees with librosa, nothing is lost in packing, and validation finds
what is broken.
"""

import threading

import librosa
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import noise, small_config, tone, tone_clips

from helpers.audio import features, recording
from helpers.base import errors, work

law = settings(deadline=None, max_examples=40, derandomize=True)
FRONT_ENDS = [  # sample_rate, n_fft, hop_length, n_mels, f_min, f_max
    (16000, 1024, 320, 128, 20.0, None),
    (16000, 512, 160, 40, 0.0, None),
    (22050, 2048, 512, 128, 0.0, 8000.0),
    (44100, 2048, 441, 64, 50.0, 16000.0),
    (8000, 256, 100, 20, 300.0, 3400.0),
    (11025, 1024, 320, 64, 0.0, None),  # half of it is no whole number
]


# --- LogMel ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample_rate, n_fft, hop_length, n_mels, f_min, f_max", FRONT_ENDS)
def test_log_mel_agrees_with_librosa(sample_rate, n_fft, hop_length, n_mels, f_min, f_max):
    waveform = noise(sample_rate) + tone(1000, sample_rate, 1.0)
    ours = features.LogMel(sample_rate, n_fft, hop_length, n_mels, f_min, f_max)(
        torch.from_numpy(waveform)[None]
    )[0]
    power = librosa.feature.melspectrogram(
        y=waveform,
        sr=sample_rate,
        n_fft=n_fft,
        hop_length=hop_length,
        n_mels=n_mels,
        fmin=f_min,
        fmax=f_max,
    )
    theirs = librosa.power_to_db(power, top_db=None)
    np.testing.assert_allclose(
        10 ** (ours.double().numpy() / 10), 10 ** (np.float64(theirs) / 10), rtol=1e-5
    )


def test_a_saved_network_holds_no_buffer_of_its_front_end():
    assert not features.LogMel(8000, 256, 128, 16).state_dict()


def test_too_many_bands_are_refused():
    with pytest.raises(ValueError, match="fewer bands or a longer n_fft"):
        features.LogMel(16000, n_fft=256, n_mels=128)


@law
@given(
    st.integers(0, 2**31),
    st.integers(1, 4),
    st.integers(1, 3000),
    st.sampled_from([0.0, 1e-6, 1.0]),
)
def test_log_mel_is_finite_and_a_batch_equals_its_clips(seed, batch, n_samples, level):
    front_end = features.LogMel(8000, 256, 128, 16)
    waveforms = level * torch.rand(batch, n_samples, generator=torch.Generator().manual_seed(seed))
    whole = front_end(waveforms)
    assert whole.shape == (batch, 16, 1 + n_samples // 128) and whole.isfinite().all()
    singles = torch.cat([front_end(waveform[None]) for waveform in waveforms])
    torch.testing.assert_close(whole, singles, rtol=1e-4, atol=1e-3)


def test_silence_is_the_floor_whatever_else_is_in_the_batch():
    mel = features.LogMel(8000, 256, 128, 16)(
        torch.stack([torch.zeros(4000), torch.from_numpy(tone(440))])
    )
    assert (mel[0] == -100).all() and mel[1].max() > 0


@law
@given(st.floats(-40, 0))
def test_a_gain_in_decibels_is_an_offset_of_the_log_mel(gain_db):
    waveform, front_end = torch.from_numpy(noise(4000))[None], features.LogMel(8000, 256, 128, 16)
    shifted = front_end(waveform * 10 ** (gain_db / 20)) - front_end(waveform)
    torch.testing.assert_close(shifted, torch.full_like(shifted, gain_db), rtol=0, atol=1e-2)


@pytest.mark.parametrize("sound", [np.zeros(4000, np.float32), tone(440)])
def test_a_finite_gradient_flows_to_the_waveform(sound):
    waveform = torch.from_numpy(sound)[None].requires_grad_()
    features.LogMel(8000, 256, 128, 16)(waveform).sum().backward()
    assert waveform.grad.isfinite().all()
    assert waveform.grad.any() == sound.any()


def test_threads_begun_for_many_clips_compute_alone_and_what_was_set_comes_back():
    before, seen = torch.get_num_threads(), []
    with pytest.raises(RuntimeError, match="stop"), work.cpu_threads(1):
        seen.append(torch.get_num_threads())
        begun = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        begun.start()
        begun.join()
        raise RuntimeError("stop")
    assert seen == [1, 1] and torch.get_num_threads() == before


def test_log_mel_follows_the_config():
    config = small_config(features={"n_mels": 12, "hop_length": 200, "f_max": 3000.0})
    expected = features.LogMel(8000, 256, 200, 12, 50.0, 3000.0)
    waveform = torch.from_numpy(noise(4000))[None]
    assert torch.equal(features.log_mel(config)(waveform), expected(waveform))


def test_pcen_agrees_with_librosa_and_batches_with_singles():
    sounds = noise(3 * 8000).reshape(3, -1) * np.linspace(0.001, 1, 8000, dtype=np.float32)
    levels = features.LogMel(8000, 256, 128, 16)(torch.from_numpy(sounds))
    pcen = features.Pcen(128 / 8000)
    energy = 2.0**31 * 10 ** (levels.double().numpy() / 10)
    begun = (1 - pcen.newest) * energy[..., :1]
    theirs = librosa.pcen(energy, sr=8000, hop_length=128, zi=begun)
    np.testing.assert_allclose(pcen(levels).numpy(), theirs, atol=1e-4)
    singles = torch.cat([pcen(one[None]) for one in levels])
    torch.testing.assert_close(singles, pcen(levels), rtol=1e-5, atol=1e-5)


def test_pcen_of_silence_is_finite_and_what_stays_the_same_fades_whatever_its_level():
    pcen = features.Pcen(0.02)
    assert pcen(torch.full((1, 4, 50), features.FLOOR_DB)).isfinite().all()
    loud, soft = (pcen(torch.full((1, 4, 50), level)) for level in (-10.0, -40.0))
    assert loud.std() < 1e-3 and abs(float(loud.mean() - soft.mean())) < 0.15


def test_networks_see_what_the_config_asks_for_each_spectrogram_as_it_is_alone():
    waveforms = torch.from_numpy(noise(8000)).reshape(2, 4000)
    config = small_config(features={"kind": "pcen", "more_n_fft": (512, 1024)})
    both = features.front_end(config)(waveforms)
    assert both.shape == (2, 3 * 16, 32)
    for number, n_fft in enumerate((256, 512, 1024)):
        alone = features.front_end(small_config(features={"kind": "pcen", "n_fft": n_fft}))
        assert torch.equal(both[:, 16 * number : 16 * (number + 1)], alone(waveforms))
    plain = small_config()
    assert torch.equal(features.front_end(plain)(waveforms), features.log_mel(plain)(waveforms))


# --- packed waveforms --------------------------------------------------------------------------


@pytest.fixture
def clip_files(tmp_path):
    """Two clips and a copy as FLAC: (folder, clips, copies, waveforms in the packed order)."""
    extremes = np.tile(np.float32([1, -1, 0, 0.5]), 1000)
    waveforms = [noise(4000, amplitude=0.5), extremes, tone(440)]
    for number, waveform in enumerate(waveforms):
        recording.write(tmp_path / f"{number}.flac", waveform, 8000)
    identity = {"recording_id": "r", "label": "a", "group": "g", "fold": 1}
    clips = pd.DataFrame(
        [{"clip_id": f"c{n}", "path": f"{n}.flac", "split": "train", **identity} for n in range(2)]
    ).assign(start_seconds=1.5, valid_seconds=[0.3, 0.5])
    copies = pd.DataFrame([{"clip_id": "c0-a0", "parent_id": "c0", "path": "2.flac", **identity}])
    return tmp_path, clips, copies, waveforms


def test_packing_loses_at_most_one_step_of_16_bits(clip_files):
    folder, clips, copies, waveforms = clip_files
    features.pack(clips, copies, folder, folder / "packed.npy", small_config())
    packed = np.load(folder / "packed.npy", mmap_mode="r")
    assert packed.dtype == np.int16 and packed.shape == (3, 4000)
    restored = features.unpack(packed)
    assert restored.dtype == np.float32 and np.abs(restored).max() <= 1
    np.testing.assert_allclose(restored, np.stack(waveforms), rtol=0, atol=1 / 32768)


def test_what_is_packed_is_what_the_clips_files_hold_to_the_last_step(clip_files):
    folder, clips, copies, _ = clip_files
    rows = features.pack(clips, copies, folder, folder / "packed.npy", small_config())
    waveforms = features.unpack(np.load(folder / "packed.npy"))
    for path, waveform in zip(rows["path"], waveforms, strict=True):
        np.testing.assert_array_equal(
            waveform, recording.load(folder / path, small_config().audio.sample_rate)
        )


def test_a_clip_that_is_not_there_any_more_is_named(clip_files):
    folder, clips, copies, _ = clip_files
    (folder / clips["path"][1]).unlink()
    with pytest.raises(errors.AudioIssue, match=r"1\.flac.*02_clean"):
        features.pack(clips, copies, folder, folder / "packed.npy", small_config())


def test_packed_rows_name_the_arrays_order_and_the_copies_parents(clip_files):
    folder, clips, copies, _ = clip_files
    rows = features.pack(clips, copies, folder, folder / "packed.npy", small_config())
    assert rows["clip_id"].tolist() == ["c0", "c1", "c0-a0"]
    assert rows["parent_id"].tolist() == ["", "", "c0"] and rows["split"].eq("train").all()
    assert rows["valid_seconds"].tolist() == [0.3, 0.5, 0.3]  # a copy is as long as its parent


def test_unpacking_a_tensor_equals_unpacking_an_array():
    packed = np.arange(-32768, 32768, 97, dtype=np.int16).reshape(4, -1)
    np.testing.assert_array_equal(
        features.unpack(torch.from_numpy(packed)).numpy(), features.unpack(packed)
    )


@law
@given(st.integers(-32768, 32767))
def test_packing_what_was_unpacked_gives_the_same_number(level):
    assert np.round(features.unpack(np.array([level], np.int16)) * 32768) == level


def test_packed_images_unpack_to_0_to_1_as_arrays_and_as_tensors():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    assert features.unpack(levels).dtype == np.float32 and features.unpack(levels).max() == 1
    np.testing.assert_array_equal(np.round(features.unpack(levels) * 255), levels)
    np.testing.assert_array_equal(
        features.unpack(torch.from_numpy(levels)).numpy(), features.unpack(levels)
    )


# --- feature table -----------------------------------------------------------------------------

CLICK = np.eye(1, 4000, 17, dtype=np.float32)[0]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "waveform",
    [np.zeros(4000, np.float32), noise(3), noise(1), CLICK, np.ones(4000, np.float32)],
    ids=str,
)
def test_every_feature_is_finite_even_of_hardly_a_sound(waveform):
    described = features.describe(waveform, small_config())
    assert all(isinstance(value, float) and np.isfinite(value) for value in described.values())


def test_features_measure_what_their_names_say():
    config = small_config()
    low, high = (features.describe(tone(pitch_hz), config) for pitch_hz in (400, 2000))
    hiss = features.describe(noise(4000), config)
    assert low["centroid_mean"] == pytest.approx(400, rel=0.1) and high[
        "centroid_mean"
    ] == pytest.approx(2000, rel=0.1)
    assert low["zero_crossing_rate_mean"] == pytest.approx(2 * 400 / 8000, rel=0.2)
    assert high["rms_mean"] == pytest.approx(0.5 / np.sqrt(2), rel=0.1)
    assert hiss["flatness_mean"] > 100 * high["flatness_mean"]
    assert {name.rpartition("_")[2] for name in low} == {"mean", "std"}


def test_mfccs_agree_with_librosa():
    config, waveform = small_config(features={"n_mels": 40, "n_fft": 1024}), noise(4000)
    power = librosa.feature.melspectrogram(
        y=waveform, sr=8000, n_fft=1024, hop_length=128, n_mels=40, fmin=50.0
    )
    theirs = librosa.feature.mfcc(S=librosa.power_to_db(power, top_db=None), n_mfcc=20).mean(axis=1)
    described = features.describe(waveform, config)
    np.testing.assert_allclose(
        [described[f"mfcc_{i:02d}_mean"] for i in range(1, 21)], theirs, rtol=1e-3, atol=1e-2
    )


@law
@given(
    st.integers(0, 1000),
    st.integers(1, 9000),
    st.integers(1, 700),
    st.sampled_from([0.0, 1e-10, 1.0]),
)
def test_the_zero_crossing_rate_is_librosas(seed, n_samples, hop_length, level):
    waveform = np.float32(level) * np.random.default_rng(seed).integers(-2, 3, n_samples).astype(
        np.float32
    )
    theirs = librosa.feature.zero_crossing_rate(waveform, hop_length=hop_length)[0]
    np.testing.assert_array_equal(features.zero_crossing_rate(waveform, hop_length), theirs)


def test_the_table_describes_each_clip_without_its_padding():
    packed, rows = tone_clips(folds=1, groups_per_fold=1)
    packed[:, 2400:] = 0
    rows = rows.assign(valid_seconds=0.3)
    table = features.feature_table(packed, rows, small_config())
    assert table["clip_id"].tolist() == rows["clip_id"].tolist()
    for number, row in table[features.feature_columns(table)].iterrows():
        alone = features.describe(features.unpack(packed[number][:2400]), small_config())
        np.testing.assert_allclose(row.to_numpy(float), list(alone.values()), rtol=0, atol=1e-6)


# --- validation --------------------------------------------------------------------------------


@pytest.fixture
def written():
    """Everything that validation looks at, in order: packed, rows, table."""
    packed, rows = tone_clips(folds=1, groups_per_fold=1)
    rows.loc[1, "split"] = "test"
    return packed, rows, features.feature_table(packed, rows, small_config())


def faults(found):
    """What validation complains about: the lists that are not empty."""
    return {name: listed for name, listed in found.items() if listed}


def test_nothing_is_wrong_with_what_was_written(written):
    found = features.validate(*written)
    assert faults(found) == {} and set(found) == {
        "silent_waveforms",
        "missing_features",
        "repeated_features",
    }


def silent(packed, rows, table):
    packed[2] = 0


def not_a_number(packed, rows, table):
    table.loc[2, "centroid_mean"] = np.nan


def infinite(packed, rows, table):
    table.loc[2, "rms_std"] = -np.inf


def twin(packed, rows, table):
    columns = features.feature_columns(table)
    table.loc[2, columns] = table.loc[0, columns]


@pytest.mark.parametrize(
    "damage, complaint",
    [
        (silent, "silent_waveforms"),
        (not_a_number, "missing_features"),
        (infinite, "missing_features"),
        (twin, "repeated_features"),
    ],
)
def test_validation_finds_what_is_broken_and_nothing_else(written, damage, complaint):
    damage(*written)
    assert faults(features.validate(*written)) == {complaint: [written[1]["clip_id"][2]]}
