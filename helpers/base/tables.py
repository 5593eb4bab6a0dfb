"""Tables that people and competitions bring: read as text, refused with the reason where they
cannot be understood.

Nothing is guessed of a cell: "NA" stays "NA" and "001" stays "001". What separates the columns is
told by the header.
"""

import csv
import io
import unicodedata
from pathlib import Path, PurePosixPath

import pandas as pd

from helpers.base import errors

DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}


def read(path, name=None, exact=False, delimiter=None):
    """A CSV in UTF-8, with or without a byte order mark, as a table of stripped text.

    A last column in brackets, such as ``rec_id,[labels]``, takes the rest of its line, commas
    included.
    Args: path; name by which messages call it; exact leaves the spaces around texts; delimiter the
        only one that is accepted, None: whichever of DELIMITERS the header holds.
    Raises SourceError naming the encoding, delimiter, column or row.
    """
    path, name = Path(path), name or Path(path).name
    text = _text(path, name)
    mark = delimiter or _delimiter(text)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=mark)
        lines = [
            (row, line) for row, line in enumerate(reader, 1) if any(cell.strip() for cell in line)
        ]
    except csv.Error as error:
        raise errors.SourceError(
            f"{name} cannot be read as a table: {error}. Are its quotes in pairs?"
        ) from None
    if not lines:
        raise errors.SourceError(f"{name} is empty.")
    strip = str if exact else str.strip
    header, rows = [strip(cell) for cell in lines[0][1]], [row for _, row in lines[1:]]
    _check_header(header, name)
    if header[-1].startswith("[") and header[-1].endswith("]"):
        rows = [[*row[: len(header) - 1], mark.join(row[len(header) - 1 :])] for row in rows]
    for (number, _), row in zip(lines[1:], rows, strict=True):
        if len(row) > len(header) and not any(cell.strip() for cell in row[len(header) :]):
            del row[len(header) :]  # a comma too many at the end of a line
        if len(row) != len(header):
            raise errors.SourceError(
                f"{name}, row {number}: {len(row)} values under {len(header)} columns ({', '.join(row)[:80]}). "
                f"Texts that hold {DELIMITERS[mark]} stand in quotes."
            )
    return pd.DataFrame([[strip(cell) for cell in row] for row in rows], columns=header, dtype=str)


def spelling(text):
    """A text in one spelling of accents (NFC): macOS writes them in two characters."""
    return unicodedata.normalize("NFC", text)


def spellings(path):
    """All that a table may call a recording: its path, the ends of it, all without extension too.

    >>> spellings("birds/a.wav")
    ['birds/a.wav', 'a.wav', 'birds/a', 'a']
    """
    kinds = zip(*map(with_and_without, _ends(spelling(path))), strict=True)
    return [name for kind in kinds for name in kind]


def places(text):
    """The paths that a table's text may stand for, the longest first: as it is, or from further
    down.

    Args: text of a cell; backslashes and a leading "./" do not count. A path that leads out of the
        folder stays itself.

    >>> places("set\\\\birds\\\\a.wav"), places("../a.wav")
    (['set/birds/a.wav', 'birds/a.wav', 'a.wav'], ['../a.wav'])
    """
    path = spelling(text).replace("\\", "/").removeprefix("./")
    outside = path.startswith("/") or ".." in path.split("/")
    return [spelling(text)] if outside else _ends(path)


def _ends(path):
    """A path and what is left of it without its first folders, the longest first."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def with_and_without(path):
    """A path with and without its extension."""
    return path, str(PurePosixPath(path).with_suffix("")) if path else path


def column(table, name, where):
    """A column by name. Raises SourceError listing those that there are."""
    if name not in table:
        called = repr(name) if name else "of labels"
        raise errors.SourceError(
            f"{where} has no column {called}. Its columns: {', '.join(table.columns)}."
        )
    return table[name]


def header(path):
    """The column names of a table, stripped; an empty list where it cannot be read as one."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            line = file.readline(100_000)
            return [
                cell.strip() for cell in next(csv.reader([line], delimiter=_delimiter(line)), [])
            ]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _text(path, name):
    """The text of a file. Raises SourceError naming the encoding."""
    if not path.is_file():
        raise errors.SourceError(f"There is no {name} in {path.parent}.")
    raw = path.read_bytes()
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise errors.SourceError(f"{name} is written in UTF-16. Save it as CSV in UTF-8.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = raw[: error.start].count(b"\n") + 1
        raise errors.SourceError(
            f"{name} is not written in UTF-8 (byte 0x{raw[error.start]:02x} in row {row}; perhaps cp1252, as Excel "
            "writes it). Save it as CSV in UTF-8."
        ) from None
    if "\0" in text:
        raise errors.SourceError(f"{name} is no text: it holds zero bytes.")
    return text


def _delimiter(text):
    """What separates the columns, told by the first line: a comma where there is one."""
    first = text.lstrip().partition("\n")[0].strip()
    return next((mark for mark in DELIMITERS if mark in first), ",")


def _check_header(header, name):
    if len(header) == 1:
        for mark, called in DELIMITERS.items():
            if mark in header[0]:
                raise errors.SourceError(
                    f"{name} separates its columns by {called}, not by commas. Save it with commas."
                )
    if repeated := sorted({cell for cell in header if header.count(cell) > 1}):
        raise errors.SourceError(f"{name} has two columns called {repeated[0]!r}.")
    if "" in header[1:]:
        raise errors.SourceError(f"{name}: column {header.index('', 1) + 1} has no name.")
