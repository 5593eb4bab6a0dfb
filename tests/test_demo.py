"""The demo set: reproducible, as untidy as it says, and each sound obeying its physics."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers.base import artifacts
from helpers.demo import dataset, synth

N_TRAIN, N_TEST = 40, 12
RATE = 16_000


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small set: its root, its key and what the marker says of it."""
    folder = tmp_path_factory.mktemp("demo")
    root, key = folder / "set", folder / "hidden" / "key.csv"
    dataset.ensure(root, key, seed=3, n_train=N_TRAIN, n_test=N_TEST)
    return root, key, artifacts.read_json(dataset.marker_path(key))


def digests(root):
    return {
        path.relative_to(root).as_posix(): artifacts.file_digest(path)
        for path in root.rglob("*")
        if path.is_file()
    }


def planted(made, kind):
    root, _, marker = made
    [path] = [path for path, found in marker["defects"].items() if found == kind]
    return root / path


def original_of(made, path):
    root, _, marker = made
    return root / marker["originals"][path.relative_to(root).as_posix()]


# --- the set -----------------------------------------------------------------------------------


def test_same_seed_same_bytes_other_seed_other_bytes(made, tmp_path):
    root, key, _ = made
    dataset.ensure(tmp_path / "again", tmp_path / "key.csv", seed=3, n_train=N_TRAIN, n_test=N_TEST)
    dataset.ensure(tmp_path / "other", tmp_path / "other.csv", seed=4, n_train=10, n_test=10)
    assert digests(tmp_path / "again") == digests(root)
    assert (tmp_path / "key.csv").read_bytes() == key.read_bytes()
    shared = set(digests(tmp_path / "other").values()) & set(digests(root).values())
    assert shared <= {
        artifacts.file_digest(planted(made, kind))
        for kind in ("empty", "not_audio", "apple_double")
    }


@pytest.mark.parametrize("encoding", dataset.ENCODINGS)
@pytest.mark.parametrize("sample_rate", dataset.SAMPLE_RATES)
def test_every_encoder_is_deterministic_and_keeps_the_sound(tmp_path, encoding, sample_rate):
    sound = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * sample_rate) / sample_rate)[:, None]
    for name in ("a", "b"):
        dataset.write(tmp_path / name, sound, sample_rate, encoding)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    heard, heard_rate = soundfile.read(tmp_path / "a", always_2d=True)
    assert heard_rate == sample_rate
    assert np.abs(heard).max() == pytest.approx(0.5, rel=0.1)
    assert len(heard) == pytest.approx(len(sound), abs=0.1 * sample_rate)


def test_counts_and_classes_add_up(made):
    root, key, marker = made
    train, test = digests(root / "train"), digests(root / "test")
    assert marker["counts"]["train"] == len(train) == N_TRAIN + len(dataset.DEFECTS) - 1
    assert marker["counts"]["test"] == len(test) == N_TEST + 1
    assert {Path(path).parent.name for path in train} == set(dataset.CLASS_WEIGHTS)
    with open(key, newline="") as file:
        rows = {row["filename"]: row["label"] for row in csv.DictReader(file)}
    assert set(rows) == set(test)
    assert set(rows.values()) == set(dataset.CLASS_WEIGHTS)
    assert planted(made, "undecodable").name in rows
    assert not any(label in name for name in rows for label in dataset.CLASS_WEIGHTS)


def test_largest_class_is_about_four_times_the_smallest():
    for n_recordings, ratio in ((340, 4), (80, 3.5)):  # 80 are too few to be shared out exactly
        counts = dataset.class_counts(n_recordings)
        assert sum(counts.values()) == n_recordings
        assert max(counts.values()) / min(counts.values()) == pytest.approx(ratio, abs=0.5)
    assert min(dataset.class_counts(10).values()) == 1


def test_no_source_is_on_both_sides_and_takes_share_their_recorder():
    train, test, *_ = dataset.plan(seed=0, n_train=340, n_test=80)
    assert not {r.source for r in train} & {r.source for r in test}
    by_source = {}
    for recording in train + test:
        by_source.setdefault(recording.source, []).append(recording)
    assert {len(takes) for takes in by_source.values()} >= {1, 2, 3}
    for takes in by_source.values():
        assert len({(r.label, r.sample_rate, r.n_channels, r.encoding) for r in takes}) == 1
        assert len({(r.take, r.duration_seconds, r.peak_dbfs, r.snr_db) for r in takes}) == len(
            takes
        )
    assert len({r.path for r in train + test}) == 420
    assert {Path(r.path).suffix for r in train} >= {".wav", ".WAV", ".flac", ".ogg", ".mp3"}


