"""Data folders recognised by what lies in them, so that `make run-all DATA=…` needs no more than the folder.

A preset may list what marks its data (``layout``): paths, or tables with some of their columns. Where no preset's marks
are there, a table that names the recordings is looked for. What is ambiguous is left to the class folders.
"""

import os
from pathlib import Path, PurePosixPath

import pandas as pd

from helpers import tables

AUDIO_SUFFIXES = {
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au"),
    *(".m4a", ".aac", ".webm", ".mp4"),
}
TEST_NAMES = {"test", "testing", "test_audio", "audio_test", "test_soundscapes"}
NAMED = 0.8  # share of the recordings that a table has to name
# Names of columns, the likeliest first.
LABELS = (
    *("label", "labels", "class", "category", "primary_label", "ebird_code", "species", "tags", "tag", "word"),
    *("genre", "emotion", "digit", "command"),
)
GROUPS = (
    *("speaker", "speaker_id", "client_id", "author", "recordist", "subject", "subject_id", "participant", "patient"),
    *("patient_id", "session", "site", "device_id", "src_file", "fsid", "source_id", "freesound_id"),
)
MAX_TABLES, MAX_TABLE_BYTES = 20, 2e8


def recognise(root, layouts):
    """What lies in a data folder: (preset name or None, keys as {"data.labels_csv": …}, in words how it was told).

    Args: root folder; layouts {preset: its marks}. The preset with the most marks wins; between equals none does.
    """
    fitting = {name: len(marks) for name, marks in layouts.items() if marks and all(_there(root, m) for m in marks)}
    best = [name for name, count in fitting.items() if count == max(fitting.values())]
    if len(best) == 1:
        return best[0], {}, f"preset {best[0]}: {', '.join(layouts[best[0]])}"
    if best:
        return None, {}, f"class folders; it could be {' or '.join(best)}: name one with PRESET="
    keys, says = by_table(root)
    return None, keys, says


def _there(root, mark):
    """Whether a mark is there: a path with wildcards, or "table.csv: column, column"."""
    path, _, columns = mark.partition(":")
    found = next(iter(sorted(Path(root).glob(path))), None)
    wanted = {column.strip() for column in columns.split(",") if column.strip()}
    return found is not None and wanted <= set(tables.header(found) if wanted and found.is_file() else ())


def by_table(root):
    """The keys that read a folder through its table, and how that was told; ({}, "") where no table names its files.

    The one table is taken that names nearly all recordings outside test folders in one column, and their labels in
    another whose name says so, or in the only other one.
    """
    recordings, candidates = _files(root)
    names = [_spellings(PurePosixPath(tables.spelling(path))) for path in recordings]
    readings = [(path, keys) for path in candidates if (keys := _reading(Path(root) / path, names))]
    if len(readings) != 1:
        return {}, f"class folders; several tables name the recordings ({len(readings)})" if readings else ""
    path, keys = readings[0]
    said = [f"{key.replace('_', ' ')} {_quoted(value)}" for key, value in keys.items() if value]
    keys = {f"data.{key}": value for key, value in keys.items() if value is not None}
    return {"data.labels_csv": path, **keys}, f"table {path}: {', '.join(said)}"


def _quoted(value):
    return " and ".join(map(repr, [value] if isinstance(value, str) else value))


def _spellings(path):
    """All that a table may call a recording: its path or the end of it, its name with or without extension."""
    return {path.stem, *("/".join(path.parts[start:]) for start in range(len(path.parts)))}


def recordings(root):
    """The recordings below a folder outside test folders: relative paths, sorted."""
    return sorted(_files(root)[0])


def _files(root):
    """(recordings outside test folders, tables): relative paths."""
    recordings, found = [], []
    for folder, _, names in os.walk(root):
        for name in names:
            path = PurePosixPath((Path(folder) / name).relative_to(root).as_posix())
            hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
            tested = any(part.casefold() in TEST_NAMES for part in path.parts[:-1])
            if path.suffix.casefold() in AUDIO_SUFFIXES and not hidden and not tested:
                recordings.append(str(path))
            if path.suffix.casefold() == ".csv" and not hidden and "submission" not in name.lower():
                found.append(str(path))
    return recordings, sorted(found, key=lambda path: (path.count("/"), path))[:MAX_TABLES]


def _reading(path, names):
    """The keys that read one table: id_column, label_column and, where there are, groups, folds, test side; or None."""
    if not names or not path.is_file() or path.stat().st_size > MAX_TABLE_BYTES or len(tables.header(path)) < 2:
        return None
    try:
        table = tables.read(path)
    except tables.SourceError:
        return None
    with_suffix = sorted(table, key=lambda column: -table[column].str.contains(r"\.\w+$").mean())  # surer than numbers
    id_column = next((column for column in with_suffix if _names(set(table[column].map(tables.spelling)), names)), None)
    label_column = id_column and _label_column(table.drop(columns=id_column))
    if not label_column:
        return None
    keys = {"id_column": id_column, "label_column": label_column}
    known = {column.casefold(): column for column in table}
    groups = [known[name] for name in GROUPS if name in known and _binds(table, known[name], label_column)]
    split = next((column for column in table if column.casefold() in ("split", "subset", "set")), None)
    test_value = next((value for value in table[split] if value.casefold() == "test"), None) if split else None
    return {
        **keys,
        "group_columns": tuple(groups[:1]) or None,
        "fold_column": next(
            (column for column in table if column.casefold() == "fold" and _folds(table[column])), None
        ),
        "split_column": split if test_value else None,
        "test_value": test_value if test_value != "test" else None,
    }


def _names(values, names):
    return sum(bool(spellings & values) for spellings in names) >= NAMED * len(names)


def _label_column(table):
    """The column of labels: by its name, or the only one."""
    known = {column.casefold(): column for column in table}
    named = next((known[name] for name in LABELS if name in known), None)
    return named or (table.columns[0] if table.shape[1] == 1 else None)


def _binds(table, column, label_column):
    """Whether a column can form groups: each class has at least two of its values, and values are shared."""
    per_class = table.groupby(label_column)[column].nunique()
    return bool(per_class.min() >= 2 and table[column].nunique() < len(table))


def _folds(column):
    numbers = pd.to_numeric(column.str.extract(r"(\d+)")[0])
    return bool(numbers.notna().all() and 2 <= numbers.nunique() <= 20)
