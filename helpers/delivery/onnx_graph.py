"""The networks of a run as one graph of ONNX: waveforms in, probabilities and embeddings out.

The graph is traced from the very module that `Bundle` asks. Only what ONNX has no fast operation
for is exchanged: the Fourier transform becomes a convolution and two products of matrices, the
resizing of pictures two. So are pools that round up, which onnxruntime has learned late.
"""

import copy
import math
import warnings
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch import nn

from helpers.audio import features
from helpers.base import errors
from helpers.compare.inference import Bundle, Ensemble
from helpers.models import explain

OPSET = 17


class Spectrum(nn.Module):
    """LogMel in operations that are fast in ONNX, to a few millionths of a decibel.

    The Fourier transform of a frame of n_fft = length x width samples is split in two (Cooley and
    Tukey 1965, doi:10.2307/2003354): one along its columns, which holds the window, then for each
    frequency of the first one along the row, which holds the twiddle factors. `width` divides the
    hop, so the first is a strided convolution of the waveform. Where nothing but 1 divides it, the
    first is the whole transform, n_fft multiplications a sample and not some dozens.

    Shape: waveforms [B, N] -> [B, n_mels, 1 + N // hop_length].
    """

    def __init__(self, log_mel: features.LogMel):
        super().__init__()
        self.n_fft = log_mel.stft.n_fft
        self.hop_length = log_mel.stft.hop_length
        self.width = _width(self.n_fft, self.hop_length)
        length = self.n_fft // self.width
        self.height = length // 2 + 1  # the other frequencies mirror these
        window = log_mel.stft.window.reshape(length, self.width)
        turns = torch.outer(torch.arange(self.height), torch.arange(length))
        first = _waves(turns, length)
        first = torch.stack([first.real, first.imag]) * window.T[:, None, None]
        self.register_buffer("first", first.reshape(-1, 1, length).float())
        frequency = torch.arange(self.height)[:, None] + length * torch.arange(self.width)
        turns = frequency[:, :, None] * torch.arange(self.width)
        second = _waves(turns, self.n_fft)
        self.register_buffer("second", _on_pairs(second).float())
        self.register_buffer("bands", _spread(log_mel.bands, frequency, self.n_fft))

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        parts = F.conv1d(
            self._columns(waveforms),
            self.first,
            stride=self.hop_length // self.width,
            groups=self.width,
        )
        count = parts.shape[0]  # reshape leaves it free in the graph; unflatten would not
        parts = parts.reshape(count, 2 * self.width, self.height, -1)
        parts = self.second @ parts.transpose(1, 2)
        power = self.bands @ parts.square().reshape(count, self.bands.shape[1], -1)
        floor = 10 ** (features.FLOOR_DB / 10)
        return 10 * power.clamp(min=floor).log10()

    def _columns(self, waveforms):
        """The waveforms as rows of `width` samples, seen by column: [B, width, rows]."""
        around = self.n_fft // 2
        padded = F.pad(waveforms, (around, around))
        hops = waveforms.shape[1] // self.hop_length
        framed = padded[:, : hops * self.hop_length + self.n_fft]
        return framed.reshape(waveforms.shape[0], -1, self.width).transpose(1, 2)


def _width(n_fft, hop_length):
    """Of the divisors of both, the one that leaves the fewest multiplications."""
    shared = math.gcd(n_fft, hop_length)
    divisors = (number for number in range(1, shared + 1) if shared % number == 0)
    return min(divisors, key=lambda width: n_fft / width + 1.5 * width)


def _waves(turns, period):
    """exp(-2 pi i turns / period), exact for large turns: complex128 of the same shape."""
    angle = -2 * math.pi * (turns % period).double() / period
    return torch.polar(torch.ones_like(angle), angle)


def _on_pairs(matrix):
    """Complex matrices [..., K, N] as real ones on pairs: [..., 2 K, 2 N].

    Their columns are the real and the imaginary part of one number, then those of the next; their
    rows all real parts, then all imaginary ones.
    """
    real = torch.stack([matrix.real, -matrix.imag], dim=-1).flatten(-2)
    imaginary = torch.stack([matrix.imag, matrix.real], dim=-1).flatten(-2)
    return torch.cat([real, imaginary], dim=-2)


def _spread(bands, frequency, n_fft):
    """Mel bands [n_mels, 1 + n_fft // 2] as they take the squares of `second`: [n_mels, …].

    A frequency that is there twice, as itself and mirrored, is halved.
    """
    place = torch.minimum(frequency, n_fft - frequency)
    times = torch.bincount(place.flatten(), minlength=bands.shape[1])
    taken = (bands / times)[:, place]
    return torch.stack([taken, taken], dim=2).flatten(1).contiguous()


