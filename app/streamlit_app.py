"""The app: choose a trained run, upload or record a sound, see what the model hears in it. Start it
with `make app`.

The page is there at once; torch and the rest are imported when a sound is to be scored.
"""

import hashlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

sys.path.insert(
    0, str(Path(__file__).resolve().parent.parent)
)  # streamlit puts only the app's folder there

from app import charts, listening
from helpers.audio import containers
from helpers.base import artifacts

SHOWN_SECONDS = 60  # of a long recording, so much is shown and played at a time
SHOWN_CLASSES = 12  # of many classes, the most probable ones
# What a run that is damaged, or made by another version, may raise.
DAMAGED = (ValueError, TypeError, LookupError, AttributeError, OSError, RuntimeError, ImportError)
UPLOAD, RECORD, EXAMPLE = "Upload a file", "Record", "Try an example"
NO_RUN = """There is no trained run yet. Train one in a terminal, then look again:

- `make run-all` learns ten synthetic sounds in about four minutes;
- `make run-all DATA=path/to/folder RUN=mine` learns your own recordings, a folder per class."""
PROBLEMS = {
    "EMPTY_FILE": "The file is empty. Copy or download it once more.",
    "EMPTY_AUDIO": "The file holds no sound, only a header. Record or export it once more.",
    "NOT_AUDIO": "This is no recording that can be read, whatever its name says. Try WAV, FLAC, "
    "OGG, MP3 or M4A.",
    "TRUNCATED": "The end of the file is missing. Copy, download or export it once more.",
    "NONFINITE": "The file holds values that are no numbers. Export it once more, as 16-bit WAV "
    "or FLAC.",
    "TOO_LONG": "The recording is too long for this run. Cut out the part you want to know about.",
    "TOO_SHORT": "The recording is too short to tell anything. Record a little longer.",
    "SILENT": "There is no sound in the recording. Is the right microphone chosen, and is it on?",
    "TOO_LARGE": "There is no room here for so large a recording. Cut out the part you want to "
    "know about.",
    "CODEC_NOT_ALLOWED": "This kind of file is not read. Export it as 16-bit WAV or FLAC.",
    "BAD_RATE": "The sample rate is unusual. Export the recording at 44.1 kHz.",
    "TOO_MANY_CHANNELS": "The file has too many channels. Export it as mono or stereo.",
}


