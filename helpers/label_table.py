"""Labels from a table: one column of labels, one of several, or a column of 0 and 1 per class; matched with files."""

import unicodedata
import warnings
from pathlib import PurePosixPath

import pandas as pd

from helpers import targets
from helpers.downloads import SourceError

ZERO_OR_ONE = ["0", "1", "0.0", "1.0"]


def read(root, data):
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
    # one spelling of accents: macOS writes them in two characters
    labels, ids = lists.map(targets.join), ids.map(lambda name: unicodedata.normalize("NFC", name))
    differing = labels.groupby(ids).nunique()
    if (differing := differing.index[differing > 1]).size:
        raise SourceError(f"{data.labels_csv} gives {len(differing)} ids several labels: {', '.join(differing[:5])}.")
    return labels.groupby(ids).first()


def match(root, recordings, tested, data):
    """The labels of recordings, by their paths; those that the table does not list are left out.

    Args: root data folder; recordings relative paths; tested those of the test side: a test file may have a training
        file's name, so its whole path counts; data the config's Data section. Warns of rows without a recording.
    Raises SourceError where no id is a recording's, or one is several recordings'.
    """
    labels, where = read(root, data), data.labels_csv
    keys = {path: id_of(path, labels, whole=path in tested) for path in recordings}
    keys = pd.Series(keys, dtype=object).dropna()
    if keys.empty:
        raise SourceError(
            f"None of the ids of {where} ({', '.join(labels.index[:3])}, …) is the path or the name of a recording "
            f"({', '.join(recordings[:3])}, …). Another column may hold the names: data.id_column."
        )
    if (several := keys[keys.duplicated(keep=False)]).size:
        twins = several.index[several.eq(several.iloc[0])]
        raise SourceError(
            f"{several.nunique()} ids of {where} fit several files, such as {' and '.join(twins[:3])}: "
            "write their paths into the table."
        )
    if lost := labels.index.difference(keys).tolist():
        warnings.warn(f"{len(lost)} rows of {where} have no recording: {', '.join(lost[:5])}", stacklevel=2)
    return keys.map(labels).to_dict()


def id_of(path, labels, whole=False):
    """The id under which a table of labels lists a file; None where it does not.

    Its path; unless the `whole` of it is asked for, the end of the path, the name, the name without extension.
    """
    place = PurePosixPath(unicodedata.normalize("NFC", path))
    ends = ["/".join(place.parts[start:]) for start in range(len(place.parts))]
    return next((key for key in (ends[:1] if whole else [*ends, place.stem]) if key in labels), None)


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
    if data.multilabel and (split_up := {name for names in lists for name in names if targets.SEPARATOR in name}):
        raise SourceError(
            f"{data.labels_csv}: a class name cannot hold {targets.SEPARATOR!r}: {', '.join(sorted(split_up)[:5])}"
        )


def _column(table, name, where):
    if name not in table:
        called = repr(name) if name else "of labels"
        raise SourceError(f"{where} has no column {called}. Its columns: {', '.join(table.columns)}.")
    return table[name]
