"""Labels: read from a table, one or several per recording; and as target vectors.

A recording with several labels carries them in one text, sorted and joined by SEPARATOR: "bird|rain". Without any it
carries the empty text: where several are allowed, hearing none of the classes is an answer too.
"""

import hashlib
import unicodedata
import warnings
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from helpers.downloads import SourceError

SEPARATOR = "|"
ZERO_OR_ONE = ["0", "1", "0.0", "1.0"]
LONGEST_NAME = 120  # bytes of a folder's name


def split(label):
    """The classes in a recording's label.

    >>> split("bird|rain"), split("")
    (['bird', 'rain'], [])
    """
    return label.split(SEPARATOR) if label else []


def join(classes):
    """A recording's label from its classes: sorted, each once.

    >>> join(["rain", "bird", "rain"])
    'bird|rain'
    """
    return SEPARATOR.join(sorted(set(classes)))


def classes(rows, multilabel=False):
    """The classes that the training side of a table with split and label names, sorted."""
    found = rows.loc[rows["split"].eq("train"), "label"].unique()
    return sorted({name for label in found for name in (split(label) if multilabel else [label])})


def matrix(labels, names):
    """Labels as target vectors: float32 [n, C], 1 where the recording is of the class (several, one or none).

    Args: labels iterable of str; names the classes. A label that is no class is read as several.

    >>> matrix(["bird", "bird|rain", ""], ["bird", "rain"]).tolist()
    [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    """
    index, table = {name: number for number, name in enumerate(names)}, np.zeros((len(labels), len(names)), np.float32)
    for row, label in enumerate(labels):
        for name in [label] if label in index else split(label):
            if name in index:
                table[row, index[name]] = 1
    return table


def by_class(rows, multilabel=False):
    """The rows with one class each: a row with several labels once for each of them, one without not at all."""
    if not multilabel:
        return rows
    return rows.assign(label=rows["label"].map(split)).explode("label").dropna(subset="label").reset_index(drop=True)


def one_each(rows, multilabel=False):
    """Index of one row of each class, in the order of the classes: the first with the fewest other labels.

    >>> one_each(pd.DataFrame({"label": ["rain", "bird|rain", "rain"]}), multilabel=True).tolist()
    [1, 0]
    """
    ordered = rows.assign(row=rows.index).iloc[np.argsort(rows["label"].map(lambda t: len(split(t))), kind="stable")]
    found = by_class(ordered if multilabel else rows.assign(row=rows.index), multilabel)
    return pd.Index(found.drop_duplicates("label").sort_values("label")["row"].drop_duplicates())


def rarest(labels):
    """Of each label the class that the fewest labels hold: what stratifying has to spread out.

    >>> rarest(pd.Series(["bird", "bird|rain", ""])).tolist()
    ['bird', 'rain', '']
    """
    counts = labels.map(split).explode().value_counts()
    return labels.map(lambda label: min(split(label), key=lambda name: (counts[name], name), default=""))


def folder_name(label):
    """A label as the name of a folder.

    >>> folder_name("bird|rain"), folder_name("AC/DC")
    ('bird+rain', 'AC_DC')
    """
    name = label.replace("/", "_").replace(SEPARATOR, "+") or "unlabelled"
    if len(name.encode()) > LONGEST_NAME:  # bytes; file systems take 255
        name = (
            name.encode()[:LONGEST_NAME].decode(errors="ignore") + "-" + hashlib.sha256(label.encode()).hexdigest()[:8]
        )
    return name if name.strip(".") else "_" * len(name)


def in_words(label):
    """A label for reading.

    >>> in_words("bird|rain"), in_words("")
    ('bird + rain', 'none')
    """
    return label.replace(SEPARATOR, " + ") or "none"


# --- labels from a table -----------------------------------------------------------------------------------


def read_labels(root, data):
    """Labels from the table that data.labels_csv names: a Series of labels by the id that the table gives (in NFC).

    The labels are one column, of one label or of several with data.label_separator between them; or, where all columns
    but the id hold 0 and 1 only, a column per class. Args: root data folder; data the config's Data section.
    Raises SourceError saying what is wrong with the table.
    """
    table = _read_table(root / data.labels_csv, data.labels_csv)
    ids = _column(table, data.id_column or table.columns[0], data.labels_csv)
    flags = table.drop(columns=ids.name)
    if not data.label_column and flags.shape[1] > 1 and flags.isin(ZERO_OR_ONE).all(axis=None):
        lists = pd.Series([list(flags.columns[row]) for row in flags.astype(float).to_numpy() == 1], table.index)
    else:
        texts = _column(table, data.label_column or (*flags.columns, None)[0], data.labels_csv)
        lists = texts.map(lambda text: text.split(data.label_separator) if data.multilabel else [text])
    lists = lists.map(lambda names: [name.strip() for name in names if name.strip()])
    _check_labels(lists, data)
    spoiling = [name for name in flags if not flags[name].isin(ZERO_OR_ONE).all()]
    if not data.label_column and 0 < len(spoiling) < flags.shape[1] - 1 and flags.columns[0] not in spoiling:
        raise SourceError(
            f"{data.labels_csv} looks like a column of 0 and 1 per class, but {', '.join(spoiling[:5])} "
            "holds something else: take it out, or name data.label_column."
        )
    labels, ids = lists.map(join), ids.map(_nfc)
    differing = labels.groupby(ids).nunique()
    if (differing := differing.index[differing > 1]).size:
        raise SourceError(f"{data.labels_csv} gives {len(differing)} ids several labels: {', '.join(differing[:5])}.")
    return labels.groupby(ids).first()


def _read_table(path, name):
    if not path.is_file():
        raise SourceError(f"data.labels_csv: there is no {name} in {path.parent}.")
    options = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig", "skipinitialspace": True}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header would be cut
            table = pd.read_csv(path, index_col=False, **options)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError, pd.errors.ParserWarning) as error:
        hint = "Is it a CSV in UTF-8, with quotes around texts that hold commas?"
        raise SourceError(f"{name} cannot be read as a table: {error} {hint}") from None
    return table.map(str.strip)


def _check_labels(lists, data):
    """Refuse several labels where one is expected, and names that would fall apart."""
    if not data.multilabel and (several := int(lists.map(len).gt(1).sum())):
        raise SourceError(f"{data.labels_csv} has {several} rows with several labels: set data.multilabel=true.")
    if data.multilabel and (split_up := {name for names in lists for name in names if SEPARATOR in name}):
        raise SourceError(
            f"{data.labels_csv}: a class name cannot hold {SEPARATOR!r}: {', '.join(sorted(split_up)[:5])}"
        )


def _column(table, name, where):
    if name not in table:
        called = repr(name) if name else "of labels"
        raise SourceError(f"{where} has no column {called}. Its columns: {', '.join(table.columns)}.")
    return table[name]


def id_of(path, labels):
    """The id under which a table of labels lists a file: its path or the end of it, its name, or its name without
    extension; None where it does not."""
    place = PurePosixPath(_nfc(path))
    ends = ["/".join(place.parts[start:]) for start in range(len(place.parts))]
    return next((key for key in (*ends, place.stem) if key in labels), None)


def _nfc(text):
    """One spelling of accents: macOS writes them in two characters."""
    return unicodedata.normalize("NFC", text)
