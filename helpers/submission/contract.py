"""What a submission must look like: its header, its rows and their order, what stands in each.

A sample submission decides, and is compared with the files on disk: the message says which of the
two is wrong. Without one the files decide. Rows are recordings, or windows of them, and may ask for
one class each.
"""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from helpers.base import errors, tables, targets
from helpers.base.errors import SubmissionError
from helpers.base.settings import Config, Submit
from helpers.base.targets import counted
from helpers.submission import row_ids

SEPARATORS = (" ", ",", ";", "|")
SHOWN = 10  # ids that a message names
# Metrics of the most probable class alone: what is submitted for them are shares of one answer.
# Metrics that rank take scores of any sum.
OF_ONE_ANSWER = ("auto", "accuracy", "macro_f1")


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


def find_sample(root) -> pd.DataFrame | None:
    """The sample submission below a data folder, as text, or None. Its header, ids and their order
    are the contract.
    """
    paths = sorted(path for path in Path(root).rglob("*.csv") if _is_sample(path.relative_to(root)))
    if not paths:
        return None
    name = paths[0].name
    try:
        sample = tables.read(paths[0], delimiter=",")
    except errors.SourceError as error:
        raise SubmissionError(str(error)) from None
    if sample.shape[1] < 2:
        raise SubmissionError(
            f"{name} has the columns {list(sample)}; expected an id and a label, or classes"
        )
    ids = sample.iloc[:, 0]
    if (repeated := ids[ids.duplicated()].unique()).size:
        raise SubmissionError(
            f"{name} asks for {counted(len(repeated), 'id', 'ids')} twice: {_some(repeated)}."
        )
    return sample


def _is_sample(path):
    """Whether a relative path names a sample submission."""
    name = path.name.lower()
    return "sample" in name and "submission" in name and not tables.is_hidden(path)


def draw_up(root, recordings: pd.DataFrame, classes, config: Config, sample=None) -> Contract:
    """The contract of a data folder.

    Args: root data folder; recordings those to be answered: recording_id, path, split and, for
        windows, duration_seconds; classes; config; sample of `find_sample`.
    Raises SubmissionError where sample, files and classes do not fit.
    """
    if recordings["split"].eq("train").any():  # out-of-fold predictions: a row per recording
        config = config.but("audio.test_windows", False).but("submit.id", "auto")
        config = config.but("submit.rows_csv", None).but("submit.shape", "auto")
    shape = _shape(recordings, classes, config, sample)
    _check_fits(shape, classes, config.submit)
    rows = row_ids.candidates(root, recordings, classes, config, sample, shape)
    _check_heard(rows, recordings, config, sample)
    notes = ()
    if sample is not None:
        rows, notes = _reconcile(rows, sample, recordings, config, shape)
    repeated = rows["id"][rows["id"].duplicated()].unique()
    if len(repeated):
        raise SubmissionError(
            f"{counted(len(repeated), 'id names', 'ids name')} several files: {_some(repeated)}. "
            "See submit.id."
        )
    return Contract(
        header=_header(classes, config, sample, shape),
        rows=rows.reset_index(drop=True),
        classes=tuple(classes),
        shape=shape,
        separator=_separator(classes, config, sample, shape),
        k=config.evaluate.k,
        settings=config.submit,
        sums_to_one=not config.data.multilabel and config.evaluate.metric in OF_ONE_ANSWER,
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
            "submit.rows_csv names no classes, and submit.shape=long has a row for each: "
            f"{settings.id}."
        )


def _check_heard(rows, recordings, config, sample):
    """Refuse rows that a table asks for and no file answers, unless all the test set is hidden."""
    asked = rows if sample is None else rows[rows["id"].isin(sample.iloc[:, 0])]
    unheard = asked.query("recording_id == ''")["id"]
    if len(unheard) and (len(recordings) or not config.data.allow_empty_test):
        raise SubmissionError(
            f"{counted(len(unheard), 'row', 'rows')} of {config.submit.rows_csv}: the file is not "
            f"there ({_some(unheard)})."
        )


# --- shape


def _shape(recordings, classes, config, sample):
    """The shape that the config names, or the one that the sample has."""
    several = config.data.multilabel
    if config.submit.shape != "auto":
        return config.submit.shape
    if sample is None:
        return "wide" if several else "label"
    if sample.shape[1] > 2:
        return "wide"
    cells = sample.iloc[:, 1]
    if not set(cells) <= set(classes) and pd.to_numeric(cells, errors="coerce").notna().all():
        return _numeric_shape(recordings, classes, sample)
    return "set" if several else _shape_of_labels(cells, set(classes))


def _numeric_shape(recordings, classes, sample):
    """A sample of an id and a number: a row per recording, or per recording and class."""
    if len(classes) == 2 and len(sample) <= len(recordings):
        return "binary"
    if len(sample) == len(classes) * len(recordings):
        return "long"
    raise SubmissionError(
        f"The sample submission holds a number per row, for {len(sample)} rows, {len(recordings)} "
        f"test files and {len(classes)} classes. Say what it means: submit.shape=binary (see "
        "submit.positive) or long (see submit.id)."
    )


def _shape_of_labels(cells, classes):
    """A sample of an id and labels: one, or several by the separator that gives most classes."""
    parts = []
    for cell in cells:
        splits = [cell.split(mark) for mark in SEPARATORS]
        parts.append(max(splits, key=lambda split: sum(label in classes for label in split)))
    several = any(len(labels) > 1 for labels in parts)
    return "top_k" if several and classes.issuperset(chain(*parts)) else "label"


