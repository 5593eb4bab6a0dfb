"""How time and memory grow with the data, stage by stage, each in a process of its own.

``python -m benchmarks.growth STAGE FOLDER`` runs one stage on the recordings that
FOLDER/recordings.pkl lists and prints what it took; `measure` and `large` start such processes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import ours
from helpers.audio import features, images, recording
from helpers.base import artifacts
from helpers.base.settings import Config

REPOSITORY = Path(__file__).resolve().parent.parent
STAGES = ("survey", "clean and cut", "features", "training epoch", "scoring")
BASE = 32  # recordings at size 1: enough for a whole batch
CAP_BYTES = 2 << 30  # of private memory, where there is more data than that
LARGE_BYTES = int(1.1 * CAP_BYTES)  # the packed waveforms of `large`
LOOKED_AT = 512  # of those clips are trained on and scored; all with --full


# --- one stage, in this process ----------------------------------------------------------------


@dataclass
class Place:
    """A folder in which stages follow each other: what they are run on, and what the stage before
    left there.
    """

    folder: Path
    config: Config = field(init=False)
    recordings: pd.DataFrame = field(init=False)

    def __post_init__(self):
        self.config = Config(**artifacts.read_json(self.folder / "config.json"))
        self.recordings = pd.read_pickle(self.folder / "recordings.pkl")

    def table(self, name):
        return pd.read_pickle(self.folder / name)

    def packed(self):
        return np.load(self.folder / "waveforms.npy", mmap_mode="r")


def survey(place, table, out):
    recording.survey(place.folder, table.assign(status="ok"), place.config.audio.max_seconds)


def clean_and_cut(place, table, out):
    ours.clips(table, place.folder, out, place.config).to_pickle(out / "clips.pkl")


def make_features(place, table, out):
    rows = ours.pack(table, place.folder, place.config, out)
    packed = np.load(out / "waveforms.npy", mmap_mode="r")
    rows.to_pickle(out / "rows.pkl")
    features.feature_table(packed, rows, place.config)
    images.write_images(packed, rows, place.config, out / "spectrograms")


def training_epoch(place, table, out):
    ours.trainer(place.packed(), table, place.config).epoch()


def scoring(place, table, out):
    rows, packed = place.table("rows.pkl").head(8), place.packed()
    loaded = ours.bundle(packed, rows, place.config, out)
    ours.score(loaded, [place.folder / path for path in table["path"]])


def packing(place, table, out):
    ours.pack(table, place.folder, place.config, out).to_pickle(out / "rows.pkl")


def scoring_packed(place, table, out):
    loaded = ours.bundle(place.packed(), table.iloc[:8], place.config, out)
    loaded.predict_packed(place.packed(), table)


RUN = {  # stage: (function, the table it runs on)
    "survey": (survey, "recordings.pkl"),
    "clean and cut": (clean_and_cut, "recordings.pkl"),
    "features": (make_features, "clips.pkl"),
    "training epoch": (training_epoch, "rows.pkl"),
    "scoring": (scoring, "recordings.pkl"),
    "packing": (packing, "clips.pkl"),
    "training on a part": (training_epoch, "part.pkl"),
    "scoring of a part": (scoring_packed, "part.pkl"),
}


class Watch:
    """The most private memory (RssAnon, no shared file pages) that this process holds inside the
    block, in bytes.
    """

    def __enter__(self):
        self.before = self.peak = private_bytes()
        self.over, self.thread = threading.Event(), threading.Thread(target=self._look, daemon=True)
        self.thread.start()
        return self

    def _look(self):
        while not self.over.wait(0.005):
            self.peak = max(self.peak, private_bytes())

    def __exit__(self, *error):
        self.over.set()
        self.thread.join()
        self.peak = max(self.peak, private_bytes())


def private_bytes(which="RssAnon"):
    """Memory of this process that no file backs, now; 0 where the system does not tell (no /proc).

    Args: which "RssAnon", what is in memory, or "VmData", what was asked for, used or not.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    return next(
        int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(which)
    )


def refuse_more_than(cap_bytes):
    """From now on every request that could bring this process' private memory over the cap
    fails.
    """
    import resource  # not on Windows

    limit = private_bytes("VmData") + cap_bytes - private_bytes()
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def run_stage(stage, folder, cap_bytes=None):
    """Run a stage twice: on a few rows, which loads what it needs, then on all, measured; returns
    the record.
    """
    place, (function, name) = Place(Path(folder)), RUN[stage]
    table = place.table(name)
    if cap_bytes:
        refuse_more_than(cap_bytes)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        function(place, table.head(4), Path(scratch))
    with Watch() as watch:
        started = time.perf_counter()
        function(place, table, place.folder)
        seconds = time.perf_counter() - started
    return {
        "stage": stage,
        "rows": len(table),
        "seconds": seconds,
        "before": watch.before,
        "peak": watch.peak,
    }


