"""A folder read through the table that names its recordings, in any form of `annotations`.

What is ambiguous is left to the class folders.
"""

from pathlib import Path

import pandas as pd

from helpers.base import tables
from helpers.layouts import annotations, columns, listing, words


def keys_of(root: str | Path, given: dict | None = None) -> tuple[dict, str]:
    """The keys that read a folder through its table, and how that was told; ({}, "") where none is.

    The one table is taken that names nearly all recordings outside test folders in one column, and
    their labels in another whose name says so, or in the only other one. Where there is no test
    folder, recordings that only the sample submission or a table of the test set names are the test
    set.

    Args: root folder; given the columns that the user has named, {"id_column": …, "label_column":
        …}.
    """
    readings = _readings(Path(root), given or {})
    # A column called label is surer than the only other one.
    surer = [path for path, keys in readings.items() if columns.is_label(keys.get("label_column"))]
    chosen = surer if len(surer) == 1 else list(readings)
    if len(chosen) > 1:
        listed = ", ".join(chosen)
        says = f"class folders; several tables name the recordings ({listed})"
        return {}, f"{says}: choose by data.labels_csv"
    if not chosen:
        beside = annotations.BESIDE in listing.label_tables(root)
        read = (
            f"to read the label files beside the recordings: data.labels_csv={annotations.BESIDE}"
        )
        return {}, f"class folders; {read}" if beside else ""
    keys = readings[chosen[0]]
    return {f"data.{name}": value for name, value in keys.items()}, words.in_words(keys)


def _readings(root, given):
    """Every table that names the recordings and tells their labels: {its path: the keys}.

    Tables that differ in the name of a side alone are one, and come before any other.
    """
    recordings, tested, candidates = listing.files(root, given.get("unlabelled", ()))
    names = [set(tables.spellings(path)) for path in recordings]
    questions = [path for path in candidates if listing.asks(path)]
    asked = {} if tested else {path: columns.values(root, path) for path in questions}
    in_classes = len({listing.class_folder(path) for path in recordings}) > 1
    readings = _families_readings(root, candidates, names, asked, given, in_classes)
    if readings:
        return readings
    for path in candidates:
        if path in questions:
            continue
        keys = columns.reading(columns.read(root, path), names, asked, given)
        if _counts(keys, in_classes, path):
            readings[path] = {**keys, "labels_csv": path}
    return readings


def _families_readings(root, candidates, names, asked, given, in_classes):
    readings = {}
    for family in _families(candidates):
        table, keys = _family(root, family)
        others = {path: values for path, values in asked.items() if path not in keys["labels_csv"]}
        reading = columns.reading(table, names, others, given, whole=False)
        if _counts(reading, in_classes):
            readings[", ".join(keys["labels_csv"])] = {**reading, **keys}
    return readings


def _counts(keys, in_classes, path=""):
    """Whether a reading counts: before class folders only what surely holds labels does."""
    if not keys or not in_classes:
        return bool(keys)
    sure = keys.get("label_column", columns.WEAK_LABELS[0]).casefold() not in columns.WEAK_LABELS
    return sure and path != annotations.BESIDE


def _families(candidates):
    """Tables that differ in the name of a side alone: a list of {side: path}."""
    families = {}
    for path in candidates:
        if side := columns.side_of(path):
            families.setdefault(columns.SIDE.sub("*", path.casefold()), {})[side] = path
    return [family for family in families.values() if "train" in family and len(family) > 1]


def _family(root, family):
    """(the tables of several sides as one, the keys that say so); those of other columns are left
    out.
    """
    sides = [side for side in ("train", "validation", "test") if side in family]
    read = {side: columns.read(root, family[side]) for side in sides}
    train = read["train"]
    if train is None or columns.TABLE in train:
        return None, {"labels_csv": ()}
    alike = {
        side: table
        for side, table in read.items()
        if table is not None and set(table) == set(train)
    }
    keys = {"labels_csv": tuple(family[side] for side in alike), "split_column": columns.TABLE}
    keys |= {f"{side}_value": family[side] for side in alike if side != "train"}
    whole = pd.concat(alike.values(), ignore_index=True) if len(alike) > 1 else None
    return whole, keys
