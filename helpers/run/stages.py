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

import pandas as pd

from helpers.base import artifacts, code
from helpers.base.errors import StageError
from helpers.base.settings import Config
from helpers.data import relabel
from helpers.delivery import sessions
from helpers.layouts import listing
from helpers.listeners import naming
from helpers.run import journal


@dataclass(frozen=True)
class StageSpec:
    """A notebook's contract: files below the run folder ("data": the recordings), config sections.

    Of relabel.csv, which 07 writes and a person edits, only the edits count. "{listener}" stands
    for the listener's own files; only with a listener there are embeddings. "{weights}" stands for
    those that a network begins from. "models/{compare}" stands for a folder per model compared,
    "models/{submit}" for those that the submission needs.
    """

    name: str
    title: str
    reads: tuple
    writes: tuple
    sections: tuple
    keys: tuple = ()  # single settings of other sections, of which its page speaks

    def inputs(self, config: Config) -> list[str]:
        return _expand(self.reads, config)

    def outputs(self, config: Config) -> list[str]:
        return _expand(self.writes, config)


EMBEDDINGS = "embeddings.npy"
LISTENER = "{listener}"
WEIGHTS = "{weights}"
ELSEWHERE = {LISTENER: naming.digest, WEIGHTS: naming.weights_digest}  # what lies in no run folder
NEVER_RUN = "not run yet"  # a reason to run


def _expand(names, config):
    lacking = [] if config.features.listener else [EMBEDDINGS, LISTENER]
    lacking += [] if naming.begins_elsewhere(config) else [WEIGHTS]
    models = {"models/{compare}": config.compare.models, "models/{submit}": config.submitted()}
    paths = []
    for name in names:
        paths += [f"models/{model}" for model in models[name]] if name in models else [name]
    return [path for path in paths if path not in lacking]


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
        ("train.noise_folder",),
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
        ("clips", "clips.csv", "augmented", "augmented.csv", LISTENER),
        (
            "waveforms.npy",
            "waveforms.csv",
            "features.csv",
            EMBEDDINGS,
            "spectrograms",
            "spectrograms.zip",
            "validation.json",
        ),
        ("data", "audio", "features", "listener"),
    ),
    StageSpec(
        "05_train_cnn",
        "Train the CNN",
        ("waveforms.npy", "waveforms.csv", "spectrograms", WEIGHTS),
        ("models/cnn", "history.json"),
        ("data", "audio", "split", "features", "model", "train"),
    ),
    StageSpec(
        "06_compare_models",
        "Compare models",
        (
            *("waveforms.npy", "waveforms.csv", "features.csv", EMBEDDINGS),
            *("models/cnn", "history.json"),
        ),
        (
            *("models/{compare}", "leaderboard.csv", "balance.csv"),
            *("leak_gap.json", "learning_curve.json"),
        ),
        (
            *("data", "audio", "split", "features", "listener"),
            *("model", "train", "compare", "evaluate"),
        ),
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
            *("data", "recordings.csv", "waveforms.npy", "waveforms.csv", "features.csv"),
            *(EMBEDDINGS, "models/cnn", "models/{submit}", "history.json", "shortcuts.json"),
            *("leaderboard.csv", "metrics.json"),
        ),
        ("submission.csv", "submission_check.json"),
        ("data", "audio", "features", "model", "compare", "evaluate", "submit"),
    ),
)


def spec(name: str) -> StageSpec:
    """The contract of a stage by name."""
    return next(stage for stage in STAGES if stage.name == name)


def ready_folder(config: Config, name: str | None = None, needs: str = "waveforms.npy") -> Path:
    """The folder of a run that holds a file already. Raises StageError saying what makes it."""
    folder = journal.run_folder(config, name)
    if not (folder / needs).is_file():
        last = next(stage.name for stage in STAGES if needs in stage.writes)
        raise StageError(
            f"There is no {needs} in {folder} yet: `make run-all`, or the notebooks from "
            f"{STAGES[0].name} to {last} first."
        )
    return folder