def test_every_sound_recording_decodes_finite_unclipped_and_of_its_length(made):
    root, _, marker = made
    for path in digests(root).keys() - marker["defects"].keys():
        sound, sample_rate = soundfile.read(root / path, always_2d=True)
        assert np.isfinite(sound).all()
        assert 1 <= len(sound) / sample_rate <= 12
        assert 0.02 < np.abs(sound).max() < 1


# --- the defects -------------------------------------------------------------------------------


def test_every_kind_of_defect_is_planted_once(made):
    assert sorted(made[2]["defects"].values()) == sorted(dataset.DEFECTS)


def test_unreadable_files(made):
    assert planted(made, "empty").stat().st_size == 0
    assert planted(made, "not_audio").read_text(encoding="utf-8").startswith("Field notes")
    assert planted(made, "apple_double").name.startswith("._")
    for kind in ("empty", "not_audio", "apple_double", "undecodable"):
        with pytest.raises(soundfile.LibsndfileError):
            soundfile.read(planted(made, kind))


def test_truncated_file_holds_less_than_its_header_declares(made):
    data = planted(made, "truncated").read_bytes()
    declared = int.from_bytes(data[4:8], "little") + 8
    assert data[:4] == b"RIFF" and 1000 < len(data) < declared / 2


def test_damaged_sounds(made):
    silent, clipped, shifted, holed = (
        soundfile.read(planted(made, kind), always_2d=True)[0]
        for kind in ("silent", "clipped", "dc_offset", "nan")
    )
    assert not silent.any()
    assert np.mean(np.abs(clipped) > 0.999) > 0.05
    assert shifted.mean() == pytest.approx(0.3, abs=0.02) and np.abs(shifted).max() < 1
    assert 0 < np.isnan(holed).mean() < 0.1


def test_duplicates(made):
    exact, other_label, reencoded = (
        planted(made, kind) for kind in ("exact_duplicate", "two_labels", "reencoded_duplicate")
    )
    for copy, same_class in ((exact, True), (other_label, False), (reencoded, True)):
        original = original_of(made, copy)
        assert (copy.parent == original.parent) is same_class
        assert copy.stem.split("-")[0] != original.stem.split("-")[0]
        assert (copy.read_bytes() == original.read_bytes()) is (copy != reencoded)
    (a, _), (b, _) = (
        soundfile.read(path, always_2d=True) for path in (reencoded, original_of(made, reencoded))
    )
    n_samples = min(len(a), len(b))
    assert np.corrcoef(a[:n_samples, 0], b[:n_samples, 0])[0, 1] > 0.9


# --- making it again, or not -------------------------------------------------------------------


def test_ensure_makes_once_and_again_for_other_settings(tmp_path):
    root, key = tmp_path / "set", tmp_path / "key.csv"
    counts = dataset.ensure(root, key, n_train=10, n_test=10)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert dataset.ensure(root, key, n_train=10, n_test=10) == counts
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == written
    assert dataset.ensure(root, key, n_train=11, n_test=10)["train"] == counts["train"] + 1
    assert not [
        path for path in tmp_path.iterdir() if path not in (root, key, dataset.marker_path(key))
    ]


