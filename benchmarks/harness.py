"""What is measured on, and how two ways of doing the same are timed in turns."""

import functools
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
    """What is measured on: recordings (a table of `ours.usable`) below root, config, an empty folder, repeats."""

    recordings: pd.DataFrame
    root: Path
    config: object
    scratch: Path
    repeats: int = 3
    draw: str = "specshow"

    @property
    def paths(self):
        """Where each recording lies, by its id."""
        return {row.recording_id: Path(self.root) / row.path for row in self.recordings.itertuples()}

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


def side_by_side(one, other, clips, repeats):
    """Time two ways of doing the same in turns, after each ran once: (record, last result of one, of the other).

    The record holds medians in ms per clip, the ratio of the medians with the smallest and largest of the single
    turns, and what the first run of each took.
    """
    first, turns = {"plain": timed(one)[0], "ours": timed(other)[0]}, []
    for number in range(repeats):
        order = [("plain", one), ("ours", other)]
        turns.append({name: timed(function) for name, function in (order if number % 2 == 0 else order[::-1])})
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
