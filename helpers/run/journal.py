"""The run's journal, run.json: what each stage did, with what, on which machine; kept twice, mended
from its copy.
"""

import contextlib
import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

from helpers.base import artifacts
from helpers.base.artifacts import REPOSITORY
from helpers.base.errors import StageError

COPY = ".run.json"  # of run.json
LIBRARIES = (
    *("torch", "numpy", "scipy", "pandas", "scikit-learn", "librosa"),
    *("soundfile", "soxr", "av", "audiomentations"),
)


def run_folder(config, run=None):
    """Folder of a run by name (default: the preset's name, and ``-fast`` for a smoke run)."""
    name = run or config.preset + ("-fast" if config.fast else "")
    if Path(name).name != name or name in (".", ".."):
        raise StageError(f"A run is named by one word without slashes; got {name!r}")
    return artifacts.home() / "outputs" / name


def read_run(folder):
    """The run's record, ``run.json``; empty if there is none. Raises DamagedFile."""
    return _read_record(Path(folder) / "run.json")


def _read_record(path):
    if not path.is_file():
        return {}
    run = artifacts.read_json(path)
    records = run.get("stages") if isinstance(run, dict) else None
    if not isinstance(records, dict) or not all(
        isinstance(record, dict) for record in records.values()
    ):
        raise artifacts.DamagedFile(path, "is damaged (it is no record of a run)")
    return run


def mend_run(folder):
    """Put a run.json that is damaged or missing right from its copy. Returns what was done in
    words, "" if nothing.

    Where the copy is damaged or missing too, the record begins anew: all stages run again, training
    from checkpoints.
    """
    path, copy = Path(folder) / "run.json", Path(folder) / COPY
    try:
        if read_run(folder) or not copy.is_file():
            return ""
        problem = f"{path} is missing"
    except artifacts.DamagedFile:
        problem = f"{path} is damaged"
    with contextlib.suppress(artifacts.DamagedFile):
        if record := _read_record(copy):
            artifacts.write_json(path, record)
            return f"{problem}: put right from its copy."
    path.unlink(missing_ok=True)
    return f"{problem}, and so is its copy: all stages run again, training from its checkpoints if there are any."


def check_outputs(folder):
    """Raise DamagedFile, naming the file, unless the results of all finished stages are what was
    written.

    Of folders only the figures are looked at: clips and models are many and large.
    """
    for name, record in read_run(folder).get("stages", {}).items():
        for output, content in record.get("outputs", {}).items():
            path = folder / output
            if path.is_dir() and output != "figures":
                continue
            if (now := artifacts.digest(path)) != content:
                problem = f"is damaged: it is not what {name} wrote" if now else "is missing"
                raise artifacts.DamagedFile(path, problem)


def add_attempt(folder, name, ended):
    """Count the time of an attempt at a stage that did not finish. Args: ended in seconds, as of
    time.time.
    """
    run = read_run(folder)
    record = run.get("stages", {}).get(name, {})
    if record.get("status") == "running" and "begun" in record:
        record["seconds"] = round(record["seconds"] + max(0, ended - record.pop("begun")), 1)
        _write(folder, run)


def _write(folder, run):
    for name in ("run.json", COPY):  # one after the other: what spoils one leaves the other whole
        artifacts.write_json(Path(folder) / name, run)


def note(folder, config, name, record, counts=None):
    run = read_run(folder)
    run["config"] = config.model_dump(mode="json")
    run["seeds"] = {"seed": config.seed}
    run["versions"] = {"python": platform.python_version(), **library_versions()}
    run["machine"] = {"platform": platform.platform(), "cpu_cores": os.cpu_count()}
    run["git_commit"] = git_commit()
    run["digests"] = {**run.get("digests", {}), **record["key"]["inputs"]}
    run["counts"] = {**run.get("counts", {}), **(counts or {})}
    run.setdefault("stages", {})[name] = record
    _write(folder, run)


def library_versions():
    """Version of each library that results depend on; None for one that is not installed (av may be
    missing).
    """
    return {
        name: next((d.version for d in importlib.metadata.distributions(name=name)), None)
        for name in LIBRARIES
    }


def git_commit():
    """Commit of the repository, with a mark where files were changed since; None outside git."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def peak_mb():
    """Largest resident memory of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count what the parent held when it started this process
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return round(int(lines["VmHWM"].split()[0]) / 2**10)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))
