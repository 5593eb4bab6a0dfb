"""Any network as ONNX as a listener: `onnx:<file>`, such as Perch 2, BirdNET, YAMNet, PANNs, BEATs.

What it takes and gives, `onnx_told` reads from the graph. Nothing in the file can run code.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from helpers.audio import features
from helpers.base import artifacts, errors
from helpers.listeners import naming, onnx_told
from helpers.listeners.listener import Listener

LOUD = 0.1  # amplitude of what is tried
MIXED = 0.25  # of the distance between two clips, by which company may change one of them
TOLD = 400  # characters of an error


@dataclass
class Graph:
    """A session of onnxruntime, asked for one of its outputs: [B, samples] -> [B, size].

    Args: session; given its input; output its embedding; log_mel the front end of a network that
        sees spectrograms, or None; mels_last whether these are [B, 1, frames, mels].
    """

    session: object
    given: object
    output: object
    log_mel: features.LogMel | None = None
    mels_last: bool = False

    def __call__(self, waveforms: np.ndarray) -> np.ndarray:
        inputs = self._inputs(waveforms)
        size = self._at_once(len(inputs))
        answers = []
        for start in range(0, len(inputs), size):
            batch = inputs[start : start + size]
            answers.append(self._ask(batch, size)[: len(batch)])
        return np.concatenate(answers)

    def _inputs(self, waveforms):
        """Waveforms [B, N] in the shape and format of the input."""
        inputs = waveforms
        if self.log_mel:
            pictures = self.log_mel(torch.from_numpy(waveforms))[:, None].numpy()
            inputs = pictures.swapaxes(2, 3) if self.mels_last else pictures
        elif len(self.given.shape) == 3:
            inputs = waveforms[:, None]
        return inputs.astype(onnx_told.FLOATS[self.given.type])

    def _at_once(self, count):
        """How many clips the graph takes at once; its input may fix it."""
        if len(self.given.shape) == 1:
            return 1
        first = self.given.shape[0]
        return first if onnx_told.is_fixed(first) else count

    def _ask(self, batch, size):
        """Embeddings of so many clips, those of frames averaged: [size, numbers]. What lacks of the
        size is filled up.
        """
        filled = np.resize(batch, (size, *batch.shape[1:]))
        alone = len(self.given.shape) == 1
        inputs = {self.given.name: filled[0] if alone else filled}
        [answer] = self.session.run([self.output.name], inputs)
        if onnx_told.frames_last(self.output):
            answer = answer.swapaxes(1, 2)
        numbers = answer.shape[-1]
        return answer.reshape(size, -1, numbers).mean(axis=1)


def build(config, what: str, folder: Path) -> Listener:
    """A file of ONNX, on the CPU.

    Its input is a waveform, [samples], [B, samples] or [B, 1, samples], or a log-mel spectrogram in
    dB, [B, 1, mels, frames] or [B, 1, frames, mels], made with features.n_fft, hop_length, f_min
    and f_max. Its embedding is the output called so, else the longest vector; frames are averaged.
    Args: config; what the path of the file; folder of the run.
    Raises ConfigError for a file that cannot be read or asked, MissingLibrary without onnxruntime.
    """
    path = naming.path(what)
    settings = config.features
    identity = _digest(path)
    session = _session(path)
    given = onnx_told.waveform_or_picture(session, path)
    rate, guessed = onnx_told.rate(session, given, path, settings.listener_rate)
    output, others = onnx_told.embedding(session, settings.listener_output, path)
    graph = Graph(session, given, output)
    seconds = settings.listener_seconds or onnx_told.number(session, "clip_seconds", path)
    window = round(seconds * rate) if seconds else None
    size = given.shape[-1]
    if len(given.shape) == 4:
        size = _see(graph, settings, rate, path)
    window = size if onnx_told.is_fixed(size) else window
    facts = (identity, rate, output.name, output.shape, window, str(settings) * bool(graph.log_mel))
    identity = hashlib.sha256(repr(facts).encode()).hexdigest()
    _try(graph, window or round(config.audio.clip_seconds * rate), path)
    chosen = onnx_told.chosen_in_words(output, others)
    notes = tuple(filter(None, (guessed, chosen)))
    return Listener(f"onnx:{path.name}", rate, window, identity, graph, notes)


def _digest(path):
    """SHA-256 of a file and of what it keeps beside it, which may lie in its own folder alone."""
    onnx = _library("onnx")
    if not path.is_file():
        onnx_told.refuse(path, "is not there")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # of protobuf, which comes with no base of its own
        onnx_told.refuse(path, f"is no ONNX ({type(error).__name__})")
    helper = onnx.external_data_helper
    tensors = [t for t in helper._get_all_tensors(model) if helper.uses_external_data(t)]
    names = sorted({helper.ExternalDataInfo(tensor).location for tensor in tensors})
    files = [path.parent / name for name in names]
    for file in files:  # a link may lead elsewhere, as in the cache of Hugging Face
        inside = Path(os.path.normpath(file)).is_relative_to(os.path.normpath(path.parent))
        if not inside or not file.is_file():
            onnx_told.refuse(path, f"wants {file}, which is not in its folder")
    return [artifacts.file_digest(file) for file in (path, *files)]


def _library(name):
    try:
        return __import__(name)
    except ImportError as error:
        raise errors.MissingLibrary(
            f"features.listener onnx:<file> needs onnx and onnxruntime ({error}): "
            "pip install -r requirements-extras.txt"
        ) from error


def _session(path):
    runtime = _library("onnxruntime")
    quiet = runtime.SessionOptions()
    quiet.log_severity_level = 4  # what fails is raised
    try:
        return runtime.InferenceSession(path, quiet, providers=["CPUExecutionProvider"])
    except Exception as error:  # those of onnxruntime share no other base
        onnx_told.refuse(path, f"cannot be run: {_words(error)}")


def _words(error):
    """What onnxruntime says, of which the end says what is wrong, in one line."""
    return " ".join(str(error).split())[-TOLD:]


def _see(graph, settings, rate, path):
    """Give a graph spectrograms, as the preset makes them at the graph's rate; returns its window
    in samples, or None.
    """
    place = onnx_told.mels_at(graph.given, path)
    highest = min(settings.f_max or rate / 2, rate / 2)
    sizes = (settings.n_fft, settings.hop_length, graph.given.shape[place])
    graph.log_mel = features.LogMel(rate, *sizes, settings.f_min, highest)
    graph.mels_last = place == 3
    frames = graph.given.shape[5 - place]
    return (frames - 1) * settings.hop_length if onnx_told.is_fixed(frames) else None


def _try(graph, samples, path):
    """Ask for a noise and a tone, together and alone: clips must not change each other's answer."""
    noise = np.random.default_rng(0).uniform(-LOUD, LOUD, samples)
    tone = LOUD * np.sin(0.2 * np.arange(samples))
    both = np.stack([noise, tone]).astype(np.float32)
    try:
        together = graph(both)
        alone = np.concatenate([graph(both[:1]), graph(both[1:])])
    except Exception as error:  # those of onnxruntime share no other base
        onnx_told.refuse(
            path,
            f"cannot hear {samples} samples; a network of one length wants it in "
            f"features.listener_seconds ({_words(error)})",
        )
    if together.shape != alone.shape or len(alone) != 2:
        onnx_told.refuse(path, f"gives {together.shape} for two clips, not one embedding for each")
    changed = np.linalg.norm(together - alone, axis=1).max()
    if changed > MIXED * np.linalg.norm(alone[0] - alone[1]) + np.finfo(np.float32).eps:
        onnx_told.refuse(path, "answers a clip otherwise beside others: is its first axis time?")