# --- runs --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A trained run as the page shows it; score is (name of the metric, its value and interval) or
    None.
    """

    folder: Path
    config: object
    labels: list
    networks: int
    marks: list
    score: tuple | None


def run_names():
    """Names of the runs that hold a trained CNN, the one trained last first."""
    cards = (artifacts.home() / "outputs").glob("*/models/cnn/fold*/card.json")
    newest = {}
    for card in cards:
        name = card.parents[3].name
        newest[name] = max(newest.get(name, 0), card.stat().st_mtime)
    return sorted(newest, key=newest.get, reverse=True)


def read_run(folder):
    """The facts about a run, from its cards and scores. Raises one of DAMAGED."""
    from helpers.base.settings import Config

    cards = sorted(folder.glob("models/cnn/fold*/card.json"))
    card = artifacts.read_json(cards[0])
    settings = read_if_there(folder / "run.json").get("config", {})
    marks = [
        mark
        for key, mark in (("synthetic", "synthetic data"), ("fast", "smoke run"))
        if settings.get(key)
    ]
    metrics = read_if_there(folder / "metrics.json")
    name = metrics.get("headline", ["accuracy"])[0]
    score = (name, metrics[name]) if name in metrics else None
    return Run(folder, Config(**card["config"]), card["labels"], len(cards), marks, score)


def read_if_there(path):
    """What a JSON file holds, or an empty dict where there is no file."""
    return artifacts.read_json(path) if path.is_file() else {}


def fingerprint(folder):
    """What changes when a run is trained again: names, times and sizes of its cards and weights."""
    files = sorted([*folder.glob("models/cnn/fold*/*"), *folder.glob("models/cnn/*.json")])
    return tuple(
        (file.parent.name, file.name, file.stat().st_mtime_ns, file.stat().st_size)
        for file in files
    )


@st.cache_resource(max_entries=2, show_spinner=False)
def load_bundle(folder, prints):
    """The networks of a run, loaded once until its fingerprint changes."""
    from helpers.compare import inference

    return inference.Bundle(folder)


# --- a sound, scored ---------------------------------------------------------------------------


def scored_once(run, bundle, data):
    """The scored recording, kept for this visitor until the sound or the run changes."""
    key = (run.folder, fingerprint(run.folder), hashlib.sha256(data).hexdigest())
    if st.session_state.get("scored", (None, None))[0] != key:
        st.session_state["scored"] = (
            None,
            None,
        )  # two long recordings need not be in memory at once
        with st.spinner("Listening …", show_time=True):
            st.session_state["scored"] = (key, listening.score(data, bundle))
    return st.session_state["scored"][1]


def plain(text):
    """Text that Markdown leaves alone.

    >>> print(plain("a_b *c*"))
    a\\_b \\*c\\*
    """
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", str(text))


# --- the page ----------------------------------------------------------------------------------


def main():
    """The whole page: the choices on the left, what was heard on the right, on a phone below each
    other.
    """
    st.set_page_config(page_title="Earshot", page_icon="👂", layout="wide")
    st.html("<style>.stMainBlockContainer {padding-top: 2.5rem; padding-bottom: 3rem}</style>")
    st.title("Earshot", anchor=False)
    if not (names := run_names()):
        st.info(NO_RUN)
        st.button("Look again")
        return
    left, right = st.columns([9, 11], gap="large")
    with left:
        run = choose_run(names)
        name, data = choose_sound(run) if run else ("", None)
    with right:
        bundle = networks(run) if run else None
        scored = listen(run, bundle, data) if bundle and data is not None else None
        if scored:
            show_answer(scored, bundle, name)
        elif bundle and data is None:
            welcome(run)
    with left:
        if scored:
            show_sound(scored, bundle.config)


def choose_run(names):
    """The run that the visitor chose, with a word on how far to trust it; None if it is damaged."""
    wanted = os.environ.get("EARSHOT_RUN", "")
    if wanted and wanted not in names:
        st.warning(f"There is no trained run {plain(wanted)}; here are those that there are.")
    first = names.index(wanted) if wanted in names else 0
    name = st.selectbox("Trained run", names, index=first, key="run")
    try:
        run = read_run(artifacts.home() / "outputs" / name)
        trust(run)
    except DAMAGED as error:
        return damaged(name, error)
    return run


def damaged(name, error):
    """Say that a run cannot be used, and what helps; returns None."""
    st.error(
        f"The run {plain(name)} cannot be used. Choose another one, or train it again: `make "
        "run-all RUN=… FORCE=1`."
    )
    st.caption(plain(error))


def trust(run):
    """What the run knows, how well it did on recordings it was not trained on, and whether that
    means anything.
    """
    if run.marks:
        st.badge(
            " · ".join(run.marks) + ": its scores say little",
            color="orange",
            icon=":material/science:",
        )
    for caution in read_cautions(run.folder):
        st.error(plain(caution.says), icon=":material/warning:")
    st.markdown(
        measured(*run.score)
        if run.score
        else "How often it is right was not measured: notebook 07 does."
    )
    more = f" and {len(run.labels) - SHOWN_CLASSES} more" if len(run.labels) > SHOWN_CLASSES else ""
    st.caption(
        f"Knows {len(run.labels)} classes: {plain(', '.join(run.labels[:SHOWN_CLASSES]))}{more}."
    )


def read_cautions(folder):
    """What speaks against a run's results so strongly that they should not be used as they are."""
    from helpers.run import cautions

    return [caution for caution in cautions.of(folder) if caution.level == "red"]


