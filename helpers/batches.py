"""Memory-mapped waveforms to batches on the device."""

import numpy as np
import torch

from helpers import features


class WaveformBatches:
    """Batches of (waveforms float32 [B, N], labels int64 [B]) from some rows of a packed int16 array.

    Only a batch at a time is read from the array. With a generator the rows are shuffled anew in each pass and the
    last batch is dropped if it would hold a single clip (BatchNorm needs two); without one they come in order.
    """

    def __init__(self, packed, rows, labels, batch_size, device="cpu", generator=None):
        if len(rows) != len(labels):
            raise ValueError(f"{len(rows)} rows but {len(labels)} labels")
        self.packed, self.rows, self.labels = packed, np.asarray(rows), torch.tensor(np.array(labels))
        self.batch_size, self.device, self.generator = batch_size, device, generator

    def __len__(self):
        whole, rest = divmod(len(self.rows), self.batch_size)
        return whole + (rest > (1 if self.generator is not None and whole else 0))

    def __iter__(self):
        n = len(self.rows)
        order = torch.arange(n) if self.generator is None else torch.randperm(n, generator=self.generator)
        for members in order.split(self.batch_size)[: len(self)]:
            waveforms = torch.from_numpy(self.packed[self.rows[members.numpy()]])
            yield features.unpack(waveforms.to(self.device)), self.labels[members].to(self.device)
