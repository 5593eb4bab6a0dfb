"""Waveforms, or images, to batches on the device: from memory mapping, or held there as a whole."""

import numpy as np
import pandas as pd
import torch

from helpers.audio import features

QUIET = 1e-5  # RMS of silence, so that nothing is divided by 0
RESIDENT_SHARE = 0.5  # of a GPU's free memory that the clips may take


def noise(packed: np.ndarray, rows: pd.DataFrame, settings, device="cpu") -> torch.Tensor | None:
    """The noise that is mixed in: what lies behind the clips in waveforms.npy, at an RMS of 1.

    Args: packed int16 [clips + K, samples]; rows of waveforms.csv; settings the config's Train
        section; device. Returns float32 [K, samples] on the device, None where there is none.
    """
    behind = packed[len(rows) :]
    if settings.noise_folder is None or not len(behind):
        return None
    waveforms = features.unpack(torch.from_numpy(np.array(behind)))
    rms = waveforms.square().mean(dim=1, keepdim=True).sqrt().clamp(min=QUIET)
    return (waveforms / rms).to(device)


class Batches:
    """Batches of (inputs, targets [B, C]) from some rows of a packed array.

    Inputs are waveforms float32 [B, N] from int16 [clips, N], or images float32 [B, H, W] from
    uint8 [clips, H, W]. Only a batch at a time is read from the array; on a GPU all rows are copied
    there once, as they are packed, if they fit. With a generator the rows are shuffled anew in each
    pass, or drawn with the given chances [rows], rows coming back, and all batches are full: the
    last one is filled up with rows of the same pass (BatchNorm and CUDA graphs want one size).
    Without a generator they come in order.

    Args: packed; rows its row numbers; targets [rows, C]; batch_size over all processes; device;
        generator; chances; share (rank, processes): the part of every batch that this process gets;
        drawn how many are drawn with the chances in a pass, None: as many as there are rows.
    Raises ValueError if rows and targets do not match, or a process gets fewer than two rows to
        learn from.
    """

    def __init__(
        self,
        packed: np.ndarray,
        rows,
        targets,
        batch_size: int,
        device="cpu",
        generator: torch.Generator | None = None,
        chances: torch.Tensor | None = None,
        share: tuple[int, int] = (0, 1),
        drawn: int | None = None,
    ):
        if len(rows) != len(targets):
            raise ValueError(f"{len(rows)} rows but {len(targets)} targets")
        shuffled = generator is not None
        if shuffled and min(batch_size, len(rows)) < 2 * share[1]:
            several = f" in batches of {batch_size} among {share[1]} processes"
            raise ValueError(
                f"{len(rows)} clips to learn from{several if share[1] > 1 else ''}: "
                "BatchNorm needs two in a batch of each process"
            )
        self.packed = packed
        self.rows = np.asarray(rows)
        self.device = torch.device(device)
        self.targets = torch.as_tensor(np.array(targets))
        self.share = share
        self.drawn = drawn or len(rows)
        self.batch_size = min(batch_size, self.drawn) if shuffled else batch_size
        self.generator = generator
        self.chances = chances
        self.held = self._held() if self.device.type == "cuda" else None

    def _held(self):
        """The rows and their targets on the device; None where they would take too much of it."""
        size = len(self.rows) * self.packed[0].nbytes
        if size > RESIDENT_SHARE * torch.cuda.mem_get_info(self.device)[0]:
            return None
        packed = torch.from_numpy(self.packed[self.rows])
        return packed.to(self.device), self.targets.to(self.device)

    def __len__(self):
        return -(-self.drawn // self.batch_size)

    def __iter__(self):
        rank, processes = self.share
        for members in self._order().split(self.batch_size):
            yield self._batch(members[rank::processes])

    def _batch(self, members):
        if self.held is not None:
            packed, targets = self.held
            members = members.to(self.device)
            return features.unpack(packed[members]), targets[members]
        packed = torch.from_numpy(self.packed[self.rows[members.numpy()]])
        if self.device.type == "cuda":
            packed = packed.pin_memory()
        inputs = features.unpack(packed.to(self.device, non_blocking=True))
        return inputs, self.targets[members].to(self.device)

    def _order(self):
        whole = len(self) * self.batch_size
        if self.generator is None:
            return torch.arange(len(self.rows))
        if self.chances is not None:
            return torch.multinomial(self.chances, whole, True, generator=self.generator)
        return torch.randperm(len(self.rows), generator=self.generator).repeat(2)[:whole]
