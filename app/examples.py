"""Sounds to try with one click: their names, files and small pictures."""

import io
from itertools import chain, zip_longest

import numpy as np
import streamlit as st

from helpers.base import artifacts

MOST = 6
FRAME, BANDS, RANGE_DB = 1024, 48, 70  # of a small picture: samples, rows, loudest to black
NIGHT, DUSK, DAY = "#0B0724", "#B5367A", "#FCFDBF"  # quiet, between, loud


def of(run):
    """Up to six sounds of a run: a list of (name, path), and what to know of them in a sentence.

    The starter has its own; a run its test clips, or where it has none the clips that one of its
    networks was tested on.
    """
    if run.starter:
        files = sorted((run.folder / "examples").iterdir())
        words = "Made by the same synthesis as what it learned from; it learned from none of these."
        return [(file.stem.replace("_", " "), file) for file in files], words
    folders = sorted((run.folder / "clips" / "test").glob("*"))
    turns = zip_longest(*(sorted(folder.glob("*.flac")) for folder in folders))
    tests = [path for path in chain.from_iterable(turns) if path][:MOST]
    if tests:
        return _named(tests), "Clips of the test set: no network has learned from them."
    return _held_out(run)


def _named(paths):
    """Names of test clips: the label where it is known, else a number."""
    labels = [path.parent.name for path in paths]
    return [
        (label if label != "unlabelled" else f"test clip {number}", path)
        for number, (label, path) in enumerate(zip(labels, paths, strict=True), 1)
    ]


def _held_out(run):
    """A clip of each of some classes, from the fold that the first network was tested on."""
    table = run.folder / "clips.csv"
    if not table.is_file():
        return [], ""
    clips = artifacts.read_table(table)
    card = artifacts.read_json(min(run.folder.glob("models/cnn/fold*/card.json")))
    tested = clips[clips["fold"].eq(card["folds"]["test"])].drop_duplicates("label").head(MOST)
    paths = [(clip.label, run.folder / clip.path) for clip in tested.itertuples()]
    words = "Held-out clips: the network has not learned from them."
    if run.networks > 1:
        words = (
            f"Training clips: one of the {run.networks} networks has not learned from them, the "
            "others have. A right answer here proves little."
        )
    return [(label, path) for label, path in paths if path.is_file()], words


@st.cache_data(show_spinner=False, max_entries=100)
def picture(path, changed):
    """A small spectrogram as PNG bytes, without torch, which is not there yet.

    Args: path of the file; changed, its time, so that another file of that name is drawn anew.
    """
    import soundfile

    waveform, rate = soundfile.read(path, dtype="float32", always_2d=True)
    samples = np.pad(waveform.mean(axis=1), (0, FRAME))
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[:: FRAME // 4]
    power = np.abs(np.fft.rfft(frames * np.hanning(FRAME))) ** 2
    bins = np.geomspace(100, rate / 2, BANDS + 1) * FRAME / rate
    count = np.arange(BANDS + 1)
    edges = np.maximum.accumulate(bins.astype(int) - count) + count  # a bin at least in each band
    bands = np.add.reduceat(power, np.minimum(edges[:-1], FRAME // 2), axis=1)
    levels = 10 * np.log10(bands + 1e-9)
    return coloured(levels.T)


def coloured(levels, width=1600):
    """Levels in dB [bands, frames] as PNG bytes, low bands at the bottom, brighter is louder."""
    from PIL import Image, ImageOps

    shades = np.clip(1 + (levels - levels.max()) / RANGE_DB, 0, 1) * 255
    image = Image.fromarray(shades[::-1].astype(np.uint8))
    image = image.resize((min(width, image.width), image.height), Image.Resampling.BOX)
    buffer = io.BytesIO()
    ImageOps.colorize(image, NIGHT, DAY, mid=DUSK).save(buffer, "PNG")
    return buffer.getvalue()
