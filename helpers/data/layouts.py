"""Data folders recognised by what lies in them, so that `make run-all DATA=…` needs no more.

A preset may list what marks its data (``layout``): paths, or tables with some of their columns.
Where no preset's marks are there, a table that names the recordings is looked for. What is
ambiguous is left to the class folders.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pandas as pd

from helpers.audio import containers
from helpers.base import errors, tables
from helpers.data import filenames

TABLE_SUFFIXES = {".csv", ".tsv"}
TEST_NAMES = {"test", "testing", "test_audio", "audio_test", "test_soundscapes"}
NAMED = 0.8  # share of the recordings that a table has to name
# Names of columns, the likeliest first.
LABELS = (
    "label",
    "labels",
    "class",
    "category",
    "primary_label",
    "ebird_code",
    "species",
    "tags",
    "tag",
    "word",
    "genre",
    "emotion",
    "digit",
    "command",
    "class_name",
    "label_name",
    "category_name",
    "classname",
    "target",
    "sound",
    "event",
    "instrument",
    "keyword",
    "intent",
    "diagnosis",
    "accent",
    "language",
    "bird",
    "y",
)
GROUPS = (
    "speaker",
    "speaker_id",
    "client_id",
    "author",
    "recordist",
    "subject",
    "subject_id",
    "participant",
    "patient",
    "patient_id",
    "session",
    "site",
    "device_id",
    "src_file",
    "fsid",
    "source_id",
    "freesound_id",
)
FOLDS = ("fold", "kfold", "fold_id")
SIDES = ("split", "subset", "set")
SEPARATORS = (",", ";", "|", " ")  # between the labels of a recording
ZERO_OR_ONE = ("0", "1", "0.0", "1.0")
MAX_TABLES = 20
MAX_TABLE_BYTES = 2e8


def recognise(root: str | Path, layouts: dict[str, tuple[str, ...]]) -> tuple[str | None, str]:
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


def by_table(root: str | Path, given: dict | None = None) -> tuple[dict, str]:
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
    surer = [path for path, keys in readings.items() if _is_label(keys.get("label_column"))]
    chosen = surer if len(surer) == 1 else list(readings)
    if len(chosen) > 1:
        listed = ", ".join(chosen)
        says = f"class folders; several tables name the recordings ({listed})"
        return {}, f"{says}: choose by data.labels_csv"
    if not chosen:
        return {}, ""
    keys = {"labels_csv": chosen[0], **readings[chosen[0]]}
    return {f"data.{name}": value for name, value in keys.items()}, _in_words(keys)


def _readings(root, given):
    """Every table that names the recordings and tells their labels: {its path: the keys}."""
    recordings, tested, candidates = _files(root)
    names = [set(tables.spellings(path)) for path in recordings]
    questions = [path for path in candidates if _asks(path)]
    asked = {} if tested else {path: _values(root / path) for path in questions}
    in_classes = len({PurePosixPath(path).parent for path in recordings}) > 1
    readings = {}
    for path in candidates:
        keys = None if path in questions else _reading(root / path, names, asked, given)
        if keys and ("label_column" in keys or not in_classes):
            readings[path] = keys
    return readings


def _in_words(keys):
    """How a table is read: "table labels.csv: id column 'file', label column 'class'"."""
    words = [
        f"{name.replace('_', ' ')} {_quoted(keys[name])}"
        for name in ("id_column", "label_column", "group_columns", "fold_column")
        if name in keys
    ]
    if "label_column" not in keys:
        words.append("a column of 0 and 1 per class")
    if "multilabel" in keys:
        words.append("several labels per recording")
    if "label_separator" in keys:
        words.append(f"between them {keys['label_separator']!r}")
    if "split_column" in keys:
        value = keys.get("test_value", "test")
        words.append(f"test set: {value!r} in column {keys['split_column']!r}")
    if "test_csv" in keys:
        words.append(f"test set: the recordings that {keys['test_csv']} names")
    return f"table {keys['labels_csv']}: {', '.join(words)}"


def _quoted(value):
    return " and ".join(map(repr, [value] if isinstance(value, str) else value))


def recordings(root: str | Path) -> list[str]:
    """The recordings below a folder outside test folders: relative paths, sorted."""
    return sorted(_files(root)[0])


def label_tables(root: str | Path) -> list[str]:
    """The tables below a folder that may hold labels: none of them is of the test set."""
    return [path for path in _files(root)[2] if not _asks(path)]


def _asks(path):
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


def walk(root: str | Path) -> Iterator[PurePosixPath]:
    """Relative paths of all that is no folder, or a folder that passes for a recording.

    Links to folders are not followed.
    """
    for folder, folders, names in os.walk(root):
        top = PurePosixPath(Path(folder).relative_to(root).as_posix())
        odd = [name for name in folders if is_sound(top / name) or Path(folder, name).is_symlink()]
        yield from (top / name for name in names + odd)


def _files(root):
    """(recordings outside test folders, recordings in them, tables): relative paths."""
    paths = {"train": [], "test": [], "table": [], None: []}
    for path in walk(root):
        paths[_kind(path)].append(str(path))
    first = sorted(paths["table"], key=lambda path: (path.count("/"), path))
    return paths["train"], paths["test"], first[:MAX_TABLES]


def _kind(path):
    """What a file is by its path: "train" or "test", a recording; "table"; None."""
    if tables.is_hidden(path):
        return None
    if path.suffix.casefold() in TABLE_SUFFIXES:
        return "table"
    if not is_sound(path):
        return None
    return "test" if in_test_folder(path) else "train"


def _read(path):
    """A table of two columns or more; None where it cannot be read, or is too large to look at."""
    if not path.is_file() or path.stat().st_size > MAX_TABLE_BYTES or len(tables.header(path)) < 2:
        return None
    try:
        return tables.read(path)
    except errors.SourceError:
        return None


def _values(path):
    """What each column of a table may call recordings: a list of sets; [] where none is read."""
    table = _read(path)
    return [] if table is None else [_names_in(table[column]) for column in table]


def _names_in(column):
    """What a column calls recordings, also as seen from a folder further down."""
    return {end for text in column.unique() for end in tables.places(text) if end}


def _reading(path, names, asked, given):
    """The keys that read one table: columns of ids, labels, groups, folds and sides; or None.

    Args: path; names sets of what each recording may be called; asked {table of questions: its
        columns' values}; given.
    """
    table = _read(path) if names else None
    if table is None:
        return None
    columns = sorted(table, key=lambda column: -table[column].str.contains(r"\.\w+$").mean())
    if given.get("id_column") in columns:  # else names with an extension are surer than numbers
        columns = [given["id_column"]]
    for column in columns:
        listed = _names_in(table[column])
        test_csv, n_tested = _test_table(names, listed, asked)
        n_listed = sum(not spellings.isdisjoint(listed) for spellings in names)
        if n_listed and n_listed + n_tested >= NAMED * len(names):
            keys = _labels(table.drop(columns=column), given)
            keys = keys and {"id_column": column, **keys, "test_csv": test_csv}
            return keys and {name: value for name, value in keys.items() if value is not None}
    return None


def _test_table(names, listed, asked):
    """(the table of questions that names most recordings without a label or None, how many)."""
    best = None
    most = 0
    for path, columns in asked.items():
        for values in columns:
            tested = [spellings for spellings in names if not spellings.isdisjoint(values)]
            if len(tested) > most and all(map(listed.isdisjoint, tested)):
                best = path
                most = len(tested)
    return best, most


def _labels(table, given):
    """What a table without its ids says of labels, groups, folds and sides: keys, or None."""
    column = _label_column(table, given)
    if column is None:
        return _flags(table)
    keys = {"label_column": column, **_several(table[column])}
    separator = keys.get("label_separator")
    lists = table[column].str.split(separator) if separator else table[column]
    groups = [name for name in _called(table, GROUPS) if _binds(table[name], lists)]
    folds = [name for name in _called(table, FOLDS)[:1] if _are_folds(table[name])]
    keys["group_columns"] = tuple(groups[:1]) or None
    keys["fold_column"] = folds[0] if folds else None
    return {**keys, **_sides(table)}


def _sides(table):
    """Keys for a column of sides, where one of them is called test; {} where there is none."""
    for side in _called(table, SIDES)[:1]:
        tests = [value for value in table[side].unique() if value.casefold() == "test"]
        if tests:
            value = None if tests[0] == "test" else tests[0]
            return {"split_column": side, "test_value": value}
    return {}


def _called(table, names):
    """The columns whose names are among these, whatever their case, in the order of the names."""
    columns = {column.casefold(): column for column in table}
    return [columns[name] for name in names if name in columns]


def _is_label(column):
    return column is not None and column.casefold() in LABELS


def _label_column(table, given):
    """The column of labels: the one given, by its name, or the only one if its values repeat."""
    if given.get("label_column") in list(table):
        return given["label_column"]
    if named := _called(table, LABELS):
        return named[0]
    others = [column for column in table if column.casefold() not in (*FOLDS, *SIDES, *GROUPS)]
    if len(others) == 1 and 2 * table[others[0]].nunique() <= len(table):
        return others[0]
    return None


def _flags(table):
    """Keys for columns of 0 and 1, of which several may hold in a row; None for other columns."""
    if table.shape[1] < 2 or table.empty or not table.isin(ZERO_OR_ONE).all(axis=None):
        return None
    several = table.astype(float).sum(axis=1).ne(1).any()
    return {"multilabel": True if several else None}


def _several(column):
    """Keys for a column of several labels per row, {} for one of a label each.

    Labels between separators come in several company: "bark", "bark,purr", "purr,meow". Where the
    parts of a text never meet others ("Speech, male"), or stand alone only with others (spaces), it
    is one name.
    """
    cells = pd.Series([text for text in column.unique() if text], dtype=object)
    if cells.empty:
        return {}
    if cells.str.fullmatch(r"\[.*\]").all():  # as Python writes lists
        return {"multilabel": True}
    for separator in SEPARATORS:
        parts = cells.str.split(separator).explode().str.strip()
        parts = parts[parts.ne("")]
        joined = parts[parts.index.duplicated(keep=False)].drop_duplicates()
        by_spaces = separator == " "
        company = cells if by_spaces else parts[parts.duplicated()]
        if len(joined) and joined.isin(company).mean() >= (1.0 if by_spaces else 0.5):
            return {"multilabel": True, "label_separator": separator}
    return {}


def _binds(column, lists):
    """Whether a column can form groups.

    Values are shared, and most classes, at least two, have two of them.
    """
    rows = pd.DataFrame({"label": lists, "value": column}).explode("label")
    labels = rows["label"].str.strip()
    enough = rows.groupby(labels)["value"].nunique() >= 2
    shared = column.nunique() < len(column)
    return bool(shared and enough.sum() >= 2 and enough.mean() >= 0.5)


def _are_folds(column):
    folds = filenames.folds(column)
    return bool(folds.notna().all() and 2 <= folds.nunique() <= 20)