def test_a_folder_that_it_did_not_make_is_never_replaced(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.wav").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="move it away"):
        dataset.ensure(tmp_path / "set", tmp_path / "key.csv", n_train=10, n_test=10)
    assert (tmp_path / "set" / "mine.wav").read_bytes() == b"precious"


def test_impossible_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 10"):
        dataset.ensure(tmp_path / "set", tmp_path / "key.csv", n_train=9)
    with pytest.raises(ValueError, match="put it outside"):
        dataset.ensure(tmp_path / "set", tmp_path / "set" / "key.csv")


# --- the physics -------------------------------------------------------------------------------


def take(label, seconds=4, **physics):
    rng = np.random.default_rng(1)
    return synth.render(label, synth.draw_source(label, rng) | physics, seconds, RATE, rng)


def level_track(sound, frame=160):
    """Loudness every 10 ms."""
    return np.sqrt(np.mean(sound[: len(sound) // frame * frame].reshape(-1, frame) ** 2, axis=1))


def pulse_hz(sound, lowest_hz, highest_hz):
    """The strongest rhythm of the loudness, between two rates."""
    level = level_track(sound, frame=80)
    strength = np.abs(np.fft.rfft(level - level.mean(), 1 << 16))
    hz = np.fft.rfftfreq(1 << 16, 80 / RATE)
    inside = (hz > lowest_hz) & (hz < highest_hz)
    return hz[inside][np.argmax(strength[inside])]


def peak_track_hz(sound, frame=1024):
    frames = sound[: len(sound) // frame * frame].reshape(-1, frame) * np.hanning(frame)
    return np.argmax(np.abs(np.fft.rfft(frames)), axis=1) * RATE / frame


@pytest.mark.parametrize("label", synth.SOUNDS)
def test_every_sound_is_finite_of_unit_power_and_repeatable(label):
    sound = take(label, seconds=1.3)
    assert sound.shape == (round(1.3 * RATE),)
    assert np.isfinite(sound).all()
    assert np.mean(sound**2) == pytest.approx(1)
    np.testing.assert_array_equal(sound, take(label, seconds=1.3))


def test_siren_sweeps_by_its_depth_and_bell_keeps_its_pitch():
    swept = peak_track_hz(take("siren", centre_hz=1000, depth_octaves=0.5, sweep_hz=0.5))
    assert np.percentile(swept, 95) / np.percentile(swept, 5) == pytest.approx(2, rel=0.1)
    level = level_track(take("bell", strikes_per_second=0.1, ring_seconds=0.4))
    struck = np.argmax(level)
    assert level[struck + 80] < 0.3 * level[struck]


def test_rhythms_are_at_their_rates():
    assert pulse_hz(take("clock_tick", tick_hz=3), 2, 4.5) == pytest.approx(3, rel=0.02)
    assert pulse_hz(take("helicopter", blade_hz=12), 7, 20) == pytest.approx(12, rel=0.05)
    assert pulse_hz(take("footsteps", step_hz=2), 1.2, 3) == pytest.approx(2, rel=0.15)


def test_engine_fires_at_its_rate():
    spectrum = np.abs(np.fft.rfft(take("engine", firing_hz=50, wobble=0, roughness=0)))
    hz = np.fft.rfftfreq(4 * RATE, 1 / RATE)
    on_harmonic = np.abs((hz + 25) % 50 - 25) < 1
    assert np.sum(spectrum[on_harmonic] ** 2) > 0.9 * np.sum(spectrum**2)


def test_wind_swells_where_rain_is_steady():
    slow = {
        label: level_track(take(label, seconds=10), frame=RATE // 4) for label in ("wind", "rain")
    }
    assert np.std(np.log(slow["wind"])) > 2 * np.std(np.log(slow["rain"]))


def test_barks_and_chirps_leave_rests_between_them():
    for label in ("dog_bark", "bird", "clock_tick"):
        level = level_track(take(label))
        assert np.percentile(level, 10) < 0.05 * level.max()


def test_noise_colours_and_room():
    rng = np.random.default_rng(0)
    power = {
        kind: np.abs(np.fft.rfft(synth.noise(kind, 4, RATE, rng))) ** 2
        for kind in ("white", "pink", "brown")
    }
    octaves = {
        kind: 10 * np.log10(p[2000:4000].mean() / p[8000:16000].mean()) for kind, p in power.items()
    }
    assert octaves["white"] == pytest.approx(0, abs=0.5)
    assert octaves["pink"] == pytest.approx(6, abs=0.7)
    assert octaves["brown"] == pytest.approx(12, abs=1)
    with pytest.raises(ValueError, match="one of white"):
        synth.noise("mauve", 1, RATE, rng)
    click = np.zeros(RATE)
    click[0] = 1
    np.testing.assert_array_equal(
        synth.reverberate(click, RATE, rng, rt60_seconds=0.5, wet=0), click
    )
    level = level_track(synth.reverberate(click, RATE, rng, rt60_seconds=0.5, wet=1))
    assert 20 * np.log10(level[:5].mean() / level[25:30].mean()) == pytest.approx(30, abs=5)
