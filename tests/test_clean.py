"""Cutting covers, trimming keeps what is loud, silence stays finite, and no bad recording passes
unnamed.
"""

import noisereduce
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signals import noise, plant, recordings_table, tone, write_wav

from helpers.audio import clean, decoder, recording, windowing
from helpers.base import artifacts, errors
from helpers.base.settings import Audio, Clean, Config, Data
from helpers.data import sources
from helpers.run import presets
from helpers.splits import rules

LAW = settings(deadline=None, derandomize=True, max_examples=60)
RATE = 16000
RULES = Clean()


def still(seconds=1.0, level=0.0):
    return np.full(round(seconds * RATE), level, np.float32)


def click(seconds=4.0, sample_rate=RATE):
    """One full-scale sample in noise of -100 dBFS."""
    waveform = noise(seconds, sample_rate, rms=1e-5)
    waveform[len(waveform) // 2] = 1
    return waveform


SIGNALS = {
    "tone": tone(),
    "noise": noise(),
    "silence": still(),
    "constant": still(level=0.5),
    "click": click(),
    "half silent": np.concatenate([still(), noise()]),
    "faint": noise(rms=1e-6),
    "loud": 20 * tone(),
    "tone on DC": tone(amplitude=0.2) + 0.5,
    "100 samples": tone()[:100],
    "1 sample": tone()[1:2],
}


# --- cutting -----------------------------------------------------------------------------------


@LAW
@given(
    n_samples=st.integers(0, 60000),
    clip_seconds=st.floats(0.05, 3),
    min_last_fraction=st.floats(0, 1),
    how=st.sampled_from(["pad", "loop"]),
)
def test_clips_laid_end_to_end_are_the_recording_but_for_a_short_rest(
    n_samples, clip_seconds, min_last_fraction, how
):
    settled = Audio(
        sample_rate=8000,
        clip_seconds=clip_seconds,
        min_last_fraction=min_last_fraction,
        short_clips=how,
    )
    size, waveform = round(clip_seconds * 8000), np.arange(1, n_samples + 1, dtype=np.float32)
    clips = list(windowing.cut(waveform, settled))
    valid = [round(seconds * 8000) for _, seconds, _ in clips]
    together = np.concatenate(
        [clip[:length] for (_, _, clip), length in zip(clips, valid, strict=True)]
    )
    assert {clip.shape for _, _, clip in clips} == {(size,)}
    assert np.array_equal(together, waveform[: len(together)])
    rest = n_samples - len(together)
    assert rest == 0 or rest < min_last_fraction * size
    assert [start for start, _, _ in clips] == [
        round(k * size / 8000, 4) for k in range(len(clips))
    ]
    assert all(length == size for length in valid[:-1])
    assert len(clips) == 1 or valid[-1] >= min_last_fraction * size


@LAW
@given(st.integers(1, 200), st.integers(1, 500))
def test_a_short_piece_is_followed_by_zeros_or_by_itself(n_samples, clip_samples):
    piece = np.arange(1, n_samples + 1, dtype=np.float32)
    padded, looped = (windowing.fill(piece, clip_samples, how) for how in ("pad", "loop"))
    kept = min(n_samples, clip_samples)
    assert np.array_equal(padded[:kept], piece[:kept])
    assert not padded[kept:].any()
    assert np.array_equal(looped, piece[np.arange(clip_samples) % n_samples])
    assert padded.dtype == looped.dtype == np.float32
    assert len(padded) == len(looped) == clip_samples


# --- trimming ----------------------------------------------------------------------------------


@LAW
@given(
    before=st.floats(0, 2),
    during=st.floats(0.3, 1),
    after=st.floats(0, 2),
    rate=st.sampled_from([8000, 16000, 44100]),
)
def test_trimming_keeps_every_loud_sample_and_little_else(before, during, after, rate):
    burst = noise(during, rate, rms=0.2)
    quiet = [noise(seconds, rate, rms=1e-5, seed=n) for n, seconds in enumerate((before, after), 1)]
    trimmed = clean.trim(np.concatenate([quiet[0], burst, quiet[1]]), rate, top_db=50)
    assert np.array_equal(trimmed[np.abs(trimmed) > 1e-3], burst[np.abs(burst) > 1e-3])
    margin = 0.05 * rate + 2048 + 512  # what is kept on purpose, and a frame
    assert len(trimmed) <= len(burst) + 2 * margin


@pytest.mark.parametrize("signal", ["silence", "constant", "click", "100 samples", "1 sample"])
def test_trimming_does_no_harm_where_there_is_nothing_to_trim(signal):
    assert np.array_equal(clean.trim(SIGNALS[signal], RATE, top_db=50), SIGNALS[signal])


@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100, 96000])
def test_a_click_is_not_what_a_recording_is_trimmed_to_at_any_rate(sample_rate):
    waveform = click(sample_rate=sample_rate)
    assert np.array_equal(clean.trim(waveform, sample_rate, top_db=50), waveform)


