"""A layout in words: how it is read, or what was seen where it is not recognised."""

from pathlib import Path

import pandas as pd

from helpers.base import tables
from helpers.layouts import annotations, columns, filenames, listing


def in_words(keys):
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
    words += sides_in_words(keys)
    names = keys["labels_csv"]
    if isinstance(names, tuple):
        return f"tables {', '.join(names)}: {', '.join(words)}"
    if names == annotations.BESIDE:
        names = f"of the label files beside the recordings ({names})"
    return f"table {names}: {', '.join(words)}"


def sides_in_words(keys):
    """Which recordings are the test set, and the official validation side: a list of texts."""
    words = []
    column = keys.get("split_column")
    where = "" if column in (None, columns.TABLE) else f" in column {column!r}"
    test = keys.get("test_value", None if column in (None, columns.TABLE) else "test")
    for side, value in (("test set", test), ("validation side", keys.get("validation_value"))):
        words += [f"{side}: {value!r}{where}"] if value else []
    for side, key in (("test set", "test_csv"), ("validation side", "validation_csv")):
        words += [f"{side}: the recordings that {keys[key]} names"] if key in keys else []
    if "validation_folders" in keys:
        words.append(f"validation side: {', '.join(keys['validation_folders'])}")
    return words


def _quoted(value):
    return " and ".join(map(repr, [value] if isinstance(value, str) else value))


def seen(root: str | Path) -> str:
    """What lies in a folder whose labels are not found, and a preset's lines that would read it."""
    recordings, tested, _ = listing.files(root)
    counts = pd.Series([path.suffix.casefold() for path in listing.walk(root)]).value_counts()
    facts = [f"{count} {suffix or 'without extension'}" for suffix, count in counts[:5].items()]
    names = listing.label_tables(root)
    readable = {name: columns.read(root, name) for name in names[:3]}
    readable = {name: table for name, table in readable.items() if table is not None}
    for name, table in readable.items():
        facts.append(f"{name} has {len(table)} rows ({', '.join(table.columns[:8])})")
    told, pattern = _parts_seen(recordings)
    first = next(iter(readable or names), "labels.csv")
    keys = {"labels_csv": first, "id_column": "file", "label_column": "label"}
    if readable:
        keys |= _likely(readable[first], [*recordings, *tested])
    elif pattern:
        keys = {"name_pattern": pattern}
    lines = "".join(f"\n  {key}: {value}" for key, value in keys.items())
    return (
        f"What was seen: {'; '.join([*facts, *told])}. If one of them is the class, a preset reads "
        f"it; change it where it is wrong and give it as PRESET=my.yaml:\ndata:{lines}"
    )


def _parts_seen(recordings):
    """(parts of names that repeat, in words; the pattern in YAML that takes the first as class)."""
    facts = []
    pattern = ""
    for mark, table in filenames.split(recordings):
        several = table.nunique()
        repeated = several[several.between(2, len(table) // 2)]
        for place, count in repeated[:3].items():
            some = ", ".join(sorted(table[place].unique())[:3])
            facts.append(f"part {place + 1} of the names has {count} values ({some}, …)")
        if len(repeated) and not pattern:
            parts = [f"[^{mark}]+"] * table.shape[1]
            parts[repeated.index[0]] = f"(?P<label>[^{mark}]+)"
            pattern = f"'{mark.join(parts)}'"
    return facts, pattern


def _likely(table, recordings):
    """The columns of a table that most likely hold names and labels."""
    names = [set(tables.spellings(path)) for path in recordings]
    fitting = pd.Series({column: columns.n_named(names, table[column]) for column in table})
    column = fitting.idxmax()
    values = table.drop(columns=column).nunique()
    repeated = values[values.between(2, len(table) // 2)].sort_values(kind="stable")
    label = next(iter(repeated.index), values.index[0])
    return {"id_column": column, "label_column": label}