@dataclass
class Stage:
    """A stage at work. ``stage / "clips.csv"`` is a path in the run folder."""

    spec: StageSpec
    config: Config
    folder: Path
    data: Path | None
    key: dict
    spent: float = 0  # seconds of earlier attempts, which did not finish
    started: float = field(default_factory=time.perf_counter)
    counts: dict = field(default_factory=dict)  # of `account`, for run.json

    def __truediv__(self, name):
        return self.folder / name

    def read(self, name):
        """A table (.csv), JSON value (.json) or memory-mapped array (.npy) of the run folder."""
        return artifacts.read(self.folder / name)

    def write(self, name, value):
        """Write a table (.csv) or a JSON value (.json) of the run folder, atomically."""
        path = self.folder / name
        write = artifacts.write_json if path.suffix == ".json" else artifacts.write_table
        write(path, value)

    def replacing(self, name):
        """A file or folder to write anew in a `with` block; it appears when it is complete."""
        return artifacts.replacing(self.folder / name)

    def make(self, name, function, *args, **options):
        """A file of the run folder by function(*args, path, **options), whose result it returns.

        It appears when it is complete.
        """
        with self.replacing(name) as path:
            return function(*args, path, **options)

    def fill(self, name, function, *args, **options):
        """A folder of the run folder, in the same way: the function is given it empty."""
        with self.replacing(name) as folder:
            folder.mkdir()
            return function(*args, folder, **options)

    def account(self, table):
        """How many files were found, used, set aside and ignored: a table of one row.

        `finish` notes it. Raises StageError where they do not add up.
        """
        self.counts = artifacts.account(table)
        return pd.DataFrame([self.counts])

    @staticmethod
    def require(condition, message):
        """Raise StageError with the message unless the condition holds."""
        artifacts.require(condition, message)

    def finish(self) -> pd.DataFrame:
        """Check that every promised output is there, seal the models, note all in run.json.

        Returns a short account. Raises StageError naming what is missing.
        """
        names = self.spec.outputs(self.config)
        if missing := [name for name in names if not (self.folder / name).exists()]:
            raise StageError(
                f"{self.spec.name} promised {', '.join(missing)}, which it did not write."
            )
        for name in names:
            if name.startswith("models/"):
                artifacts.seal(self.folder / name)
        seconds = round(self.spent + time.perf_counter() - self.started, 1)
        record = {
            "status": "done",
            "seconds": seconds,
            "peak_mb": journal.peak_mb(),
            "ended": round(time.time()),
            "key": self.key,
            "settings": self.config.model_dump(mode="json", include=own_sections(self.spec)),
            "outputs": {name: artifacts.digest(self.folder / name) for name in names},
        }
        journal.note(self.folder, self.config, self.spec.name, record, self.counts)
        shown = {"stage": self.spec.name, "seconds": seconds, "peak_mb": record["peak_mb"]}
        return pd.DataFrame([{**shown, **self.counts}])


def begin(name: str, config: Config, run: str | None = None, data=None) -> Stage:
    """Begin a stage: check its inputs, take the digests that decide whether it must run again.

    Args: name of the stage, such as "02_clean"; config; run name or None; data folder of the
        recordings.
    Raises StageError naming the notebook to run first when an input is not there.
    """
    stage = spec(name)
    folder = journal.run_folder(config, run)
    take_over(folder, config, STAGES[: STAGES.index(stage)])
    _require_inputs(stage, config, folder)
    key = stage_key(stage, config, folder, data)
    before = journal.record(folder, name)
    resumed = before.get("status") == "running" and before["key"] == key
    spent = before["seconds"] if resumed else 0
    record = {"status": "running", "key": key, "begun": time.time(), "seconds": spent}
    journal.note(folder, config, name, record)
    return Stage(stage, config, folder, Path(data) if data else None, key, spent)


