"""Where the recordings lie: in the folder that is given, the demo, or a downloaded set; and the key
of a test set.
"""

import importlib
import os
import sys
import tempfile
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import pandas as pd

from helpers.base import artifacts, work
from helpers.base.errors import SourceError
from helpers.demo import dataset, mixtures

DRIVE = "/content/drive"  # where Colab mounts Google Drive


def locate(config):
    """Folder of a config's recordings: the one it names, else the demo (made now) or a downloaded
    set.

    Returns a resolved Path. Raises SourceError when a folder is needed and none is there.
    """
    if config.data.root:
        mount_drive(config.data.root)
        root = Path(config.data.root).resolve()
        if not root.is_dir():
            raise SourceError(f"The data folder {root} does not exist.")
        return root
    if config.data.source == "demo":
        root, key = demo_paths(config)
        dataset.ensure(
            root,
            key,
            seed=config.seed,
            n_train=config.data.demo_train,
            n_test=config.data.demo_test,
        )
        return root
    if config.data.source == "demo_multilabel":
        root, key = demo_paths(config)
        return mixtures.ensure(
            root, key, config.seed, config.data.demo_train, config.data.demo_test
        )
    if config.data.source in ("esc10", "esc50"):
        return download_esc50(artifacts.home() / "data")
    raise SourceError(
        "Which recordings? Give the folder: `make run-all DATA=path/to/folder`, or data = '…' in a notebook."
    )


def mount_drive(path):
    """Mount Google Drive if a path lies on it and this is a Colab kernel where it is not mounted
    yet.
    """
    on_drive = str(path).startswith(f"{DRIVE}/")
    if on_drive and not Path(DRIVE).is_dir() and "google.colab" in sys.modules:
        importlib.import_module("google.colab.drive").mount(DRIVE)


def demo_paths(config):
    """Folder of the demo and, outside it, the hidden key of its test files."""
    name = config.data.source.replace("_", "-")  # demo or demo-multilabel
    name += "" if config.data.demo_train >= 300 else f"-{config.data.demo_train}"
    folder = artifacts.home() / "data"
    return folder / name, folder / f"{name}-key.csv"


def hidden_labels(root, recordings, config):
    """True labels of the test recordings where there is a key, by recording_id: an empty Series if
    there is none.

    The demo keeps its key outside the data folder; a user's test set may lie in class folders. Only
    the last stage reads them, after the submission is written.
    """
    test = recordings[recordings["split"].eq("test")].set_index("recording_id")
    demo_root, key = demo_paths(config)
    if config.data.source.startswith("demo") and Path(root) == demo_root.resolve():
        answers = pd.read_csv(key, dtype=str, keep_default_na=False).set_index("filename")["label"]
        names = test["path"].map(lambda path: PurePosixPath(path).name)
        return names[names.isin(answers.index)].map(answers)
    return test["label"][test["label"].ne("")]


ESC50_URL = "https://github.com/karolpiczak/ESC-50/archive/master.zip"


def download_esc50(folder, url=ESC50_URL):
    """The ESC-50 archive (about 600 MB), downloaded once and unpacked below `folder`; returns its
    root.

    ESC-50: K. J. Piczak 2015, doi:10.1145/2733373.2806390; CC BY-NC. Its esc10 column marks ESC-10.
    Raises SourceError if the address cannot be reached or the archive is not what it should be.
    """
    root = Path(folder) / "ESC-50"
    if (root / "meta" / "esc50.csv").is_file():
        return root
    with artifacts.replacing(Path(folder) / "esc50.zip") as archive:
        _download(url, archive)
        _unpack(archive, root)
    (Path(folder) / "esc50.zip").unlink(missing_ok=True)
    return root


def _download(url, path):
    try:
        with urllib.request.urlopen(url, timeout=60) as response, open(path, "wb") as file:
            size = int(response.headers.get("Content-Length") or 0) or None
            blocks = iter(lambda: response.read(1 << 20), b"")
            total = size and -(-size // (1 << 20))
            for block in work.progress(blocks, "download (MiB)", total):
                file.write(block)
    except OSError as error:
        raise SourceError(
            f"{url} could not be downloaded ({error}). "
            "Download it by hand and give the unpacked folder: DATA=path/to/ESC-50"
        ) from None


def _unpack(archive, root):
    """Unpack the single top folder of a zip archive as `root`; sizes and names are checked first."""
    try:
        with (
            zipfile.ZipFile(archive) as zipped,
            tempfile.TemporaryDirectory(dir=root.parent) as temporary,
        ):
            members = zipped.infolist()
            if sum(member.file_size for member in members) > 4 << 30 or any(
                ".." in m.filename for m in members
            ):
                raise SourceError("too large, or unsafe names")
            if len({PurePosixPath(member.filename).parts[0] for member in members}) != 1:
                raise SourceError("it should hold one folder")
            zipped.extractall(temporary)
            tables = list(Path(temporary).glob("*/meta/esc50.csv"))
            if len(tables) != 1:
                raise SourceError("it holds no meta/esc50.csv")
            os.replace(tables[0].parent.parent, root)
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, RuntimeError) as error:
        raise SourceError(f"The downloaded archive cannot be used: {error}") from None
