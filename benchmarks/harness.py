"""What is measured on, and how two ways of doing the same are timed in turns."""

import contextlib
import functools
import multiprocessing
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import ours


@dataclass
class Work:
    """What is measured on: recordings (a table of `ours.usable`) below root, config, an empty
    folder, repeats.
    """

    recordings: pd.DataFrame
    root: Path
    config: object
    scratch: Path
    repeats: int = 3
    draw: str = "specshow"

    @property
    def paths(self):
        """Where each recording lies, by its id."""
        return {
            row.recording_id: Path(self.root) / row.path for row in self.recordings.itertuples()
        }

    def fresh(self):
        """A folder that is not there yet: files that are overwritten cost more than new ones."""
        return Path(tempfile.mkdtemp(dir=self.scratch)) / "new"

    @functools.cached_property
    def prepared(self):
        """Packed waveforms and their rows, of our way."""
        return ours.prepare(self.recordings, self.root, self.fresh(), self.config)


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def timed(function):
    """(seconds, seconds of all cores, what it returns)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return time.perf_counter() - wall, time.process_time() - cpu, result


@contextlib.contextmanager
def apart(function):
    """A function that calls the given one, which can be pickled, in another process: what `timed`
    returns there.
    """
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=_serve, args=(far, function), daemon=True)
    process.start()
    far.close()

    def call():
        near.send(True)
        return near.recv()

    try:
        yield call
    finally:
        near.close()
        process.join()


def _serve(pipe, function):
    with contextlib.suppress(EOFError):  # the other side has heard enough
        while pipe.recv():
            pipe.send(timed(function))


def side_by_side(one, other, clips, repeats, alone=True):
    """Time two ways of doing the same in turns, after each ran once: (record, last result of one,
    of the other).

    The plain way, `one`, runs alone in a process, as it would in a notebook of its own: nothing
    that Earshot sets reaches it. The record holds medians in ms per clip, the ratio of the medians
    with the smallest and largest of the single turns, and what the first run of each took.
    """
    with apart(one) if alone else contextlib.nullcontext(lambda: timed(one)) as plain:
        ways = [("plain", plain), ("ours", lambda: timed(other))]
        first, turns = {name: way()[0] for name, way in ways}, []
        for number in range(repeats):
            turns.append({name: way() for name, way in (ways if number % 2 == 0 else ways[::-1])})
    wall, cpu = ({name: [turn[name][k] for turn in turns] for name in first} for k in (0, 1))
    ratios = np.divide(wall["plain"], wall["ours"])
    record = {
        "ratio": float(np.median(wall["plain"]) / np.median(wall["ours"])),
        "ratio_of_single_turns": [float(ratios.min()), float(ratios.max())],
        "ratio_of_cpu_seconds": float(np.median(cpu["plain"]) / np.median(cpu["ours"])),
        **{f"{name}_ms_per_clip": 1000 * float(np.median(wall[name])) / clips for name in first},
        **{f"{name}_cpu_ms_per_clip": 1000 * float(np.median(cpu[name])) / clips for name in first},
        **{f"{name}_clips_per_second": clips / float(np.median(wall[name])) for name in first},
        "first_run_seconds": first,
        "clips": clips,
        "turns": repeats,
    }
    return record, turns[-1]["plain"][2], turns[-1]["ours"][2]