def take_over(folder: Path, config: Config, wanted=STAGES):
    """Bring the stages that a run folder lacks from another session, where there is one.

    Says what was taken from where, and what was not and why.
    """
    run = journal.read_run(folder)
    names = [stage.name for stage in wanted]
    taken, told = sessions.take(folder, run, names, lambda given: _other_setting(config, given))
    if taken != run:
        journal.write_run(folder, taken)
    print(*told, sep="\n", end="\n" if told else "")


def _require_inputs(stage, config, folder):
    """Raise StageError, naming the notebook to run first, unless all inputs are there, made with
    these settings.
    """
    earlier = STAGES[: STAGES.index(stage)]
    records = {other.name: journal.record(folder, other.name) for other in earlier}
    unfinished = [name for name, record in records.items() if record.get("status") != "done"]
    writers = {path: other.name for other in earlier for path in other.outputs(config)}
    for path in stage.inputs(config):
        writer = writers.get(path)
        if writer and (writer in unfinished or not (folder / path).exists()):
            first = [*unfinished, writer][0]
            raise StageError(
                f"{stage.name} needs {path}, which is not there yet in {folder}. "
                f"Run {first}.ipynb first, with the same preset, data and run (or `make run-all`)."
            )
    for name, record in records.items():
        _require_same_settings(stage.name, config, name, record.get("settings", {}))


def _require_same_settings(stage_name, config, name, settings):
    """What an earlier notebook was run with must hold here too, or what is trained would not be
    what is deployed.
    """
    if other := _other_setting(config, settings):
        given = other.partition(", but here")[0]
        raise StageError(
            f"{name} was run with {other}. Give it to {stage_name} too "
            f'(settings = "{given}"), or run {name} again.'
        )


def _other_setting(config, settings):
    """A setting of those recorded that is another one here, in words; "" if there is none."""
    here = config.model_dump(mode="json")
    for section, recorded in settings.items():
        for key, value in recorded.items():
            if key != "root" and here[section][key] != value:
                return f"{section}.{key}={value}, but here it is {here[section][key]}"
    return ""


def own_sections(stage: StageSpec) -> set[str]:
    """The sections of the configuration that no stage before this one depends on."""
    return set(stage.sections).difference(
        *(other.sections for other in STAGES[: STAGES.index(stage)])
    )


# --- whether a stage must run again

CAUSES = {"config": "its settings", "code": "its code", "libraries": "library versions"}


def stage_key(stage: StageSpec, config: Config, folder: Path, data) -> dict:
    """Everything that decides a stage's outputs: config sections, code, libraries, inputs."""
    inputs = {name: _input_digest(name, folder, data, config) for name in stage.inputs(config)}
    for name in ELSEWHERE.keys() & inputs.keys():
        inputs[name] = ELSEWHERE[name](config)
    return {
        "config": config.digest((*stage.sections, *stage.keys)),
        "code": code.code_digest(stage.name),
        "libraries": hashlib.sha256(json.dumps(journal.library_versions()).encode()).hexdigest(),
        "inputs": inputs,
    }


def _input_digest(name, folder, data, config):
    if name == "relabel.csv":
        return relabel.edits_digest(folder / name)
    if name != "data":
        return artifacts.digest(folder / name)
    places = [data]
    if data:
        unlabelled = listing.folders_of(data, config.data.unlabelled)
        places += [place for place in unlabelled if place.is_absolute()]
    digests = map(artifacts.digest, filter(None, places))
    return ":".join(filter(None, digests)) or None


def why_stale(stage: StageSpec, config: Config, folder: Path, data) -> str | None:
    """Why a stage must run (again), in a few words; None if it is done and nothing changed."""
    record = journal.record(folder, stage.name)
    if record.get("status") != "done":
        return "did not finish" if record else NEVER_RUN
    key = stage_key(stage, config, folder, data)
    for part, what in CAUSES.items():
        if key[part] != record["key"][part]:
            return f"{what} changed"
    for name, content in key["inputs"].items():
        if content != record["key"]["inputs"].get(name):
            return f"input {name} changed"
    for name, content in record["outputs"].items():
        if artifacts.digest(folder / name) != content:
            return f"output {name} changed"
    return None
