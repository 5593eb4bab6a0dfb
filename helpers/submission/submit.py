"""Predictions to a submission that is checked before it is put in place.

``python -m helpers check FILE --data folder`` (or ``make check-submission FILE=… DATA=…``) checks
any file.
"""

import numpy as np
import pandas as pd

from helpers.base import artifacts, tables, targets
from helpers.base.errors import SubmissionError
from helpers.base.targets import counted
from helpers.metrics import decisions
from helpers.submission import contract


def prior(labels, classes):
    """The share of the training recordings with each class: what is said of a recording that cannot
    be heard.
    """
    return pd.Series(targets.matrix(labels, classes).mean(axis=0), index=list(classes), dtype=float)


def row_probabilities(asked, clip_probabilities, clips, class_shares, config):
    """Probabilities of every row of a contract: a window's are its clip's, a recording's its clips'
    together, each counted by the sound that it holds.

    Args: asked Contract; clip_probabilities with clip_id and a column per class; clips with
        clip_id, recording_id, start_seconds and valid_seconds; class_shares of `prior`, said of
        what cannot be heard; config.
    Returns a table like asked.rows: the classes, and `heard` bool.
    """
    classes, rows, how = sorted(class_shares.index), asked.rows, config.model.aggregate
    clip_probabilities = clip_probabilities[clip_probabilities["clip_id"].isin(clips["clip_id"])]
    facts = clips.set_index("clip_id").loc[clip_probabilities["clip_id"]].reset_index()
    recording = facts["recording_id"]
    weights = decisions.weigh(facts["valid_seconds"], recording, not config.audio.test_windows)
    clip_probabilities = (
        clip_probabilities[classes].reset_index(drop=True).assign(recording_id=recording)
    )
    several = config.data.multilabel
    whole = decisions.aggregate(clip_probabilities, "recording_id", classes, how, several, weights)
    whole = whole.reindex(rows["recording_id"])
    windows = _end_to_end(clip_probabilities, facts["start_seconds"] / config.audio.clip_seconds)[
        classes
    ]
    number = (rows["end_seconds"] / config.audio.clip_seconds).round().fillna(0).astype(int) - 1
    single = windows.reindex(pd.MultiIndex.from_arrays([rows["recording_id"], number]))
    of_window = rows["end_seconds"].notna().to_numpy()[:, None]
    found = pd.DataFrame(np.where(of_window, single, whole), columns=classes, index=rows.index)
    heard = found.notna().all(axis=1)
    return found.fillna(class_shares).assign(heard=heard)


def _end_to_end(clip_probabilities, place):
    """Windows that lie end to end, by recording and number. Args: place where each begins, counted
    in windows.
    """
    number = place.round().astype(int)
    index = pd.MultiIndex.from_arrays([clip_probabilities["recording_id"], number])
    windows = clip_probabilities.set_axis(index)[((place - number).abs() < 1e-3).to_numpy()]
    return windows[~windows.index.duplicated()]


def out_of_fold(recordings, predictions):
    """Where there is no test set: the training recordings with their out-of-fold probabilities, in
    one order.
    """
    classes = [column for column in predictions if column not in artifacts.IDENTITY]
    table = recordings[recordings["recording_id"].isin(predictions["recording_id"])].reset_index(
        drop=True
    )
    probabilities = (
        predictions.set_index("recording_id")
        .loc[table["recording_id"], classes]
        .reset_index(drop=True)
    )
    return table, probabilities.assign(heard=True)


def unlearned(recordings, rows, predictions):
    """A recording to show an answer for that no network has learned from: the last test recording,
    or where there is none the last training recording with its answer out of fold.

    Args: recordings; rows of waveforms.csv; predictions out of fold, a row per recording.
    Returns (path, whose answer it is in words, class probabilities, highest first; None for a test
        recording).
    """
    paths, test = recordings.set_index("recording_id")["path"], rows[rows["split"].eq("test")]
    if len(test):
        return (
            paths[test["recording_id"].iloc[-1]],
            "a test recording, whose label no network has learned",
            None,
        )
    last = predictions.iloc[-1]
    answer = last[decisions.class_columns(predictions)].astype(float).sort_values(ascending=False)
    return (
        paths[last["recording_id"]],
        "a training recording, by the networks that have not learned from it",
        answer,
    )


