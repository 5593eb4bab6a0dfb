"""Data folders recognised by what lies in them, so that `make run-all DATA=…` needs no more than
the folder.

A preset may list what marks its data (``layout``): paths, or tables with some of their columns.
Where no preset's marks are there, a table that names the recordings is looked for. What is
ambiguous is left to the class folders.
"""

import os
import re
from pathlib import Path, PurePosixPath

import pandas as pd

from helpers.base import errors, tables

AUDIO_SUFFIXES = {
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au"),
    *(".m4a", ".aac", ".webm", ".mp4"),
}
TABLE_SUFFIXES = {".csv", ".tsv"}
TEST_NAMES = {"test", "testing", "test_audio", "audio_test", "test_soundscapes"}
NAMED = 0.8  # share of the recordings that a table has to name
# Names of columns, the likeliest first.
LABELS = (
    *(
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
    ),
    *(
        "genre",
        "emotion",
        "digit",
        "command",
        "class_name",
        "label_name",
        "category_name",
        "classname",
        "target",
    ),
    *(
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
    ),
)
GROUPS = (
    *(
        "speaker",
        "speaker_id",
        "client_id",
        "author",
        "recordist",
        "subject",
        "subject_id",
        "participant",
        "patient",
    ),
    *(
        "patient_id",
        "session",
        "site",
        "device_id",
        "src_file",
        "fsid",
        "source_id",
        "freesound_id",
    ),
)
FOLDS, SIDES = ("fold", "kfold", "fold_id"), ("split", "subset", "set")
SEPARATORS = (",", ";", "|", " ")  # between the labels of a recording
ZERO_OR_ONE = ("0", "1", "0.0", "1.0")
MAX_TABLES, MAX_TABLE_BYTES = 20, 2e8


def recognise(root, layouts):
    """The preset whose marks lie in a data folder: (its name or None, in words how it was told).

    Args: root folder; layouts {preset: its marks}. The preset with the most marks wins; between
        equals none does.
    """
    fitting = {
        name: len(marks)
        for name, marks in layouts.items()
        if marks and all(_there(root, m) for m in marks)
    }
    best = [name for name, count in fitting.items() if count == max(fitting.values())]
    if len(best) == 1:
        return best[0], f"preset {best[0]}: {', '.join(layouts[best[0]])}"
    return None, f"it could be {' or '.join(best)}: name one with PRESET=" if best else ""


def _there(root, mark):
    """Whether a mark is there: a path with wildcards, or "table.csv: column, column"."""
    path, _, columns = mark.partition(":")
    found = next(iter(sorted(Path(root).glob(path))), None)
    wanted = {column.strip() for column in columns.split(",") if column.strip()}
    return found is not None and wanted <= set(
        tables.header(found) if wanted and found.is_file() else ()
    )


def by_table(root, given=None):
    """The keys that read a folder through its table, and how that was told; ({}, "") where no table
    names its files.

    The one table is taken that names nearly all recordings outside test folders in one column, and
    their labels in another whose name says so, or in the only other one. Where there is no test
    folder, recordings that only the sample submission or a table of the test set names are the test
    set.

    Args: root folder; given the columns that the user has named, {"id_column": …, "label_column":
        …}.
    """
    recordings, tested, candidates = _files(root)
    given = {name: value for name, value in (given or {}).items() if isinstance(value, str)}
    names = [set(tables.spellings(path)) for path in recordings]
    asked = {path: _values(Path(root) / path) for path in candidates if _asks(path) and not tested}
    in_classes = len({PurePosixPath(path).parent for path in recordings}) > 1
    readings = {}
    for path in candidates:
        keys = None if _asks(path) else _reading(Path(root) / path, names, asked, given)
        if keys and (keys["label_column"] or not in_classes):
            readings[path] = keys
    if len(readings) > 1:  # a column called label is surer than the only other one
        surer = {path: keys for path, keys in readings.items() if _is_label(keys["label_column"])}
        readings = surer if len(surer) == 1 else readings
    if len(readings) > 1:
        listed = ", ".join(readings)
        return (
            {},
            f"class folders; several tables name the recordings ({listed}): choose by data.labels_csv",
        )
    if not readings:
        return {}, ""
    path, keys = readings.popitem()
    told = {name: value for name, value in keys.items() if value is not None}
    return {
        f"data.{name}": value for name, value in {"labels_csv": path, **told}.items()
    }, _in_words(path, told)