# --- many stages, in processes of their own ----------------------------------------------------


def started_anew(stage, folder, cap_bytes=None):
    """A stage's record from a fresh process. Raises RuntimeError with what the process said if it
    failed.
    """
    command = [sys.executable, "-m", "benchmarks.growth", stage, str(folder)]
    command += ["--cap", str(cap_bytes)] if cap_bytes else []
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        env=os.environ | {"EARSHOT_HEADLESS": "1"},
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{stage} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def spread(work, size, folder):
    """A folder that holds the base recordings `size` times under new names, as links, and what
    stages need.
    """
    folder.mkdir(parents=True)
    base, tables = work.recordings.head(BASE), []
    for number in range(size):
        copies = base.assign(
            recording_id=[f"{name}x{number}" for name in base["recording_id"]],
            path=[f"{number}/{Path(path).parent.name}/{Path(path).name}" for path in base["path"]],
        )
        for source, path in zip(base["path"], copies["path"], strict=True):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).symlink_to((Path(work.root) / source).resolve())
        tables.append(copies)
    artifacts.write_json(folder / "config.json", work.config.model_dump(mode="json"))
    pd.concat(tables, ignore_index=True).to_pickle(folder / "recordings.pkl")


def measure(work, sizes):
    """Time and memory of every stage at several times the data.

    Returns {"measured": a list of records, "stages": by stage the exponent of time over size and
    the ratio of the peak memory at the largest size to that at the smallest}.
    """
    measured = []
    for size in sizes:
        folder = work.fresh()
        spread(work, size, folder)
        measured += [{"size": size, **started_anew(stage, folder)} for stage in STAGES]
    table = pd.DataFrame(measured)
    return {
        "measured": measured,
        "stages": {stage: growth_of(table[table["stage"].eq(stage)]) for stage in STAGES},
    }


def growth_of(table):
    """Slope of log time over log size (1: linear), and peak memory at the largest over that at the
    smallest size.
    """
    ordered = table.sort_values("size")
    sizes, seconds, peaks = (ordered[name].to_numpy(float) for name in ("size", "seconds", "peak"))
    exponent = np.polyfit(np.log(sizes), np.log(seconds), 1)[0] if len(sizes) > 1 else float("nan")
    grown = (peaks[-1] - peaks[0]) / max(1, ordered["rows"].iloc[-1] - ordered["rows"].iloc[0])
    return {
        "exponent": float(exponent),
        "memory_ratio": float(peaks[-1] / peaks[0]) if peaks[0] else float("nan"),
        "bytes_per_row": float(grown),
    }


def large(work, everything=False, waveform_bytes=LARGE_BYTES):
    """Pack more waveforms than CAP_BYTES of memory, then train and score, all under that cap on
    private memory.

    Args: work; everything: train and score on all clips, not on LOOKED_AT from all over the file;
        waveform_bytes.
    """
    folder = work.fresh()
    spread(work, 1, folder)
    place = Place(folder)
    clips = ours.clips(place.recordings, folder, folder, work.config)
    row_bytes = 2 * round(work.config.audio.clip_seconds * work.config.audio.sample_rate)
    count = -(-waveform_bytes // row_bytes)
    many = clips.iloc[np.arange(count) % len(clips)].reset_index(drop=True)
    many.assign(clip_id=[f"c{number}" for number in range(count)]).to_pickle(folder / "clips.pkl")
    records = [started_anew("packing", folder, CAP_BYTES)]
    rows = place.table("rows.pkl")
    rows.iloc[:: 1 if everything else max(1, count // LOOKED_AT)].to_pickle(folder / "part.pkl")
    records += [
        started_anew(stage, folder, CAP_BYTES)
        for stage in ("training on a part", "scoring of a part")
    ]
    (folder / "waveforms.npy").unlink()
    peak = max(record["peak"] for record in records)
    says = (
        f"{count * row_bytes / 2**30:.1f} GiB of waveforms packed, trained on and scored with at "
        "most "
        f"{peak / 2**30:.2f} GiB of private memory (cap {CAP_BYTES / 2**30:.0f} GiB)"
    )
    return {
        "waveforms_bytes": count * row_bytes,
        "cap_bytes": CAP_BYTES,
        "stages": records,
        "says": says,
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("stage", choices=list(RUN))
    parser.add_argument("folder")
    parser.add_argument("--cap", type=int, help="most private memory in bytes")
    options = parser.parse_args(arguments)
    print(json.dumps(run_stage(options.stage, options.folder, options.cap)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
