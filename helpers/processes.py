"""One process or several that train a network together, each with its part of every batch.

torchrun starts them and tells each its number (https://docs.pytorch.org/docs/stable/elastic/run.html).
"""

import contextlib
import ctypes
import os
import subprocess
import sys

import torch

from helpers import artifacts

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # of mallopt(3)


class TrainingError(artifacts.StageError):
    """A process that trained with others failed; the message shows what it said last."""


def place():
    """(number of this process, number of processes) that train one network together."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def is_first():
    """Whether this process writes the files."""
    return place()[0] == 0


def device():
    """The GPU of this process, or the CPU."""
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"


def agreed(value):
    """The value of the first process, where several train together: they must stop after the same epoch."""
    if place()[1] == 1:
        return value
    held = [value]
    torch.distributed.broadcast_object_list(held)
    return held[0]


@contextlib.contextmanager
def together():
    """Inside the block the processes that torchrun started know each other; alone it does nothing."""
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
def cpu_threads(count):
    """Use so many CPU threads inside the block; 0 leaves torch's own choice."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_memory():
    """Let this process keep the memory of its large arrays between steps, instead of handing it back each time.

    A step allocates and frees the same hundreds of megabytes; each time Linux hands out pages of zeros, which costs a
    CPU up to a sixth of its training time. Does nothing where the C library is another than glibc, which reuses memory.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # other systems have no such function
        adjust = ctypes.CDLL(None).mallopt
        adjust(MMAP_THRESHOLD, 32 << 20)  # the largest that glibc takes
        adjust(TRIM_THRESHOLD, 2**31 - 1)


def start(count, module, *arguments):
    """Run a module in so many processes on this machine, through torchrun. Raises TrainingError if one fails."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    surroundings = {**os.environ, "EARSHOT_HOME": str(artifacts.home())}  # they begin in another folder
    command += ["-m", "--", module, *arguments]  # without the dashes, torchrun takes --run for an option of its own
    with subprocess.Popen(command, cwd=artifacts.REPOSITORY, env=surroundings, stderr=subprocess.PIPE) as started:
        said = _pass_on(started.stderr)
    if started.returncode:
        raise TrainingError(f"{module} in {count} processes failed:\n{said}")


def _pass_on(stream):
    """Show what a process says while it says it (its progress); returns the end of it."""
    end = ""
    while piece := stream.read1(4096).decode("utf-8", "replace"):
        sys.stderr.write(piece)
        sys.stderr.flush()
        end = (end + piece)[-2000:]
    return end
