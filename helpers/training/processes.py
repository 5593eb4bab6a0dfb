"""One process or several that train a network together, each with its part of every batch.

torchrun starts them and tells each its number
(https://docs.pytorch.org/docs/stable/elastic/run.html).
"""

import contextlib
import os
import subprocess
import sys

import torch

from helpers.base import artifacts, errors


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
    """The value of the first process, where several train together: they must stop after the same
    epoch.
    """
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


def start(count, module, *arguments):
    """Run a module, or a package's command, in processes of this machine, through torchrun. Raises
    TrainingError.
    """
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(count),
    ]
    surroundings = {
        **os.environ,
        "EARSHOT_HOME": str(artifacts.home()),
    }  # they begin in another folder
    command += [
        "-m",
        "--",
        module,
        *arguments,
    ]  # without the dashes, torchrun takes --run for an option of its own
    with subprocess.Popen(
        command, cwd=artifacts.REPOSITORY, env=surroundings, stderr=subprocess.PIPE
    ) as started:
        said = _pass_on(started.stderr)
    if started.returncode:
        raise errors.TrainingError(f"{module} in {count} processes failed:\n{said}")


def _pass_on(stream):
    """Show what a process says while it says it (its progress); returns the end of it."""
    end = ""
    while piece := stream.read1(4096).decode("utf-8", "replace"):
        sys.stderr.write(piece)
        sys.stderr.flush()
        end = (end + piece)[-2000:]
    return end
