"""What a submission must look like: its header, its rows and their order, what stands in each.

A sample submission decides, and is compared with the files on disk: the message says which of the
two is wrong. Without one the files decide. Rows are recordings, or windows of them, and may ask for
one class each.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from helpers.base import errors, tables
from helpers.base.errors import SubmissionError
from helpers.base.settings import Submit
from helpers.base.targets import counted
from helpers.submission import row_ids

SEPARATORS = (" ", ",", ";", "|")
SHOWN = 10  # ids that a message names


@dataclass(frozen=True)
class Contract:
    """What is asked for. `rows`, in the order of the submission: id, recording_id ("" without a
    file), end_seconds (missing: the whole recording), label ("": all of them).
    """

    header: tuple
    rows: pd.DataFrame
    classes: tuple
    shape: str  # label, top_k, set, wide, binary or long
    separator: str
    k: int
    settings: Submit
    sums_to_one: bool
    notes: tuple = ()


def find_sample(root):
    """The sample submission below a data folder, as text, or None. Its header, ids and their order
    are the contract.
    """
    found = sorted(path for path in Path(root).rglob("*.csv") if _is_sample(path.relative_to(root)))
    if not found:
        return None
    try:
        sample = tables.read(found[0], delimiter=",")
    except errors.SourceError as error:
        raise SubmissionError(str(error)) from None
    if sample.shape[1] < 2:
        raise SubmissionError(
            f"{found[0].name} has the columns {list(sample)}; expected an id and a label, or classes"
        )
    if repeated := sample.iloc[:, 0][sample.iloc[:, 0].duplicated()].unique().tolist():
        raise SubmissionError(
            f"{found[0].name} asks for {counted(len(repeated), 'id', 'ids')} twice: {_some(repeated)}."
        )
    return sample


def _is_sample(path):
    """Whether a relative path names a sample submission; hidden files and what macOS leaves in
    archives do not.
    """
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return not hidden and "sample" in path.name.lower() and "submission" in path.name.lower()


def draw_up(root, recordings, classes, config, sample=None):
    """The contract of a data folder.

    Args: root data folder; recordings those to be answered: recording_id, path, split and, for
        windows, duration_seconds; classes; config; sample of `find_sample`.
    Raises SubmissionError where sample, files and classes do not fit.
    """
    if "train" in set(
        recordings["split"]
    ):  # out-of-fold predictions: a row per recording, whatever the test side has
        config = config.model_copy(
            update={
                "audio": config.audio.model_copy(update={"test_windows": False}),
                "submit": _plain(config.submit),
            }
        )
    shape = _shape(recordings, classes, config, sample)
    _check_fits(shape, classes, config.submit)
    rows = row_ids.candidates(root, recordings, classes, config, sample, shape)
    _check_heard(rows, recordings, config, sample)
    rows, notes = (
        (rows, ()) if sample is None else _reconcile(rows, sample, recordings, config, shape)
    )
    if (repeated := rows["id"][rows["id"].duplicated()]).size:
        raise SubmissionError(
            f"{counted(repeated.nunique(), 'id names', 'ids name')} several files: "
            f"{_some(repeated.unique())}. See submit.id."
        )
    several = config.data.multilabel
    return Contract(
        header=_header(classes, config, sample, shape),
        rows=rows.reset_index(drop=True),
        classes=tuple(classes),
        shape=shape,
        separator=_separator(classes, config, sample, shape),
        k=config.evaluate.k,
        settings=config.submit,
        sums_to_one=not several and config.evaluate.metric in ("auto", "accuracy", "macro_f1"),
        notes=notes,
    )


def _check_fits(shape, classes, settings):
    """Refuse what no submission of a shape can be built from."""
    if shape == "binary" and settings.positive not in (None, *classes):
        raise SubmissionError(
            f"submit.positive is {settings.positive!r}; the classes are {', '.join(classes)}."
        )
    if shape == "long" and settings.rows_csv:
        raise SubmissionError(
            f"submit.rows_csv names no classes, and submit.shape=long has a row for each: {settings.id}."
        )


def _check_heard(rows, recordings, config, sample):
    """Refuse rows that a table asks for and no file answers, unless the whole test set is hidden."""
    asked = rows if sample is None else rows[rows["id"].isin(sample.iloc[:, 0])]
    unheard = asked.loc[asked["recording_id"].eq(""), "id"].tolist()
    if unheard and (len(recordings) or not config.data.allow_empty_test):
        raise SubmissionError(
            f"{counted(len(unheard), 'row', 'rows')} of {config.submit.rows_csv}: the file is not there "
            f"({_some(unheard)})."
        )


def _plain(settings):
    return settings.model_copy(update={"id": "auto", "rows_csv": None, "shape": "auto"})


# --- shape
# -------------------------------------------------------------------------------------------------


def _shape(recordings, classes, config, sample):
    """The shape that the config names, or the one that the sample has."""
    if config.submit.shape != "auto":
        return config.submit.shape
    if sample is None:
        return "wide" if config.data.multilabel else "label"
    if sample.shape[1] > 2:
        return "wide"
    cells = sample.iloc[:, 1]
    if not set(cells) <= set(classes) and pd.to_numeric(cells, errors="coerce").notna().all():
        return _numeric_shape(recordings, classes, sample)
    parts = cells.map(lambda cell: _split(cell, classes))
    if config.data.multilabel:
        return "set"
    return (
        "top_k"
        if parts.map(len).gt(1).any() and parts.map(set(classes).issuperset).all()
        else "label"
    )


def _numeric_shape(recordings, classes, sample):
    """A sample of an id and a number: a row per recording, or per recording and class."""
    if len(classes) == 2 and len(sample) <= len(recordings):
        return "binary"
    if len(sample) == len(classes) * len(recordings):
        return "long"
    raise SubmissionError(
        f"The sample submission holds a number per row, for {len(sample)} rows, {len(recordings)} test files and "
        f"{len(classes)} classes. Say what it means: submit.shape=binary (see submit.positive) or long (see submit.id)."
    )


def _split(cell, classes):
    """The labels in a cell of the sample, by the separator that gives the most classes."""
    return max(
        (cell.split(mark) for mark in SEPARATORS),
        key=lambda parts: sum(part in set(classes) for part in parts),
    )


def _separator(classes, config, sample, shape):
    """What stands between the labels of a row: as the config says, or as the sample's cells show."""
    if config.submit.separator is not None:
        return config.submit.separator
    cells = sample.iloc[:, 1] if sample is not None and shape in ("set", "top_k") else []
    for mark in SEPARATORS:
        if any(mark in cell and set(cell.split(mark)) <= set(classes) for cell in cells):
            return mark
    return config.data.label_separator if config.data.multilabel and shape == "set" else " "


