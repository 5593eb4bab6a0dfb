"""Files of any length: streamed they are what they are as a whole, memory stays flat, and the
command takes folders, patterns, an overlap and a threshold.
"""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from networks import save_folds
from tables import noise, small_config

from helpers.audio import clean, decoder, recording, windowing
from helpers.audio.decoder import Decoded
from helpers.base import errors
from helpers.compare import hearing, inference, medley
from helpers.run import cli

LABELS = ["bell", "dog", "rain"]
RATE = 8000
CONFIG = small_config(audio={"max_seconds": 2.0})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with a run named "tiny": a network of random weights."""
    folder = tmp_path_factory.mktemp("home")
    save_folds(folder / "outputs" / "tiny", LABELS, CONFIG, folds=[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EARSHOT_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def bundle(home):
    return inference.Bundle(home / "outputs" / "tiny")


@pytest.fixture
def in_small_blocks(monkeypatch):
    """Blocks so small that every sound has seams, and a waveform that lies on disk."""
    for module in (decoder, recording, windowing, clean):
        monkeypatch.setattr(module, "BLOCK", 3001)
    monkeypatch.setattr(windowing, "FRAMES", 7)
    monkeypatch.setattr(recording, "IN_MEMORY", 1000)


def scene(seed, rate, channels=1):
    """Sounds of any level between silences, float32 [samples, channels], a little beside zero."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(4):
        count = int(rng.uniform(0.05, 1.2) * rate)
        parts += [
            np.zeros(int(rng.uniform(0, 1.5) * rate)),
            noise(count, seed) * rng.uniform(0.1, 1),
        ]
    mono = np.concatenate(parts).astype(np.float32) + np.float32(0.01)
    gains = rng.uniform(0.2, 1, channels).astype(np.float32)
    return mono[:, None] * gains


# --- streamed, and as a whole


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("ending", "rate", "channels"),
    [("wav", 44100, 2), ("flac", 8000, 1), ("ogg", 22050, 2), ("mp3", 16000, 1)],
)
def test_a_file_read_in_blocks_is_answered_as_the_whole(
    bundle, tmp_path, request, seed, ending, rate, channels
):
    path = tmp_path / f"x.{ending}"
    soundfile.write(path, scene(seed, rate, channels), rate)
    decoded = decoder.decode(path)
    whole = bundle.hear(decoded)
    request.getfixturevalue("in_small_blocks")
    streamed = bundle.hear(path)
    pd.testing.assert_frame_equal(streamed.windows(), whole.windows(), atol=1e-4, rtol=0)
    pd.testing.assert_frame_equal(streamed.events(), whole.events(), atol=1e-4, rtol=0)
    as_in_training = clean.steps(
        recording.mono_at(decoded, RATE), RATE, CONFIG.clean.model_copy(update={"trim_db": None})
    )[-2][1]
    np.testing.assert_allclose(streamed.heard.waveform, as_in_training, atol=1e-6)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_a_file_decoded_in_blocks_has_no_seams(monkeypatch, tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    soundfile.write(path, scene(2, RATE, 2), RATE)
    monkeypatch.setattr(decoder, "BLOCK", 3001)
    expected = soundfile.read(path, dtype="float32", always_2d=True)[0]
    np.testing.assert_allclose(decoder.decode(path).waveform, expected, atol=1e-5)


@pytest.mark.parametrize("offset", [0, 0.3])
@pytest.mark.parametrize("count", [1, 100, 160, 5000, 20000])
def test_what_decides_about_use_is_the_same_in_blocks(in_small_blocks, offset, count):
    waveform = noise(count, 1)[:, None] + np.float32(offset)
    mono = recording.read(Decoded(waveform, RATE, "WAV/PCM_16", 16), RATE)
    assert mono.seconds == count / RATE
    assert mono.loudest_db == pytest.approx(recording.loudest_db(waveform[:, 0], RATE), abs=0.01)


def test_channels_that_cancel_are_heard_by_the_first_one(in_small_blocks, tmp_path):
    sound = noise(20000)
    soundfile.write(tmp_path / "x.wav", np.stack([sound, -sound], axis=1), RATE, subtype="FLOAT")
    mono = recording.read(tmp_path / "x.wav", RATE)
    np.testing.assert_allclose(mono.samples[:], sound - sound.mean(), atol=1e-6)


@pytest.mark.parametrize("cutoff_hz", [20, 300])
def test_a_high_pass_leaves_no_seams(in_small_blocks, cutoff_hz):
    sound = scene(3, RATE)[:, 0]
    samples = recording.Samples([sound])
    rules = CONFIG.clean.model_copy(update={"high_pass_hz": cutoff_hz})
    expected = clean.high_pass(samples[:], RATE, cutoff_hz)
    np.testing.assert_allclose(clean.whole(samples, RATE, rules)[:], expected, atol=1e-5)


@pytest.mark.parametrize("code", ["TRUNCATED", "NONFINITE"])
def test_what_is_wrong_at_the_end_of_a_long_file_is_said(bundle, in_small_blocks, tmp_path, code):
    path = tmp_path / "x.flac"
    soundfile.write(path, noise(20000), RATE)
    path.write_bytes(path.read_bytes()[:-2000])
    if code == "NONFINITE":
        path = tmp_path / "x.wav"
        soundfile.write(path, np.append(noise(20000), np.nan), RATE, subtype="FLOAT")
    with pytest.raises(errors.AudioIssue, match=code):
        bundle.hear(path)


def test_memory_does_not_grow_with_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "IN_MEMORY", 1 << 20)
    peaks = []
    for minutes in (2, 20):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", RATE, 1) as file:
            for second in range(60 * minutes):
                file.write(noise(RATE, second % 10) * (second % 3 > 0))
        tracemalloc.start()
        whole = windowing.whole(recording.read(path, RATE), CONFIG)
        assert sum(1 for _ in whole.clips()) == len(whole.pieces) > 100 * minutes
        peaks.append(tracemalloc.get_traced_memory()[1] / 1e6)
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 10, peaks  # MB; the samples alone would take 38