def build(asked, probabilities, thresholds=None):
    """The submission that a contract asks for.

    Args: asked Contract; probabilities a row per row of the contract, a column per class;
        thresholds from which on a class is said (a Series by class): of shapes set and long
        (submit.threshold comes before them; else 0.5).
    Returns a table of text and numbers, its columns those of the contract's header.
    """
    table = pd.DataFrame({asked.header[0]: asked.rows["id"]})
    values = probabilities[list(asked.classes)].reset_index(drop=True)
    if asked.shape == "wide":
        columns = {
            asked.settings.column.format(label=name): values[name].map("{:.6f}".format)
            for name in asked.classes
        }
        return table.assign(**{name: columns[name] for name in asked.header[1:]})
    return table.assign(**{asked.header[1]: _cells(asked, values, thresholds)})


def _cells(asked, values, thresholds):
    """The second column of a submission, by its shape."""
    settings, shape = asked.settings, asked.shape
    if settings.threshold is not None or thresholds is None:
        thresholds = pd.Series(
            0.5 if settings.threshold is None else settings.threshold, list(asked.classes)
        )
    if shape == "label":
        return decisions.say(values)
    if shape == "top_k":
        best = np.argsort(-values.to_numpy(), axis=1, kind="stable")[:, : asked.k]
        return [asked.separator.join(np.array(asked.classes)[row]) for row in best]
    if shape == "set":
        said = decisions.say(values, thresholds).map(targets.split)
        said = said.map(lambda names: [name for name in names if name != settings.empty])
        return said.map(lambda names: asked.separator.join(names) or settings.empty)
    if shape == "binary":
        named = asked.header[1] if asked.header[1] in asked.classes else asked.classes[-1]
        return values[settings.positive or named].map("{:.6f}".format)
    label = asked.rows["label"].replace("", asked.classes[0])
    chosen = values.to_numpy()[np.arange(len(values)), values.columns.get_indexer(label)]
    return (
        chosen >= thresholds[label].to_numpy()
        if settings.boolean
        else pd.Series(chosen).map("{:.6f}".format)
    )


# --- checking
# ----------------------------------------------------------------------------------------------


def problems(table, asked):
    """Everything that is wrong with a submission, in words; an empty list if nothing is.

    Args: table; asked Contract.
    """
    if list(table) != list(asked.header):
        return [
            f"the columns are {', '.join(map(str, table))}; asked for are {', '.join(asked.header)}"
        ]
    ids, expected = table.iloc[:, 0].astype(str), asked.rows["id"]
    found = _wrong_ids(ids, expected)
    values = table.iloc[:, 1:]
    if asked.shape in ("wide", "binary", "long"):
        check = (
            _wrong_flags
            if asked.settings.boolean and asked.shape == "long"
            else _wrong_probabilities
        )
        return found + check(values, asked)
    return found + _wrong_labels(values.iloc[:, 0], asked)


def _wrong_ids(ids, expected):
    found = []
    if repeated := ids[ids.duplicated()].unique().tolist():
        found.append(f"{counted(len(repeated), 'id appears', 'ids appear')} twice: {repeated[:10]}")
    if missing := expected[~expected.isin(ids)].tolist():
        found.append(f"{counted(len(missing), 'id is', 'ids are')} missing: {missing[:10]}")
    if extra := ids[~ids.isin(expected)].unique().tolist():
        found.append(f"{counted(len(extra), 'id was', 'ids were')} not asked for: {extra[:10]}")
    if not found and (differ := np.flatnonzero(ids.to_numpy() != expected.to_numpy())).size:
        row = int(differ[0])
        found.append(
            f"the rows stand in another order: row {row + 2} is {ids.iloc[row]!r}, asked for is {expected.iloc[row]!r}"
        )
    return found


