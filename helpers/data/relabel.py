"""Labels judged anew by a person: relabel.csv, written for a spreadsheet and read back from one.

A row is edited where its new_label is filled: with the right label (several joined by "|"), with
DROP to leave the recording out, or, where several labels are allowed, with NONE if none of the
classes is heard. Where a class has the name DROP or NONE, the class is meant. Rows are matched by
recording_id alone, so the other columns may suffer.
"""

import csv
import difflib
import hashlib
import io
import json
import re
import unicodedata
import warnings
from pathlib import Path

import pandas as pd

from helpers.base import artifacts, targets
from helpers.base.errors import StageError

COLUMNS = ("recording_id", "path", "source", "label", "compare_with", "doubt_rank", "new_label")
FORMER = ("suggested", "doubt")  # columns of files that earlier versions wrote
NEEDED = ("recording_id", "new_label")
DROP, NONE = "drop", "none"
LEFT_OUT = "left out: relabel.csv"
# What a spreadsheet takes for a formula, or for a number that it writes in its own way: ids of 12
# digits, or 12e456.
MISREAD = re.compile(r"'*([=+\-@\t\r]|(\d+e\d+|0\d+|\d{12,})$)", re.IGNORECASE)


def write_relabel(path, ranked, recordings):
    """Write the file that a person edits: the rows already edited first, then the ranking, one row
    per recording.

    A row of an existing file is kept as it is, ranked or not, where its new_label or a column that
    somebody added is filled. The new_label of all others is empty: the class to compare with is no
    proposal.

    Args: path of the file; ranked table of `suspects.rank`; recordings with recording_id and path.
    Raises StageError, and writes nothing, where an existing file cannot be read.
    """
    header, rows, delimiter = _read(path) if Path(path).is_file() else (list(COLUMNS), [], ",")
    theirs = [name for name in header if name not in (*COLUMNS[:-1], *FORMER)]
    kept = [row for _, row in rows if any(row[name].strip() for name in theirs)]
    fresh = ranked[~ranked["recording_id"].isin([row["recording_id"].strip() for row in kept])]
    fresh = fresh.drop_duplicates("recording_id")
    paths = recordings.set_index("recording_id")["path"]
    fresh = fresh.assign(
        path=fresh["recording_id"].map(paths).fillna(""),
        source=fresh["group"],
        label=fresh["label"].replace("", NONE),
        compare_with=fresh["suggested"].replace("", NONE),
        doubt_rank=fresh["rank"],
    ).drop(columns=[*FORMER])
    header = [name for name in header if kept or name not in FORMER]
    header += [name for name in COLUMNS if name not in header]
    _write(path, header, [*kept, *fresh.to_dict("records")], delimiter)


def read_relabel(path, known=None):
    """The edits of a file: {recording_id: new_label}, without the spaces around them; empty if
    there is no file.

    It may come back from a spreadsheet: with ";" or tabs, a byte-order mark, in Windows-1252,
    columns added, rows in another order. Args: path; known recording_ids: edits of others are left
    out with a warning; None: all are returned.
    Raises StageError naming row (the header is row 1) and column of what cannot be understood.
    """
    edits, rows = {}, {}
    for number, row in _read(path)[1] if Path(path).is_file() else []:
        identity, new = row["recording_id"].strip(), row["new_label"].strip()
        where = f"{Path(path).name}, row {number}"
        if not new:
            continue
        if not identity:
            raise StageError(
                f"{where}: new_label is {new!r}, but column recording_id is empty: no recording is named."
            )
        if not new.strip(targets.SEPARATOR + " "):
            raise StageError(
                f"{where}, column new_label: {new!r} names no class. Write a label, {DROP} or {NONE}."
            )
        if edits.setdefault(identity, new) != new:
            both = f"{edits[identity]!r} in row {rows[identity]}, {new!r} here"
            raise StageError(
                f"{where}, column new_label: recording {identity} has two new labels, {both}."
            )
        rows.setdefault(identity, number)
    for identity in [] if known is None else sorted(set(edits) - set(known)):
        what = (
            f"there is no recording {identity!r}; its new_label {edits.pop(identity)!r} is ignored."
        )
        warnings.warn(
            f"{Path(path).name}, row {rows[identity]}, column recording_id: {what}", stacklevel=2
        )
    return edits


def edits_digest(path):
    """SHA-256 of the edits alone, whatever else the file holds; None where there are none."""
    edits = read_relabel(path)
    return hashlib.sha256(json.dumps(edits, sort_keys=True).encode()).hexdigest() if edits else None


