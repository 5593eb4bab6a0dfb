"""Where the recordings lie (a given folder, the demo, a downloaded set); the key of a test set."""

import importlib
import sys
from pathlib import Path, PurePosixPath

import pandas as pd

from helpers.base import artifacts
from helpers.base.errors import SourceError
from helpers.data import public
from helpers.demo import birds, dataset, mixtures

INPUTS = "/kaggle/input"  # where Kaggle mounts what is attached
DRIVE = "/content/drive"  # where Colab mounts Google Drive
DEMOS = {"demo": dataset, "demo_multilabel": mixtures, "demo_birds": birds}


def locate(config) -> Path:
    """Folder of a config's recordings: the one it names, else the demo, or a downloaded set.

    The demo is made where it is not there yet. Returns a resolved Path. Raises SourceError when a
    folder is needed and none is there.
    """
    data = config.data
    if data.root:
        mount_drive(data.root)
        root = Path(data.root).resolve()
        if not root.is_dir():
            raise SourceError(f"The data folder {root} does not exist.")
        return root
    if data.source.startswith("demo"):
        root, key = demo_paths(config)
        DEMOS[data.source].ensure(root, key, config.seed, data.demo_train, data.demo_test)
        return root
    if data.source.startswith("esc"):
        return public.fetch("esc50", artifacts.home() / "data")
    raise SourceError(
        "Which recordings? Give the folder: `make run-all DATA=path/to/folder`, or data = '…' in a "
        "notebook."
    )


def attached(path: str | Path) -> Path:
    """A data folder, or where it does not lie here, the one of its name among Kaggle's inputs.

    A competition is mounted at <its name> or competitions/<its name>, a data set at <its name> or
    datasets/<user>/<its name>.
    """
    path = Path(path).expanduser()
    places = [path]
    for above in ("", "*/", "*/*/"):
        places += sorted(Path(INPUTS).glob(above + path.name)) if path.name else []
    return next((place for place in places if place.is_dir()), path)


def mount_drive(path: str | Path) -> None:
    """Mount Google Drive if a path lies on it and Colab has not mounted it yet."""
    on_drive = str(path).startswith(f"{DRIVE}/")
    if on_drive and not Path(DRIVE).is_dir() and "google.colab" in sys.modules:
        importlib.import_module("google.colab.drive").mount(DRIVE)


def demo_paths(config) -> tuple[Path, Path]:
    """Folder of the demo and, outside it, the hidden key of its test files."""
    data = config.data
    size = "" if data.demo_train >= 300 else f"-{data.demo_train}"
    name = data.source.replace("_", "-") + size  # demo or demo-multilabel
    folder = artifacts.home() / "data"
    return folder / name, folder / f"{name}-key.csv"


def hidden_labels(root: str | Path, recordings: pd.DataFrame, config) -> pd.Series:
    """True labels of the test recordings where there is a key, by recording_id, or with
    audio.test_windows by the row's id; else empty.

    The demo keeps its key outside the data folder; a user's test set may lie in class folders. Only
    the last stage reads them, after the submission is written.
    """
    test = recordings.query("split == 'test'")
    test = test.set_index("recording_id")
    demo_root, key = demo_paths(config)
    is_demo = config.data.source.startswith("demo")
    if is_demo and Path(root) == demo_root.resolve():
        answers = pd.read_csv(key, dtype=str, keep_default_na=False)
        answers = answers.set_index("filename")["label"]
        if config.audio.test_windows:
            return answers
        names = test["path"].map(lambda path: PurePosixPath(path).name)
        return names[names.isin(answers.index)].map(answers)
    return test["label"][test["label"].ne("")]


def hidden_events(root: str | Path, config) -> pd.DataFrame:
    """When each sound of the test recordings is heard, where that is known: else no rows.

    The multi-label demo keeps it beside its key; only the last stage reads it. Returns a table
    filename, onset, offset (seconds), label.
    """
    demo_root, key = demo_paths(config)
    path = mixtures.events_path(key)
    is_demo = config.data.source.startswith("demo") and Path(root) == demo_root.resolve()
    if is_demo and path.is_file():
        return artifacts.read_table(path).astype({"onset": float, "offset": float})
    return pd.DataFrame(columns=mixtures.EVENT)
