"""A listener: a pretrained network that hears windows of sound and says what it hears in numbers.

Whatever it is made of, it is asked alike: clips at its own rate go in, an embedding of each comes
out. A clip that is shorter than its window is repeated, of a longer one several windows are heard.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from helpers.audio import recording
from helpers.models import checkpoints


@dataclass(frozen=True)
class Listener:
    """A pretrained network in use.

    name: as `features.listener` says it.
    sample_rate: Hz.
    window: samples that it hears at once; None: as many as a clip has.
    identity: SHA-256 of what decides its answers, its weights above all.
    hear: the network, float32 [B, window] -> [B, size].
    notes: sentences on what was guessed of it.
    """

    name: str
    sample_rate: int
    window: int | None
    identity: str
    hear: Callable[[np.ndarray], np.ndarray]
    notes: tuple[str, ...] = ()

    def embed(self, waveforms: np.ndarray, sample_rate: int) -> np.ndarray:
        """Embeddings float32 [B, size] of clips float32 [B, samples]: the mean over their windows.

        Args: waveforms in [-1, 1]; sample_rate theirs, in Hz.
        """
        clips = [recording.resample(clip, sample_rate, self.sample_rate) for clip in waveforms]
        pieces = windows(np.stack(clips), self.window)
        heard = [np.asarray(self.hear(piece), np.float32) for piece in pieces]
        return np.mean(heard, axis=0)


def windows(clips: np.ndarray, size: int | None) -> list[np.ndarray]:
    """Windows of `size` samples that cover clips [B, N] evenly, each [B, size].

    >>> [part.tolist() for part in windows(np.arange(5)[None], 3)]
    [[[0, 1, 2]], [[2, 3, 4]]]
    >>> [part.tolist() for part in windows(np.arange(2)[None], 5)]
    [[[0, 1, 0, 1, 0]]]
    """
    length = clips.shape[1]
    if size is None or size == length:
        return [clips]
    if size > length:
        return [np.tile(clips, -(-size // length))[:, :size]]
    starts = np.linspace(0, length - size, -(-length // size)).astype(int)
    return [clips[:, start : start + size] for start in starts]


def device() -> str:
    """Where networks of torch listen: a GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def of_torch(name, network, sample_rate, window=None, *facts) -> Listener:
    """A Listener of a module of torch, waveforms [B, window] -> embeddings [B, size].

    Args: name; network; sample_rate in Hz; window in samples or None; facts besides its weights
        that decide what it answers.
    """
    network = network.to(device()).eval()

    @torch.inference_mode()
    def hear(waveforms):
        return network(torch.from_numpy(waveforms).to(device())).float().cpu().numpy()

    return Listener(name, sample_rate, window, identity_of(network, sample_rate, *facts), hear)


def identity_of(network: torch.nn.Module, *facts) -> str:
    """SHA-256 of a network's weights, and of facts beside them."""
    weights = network.state_dict().items()
    tensors = {name: tensor.cpu().contiguous() for name, tensor in weights}
    return checkpoints.checksum(repr((type(network).__name__, *facts)), tensors)