def measured(name, score):
    """A score in words.

    >>> measured("accuracy", {"value": 0.855, "low": 0.804, "high": 0.899})
    '**85.5%** of held-out recordings right (95% interval 80.4% to 89.9%)'
    """
    of = (
        "of held-out recordings right"
        if name == "accuracy"
        else f"{name.replace('_', ' ')} on held-out recordings"
    )
    return f"**{score['value']:.1%}** {of} (95% interval {score['low']:.1%} to {score['high']:.1%})"


def choose_sound(run):
    """Name and bytes of the recording that was uploaded, recorded or chosen; None for bytes if
    there is none yet.
    """
    source, settings = (
        st.radio("Sound", [UPLOAD, RECORD, EXAMPLE], horizontal=True, key="source"),
        run.config.audio,
    )
    if source == EXAMPLE:
        return choose_example(run.folder)
    if source == UPLOAD:
        limit = (
            f"{charts.clock(settings.max_seconds)} and {st.get_option('server.maxUploadSize')} MB"
        )
        file = st.file_uploader(
            f"A recording of at most {limit}", containers.SUFFIXES, key="upload"
        )
    else:
        rate = listening.recorder_rate(settings.sample_rate)
        file = st.audio_input(
            f"Microphone, recorded at {rate / 1000:g} kHz", sample_rate=rate, key="microphone"
        )
    return ("", None) if file is None else (Path(file.name).stem, file.getvalue())


def choose_example(folder):
    """Name and bytes of one of the run's own clips; None for bytes if it kept none."""
    clips = examples(folder / "clips")
    if not clips:
        st.info("This run kept no clips. Upload a recording instead.")
        return "", None
    name = st.selectbox("One of the run's own clips", clips, key="example")
    if clips[name].parts[-3] == "train":
        st.caption(
            "Most of the networks were trained on this clip: a right answer here proves little."
        )
    return clips[name].stem, clips[name].read_bytes()


def examples(folder, unseen=5):
    """Clips to try, by name: the first of each training class, then some of the test set, which no
    network has seen.
    """
    train = {
        path.name: min(path.glob("*.flac"), default=None) for path in sorted(folder.glob("train/*"))
    }
    test = sorted(folder.glob("test/*/*.flac"))[:unseen]
    return {name: path for name, path in train.items() if path} | {
        f"test clip {number}, never seen in training": path for number, path in enumerate(test, 1)
    }


def networks(run):
    """The run's networks, loaded; None if they are damaged, and the page says so."""
    try:
        with st.spinner(f"Loading the networks of {plain(run.folder.name)} …"):
            return load_bundle(run.folder, fingerprint(run.folder))
    except DAMAGED as error:
        return damaged(run.folder.name, error)


def welcome(run):
    """What will happen, while there is no sound yet."""
    st.subheader("Ready", anchor=False)
    seconds = run.config.audio.clip_seconds
    who = "One network listens" if run.networks == 1 else f"{run.networks} networks listen"
    st.markdown(
        f"{who} from the first second to the last, in windows of {seconds:g} s, each half over "
        "the one before."
    )
    st.caption("Upload a recording, record one, or try an example.")


def listen(run, bundle, data):
    """The scored recording; None if it cannot be used, and the page says why and what to do."""
    from helpers.base.errors import AudioIssue

    try:
        return scored_once(run, bundle, data)
    except AudioIssue as issue:
        st.warning(PROBLEMS.get(issue.code, "This recording cannot be used. Try another one."))
        detail = re.sub(
            r"'[^']*recording'", "the file", issue.detail
        )  # decoders quote the temporary path
        st.caption(plain(f"{issue.code}: {detail}"))
        return None


