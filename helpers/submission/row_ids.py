"""The rows that a submission may have, and their ids: of recordings, of windows, of classes in
them.
"""

import re
import string
import unicodedata
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from helpers.audio import windowing
from helpers.base import errors, tables
from helpers.data import label_table


def candidates(root, recordings, classes, config, sample, shape):
    """The rows that the files on disk, or the table that submit.rows_csv names, stand for.

    Args: as of `contract.draw_up`; shape of the submission. Returns a table id, recording_id,
        end_seconds, label.
    """
    settings = config.submit
    if settings.rows_csv and (Path(root) / settings.rows_csv).is_file():
        return _listed_rows(root, recordings, settings)
    rows = recordings[["recording_id", "path"]].assign(end_seconds=None)
    if config.audio.test_windows:
        size, known = config.audio.clip_seconds, recordings["duration_seconds"].fillna(0)
        counts = np.maximum(
            np.ceil((known - windowing.SLACK_SECONDS).astype(float) / size).astype(int), 0
        )
        ends = [[size * number for number in range(1, count + 1)] or [np.nan] for count in counts]
        rows = rows.assign(end_seconds=ends).explode("end_seconds")
    rows = rows.assign(end_seconds=rows["end_seconds"].astype(float))
    rows = rows.merge(
        pd.DataFrame({"label": list(classes) if shape == "long" else [""]}), how="cross"
    )
    if settings.id == "auto" and not config.audio.test_windows and shape != "long":
        return rows.assign(id=_spelled(rows["path"], sample)).drop(columns="path")
    template = settings.id
    if template == "auto":
        template = "_".join(
            ["{stem}", *["{label}"] * (shape == "long"), *["{end}"] * config.audio.test_windows]
        )
    return _fill(template, rows, root, config, sample).drop(columns="path")


def _spelled(paths, sample):
    """The id of each file: as the sample spells it, else its name, or its path where names repeat."""
    names = paths.map(lambda path: PurePosixPath(path).name)
    if sample is None:
        return names if names.is_unique else paths
    asked = {
        unicodedata.normalize("NFC", name): name for name in sample.iloc[:, 0]
    }  # macOS writes accents apart
    spellings = [names, names.map(lambda name: PurePosixPath(name).stem), paths]
    spellings = [
        s.map(lambda name: asked.get(unicodedata.normalize("NFC", name), name)) for s in spellings
    ]
    return max(spellings, key=lambda spelling: spelling.isin(sample.iloc[:, 0]).sum())


def _listed_rows(root, recordings, settings):
    """The rows of the table that submit.rows_csv names: an id, a file's name, perhaps the end of a
    window.
    """
    table = tables.read(Path(root) / settings.rows_csv, settings.rows_csv)
    id_column, file_column, *end_column = settings.rows_columns
    files = tables.column(table, file_column, settings.rows_csv).map(tables.spelling)
    named = set(files)
    keys = recordings["path"].map(lambda path: label_table.id_of(path, named)).dropna()
    if (twins := recordings["path"][keys[keys.duplicated(keep=False)].index]).size:
        raise errors.SubmissionError(
            f"{settings.rows_csv} has names that several files fit: {', '.join(twins[:3])}."
        )
    known = dict(zip(keys, recordings["recording_id"][keys.index], strict=True))
    rows = pd.DataFrame(
        {"id": tables.column(table, id_column, settings.rows_csv), "recording_id": files.map(known)}
    )
    ends = (
        tables.column(table, end_column[0], settings.rows_csv)
        if end_column
        else pd.Series("", table.index)
    )
    seconds = pd.to_numeric(ends.replace("", None), errors="coerce")
    if (wrong := ends[ends.ne("") & seconds.isna()]).size:
        raise errors.SubmissionError(
            f"{settings.rows_csv}, row {wrong.index[0] + 2}: {wrong.iloc[0]!r} is no time in seconds."
        )
    return rows.fillna({"recording_id": ""}).assign(end_seconds=seconds, label="")


def _fill(template, rows, root, config, sample):
    """The ids of rows by a template. A recording of unknown length takes the windows that the
    sample asks for.
    """
    wanted = [field for _, field, _, _ in string.Formatter().parse(template) if field]
    facts = {}
    if set(wanted) - {"name", "stem", "path", "end", "label", "number"} and config.data.tables:
        table = label_table.gather(Path(root), config.data).drop_duplicates()
        ids = tables.column(table, config.data.id_column or table.columns[0], config.data.tables[0])
        facts = dict(zip(ids.map(tables.spelling), table.to_dict("records"), strict=True))
    numbers = {name: number for number, name in enumerate(sorted(set(rows["label"])))}
    known, found = {path: _fields(path, facts, config) for path in rows["path"].unique()}, []
    for row in rows.to_dict("records"):
        fields = known[row["path"]] | {"label": row["label"], "number": numbers[row["label"]]}
        if missing := [name for name in wanted if name not in fields]:
            raise errors.SubmissionError(
                f"submit.id has {{{missing[0]}}}, which is not known of {row['path']}: {template!r}"
            )
        unknown = config.audio.test_windows and np.isnan(row["end_seconds"])
        ends = _asked_ends(template, fields, sample) if unknown else [row["end_seconds"]]
        for end in ends:
            found.append(
                {
                    **row,
                    "end_seconds": end,
                    "id": _calculated(template.format(**fields | {"end": _number(end)})),
                }
            )
    return pd.DataFrame(found, columns=[*rows, "id"])


def _fields(path, facts, config):
    """What a template may say of a file: its name and more, columns of the table, groups of
    submit.id_pattern.
    """
    place = PurePosixPath(path)
    fields = {"name": place.name, "stem": place.stem, "path": path, "end": ""}
    match = re.fullmatch(config.submit.id_pattern, place.stem) if config.submit.id_pattern else None
    named = match.groupdict() if match else {}
    listed = facts.get(label_table.id_of(path, facts), {})
    return {**listed, **fields, **named}


def _asked_ends(template, fields, sample):
    """The ends of windows that the sample asks for of one recording, whose length cannot be known."""
    mark = "\0"
    pattern = re.escape(_calculated(template.format(**fields | {"end": mark}))).replace(
        re.escape(mark), r"(\d+(?:\.\d+)?)"
    )
    matches = [
        re.fullmatch(pattern, name) for name in ([] if sample is None else sample.iloc[:, 0])
    ]
    return sorted({float(match.group(1)) for match in matches if match}) or [np.nan]


def _number(end):
    return "" if end is None or np.isnan(end) else f"{end:g}"


def _calculated(text):
    """The value of "3*100+7"; any other text as it is.

    >>> _calculated("3*100+7"), _calculated("a_5")
    ('307', 'a_5')
    """
    match = re.fullmatch(r"(\d+)\*(\d+)\+(\d+)", text)
    return str(int(match[1]) * int(match[2]) + int(match[3])) if match else text
