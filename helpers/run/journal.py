"""The run's journal, run.json: what each stage did, with what, on which machine.

It is kept twice, and mended from its copy.
"""

import contextlib
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

import psutil

from helpers.base import artifacts
from helpers.base.artifacts import REPOSITORY
from helpers.base.errors import StageError
from helpers.base.settings import Config

COPY = ".run.json"  # of run.json
LIBRARIES = (
    *("torch", "numpy", "scipy", "pandas", "scikit-learn", "librosa"),
    *("soundfile", "soxr", "av", "audiomentations"),
)


def run_folder(config: Config, run: str | None = None) -> Path:
    """Folder of a run by name (default: the preset's name, and ``-fast`` for a smoke run)."""
    name = run or config.preset + ("-fast" if config.fast else "")
    if Path(name).name != name or name in (".", ".."):
        raise StageError(f"A run is named by one word without slashes; got {name!r}")
    return artifacts.home() / "outputs" / name


def read_run(folder) -> dict:
    """What run.json holds; empty if there is none. Raises DamagedFile."""
    return _read(Path(folder) / "run.json")


def _read(path):
    if not path.is_file():
        return {}
    with artifacts.readable(path):
        run = artifacts.read_json(path)
        stages = run["stages"]
        if not isinstance(stages, dict) or not all(isinstance(s, dict) for s in stages.values()):
            raise TypeError("it is no record of a run")
    return run


def record(folder, name: str) -> dict:
    """What run.json says of a stage; empty where it has not begun."""
    return read_run(folder).get("stages", {}).get(name, {})


def mend_run(folder: Path) -> str:
    """Put a run.json that is damaged or missing right from its copy.

    Where the copy is damaged or missing too, the record begins anew: all stages run again, training
    from checkpoints. Returns what was done in words, "" if nothing.
    """
    path = folder / "run.json"
    try:
        if read_run(folder) or not (folder / COPY).is_file():
            return ""
        problem = f"{path} is missing"
    except artifacts.DamagedFile:
        problem = f"{path} is damaged"
    with contextlib.suppress(artifacts.DamagedFile):
        if kept := _read(folder / COPY):
            artifacts.write_json(path, kept)
            return f"{problem}: put right from its copy."
    path.unlink(missing_ok=True)
    return (
        f"{problem}, and so is its copy: all stages run again, training from its checkpoints if "
        "there are any."
    )


def check_outputs(folder: Path):
    """Raise DamagedFile, naming it, unless the results of finished stages are what was written.

    Of folders only the figures are looked at: clips and models are many and large.
    """
    for name, stage in read_run(folder).get("stages", {}).items():
        for output, content in stage.get("outputs", {}).items():
            path = folder / output
            if path.is_dir() and output != "figures":
                continue
            if (now := artifacts.digest(path)) != content:
                problem = f"is damaged: it is not what {name} wrote" if now else "is missing"
                raise artifacts.DamagedFile(path, problem)


def note_given(folder: Path, **given):
    """Write down what a run was asked for: preset, data, seed, fast and settings.

    Paths below `artifacts.home` are kept as seen from there.
    """
    home = f"{artifacts.home()}{os.sep}"
    words = {
        name: str(given[name]).removeprefix(home) for name in ("preset", "data") if given[name]
    }
    run = read_run(folder)
    write_run(folder, {**run, "given": {**given, **words}})


def asked(folder: Path) -> dict:
    """What a run was asked for, as `presets.load` takes it; empty where there is no such run."""
    words = read_run(folder).get("given", {})
    paths = {name: artifacts.home() / words[name] for name in ("preset", "data") if words.get(name)}
    return {**words, **{name: str(path) for name, path in paths.items() if path.exists()}}


def command(folder: Path, settings: str = "", **changed) -> str:
    """The command that makes a run again as it was asked for, with some settings changed.

    Args: folder of the run; settings such as "train.epochs=20", which count before those given;
        changed what else is not as it was, such as fast=False.
    """
    run = read_run(folder)
    config = run.get("config", {})
    name = Path(folder).name
    if changed:  # what was a smoke run has a whole one's name
        name = name.removesuffix("-fast")
    before = {"preset": config.get("preset"), "data": config.get("data", {}).get("root")}
    given = {**before, "fast": config.get("fast"), **run.get("given", {}), **changed}
    pairs = {word.partition("=")[0]: word for word in (given.get("settings") or "").split()}
    pairs |= {word.partition("=")[0]: word for word in settings.split()}
    words = {
        "PRESET": given["preset"],
        "DATA": given["data"],
        "RUN": name,
        "SEED": given.get("seed"),
        "FAST": 1 if given["fast"] else None,
    }
    parts = [f"{name}={_quoted(word)}" for name, word in words.items() if word is not None]
    parts += [f'SET="{" ".join(pairs.values())}"'] if pairs else []
    return " ".join(["make run-all", *parts])


def _quoted(word):
    return f'"{word}"' if re.search(r"[^\w./-]", str(word)) else word


def add_attempt(folder: Path, name: str, ended: float):
    """Count the time of an attempt at a stage that did not finish.

    Args: ended in seconds, as of time.time.
    """
    run = read_run(folder)
    stage = run.get("stages", {}).get(name, {})
    if stage.get("status") == "running" and "begun" in stage:
        stage["seconds"] = round(stage["seconds"] + max(0, ended - stage.pop("begun")), 1)
        write_run(folder, run)


def note(folder: Path, config: Config, name: str, stage: dict, counts: dict | None = None):
    """Write down what is known of a stage, and with what it ran."""
    run = read_run(folder)
    run["config"] = config.model_dump(mode="json")
    run["seeds"] = {"seed": config.seed}
    run["versions"] = {"python": platform.python_version(), **library_versions()}
    run["machine"] = {"platform": platform.platform(), "cpu_cores": os.cpu_count()}
    run["git_commit"] = git_commit()
    run["digests"] = {**run.get("digests", {}), **stage["key"]["inputs"]}
    run["counts"] = {**run.get("counts", {}), **(counts or {})}
    run["stages"] = {**run.get("stages", {}), name: stage}
    write_run(folder, run)


def write_run(folder: Path, run: dict):
    """Write run.json, and its copy."""
    for name in ("run.json", COPY):  # one after the other: what spoils one leaves the other whole
        artifacts.write_json(folder / name, run)


def library_versions() -> dict[str, str | None]:
    """Version of each library that results depend on; None where it is missing, as av may be."""
    return {name: _version(name) for name in LIBRARIES}


def _version(library):
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """Commit of the repository, with a mark where files were changed since; None outside git."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=12"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.check_output(
            command, text=True, timeout=10, stderr=subprocess.DEVNULL
        ).strip()
    return None


def peak_mb() -> int:
    """Largest resident memory of this process so far, in MiB; that of now where no system tells."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count what the parent held when it started this process
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return round(int(lines["VmHWM"].split()[0]) / 2**10)
    memory = psutil.Process().memory_info()
    return round(getattr(memory, "peak_wset", memory.rss) / 2**20)  # Windows knows the peak