# --- the whole chain ---------------------------------------------------------------------------


@pytest.mark.parametrize("denoise", [False, True])
@pytest.mark.parametrize("signal", SIGNALS)
def test_cleaning_is_finite_of_one_peak_and_changes_nothing_in_place(signal, denoise):
    waveform = SIGNALS[signal].copy()
    cleaned = clean.clean(waveform, RATE, RULES.model_copy(update={"denoise": denoise}))
    assert np.array_equal(waveform, SIGNALS[signal])
    assert cleaned.dtype == np.float32
    assert np.isfinite(cleaned).all()
    assert 0 < len(cleaned) <= len(waveform)
    peak = np.abs(cleaned).max()
    if np.ptp(waveform) == 0:
        assert peak == 0
    elif signal == "faint":  # raised by no more than max_gain_db
        assert peak <= np.abs(waveform - waveform.mean()).max() * 10 ** (RULES.max_gain_db / 20) * (
            1 + 1e-6
        )
    else:
        assert peak == pytest.approx(RULES.peak, rel=1e-6)


@LAW
@given(gain=st.floats(0.02, 100), offset=st.floats(-1, 1))
def test_cleaning_does_not_hear_gain_or_dc(gain, offset):
    waveform = np.concatenate([still(0.5), tone(), still(0.5)])
    moved = (gain * (waveform + offset)).astype(np.float32)
    np.testing.assert_allclose(
        clean.clean(moved, RATE, RULES), clean.clean(waveform, RATE, RULES), atol=1e-5
    )


def test_steps_say_what_was_done_and_end_in_what_clean_returns():
    rules = RULES.model_copy(update={"denoise": True})
    names = [name for name, _ in clean.steps(tone(), RATE, rules)]
    assert names == ["DC removed", "silence trimmed", "noise reduced", "peak normalised"]
    assert np.array_equal(clean.steps(tone(), RATE, rules)[-1][1], clean.clean(tone(), RATE, rules))
    bare = RULES.model_copy(update={"trim_db": None})
    assert [name for name, _ in clean.steps(tone(), RATE, bare)] == [
        "DC removed",
        "peak normalised",
    ]


@LAW
@given(st.lists(st.floats(-1e6, 1e6, width=32), max_size=20), st.floats(0.01, 1))
def test_normalising_brings_any_peak_to_the_given_one_and_leaves_silence(samples, peak):
    waveform = np.array(samples, dtype=np.float32)
    normal = clean.normalise(waveform, peak)
    loudest = np.abs(waveform).max(initial=0)
    assert np.abs(normal).max(initial=0) == (pytest.approx(peak, rel=1e-6) if loudest > 1e-9 else 0)
    assert (
        np.abs(clean.normalise(waveform, 1.0)).max(initial=0) <= 1
    )  # or audio.write would refuse it


@pytest.mark.parametrize("signal", ["silence", "100 samples", "1 sample"])
def test_denoising_returns_what_it_cannot_help_as_it_is(signal):
    assert np.array_equal(clean.denoise(SIGNALS[signal], RATE), SIGNALS[signal])


