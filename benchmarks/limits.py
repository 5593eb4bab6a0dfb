"""What a machine can do at best, measured: a large matrix product, and copying."""

import functools
import time

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

SIDE = 1024  # of the matrices that are multiplied
COPIED = 64 << 20  # bytes, more than the caches hold


@functools.cache
def gflop_per_second(repeats=7):
    """Single-precision GFLOP per second of a matrix product on all of torch's threads: the best of
    some repeats.
    """
    a, b = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
    return 2 * SIDE**3 / _best(lambda: a @ b, repeats) / 1e9


@functools.cache
def copy_bytes(repeats=7):
    """Bytes per second that one core copies, from memory to memory: the best of some repeats."""
    source = np.ones(COPIED, dtype=np.uint8)
    target = np.empty_like(source)
    return COPIED / _best(lambda: np.copyto(target, source), repeats)


def _best(function, repeats):
    function()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


@torch.no_grad()
def gflop(model, n_samples):
    """GFLOP of the matrix products and convolutions that a model needs for one clip of so many
    samples.
    """
    model.eval()
    with FlopCounterMode(display=False) as counted:
        model(torch.zeros(1, n_samples))
    return counted.get_total_flops() / 1e9
