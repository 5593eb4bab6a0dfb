"""Waveforms, or images, to batches on the device: from memory mapping, or held there as a whole."""

import numpy as np
import torch

from helpers.audio import features

RESIDENT_SHARE = 0.5  # of a GPU's free memory that the clips may take


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
        resident False leaves the rows on the host. Raises ValueError if rows and targets do not
        match, or a process gets fewer than two rows to learn from.
    """

    def __init__(
        self,
        packed,
        rows,
        targets,
        batch_size,
        device="cpu",
        generator=None,
        chances=None,
        share=(0, 1),
        resident=True,
    ):
        if len(rows) != len(targets):
            raise ValueError(f"{len(rows)} rows but {len(targets)} targets")
        if generator is not None and min(batch_size, len(rows)) < 2 * share[1]:
            among = (
                f" in batches of {batch_size} among {share[1]} processes" if share[1] > 1 else ""
            )
            raise ValueError(
                f"{len(rows)} clips to learn from{among}: BatchNorm needs two in a batch of each process"
            )
        self.packed, self.rows, self.device = packed, np.asarray(rows), torch.device(device)
        self.targets, self.share = torch.as_tensor(np.array(targets)), share
        self.batch_size = min(batch_size, len(rows)) if generator is not None else batch_size
        self.generator, self.chances = generator, chances
        self.held = self._held() if resident and self.device.type == "cuda" else None

    def _held(self):
        """The rows on the device, with their targets, or None where they would not leave enough of
        its memory.
        """
        size = len(self.rows) * self.packed[0].nbytes
        if size > RESIDENT_SHARE * torch.cuda.mem_get_info(self.device)[0]:
            return None
        return torch.from_numpy(self.packed[self.rows]).to(self.device), self.targets.to(
            self.device
        )

    def __len__(self):
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self):
        rank, processes = self.share
        for members in self._order().split(self.batch_size):
            yield self._batch(members[rank::processes])

    def _batch(self, members):
        if self.held is not None:
            members = members.to(self.device)
            return features.unpack(self.held[0][members]), self.held[1][members]
        packed = torch.from_numpy(self.packed[self.rows[members.numpy()]])
        if self.device.type == "cuda":
            packed = packed.pin_memory()
        return features.unpack(packed.to(self.device, non_blocking=True)), self.targets[members].to(
            self.device
        )

    def _order(self):
        n = len(self.rows)
        if self.generator is None:
            return torch.arange(n)
        if self.chances is not None:
            return torch.multinomial(
                self.chances,
                len(self) * self.batch_size,
                replacement=True,
                generator=self.generator,
            )
        order = torch.randperm(n, generator=self.generator)
        return order.repeat(2)[: len(self) * self.batch_size]
