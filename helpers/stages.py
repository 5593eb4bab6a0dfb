"""Stages: what each notebook reads and writes, and whether it must run again.

A stage is one notebook. It begins with ``begin``, which looks for its inputs and takes their digests, and
ends with ``Stage.finish``, which looks for its outputs and notes them in ``run.json``. Whether a stage must
run again is decided from these digests alone (``why_stale``), never from time stamps or from a file's existence.
"""

import ast
import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from helpers import artifacts, relabel
from helpers.artifacts import REPOSITORY, StageError

COPY = ".run.json"  # of run.json
LIBRARIES = (
    *("torch", "numpy", "scipy", "pandas", "scikit-learn", "librosa"),
    *("soundfile", "soxr", "av", "audiomentations"),
)


@dataclass(frozen=True)
class StageSpec:
    """A notebook's contract: files below the run folder ("data": the recordings) and config sections.

    Of relabel.csv, which 07 writes and a person edits, only the edits count.

    "models/{compare}" stands for a folder per model compared, "models/{submit}" for those that the submission needs.
    """

    name: str
    title: str
    reads: tuple
    writes: tuple
    sections: tuple
    keys: tuple = ()  # single settings of other sections, of which its page speaks

    def inputs(self, config):
        return _expand(self.reads, config)

    def outputs(self, config):
        return _expand(self.writes, config)


def _expand(names, config):
    models = {"models/{compare}": config.compare.models, "models/{submit}": config.submitted()}
    return [path for name in names for path in ([f"models/{m}" for m in models[name]] if name in models else [name])]


STAGES = (
    StageSpec("01_explore", "Explore the recordings", ("data", "relabel.csv"), ("recordings.csv",), ("data", "audio")),
    StageSpec(
        "02_clean",
        "Clean, cut and split",
        ("data", "recordings.csv"),
        ("clips", "clips.csv", "quarantine.csv", "duplicates.csv", "split_certificate.json", "shortcuts.json"),
        ("data", "audio", "clean", "split"),
    ),
    StageSpec(
        "03_augment",
        "Augment",
        ("clips", "clips.csv"),
        ("augmented", "augmented.csv"),
        ("audio", "augment"),
        ("train.augmented_copies", "compare.augmented_copies"),
    ),
    StageSpec(
        "04_features",
        "Waveforms, features, images",
        ("clips", "clips.csv", "augmented", "augmented.csv"),
        ("waveforms.npy", "waveforms.csv", "features.csv", "spectrograms", "spectrograms.zip", "validation.json"),
        ("data", "audio", "features"),
    ),
    StageSpec(
        "05_train_cnn",
        "Train the CNN",
        ("waveforms.npy", "waveforms.csv", "spectrograms"),
        ("models/cnn", "history.json"),
        ("data", "audio", "split", "features", "model", "train"),
    ),
    StageSpec(
        "06_compare_models",
        "Compare models",
        ("waveforms.npy", "waveforms.csv", "features.csv", "models/cnn", "history.json"),
        ("models/{compare}", "leaderboard.csv", "balance.csv", "leak_gap.json"),
        ("data", "audio", "split", "features", "model", "train", "compare", "evaluate"),
    ),
    StageSpec(
        "07_evaluate",
        "Evaluate",
        (
            *("recordings.csv", "waveforms.npy", "waveforms.csv", "models/cnn", "history.json"),
            *("models/{compare}", "leaderboard.csv", "leak_gap.json", "shortcuts.json"),
        ),
        ("metrics.json", "predictions.csv", "suspects.csv", "figures"),
        ("data", "audio", "split", "features", "model", "compare", "evaluate"),
    ),
    StageSpec(
        "08_submit",
        "Predict and submit",
        (
            *("data", "recordings.csv", "waveforms.npy", "waveforms.csv", "features.csv", "models/cnn"),
            *("models/{submit}", "history.json", "shortcuts.json", "leaderboard.csv", "metrics.json"),
        ),
        ("submission.csv", "submission_check.json"),
        ("data", "audio", "features", "model", "compare", "evaluate", "submit"),
    ),
)


def spec(name):
    """The contract of a stage by name."""
    return next(stage for stage in STAGES if stage.name == name)