def heard_after_denoising(quiet_seconds):
    """A second of loud noise after steady faint noise, denoised: (levels before, levels after) of
    both parts, dB.
    """
    parts = [noise(quiet_seconds, rms=0.003), noise(1, rms=0.3, seed=1)]
    denoised = clean.denoise(np.concatenate(parts), RATE)
    assert len(denoised) == (quiet_seconds + 1) * RATE
    after = denoised[: -RATE - 2000], denoised[-RATE + 2000 : -2000]
    return [recording.level_db(part) for part in parts], [
        recording.level_db(part) for part in after
    ]


def test_denoising_lowers_steady_noise_and_keeps_what_stands_out():
    before, after = heard_after_denoising(quiet_seconds=19)
    assert after[0] < before[0] - 6
    assert after[1] == pytest.approx(before[1], abs=1)


def test_denoising_keeps_a_sound_that_lasts_for_half_of_the_recording():
    before, after = heard_after_denoising(quiet_seconds=1)
    assert after[1] == pytest.approx(before[1], abs=1)


@pytest.mark.parametrize(
    ("sample_rate", "n_samples"),
    [(8000, 8000), (16000, 80000), (16000, 80001), (44100, 100003), (16000, 600001)],
)
def test_denoising_with_little_silence_around_agrees_with_noisereduces_own_choice(
    sample_rate, n_samples
):
    seconds = n_samples / sample_rate
    waveform = noise(seconds, sample_rate, rms=0.01) + tone(700, seconds, sample_rate, 0.3) * (
        np.arange(n_samples) % sample_rate < sample_rate // 4
    )
    options = {
        "stationary": True,
        "y_noise": clean.quietest(waveform, sample_rate),
        "prop_decrease": 0.8,
    }
    theirs = noisereduce.reduce_noise(y=waveform, sr=sample_rate, **options)
    np.testing.assert_allclose(clean.denoise(waveform, sample_rate), theirs, rtol=0, atol=1e-7)


def test_denoising_takes_mono_only():
    with pytest.raises(ValueError, match=r"mono.*\(16000, 2\)"):
        clean.denoise(np.zeros((16000, 2), np.float32), RATE)


# --- judging -----------------------------------------------------------------------------------


def judged(*rows, **data):
    """The verdict on these recordings, which lie between enough sound ones of two classes."""
    sound = [{"label": label} for label in ("dog", "cat") for _ in range(10)]
    settled = Config(data=Data(**data))
    return rules.judge(recordings_table(*rows, *sound), settled).iloc[: len(rows)]


@pytest.mark.parametrize(
    ("row", "status", "code"),
    [
        ({}, "used", ""),
        ({"loudest_db": -79.9}, "used", ""),
        ({"loudest_db": -80.1}, "quarantined", "SILENT"),
        ({"duration_seconds": 0.1}, "used", ""),
        ({"duration_seconds": 0.09}, "quarantined", "TOO_SHORT"),
        ({"status": "ignored", "reason": "hidden", "loudest_db": None}, "ignored", ""),
        (
            {"status": "quarantined", "reason": "TRUNCATED: half", "loudest_db": None},
            "quarantined",
            "TRUNCATED",
        ),
        ({"split": "test", "label": "", "loudest_db": -100}, "quarantined", "SILENT"),
    ],
)
def test_a_recording_is_judged_by_the_rules_and_says_why(row, status, code):
    [verdict] = judged(row).itertuples()
    assert (verdict.status, verdict.code) == (status, code)
    assert verdict.reason.startswith(code)


@pytest.mark.parametrize(
    ("rows", "codes"),
    [
        ([("dog", "train"), ("cat", "train")], ["DUP_LABEL_CONFLICT"] * 2),
        ([("dog", "train"), ("dog", "train")], ["", "DUP_SAME_LABEL"]),
        ([("dog", "test"), ("dog", "test")], ["", ""]),
        ([("dog", "train"), ("cat", "test")], ["", ""]),
        ([("dog", "train"), ("cat", "train"), ("dog", "train")], ["DUP_LABEL_CONFLICT"] * 3),
    ],
)
def test_the_same_sound_under_two_labels_is_set_aside_and_of_equal_training_recordings_one_is_kept(
    rows, codes
):
    table = judged(
        *({"label": label, "split": split, "pcm_sha256": "same"} for label, split in rows)
    )
    assert table["code"].tolist() == codes


