"""Any network as ONNX as a listener: `onnx:<file>`, such as Perch 2, BirdNET, YAMNet, PANNs, BEATs.

What it takes and gives is read from the names, ranks and fixed sizes of the graph; what they leave
open, settings say.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from helpers.audio import features
from helpers.base import artifacts, errors
from helpers.listeners import naming
from helpers.listeners.listener import Listener

# Rates (Hz) that follow from a fixed number of samples: YAMNet, BirdNET, Perch
RATES = {15600: 16000, 144000: 48000, 160000: 32000}
# What an output that is an embedding is called
CALLED = {"embedding", "embeddings", "feature", "features", "hidden", "pooler"}
NUMBERS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


@dataclass
class Graph:
    """A session of onnxruntime, asked for one of its outputs: [B, samples] -> [B, size].

    Args: session; given its input; output the name of its embedding; log_mel the front end of an
        input [B, 1, mels, frames], or None.
    """

    session: object
    given: object
    output: str
    log_mel: features.LogMel | None = None

    def __call__(self, waveforms: np.ndarray) -> np.ndarray:
        if self.log_mel:
            waveforms = self.log_mel(torch.from_numpy(waveforms))[:, None].numpy()
        elif len(self.given.shape) == 3:
            waveforms = waveforms[:, None]
        inputs = waveforms.astype(NUMBERS[self.given.type])
        one_by_one = len(self.given.shape) == 1 or self.given.shape[0] == 1
        if not one_by_one:
            return self._ask(inputs, len(inputs))
        alone = inputs if len(self.given.shape) == 1 else inputs[:, None]
        return np.concatenate([self._ask(clip, 1) for clip in alone])

    def _ask(self, inputs, count):
        """Embeddings of some clips, those of frames averaged: [count, size]."""
        answer = self.session.run([self.output], {self.given.name: inputs})[0]
        return answer.reshape(count, -1, answer.shape[-1]).mean(axis=1)


def build(config, what: str, folder: Path) -> Listener:
    """A file of ONNX, on the CPU.

    Its input is a waveform, [samples], [B, samples] or [B, 1, samples], or a log-mel spectrogram in
    dB, [B, 1, mels, frames], made with features.n_fft, hop_length, f_min and f_max. Its embedding
    is the output called so, else the longest vector; frames are averaged.
    Args: config; what the path of the file; folder of the run.
    Raises ConfigError for a file that cannot be read or asked, MissingLibrary without onnxruntime.
    """
    path = naming.path(what)
    settings = config.features
    identity = _digest(path)
    session = _session(path)
    given = _input(session, path)
    rate = settings.listener_rate or _rate(session, given, path)
    graph = Graph(session, given, _output(session, settings.listener_output, path))
    seconds = settings.listener_seconds or _told(session, "clip_seconds", path)
    window = round(seconds * rate) if seconds else None
    size = given.shape[-1] if isinstance(given.shape[-1], int) else None
    if len(given.shape) == 4:
        graph.log_mel = _log_mel(settings, rate, given.shape[2])
        size = size and (size - 1) * settings.hop_length
    facts = (identity, rate, graph.output, size or window, str(settings) * bool(graph.log_mel))
    identity = hashlib.sha256(repr(facts).encode()).hexdigest()
    _try(graph, size or window or rate, path)
    return Listener(f"onnx:{path.name}", rate, size or window, identity, graph)


def _refuse(path, problem):
    raise errors.ConfigError(f"features.listener: {path} {problem}")


def _digest(path):
    """SHA-256 of a file and of what it keeps beside it, which may lie in its own folder alone."""
    onnx = _library("onnx")
    if not path.is_file():
        _refuse(path, "is not there")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # of protobuf, which comes with no base of its own
        _refuse(path, f"is no ONNX ({type(error).__name__})")
    helper = onnx.external_data_helper
    tensors = [t for t in helper._get_all_tensors(model) if helper.uses_external_data(t)]
    names = sorted({helper.ExternalDataInfo(tensor).location for tensor in tensors})
    files = [path.parent / name for name in names]
    for file in files:
        if not file.resolve().is_relative_to(path.parent.resolve()) or not file.is_file():
            _refuse(path, f"wants {file}, which is not in its folder")
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
    quiet.log_severity_level = 3
    try:
        return runtime.InferenceSession(path, quiet, providers=["CPUExecutionProvider"])
    except Exception as error:  # those of onnxruntime share no other base
        _refuse(path, f"cannot be run: {str(error).splitlines()[0][:200]}")


def _input(session, path):
    """The one input, a waveform or a spectrogram."""
    inputs = session.get_inputs()
    shapes = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
    given = inputs[0]
    rank = len(given.shape)
    fits = len(inputs) == 1 and given.type in NUMBERS and 1 <= rank <= 4
    if not fits or (rank > 2 and given.shape[1] not in (1, None) and _is_fixed(given.shape[1])):
        _refuse(
            path,
            f"takes {shapes}; it should take one waveform, [samples], [B, samples] or "
            "[B, 1, samples], or one log-mel spectrogram, [B, 1, mels, frames]",
        )
    if rank == 4 and not _is_fixed(given.shape[2]):
        _refuse(path, f"takes {shapes}: its number of mel bands should be fixed")
    return given


def _is_fixed(size):
    return isinstance(size, int)


def _rate(session, given, path):
    """The rate in Hz that a file tells, or its number of samples."""
    told = _told(session, "sample_rate", path)
    told = told or (len(given.shape) < 4 and RATES.get(given.shape[-1]))
    if not told:
        _refuse(path, "does not tell at which rate it hears: set features.listener_rate (Hz)")
    return round(told)


def _told(session, name, path):
    """A number that a file tells as metadata, as networks that Earshot exports do, or None."""
    words = session.get_modelmeta().custom_metadata_map.get(name)
    try:
        return float(words) if words else None
    except ValueError:
        _refuse(path, f"tells {name}={words!r}, which is no number")


def _output(session, asked, path):
    """The name of the output that is the embedding: as asked, the one called so, or the longest."""
    outputs = [one for one in session.get_outputs() if one.type in NUMBERS]
    outputs = [one for one in outputs if 1 <= len(one.shape) <= 3]
    names = [one.name for one in outputs]
    if asked and asked not in names:
        _refuse(path, f"has no vector {asked!r} (features.listener_output) but {', '.join(names)}")
    if not names:
        _refuse(path, "gives no vector per clip or frame")
    called = [one for one in outputs if CALLED & set(re.split("[^a-z]+", one.name.lower()))]
    flat = [one for one in outputs if len(one.shape) == 2]
    return asked or max(called or flat or outputs, key=_length).name


def _length(output):
    return output.shape[-1] if _is_fixed(output.shape[-1]) else 0


def _log_mel(settings, rate, n_mels):
    """The spectrogram that a network is given: as the preset makes it, at the network's rate."""
    highest = min(settings.f_max or rate / 2, rate / 2)
    sizes = (settings.n_fft, settings.hop_length, n_mels)
    return features.LogMel(rate, *sizes, settings.f_min, highest)


def _try(graph, samples, path):
    try:
        heard = graph(np.zeros((2, samples), np.float32))
    except Exception as error:  # those of onnxruntime share no other base
        _refuse(path, f"cannot hear {samples} samples: {str(error).splitlines()[0][:200]}")
    if len(heard) != 2:
        _refuse(path, f"gives {heard.shape} for two clips, not one embedding for each")
