"""What lies in a data folder: recordings, the test set's, tables that may hold labels."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from helpers.audio import containers
from helpers.base import tables
from helpers.layouts import annotations

PLAIN_SUFFIXES = {".csv", ".tsv"}
TABLE_SUFFIXES = {*PLAIN_SUFFIXES, ".json", ".jsonl"}
TEST_NAMES = {"test", "testing", "test_audio", "audio_test", "test_soundscapes"}
TRAIN_NAMES = {"train", "training", "train_audio", "audio_train", "train_short_audio", "src_wavs"}
VALIDATION_NAMES = {"val", "valid", "validation", "dev"}
CONTAINERS = {"audio", "data", "wav", "wavs", "recordings", "clips", "sounds"}
NAMED = 0.8  # share of the recordings that a table has to name
MAX_TABLES = 20


def recordings(root: str | Path, unlabelled: str | Iterable[str] = ()) -> list[str]:
    """The recordings below a folder outside those of the test and of data.unlabelled: relative
    paths, sorted.
    """
    return sorted(files(root, unlabelled)[0])


def label_tables(root: str | Path) -> list[str]:
    """The tables below a folder that may hold labels: none of them is of the test set."""
    return [path for path in files(root)[2] if not asks(path)]


def asks(path):
    """Whether a table asks for labels: by its name, or by lying in a test folder."""
    place = PurePosixPath(path)
    stem = place.stem.casefold()
    words = set(re.split(r"[^a-z]+", stem))
    about_test = not words.isdisjoint({"test", "testing"}) and "train" not in words
    return in_test_folder(place) or "submission" in stem or about_test


def in_test_folder(path: PurePosixPath) -> bool:
    """Whether a file lies in a folder with a name such as test."""
    return any(part.casefold() in TEST_NAMES for part in path.parts[:-1])


def is_sound(path: PurePosixPath) -> bool:
    """Whether a file is a recording by its name."""
    return path.suffix.casefold() in containers.SUFFIXES


def walk(root: str | Path, but: Iterable[PurePosixPath] = ()) -> Iterator[PurePosixPath]:
    """Relative paths of all that is no folder, or a folder that passes for a recording.

    Links to folders are not followed, nor is what lies below the folders `but`.
    """
    for folder, folders, names in os.walk(root):
        top = PurePosixPath(Path(folder).relative_to(root).as_posix())
        if top in but:
            folders.clear()
            continue
        odd = [name for name in folders if is_sound(top / name) or Path(folder, name).is_symlink()]
        yield from (top / name for name in names + odd)


def folders_of(root: str | Path, names: str | Iterable[str]) -> list[PurePosixPath]:
    """Folders that are named from a data folder or absolutely: from it where they lie below it.

    >>> folders_of("/data", ["field", "/data/a/b", "/far"])
    [PurePosixPath('field'), PurePosixPath('a/b'), PurePosixPath('/far')]
    """
    top = Path(root).resolve()
    names = [names] if isinstance(names, str) else names
    places = []
    for place in (Path(top, name).resolve() for name in names):
        place = place.relative_to(top) if place.is_relative_to(top) else place
        places.append(PurePosixPath(place.as_posix()))
    return places


def files(root, unlabelled=()):
    """(recordings outside test folders, recordings in them, tables): relative paths.

    Those below the folders of data.unlabelled are left out.
    """
    paths = {"train": [], "test": [], "table": [], "text": [], None: []}
    for path in walk(root, folders_of(root, unlabelled)):
        paths[_kind(path)].append(str(path))
    first = sorted(paths["table"], key=lambda path: (path.count("/"), path))[:MAX_TABLES]
    first += _texts(root, paths["text"], paths["train"])
    return paths["train"], paths["test"], first


def _texts(root, texts, recordings):
    """Those of the text files that hold labels: all beside recordings as one, Raven's tables."""
    stems = {str(PurePosixPath(path).with_suffix("")) for path in recordings}
    beside = [path for path in texts if path.partition(".")[0] in stems]
    if recordings and len(beside) >= NAMED * len(recordings):
        return [annotations.BESIDE]
    few = texts[:MAX_TABLES]
    return [path for path in few if annotations.FILE in tables.header(Path(root) / path)]


def _kind(path):
    """What a file is by its path: "train" or "test", a recording; "table", "text"; None."""
    if tables.is_hidden(path):
        return None
    if path.suffix.casefold() in TABLE_SUFFIXES or path.name == "wav.scp":
        return "table"
    if path.suffix == ".txt":
        return "text"
    if not is_sound(path):
        return None
    return "test" if in_test_folder(path) else "train"


def class_folder(path: str) -> str:
    """The innermost folder of a recording; "" where it is a mere container, or a side.

    >>> class_folder("train/dog/1.wav"), class_folder("data/train/1.wav")
    ('dog', '')
    """
    name = PurePosixPath(path).parent.name
    return "" if name.casefold() in TRAIN_NAMES | TEST_NAMES | CONTAINERS else name
