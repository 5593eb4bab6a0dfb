"""A trained network in use: every sound of a file is found at its time, by whichever way the file
comes.
"""

import dataclasses
import doctest
import itertools

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import save_folds
from scipy.signal import chirp
from streamlit.testing.v1 import AppTest
from tables import noise, small_config

from benchmarks import ours
from helpers.audio import clean, recording, windowing
from helpers.audio.decoder import Decoded
from helpers.base import artifacts, errors
from helpers.base.settings import Data
from helpers.compare import hearing, inference
from helpers.data import sources
from helpers.rounds import train
from helpers.run import cli
from helpers.splits import rules
from helpers.submission import contract, priors, submit

RATE, WINDOW = 8000, 1.0
FORGIVING = Data(max_bad_fraction=1)
CONFIG = small_config(
    audio={"sample_rate": RATE, "clip_seconds": WINDOW, "short_clips": "loop"},
    train={"epochs": 16, "select": "last", "mix": "none"},
    split={"folds": 2},
)


def time_of(seconds):
    return np.arange(round(seconds * RATE)) / RATE


SOUNDS = {
    "beep": lambda seconds, rng: np.sin(2 * np.pi * rng.uniform(1200, 1500) * time_of(seconds)),
    "hiss": lambda seconds, rng: 0.3 * rng.standard_normal(round(seconds * RATE)),
    "hum": lambda seconds, rng: np.sign(
        np.sin(2 * np.pi * rng.uniform(90, 120) * time_of(seconds))
    ),
    "sweep": lambda seconds, rng: chirp(time_of(seconds) % 0.2, 300, 0.2, 3500),
}


def sound(label, seconds, rng):
    """A sound of a class, float32 [samples], at some level between -46 and -6 dBFS."""
    waveform = SOUNDS[label](seconds, rng) * 10 ** (rng.uniform(-40, 0) / 20)
    return (0.5 * waveform).clip(-1, 1).astype(np.float32)


def silence(seconds):
    return np.zeros(round(seconds * RATE), np.float32)


