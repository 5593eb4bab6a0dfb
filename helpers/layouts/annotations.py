"""Every file of labels as one table of text: JSON, Kaldi, lists of files, label files, Raven.

What the table's columns mean is told where it is read (``layouts``, ``label_table``): here a file
becomes rows. A name with a star stands for the label files that lie beside recordings.
"""

import csv
import io
import json
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pandas as pd

from helpers.audio import containers
from helpers.base import tables
from helpers.base.errors import SourceError

BESIDE = "**/*.txt"  # label files beside recordings, as one table
# What a Raven selection table calls the file that it is of, and when an event begins.
FILE = "Begin File"
START = "Begin Time (s)"
EVENTS = ("species", "annotation", "label", "class", "tag", "call type", "common name", "type")
SIDE_FILES = ("utt2spk", "utt2label", "text", "utt2lang")  # of Kaldi, beside wav.scp


def read(root: str | Path, name: str) -> pd.DataFrame:
    """A file of labels as a table of text, whatever it is written in.

    Args: root data folder; name of the file below it, or BESIDE. Names of recordings that are
        written from the file's own folder are completed to paths from the root.
    Raises SourceError naming what cannot be read.
    """
    readers = {
        "*.json": _json,
        "*.jsonl": _json_lines,
        "wav.scp": _kaldi,
        "*_list.txt": _list,
        "[*].txt": _beside,
        "*.txt": _selections,
    }
    place = PurePosixPath(name)
    fitting = (reader for pattern, reader in readers.items() if fnmatch(place.name, pattern))
    reader = next(fitting, _plain)
    return _from_root(reader(Path(root), name), Path(root), place.parent)


def _plain(root, name):
    return tables.read(root / name, name)


def _from_root(table, root, folder):
    """The table with the columns that name files beside it as paths from the root."""
    if not folder.name:
        return table
    for column in table:
        first = [text for text in table[column].head() if text]
        if first and all((root / folder / text).is_file() for text in first):
            table[column] = f"{folder}/" + table[column]
    return table


def _text_of(root, name):
    try:
        return (root / name).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise SourceError(f"{name} is not written in UTF-8.") from None


def _list(root, name):
    """A list of files, one a line."""
    lines = _text_of(root, name).split("\n")
    return pd.DataFrame({"file": [line.strip() for line in lines if line.strip()]}, dtype=object)


# --- JSON


def _json(root, name):
    try:
        content = json.loads(_text_of(root, name))
    except ValueError as error:
        raise SourceError(f"{name} is not valid JSON: {error}") from None
    return _table(_records(content), name)