def test_a_conflict_with_an_unusable_recording_is_none():
    table = judged(
        {"pcm_sha256": "same"}, {"pcm_sha256": "same", "label": "cat", "duration_seconds": 0.01}
    )
    assert table["code"].tolist() == ["", "TOO_SHORT"]


def test_judging_leaves_its_input_alone():
    table = recordings_table({}, {"label": "cat", "loudest_db": -20.0})
    before = table.copy()
    rules.judge(table, Config())
    assert table.equals(before)


def test_too_many_bad_recordings_stop_the_run_with_a_count_by_reason():
    bad = [{"loudest_db": -100}] * 2 + [{"status": "quarantined", "reason": "TRUNCATED: half"}] * 3
    assert judged(*bad, max_bad_fraction=0.2)["status"].eq("quarantined").all()  # 5 of 25
    with pytest.raises(errors.TooManyBad) as stop:
        judged(*bad, max_bad_fraction=0.19)
    words = str(stop.value).split()
    assert words[words.index("SILENT") + 1] == "2"
    assert words[words.index("TRUNCATED") + 1] == "3"
    assert "5 of 25" in str(stop.value)


def test_ignored_files_are_not_held_against_the_rest():
    ignored = [{"status": "ignored", "reason": "hidden", "label": ""}] * 100
    assert judged({"loudest_db": -100}, *ignored, max_bad_fraction=0.05)["code"].iloc[0] == "SILENT"


def test_the_quarantine_table_lists_exactly_what_is_set_aside(tmp_path):
    table = judged(
        {},
        {"loudest_db": -100},
        {"status": "quarantined", "reason": "NONFINITE: 1"},
        {"status": "ignored"},
    )
    quarantine = rules.quarantine_table(table)
    assert quarantine[["recording_id", "stage", "code"]].to_numpy().tolist() == [
        ["r1", "02_clean", "SILENT"],
        ["r2", "01_explore", "NONFINITE"],
    ]
    artifacts.write_table(tmp_path / "quarantine.csv", quarantine)


# --- from files to clips -----------------------------------------------------------------------


@pytest.fixture
def explored(tmp_path):
    """A small folder as the first stage leaves it: (root, recordings)."""
    root = tmp_path / "data"
    for name, seconds in {
        "dog/short.wav": 0.4,
        "dog/long.wav": 2.6,
        "cat, é/1.wav": 2,
        "test/1.wav": 1,
    }.items():
        write_wav(root / name, noise(seconds, 22050), 22050)
    write_wav(root / "dog/silent.wav", still(2))
    plant(root, "cat, é/text.wav", content=b"words")
    artifacts.write_table(
        tmp_path / "recordings.csv",
        recording.survey(root, sources.find(root, Data())).convert_dtypes(),
    )
    return root, artifacts.read_table(tmp_path / "recordings.csv")


def test_used_recordings_become_clips_and_no_others(tmp_path, explored):
    root, recordings = explored
    settled = presets.load(
        "folder",
        settings="audio.clip_seconds=1 audio.sample_rate=8000 features.n_mels=32 "
        "data.max_bad_fraction=0.5",
    )
    table = rules.judge(recordings, settled)
    clips = windowing.write_clips(table, root, settled, tmp_path / "clips")

    expected = {"dog/short.wav": 1, "dog/long.wav": 3, "cat, é/1.wav": 2, "test/1.wav": 1}
    paths = recordings.set_index("recording_id")["path"]
    assert clips["recording_id"].map(paths).value_counts().to_dict() == expected
    assert clips["clip_id"].is_unique
    assert sorted(clips["path"]) == sorted(
        path.relative_to(tmp_path).as_posix() for path in (tmp_path / "clips").rglob("*.flac")
    )
    for clip in clips.itertuples():
        decoded = decoder.decode(tmp_path / clip.path)
        assert (decoded.waveform.shape, decoded.sample_rate) == ((8000, 1), 8000)
        assert not decoded.waveform[round(clip.valid_seconds * 8000) + 1 :].any()
        assert np.abs(decoded.waveform).max() <= settled.clean.peak + 2**-15
        assert clip.path.split("/")[1:3] == [clip.split, clip.label or "unlabelled"]
    valid = clips.groupby(clips["recording_id"].map(paths))["valid_seconds"].sum()
    assert valid["dog/long.wav"] == pytest.approx(2.6, abs=1e-3)