def show_answer(scored, bundle, name):
    """What was heard: the answer, the probability of each class, and with several windows the
    course over time.
    """
    overall, windows = scored.heard.overall, scored.heard.by_window().dropna()
    counted = listening.counted(overall, bundle)
    unsure = "" if bundle.multilabel else listening.doubt(overall, windows)
    st.subheader(headline(overall[counted], unsure), anchor=False)
    st.altair_chart(charts.bars(overall.head(SHOWN_CLASSES), counted, bundle.thresholds))
    note = (
        "Each class has a probability of its own; the mark is its threshold. "
        if bundle.multilabel
        else ""
    )
    st.caption(
        f"{note}The model knows only its own classes and answers with them, whatever it hears."
    )
    if len(scored.heard.heard.windows) > 1:
        show_course(scored.heard)
    else:
        st.caption(
            "One window: longer recordings are heard in windows of "
            f"{bundle.config.audio.clip_seconds:g} s."
        )
    offer_files(scored.heard, name)


def headline(found, doubt=""):
    """The answer in a few words. Args: found probabilities of what was heard; doubt the words
    before it.

    >>> headline({"dog": 0.9, "rain": 0.6}), headline({"dog": 0.4}, "Unsure, perhaps ")
    ('dog (90%), rain (60%)', 'Unsure, perhaps dog (40%)')
    """
    said = ", ".join(f"{plain(name)} ({probability:.0%})" for name, probability in found.items())
    return doubt + (said or "None of the classes that it knows")


def show_sound(scored, config):
    """Picture and player; of a long recording a minute, which a slider chooses."""
    rate, start = config.audio.sample_rate, 0
    last = int((len(scored.waveform) / rate - 1) // SHOWN_SECONDS) * SHOWN_SECONDS
    if last > 0:
        starts = range(0, last + 1, SHOWN_SECONDS)
        start = st.select_slider(
            "Minute to see and hear", starts, format_func=lambda s: f"{s // 60}:00", key="minute"
        )
    piece = scored.waveform[
        start * rate : None if start >= last else (start + SHOWN_SECONDS) * rate
    ]
    from helpers.audio import recording

    st.image(charts.picture(piece, config, start), width="stretch")
    st.audio(recording.encode_mp3(piece, rate), format="audio/mpeg")
    st.caption(scored.facts)


def show_course(heard):
    """The course over time, in the time of the file, and the numbers behind it."""
    st.subheader("Over time", anchor=False)
    events, windows = heard.events(), heard.windows()
    silent = int(heard.by_window().isna().all(axis=1).sum())
    quiet = f", {silent} without sound, of which nothing is said" if silent else ""
    st.markdown(f"{len(windows)} windows{quiet}: {tally(heard) or 'none of the classes in any'}")
    top = heard.course()[1].max().nlargest(SHOWN_CLASSES).index
    st.altair_chart(charts.timeline(heard, [name for name in heard.overall.index if name in top]))
    st.caption("The darker, the more probable. Where there is no sound it stays white.")
    with st.expander(f"{len(events)} events: what was heard from when to when (seconds)"):
        st.dataframe(events.round(2), hide_index=True)
    with st.expander(f"All {len(windows)} windows as a table"):
        st.dataframe(windows.round(4), hide_index=True)


def tally(heard, most=5):
    """In how many windows each class was heard, the most frequent first, in words."""
    counts = heard.said().sum().sort_values(ascending=False, kind="stable").head(most)
    return ", ".join(f"{plain(name)} in {count}" for name, count in counts[counts > 0].items())


def offer_files(heard, name):
    """The three files of `make predict FILE=… OUT=…`, to download."""
    titles = {
        "windows.csv": "Windows (CSV)",
        "events.csv": "Events (CSV)",
        "labels.txt": "Audacity labels",
    }
    files = heard.files()
    for column, (ending, title) in zip(st.columns(len(titles)), titles.items(), strict=True):
        column.download_button(
            title, files[ending], f"{name}.{ending}", on_click="ignore", key=ending
        )


if __name__ == "__main__":
    main()
