"""What a folder tells by what lies where: a preset's marks, folders and lists of sides, names.

A preset may list what marks its data (``layout``): paths, or tables with some of their columns.
"""

import math
import re
from pathlib import Path, PurePosixPath

import pandas as pd

from helpers.base import tables
from helpers.layouts import columns, filenames, listing, words

SIDES_TOLD = ("train_folders", "test_folders", "test_csv", "split_column", "fold_column")
LABELS_TOLD = ("labels_csv", "label_pattern", "name_pattern")
LISTS = {"test": "testing_list.txt", "validation": "validation_list.txt"}


def preset_of(root: str | Path, layouts: dict[str, tuple[str, ...]]) -> tuple[str | None, str]:
    """The preset whose marks lie in a data folder: (its name or None, in words how it was told).

    Args: root folder; layouts {preset: its marks}. The preset with the most marks wins; between
        equals none does.
    """
    marked = {name: len(marks) for name, marks in layouts.items() if _all_lie_in(root, marks)}
    most = max(marked.values(), default=0)
    best = [name for name, count in marked.items() if count == most]
    if not best:
        return None, ""
    if len(best) > 1:
        return None, f"it could be {' or '.join(best)}: name one with PRESET="
    [name] = best
    marks = ", ".join(layouts[name])
    return name, f"preset {name}: {marks}"


def _all_lie_in(root, marks):
    return bool(marks) and all(_lies_in(root, mark) for mark in marks)


def _lies_in(root, mark):
    """Whether a mark is there: a path with wildcards, or "table.csv: column, column"."""
    path, _, columns = mark.partition(":")
    places = sorted(Path(root).glob(path))
    wanted = {column.strip() for column in columns.split(",")} - {""}
    return bool(places) and (not wanted or wanted <= set(tables.header(places[0])))


def keys_of(root: str | Path, own: dict, rows_are_told: bool = False) -> tuple[dict, str]:
    """Keys for sides told by lists or folders, for names that tell the class, for windows asked
    for; and how that was told.

    Args: root folder; own what is set of the section data, without "data."; rows_are_told whether
        the settings say themselves what the submission's rows are.
    """
    root = Path(root)
    train, test, candidates = listing.files(root, own.get("unlabelled", ()))
    keys = {} if any(map(own.get, SIDES_TOLD)) else _listed_sides(root) or _folder_sides(train)
    says = words.sides_in_words(keys)
    if not any(own.get(key, "auto") not in ("auto", None) for key in LABELS_TOLD):
        grammar, told = _told_by_names(train)
        keys |= grammar
        says += told
    keys = {f"data.{name}": value for name, value in keys.items()}
    if windows := {} if rows_are_told else _windows(root, train, test, candidates):
        keys |= windows
        says.append(f"a row per {windows['audio.clip_seconds']:g} s of each test recording")
    return keys, ", ".join(says)


def _told_by_names(recordings):
    """(keys, words) for names that tell the class, where no folders do."""
    if len({listing.class_folder(path) for path in recordings}) > 1:
        return {}, []
    pattern, says = filenames.telling(recordings)
    return ({"name_pattern": pattern}, [says]) if pattern else ({}, [])


def _listed_sides(root):
    """Keys for lists of files as of Speech Commands."""
    found = {side: sorted(root.glob(f"**/{name}"))[:1] for side, name in LISTS.items()}
    return {
        f"{side}_csv": path.relative_to(root).as_posix()
        for side, paths in found.items()
        for path in paths
    }


def _folder_sides(recordings):
    """Keys for folders such as val beside one such as train."""
    parents = {parent for path in recordings for parent in PurePosixPath(path).parents}
    learned = {folder.parent for folder in parents if folder.name.casefold() in listing.TRAIN_NAMES}
    folders = [
        str(folder)
        for folder in sorted(parents)
        if folder.name.casefold() in listing.VALIDATION_NAMES and folder.parent in learned
    ]
    return {"validation_folders": tuple(folders)} if folders else {}


def _windows(root, train, test, candidates):
    """Keys for a sample submission whose ids are a test file's name and seconds; {} for others."""
    samples = [path for path in candidates if re.search("sample.*submission", path.casefold())]
    sample = columns.read(root, samples[0]) if samples else None
    ids = pd.Series(dtype=str) if sample is None else sample.iloc[:, 0]
    stems = {PurePosixPath(path).stem for path in test}
    known = {PurePosixPath(path).stem for path in train} | stems
    step, asked = _steps(ids)
    fitting = asked <= stems if test else asked.isdisjoint(known)
    if not fitting or not known.isdisjoint(ids) or step < (1 if test else 2):
        return {}
    hidden = {"data.allow_empty_test": True, "submit.rows_from": "files"}
    return {
        "audio.test_windows": True,
        "audio.clip_seconds": float(step),
        "submit.id": "{stem}_{end}",
        **({} if test else hidden),
    }


def _steps(ids):
    """(seconds from one window's end to the next, names) where ids are names and ends; (0, …) else.

    >>> _steps(pd.Series(["a_5", "a_10", "b_5"])) == (5, {"a", "b"})
    True
    """
    parts = ids.str.extract(r"^(.+)_(\d{1,6})$")
    if parts.empty or parts.isna().any(axis=None):
        return 0, set()
    ends = parts[1].astype(int)
    step = math.gcd(*ends)
    by_name = ends.groupby(parts[0])
    in_turn = by_name.nunique().mul(step).eq(by_name.max()).all()
    return (step if in_turn else 0), set(parts[0])