def run_folder(config, run=None):
    """Folder of a run by name (default: the preset's name, and ``-fast`` for a smoke run)."""
    name = run or config.preset + ("-fast" if config.fast else "")
    if Path(name).name != name or name in (".", ".."):
        raise StageError(f"A run is named by one word without slashes; got {name!r}")
    return artifacts.home() / "outputs" / name


@dataclass
class Stage:
    """A stage at work. ``stage / "clips.csv"`` is a path in the run folder."""

    spec: StageSpec
    config: object
    folder: Path
    data: Path
    key: dict
    spent: float = 0  # seconds of earlier attempts, which did not finish
    started: float = field(default_factory=time.perf_counter)

    def __truediv__(self, name):
        return self.folder / name

    def read(self, name):
        """A table of the run folder."""
        return artifacts.read_table(self.folder / name)

    def write(self, name, value):
        """Write a table (.csv) or a JSON value (.json) of the run folder, atomically."""
        (artifacts.write_json if name.endswith(".json") else artifacts.write_table)(self.folder / name, value)

    def finish(self, **counts):
        """Check that every promised output is there, seal the models, note all in run.json, return a short account."""
        missing = [name for name in self.spec.outputs(self.config) if not (self.folder / name).exists()]
        if missing:
            raise StageError(f"{self.spec.name} promised {', '.join(missing)}, which it did not write.")
        for name in self.spec.outputs(self.config):
            if name.startswith("models/"):
                artifacts.seal(self.folder / name)
        seconds = round(self.spent + time.perf_counter() - self.started, 1)
        settings = self.config.model_dump(mode="json", include=set(own_sections(self.spec)))
        record = {"status": "done", "seconds": seconds, "peak_mb": peak_mb(), "key": self.key, "settings": settings}
        record["outputs"] = {name: artifacts.digest(self.folder / name) for name in self.spec.outputs(self.config)}
        _note(self.folder, self.config, self.spec.name, record, counts)
        return pd.DataFrame([{"stage": self.spec.name, "seconds": seconds, "peak_mb": record["peak_mb"], **counts}])


def begin(name, config, run=None, data=None):
    """Begin a stage: check its inputs, take the digests that decide whether it must run again.

    Args: name of the stage, such as "02_clean"; config; run name or None; data folder of the recordings.
    Returns a Stage. Raises StageError naming the notebook to run first when an input is not there.
    """
    stage, folder = spec(name), run_folder(config, run)
    _require_inputs(stage, config, folder)
    key = stage_key(stage, config, folder, data)
    before = read_run(folder).get("stages", {}).get(name, {})
    spent = before.get("seconds", 0) if before.get("status") == "running" and before.get("key") == key else 0
    _note(folder, config, name, {"status": "running", "key": key, "begun": time.time(), "seconds": spent})
    return Stage(stage, config, folder, Path(data) if data else None, key, spent)


def _require_inputs(stage, config, folder):
    """Raise StageError, naming the notebook to run first, unless all inputs are there, made with these settings."""
    done = read_run(folder).get("stages", {})
    earlier = STAGES[: STAGES.index(stage)]
    unfinished = [other.name for other in earlier if done.get(other.name, {}).get("status") != "done"]
    for name in stage.inputs(config):
        producer = next((other for other in earlier if name in other.outputs(config)), None)
        if producer and (producer.name in unfinished or not (folder / name).exists()):
            first = (*unfinished, producer.name)[0]
            raise StageError(
                f"{stage.name} needs {name}, which is not there yet in {folder}. "
                f"Run {first}.ipynb first, with the same preset, data and run (or `make run-all`)."
            )
    for other in earlier:
        _require_same_settings(stage, config, other.name, done.get(other.name, {}).get("settings", {}))


def _require_same_settings(stage, config, name, settings):
    """What an earlier notebook was run with must hold here too, or what is trained would not be what is deployed."""
    here = config.model_dump(mode="json")
    for section, recorded in settings.items():
        for key, value in recorded.items():
            if key != "root" and here[section][key] != value:
                raise StageError(
                    f"{name} was run with {section}.{key}={value}, but here it is {here[section][key]}. "
                    f'Give it to {stage.name} too (settings = "{section}.{key}={value}"), or run {name} again.'
                )


def own_sections(stage):
    """The sections of the configuration that no stage before this one depends on."""
    before = {section for other in STAGES[: STAGES.index(stage)] for section in other.sections}
    return [section for section in stage.sections if section not in before]


