"""Other people's CSV: read as text, refused with the reason where it cannot be understood.

Nothing is guessed of a cell: "NA" stays "NA" and "001" stays "001". What separates the columns is
told by the header.
"""

import csv
import io
import re
import unicodedata
from pathlib import Path, PurePosixPath

import pandas as pd

from helpers.base.errors import SourceError

DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # byte order marks


def read(
    path: str | Path, name: str | None = None, exact: bool = False, delimiter: str | None = None
) -> pd.DataFrame:
    """A CSV in UTF-8, with or without a byte order mark, as a table of stripped text.

    A last column in brackets, such as ``rec_id,[labels]``, takes the rest of its line, commas
    included.
    Args: path; name by which messages call it; exact leaves the spaces around texts; delimiter the
        only one that is accepted, None: whichever of DELIMITERS the header holds.
    Raises SourceError naming the encoding, delimiter, column or row.
    """
    path = Path(path)
    name = name or path.name
    text = _text(path, name)
    mark = delimiter or _delimiter(text)
    rows = _rows(text, mark, name)
    if not rows:
        raise SourceError(f"{name} is empty.")
    if not exact:
        rows = [(number, [*map(str.strip, row)]) for number, row in rows]
    header = rows.pop(0)[1]
    _check_header(header, name)
    if header[-1].startswith("[") and header[-1].endswith("]"):
        last = len(header) - 1
        rows = [(number, [*row[:last], mark.join(row[last:])]) for number, row in rows]
    return _table(rows, header, mark, name).reset_index(drop=True)


def read_edited(
    path: str | Path, ours: tuple[str, ...], needed: tuple[str, ...]
) -> tuple[pd.DataFrame, str]:
    """A CSV of ours as a spreadsheet may give it back: (table of text, its delimiter).

    It may be in UTF-16 or Windows-1252, with a line "sep=;" before the header, with rows cut short
    and columns added; those without a name of their own are called "column 8".
    Args: path; ours the columns whose upper and lower case does not count; needed those that tell
        what separates the columns.
    Returns the texts as they are, indexed by the numbers of their rows in a spreadsheet.
    Raises SourceError naming the encoding, the columns or the row.
    """
    path = Path(path)
    text = _text(path, path.name, spreadsheet=True)
    text = re.sub(r"\Asep=[^\r\n]*[\r\n]+", "", text, flags=re.IGNORECASE)  # for Excel alone
    for mark in DELIMITERS:
        columns = _distinct(_cells(text, mark), ours, needed)
        if all(columns.count(name) == 1 for name in needed):
            rows = _rows(text, mark, path.name)[1:]
            return _table(rows, columns, mark, path.name, padded=True), mark
    columns = max((_cells(text, mark) for mark in DELIMITERS), key=len)
    raise SourceError(
        f"{path.name} needs the columns {' and '.join(needed)}, each once; its first line holds "
        f"{', '.join(columns) or 'nothing'}. Bring them back, or move the file away: then it is "
        "written anew."
    )


def _distinct(header, ours, needed):
    """Names of columns: ours in our spelling, others each once."""
    names = []
    for number, cell in enumerate(header, 1):
        name = cell.casefold() if cell.casefold() in ours else cell
        free = name and name not in names
        names.append(name if free or name in needed else f"{name} column {number}".strip())
    return names


