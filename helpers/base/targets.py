"""Labels, one or several per recording, and target vectors.

A recording with several labels carries them in one text, sorted and joined by SEPARATOR:
"bird|rain". Without any it carries the empty text: where several are allowed, hearing none of the
classes is an answer too.
"""

import hashlib

import numpy as np
import pandas as pd

SEPARATOR = "|"
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


def counted(number, one, many):
    """A number with its noun, and verb where there is one.

    >>> counted(1, "id is", "ids are"), counted(0, "id is", "ids are")
    ('1 id is', '0 ids are')
    """
    return f"{number} {one if number == 1 else many}"


def union(labels):
    """All the classes of several labels, as one label.

    >>> union(["bird|rain", "", "cow"])
    'bird|cow|rain'
    """
    return join(name for label in labels for name in split(label))


def classes(rows, multilabel=False):
    """The classes that the training side of a table with split and label names, sorted."""
    found = rows.loc[rows["split"].eq("train"), "label"].unique()
    return sorted({name for label in found for name in (split(label) if multilabel else [label])})


def matrix(labels, names):
    """Labels as target vectors: float32 [n, C], 1 where the recording is of the class (several, one
    or none).

    Args: labels iterable of str; names the classes. A label that is no class is read as several.

    >>> matrix(["bird", "bird|rain", ""], ["bird", "rain"]).tolist()
    [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    """
    index, table = (
        {name: number for number, name in enumerate(names)},
        np.zeros((len(labels), len(names)), np.float32),
    )
    for row, label in enumerate(labels):
        for name in [label] if label in index else split(label):
            if name in index:
                table[row, index[name]] = 1
    return table


def by_class(rows, multilabel=False):
    """The rows with one class each: a row with several labels once for each of them, one without
    not at all.
    """
    if not multilabel:
        return rows
    return (
        rows.assign(label=rows["label"].map(split))
        .explode("label")
        .dropna(subset="label")
        .reset_index(drop=True)
    )


def one_each(rows, multilabel=False):
    """Index of one row of each class, in the order of the classes: the first with the fewest other
    labels.

    >>> one_each(pd.DataFrame({"label": ["rain", "bird|rain", "rain"]}), multilabel=True).tolist()
    [1, 0]
    """
    ordered = rows.assign(row=rows.index).iloc[
        np.argsort(rows["label"].map(lambda t: len(split(t))), kind="stable")
    ]
    found = by_class(ordered if multilabel else rows.assign(row=rows.index), multilabel)
    return pd.Index(found.drop_duplicates("label").sort_values("label")["row"].drop_duplicates())


def rarest(labels):
    """Of each label the class that the fewest labels hold: what stratifying has to spread out.

    >>> rarest(pd.Series(["bird", "bird|rain", ""])).tolist()
    ['bird', 'rain', '']
    """
    counts = labels.map(split).explode().value_counts()
    return labels.map(
        lambda label: min(split(label), key=lambda name: (counts[name], name), default="")
    )


def folder_name(label):
    """A label as the name of a folder.

    >>> folder_name("bird|rain"), folder_name("AC/DC")
    ('bird+rain', 'AC_DC')
    """
    name = label.replace("/", "_").replace(SEPARATOR, "+") or "unlabelled"
    if len(name.encode()) > LONGEST_NAME:  # bytes; file systems take 255
        name = (
            name.encode()[:LONGEST_NAME].decode(errors="ignore")
            + "-"
            + hashlib.sha256(label.encode()).hexdigest()[:8]
        )
    return name if name.strip(".") else "_" * len(name)


def in_words(label):
    """A label for reading.

    >>> in_words("bird|rain"), in_words("")
    ('bird + rain', 'none')
    """
    return label.replace(SEPARATOR, " + ") or "none"