def _wrong_labels(cells, asked):
    """What is wrong with a column of labels: one each, up to k, or a set."""
    found, settings = [], asked.settings
    if empty := int(cells.isna().sum()):
        found.append(f"{counted(empty, 'label is', 'labels are')} missing (NaN)")
    cells = cells.dropna().astype(str)
    parts = (
        cells.map(lambda cell: [cell])
        if asked.shape == "label"
        else cells.str.split(asked.separator, regex=False)
    )
    if asked.shape == "set":
        parts = parts[cells.ne(settings.empty) & cells.ne("")]
        blank = int(cells.eq("").sum()) if settings.empty else 0
        found += [
            f"{counted(blank, 'row is', 'rows are')} empty; a row without any label says {settings.empty!r}"
        ] * bool(blank)
    if unknown := sorted({name for row in parts for name in row} - set(asked.classes)):
        found.append(
            f"{counted(len(unknown), 'label is not a class', 'labels are not classes')} of the training data: "
            f"{unknown[:10]}"
        )
    beside = sum(len(row) > 1 and settings.empty in row for row in parts)
    if asked.shape == "set" and settings.empty in asked.classes and beside:
        found.append(f"{counted(beside, 'row says', 'rows say')} {settings.empty!r} beside a label")
    if twice := sum(len(set(row)) < len(row) for row in parts):
        found.append(f"{counted(twice, 'row names', 'rows name')} a label twice")
    if asked.shape == "top_k" and (long := sum(len(row) > asked.k for row in parts)):
        found.append(f"{counted(long, 'row has', 'rows have')} more than {asked.k} labels")
    return found


def _wrong_flags(table, asked):
    foreign = sorted(set(table.iloc[:, 0].astype(str).str.casefold()) - {"true", "false", "0", "1"})
    return (
        [
            f"{counted(len(foreign), 'value is', 'values are')} neither True nor False: {foreign[:10]}"
        ]
        if foreign
        else []
    )


def _wrong_probabilities(table, asked):
    found, numbers = [], table.apply(pd.to_numeric, errors="coerce").astype(float)
    if empty := int(numbers.isna().sum().sum()):
        found.append(
            f"{counted(empty, 'probability is missing or no number', 'probabilities are missing or no numbers')}"
        )
    if outside := int((numbers.lt(0) | numbers.gt(1)).sum().sum()):
        found.append(f"{counted(outside, 'probability lies', 'probabilities lie')} outside 0 to 1")
    sums = numbers.sum(axis=1)
    if (
        asked.sums_to_one
        and asked.shape == "wide"
        and not found
        and (off := int((sums - 1).abs().gt(0.01).sum()))
    ):
        worst = int((sums - 1).abs().argmax()) + 2
        found.append(
            f"the probabilities of {counted(off, 'row', 'rows')} do not sum to 1, such as row {worst}"
        )
    return found


def oddities(table, asked, sample=None):
    """What is allowed and still worth a look, in words."""
    found = list(asked.notes)
    values = table.iloc[:, 1:].astype(str)
    if len(values) > 1 and len(values.drop_duplicates()) == 1:
        found.append("All rows say the same.")
    if (
        sample is not None
        and sample.shape == table.shape
        and (sample.to_numpy(str) == table.to_numpy(str)).all()
    ):
        found.append("This is the sample submission itself.")
    return found


def write(table, path, asked):
    """Check a submission and put it in place; nothing is written if anything is wrong. Raises
    SubmissionError.
    """
    if wrong := problems(table, asked):
        raise SubmissionError("The submission was not written:\n- " + "\n- ".join(wrong))
    artifacts.write_table(path, table)
    read_back = pd.read_csv(path, dtype=str, keep_default_na=False)
    if not np.array_equal(read_back.to_numpy(str), table.to_numpy(str)):
        raise SubmissionError(f"{path} does not read back as it was written")


# --- from the command line
# ---------------------------------------------------------------------------------


def check_file(path, config, root, recordings):
    """Check a submission file against a data folder. Returns (problems, oddities, the Contract).

    Args: path; config; root; recordings of `sources.find`, for windows with duration_seconds.
    Raises SubmissionError where sample and files do not fit each other, SourceError where the file
        cannot be read.
    """
    sample = contract.find_sample(root)
    test = recordings[recordings["split"].eq("test") & recordings["status"].ne("ignored")]
    classes = targets.classes(
        recordings[recordings["status"].isin(["ok", "used"])], config.data.multilabel
    )
    if test.empty and sample is None:
        raise SubmissionError(
            f"There is neither a test folder nor a sample submission below {root}."
        )
    asked = contract.draw_up(root, test, classes, config, sample)
    table = tables.read(path, exact=True, delimiter=",")
    return problems(table, asked), oddities(table, asked, sample), asked