# --- overlap and threshold


@settings(max_examples=20, deadline=None)
@example(0.5, [(1.6875, 0.375), (1.0, 1.0)])  # a little before an edge, to a little after
@given(
    st.sampled_from([0, 0.1, 0.25, 0.4, 0.5, 0.75, 0.9]),
    st.lists(st.tuples(st.floats(0.3, 2), st.floats(0.02, 1.5)), min_size=1, max_size=5),
)
def test_no_sound_is_lost_at_any_overlap(overlap, parts):
    silent_and_not = [(np.zeros(int(a * RATE)), noise(int(b * RATE), 1)) for a, b in parts]
    waveform = np.concatenate([part for pair in silent_and_not for part in pair])
    decoded = Decoded(np.float32(waveform)[:, None], RATE, "WAV/PCM_16", 16)
    heard = windowing.whole(decoded, CONFIG, overlap)
    sure = pd.DataFrame(1.0, heard.pieces.index, ["noise"])
    events = hearing.Hearing(heard, sure, None).events()
    sound = np.flatnonzero(np.abs(waveform) > 0) / RATE
    told = np.zeros(len(sound), bool)
    for event in events.itertuples():
        told |= (sound >= event.onset - 0.03) & (sound <= event.offset + 0.03)
    lost = np.diff(np.flatnonzero(np.diff(told, prepend=True, append=True)))
    assert (lost[::2] / RATE).max(initial=0) < heard.shortest + 0.02
    starts = heard.windows["start_seconds"].to_numpy()
    assert np.diff(starts).max(initial=0) <= 0.5 * (1 - overlap) + 1e-3


def test_a_threshold_silences_what_is_less_probable(bundle, tmp_path):
    soundfile.write(tmp_path / "x.wav", scene(1, RATE), RATE)
    plain = bundle.hear(tmp_path / "x.wav")
    assert plain.windows().equals(bundle.hear(tmp_path / "x.wav", threshold=0).windows())
    limit = plain.windows()["probability"].median() + 1e-5  # which are written rounded
    windows = bundle.hear(tmp_path / "x.wav", threshold=limit).windows()
    assert windows["label"].ne("").equals(plain.windows()["probability"].ge(limit))
    assert bundle.hear(tmp_path / "x.wav", threshold=1).events().empty
    assert bundle.hear(tmp_path / "x.wav", threshold=1).answer().empty


@pytest.mark.parametrize("how", [{"overlap": 1.0}, {"overlap": -0.1}, {"threshold": 1.5}])
def test_an_overlap_or_threshold_that_there_is_not_is_refused(bundle, tmp_path, how):
    soundfile.write(tmp_path / "x.wav", scene(1, RATE), RATE)
    with pytest.raises(errors.ConfigError, match=f"{next(iter(how.values())):g}"):
        bundle.hear(tmp_path / "x.wav", **how)


# --- the command


@pytest.fixture
def site(tmp_path):
    """A folder of recordings at two depths, one name twice, and what is no recording."""
    for number, place in enumerate(("a.wav", "deep/er/a.wav", "deep/b.FLAC", "b (1).ogg")):
        path = tmp_path / "site" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, scene(number, RATE), RATE)
    (tmp_path / "site" / "notes.txt").write_text("no sound")
    (tmp_path / "site" / "._a.wav").write_text("a Mac wrote this")
    return tmp_path / "site"


def heard_lines(capsys, *arguments):
    """Exit status, lines printed, and the file that each of them begins with."""
    status = cli.main(["predict", *map(str, arguments), "--run", "tiny"])
    lines = capsys.readouterr().out.splitlines()
    return status, lines, [line.split(": ")[0] for line in lines]


def test_a_folder_and_patterns_are_all_their_recordings(home, site, tmp_path, capsys):
    status, lines, files = heard_lines(capsys, site, "--out", tmp_path / "out")
    assert status == 0 and len(lines) == 4
    assert set(files) == {str(path) for path in site.rglob("*") if path.name[0] in "ab"}
    assert len({*(tmp_path / "out").glob("*.events.csv")}) == 4
    assert len({*(tmp_path / "out").glob("*.selections.txt")}) == 4
    assert heard_lines(capsys, f"{site}/*.wav")[2] == [str(site / "a.wav")]
    assert len(heard_lines(capsys, f"{site}/**/*.wav", site / "b (1).ogg")[1]) == 3


