"""What the columns of a table tell: which recordings, labels, groups, folds, sides."""

import re
from pathlib import Path

import pandas as pd

from helpers.base import errors, tables
from helpers.layouts import annotations, filenames, listing

# What says of which side a table, or a row, is; told apart by two letters.
SIDE = re.compile(r"(?<![a-z])(train(?:ing)?|dev|val(?:id(?:ation)?)?|test(?:ing)?)(?![a-z])")
TABLE = "table"  # the column that says from which of several tables a row is
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
    "scene_label",
    "scene",
    "y",
)
# Names of columns that hold labels if their values repeat.
WEAK_LABELS = ("accents", "gender", "text", "sentence", "transcription", "transcript")
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
MAX_TABLE_BYTES = 2e8


def read(root, name):
    """A table of two columns or more; None where it cannot be read, or is too large to look at."""
    path = Path(root) / name
    plain = path.suffix.casefold() in listing.PLAIN_SUFFIXES
    if name != annotations.BESIDE:
        if not path.is_file() or path.stat().st_size > MAX_TABLE_BYTES:
            return None
        if plain and len(tables.header(path)) < 2:
            return None
    try:
        table = annotations.read(root, name)
    except (errors.SourceError, OSError):
        return None
    return table if table.shape[1] > 1 else None


def values(root, path):
    """What each column of a table may call recordings: a list of sets; [] where none is read."""
    table = read(root, path)
    return [] if table is None else [_names_in(table[column]) for column in table]


def _names_in(column):
    """What a column calls recordings, also as seen from a folder further down."""
    return {end for text in column.unique() for end in tables.places(text) if end}


def reading(table, names, asked, given, whole=True):
    """The keys that read one table: columns of ids, labels, groups, folds and sides; or None.

    Args: table or None; names sets of what each recording may be called; asked {table of
        questions: its columns' values}; given; whole whether it must name nearly all recordings,
        or may name a part of them in nearly all its rows.
    """
    if table is None or not names:
        return None
    needed = listing.NAMED * (len(names) if whole else min(len(names), len(table)))
    columns = sorted(table, key=lambda column: -table[column].str.contains(r"\.\w+$").mean())
    if given.get("id_column") in columns:  # else names with an extension are surer than numbers
        columns = [given["id_column"]]
    for column in columns:
        test_csv, n_tested = _test_table(names, _names_in(table[column]), asked)
        n_listed = n_named(names, table[column])
        if n_listed and n_listed + n_tested >= needed:
            keys = _labels(table.drop(columns=column), given)
            return keys and _set({"id_column": column, **keys, "test_csv": test_csv})
    return None


def _set(keys):
    return {name: value for name, value in keys.items() if value is not None}


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


def n_named(names, column):
    """How many recordings a column names. Args: names what each may be called."""
    listed = _names_in(column)
    return sum(not spellings.isdisjoint(listed) for spellings in names)


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
    """Keys for a column of sides, where one of them is called test or validation, or much alike."""
    for column in _called(table, SIDES)[:1]:
        words = [value for value in table[column].unique() if SIDE.fullmatch(value.casefold())]
        sides = {side_of(value): value for value in words}
        if sides.keys() & {"test", "validation"}:
            test = sides.get("test", "test")
            values = {"test_value": None if test == "test" else test}
            return {
                "split_column": column,
                **values,
                "validation_value": sides.get("validation"),
            }
    return {}


def side_of(text: str) -> str | None:
    """The side that a word, or the path of a table, names; None where it names none, or several.

    >>> side_of("data/dev.tsv"), side_of("Testing"), side_of("latest.csv")
    ('validation', 'test', None)
    """
    sides = {"tr": "train", "te": "test"}
    named = {sides.get(word[:2], "validation") for word in SIDE.findall(text.casefold())}
    return named.pop() if len(named) == 1 else None


def _called(table, names):
    """The columns whose names are among these, whatever their case, in the order of the names."""
    columns = {column.casefold(): column for column in table}
    return [columns[name] for name in names if name in columns]


def is_label(column):
    return column is not None and column.casefold() in LABELS


def _label_column(table, given):
    """The column of labels: the one given, by its name, or the only one if its values repeat."""
    if given.get("label_column") in list(table):
        return given["label_column"]
    if named := _called(table, LABELS):
        return named[0]
    if weak := [column for column in _called(table, WEAK_LABELS) if _repeats(table[column])]:
        return weak[0]
    others = [column for column in table if column.casefold() not in (*FOLDS, *SIDES, *GROUPS)]
    return others[0] if len(others) == 1 and _repeats(table[others[0]]) else None


def _repeats(column):
    return 2 <= 2 * column.nunique() <= len(column)


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