def stage_key(stage, config, folder, data):
    """Everything that decides a stage's outputs: config sections, code, libraries, input digests."""
    inputs = {name: _input_digest(name, folder, data) for name in stage.inputs(config)}
    return {
        "config": config.digest((*stage.sections, *stage.keys)),
        "code": code_digest(stage.name),
        "libraries": hashlib.sha256(json.dumps(library_versions()).encode()).hexdigest(),
        "inputs": inputs,
    }


def _input_digest(name, folder, data):
    if name == "relabel.csv":
        return relabel.edits_digest(folder / name)
    return artifacts.digest(data if name == "data" else folder / name)


def why_stale(stage, config, folder, data):
    """Why a stage must run (again), in a few words; None if it is done and nothing changed."""
    record = read_run(folder).get("stages", {}).get(stage.name)
    if record is None:
        return "not run yet"
    if record["status"] != "done":
        return "did not finish"
    key = stage_key(stage, config, folder, data)
    for part, what in (("config", "its settings"), ("code", "its code"), ("libraries", "library versions")):
        if key[part] != record["key"][part]:
            return f"{what} changed"
    for name, content in key["inputs"].items():
        if content != record["key"]["inputs"].get(name):
            return f"input {name} changed"
    for name, content in record["outputs"].items():
        if artifacts.digest(folder / name) != content:
            return f"output {name} changed"
    return None


def read_run(folder):
    """The run's record, ``run.json``; empty if there is none. Raises DamagedFile."""
    return _read_record(Path(folder) / "run.json")


def _read_record(path):
    if not path.is_file():
        return {}
    run = artifacts.read_json(path)
    records = run.get("stages") if isinstance(run, dict) else None
    if not isinstance(records, dict) or not all(isinstance(record, dict) for record in records.values()):
        raise artifacts.DamagedFile(path, "is damaged (it is no record of a run)")
    return run


def mend_run(folder):
    """Put a run.json that is damaged or missing right from its copy. Returns what was done in words, "" if nothing.

    Where the copy is damaged or missing too, the record begins anew: all stages run again, training from checkpoints.
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
    """Raise DamagedFile, naming the file, unless the results of all finished stages are what was written.

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
    """Count the time of an attempt at a stage that did not finish. Args: ended in seconds, as of time.time."""
    run = read_run(folder)
    record = run.get("stages", {}).get(name, {})
    if record.get("status") == "running" and "begun" in record:
        record["seconds"] = round(record["seconds"] + max(0, ended - record.pop("begun")), 1)
        _write(folder, run)


def _write(folder, run):
    for name in ("run.json", COPY):  # one after the other: what spoils one leaves the other whole
        artifacts.write_json(Path(folder) / name, run)


def _note(folder, config, name, record, counts=None):
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


# --- code and machine ---------------------------------------------------------------------------------------


def code_digest(name):
    """SHA-256 of a stage's notebook (its cells alone) and of every helper module it reaches by import."""
    notebook = json.loads((REPOSITORY / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    sources = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return _digest_of_code(sources, helper_modules("\n".join(sources)))


def module_digest(name):
    """SHA-256 of a helper module and of every helper module it reaches by import."""
    return _digest_of_code([], helper_modules(f"from helpers import {name}"))


def _digest_of_code(sources, modules):
    texts = sources + [(REPOSITORY / "helpers" / f"{module}.py").read_text(encoding="utf-8") for module in modules]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def helper_modules(source):
    """Names of the helper modules that a piece of Python imports, directly or through others, sorted."""
    found, waiting = set(), [source]
    while waiting:
        for node in ast.walk(ast.parse(waiting.pop())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "helpers":
                names = {alias.name for alias in node.names} if node.module == "helpers" else {node.module[8:]}
                for module in names - found:
                    found.add(module)
                    waiting.append((REPOSITORY / "helpers" / f"{module}.py").read_text(encoding="utf-8"))
    return sorted(found)


def library_versions():
    """Version of each library that results depend on; None for one that is not installed (av may be missing)."""
    return {name: next((d.version for d in importlib.metadata.distributions(name=name)), None) for name in LIBRARIES}


def git_commit():
    """Commit of the repository, with a mark where files were changed since; None outside git."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
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
