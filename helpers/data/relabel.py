"""Labels judged anew by a person: relabel.csv, written for a spreadsheet and read back from one.

A row is edited where its new_label is filled: with the right label (several joined by "|"), with
DROP to leave the recording out, or, where several labels are allowed, with NONE if none of the
classes is heard. Where a class has the name DROP or NONE, the class is meant. Rows are matched by
recording_id alone, so the other columns may suffer.
"""

import difflib
import hashlib
import json
import re
import warnings
from pathlib import Path

import pandas as pd

from helpers.base import artifacts, tables, targets
from helpers.base.errors import SourceError

COLUMNS = ("recording_id", "path", "source", "label", "compare_with", "doubt_rank", "new_label")
FORMER = ("suggested", "doubt")  # columns of files that earlier versions wrote
NEEDED = ("recording_id", "new_label")
DROP = "drop"
NONE = "none"
LEFT_OUT = "left out: relabel.csv"
# What a spreadsheet takes for a formula, or for a number that it writes in its own way: ids of 12
# digits, or 12e456.
MISREAD = re.compile(r"'*([=+\-@\t\r]|(\d+e\d+|0\d+|\d{12,})$)", re.IGNORECASE)


def write_relabel(path: str | Path, ranked: pd.DataFrame, recordings: pd.DataFrame) -> None:
    """Write the file that a person edits: the rows already edited, then the ranking, each once.

    A row of an existing file is kept as it is, ranked or not, where its new_label or a column that
    somebody added is filled. The new_label of all others is empty: the class to compare with is no
    proposal.

    Args: path of the file; ranked table of `suspects.rank`; recordings with recording_id and path.
    Raises SourceError, and writes nothing, where an existing file cannot be read.
    """
    table, delimiter = _read(path)
    theirs = [name for name in table if name not in (*COLUMNS[:-1], *FORMER)]
    kept = table[_stripped(table[theirs]).ne("").any(axis=1)]
    if kept.empty:
        kept = kept.drop(columns=[*FORMER], errors="ignore")
    fresh = ranked[~ranked["recording_id"].isin(kept["recording_id"].str.strip())]
    fresh = fresh.drop_duplicates("recording_id")
    paths = recordings.set_index("recording_id")["path"]
    fresh = pd.DataFrame(
        {
            "recording_id": fresh["recording_id"],
            "path": fresh["recording_id"].map(paths).fillna(""),
            "source": fresh["group"],
            "label": fresh["label"].replace("", NONE),
            "compare_with": fresh["suggested"].replace("", NONE),
            "doubt_rank": fresh["rank"].astype(str),
            "new_label": "",
        }
    )
    _write(path, pd.concat([kept, fresh]), delimiter)


def add(path: str | Path, row: dict[str, str], instead: list[str]) -> None:
    """Add a row to the file, which is made where it is missing.

    Args: path of the file; row: COLUMNS, empty where they are left out; instead recording_ids whose
        rows it replaces.
    Raises SourceError, and writes nothing, where an existing file cannot be read.
    """
    table, delimiter = _read(path)
    others = table[~table["recording_id"].str.strip().isin(instead)]
    _write(path, pd.concat([others, pd.DataFrame([row])]), delimiter)


def _write(path, rows, delimiter):
    rows = rows.fillna("").rename(columns=_guard).map(_guard)
    # Lines end in CRLF, so single returns in names are quoted too; without a byte order mark Excel
    # does not read UTF-8.
    text = rows.to_csv(sep=delimiter, index=False, lineterminator="\r\n")
    artifacts.write_text(path, "\ufeff" + text)


def read_relabel(path: str | Path, known: pd.Series | list[str] | None = None) -> dict[str, str]:
    """The edits of a file: {recording_id: new_label}, stripped; empty if there is no file.

    It may come back from a spreadsheet: see `tables.read_edited`. Args: path; known recording_ids:
    edits of others are left out with a warning; None: all are returned.
    Raises SourceError naming row (the header is row 1) and column of what cannot be understood.
    """
    name = Path(path).name
    rows = _stripped(_read(path)[0][[*NEEDED]])
    rows = rows.query("new_label != ''")
    first = {}
    for number, identity, new in rows.itertuples():
        where = f"{name}, row {number}"
        if not identity:
            raise SourceError(
                f"{where}: new_label is {new!r}, but column recording_id is empty: no recording is "
                "named."
            )
        if not new.strip(targets.SEPARATOR + " "):
            raise SourceError(
                f"{where}, column new_label: {new!r} names no class. Write a label, {DROP} or "
                f"{NONE}."
            )
        row, label = first.setdefault(identity, (number, new))
        if label != new:
            raise SourceError(
                f"{where}, column new_label: recording {identity} has two new labels, {label!r} in "
                f"row {row}, {new!r} here."
            )
    for identity in sorted(set(first) - set(first if known is None else known)):
        row, label = first.pop(identity)
        warnings.warn(
            f"{name}, row {row}, column recording_id: there is no recording {identity!r}; its "
            f"new_label {label!r} is ignored.",
            stacklevel=2,
        )
    return {identity: label for identity, (_, label) in first.items()}