def test_clips_are_the_same_every_time(tmp_path, explored):
    root, recordings = explored
    settled = presets.load("folder", settings="data.max_bad_fraction=0.5")
    table = rules.judge(recordings, settled)
    first, second = (
        windowing.write_clips(table, root, settled, tmp_path / name) for name in ("a", "b")
    )
    assert first.equals(second)
    assert artifacts.digest(tmp_path / "a") == artifacts.digest(tmp_path / "b")


def test_one_sample_is_too_short(tmp_path):
    write_wav(tmp_path / "x.wav", tone()[1:2])
    facts = recording.measure(decoder.decode(tmp_path / "x.wav"))
    assert (
        judged({name: facts[name] for name in ("loudest_db", "duration_seconds")})["code"].iloc[0]
        == "TOO_SHORT"
    )


def test_a_long_pause_gives_no_clip_but_a_recording_always_gives_one():
    settled = Audio(sample_rate=RATE, clip_seconds=1.0)
    sound, pause = tone(440, 1.0), np.zeros(2 * RATE, np.float32)
    heard = windowing.cut(np.concatenate([sound, pause, sound]), settled)
    assert [start for start, _, _ in heard] == [0, 3]
    assert [start for start, _, _ in windowing.cut(pause, settled)] == [0]


# --- an example to look at ---------------------------------------------------------------------


def example_set(folder, sounds):
    """Recordings of these sounds, surveyed: (root, table, config)."""
    settled = presets.load("folder", str(folder))
    settled = settled.model_copy(
        update={"audio": settled.audio.model_copy(update={"sample_rate": RATE})}
    )
    for number, (name, sound) in enumerate(sounds.items()):
        path = folder / ("dog", "cat")[number % 2] / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        write_wav(path, sound)
    return (
        folder,
        recording.survey(folder, sources.find(folder, settled.data), settled.audio.max_seconds),
        settled,
    )


def test_the_example_is_the_recording_on_which_every_step_acts(tmp_path):
    quiet = tone(amplitude=0.2)
    sounds = {
        "a offset": quiet + 0.3,
        "b silence": np.concatenate([still(), quiet, still()]),
        "c all": np.concatenate([still(), quiet, still()]) + 0.05,
        "d dull": tone(amplitude=0.98),
    }
    root, table, settled = example_set(tmp_path, sounds)
    [example] = clean.telling(table, root, settled)
    assert example.row.path.endswith("c all.wav") and example.acting == [
        name for name, _ in example.done
    ]
    assert example.changes["DC removed"] == pytest.approx(0.05, rel=0.05)
    assert example.changes["silence trimmed"] == pytest.approx(1.9, abs=0.05)


def test_what_the_example_does_not_show_another_one_shows_and_what_none_shows_is_left_out(tmp_path):
    quiet = tone(amplitude=0.2)
    sounds = {"a offset": quiet + 0.3, "b silence": np.concatenate([still(), quiet])}
    root, table, settled = example_set(tmp_path, sounds)
    shown = clean.telling(table, root, settled)
    assert len(shown) == 2 and set(shown[0].acting) | set(shown[1].acting) == set(shown[0].changes)
    dull = {"d dull": tone(amplitude=0.98), "e dull": tone(500, amplitude=0.97)}
    (tmp_path / "dull").mkdir()
    root, table, settled = example_set(tmp_path / "dull", dull)
    [example] = clean.telling(table, root, settled)
    assert example.acting == []


def test_the_edges_are_what_trimming_keeps():
    waveform = np.concatenate([still(), tone(), still(2.0)])
    start, stop = clean.edges(waveform, RATE, top_db=50)
    assert np.array_equal(waveform[start:stop], clean.trim(waveform, RATE, top_db=50))
    assert 0 < start < RATE and RATE < stop < len(waveform)