def test_nothing_found_is_explained(home, site, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for given_, words in (
        (tmp_path / "empty", "holds no recording"),
        (f"{site}/*.mp3", "matches no"),
    ):
        assert cli.main(["predict", str(given_), "--run", "tiny"]) == 2
        assert words in capsys.readouterr().err
    assert cli.main(["predict", str(site / "gone.wav"), "--run", "tiny"]) == 1
    assert "UNREADABLE" in capsys.readouterr().err


def test_a_raven_table_holds_the_events(home, bundle, site, tmp_path, capsys):
    arguments = (site / "a.wav", "--out", tmp_path, "--overlap", 0.75, "--threshold", 0.2)
    assert heard_lines(capsys, *arguments)[0] == 0
    table = pd.read_csv(tmp_path / "a.selections.txt", sep="\t")
    assert list(table) == list(hearing.RAVEN)
    events = bundle.events(site / "a.wav", overlap=0.75, threshold=0.2)
    assert len(events) > 0 and table["Label"].tolist() == events["label"].tolist()
    times = table[["Begin Time (s)", "End Time (s)", "Probability"]].to_numpy()
    np.testing.assert_allclose(times, events[["onset", "offset", "probability"]], atol=1e-5)
    assert table["Selection"].tolist() == list(range(1, len(table) + 1))
    assert set(table["High Freq (Hz)"]) == {RATE / 2} and set(table["Low Freq (Hz)"]) == {0}
    windows = pd.read_csv(tmp_path / "a.windows.csv")
    assert windows["start"].diff().max() == pytest.approx(0.125, abs=1e-3)


@pytest.mark.parametrize(
    "option", [("--overlap", "1"), ("--threshold", "2"), ("--overlap", "half")]
)
def test_an_option_out_of_range_is_refused(home, site, capsys, option):
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", str(site), "--run", "tiny", *option])
    assert ended.value.code == 2 and option[0] in capsys.readouterr().err


# --- a recording whose events are known


class Ear:
    """Stands for a Bundle: hears "a" for a second in every file but z.wav."""

    def events(self, path):
        rows = [] if path.name == "z.wav" else [(0.5, 1.5, "a", 0.9)]
        return pd.DataFrame(rows, columns=hearing.EVENT)


def test_known_events_are_scored_over_all_test_recordings_that_were_heard(tmp_path):
    names = ["x.wav", "y.wav", "z.wav", "broken.wav"]
    recordings = pd.DataFrame(
        {
            "recording_id": ["r1", "r2", "r3", "r4", "r5"],
            "path": ["train/t.wav", *(f"test/{name}" for name in names)],
            "split": ["train", *["test"] * 4],
        }
    )
    rows = recordings[["recording_id"]].head(4)
    known = pd.DataFrame(
        [("x.wav", 0.4, 1.4, "a"), ("z.wav", 1.0, 2.0, "b")],
        columns=["filename", "onset", "offset", "label"],
    )
    heard = medley.heard_in(known, recordings, rows, Ear(), tmp_path)
    assert heard["filename"].tolist() == ["x.wav", "y.wav", "z.wav"]
    assert heard["label"].tolist() == ["a", "a", ""]
    scores = medley.found_in_time(known, heard, ["a", "b"], small_config())
    assert scores["n_files"] == 3 and scores["n_events"] == 2
    assert scores["event_micro_f1"]["value"] == pytest.approx(2 / 4)  # x right, y wrong, z missed
    assert scores["event_macro_f1"]["value"] == pytest.approx((2 / 3 + 0) / 2, abs=1e-5)
    assert "33.3 % (" in scores["says"] and "2 known events of 3 test" in scores["says"]


def test_where_nothing_is_known_nothing_is_heard(tmp_path):
    known = pd.DataFrame(columns=["filename", "onset", "offset", "label"])
    recordings = pd.DataFrame({"recording_id": ["r"], "path": ["x.wav"], "split": ["test"]})
    assert medley.heard_in(known, recordings, recordings, None, tmp_path).empty


def test_a_medley_counts_what_was_found_in_its_place():
    parts = pd.DataFrame(
        [(1, 2, "a|b", "x.wav"), (3, 4, "c", "y.wav")], columns=["onset", "offset", "label", "path"]
    )
    events = pd.DataFrame(
        [(1.1, 1.9, "a", 0.9), (1.5, 2.0, "c", 0.6), (3.0, 3.5, "c", 0.8)], columns=hearing.EVENT
    )
    made = medley.Medley(None, parts, True, True)
    assert made.judged(events)["right"].tolist() == ["✓", "✗", "✓"]
    assert made.judged(events)["put_there"].tolist() == ["a, b", "a, b", "c"]
    said = made.in_words(events)
    assert said.startswith("2 of 3 sounds found in place (missed: b at 1 s); 1 event names a class")
    nothing = made.in_words(events.head(0))
    assert nothing.startswith("0 of 3 sounds") and "0 events name" in nothing