def _in_words(path, keys):
    """How a table is read: "table labels.csv: id column 'file', label column 'class'"."""
    columns = [
        name
        for name in keys
        if name in ("id_column", "label_column", "group_columns", "fold_column")
    ]
    words = [f"{name.replace('_', ' ')} {_quoted(keys[name])}" for name in columns]
    if "label_column" not in keys:
        words.append("a column of 0 and 1 per class")
    if "multilabel" in keys:
        words.append("several labels per recording")
    if "label_separator" in keys:
        words.append(f"between them {keys['label_separator']!r}")
    if "split_column" in keys:
        words.append(
            f"test set: {keys.get('test_value', 'test')!r} in column {keys['split_column']!r}"
        )
    if "test_csv" in keys:
        words.append(f"test set: the recordings that {keys['test_csv']} names")
    return f"table {path}: {', '.join(words)}"


def _quoted(value):
    return " and ".join(map(repr, [value] if isinstance(value, str) else value))


def recordings(root):
    """The recordings below a folder outside test folders: relative paths, sorted."""
    return sorted(_files(root)[0])


def label_tables(root):
    """The tables below a folder that may hold labels: no sample submission, no table of a test set."""
    return [path for path in _files(root)[2] if not _asks(path)]


def _asks(path):
    """Whether a table asks for labels rather than giving them: by its name, or by lying in a test
    folder.
    """
    place = PurePosixPath(path)
    words = set(re.split(r"[^a-z]+", place.stem.casefold()))
    in_test = any(part.casefold() in TEST_NAMES for part in place.parts[:-1])
    return (
        in_test
        or "submission" in place.stem.casefold()
        or bool(words & {"test", "testing"} and "train" not in words)
    )


def _files(root):
    """(recordings outside test folders, recordings in them, tables): relative paths."""
    found = {"train": [], "test": [], "table": []}
    for folder, _, names in os.walk(root):
        for name in names:
            path = PurePosixPath((Path(folder) / name).relative_to(root).as_posix())
            kind = _kind(path)
            if kind:
                found[kind].append(str(path))
    first = sorted(found["table"], key=lambda path: (path.count("/"), path))
    return found["train"], found["test"], first[:MAX_TABLES]


def _kind(path):
    """What a file is by its path: "train" or "test", a recording; "table"; None."""
    if any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
        return None
    if path.suffix.casefold() in TABLE_SUFFIXES:
        return "table"
    if path.suffix.casefold() not in AUDIO_SUFFIXES:
        return None
    return "test" if any(part.casefold() in TEST_NAMES for part in path.parts[:-1]) else "train"


def _read(path):
    """A table of two columns or more; None where it cannot be read, or is too large to be looked
    through.
    """
    if not path.is_file() or path.stat().st_size > MAX_TABLE_BYTES or len(tables.header(path)) < 2:
        return None
    try:
        return tables.read(path)
    except errors.SourceError:
        return None


def _values(path):
    """The names that each column of a table may hold: a list of sets; empty where it cannot be
    read.
    """
    table = _read(path)
    return [] if table is None else [_names_in(table[column]) for column in table]


def _names_in(column):
    """What a column calls recordings, also as seen from a folder further down."""
    return {end for text in column.unique() for end in tables.places(text) if end}


def _reading(path, names, asked, given):
    """The keys that read one table: columns of ids and labels and, where there are, groups, folds,
    test side; or None.

    Args: path; names sets of what each recording may be called; asked {table of questions: its
        columns' values}; given.
    """
    table = _read(path) if names else None
    if table is None:
        return None
    with_suffix = sorted(
        table, key=lambda column: -table[column].str.contains(r"\.\w+$").mean()
    )  # surer than numbers
    if given.get("id_column") in table:
        with_suffix = [given["id_column"]]
    for id_column in with_suffix:
        listed = _names_in(table[id_column])
        test_csv, n_tested = _test_table(names, listed, asked)
        n_listed = sum(bool(spellings & listed) for spellings in names)
        if n_listed and n_listed + n_tested >= NAMED * len(names):
            keys = _labels(table.drop(columns=id_column), given)
            return keys and {"id_column": id_column, **keys, "test_csv": test_csv}
    return None