def scene(rng, count):
    """Sounds between silences: (waveform, a table label, onset, offset)."""
    parts, truth, at = [], [], 0
    for _ in range(count):
        pause, label = silence(rng.uniform(0.6, 4)), rng.choice(list(SOUNDS))
        waveform = sound(label, rng.uniform(0.25, 2.5), rng)
        onset = (at + len(pause)) / RATE
        truth.append((label, onset, onset + len(waveform) / RATE))
        parts += [pause, waveform]
        at += len(pause) + len(waveform)
    table = pd.DataFrame(truth, columns=["label", "onset", "offset"])
    return np.concatenate([*parts, silence(rng.uniform(0.6, 4))]), table


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home whose run "tiny" was trained on isolated sounds of four classes, as 02, 04 and 05 do
    it.
    """
    folder = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(0)
    for label, number in itertools.product(SOUNDS, range(16)):
        path = folder / "data" / label / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        edges = silence(rng.uniform(0, 1))
        soundfile.write(
            path, np.concatenate([edges, sound(label, rng.uniform(0.3, 2), rng), edges]), RATE
        )
    found = recording.survey(folder / "data", sources.find(folder / "data", CONFIG.data))
    clips = ours.clips(rules.judge(found, CONFIG), folder / "data", folder, CONFIG)
    clips["fold"] = pd.factorize(clips["recording_id"])[0] % 2 + 1
    rows = ours.pack(clips, folder, CONFIG, folder)
    packed = np.load(folder / "waveforms.npy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EARSHOT_HOME", str(folder))
        train.cross_validate(
            packed,
            rows,
            CONFIG,
            folder / "outputs" / "tiny" / "models" / "cnn",
            torch.device("cpu"),
        )
        yield folder


@pytest.fixture(scope="module")
def bundle(home):
    return inference.Bundle(home / "outputs" / "tiny")


@pytest.fixture(scope="module")
def scenes(home):
    """Fifty files of known sounds between silences: (path, truth)."""
    rng, made = np.random.default_rng(1), []
    for number in range(50):
        waveform, truth = scene(rng, rng.integers(1, 5))
        path = home / "scenes" / f"scene {number}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, waveform, RATE)
        made.append((path, truth))
    return made


# --- each sound at its time --------------------------------------------------------------------


def test_every_sound_of_fifty_files_is_found_within_half_a_window_and_nothing_else(bundle, scenes):
    for path, truth in scenes:
        heard = bundle.hear(path)
        events, windows = heard.events(), heard.windows()
        assert events["label"].tolist() == truth["label"].tolist(), path.name
        assert (events[["onset", "offset"]] - truth[["onset", "offset"]]).abs().max(
            axis=None
        ) <= WINDOW / 2
        silent = windows["label"].eq("")
        touched = [
            (truth["onset"].lt(end) & truth["offset"].gt(start)).any()
            for start, end in windows.iloc[:, :2].values
        ]
        assert not any(np.array(touched) < ~silent), f"{path.name}: something is said of silence"
        assert windows.loc[silent, ["probability", *SOUNDS]].isna().all(axis=None)
        assert windows["start"].iloc[0] == 0 and windows["end"].iloc[-1] == pytest.approx(
            soundfile.info(path).duration, abs=1e-4
        )
        assert windows["start"].diff().max() <= WINDOW / 2 + 1e-6


def test_a_rare_quiet_sound_in_a_long_file_is_found_and_a_window_counts_by_what_it_holds(
    bundle, tmp_path
):
    rng = np.random.default_rng(3)
    quiet, loud = 0.005 * SOUNDS["beep"](0.5, rng), 0.5 * SOUNDS["hum"](2, rng)
    waveform = np.concatenate([silence(40.9), quiet, silence(70), loud, silence(20.3)]).astype(
        np.float32
    )
    soundfile.write(tmp_path / "long.wav", waveform, RATE, subtype="FLOAT")
    heard = bundle.hear(tmp_path / "long.wav")
    assert heard.events()["label"].tolist() == ["beep", "hum"]
    assert heard.overall.index[:2].tolist() == ["hum", "beep"] and heard.overall["beep"] < 0.45


def test_a_file_that_ends_in_a_sound_is_heard_to_its_end(bundle, tmp_path):
    waveform = np.concatenate([silence(3), sound("sweep", 1.23, np.random.default_rng(0))])
    soundfile.write(tmp_path / "end.wav", waveform, RATE)
    events = bundle.events(tmp_path / "end.wav")
    assert events["label"].tolist() == ["sweep"]
    assert events["onset"][0] == pytest.approx(3, abs=0.05) and events["offset"][
        0
    ] == pytest.approx(4.23, abs=0.05)


# --- three ways, one answer --------------------------------------------------------------------


def test_python_the_command_and_the_app_say_the_same(bundle, scenes, home, tmp_path, capsys):
    path = scenes[0][0]
    files = [str(path), str(scenes[1][0])]
    assert cli.main(["predict", *files, "--run", "tiny", "--out", str(tmp_path / "a b")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    names = {
        f"{file.stem}.{ending}"
        for file, _ in scenes[:2]
        for ending in ("windows.csv", "events.csv", "labels.txt", "selections.txt")
    }
    assert {
        file.name for file in (tmp_path / "a b").iterdir()
    } == names  # no temporary file is left
    windows, events = (
        pd.read_csv(tmp_path / "a b" / f"scene 0.{name}.csv") for name in ("windows", "events")
    )
    assert list(windows) == ["start", "end", "label", "probability", *sorted(SOUNDS)]
    assert list(events) == ["onset", "offset", "label", "probability"]
    pd.testing.assert_frame_equal(events, bundle.events(path), atol=1e-5)
    pd.testing.assert_frame_equal(
        windows, bundle.hear(path).windows().replace("", np.nan), atol=1e-5, check_dtype=False
    )
    labels = [
        line.split("\t")
        for line in (tmp_path / "a b" / "scene 0.labels.txt").read_text().splitlines()
    ]
    assert [name for *_, name in labels] == events["label"].tolist()
    np.testing.assert_allclose(
        [[float(a), float(b)] for a, b, _ in labels], events[["onset", "offset"]], atol=1e-6
    )

    app = AppTest.from_file(
        artifacts.REPOSITORY / "app" / "streamlit_app.py", default_timeout=60
    ).run()
    app.file_uploader[0].set_value((path.name, path.read_bytes(), "audio/wav")).run()
    assert not app.exception and not app.warning
    shown = app.session_state["scored"][1].heard
    pd.testing.assert_series_equal(shown.overall, bundle.predict_file(path), rtol=1e-5)
    pd.testing.assert_frame_equal(shown.events(), events, atol=1e-4)
    np.testing.assert_allclose(
        app.dataframe[0].value[sorted(SOUNDS)], windows[sorted(SOUNDS)], atol=1e-3
    )
    many = bundle.predict_files([path, scenes[1][0]])
    np.testing.assert_allclose(
        many.loc[path], bundle.predict_file(path)[many.columns], rtol=1e-4, atol=1e-6
    )


def test_a_test_recording_is_answered_as_the_same_file_in_use(bundle, scenes, tmp_path):
    (tmp_path / "test").mkdir()
    soundfile.write(tmp_path / "test" / "1.wav", soundfile.read(scenes[2][0])[0], RATE)
    row = pd.DataFrame(
        {
            "recording_id": ["r"],
            "path": ["test/1.wav"],
            "label": [""],
            "split": ["test"],
            "status": ["used"],
        }
    )
    clips = windowing.write_clips(row, tmp_path, CONFIG, tmp_path / "clips").assign(
        group="", fold=None
    )
    packed_rows = ours.pack(clips, tmp_path, CONFIG, tmp_path)
    said = bundle.predict_packed(np.load(tmp_path / "waveforms.npy"), packed_rows)
    asked = contract.Contract(
        ("id", "label"),
        pd.DataFrame({"recording_id": ["r"], "end_seconds": [np.nan]}),
        (),
        "",
        "",
        3,
        None,
        True,
    )
    known = priors.Prior(pd.Series(0.25, sorted(SOUNDS)))
    found = submit.row_probabilities(asked, said, packed_rows, known, CONFIG)
    expected = bundle.predict_file(scenes[2][0])[sorted(SOUNDS)]
    np.testing.assert_allclose(found.loc[0, sorted(SOUNDS)].astype(float), expected, atol=2e-3)
    assert (
        clips["start_seconds"].is_monotonic_increasing
        and clips["start_seconds"].iloc[-1] > scenes[2][1]["onset"].iloc[-1] - WINDOW
    )


def test_files_of_one_stem_do_not_overwrite_each_other(home, scenes, tmp_path, capsys):
    for number, place in enumerate(("a/x.wav", "b/x.wav", "x.flac", "x-2.wav")):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        waveform, rate = soundfile.read(scenes[number][0])
        soundfile.write(tmp_path / place, waveform, rate)
    files = [
        str(path)
        for path in (
            tmp_path / "a/x.wav",
            tmp_path / "b/x.wav",
            tmp_path / "x.flac",
            tmp_path / "x-2.wav",
        )
    ]
    assert cli.main(["predict", *files, "--run", "tiny", "--out", str(tmp_path / "out")]) == 0
    written = [pd.read_csv(path) for path in sorted((tmp_path / "out").glob("*.events.csv"))]
    assert sorted(map(len, written)) == sorted(len(truth) for _, truth in scenes[:4])
    assert all(
        line.split(" -> ")[1].endswith(".*") for line in capsys.readouterr().out.splitlines()
    )


# --- what may be used --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waveform", "code"),
    [
        (silence(3), "SILENT"),
        (np.full(3 * RATE, 0.25, np.float32), "SILENT"),
        (1e-5 * noise(3 * RATE), "SILENT"),
        (noise(round(0.09 * RATE)), "TOO_SHORT"),
        (np.concatenate([silence(60), 1e-3 * noise(800), silence(60)]), None),
        (noise(round(0.11 * RATE)), None),
    ],
)
def test_02_the_command_and_the_bundle_agree_on_what_may_be_used(
    bundle, home, tmp_path, capsys, waveform, code
):
    path = tmp_path / "data" / "hum" / "1.wav"
    for number, place in enumerate(
        (path, path.with_name("2.wav"), tmp_path / "data" / "hiss" / "1.wav")
    ):
        place.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(place, noise(RATE, number) if number else waveform, RATE, subtype="FLOAT")
    surveyed = recording.survey(tmp_path / "data", sources.find(tmp_path / "data", CONFIG.data))
    judged = rules.judge(surveyed, CONFIG.model_copy(update={"data": FORGIVING})).set_index("path")
    assert judged.loc["hum/1.wav", "code"] == (code or "")
    assert cli.main(["predict", str(path), "--run", "tiny"]) == int(code is not None)
    assert (code or "1.wav: ") in capsys.readouterr()[int(code is not None)]
    if code:
        with pytest.raises(errors.AudioIssue, match=code):
            bundle.hear(path).windows()


# --- the windows of a whole file ---------------------------------------------------------------


def decoded(waveform):
    return Decoded(np.asarray(waveform, np.float32)[:, None], RATE, "WAV/PCM_16", 16)


def lively(seconds, seed=0):
    """Noise, as loud at one end as at the other."""
    return noise(round(seconds * RATE), seed, 0.1)


@pytest.mark.parametrize("how", ["pad", "loop"])
def test_a_file_no_longer_than_a_window_is_the_very_clip_of_training(how):
    config, rng = (
        small_config(audio={"clip_seconds": 1.5, "short_clips": how}),
        np.random.default_rng(0),
    )
    for seed in range(20):
        before, seconds, after = rng.uniform([0, 0.16, 0], [0.4, 0.6, 0.4])
        heard = 10 ** rng.uniform(-0.5, 0) * lively(seconds, seed)
        waveform = np.concatenate([silence(before), heard - heard.mean(), silence(after)])
        whole = windowing.whole(decoded(waveform), config)
        ((_, valid, trained),) = windowing.cut(
            clean.clean(waveform, RATE, config.clean), config.audio
        )
        (used,) = whole.clips()
        assert np.array_equal(used, trained) and whole.valid_seconds[0] == pytest.approx(
            valid, abs=1e-4
        )


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.3, 3), st.floats(0.2, 3)), min_size=1, max_size=6),
    st.floats(0, 2),
)
def test_every_moment_with_sound_lies_in_a_window_that_is_full(parts, rest):
    waveform = np.concatenate(
        [part for pause, heard in parts for part in (silence(pause), lively(heard))]
    )
    waveform = np.concatenate([waveform - waveform.mean() * (waveform != 0), silence(rest)])
    whole = windowing.whole(decoded(waveform), CONFIG)
    seconds = len(whole.waveform) / RATE
    lengths = whole.windows["end_seconds"] - whole.windows["start_seconds"]
    np.testing.assert_allclose(lengths[:-1], WINDOW)
    assert (
        lengths.iloc[-1] == pytest.approx(min(seconds, WINDOW), abs=0.11)
        and whole.windows.iloc[-1, 1] == seconds
    )
    covered = np.zeros(len(whole.waveform) + 1, bool)
    for piece in whole.pieces.itertuples():
        covered[piece.start : max(piece.stop, round(piece.sound_end * RATE))] = True
    missed = np.flatnonzero((np.abs(whole.waveform) > 1e-3) & ~covered[:-1])
    assert len(missed) == 0
    assert {clip.shape for clip in whole.clips()} == {(round(WINDOW * RATE),)}
    assert whole.valid_seconds.between(0, WINDOW).all()


def test_a_quiet_sound_beside_a_loud_one_arrives_at_the_level_of_training():
    sounds = [lively(0.8, seed) * gain for seed, gain in enumerate((1, 0.03))]
    whole = windowing.whole(decoded(np.concatenate([sounds[0], silence(1.5), sounds[1]])), CONFIG)
    peaks = [np.abs(clip).max() for clip in whole.clips()]
    assert min(peaks[0], peaks[-1]) == pytest.approx(CONFIG.clean.peak, rel=1e-4)


def test_loud_lopsided_sounds_do_not_lift_the_silence_beside_them():
    lopsided = np.abs(lively(0.5))
    whole = windowing.whole(decoded(np.concatenate([silence(5), lopsided, silence(5)])), CONFIG)
    assert whole.pieces["sound_start"].min() > 4.9 and whole.pieces["sound_end"].max() < 5.6


# --- several labels, odd names -----------------------------------------------------------------


def made(probabilities, classes, thresholds=None, how="mean"):
    """A Hearing of noise, three windows long, of which the networks said this."""
    whole = windowing.whole(decoded(lively(2)), CONFIG)
    table = pd.DataFrame(probabilities, columns=classes)
    assert len(table) == len(whole.pieces) == 3
    return hearing.Hearing(whole, table, thresholds, how)


def test_with_several_labels_each_class_has_its_own_events():
    heard = made([[0.9, 0.1], [0.9, 0.1], [0.9, 0.9]], ["a", "b"], pd.Series({"a": 0.5, "b": 0.5}))
    assert heard.windows()["label"].tolist() == ["a", "a", "a|b"]
    events = heard.events()
    assert events["label"].tolist() == ["a", "b"] and events["onset"].tolist() == [0, 1]
    assert events["offset"].tolist() == [2, 2]
    nothing = made(np.full((3, 2), 0.1), ["a", "b"], pd.Series({"a": 0.5, "b": 0.5}))
    assert (
        nothing.events().empty
        and nothing.windows()["label"].eq("").all()
        and nothing.files()["labels.txt"] == ""
    )


# --- networks whose frames answer


def made_of_frames(levels, seconds=0.1, thresholds=None):
    """A Hearing of two seconds of noise, whose frames said a class "a" is so probable at a time."""
    heard = made(np.full((3, 2), 0.5), ["a", "b"], thresholds)
    pieces = heard.heard.pieces
    begins = pieces["start"].to_numpy()[:, None] / RATE
    a = levels(begins + seconds * np.arange(round(WINDOW / seconds) + 1))
    frames = hearing.Frames(np.stack([a, 1 - a], axis=1), seconds)
    return dataclasses.replace(heard, frames=frames)


SEVERAL = pd.Series({"a": 0.5, "b": 0.5})


@pytest.mark.parametrize("thresholds", [None, SEVERAL])
def test_events_begin_and_end_with_the_frames_of_all_windows(thresholds):
    heard = made_of_frames(lambda time: np.where((time > 0.64) & (time < 1.46), 0.9, 0.1))
    events = dataclasses.replace(heard, thresholds=thresholds).events()
    a = events[events["label"].eq("a")]
    assert len(a) == 1 and a["probability"].item() > 0.7
    assert abs(a["onset"].item() - 0.65) < 0.1 and abs(a["offset"].item() - 1.45) < 0.1
    spans, probabilities = heard.course()
    assert len(spans) == len(probabilities) == 80  # a span each 25 ms
    assert dataclasses.replace(heard, frames=None).course()[0].shape == (4, 2)


def test_an_event_ends_where_its_class_is_less_probable_than_its_threshold():
    falls = made_of_frames(lambda time: 0.8 * np.exp(-time / 2), thresholds=SEVERAL).events()
    a = falls[falls["label"].eq("a")]
    assert a["onset"].item() == 0 and a["offset"].item() == pytest.approx(2 * np.log(1.6), abs=0.1)
    never = made_of_frames(lambda time: np.full_like(time, 0.4), thresholds=SEVERAL).events()
    assert "a" not in set(never["label"])


def test_of_several_labels_frames_say_only_what_their_windows_say():
    heard = made_of_frames(lambda time: np.full_like(time, 0.9), thresholds=SEVERAL)
    windows = pd.DataFrame({"a": [0.95, 0.1, 0.1], "b": [0.1, 0.1, 0.1]})
    a = dataclasses.replace(heard, probabilities=windows).events()
    assert a["label"].tolist() == ["a"] and a["offset"].item() == pytest.approx(1, abs=0.05)


def test_a_single_frame_that_stands_out_is_no_event():
    click = made_of_frames(lambda time: np.where(np.abs(time - 1) < 0.04, 0.9, 0.1))
    assert set(click.events()["label"]) == {"b"}


@pytest.mark.parametrize("several", [False, True])
def test_a_run_with_attention_hears_in_frames_by_itself(tmp_path, monkeypatch, capsys, several):
    resnet = {"name": "resnet", "channels": (4, 8, 8), "pooling": "attention"}
    config = small_config(model=resnet, data={"multilabel": several})
    monkeypatch.setenv("EARSHOT_HOME", str(tmp_path))
    save_folds(tmp_path / "outputs" / "mine", ["a", "b", "c"], config)
    soundfile.write(tmp_path / "x.wav", lively(2.3), RATE)
    bundle = inference.Bundle(tmp_path / "outputs" / "mine")
    assert bundle.frame_seconds == pytest.approx(4 * 128 / RATE)  # the stem and a block halve
    clips = np.stack([lively(0.5), lively(0.5)])
    frames = bundle.predict_frames(clips)
    assert frames.shape == (2, 3, 8) and ((frames > 0) & (frames < 1)).all()
    total = frames.sum(axis=1)
    assert several or np.allclose(total, 1, atol=1e-5)
    heard = bundle.hear(tmp_path / "x.wav", threshold=0.2)
    assert len(heard.course()[0]) > 4 * len(dataclasses.replace(heard, frames=None).course()[0])
    command = ["predict", str(tmp_path / "x.wav"), "--run", "mine", "--out", str(tmp_path)]
    assert cli.main([*command, "--threshold", "0.2"]) == 0
    written = pd.read_csv(tmp_path / "x.events.csv")
    pd.testing.assert_frame_equal(written, heard.events(), check_dtype=False)
    capsys.readouterr()


def test_classes_called_as_other_columns_are_told_apart():
    heard = made([[0.9, 0.1]] * 3, ["start", "probability"])
    assert list(heard.windows())[4:] == ["class start", "class probability"]
    assert heard.events()["label"].tolist() == ["start"]


@pytest.mark.parametrize("how", ["mean", "max", "top", "noisy_or"])
def test_the_answer_of_a_file_lies_between_those_of_its_windows(how):
    alike = made([[0.7, 0.3]] * 3, ["a", "b"], pd.Series({"a": 0.5, "b": 0.5}), how).overall
    if how != "noisy_or":
        np.testing.assert_allclose(alike, [0.7, 0.3], rtol=1e-3)
    else:  # three windows, each half over the next, are one and a half independent ones
        np.testing.assert_allclose(alike, 1 - (1 - np.array([0.7, 0.3])) ** 1.5, rtol=1e-2)


def test_the_examples_hold():
    assert doctest.testmod(hearing).attempted == 2 and not doctest.testmod(hearing).failed
