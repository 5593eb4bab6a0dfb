"""The rows that a submission may have, and their ids: of recordings, of windows, of classes."""

import re
import string
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from helpers.audio import windowing
from helpers.base import errors, tables
from helpers.data import label_table

OF_FILES = {"name", "stem", "path", "end", "label"}  # what an id may say without any table


def candidates(root, recordings: pd.DataFrame, classes, config, sample, shape: str) -> pd.DataFrame:
    """The rows that the files on disk, or the table that submit.rows_csv names, stand for.

    Args: as of `contract.draw_up`; shape of the submission. Returns a table id, recording_id,
        end_seconds, label.
    """
    settings = config.submit
    windows = config.audio.test_windows
    if settings.rows_csv and (Path(root) / settings.rows_csv).is_file():
        return _listed_rows(root, recordings, settings)
    rows = _with_ends(recordings, config.audio)
    rows = rows.merge(pd.DataFrame({"label": classes if shape == "long" else [""]}), how="cross")
    if settings.id != "auto":
        rows = _fill(settings.id, rows, root, config, sample)
    elif windows or shape == "long":
        parts = ["{stem}", *["{label}"] * (shape == "long"), *["{end}"] * windows]
        rows = _fill("_".join(parts), rows, root, config, sample)
    else:
        rows = rows.assign(id=_spelled(rows["path"], sample))
    return rows.drop(columns="path")


def _with_ends(recordings, audio):
    """Recordings, or their windows, one after the other, each by the second at which it ends."""
    rows = recordings[["recording_id", "path"]]
    if not audio.test_windows:
        return rows.assign(end_seconds=np.nan)
    seconds = recordings["duration_seconds"].fillna(0).astype(float) - windowing.SLACK_SECONDS
    counts = np.ceil(seconds / audio.clip_seconds)
    ends = [list(audio.clip_seconds * np.arange(1, count + 1)) for count in counts]
    return rows.assign(end_seconds=ends).explode("end_seconds").astype({"end_seconds": float})


def _spelled(paths, sample):
    """The id of each file: as the sample spells it, else its name, or its path if names repeat."""
    names = paths.map(lambda path: PurePosixPath(path).name)
    if sample is None:
        return names if names.is_unique else paths
    asked = sample.iloc[:, 0]
    wanted = {tables.spelling(name): name for name in asked}
    stems = names.map(lambda name: PurePosixPath(name).stem)
    spellings = [
        each.map(tables.spelling).map(wanted).fillna(each) for each in (names, stems, paths)
    ]
    return max(spellings, key=lambda spelling: spelling.isin(asked).sum())


def _listed_rows(root, recordings, settings):
    """The rows of the table that submit.rows_csv names: id, file, perhaps the end of a window."""
    listed = settings.rows_csv
    table = tables.read(Path(root) / listed, listed)
    id_column, file_column, *end_column = settings.rows_columns
    files = tables.column(table, file_column, listed).map(tables.spelling)
    named = set(files)
    keys = recordings["path"].map(lambda path: label_table.id_of(path, named)).dropna()
    if (twins := recordings["path"][keys[keys.duplicated(keep=False)].index]).size:
        raise errors.SubmissionError(
            f"{listed} has names that several files fit: {', '.join(twins[:3])}."
        )
    recording = files.map(dict(zip(keys, recordings["recording_id"][keys.index], strict=True)))
    ends = pd.Series("", table.index)
    if end_column:
        ends = tables.column(table, end_column[0], listed)
    seconds = pd.to_numeric(ends.replace("", None), errors="coerce")
    if (wrong := ends[ends.ne("") & seconds.isna()]).size:
        raise errors.SubmissionError(
            f"{listed}, row {wrong.index[0] + 2}: {wrong.iloc[0]!r} is no time in seconds."
        )
    return pd.DataFrame(
        {
            "id": tables.column(table, id_column, listed),
            "recording_id": recording.fillna(""),
            "end_seconds": seconds,
            "label": "",
        }
    )


# --- ids by a template


def _fill(template, rows, root, config, sample):
    """The ids of rows by a template.

    A recording of unknown length takes the windows that the sample asks for.
    """
    asked = [] if sample is None else sample.iloc[:, 0]
    wanted = [field for _, field, _, _ in string.Formatter().parse(template) if field]
    listed = set(wanted) - OF_FILES and config.data.tables
    facts = _facts(root, config.data) if listed else {}
    paths = rows["path"].unique()
    fields = {path: _fields(path, facts, config.submit) for path in paths}
    _require_known(wanted, fields, template)
    filled = []
    for row in rows.to_dict("records"):
        known = {**fields[row["path"]], "label": row["label"]}
        for end in _ends(row, template, known, asked if config.audio.test_windows else []):
            known["end"] = "" if np.isnan(end) else f"{end:g}"
            filled.append({**row, "end_seconds": end, "id": template.format(**known)})
    return pd.DataFrame(filled, columns=[*rows, "id"])


def _require_known(wanted, fields, template):
    for path, known in fields.items():
        if missing := [name for name in wanted if name not in {*known, "label"}]:
            raise errors.SubmissionError(
                f"submit.id has {{{missing[0]}}}, which is not known of {path}: {template!r}"
            )


def _facts(root, data):
    """The rows of the tables of labels, each a dict, by the name of its file."""
    table = label_table.gather(Path(root), data).drop_duplicates()
    names = tables.column(table, data.id_column or table.columns[0], data.tables[0])
    return dict(zip(names.map(tables.spelling), table.to_dict("records"), strict=True))


def _fields(path, facts, settings):
    """What a template may say of a file: columns of the table, its name, groups of the pattern."""
    place = PurePosixPath(path)
    listed = facts.get(label_table.id_of(path, facts), {})
    match = re.fullmatch(settings.id_pattern, place.stem) if settings.id_pattern else None
    named = match.groupdict() if match else {}
    return {**listed, "name": place.name, "stem": place.stem, "path": path, "end": "", **named}


def _ends(row, template, fields, asked):
    """The end of a window; where a recording's length is unknown, all ends that are asked for."""
    if not np.isnan(row["end_seconds"]):
        return [row["end_seconds"]]
    mark = "\0"
    pattern = re.escape(template.format(**{**fields, "end": mark}))
    pattern = pattern.replace(re.escape(mark), r"(\d+(?:\.\d+)?)")
    matches = [re.fullmatch(pattern, name) for name in asked]
    return sorted({float(match.group(1)) for match in matches if match}) or [np.nan]