class Graph(nn.Module):
    """What is written: an ensemble, and beside its answers what they rest on.

    Shape: waveforms [B, N] -> (probabilities [B, C], what the networks' last layers decide by, of
    the clips as they are, side by side [B, size]).
    """

    def __init__(self, ensemble: Ensemble):
        super().__init__()
        self.ensemble = ensemble
        self.given = []
        for model in ensemble.models:
            last = explain.last_layer(model)
            last.register_forward_pre_hook(lambda _, inputs: self.given.append(inputs[0]))

    def forward(self, waveforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.given.clear()
        probabilities = self.ensemble(waveforms)
        unshifted = self.given[: len(self.ensemble.models)]  # the first view's
        embeddings = [explain.of_clips(inputs) for inputs in unshifted]
        return probabilities, torch.cat(embeddings, dim=1)


def _resize(picture, size, **options):
    """What `interpolate` does to a picture of fixed size, as two products of matrices."""
    height, width = (int(side) for side in picture.shape[-2:])
    return _along(height, size[0], options) @ picture @ _along(width, size[1], options).T


def _along(before, after, options):
    """The matrix [after, before] that resizes one side."""
    identity = torch.eye(before)[None, None]
    return INTERPOLATE(identity, (after, before), **options)[0, 0]


INTERPOLATE = F.interpolate


def is_resized(bundle: Bundle) -> bool:
    """Whether its networks see pictures of one size, and so hear clips of one length only."""
    resizing = [getattr(model.network, "size", None) for model in bundle.models]
    return any(resizing) or bundle.config.train.inputs == "images"


def write(bundle: Bundle, path: Path) -> None:
    """Write the networks of a bundle as ONNX.

    "waveforms" [B, N] -> "probabilities" [B, C] and "embedding" [B, size]. The file tells
    `sample_rate` (Hz) and `clip_seconds` as metadata. B is free, and so is N unless the networks
    see pictures of one size. Raises MissingLibrary without onnx.
    """
    try:
        import onnx
    except ImportError as error:
        raise errors.MissingLibrary(
            f"ONNX needs onnx ({error}): pip install -r requirements-extras.txt"
        ) from error
    ensemble = copy.deepcopy(bundle.ensemble).cpu().eval()
    _exchange(ensemble.models[0])
    _exchange_pools(ensemble)
    audio = bundle.config.audio
    clips = torch.zeros(2, round(audio.clip_seconds * audio.sample_rate))
    free = {0: "clips"} if is_resized(bundle) else {0: "clips", 1: "samples"}
    with torch.no_grad(), warnings.catch_warnings(), mock.patch.object(F, "interpolate", _resize):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Graph(ensemble),
            (clips,),
            path,
            dynamo=False,  # the other way of torch 2.11 fixes the length of pictures that it halves
            opset_version=OPSET,
            input_names=["waveforms"],
            output_names=["probabilities", "embedding"],
            dynamic_axes={
                "waveforms": free,
                "probabilities": {0: "clips"},
                "embedding": {0: "clips"},
            },
        )
    written = onnx.load(path)
    told = {"sample_rate": str(audio.sample_rate), "clip_seconds": str(audio.clip_seconds)}
    onnx.helper.set_model_props(written, told)
    onnx.save(written, path)


def _exchange(model):
    """Exchange every LogMel of a classifier, in place, for its Spectrum."""
    for holder in list(model.modules()):
        for name, part in holder.named_children():
            if isinstance(part, features.LogMel):
                setattr(holder, name, Spectrum(part))


# What doubles the last place of each side.
DOUBLED = {
    nn.AvgPool1d: nn.ReplicationPad1d((0, 1)),
    nn.AvgPool2d: nn.ReplicationPad2d((0, 1, 0, 1)),
}


def _exchange_pools(ensemble):
    """Exchange, in place, means of two that round up.

    onnxruntime gets their last one wrong, up to 1.23 at least. Where nothing is missing, the pool
    leaves out what was doubled.
    """
    for holder in list(ensemble.modules()):
        for name, pool in holder.named_children():
            if getattr(pool, "ceil_mode", False) and type(pool) in DOUBLED:
                halve = type(pool)(pool.kernel_size)
                setattr(holder, name, nn.Sequential(DOUBLED[type(pool)], halve))
