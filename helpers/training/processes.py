"""Several processes that train: each whole folds, or all of them one network together.

Folds are independent: with train.processes each process takes some of them. torchrun
(https://docs.pytorch.org/docs/stable/elastic/run.html) starts processes that share every batch of
one network (DistributedDataParallel), and tells each its number.
"""

import contextlib
import os
import tempfile
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import joblib
import torch

from helpers.base import artifacts, errors


def device(number: int = 0) -> str:
    """The GPU of a process, by its number; the CPU where there is none."""
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', number)) % torch.cuda.device_count()}"


# --- each whole folds


def side_by_side(function, shares: list) -> list:
    """function(number, share) for each share, in order, all at the same time.

    The first runs in this process, so that its bar is seen, the others in processes of their own.
    Arrays that the function holds are not copied but mapped. Raises TrainingError where a process
    was ended from outside.
    """
    if len(shares) == 1:
        return [function(0, shares[0])]
    work = joblib.Parallel(n_jobs=len(shares), return_as="generator")
    others = work(joblib.delayed(function)(*share) for share in list(enumerate(shares))[1:])
    first = function(0, shares[0])
    try:
        return [first, *others]
    except BrokenProcessPool as error:
        raise errors.TrainingError(
            f"One of {len(shares)} processes was ended from outside, most likely for want of "
            "memory. Set train.processes lower; what is done is kept."
        ) from error


# --- all one network together


def place() -> tuple[int, int]:
    """(number of this process, number of processes) that train one network together."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def is_first() -> bool:
    """Whether this process writes the files."""
    return place()[0] == 0


def agreed(value):
    """The value of the first process, where several train together: all must go the same way."""
    if place()[1] == 1:
        return value
    held = [value]
    torch.distributed.broadcast_object_list(held)
    return held[0]


@contextlib.contextmanager
def together():
    """Inside the block the processes of torchrun know each other; alone it does nothing."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(device())
    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def replacing(folder: Path):
    """A new folder that replaces `folder`; what others than the first process write is dropped."""
    if is_first():
        with artifacts.replacing(folder) as temporary:
            temporary.mkdir()
            yield temporary
    else:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