def _json_lines(root, name):
    rows = []
    for number, line in enumerate(_text_of(root, name).splitlines(), 1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except ValueError as error:
            raise SourceError(f"{name}, line {number}, is not valid JSON: {error}") from None
    return _table(rows, name)


def _records(content):
    """Rows from a list of them, a map of files, a map of classes, or a map that holds such a list.

    >>> _records({"a.wav": "dog"}), _records({"dog": ["a.wav"]})
    ([{'file': 'a.wav', 'label': 'dog'}], [{'file': 'a.wav', 'label': 'dog'}])
    """
    if not isinstance(content, dict):
        return content
    lists = [value for value in content.values() if isinstance(value, list) and value]
    if rows := [value for value in lists if isinstance(value[0], dict)]:
        return max(rows, key=len)
    if lists and all(map(_is_file, lists[0])):
        return [{"file": file, "label": label} for label in content for file in content[label]]
    return [_row(file, value) for file, value in content.items()]


def _row(file, value):
    facts = value if isinstance(value, dict) else {"label": value}
    return {"file": file, **facts}


def _is_file(text):
    return isinstance(text, str) and PurePosixPath(text).suffix.casefold() in containers.SUFFIXES


def _table(rows, name):
    """Rows as a table of text; what is nested is left out, but for lists of names."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or not rows:
        raise SourceError(f"{name} holds no map of files, and no list of rows.")
    table = pd.DataFrame(rows, dtype=object)
    return table.map(_cell).astype(object)


def _cell(value):
    """A value of JSON as the text that a table would hold."""
    if isinstance(value, list):
        return str([str(item) for item in value if not isinstance(item, (list, dict))])
    if isinstance(value, bool):
        return str(int(value))
    missing = value is None or value != value  # as pandas fills what a row lacks
    return "" if missing or isinstance(value, dict) else str(value).strip()


# --- Kaldi


def _kaldi(root, name):
    """wav.scp with what lies beside it: utterance, file, speaker, label or text.

    Where nothing but the speakers is told, they are the labels.
    """
    folder = (root / name).parent
    table = _pairs(root, name, "file")
    table["file"] = table["file"].map(lambda text: _wave_of(text, root))
    for side in SIDE_FILES:
        if (folder / side).is_file():
            other = str(PurePosixPath(name).with_name(side))
            table = table.merge(_pairs(root, other, side), how="left", on="utterance").fillna("")
    names = {"utt2spk": "speaker", "utt2label": "label", "utt2lang": "language"}
    if table.shape[1] == 3 and "utt2spk" in table:
        names = {"utt2spk": "label"}
    return table.drop(columns="utterance").rename(columns=names)


def _pairs(root, name, column):
    """A file of lines that begin with the name of an utterance."""
    lines = [line.split(maxsplit=1) for line in _text_of(root, name).splitlines()]
    rows = [(line[0], line[1].strip() if len(line) > 1 else "") for line in lines if line]
    return pd.DataFrame(rows, columns=["utterance", column], dtype=object)


def _wave_of(text, root):
    """The file in a line of wav.scp, which may be a command, as seen from the root if it is there.

    Paths of another machine are cut from the left until they fit.
    """
    path = next(filter(_is_file, text.split()), text).replace("\\", "/").lstrip("/")
    ends = ["/".join(path.split("/")[start:]) for start in range(path.count("/") + 1)]
    return next((end for end in ends if (root / end).is_file()), ends[-1])


# --- label files, Audacity's and Raven's


def _beside(root, name):
    """The label files beside recordings: a row per file that has them all as one list."""
    sounds = {}
    for path in sorted(root.rglob("*")):
        if path.suffix.casefold() in containers.SUFFIXES:
            sounds[str(path.relative_to(root).with_suffix(""))] = path.relative_to(root).as_posix()
    rows = []
    for path in sorted(root.glob(name)):
        stem = str(path.relative_to(root).with_suffix(""))
        for ending in ("", *containers.SUFFIXES, ".selections"):
            stem = stem.removesuffix(ending)
        file = sounds.get(stem) or sounds.get(stem.rpartition(".Table.")[0])
        if file:
            rows.append((file, _labels(path.read_text(encoding="utf-8-sig", errors="replace"))))
    return _labelled(rows)


def _selections(root, name):
    """A Raven selection table that says which file each of its rows is of; others as they are."""
    table = _plain(root, name)
    if FILE not in table:
        return table
    events = _event_column(table)
    return _labelled([(file, part.unique()) for file, part in table.groupby(FILE)[events]])


def _event_column(table):
    """The column of a Raven table that names the event: one that is called so, or the last."""
    called = {column.casefold(): column for column in table}
    return next((called[name] for name in EVENTS if name in called), table.columns[-1])


def _labels(text):
    """The labels in a file beside a recording, each once: Audacity's, Raven's, or a line each.

    >>> _labels("0.5\\t1.5\\tbark\\n2\\t3\\tmeow\\n"), _labels("dog\\n")
    (['bark', 'meow'], ['dog'])
    """
    rows = [row for row in csv.reader(io.StringIO(text), delimiter="\t") if any(row)]
    if rows and START in rows[0]:
        table = pd.DataFrame(rows[1:], columns=rows[0])
        names = table[_event_column(table)].tolist()
    elif rows and all(map(_is_event, rows)):
        names = ["".join(row[2:3]) for row in rows if row[0] != "\\"]  # else a range of frequency
    else:
        names = [" ".join(row) for row in rows]
    return list(dict.fromkeys(name.strip() for name in names if name.strip()))


def _is_event(row):
    """Whether a row is one of Audacity's: from, to, label; or the frequencies of the one above."""
    try:
        return row[0] == "\\" or (len(row) > 1 and float(row[1]) >= float(row[0]))
    except ValueError:
        return False


def _labelled(rows):
    """A table of files and their labels: one of each as it is, several as Python writes a list."""
    single = all(len(names) == 1 for _, names in rows)
    cells = [(file, names[0] if single else str(list(names))) for file, names in rows]
    return pd.DataFrame(cells, columns=["file", "label"], dtype=object)