def _header(classes, config, sample, shape):
    """The submission's header: the sample's, else the config's, else filename and label, or the
    classes.
    """
    columns = [config.submit.column.format(label=name) for name in classes]
    given = config.submit.header
    if sample is None:
        first, *others = given or ("filename",)
        return (first, *columns) if shape == "wide" else (first, *(others or ("label",)))
    if shape == "wide" and set(sample.columns[1:]) != set(columns):
        lacking, foreign = (
            sorted(set(columns) - set(sample.columns)),
            sorted(set(sample.columns[1:]) - set(columns)),
        )
        raise SubmissionError(
            f"The sample submission has {len(sample.columns) - 1} columns beside its id, which are not the "
            f"{len(classes)} classes of the training data: "
            f"{counted(len(lacking), 'class', 'classes')} without a column ({_some(lacking)}), "
            f"{counted(len(foreign), 'column that is', 'columns that are')} no class ({_some(foreign)})."
        )
    if shape != "wide" and sample.shape[1] != 2:
        raise SubmissionError(
            f"submit.shape={shape} has two columns; the sample has {', '.join(sample)}."
        )
    return tuple(sample)


# --- rows
# --------------------------------------------------------------------------------------------------


def _reconcile(rows, sample, recordings, config, shape):
    """The rows in the sample's order, and notes. Raises SubmissionError where sample and files
    differ.
    """
    wanted, notes = sample.iloc[:, 0], []
    if not len(recordings) and config.data.allow_empty_test:
        empty = pd.DataFrame({"id": wanted, "recording_id": "", "end_seconds": np.nan, "label": ""})
        return empty, (
            f"There is no test file yet: the {len(wanted)} rows of the sample get the shares of the classes.",
        )
    asked = set(rows.loc[rows["id"].isin(wanted), "label"])
    if shape == "long" and asked and (dropped := set(rows["label"]) - asked):
        rows = rows[rows["label"].isin(asked)]
        notes.append(
            f"{counted(len(dropped), 'class is', 'classes are')} not asked for: {_some(sorted(dropped))}."
        )
    missing, extra = (
        wanted[~wanted.isin(rows["id"])].tolist(),
        rows.loc[~rows["id"].isin(wanted), "id"].tolist(),
    )
    if (missing or extra) and config.submit.rows_from == "files":
        order = pd.Series(range(len(wanted)), wanted)
        rows = (
            rows.assign(place=rows["id"].map(order))
            .sort_values("place", kind="stable")
            .drop(columns="place")
        )
        return rows, (
            *notes,
            f"The rows are those of the files: {len(extra)} more than the sample's, {len(missing)} less.",
        )
    if missing or extra:
        raise SubmissionError(_difference(missing, extra, rows, recordings, config))
    return rows.set_index("id").loc[wanted].reset_index(), tuple(notes)


def _difference(missing, extra, rows, recordings, config):
    """Which of the two is wrong, the sample or the folder, in words."""
    unit = "window" if config.audio.test_windows else "file"
    lines = ["The sample submission and the test files do not match."]
    if missing:
        ids = counted(len(missing), "id of the sample has", "ids of the sample have")
        lines.append(f"{ids} no file ({_some(missing)}).")
    if extra:
        lines.append(
            f"{counted(len(extra), f'{unit} has', f'{unit}s have')} no row in the sample ({_some(extra)})."
        )
    if not missing and extra:
        lines.append(
            "Every row of the sample has its file, so the sample is out of date: submit.rows_from=files."
        )
    elif missing and not extra:
        short = ", or are shorter than the sample asks" if config.audio.test_windows else ""
        lines.append(
            f"Every file has its row, so files are missing from the data folder{short}: complete it."
        )
    elif missing:
        lines.append(
            "Both differ: the ids may be spelled in another way (submit.id), or belong to another data set."
        )
    if config.audio.test_windows and (missing or extra):
        odd = set(rows.loc[rows["id"].isin(extra), "recording_id"])
        known = recordings[recordings["duration_seconds"].notna()]
        first = known[known["recording_id"].isin(odd)] if odd else known
        for row in first[:1].to_dict("records"):
            lines.append(
                f"For instance {PurePosixPath(row['path']).name} lasts {row['duration_seconds']:g} s: "
                f"{rows['recording_id'].eq(row['recording_id']).sum()} rows for windows of "
                f"{config.audio.clip_seconds:g} s."
            )
    return " ".join(lines)


def _some(names):
    names = [str(name) for name in names]
    return ", ".join(names[:SHOWN]) + (" …" if len(names) > SHOWN else "")