def _rows(text, mark, name):
    """The lines that say something: a list of (number in a spreadsheet, cells)."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=mark)
    try:
        return [(number, row) for number, row in enumerate(reader, 1) if any(map(str.strip, row))]
    except csv.Error as error:
        raise SourceError(
            f"{name} cannot be read as a table, near line {reader.line_num}: {error}. "
            "Are its quotes in pairs?"
        ) from None


def _table(rows, columns, mark, name, padded=False):
    """Rows as a table of text; empty cells too many at the end of a row are cut."""
    width = len(columns)
    for number, row in rows:
        if any(map(str.strip, row[width:])) or (len(row) < width and not padded):
            raise SourceError(
                f"{name}, row {number}: {len(row)} values under {width} columns "
                f"({', '.join(row)[:80]}). Texts that hold {DELIMITERS[mark]} stand in quotes."
            )
    cells = [[*row, *[""] * width][:width] for _, row in rows]
    index = [number for number, _ in rows]
    return pd.DataFrame(cells, index=index, columns=columns, dtype=str)


def spelling(text: str) -> str:
    """A text in one spelling of accents (NFC): macOS writes them in two characters."""
    return unicodedata.normalize("NFC", text)


def spellings(path: str) -> list[str]:
    """All that a table may call a recording: its path, the ends of it, all without extension too.

    >>> spellings("birds/a.wav")
    ['birds/a.wav', 'a.wav', 'birds/a', 'a']
    """
    kinds = zip(*map(with_and_without, _ends(spelling(path))), strict=True)
    return [name for kind in kinds for name in kind]


def places(text: str) -> list[str]:
    """The paths that a table's text may stand for, the longest first.

    As it is, or from further down. Args: text of a cell; backslashes and a leading "./" do not
        count. A path that leads out of the folder stays itself.

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


def with_and_without(path: str) -> tuple[str, str]:
    """A path with and without its extension."""
    return path, str(PurePosixPath(path).with_suffix("")) if path else path


def is_hidden(path: PurePosixPath) -> bool:
    """Whether a relative path is hidden, or what macOS leaves in archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def column(table: pd.DataFrame, name: str | None, where: str) -> pd.Series:
    """A column by name. Raises SourceError listing those that there are."""
    if name not in table:
        called = repr(name) if name else "of labels"
        columns = ", ".join(table.columns)
        raise SourceError(f"{where} has no column {called}. Its columns: {columns}.")
    return table[name]


def header(path: str | Path) -> list[str]:
    """The column names of a table, stripped; an empty list where it cannot be read as one."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            line = file.readline(100_000)
            return _cells(line, _delimiter(line))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _cells(text, mark):
    """The cells of a text's first line, stripped."""
    first = next(csv.reader(io.StringIO(text, newline=""), delimiter=mark), [])
    return [cell.strip() for cell in first]


def _text(path, name, spreadsheet=False):
    """The text of a file. Raises SourceError naming the encoding.

    Args: spreadsheet also takes what Excel writes beside UTF-8.
    """
    if not path.is_file():
        raise SourceError(f"There is no {name} in {path.parent}.")
    raw = path.read_bytes()
    in_utf_16 = raw.startswith(UTF_16)
    if in_utf_16 and not spreadsheet:
        raise SourceError(f"{name} is written in UTF-16. Save it as CSV in UTF-8.")
    try:
        text = raw.decode("utf-16" if in_utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        text = _in_windows_1252(raw) if spreadsheet else None
        if text is None:
            row = raw[: error.start].count(b"\n") + 1
            raise SourceError(
                f"{name} is not written in UTF-8 (byte 0x{raw[error.start]:02x} in row {row}; "
                "perhaps cp1252, as Excel writes it). Save it as CSV in UTF-8."
            ) from None
    if "\0" in text:
        raise SourceError(f"{name} is no text: it holds zero bytes.")
    return text


def _in_windows_1252(raw):
    try:
        return raw.decode("cp1252")
    except UnicodeDecodeError:
        return None


def _delimiter(text):
    """What separates the columns, told by the first line: a comma where there is one."""
    first = text.lstrip().partition("\n")[0].strip()
    return next((mark for mark in DELIMITERS if mark in first), ",")


def _check_header(header, name):
    if len(header) == 1 and (marks := [mark for mark in "\t;|" if mark in header[0]]):
        raise SourceError(
            f"{name} separates its columns by {DELIMITERS[marks[0]]}, not by commas. "
            "Save it with commas."
        )
    if repeated := sorted({cell for cell in header if header.count(cell) > 1}):
        raise SourceError(f"{name} has two columns called {repeated[0]!r}.")
    if "" in header[1:]:
        raise SourceError(f"{name}: column {header.index('', 1) + 1} has no name.")
