"""Stages: what each notebook reads and writes, and whether it must run again.

A stage is one notebook. It begins with ``begin``, which looks for its inputs and takes their
digests, and ends with ``Stage.finish``, which looks for its outputs and notes them in ``run.json``.
Whether a stage must run again is decided from these digests alone (``why_stale``), never from time
stamps or from a file's existence.
"""

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.base import artifacts, code, errors
from helpers.base.errors import StageError
from helpers.data import relabel
from helpers.run import journal

# --- a run's network, from the notebook or the command line
# -------------------------------------------------


def ready_folder(config, name=None):
    """The folder of a run that 04_features is done for. Raises StageError."""
    folder = journal.run_folder(config, name)
    if not (folder / "waveforms.npy").is_file():
        raise errors.StageError(
            f"There is no waveforms.npy in {folder} yet: `make run-all`, or 01 to 04 first."
        )
    return folder


@dataclass(frozen=True)
class StageSpec:
    """A notebook's contract: files below the run folder ("data": the recordings) and config
    sections.

    Of relabel.csv, which 07 writes and a person edits, only the edits count.

    "models/{compare}" stands for a folder per model compared, "models/{submit}" for those that the
    submission needs.
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
    return [
        path
        for name in names
        for path in ([f"models/{m}" for m in models[name]] if name in models else [name])
    ]


STAGES = (
    StageSpec(
        "01_explore",
        "Explore the recordings",
        ("data", "relabel.csv"),
        ("recordings.csv",),
        ("data", "audio"),
    ),
    StageSpec(
        "02_clean",
        "Clean, cut and split",
        ("data", "recordings.csv"),
        (
            "clips",
            "clips.csv",
            "quarantine.csv",
            "duplicates.csv",
            "split_certificate.json",
            "shortcuts.json",
        ),
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
        (
            "waveforms.npy",
            "waveforms.csv",
            "features.csv",
            "spectrograms",
            "spectrograms.zip",
            "validation.json",
        ),
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
            *(
                "data",
                "recordings.csv",
                "waveforms.npy",
                "waveforms.csv",
                "features.csv",
                "models/cnn",
            ),
            *(
                "models/{submit}",
                "history.json",
                "shortcuts.json",
                "leaderboard.csv",
                "metrics.json",
            ),
        ),
        ("submission.csv", "submission_check.json"),
        ("data", "audio", "features", "model", "compare", "evaluate", "submit"),
    ),
)


def spec(name):
    """The contract of a stage by name."""
    return next(stage for stage in STAGES if stage.name == name)


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
        """A file of the run folder: a table (.csv), a JSON value (.json), or an array,
        memory-mapped (.npy).
        """
        path = self.folder / name
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r")
        return artifacts.read_json(path) if path.suffix == ".json" else artifacts.read_table(path)

    def write(self, name, value):
        """Write a table (.csv) or a JSON value (.json) of the run folder, atomically."""
        (artifacts.write_json if name.endswith(".json") else artifacts.write_table)(
            self.folder / name, value
        )

    def replacing(self, name):
        """A file or folder of the run folder to write anew, in a `with` block: it appears when it
        is complete.
        """
        return artifacts.replacing(self.folder / name)

    @staticmethod
    def require(condition, message):
        """Raise StageError with the message unless the condition holds."""
        artifacts.require(condition, message)

    def finish(self, **counts):
        """Check that every promised output is there, seal the models, note all in run.json, return
        a short account.
        """
        missing = [
            name for name in self.spec.outputs(self.config) if not (self.folder / name).exists()
        ]
        if missing:
            raise StageError(
                f"{self.spec.name} promised {', '.join(missing)}, which it did not write."
            )
        for name in self.spec.outputs(self.config):
            if name.startswith("models/"):
                artifacts.seal(self.folder / name)
        seconds = round(self.spent + time.perf_counter() - self.started, 1)
        settings = self.config.model_dump(mode="json", include=set(own_sections(self.spec)))
        record = {
            "status": "done",
            "seconds": seconds,
            "peak_mb": journal.peak_mb(),
            "key": self.key,
            "settings": settings,
        }
        record["outputs"] = {
            name: artifacts.digest(self.folder / name) for name in self.spec.outputs(self.config)
        }
        journal.note(self.folder, self.config, self.spec.name, record, counts)
        return pd.DataFrame(
            [{"stage": self.spec.name, "seconds": seconds, "peak_mb": record["peak_mb"], **counts}]
        )


def begin(name, config, run=None, data=None):
    """Begin a stage: check its inputs, take the digests that decide whether it must run again.

    Args: name of the stage, such as "02_clean"; config; run name or None; data folder of the
        recordings.
    Returns a Stage. Raises StageError naming the notebook to run first when an input is not there.
    """
    stage, folder = spec(name), journal.run_folder(config, run)
    _require_inputs(stage, config, folder)
    key = stage_key(stage, config, folder, data)
    before = journal.read_run(folder).get("stages", {}).get(name, {})
    spent = (
        before.get("seconds", 0)
        if before.get("status") == "running" and before.get("key") == key
        else 0
    )
    journal.note(
        folder,
        config,
        name,
        {"status": "running", "key": key, "begun": time.time(), "seconds": spent},
    )
    return Stage(stage, config, folder, Path(data) if data else None, key, spent)


def _require_inputs(stage, config, folder):
    """Raise StageError, naming the notebook to run first, unless all inputs are there, made with
    these settings.
    """
    done = journal.read_run(folder).get("stages", {})
    earlier = STAGES[: STAGES.index(stage)]
    unfinished = [
        other.name for other in earlier if done.get(other.name, {}).get("status") != "done"
    ]
    for name in stage.inputs(config):
        producer = next((other for other in earlier if name in other.outputs(config)), None)
        if producer and (producer.name in unfinished or not (folder / name).exists()):
            first = (*unfinished, producer.name)[0]
            raise StageError(
                f"{stage.name} needs {name}, which is not there yet in {folder}. "
                f"Run {first}.ipynb first, with the same preset, data and run (or `make run-all`)."
            )
    for other in earlier:
        _require_same_settings(
            stage, config, other.name, done.get(other.name, {}).get("settings", {})
        )


def _require_same_settings(stage, config, name, settings):
    """What an earlier notebook was run with must hold here too, or what is trained would not be
    what is deployed.
    """
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
        "code": code.code_digest(stage.name),
        "libraries": hashlib.sha256(json.dumps(journal.library_versions()).encode()).hexdigest(),
        "inputs": inputs,
    }


def _input_digest(name, folder, data):
    if name == "relabel.csv":
        return relabel.edits_digest(folder / name)
    return artifacts.digest(data if name == "data" else folder / name)


def why_stale(stage, config, folder, data):
    """Why a stage must run (again), in a few words; None if it is done and nothing changed."""
    record = journal.read_run(folder).get("stages", {}).get(stage.name)
    if record is None:
        return "not run yet"
    if record["status"] != "done":
        return "did not finish"
    key = stage_key(stage, config, folder, data)
    for part, what in (
        ("config", "its settings"),
        ("code", "its code"),
        ("libraries", "library versions"),
    ):
        if key[part] != record["key"][part]:
            return f"{what} changed"
    for name, content in key["inputs"].items():
        if content != record["key"]["inputs"].get(name):
            return f"input {name} changed"
    for name, content in record["outputs"].items():
        if artifacts.digest(folder / name) != content:
            return f"output {name} changed"
    return None