def edits_digest(path: str | Path) -> str | None:
    """SHA-256 of the edits alone, whatever else the file holds; None where there are none."""
    edits = read_relabel(path)
    return hashlib.sha256(json.dumps(edits, sort_keys=True).encode()).hexdigest() if edits else None


def apply(
    table: pd.DataFrame, edits: dict[str, str], multilabel: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give edited recordings their new label, or leave them out; only on the training side.

    Args: table of `sources.find`; edits of `read_relabel`. Returns (new table; report: a row per
    change with recording_id, path, old, new, note, which says what was left out and which class is
    new). Warns of edits without a usable training recording.
    """
    usable = table["split"].eq("train") & table["status"].eq("ok")
    rows = table[usable & table["recording_id"].isin(list(edits))]
    identities = rows["recording_id"]
    if lost := sorted(set(edits) - set(identities)):
        number = targets.counted(len(lost), "edit of relabel.csv has", "edits of relabel.csv have")
        listed = ", ".join(lost[:5])
        warnings.warn(f"{number} no training recording in use: {listed}", stacklevel=2)
    classes = targets.classes(table[usable], multilabel)
    new = [_settle(edits[identity], classes, multilabel) for identity in identities]
    report = rows[["recording_id", "path"]].assign(old=rows["label"])
    report["new"] = [DROP if label is None else label for label in new]
    report["note"] = [_note(label, classes, multilabel) for label in new]
    left_out = report["note"].eq("left out")
    edited = table.copy()
    dropped = report.index[left_out]
    edited.loc[dropped, "status"] = "ignored"
    edited.loc[dropped, "reason"] = LEFT_OUT
    relabelled = report.loc[~left_out, "new"]
    edited.loc[relabelled.index, "label"] = relabelled
    changed = left_out | report["new"].ne(report["old"])
    return edited, report[changed].reset_index(drop=True)


def _settle(text, classes, multilabel):
    """The label that an edit means, accents as the classes spell them; None leaves out."""
    spelled = {tables.spelling(name): name for name in classes}
    parts = [part.strip() for part in targets.split(text, multilabel)]
    parts = [spelled.get(tables.spelling(part), part) for part in parts if part]
    word = parts[0].casefold() if len(parts) == 1 and parts[0] not in classes else ""
    if word == DROP:
        return None
    if word == NONE and multilabel:
        return ""
    return targets.join(parts)


def _note(new, classes, multilabel):
    """What is remarkable about a change: left out, or a class that no other recording has."""
    if new is None:
        return "left out"
    names = targets.split(new, multilabel)
    fresh = [name for name in names if name not in classes]
    if not fresh:
        return ""
    folded = {name.casefold(): name for name in classes}
    close = [difflib.get_close_matches(name.casefold(), folded, n=1) for name in fresh]
    meant = " or ".join(repr(folded[match]) for matches in close for match in matches)
    return f"a new class: {', '.join(fresh)}" + (f"; is {meant} meant?" if meant else "")


def _read(path):
    """An edited file as (table of text, delimiter); an empty table where there is none."""
    if not Path(path).is_file():
        return pd.DataFrame(columns=[*COLUMNS], dtype=str), ","
    table, delimiter = tables.read_edited(path, (*COLUMNS, *FORMER), NEEDED)
    return table.rename(columns=_unguard).map(_unguard), delimiter


def _stripped(table):
    return table.apply(lambda column: column.str.strip())


def _guard(text):
    """An apostrophe before what a spreadsheet would misread; `_unguard` takes it away again."""
    return "'" + text if MISREAD.match(text) else text


def _unguard(text):
    return text[1:] if text.startswith("'") and MISREAD.match(text) else text
