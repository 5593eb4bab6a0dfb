"""The app: choose a trained run, upload, record or click a sound, see and hear what is in it. Start
it with `make app`.

The page is there at once; the networks, torch and the rest are loaded in a thread meanwhile.
"""

import base64
import hashlib
import io
import os
import re
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import streamlit as st

sys.path.insert(
    0, str(Path(__file__).resolve().parent.parent)
)  # streamlit puts only the app's folder there

from app import charts, corrections, examples, listening, player, runs
from helpers.audio import containers
from helpers.base import errors

SHOWN_CLASSES = 12  # of many classes, the most probable ones
# What a run that is damaged, or made by another version, may raise.
DAMAGED = (ValueError, TypeError, LookupError, AttributeError, OSError, RuntimeError, ImportError)
TITLES = {
    "windows.csv": "Windows (CSV)",
    "events.csv": "Events (CSV)",
    "labels.txt": "Audacity labels",
    "selections.txt": "Raven table",
}
STYLE = """<style>
.stMainBlockContainer {padding-top: 2.5rem; padding-bottom: 3rem}
.st-key-examples {
  display: grid; gap: 0.75rem;
  grid-template-columns: repeat(auto-fill, minmax(min(11rem, 45%), 1fr));
}
.st-key-examples > *, .st-key-examples .stButton, .st-key-examples button {width: 100%}
.st-key-examples button {padding: 0.4rem}
.st-key-examples button p {display: flex; flex-direction: column; gap: 0.35rem}
.st-key-examples button img {
  width: 100%; max-width: none; height: 4.5rem; max-height: none; border-radius: 4px; margin: 0;
  object-fit: fill;
}
</style>"""
STARTER = """The starter is one small network that comes with Earshot and knows ten synthetic
sounds. Train one on recordings of your own, a folder per class:
`make run-all DATA=path/to/folder RUN=mine`."""
PROBLEMS = {
    "EMPTY_FILE": "The file is empty. Copy or download it once more.",
    "EMPTY_AUDIO": "The file holds no sound, only a header. Record or export it once more.",
    "NOT_AUDIO": "This file cannot be read as a recording, whatever its name says. Try WAV, FLAC, "
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


@dataclass(frozen=True)
class Sound:
    """A sound to be heard: its name, its bytes, whether it is the visitor's own."""

    name: str
    data: bytes
    own: bool = True

    @property
    def digest(self):
        """What tells it from others."""
        return hashlib.sha256(self.data).hexdigest()


# --- the networks, and what they hear -----------------------------------------------------------


@st.cache_resource(max_entries=2, show_spinner=False)
def loading(folder, prints):
    """The networks of a run, on their way in a thread: a Future, kept until its fingerprint
    changes.
    """
    return ThreadPoolExecutor(1).submit(listening.ready, folder)


def load(run):
    """The run's networks; None if they are damaged, and the page says so."""
    try:
        with st.spinner("The networks are being loaded …", show_time=True):
            return loading(run.folder, runs.fingerprint(run.folder)).result()
    except DAMAGED as error:
        return damaged(run.folder.name, error)


def key_of(run, sound):
    """What an answer follows from."""
    return run.folder, runs.fingerprint(run.folder), sound.digest, *sorted(how().items())


def how():
    """How it listens, as the visitor set it: overlap and threshold of `Bundle.hear`."""
    threshold = st.session_state.get("threshold") or None
    return {"overlap": st.session_state.get("overlap", 0.5), "threshold": threshold}


def scored_once(run, bundle, sound):
    """The scored recording, kept for this visitor until the sound or the run changes."""
    key = key_of(run, sound)
    if st.session_state.get("scored", (None, None))[0] != key:
        st.session_state["scored"] = (
            None,
            None,
        )  # two long recordings need not be in memory at once
        with st.spinner("Listening …", show_time=True):
            st.session_state["scored"] = (key, listening.score(sound.data, bundle, **how()))
    return st.session_state["scored"][1]


def answers_to(run, bundle, sounds):
    """What is heard in each of several sounds: a list of (row of the table, files to download)."""
    kept = st.session_state.setdefault("answers", {})
    missing = [sound for sound in sounds if key_of(run, sound) not in kept]
    bar = st.progress(0.0) if missing else None
    for number, sound in enumerate(missing):
        bar.progress(number / len(missing), f"Listening to {plain(sound.name)} …")
        kept[key_of(run, sound)] = answer_to(sound, bundle)
    if bar:
        bar.empty()
    return [kept[key_of(run, sound)] for sound in sounds]


def answer_to(sound, bundle):
    """A row of the table, the name left out, and the files of an answer, none for a bad one."""
    try:
        heard = listening.score(sound.data, bundle, **how()).heard
    except errors.AudioIssue as issue:
        return {"answer": "", "problem": f"{issue.code}: {problem(issue)}"}, {}
    said = listening.counted(heard)
    labels = ", ".join(said) or "none of the classes"
    share = heard.overall[said].max() if len(said) else heard.overall.max()
    return {"answer": labels, "probability": share, "problem": ""}, heard.files()


def plain(text):
    """Text that Markdown leaves alone.

    >>> print(plain("a_b *c*"))
    a\\_b \\*c\\*
    """
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", str(text))


def problem(issue):
    """What is wrong with a recording, and what to do, in words."""
    return PROBLEMS.get(issue.code, "This recording cannot be used. Try another one.")


# --- the page: what is chosen ------------------------------------------------------------------


def main():
    """The whole page: the choices on the left, what was heard on the right, on a phone below each
    other; below both the sound over time.
    """
    st.set_page_config(page_title="Earshot", page_icon="👂", layout="wide")
    st.html(STYLE)
    st.title("Earshot", anchor=False)
    left, right = st.columns([9, 11], gap="large")
    with left:
        run = choose_run(runs.names())
    if not run:
        return
    with left:
        place = trust(run)
        sounds = choose_sounds(run)
    if sounds:
        show_sounds(run, sounds, right)
    else:
        with right:
            welcome(run)
    loading(run.folder, runs.fingerprint(run.folder))
    with place:  # cautions take seconds to import: they come last
        show_cautions(read_cautions(run.folder))


def choose_run(names):
    """The run that the visitor chose; None if it is damaged, and the page says so."""
    wanted = os.environ.get("EARSHOT_RUN", "")
    if wanted and wanted not in names:
        st.warning(f"There is no trained run {plain(wanted)}; choose one of these.")
    first = names.index(wanted) if wanted in names else 0
    name = st.selectbox(
        "Trained run", names, first, format_func=runs.called, key="run", on_change=leave_example
    )
    try:
        return runs.read(name)
    except DAMAGED as error:
        return damaged(name, error)


def damaged(name, error):
    """Say that a run cannot be used, and what helps; returns None."""
    st.error(
        f"The run {plain(name)} cannot be used. Choose another one, or train it again: `make "
        "run-all RUN=… FORCE=1`."
    )
    st.caption(plain(error))


def trust(run):
    """What the run knows, how well it did on recordings it was not trained on, and whether that
    means anything. Returns where cautions have their place.
    """
    place = st.container()
    if run.marks:
        words = " · ".join(run.marks) + ": its scores say little"
        place.badge(words, color="orange", icon=":material/science:")
    for words in run.scores or [
        "How often it is right was not measured yet: notebook 07 measures it."
    ]:
        place.markdown(words)
    more = f" and {len(run.labels) - SHOWN_CLASSES} more" if len(run.labels) > SHOWN_CLASSES else ""
    st.caption(
        f"Knows {len(run.labels)} classes: {plain(', '.join(run.labels[:SHOWN_CLASSES]))}{more}."
    )
    report = run.folder / "report.html"
    if report.is_file():
        name = f"{run.folder.name}-report.html"
        st.download_button(
            "Report of this run", report.read_bytes, name, "text/html", on_click="ignore"
        )
    return place


def read_cautions(folder):
    """What to know before a run's answers are trusted: red, amber and green."""
    from helpers.run import cautions

    try:
        return cautions.of(folder)
    except DAMAGED as error:
        return damaged(folder.name, error) or []


def show_cautions(cautions):
    """Red ones stand open, the others in a box to be opened; each with what to do about it."""
    others = [caution for caution in cautions if caution.level != "red"]
    for caution in cautions:
        if caution.level == "red":
            st.error(in_markdown(caution), icon=":material/warning:")
    if others:
        with st.expander("Before you trust this"):
            for caution in others:
                box = st.warning if caution.level == "amber" else st.success
                box(in_markdown(caution))


def in_markdown(caution):
    """A caution, and the command that comes next."""
    return plain(caution.says) + (f"\n\n`{caution.do}`" if caution.do else "")


def choose_sounds(run):
    """What was uploaded, recorded or clicked last: a list of Sound."""
    settings = run.config.audio
    limit = f"{charts.clock(settings.max_seconds)} and {st.get_option('server.maxUploadSize')} MB"
    files = st.file_uploader(
        f"Recordings of at most {limit}",
        containers.SUFFIXES,
        accept_multiple_files=True,
        key="upload",
        on_change=take,
        args=["upload"],
    )
    rate = listening.recorder_rate(settings.sample_rate)
    recorded = st.audio_input(
        f"Microphone, recorded at {rate / 1000:g} kHz",
        sample_rate=rate,
        key="microphone",
        on_change=take,
        args=["microphone"],
    )
    with st.expander("How it listens"):
        st.slider("Overlap of the windows", 0.0, 0.9, 0.5, 0.05, key="overlap")
        own = "its own" if run.config.data.multilabel else "none"
        words = f"Least probability of an answer (0: {own})"
        st.slider(words, 0.0, 1.0, 0.0, 0.05, key="threshold")
    source = st.session_state.get("source")
    if source == "upload":
        return [Sound(file.name, file.getvalue()) for file in files]
    if source == "microphone" and recorded:
        return [Sound(recorded.name, recorded.getvalue())]
    if isinstance(source, Path) and source.is_file():
        return [Sound(source.name, source.read_bytes(), own=False)]
    return []


def take(widget):
    """What was just uploaded or recorded is heard from now on."""
    if st.session_state[widget]:
        st.session_state["source"] = widget


def leave_example(path=None):
    """An example belongs to its run: choose another one, or none."""
    if path or isinstance(st.session_state.get("source"), Path):
        st.session_state["source"] = path


# --- the page: before a sound ------------------------------------------------------------------


def welcome(run):
    """Sounds to try, and what will happen."""
    st.subheader("Hear one, or upload your own", anchor=False)
    show_examples(run)
    seconds = run.config.audio.clip_seconds
    who = "One network listens" if run.networks == 1 else f"{run.networks} networks listen"
    st.markdown(
        f"{who} from the first second to the last, in windows of {seconds:g} s that overlap."
    )
    if run.starter:
        st.info(STARTER)


def show_examples(run):
    """Six sounds with their spectrograms, each a button."""
    sounds, words = examples.of(run)
    if not sounds:
        st.caption("This run kept no clips to try.")
        return
    with st.container(key="examples"):
        for name, path in sounds:
            picture = base64.b64encode(examples.picture(path, path.stat().st_mtime_ns)).decode()
            label = f"![spectrogram](data:image/png;base64,{picture}) {plain(name)}"
            st.button(label, key=f"example {path}", on_click=leave_example, args=[path])
    st.caption(words)


# --- the page: what was heard ------------------------------------------------------------------


def show_sounds(run, sounds, right):
    """The answer on the right; of several sounds a table, and the one that is chosen in full."""
    with right:
        bundle = load(run)
        if not bundle:
            return
        sound = choose_of(run, bundle, sounds) if len(sounds) > 1 else sounds[0]
        scored = listen(run, bundle, sound)
        if scored:
            counted = show_answer(scored, bundle)
            if sound.own:
                ask(run, bundle, sound, list(counted))
    if scored:
        player.show(scored, bundle.config)
        show_course(scored.heard)
        offer_files(scored.heard, Path(sound.name).stem)
    st.subheader("Hear another", anchor=False)
    show_examples(run)


def choose_of(run, bundle, sounds):
    """A table of several sounds, all files to download, and the one to see in full."""
    answers = answers_to(run, bundle, sounds)
    rows = [{"file": sound.name, **row} for sound, (row, _) in zip(sounds, answers, strict=True)]
    table = pd.DataFrame(rows, columns=["file", "answer", "probability", "problem"])
    if not table["problem"].any():
        table = table.drop(columns="problem")
    share = st.column_config.NumberColumn(format="percent")
    st.dataframe(table, hide_index=True, column_config={"probability": share})
    st.download_button(
        "All answers (ZIP)", zipped(table, answers), "answers.zip", on_click="ignore"
    )
    numbers = range(len(sounds))
    chosen = st.selectbox(
        "See in full", numbers, format_func=lambda number: sounds[number].name, key="chosen"
    )
    return sounds[chosen]


def zipped(table, answers):
    """The table and the files of all answers as the bytes of a ZIP."""
    from helpers.compare import hearing

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("answers.csv", table.to_csv(index=False))
        stems = hearing.stems(f"{number}/{name}" for number, name in enumerate(table["file"]))
        for stem, (_, files) in zip(stems, answers, strict=True):
            for ending, text in files.items():
                file.writestr(f"{stem}.{ending}", text)
    return buffer.getvalue()


def listen(run, bundle, sound):
    """The scored recording; None if it cannot be used, and the page says why and what to do."""
    try:
        return scored_once(run, bundle, sound)
    except errors.AudioIssue as issue:
        st.warning(problem(issue))
        detail = re.sub(
            r"'[^']*recording'", "the file", issue.detail
        )  # decoders quote the temporary path
        st.caption(plain(f"{issue.code}: {detail}"))
        return None


def show_answer(scored, bundle):
    """The answer, and the probability of each class. Returns the classes that count as heard."""
    overall, windows = scored.heard.overall, scored.heard.by_window().dropna()
    counted, limits = listening.counted(scored.heard), bundle.thresholds
    if bundle.multilabel and scored.heard.threshold is not None:
        limits = limits.clip(scored.heard.threshold, scored.heard.threshold)
    alone = not bundle.multilabel and len(counted)
    unsure = listening.doubt(overall, windows) if alone else ""
    st.subheader(headline(overall[counted], unsure), anchor=False)
    st.vega_lite_chart(*charts.bars(overall.head(SHOWN_CLASSES), counted, limits))
    note = (
        "Each class has a probability of its own; the mark is its threshold. "
        if bundle.multilabel
        else ""
    )
    st.caption(
        f"{note}The model knows only its own classes and answers with them, whatever it hears."
    )
    return counted


def headline(found, doubt=""):
    """The answer in a few words. Args: found probabilities of what was heard; doubt the words
    before it.

    >>> headline({"dog": 0.9, "rain": 0.6}), headline({"dog": 0.4}, "Unsure, perhaps ")
    ('dog (90%), rain (60%)', 'Unsure, perhaps dog (40%)')
    """
    said = ", ".join(f"{plain(name)} ({probability:.0%})" for name, probability in found.items())
    return doubt + (said or "None of the classes that it knows")


def ask(run, bundle, sound, said):
    """Was this right? What the visitor says is kept with the sound; nothing learns from it by
    itself.
    """
    key = f"{run.folder.name} {sound.digest}"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("**Was this right?**", width="content")
        yes = st.button("Yes", key=f"yes {key}")
        words, options = "No, it was …", [*bundle.labels, corrections.NONE]
        if bundle.multilabel:
            chosen = st.multiselect(
                words, options, placeholder=words, label_visibility="collapsed", key=f"no {key}"
            )
        else:
            one = st.selectbox(
                words,
                options,
                None,
                placeholder=words,
                label_visibility="collapsed",
                key=f"no {key}",
            )
            chosen = [one] if one else []
        no = st.button("Save", key=f"save {key}", disabled=not chosen)
    if yes or no:
        right = said if yes else [label for label in chosen if label != corrections.NONE]
        path = corrections.save(run.kept, sound.name, sound.data, said, right, bundle.multilabel)
        st.success(
            f"Kept as `{path}` in `{run.kept}`, with a row of `{corrections.TABLE}`. Nothing "
            "learns from it by itself: copy the class folders to your recordings and train again."
        )


def show_course(heard):
    """The course over time, in the time of the file, and the numbers behind it."""
    if len(heard.heard.windows) == 1:
        seconds = heard.heard.settings.clip_seconds
        st.caption(f"One window: longer recordings are heard in windows of {seconds:g} s.")
        return
    st.subheader("Over time", anchor=False)
    windows = heard.windows()
    silent = int(heard.by_window().isna().all(axis=1).sum())
    quiet = f", {silent} without sound, of which nothing is said" if silent else ""
    st.markdown(f"{len(windows)} windows{quiet}: {tally(heard) or 'none of the classes in any'}")
    top = heard.course()[1].max().nlargest(SHOWN_CLASSES).index
    shown = [name for name in heard.overall.index if name in top]
    st.vega_lite_chart(*charts.timeline(heard, shown))
    st.caption("The stronger, the more probable. Where there is no sound it stays empty.")
    with st.expander(f"All {len(windows)} windows as a table"):
        st.dataframe(windows.round(4), hide_index=True)


def tally(heard, most=5):
    """In how many windows each class was heard, the most frequent first, in words."""
    counts = heard.said().sum().sort_values(ascending=False, kind="stable").head(most)
    return ", ".join(f"{plain(name)} in {count}" for name, count in counts[counts > 0].items())


def offer_files(heard, stem):
    """The files of `make predict FILE=… OUT=…`, to download."""
    with st.container(horizontal=True):
        for ending, text in heard.files().items():
            st.download_button(
                TITLES.get(ending, ending), text, f"{stem}.{ending}", on_click="ignore", key=ending
            )


if __name__ == "__main__":
    main()