def _test_table(names, listed, asked):
    """(the table of questions that names most of the recordings without a label, how many); None if
    it names others.
    """
    best, most = None, 0
    for path, columns in asked.items():
        for values in columns:
            tested = [spellings for spellings in names if spellings & values]
            if len(tested) > most and not any(spellings & listed for spellings in tested):
                best, most = path, len(tested)
    return best, most


def _labels(table, given):
    """What a table without its ids says of labels, groups, folds and sides: keys; None where it
    holds no labels.
    """
    label_column = _label_column(table, given)
    flags = None if label_column else _flags(table)
    if not label_column and flags is None:
        return None
    several = (
        _several(table[label_column]) if label_column else {"multilabel": True} if flags else {}
    )
    lists = _lists(table[label_column], several) if label_column else None
    folds = _called(table, FOLDS)
    side = _called(table, SIDES)
    tests = [value for value in table[side].unique() if value.casefold() == "test"] if side else []
    keys = {"label_column": label_column, **several}
    if lists is not None:
        bound = [
            column
            for name in GROUPS
            if (column := _called(table, [name])) and _binds(table[column], lists)
        ]
        keys["group_columns"] = tuple(bound[:1]) or None
        keys["fold_column"] = folds if folds and _folds(table[folds]) else None
    if tests:
        keys["split_column"] = side
        keys["test_value"] = tests[0] if tests[0] != "test" else None
    return keys


def _called(table, names):
    """The first column whose name is one of these, whatever its case; None if there is none."""
    columns = {column.casefold(): column for column in table}
    return next((columns[name] for name in names if name in columns), None)


def _is_label(column):
    return column is not None and column.casefold() in LABELS


def _label_column(table, given):
    """The column of labels: the one given, by its name, or the only one if its values repeat."""
    if given.get("label_column") in table:
        return given["label_column"]
    if named := _called(table, LABELS):
        return named
    facts = {column for column in table if column.casefold() in (*FOLDS, *SIDES, *GROUPS)}
    others = [column for column in table if column not in facts]
    if len(others) != 1 or 2 * table[others[0]].nunique() > len(table):
        return None
    return others[0]


def _flags(table):
    """Whether several of a table's columns, all of 0 and 1, hold in a row; None where they are no
    such columns.
    """
    if table.shape[1] < 2 or not len(table) or not table.isin(ZERO_OR_ONE).all(axis=None):
        return None
    return bool(table.astype(float).sum(axis=1).ne(1).any())


def _several(column):
    """Keys for a column of several labels per row, {} for one of a label each.

    Labels between separators come in several company: "bark", "bark,purr", "purr,meow". Where the
    parts of a text never meet others ("Speech, male"), or stand alone only with others (spaces), it
    is one name.
    """
    cells = pd.Series([text for text in column.unique() if text])
    if cells.empty:
        return {}
    if cells.str.fullmatch(r"\[.*\]").all():  # as Python writes lists
        return {"multilabel": True}
    for separator in SEPARATORS:
        parts = cells.str.split(separator).map(
            lambda texts: [text.strip() for text in texts if text.strip()]
        )
        joined = parts[parts.map(len) > 1].explode()
        counts = parts.explode().value_counts()
        alone = set(cells) if separator == " " else set(counts.index[counts > 1])
        needed = 1.0 if separator == " " else 0.5
        if len(joined) and joined.drop_duplicates().isin(alone).mean() >= needed:
            return {"multilabel": True, "label_separator": separator}
    return {}


def _lists(column, several):
    """The labels of each row as lists."""
    separator = several.get("label_separator")
    return column.map(
        lambda text: [name.strip() for name in text.split(separator)] if separator else [text]
    )


def _binds(column, lists):
    """Whether a column can form groups: values are shared, and most classes, at least two, have two
    of them.
    """
    rows = pd.DataFrame({"label": lists, "value": column}).explode("label")
    enough = rows.groupby("label")["value"].nunique() >= 2
    return bool(enough.sum() >= 2 and enough.mean() >= 0.5 and column.nunique() < len(column))


def _folds(column):
    numbers = pd.to_numeric(column.str.extract(r"(\d+)")[0])
    return bool(numbers.notna().all() and 2 <= numbers.nunique() <= 20)