def _separator(classes, config, sample, shape):
    """What stands between the labels of a row: as the config says, or as the sample shows."""
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
    if sample is None:
        first, *others = config.submit.header or ("filename",)
        return (first, *(columns if shape == "wide" else others or ["label"]))
    if shape != "wide" and sample.shape[1] != 2:
        raise SubmissionError(
            f"submit.shape={shape} has two columns; the sample has {', '.join(sample)}."
        )
    lacking = sorted(set(columns) - set(sample))
    foreign = sorted(set(sample.columns[1:]) - set(columns))
    if shape == "wide" and (lacking or foreign):
        raise SubmissionError(
            f"The sample submission has {sample.shape[1] - 1} columns beside its id, which are not "
            f"the {len(classes)} classes of the training data: "
            f"{counted(len(lacking), 'class', 'classes')} without a column ({_some(lacking)}), "
            f"{counted(len(foreign), 'column that is', 'columns that are')} no class "
            f"({_some(foreign)})."
        )
    return tuple(sample)


# --- rows


def _reconcile(rows, sample, recordings, config, shape):
    """The rows in the sample's order, and notes. Raises SubmissionError where sample and files
    differ.
    """
    wanted = sample.iloc[:, 0]
    notes = []
    if not len(recordings) and config.data.allow_empty_test:
        empty = pd.DataFrame({"id": wanted, "recording_id": "", "end_seconds": np.nan, "label": ""})
        says = f"the {len(wanted)} rows of the sample get the shares of the classes."
        return empty, (f"There is no test file yet: {says}",)
    asked = set(rows.loc[rows["id"].isin(wanted), "label"])
    dropped = sorted(set(rows["label"]) - asked)
    if shape == "long" and asked and dropped:
        rows = rows[rows["label"].isin(asked)]
        classes = counted(len(dropped), "class is", "classes are")
        notes.append(f"{classes} not asked for: {_some(dropped)}.")
    missing = wanted[~wanted.isin(rows["id"])]
    extra = rows.loc[~rows["id"].isin(wanted), "id"]
    if missing.empty and extra.empty:
        return rows.set_index("id").loc[wanted].reset_index(), tuple(notes)
    if config.submit.rows_from == "sample":
        raise SubmissionError(_difference(missing, extra, rows, recordings, config))
    place = rows["id"].map(pd.Series(range(len(wanted)), wanted))
    notes.append(
        f"The rows are those of the files: {len(extra)} more than the sample's, "
        f"{len(missing)} less."
    )
    return rows.loc[place.sort_values(kind="stable").index], tuple(notes)


def _difference(missing, extra, rows, recordings, config):
    """Which of the two is wrong, the sample or the folder, in words."""
    windows = config.audio.test_windows
    unit = "window" if windows else "file"
    lines = ["The sample submission and the test files do not match."]
    if len(missing):
        ids = counted(len(missing), "id of the sample has", "ids of the sample have")
        lines.append(f"{ids} no file ({_some(missing)}).")
    if len(extra):
        units = counted(len(extra), f"{unit} has", f"{unit}s have")
        lines.append(f"{units} no row in the sample ({_some(extra)}).")
    if missing.empty:
        lines.append(
            "Every row of the sample has its file, so the sample is out of date: "
            "submit.rows_from=files."
        )
    elif extra.empty:
        short = ", or are shorter than the sample asks" if windows else ""
        lines.append(
            f"Every file has its row, so files are missing from the data folder{short}: "
            "complete it."
        )
    else:
        lines.append(
            "Both differ: the ids may be spelled in another way (submit.id), or belong to another "
            "data set."
        )
    return " ".join(lines + (_instance(extra, rows, recordings, config) if windows else []))


def _instance(extra, rows, recordings, config):
    """A file whose windows are not those that the sample asks for, with its length, in words."""
    odd = rows.loc[rows["id"].isin(extra), "recording_id"]
    known = recordings[recordings["duration_seconds"].notna()]
    if len(odd):
        known = known[known["recording_id"].isin(odd)]
    return [
        f"For instance {PurePosixPath(row.path).name} lasts {row.duration_seconds:g} s: "
        f"{rows['recording_id'].eq(row.recording_id).sum()} rows for windows of "
        f"{config.audio.clip_seconds:g} s."
        for row in known[:1].itertuples()
    ]


def _some(names):
    names = [str(name) for name in names]
    return ", ".join(names[:SHOWN]) + (" …" if len(names) > SHOWN else "")


def in_words(root, recordings: pd.DataFrame, config) -> str:
    """What a data folder asks for, and that its sample and its files fit, a fact a line.

    Args: root data folder; recordings of recordings.csv; config. Raises as `draw_up`.
    """
    sample = find_sample(root)
    test = recordings.query("split == 'test' and status != 'ignored'")
    heard = recordings.query("status == 'ok'")
    classes = targets.classes(heard, config.data.multilabel)
    asked = draw_up(root, test, classes, config, sample)
    fits = "no sample submission" if sample is None else "a sample submission, which fits"
    header = ", ".join(asked.header[:12])
    more = " …" if len(asked.header) > 12 else ""
    lines = [
        f"{len(test)} test files, {fits}",
        f"{len(asked.rows)} rows of shape {asked.shape}: {header}{more}",
        *asked.notes,
    ]
    return "\n".join(lines)
