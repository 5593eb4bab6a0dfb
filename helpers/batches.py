"""Memory-mapped waveforms, or images, to batches on the device."""

import numpy as np
import torch

from helpers import features


class Batches:
    """Batches of (inputs, targets [B, C]) from some rows of a packed array.

    Inputs are waveforms float32 [B, N] from int16 [clips, N], or images float32 [B, H, W] from uint8 [clips, H, W].
    Only a batch at a time is read from the array. With a generator the rows are shuffled anew in each pass, or drawn
    with the given chances [rows], rows coming back; the last batch is dropped if it would hold a single clip (BatchNorm
    needs two). Without a generator they come in order.
    """

    def __init__(self, packed, rows, targets, batch_size, device="cpu", generator=None, chances=None):
        if len(rows) != len(targets):
            raise ValueError(f"{len(rows)} rows but {len(targets)} targets")
        self.packed, self.rows, self.targets = packed, np.asarray(rows), torch.as_tensor(np.array(targets))
        self.batch_size, self.device, self.generator, self.chances = batch_size, device, generator, chances

    def __len__(self):
        whole, rest = divmod(len(self.rows), self.batch_size)
        return whole + (rest > (1 if self.generator is not None and whole else 0))

    def __iter__(self):
        for members in self._order().split(self.batch_size)[: len(self)]:
            inputs = torch.from_numpy(self.packed[self.rows[members.numpy()]])
            yield features.unpack(inputs.to(self.device)), self.targets[members].to(self.device)

    def _order(self):
        n = len(self.rows)
        if self.generator is None:
            return torch.arange(n)
        if self.chances is None:
            return torch.randperm(n, generator=self.generator)
        return torch.multinomial(self.chances, n, replacement=True, generator=self.generator)