def apply(table, edits, multilabel=False):
    """Give edited recordings their new label, or leave them out; only on the training side.

    Args: table of `sources.find`; edits of `read_relabel`. Returns (new table; report: a row per
    change with recording_id, path, old, new, note, which says what was left out and which class is
    new). Warns of edits without a usable training recording.
    """
    usable = table["split"].eq("train") & table["status"].eq("ok")
    rows = table[usable & table["recording_id"].isin(list(edits))]
    if lost := sorted(set(edits) - set(rows["recording_id"])):
        edits_lost = targets.counted(
            len(lost), "edit of relabel.csv has", "edits of relabel.csv have"
        )
        message = f"{edits_lost} no training recording in use: {', '.join(lost[:5])}"
        warnings.warn(message, stacklevel=2)
    classes, table, changes = targets.classes(table[usable], multilabel), table.copy(), []
    for index, row in rows.iterrows():
        new = _settle(edits[row["recording_id"]], classes, multilabel)
        if new is None:
            table.loc[index, ["status", "reason"]] = "ignored", LEFT_OUT
        table.loc[index, "label"] = row["label"] if new is None else new
        if new != row["label"]:
            said = DROP if new is None else new
            changes.append(
                (
                    row["recording_id"],
                    row["path"],
                    row["label"],
                    said,
                    _note(new, classes, multilabel),
                )
            )
    return table, pd.DataFrame(changes, columns=["recording_id", "path", "old", "new", "note"])


def _settle(text, classes, multilabel):
    """The label that an edit means, None for one that leaves the recording out; accents as the
    classes spell them.
    """
    spelled = {unicodedata.normalize("NFC", name): name for name in classes}
    parts = [part.strip() for part in targets.split(text)] if multilabel else [text]
    parts = [spelled.get(unicodedata.normalize("NFC", part), part) for part in parts if part]
    words = [part.casefold() for part in parts if part not in classes]
    if words == [DROP] and len(parts) == 1:
        return None
    if multilabel and words == [NONE] and len(parts) == 1:
        return ""
    return targets.join(parts) if multilabel else parts[0]


def _note(new, classes, multilabel):
    """What is remarkable about a change: left out, or a class that no other recording has."""
    if new is None:
        return "left out"
    fresh, close = (
        [name for name in (targets.split(new) if multilabel else [new]) if name not in classes],
        [],
    )
    for name in fresh:
        folded = {known.casefold(): known for known in classes}
        close += [
            folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=1)
        ]
    hint = f"; is {' or '.join(map(repr, close))} meant?" if close else ""
    return f"a new class: {', '.join(fresh)}{hint}" if fresh else ""


# --- the file
# ----------------------------------------------------------------------------------------------


def _write(path, header, rows, delimiter):
    """Write rows (dicts) atomically, with a byte-order mark: without it Excel does not read UTF-8."""
    file = io.StringIO(newline="")
    writer = csv.writer(
        file, delimiter=delimiter
    )  # lines end in CRLF, so single returns in names are quoted too
    writer.writerow(map(_guard, header))
    writer.writerows([_guard(str(row.get(name, ""))) for name in header] for row in rows)
    artifacts.write_text(path, "\ufeff" + file.getvalue())


def _guard(text):
    """An apostrophe before what a spreadsheet would misread; `_unguard` takes it away again, so
    nothing is lost.
    """
    return "'" + text if MISREAD.match(text) else text


def _unguard(text):
    return text[1:] if text.startswith("'") and MISREAD.match(text) else text


def _read(path):
    """A file as (header, rows as (number in a spreadsheet, dict), delimiter). Raises StageError."""
    name = Path(path).name
    text = re.sub(
        r"\Asep=[^\r\n]*[\r\n]+", "", _text(path), flags=re.IGNORECASE
    )  # a line for Excel alone
    delimiter = _delimiter(text, name)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header, *rows = reader
    except csv.Error as error:
        raise StageError(
            f"{name} cannot be read as a table, near line {reader.line_num}: {error}."
        ) from None
    return _header(header), list(_rows(rows, _header(header), name)), delimiter


def _delimiter(text, name):
    """What stands between the cells: the mark that makes our columns out of the first line."""
    headers = {
        mark: _header(next(csv.reader(io.StringIO(text, newline=""), delimiter=mark), []))
        for mark in ",;\t"
    }
    for mark, header in headers.items():
        if all(header.count(column) == 1 for column in NEEDED):
            return mark
    there = ", ".join(max(headers.values(), key=len)) or "nothing"
    raise StageError(
        f"{name} needs the columns {' and '.join(NEEDED)}, each once; its first line holds {there}. "
        "Bring them back, or move the file away: then it is written anew."
    )


def _text(path):
    """What a file says: in UTF-8, in Excel's UTF-16, or in Windows-1252."""
    content = Path(path).read_bytes()
    for encoding in (
        ["utf-16"] if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ["utf-8-sig", "cp1252"]
    ):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise StageError(
        f"{Path(path).name} is neither in UTF-8 nor in Windows-1252: save it as “CSV UTF-8”."
    )


def _header(cells):
    """Names of the columns, ours in our spelling, others each once."""
    names = []
    for number, cell in enumerate(cells, 1):
        ours = cell.strip().casefold()
        name = ours if ours in (*COLUMNS, *FORMER) else _unguard(cell.strip())
        names.append(
            name
            if name in NEEDED or (name and name not in names)
            else f"{name} column {number}".strip()
        )
    return names


def _rows(rows, header, name):
    width = len(header)
    for number, cells in enumerate(rows, 2):
        if any(cell.strip() for cell in cells[width:]):
            raise StageError(
                f"{name}, row {number} has {len(cells)} cells, the header {width}: quote its texts."
            )
        if any(cell.strip() for cell in cells):
            padded = [*cells, *[""] * (width - len(cells))]
            yield number, dict(zip(header, map(_unguard, padded), strict=False))
