"""Labels, one or several per recording, and target vectors.

A recording with several labels carries them in one text, sorted and joined by SEPARATOR:
"bird|rain". Without any it carries the empty text: where several are allowed, hearing none of the
classes is an answer too. Where each has one label (`data.multilabel` is false), the label is a
class, whatever it is called. That question is answered here; the rest of the house hands it on.
"""

import hashlib
from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd

SEPARATOR = "|"
LONGEST_NAME = 120  # bytes of a folder's name


def split(label: str, multilabel: bool = True) -> list[str]:
    """The classes in a recording's label; without multilabel the label is a class itself.

    >>> split("bird|rain"), split(""), split("rock|pop", multilabel=False)
    (['bird', 'rain'], [], ['rock|pop'])
    """
    if not multilabel:
        return [label]
    return label.split(SEPARATOR) if label else []


def join(classes: Iterable[str]) -> str:
    """A recording's label from its classes: sorted, each once; of one class the class itself.

    >>> join(["rain", "bird", "rain"])
    'bird|rain'
    """
    return SEPARATOR.join(sorted(set(classes)))


def counted(number: int, one: str, many: str) -> str:
    """A number with its noun, and verb where there is one.

    >>> counted(1, "id is", "ids are"), counted(0, "id is", "ids are")
    ('1 id is', '0 ids are')
    """
    return f"{number} {one if number == 1 else many}"


def union(labels: Iterable[str]) -> str:
    """All the classes of several labels, as one label.

    >>> union(["bird|rain", "", "cow"])
    'bird|cow|rain'
    """
    return join(name for label in labels for name in split(label))


def classes(rows: pd.DataFrame, multilabel: bool = False) -> list[str]:
    """The classes that the training side of a table with split and label names, sorted."""
    labels = rows.query("split == 'train'")["label"].unique()
    return sorted({name for label in labels for name in split(label, multilabel)})


def matrix(labels: Collection[str], names: Iterable[str]) -> np.ndarray:
    """Labels as target vectors: float32 [n, C], 1 where the recording is of the class.

    Args: labels of recordings, with several classes, one or none each; names the classes. A label
        that is no class is read as several.

    >>> matrix(["bird", "bird|rain", ""], ["bird", "rain"]).tolist()
    [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    """
    column = {name: number for number, name in enumerate(names)}
    table = np.zeros((len(labels), len(column)), np.float32)
    for row, label in enumerate(labels):
        held = split(label, multilabel=label not in column)
        table[row, [column[name] for name in held if name in column]] = 1
    return table


def by_class(rows: pd.DataFrame, multilabel: bool = False) -> pd.DataFrame:
    """The rows with one class each.

    A row with several labels stands there once for each of them, one without not at all.
    """
    if not multilabel:
        return rows
    each = rows.assign(label=rows["label"].map(split)).explode("label")
    return each.dropna(subset="label").reset_index(drop=True)


def one_each(rows: pd.DataFrame, multilabel: bool = False) -> pd.Index:
    """Index of one row of each class, in the order of the classes, each row once.

    It is the first of those with the fewest other labels.

    >>> one_each(pd.DataFrame({"label": ["rain", "bird|rain", "rain"]}), multilabel=True).tolist()
    [1, 0]
    """
    names = [split(label, multilabel) for label in rows["label"]]
    table = pd.DataFrame({"row": rows.index, "name": names})
    table["labels"] = table["name"].map(len)
    fewest_first = table.sort_values("labels", kind="stable")
    first = fewest_first.explode("name").dropna().drop_duplicates("name").sort_values("name")
    return pd.Index(first["row"].drop_duplicates())


def rarest(labels: pd.Series, multilabel: bool = True) -> pd.Series:
    """Of each label the class that the fewest labels hold: what stratifying has to spread out.

    >>> rarest(pd.Series(["bird", "bird|rain", ""])).tolist()
    ['bird', 'rain', '']
    """
    if not multilabel:
        return labels
    counts = labels.map(split).explode().value_counts()
    return labels.map(
        lambda label: min(split(label), key=lambda name: (counts[name], name), default="")
    )


def folder_name(label: str) -> str:
    """A label as the name of a folder.

    >>> folder_name("bird|rain"), folder_name("AC/DC")
    ('bird+rain', 'AC_DC')
    """
    name = label.replace("/", "_").replace(SEPARATOR, "+") or "unlabelled"
    if len(name.encode()) > LONGEST_NAME:  # bytes; file systems take 255
        start = name.encode()[:LONGEST_NAME].decode(errors="ignore")
        name = f"{start}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
    return name if name.strip(".") else "_" * len(name)


def in_words(label: str) -> str:
    """A label for reading.

    >>> in_words("bird|rain"), in_words("")
    ('bird + rain', 'none')
    """
    return label.replace(SEPARATOR, " + ") or "none"
