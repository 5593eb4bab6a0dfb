"""The same sound is found under another name, at its offset; what only resembles it is not."""

import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from signals import encoded, encoded_av, noise, recordings_table, tone, write_wav

from helpers.audio import recording
from helpers.base import artifacts
from helpers.demo import dataset
from helpers.splits import duplicates
from helpers.splits.duplicates import compare, fingerprint

RATE = 16000


def weather(seed, seconds=4.0):
    """Coloured noise that swells and sinks: no two seeds alike, nothing in it repeats."""
    rng = np.random.default_rng(seed)
    sound = np.convolve(rng.standard_normal(round(seconds * RATE)), rng.standard_normal(12), "same")
    knots = rng.uniform(0.1, 1, round(4 * seconds) + 2)  # four a second
    swell = np.interp(4 * np.arange(len(sound)) / RATE, np.arange(len(knots)), knots)
    return (0.3 * swell * sound / np.abs(sound).max()).astype(np.float32)


def ticks(seed, seconds=4.0, period_seconds=0.25, noise_rms=0.001):
    """One clock, heard twice: every tick is alike, only the noise is another."""
    time = np.arange(RATE // 4) / RATE
    tick = np.sin(2 * np.pi * 1500 * time) * np.exp(-time / 0.03)
    beats = np.zeros(round(seconds * RATE))
    beats[1000 + 300 * seed :: round(period_seconds * RATE)] = 0.5
    return (
        np.convolve(beats, tick)[: len(beats)] + noise(seconds, rms=noise_rms, seed=seed)
    ).astype(np.float32)


def siren(seed, seconds=4.0):
    """One siren, heard twice: it wails alike from another moment on, and the noise is another."""
    time = np.arange(round(seconds * RATE)) / RATE + 0.37 * seed
    phase = 2 * np.pi * np.cumsum(1000 * 2 ** (0.4 * np.sin(2 * np.pi * 1.5 * time))) / RATE
    wail = 0.2 * sum(np.sin(k * phase) / k for k in (1, 2, 3))
    return (wail + noise(seconds, rms=0.003, seed=seed)).astype(np.float32)


# --- two sounds --------------------------------------------------------------------------------

COPIES = {
    "the same": (lambda x: x, 0.0),
    "-12 dB": (lambda x: 0.25 * x, 0.0),
    "inverted": (lambda x: -x, 0.0),
    "6 dB over full scale": (lambda x: np.clip(2 * x / np.abs(x).max(), -1, 1), 0.0),
    "8 bit": (lambda x: np.round(x * 127) / 127, 0.0),
    "noise 30 dB below": (lambda x: x + noise(4, rms=np.sqrt(np.mean(x**2)) * 10**-1.5), 0.0),
    "another offset": (lambda x: x + 0.2, 0.0),
    "start cut off": (lambda x: x[round(0.7 * RATE) :], 0.7),
    "silence before": (lambda x: np.pad(x, (round(0.7 * RATE), 0)), -0.7),
    "by a fraction of a sample": (lambda x: x[RATE // 2 + 1 :], 0.5 + 1 / RATE),
    "excerpt": (lambda x: x[RATE : 3 * RATE], 1.0),
    "half a second": (lambda x: x[2 * RATE : 2 * RATE + RATE // 2], 2.0),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_found_where_it_lies(kind):
    copied, offset = COPIES[kind]
    for seed in range(3):
        original = weather(seed)
        match = compare(
            fingerprint(original, RATE), fingerprint(copied(original).astype(np.float32), RATE)
        )
        assert match.offset_seconds == pytest.approx(offset, abs=2e-4)
        assert match.correlation > 0.8
        assert match.overlap_seconds <= len(copied(original)) / RATE + 1e-3


def test_the_other_way_round_the_offset_changes_its_sign():
    original, late = (fingerprint(sound, RATE) for sound in (weather(1), weather(1)[12345:]))
    there, back = compare(original, late), compare(late, original)
    assert there.offset_seconds == pytest.approx(12345 / RATE, abs=2e-4)
    assert back.offset_seconds == pytest.approx(-12345 / RATE, abs=2e-4)
    assert back.correlation == pytest.approx(there.correlation, abs=0.01)


@pytest.mark.parametrize("sample_rate", [8000, 11025, 22050, 44100, 48000])
def test_another_sample_rate_is_the_same_sound(sample_rate):
    other = fingerprint(recording.resample(weather(2), RATE, sample_rate), sample_rate)
    match = compare(fingerprint(weather(2), RATE), other)
    assert match.offset_seconds == pytest.approx(0, abs=2e-4)
    assert match.correlation > 0.98


def test_two_excerpts_overlap_where_they_were_cut():
    whole = weather(3, seconds=8)
    one, other = (fingerprint(whole[start * RATE : (start + 4) * RATE], RATE) for start in (1, 3))
    match = compare(one, other)
    assert match.offset_seconds == pytest.approx(2, abs=2e-4)
    assert match.overlap_seconds == pytest.approx(2, abs=0.15)


def test_only_the_stretch_that_both_hold_counts():
    other = weather(6)
    other[RATE : 3 * RATE] = weather(5)[RATE : 3 * RATE]
    match = compare(fingerprint(weather(5), RATE), fingerprint(other, RATE))
    assert (match.offset_seconds, match.overlap_seconds) == (
        pytest.approx(0, abs=2e-4),
        pytest.approx(2, abs=0.2),
    )
    other[round(1.6 * RATE) : 3 * RATE] = weather(6)[
        round(1.6 * RATE) : 3 * RATE
    ]  # 0.6 s are left: too short a stretch
    assert compare(fingerprint(weather(5), RATE), fingerprint(other, RATE)) is None


def test_a_long_recording_is_searched_in_blocks_as_one():
    whole = weather(7, seconds=150)
    match = compare(fingerprint(whole, RATE), fingerprint(0.5 * whole[40 * RATE :], RATE))
    assert match.offset_seconds == pytest.approx(40, abs=2e-4)
    assert match.overlap_seconds == pytest.approx(110, abs=0.2)


def test_other_sounds_of_the_same_kind_are_no_copies():
    prints = [fingerprint(weather(seed), RATE) for seed in range(30)]
    assert not [pair for pair in combinations(prints, 2) if compare(*pair)]


def test_a_sound_below_two_others_makes_no_copies_of_them():
    one, other = (0.7 * weather(8) + weather(seed) for seed in (9, 10))
    assert compare(fingerprint(one, RATE), fingerprint(other, RATE)) is None


@pytest.mark.parametrize(
    "pair",
    [
        [tone(440, 4), 0.5 * np.roll(tone(440, 4), 13)],
        [tone(440, 4) + noise(4, rms=0.01, seed=seed) for seed in (0, 1)],
        [ticks(0), ticks(1)],
        [ticks(seed, period_seconds=0.5, noise_rms=0.01) for seed in (2, 3)],
        [siren(0), siren(1)],
        [tone(100, 4) + tone(200, 4) + noise(4, rms=0.1, seed=seed) for seed in (0, 1)],
    ],
    ids=["pure tones", "noisy tones", "a clean clock", "a noisy clock", "a siren", "hum"],
)
def test_what_repeats_itself_is_no_proof(pair):
    assert compare(*(fingerprint(np.asarray(sound, np.float32), RATE) for sound in pair)) is None


def test_a_click_that_two_silences_share_is_no_sound():
    one, other = np.zeros((2, 4 * RATE), np.float32)
    one[20000:22000] = other[30000:32000] = noise(2000 / RATE)
    assert compare(fingerprint(one, RATE), fingerprint(other, RATE)) is None


def test_a_clock_is_told_from_its_copy_by_what_lies_between_the_ticks():
    original = ticks(0)
    match = compare(fingerprint(original, RATE), fingerprint(0.5 * original[5000:], RATE))
    assert match.offset_seconds == pytest.approx(5000 / RATE, abs=2e-4)


def test_a_loop_is_found_but_no_other_loop():
    loops = [np.tile(weather(seed, seconds=1.5), 3) for seed in (0, 1)]
    noisy = loops[0] + noise(4.5, rms=0.001)
    assert compare(fingerprint(loops[0], RATE), fingerprint(noisy, RATE)) is not None
    assert compare(fingerprint(loops[0], RATE), fingerprint(loops[1], RATE)) is None


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(0),
        np.zeros(1),
        np.zeros(4 * RATE),
        np.full(4 * RATE, 0.5),
        1e-6 * np.ones(7),
        noise(0.03),
        np.eye(1, 4 * RATE, 9000)[0],
        noise(4, rms=1e-6),
    ],
    ids=[
        "nothing",
        "a sample",
        "silence",
        "constant",
        "seven samples",
        "30 ms",
        "a click",
        "below 16 bits",
    ],
)
def test_what_holds_nothing_matches_nothing(sound):
    print_ = fingerprint(sound.astype(np.float32), RATE)
    assert print_.whitened.dtype == np.int8
    assert len(print_.whitened) == pytest.approx(len(sound) / 2, abs=1)
    assert compare(print_, print_) is None
    assert compare(print_, fingerprint(weather(0), RATE)) is None


# --- many sounds -------------------------------------------------------------------------------


def test_many_copies_of_one_sound_are_compared_with_a_few_and_still_hang_together():
    copies = [fingerprint(weather(0), RATE)] * 100
    pairs = duplicates.candidates(copies)
    assert len(pairs) <= 16 * 100  # not 100 * 99 / 2
    one, other = np.array(list(pairs)).T
    assert (
        connected_components(coo_array((np.ones(len(one)), (one, other)), shape=(100, 100)))[0] == 1
    )


def test_votes_counted_in_parts_are_the_same_votes(monkeypatch):
    prints = [
        fingerprint(part, RATE)
        for seed in range(6)
        for part in (weather(seed), weather(seed)[RATE // 2 :])
    ]
    whole = duplicates.candidates(prints)
    monkeypatch.setattr(duplicates, "COUNTED", 1000)
    assert duplicates.candidates(prints) == whole
    assert {(number, number + 1) for number in range(0, 12, 2)} <= set(whole)


# --- files -------------------------------------------------------------------------------------


def surveyed(root, names, **columns):
    """The surveyed table of files below a folder, their names as ids."""
    table = recordings_table(*({"recording_id": name, "path": name} for name in names))
    return recording.survey(root, table.assign(pcm_sha256=""))


def found(pairs):
    return set(zip(pairs["recording_id"], pairs["other_id"], strict=True))


FILES = {
    "b.mp3": lambda: encoded(weather(0), RATE, "MP3"),
    "c.ogg": lambda: encoded(weather(0), RATE, "OGG"),
    "d.opus": lambda: encoded(weather(0), RATE, "OGG", "OPUS"),
    "e.m4a": lambda: encoded_av(weather(0), RATE),
    "f.flac": lambda: encoded(
        np.stack([weather(0), 0.5 * weather(0)], axis=1), RATE, "FLAC", "PCM_24"
    ),
}


def test_files_of_every_format_are_paired_and_unreadable_ones_are_not(tmp_path):
    write_wav(tmp_path / "a.wav", weather(0))
    write_wav(tmp_path / "other.wav", weather(1))
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content())
    (tmp_path / "broken.wav").write_bytes(b"RIFF....WAVE")
    names = ["a.wav", *FILES, "broken.wav", "other.wav", "missing.wav"]
    table = recordings_table(*({"recording_id": name, "path": name} for name in names))
    pairs = duplicates.find(tmp_path, table)
    assert found(pairs) == {(one, other) for one in names[:6] for other in names[:6] if one < other}
    assert (
        pairs["offset_seconds"].abs().max() < 0.1
    )  # coders may put some milliseconds before the sound
    assert pairs["correlation"].between(0.7, 1).all()
    pd.testing.assert_frame_equal(duplicates.find(tmp_path, table), pairs)


def test_equal_samples_are_paired_without_being_compared(tmp_path):
    for name in ("a.wav", "b.wav", "c.wav"):
        write_wav(tmp_path / name, weather(0))
    write_wav(tmp_path / "d.wav", 0.3 * weather(0))
    pairs = duplicates.find(tmp_path, surveyed(tmp_path, ["a.wav", "b.wav", "c.wav", "d.wav"]))
    assert found(pairs) == {("a.wav", "b.wav"), ("a.wav", "c.wav"), ("a.wav", "d.wav")}
    exact = pairs[pairs["other_id"].ne("d.wav")]
    assert exact["offset_seconds"].eq(0).all()
    assert exact["overlap_seconds"].eq(4).all()
    assert exact["correlation"].eq(1).all()


def test_only_usable_recordings_are_looked_at_and_one_or_none_make_no_pair(tmp_path):
    for name in ("a.wav", "b.wav"):
        write_wav(tmp_path / name, weather(0))
    rows = [
        {"recording_id": "a", "path": "a.wav"},
        {"recording_id": "b", "path": "b.wav", "status": "quarantined"},
    ]
    for table in (recordings_table(*rows), recordings_table(*rows).iloc[:0]):
        pairs = duplicates.find(tmp_path, table)
        assert pairs.empty
        expected = {
            name: pd.Series(dtype=kind).dtype for name, kind in duplicates.COLUMNS.items()
        }  # str: pandas 3's
        assert pairs.dtypes.to_dict() == expected
    used = duplicates.find(tmp_path, recordings_table(rows[0], rows[1] | {"status": "used"}))
    assert found(used) == {("a", "b")}


def test_longer_recordings_than_allowed_are_left_out(tmp_path):
    for name in ("a.wav", "b.wav"):
        write_wav(tmp_path / name, weather(0))
    table = recordings_table({"path": "a.wav"}, {"path": "b.wav"})
    assert len(duplicates.find(tmp_path, table, max_seconds=4)) == 1
    assert duplicates.find(tmp_path, table, max_seconds=3).empty


def test_of_the_demo_only_what_was_planted_is_found(tmp_path):
    dataset.ensure(tmp_path / "demo", tmp_path / "key.csv", seed=3, n_train=40, n_test=10)
    originals = artifacts.read_json(dataset.marker_path(tmp_path / "key.csv"))["originals"]
    names = sorted(
        path.relative_to(tmp_path / "demo").as_posix() for path in (tmp_path / "demo").rglob("*.*")
    )
    pairs = duplicates.find(tmp_path / "demo", surveyed(tmp_path / "demo", names))
    assert {frozenset(pair) for pair in found(pairs)} == {
        frozenset(pair) for pair in originals.items()
    }


# --- real recordings ---------------------------------------------------------------------------

ESC10 = Path(os.environ.get("ESC10", artifacts.REPOSITORY.parent / "shared" / "data" / "ESC-10"))


PLANTED = {
    "mp3": lambda x, rate: encoded(x, rate, "MP3"),
    "ogg": lambda x, rate: encoded(x, rate, "OGG"),
    "rate": lambda x, rate: encoded(recording.resample(x, rate, 22050), 22050),
    "quiet": lambda x, rate: encoded(0.25 * x, rate),
    "cut": lambda x, rate: encoded(x[round(0.7 * rate) :], rate),
    "late": lambda x, rate: encoded(np.pad(x, (round(0.7 * rate), 0)), rate),
    "excerpt": lambda x, rate: encoded(x[len(x) // 5 : len(x) * 4 // 5], rate),
    "twice": lambda x, rate: encoded(
        recording.resample(-x[round(0.7 * rate) :], rate, 11025), 11025, "OGG"
    ),
}


@pytest.mark.skipif(not ESC10.is_dir(), reason="ESC-10 is not there (set ESC10 to its folder)")
def test_copies_of_real_recordings_are_found_and_nothing_else(tmp_path):
    originals = sorted(ESC10.rglob("*.ogg"))[::5]
    names, wanted = [str(path) for path in originals], set()
    for number, path in enumerate(originals):
        kind = list(PLANTED)[number % len(PLANTED)]
        sound, rate = soundfile.read(path, dtype="float32")
        name = f"{path.stem}-{kind}.{kind if kind in ('mp3', 'ogg') else 'wav'}"
        (tmp_path / name).write_bytes(PLANTED[kind](sound, rate))
        names.append(name)
        if (
            recording.level_db(recording.load(tmp_path / name, 8000)) > -60
        ):  # else it was cut from digital silence
            wanted.add((str(path), name))
    assert len(wanted) > 70
    pairs = found(
        duplicates.find(
            tmp_path, recordings_table(*({"recording_id": n, "path": n} for n in names))
        )
    )
    assert len(pairs & wanted) >= 0.95 * len(wanted)
    assert {
        pair for pair in pairs if Path(pair[0]).stem != Path(pair[1]).stem.rpartition("-")[0]
    } == set()


def test_unlabelled_recordings_are_compared_with_all_labelled_ones_part_by_part(
    tmp_path, monkeypatch
):
    labelled = {"a.wav": weather(0), "b.wav": 0.5 * weather(0), "c.wav": weather(1)}
    field = {"u.wav": weather(2), "v.wav": 0.7 * weather(1), "w.wav": weather(3)}
    field["x.wav"] = 0.9 * weather(0)
    for name, sound in {**labelled, **field}.items():
        write_wav(tmp_path / name, sound)
    table = surveyed(tmp_path, [*labelled, *field])
    table["split"] = ["train"] * 3 + ["unlabelled"] * 4
    whole = duplicates.find(tmp_path, table)
    assert {("a.wav", "b.wav"), ("c.wav", "v.wav"), ("a.wav", "x.wav")} <= found(whole)
    monkeypatch.setattr(duplicates, "PART", 1)  # as many as there are labelled: two parts
    pd.testing.assert_frame_equal(duplicates.find(tmp_path, table), whole)
