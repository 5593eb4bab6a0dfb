"""The clips of a run as a listener hears them: embeddings.npy, each computed once.

What was heard is kept in outputs/cache by what decides it, the listener and the sound. So another
run or seed with the same clips finds it there, and what was interrupted goes on.
"""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.audio import features
from helpers.base import artifacts, errors, work
from helpers.listeners import naming, onnx_file, published, runs
from helpers.listeners.listener import Listener

KINDS = {
    "run": runs.build,
    "onnx": onnx_file.build,
    "torchaudio": published.torchaudio_bundle,
    "hf": published.transformers_network,
    "timm": published.timm_network,
}
BATCH = 16  # clips that are heard at a time
CHUNK = 64  # clips whose embeddings are one file of the cache
PREFIX = "embedding_"  # of the columns of a table
BEFORE = {  # by whether it is a run of Earshot
    True: "Its run and this one share no recording.",
    False: "Whether it has learned from these very recordings only its makers can tell: if so, "
    "all scores with it are too good.",
}


def listener(config, folder: Path) -> Listener:
    """The listener that a config names.

    Args: config; folder of the run that it listens for.
    Raises ConfigError, StageError or MissingLibrary with what to do where it cannot be had.
    """
    kind, what = naming.parts(config)
    return KINDS[kind](config, what, folder)


def write(folder: Path, packed: np.ndarray, rows: pd.DataFrame, path: Path, config) -> str:
    """Write the embeddings of a run's clips, float32 [clips, size], as a .npy file.

    Args: folder of the run; packed int16 [clips, samples]; rows of waveforms.csv; path; config.
    Returns what was done, in words.
    """
    heard = listener(config, folder)
    count = len(features.described(rows))
    vectors = embeddings(heard, packed[:count], config.audio.sample_rate)
    _require_telling(heard, vectors)
    with open(path, "wb") as file:
        np.save(file, vectors)
    seconds = heard.window and heard.window / heard.sample_rate
    window = f"windows of {seconds:.3g} s" if seconds else "whole clips"
    what = (
        f"{heard.name} hears {window} at {heard.sample_rate} Hz: {len(vectors)} clips, "
        f"{vectors.shape[1]} numbers each."
    )
    missed = _missed(heard, config.audio.sample_rate)
    told = [what, *heard.notes, missed, BEFORE[heard.name.startswith("run:")]]
    return "\n".join(filter(None, told))


def _require_telling(heard, vectors):
    """Raise ConfigError for embeddings from which nothing can be learned."""
    alike = len(vectors) > 1 and np.ptp(vectors, axis=0).max() == 0
    if alike or vectors.shape[1] == 1:
        says = "every clip alike" if alike else "with one number only"
        raise errors.ConfigError(
            f"features.listener: {heard.name} answers {says}, from which nothing can be learned. "
            "Of an ONNX file features.listener_output names another output."
        )


def _missed(heard, sample_rate):
    """What a listener does not get to hear, in words."""
    if heard.sample_rate <= sample_rate:
        return ""
    return (
        f"These clips end at {sample_rate / 2000:g} kHz; it knows higher sounds too, and hears "
        f"them with audio.sample_rate={heard.sample_rate}."
    )


def embeddings(heard: Listener, packed: np.ndarray, sample_rate: int) -> np.ndarray:
    """Embeddings of clips, computed or from the cache: int16 [clips, N] -> float32 [clips, size].

    Args: heard; packed; sample_rate of the clips, in Hz.
    Raises ConfigError where the listener answers with what is no number.
    """
    parts = []
    for start in work.progress(range(0, len(packed), CHUNK), "listen"):
        clips = np.ascontiguousarray(packed[start : start + CHUNK])
        key = hashlib.sha256(f"{heard.identity} {sample_rate} {clips.shape}".encode())
        key.update(clips)
        path = artifacts.home() / "outputs" / "cache" / f"{key.hexdigest()}.npy"
        if not path.is_file():
            _keep(path, _chunk(heard, clips, sample_rate))
        parts.append(np.load(path))
    return np.concatenate(parts)


def _chunk(heard, clips, sample_rate):
    """Embeddings of a chunk, batch by batch."""
    batches = range(0, len(clips), BATCH)
    vectors = [
        heard.embed(features.unpack(clips[start : start + BATCH]), sample_rate) for start in batches
    ]
    vectors = np.concatenate(vectors)
    if not np.isfinite(vectors).all():
        raise errors.ConfigError(
            f"features.listener: {heard.name} answers some clips with what is no number. Does it "
            "divide by the loudest, or want a longer window (features.listener_seconds)?"
        )
    return vectors


def _keep(path, vectors):
    with artifacts.replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, vectors)


def table(vectors: np.ndarray) -> pd.DataFrame:
    """Embeddings [clips, size] as columns, in their order.

    >>> list(table(np.zeros((3, 2), np.float32)))
    ['embedding_0', 'embedding_1']
    """
    return pd.DataFrame(vectors, columns=[f"{PREFIX}{n}" for n in range(vectors.shape[1])])


def columns(table: pd.DataFrame) -> list[str]:
    """The columns of a table that are embeddings."""
    return [column for column in table if column.startswith(PREFIX)]
