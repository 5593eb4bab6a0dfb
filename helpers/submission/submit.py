"""Predictions to a submission that is checked before it is put in place.

``python -m helpers check FILE --data folder`` (or ``make check-submission FILE=… DATA=…``) checks
any file.
"""

import numpy as np
import pandas as pd

from helpers.audio import windowing
from helpers.base import artifacts, tables, targets
from helpers.base.errors import SubmissionError
from helpers.base.settings import Config, Submit
from helpers.base.targets import counted
from helpers.metrics import decisions, evaluate
from helpers.submission import contract, priors
from helpers.submission.contract import Contract, find_sample
from helpers.submission.priors import Prior


def row_probabilities(
    asked: Contract,
    clip_probabilities: pd.DataFrame,
    clips: pd.DataFrame,
    prior: Prior,
    config: Config,
) -> pd.DataFrame:
    """Probabilities of every row of a contract: a window's are its clip's, a recording's its clips'
    together, each counted by the sound that it holds.

    Args: asked Contract; clip_probabilities with clip_id and a column per class; clips with
        clip_id, recording_id, start_seconds and valid_seconds; prior what is known of recordings
        before they are heard; config.
    Returns a table like asked.rows: the classes, and `heard` bool.
    """
    rows = asked.rows
    classes = sorted(prior.shares.index)
    size = config.audio.clip_seconds
    facts = ["clip_id", "recording_id", "start_seconds", "valid_seconds"]
    heard = clip_probabilities[["clip_id", *classes]].merge(clips[facts], on="clip_id")
    recording = heard["recording_id"]
    steps = config.audio.test_steps
    overlap = 1 - 1 / steps if config.audio.test_windows else windowing.OVERLAP
    whole = decisions.aggregate(
        heard[[*classes, "recording_id"]],
        "recording_id",
        classes,
        config.model.aggregate,
        config.data.multilabel,
        decisions.weigh(heard["valid_seconds"], recording, overlap),
    ).reindex(rows["recording_id"])
    number = (rows["end_seconds"] / size).round().fillna(0).astype(int) - 1
    windows = _end_to_end(heard, size / steps)[classes]
    single = _of_windows(windows, rows["recording_id"], number, steps)
    is_window = rows["end_seconds"].notna().to_numpy()
    if config.submit.smooth or config.submit.file_mean:
        places = pd.MultiIndex.from_frame(rows.loc[is_window, ["recording_id", "end_seconds"]])
        drawn = pd.DataFrame(single[is_window], places, classes)[~places.duplicated()]
        drawn = drawn_together(drawn, config.submit, config.data.multilabel)
        single[is_window] = drawn.loc[places]
    of_window = is_window[:, None]
    table = pd.DataFrame(np.where(of_window, single, whole), columns=classes, index=rows.index)
    known = prior.applied(table, rows["recording_id"], config)
    return known.assign(heard=table.notna().all(axis=1))


def drawn_together(
    windows: pd.DataFrame, settings: Submit, multilabel: bool = False
) -> pd.DataFrame:
    """Windows' probabilities after submit.smooth and submit.file_mean.

    Args: windows table of the classes by (recording, seconds); settings; without multilabel rows
        still sum to 1. A row of NaN gives nothing to others.

    >>> places = pd.MultiIndex.from_product([["r"], [5, 10, 15]])
    >>> windows = pd.DataFrame({"wren": [0.9, 0.1, 0.7]}, places)
    >>> drawn_together(windows, Submit(smooth=0.5), True)["wren"].round(2).tolist()
    [0.5, 0.45, 0.4]
    >>> drawn_together(windows, Submit(file_mean=0.5, file_by="max"), True)["wren"].tolist()
    [0.9, 0.5, 0.8]
    """
    ordered = windows.sort_index()
    by_recording = ordered.groupby(level=0)
    sides = pd.concat([by_recording.shift(1), by_recording.shift(-1)])
    beside = sides.groupby(level=[0, 1]).mean().fillna(ordered)
    drawn = ordered + settings.smooth * (beside - ordered)
    whole = drawn.groupby(level=0).transform(settings.file_by)
    drawn = drawn + settings.file_mean * (whole - drawn)
    if not multilabel:
        drawn = drawn.div(drawn.sum(axis=1), axis=0)
    return drawn.loc[windows.index]


def windows_worth(out_of_fold: pd.DataFrame, rows: pd.DataFrame, config) -> pd.DataFrame:
    """What drawing windows together does, each way alone, to the clips of training recordings out
    of fold, with its paired interval: a table for reading.

    Args: out_of_fold clip probabilities; rows of waveforms.csv; config. What is off is tried by a
        half. Of no rows where no rows of the submission are windows, or no recording has several
        clips.
    """
    facts = ["clip_id", "recording_id", "start_seconds", "label", "group"]
    clips = out_of_fold.merge(rows.query("parent_id == ''")[facts], on="clip_id")
    clips = clips[clips.duplicated("recording_id", keep=False) & config.audio.test_windows]
    windows = clips.set_index(["recording_id", "start_seconds"]).sort_index()
    told = windows[["fold", "label", "group"]].assign(recording_id=windows["clip_id"])
    probabilities = windows[decisions.class_columns(out_of_fold)]
    several = config.data.multilabel
    measured = []
    for key in ("smooth", "file_mean") if len(windows) else ():
        tried = getattr(config.submit, key) or 0.5
        settings = Submit(**{key: tried, "file_by": config.submit.file_by})
        drawn = drawn_together(probabilities, settings, several)
        sides = [decisions.answered(told, side, several) for side in (probabilities, drawn)]
        change = evaluate.paired_change(sides[:1], sides[1:], config)
        reached = {"clips alone": change["reference"], "drawn together": change["toggled"]}
        points = evaluate.points(change["change"], change["change_low"], change["change_high"])
        measured.append({"setting": f"submit.{key}={tried:g}", **reached, "change, points": points})
    return pd.DataFrame(measured)


def _of_windows(windows, recordings, number, steps):
    """Probabilities [rows, C] of the windows of these numbers, NaN where there is none.

    With several steps to a window those that begin in between count by what they share with it.
    Args: windows of `_end_to_end`; recordings, number of each row; steps.
    """
    total = 0.0
    counted_for = 0.0
    for shift in range(1 - steps, steps):
        places = pd.MultiIndex.from_arrays([recordings, number * steps + shift])
        part = windows.reindex(places).to_numpy()
        share = (1 - abs(shift) / steps) * np.isfinite(part)
        total = total + np.nan_to_num(part) * share
        counted_for = counted_for + share
    with np.errstate(invalid="ignore"):
        return total / counted_for


def _end_to_end(clips, size):
    """Clips that begin at multiples of `size` seconds, by recording and number."""
    place = clips["start_seconds"] / size
    number = place.round().astype(int)
    windows = clips.set_index(pd.MultiIndex.from_arrays([clips["recording_id"], number]))
    windows = windows[((place - number).abs() < 1e-3).to_numpy()]
    return windows[~windows.index.duplicated()]


def out_of_fold(recordings: pd.DataFrame, predictions: pd.DataFrame):
    """Where there is no test set: the training recordings with their out-of-fold probabilities, in
    one order. Returns (recordings, probabilities).
    """
    classes = decisions.class_columns(predictions)
    known = recordings["recording_id"].isin(predictions["recording_id"])
    answered = recordings[known].reset_index(drop=True)
    order = answered["recording_id"]
    probabilities = predictions.set_index("recording_id").loc[order, classes]
    return answered, probabilities.reset_index(drop=True).assign(heard=True)


def unlearned(recordings: pd.DataFrame, rows: pd.DataFrame, predictions: pd.DataFrame):
    """A recording to show an answer for that no network has learned from: the last test recording,
    or where there is none the last training recording with its answer out of fold.

    Args: recordings; rows of waveforms.csv; predictions out of fold, a row per recording.
    Returns (path, whose answer it is in words, class probabilities, highest first; None for a test
        recording).
    """
    paths = recordings.set_index("recording_id")["path"]
    test = rows.query("split == 'test'")["recording_id"]
    if len(test):
        return paths[test.iloc[-1]], "a test recording, whose label no network has learned", None
    last = predictions.iloc[-1]
    answer = last[decisions.class_columns(predictions)].astype(float).sort_values(ascending=False)
    whose = "a training recording, by the networks that have not learned from it"
    return paths[last["recording_id"]], whose, answer


# --- building


def build(
    asked: Contract, probabilities: pd.DataFrame, thresholds: pd.Series | None = None
) -> pd.DataFrame:
    """The submission that a contract asks for.

    Args: asked Contract; probabilities a row per row of the contract, a column per class;
        thresholds from which on a class is said (a Series by class): of shapes set and long
        (submit.threshold comes before them; else 0.5).
    Returns a table of text and numbers, its columns those of the contract's header.
    """
    first, *others = asked.header
    ids = pd.DataFrame({first: asked.rows["id"]})
    values = probabilities[list(asked.classes)].reset_index(drop=True)
    if asked.shape == "wide":
        columns = [asked.settings.column.format(label=name) for name in asked.classes]
        written = values.apply(_written).set_axis(columns, axis=1)
        return pd.concat([ids, written[others]], axis=1)
    return ids.assign(**{others[0]: _cells(asked, values, _thresholds(asked, thresholds))})


def _thresholds(asked, thresholds):
    """From where on each class is said: the config's value, else what was learned, else a half."""
    own = asked.settings.threshold
    if own is None and thresholds is not None:
        return thresholds
    return pd.Series(0.5 if own is None else own, list(asked.classes))


def _written(probabilities):
    return probabilities.map("{:.6f}".format)


def _cells(asked, values, thresholds):
    """The second column of a submission, by its shape."""
    settings = asked.settings
    if asked.shape == "label":
        return decisions.say(values)
    if asked.shape == "top_k":
        best = np.argsort(-values.to_numpy(), axis=1, kind="stable")[:, : asked.k]
        return [asked.separator.join(row) for row in np.array(asked.classes)[best]]
    if asked.shape == "set":
        return decisions.say(values, thresholds).map(lambda said: _joined(said, asked))
    if asked.shape == "binary":
        named = asked.header[1] if asked.header[1] in asked.classes else asked.classes[-1]
        return _written(values[settings.positive or named])
    label = asked.rows["label"].replace("", asked.classes[0])
    chosen = values.to_numpy()[np.arange(len(values)), values.columns.get_indexer(label)]
    if settings.boolean:
        return chosen >= thresholds[label].to_numpy()
    return _written(pd.Series(chosen))


def _joined(said, asked):
    """The labels said of a row, by the contract's separator; what it says of none."""
    names = [name for name in targets.split(said) if name != asked.settings.empty]
    return asked.separator.join(names) or asked.settings.empty


# --- checking


def problems(table: pd.DataFrame, asked: Contract) -> list[str]:
    """Everything that is wrong with a submission, in words; an empty list if nothing is.

    Args: table; asked Contract.
    """
    if list(table) != list(asked.header):
        columns = ", ".join(map(str, table))
        return [f"the columns are {columns}; asked for are {', '.join(asked.header)}"]
    values = table.iloc[:, 1:]
    if asked.shape == "long" and asked.settings.boolean:
        wrong = _wrong_flags(values.iloc[:, 0])
    elif asked.shape in ("wide", "binary", "long"):
        wrong = _wrong_probabilities(values, asked)
    else:
        wrong = _wrong_labels(values.iloc[:, 0], asked)
    return _wrong_ids(table.iloc[:, 0].astype(str), asked.rows["id"]) + wrong


def _told(*checks):
    """What checks found, in words.

    Args: checks (offenders, a list that is shown or their number; of one, of several, what is
        wrong).
    """
    wrong = []
    for offenders, one, many, what in checks:
        shown = f": {offenders[:10]}" if isinstance(offenders, list) else ""
        number = len(offenders) if shown else int(offenders)
        if number:
            wrong.append(f"{counted(number, one, many)} {what}{shown}".strip())
    return wrong


def _wrong_ids(ids, expected):
    wrong = _told(
        (ids[ids.duplicated()].unique().tolist(), "id appears", "ids appear", "twice"),
        (expected[~expected.isin(ids)].tolist(), "id is", "ids are", "missing"),
        (ids[~ids.isin(expected)].unique().tolist(), "id was", "ids were", "not asked for"),
    )
    if wrong or ids.tolist() == expected.tolist():
        return wrong
    row = int(np.flatnonzero(ids.to_numpy() != expected.to_numpy())[0])
    return [
        f"the rows stand in another order: row {row + 2} is {ids.iloc[row]!r}, asked for is "
        f"{expected.iloc[row]!r}"
    ]


def _wrong_labels(cells, asked):
    """What is wrong with a column of labels: one each, up to k, or a set."""
    empty = asked.settings.empty
    texts = cells.dropna().astype(str)
    blank = 0
    if asked.shape == "set":
        blank = texts.eq("").sum() if empty else 0
        texts = texts[~texts.isin(["", empty])]
    named = [_named(text, asked) for text in texts]
    long = beside = 0
    if asked.shape == "top_k":
        long = sum(len(names) > asked.k for names in named)
    elif empty in asked.classes:
        beside = sum(len(names) > 1 and empty in names for names in named)
    return _told(
        (cells.isna().sum(), "label is", "labels are", "missing (NaN)"),
        (blank, "row is", "rows are", f"empty; a row without any label says {empty!r}"),
        (
            sorted(set().union(*named) - set(asked.classes)),
            "label is not a class",
            "labels are not classes",
            "of the training data",
        ),
        (
            sum(len(set(names)) < len(names) for names in named),
            "row names",
            "rows name",
            "a label twice",
        ),
        (long, "row has", "rows have", f"more than {asked.k} labels"),
        (beside, "row says", "rows say", f"{empty!r} beside a label"),
    )


def _named(text, asked):
    """The labels in a cell."""
    return [text] if asked.shape == "label" else text.split(asked.separator)


def _wrong_flags(cells):
    foreign = sorted(set(cells.astype(str).str.casefold()) - {"true", "false", "0", "1"})
    return _told((foreign, "value is", "values are", "neither True nor False"))


def _wrong_probabilities(table, asked):
    numbers = table.apply(pd.to_numeric, errors="coerce").astype(float)
    missing = numbers.isna().sum().sum()
    outside = (numbers.lt(0) | numbers.gt(1)).sum().sum()
    no_number = ("probability is missing or no number", "probabilities are missing or no numbers")
    wrong = _told(
        (missing, *no_number, ""),
        (outside, "probability lies", "probabilities lie", "outside 0 to 1"),
    )
    if wrong or not asked.sums_to_one or asked.shape != "wide":
        return wrong
    off = (numbers.sum(axis=1) - 1).abs()
    if off.le(0.01).all():
        return []
    rows = counted(off.gt(0.01).sum(), "row", "rows")
    return [f"the probabilities of {rows} do not sum to 1, such as row {off.argmax() + 2}"]


def oddities(table: pd.DataFrame, asked: Contract, sample=None) -> list[str]:
    """What is allowed and still worth a look, in words."""
    notes = list(asked.notes)
    if len(table) > 1 and len(table.iloc[:, 1:].astype(str).drop_duplicates()) == 1:
        notes.append("All rows say the same.")
    if sample is not None and np.array_equal(sample.to_numpy(str), table.to_numpy(str)):
        notes.append("This is the sample submission itself.")
    return notes


def write(table: pd.DataFrame, path, asked: Contract):
    """Check a submission and put it in place; nothing is written if anything is wrong.

    Raises SubmissionError.
    """
    if wrong := problems(table, asked):
        raise SubmissionError("The submission was not written:\n- " + "\n- ".join(wrong))
    artifacts.write_table(path, table)
    if not np.array_equal(artifacts.read_table(path).to_numpy(str), table.to_numpy(str)):
        raise SubmissionError(f"{path} does not read back as it was written")


# --- any file


def check_file(path, config: Config, root, recordings: pd.DataFrame):
    """Check a submission file against a data folder. Returns (problems, oddities, the Contract).

    Args: path; config; root; recordings of `sources.find`, for windows with duration_seconds.
    Raises SubmissionError where sample and files do not fit each other, SourceError where the file
        cannot be read.
    """
    sample = find_sample(root)
    test = recordings.query("split == 'test' and status != 'ignored'")
    usable = recordings.query("status in ('ok', 'used')")
    if test.empty and sample is None:
        raise SubmissionError(
            f"There is neither a test folder nor a sample submission below {root}."
        )
    asked = contract_of(root, test, usable, config, sample)
    table = tables.read(path, exact=True, delimiter=",")
    return problems(table, asked), oddities(table, asked, sample), asked


# --- from the files of a run


def contract_of(root, recordings, rows: pd.DataFrame, config, sample=None):
    """The Contract for the recordings to be answered, with the classes of the training side.

    Args: root data folder; recordings; rows of waveforms.csv; config; sample or None.
    """
    classes = targets.classes(rows, config.data.multilabel)
    return contract.draw_up(root, recordings, classes, config, sample)


def files(asked, recordings: pd.DataFrame) -> pd.DataFrame:
    """The file behind each row of a contract: path and reason, "" without one, by recording_id."""
    known = recordings.set_index("recording_id")[["path", "reason"]]
    return known.reindex(asked.rows["recording_id"]).fillna("")


def said(asked, probabilities: pd.DataFrame, thresholds, files: pd.DataFrame) -> pd.DataFrame:
    """The files with what is said of each (`said`) and its highest probability (`top`)."""
    classes = probabilities[list(asked.classes)]
    answers = decisions.say(classes, thresholds).to_numpy()
    return files.assign(said=answers, top=classes.max(axis=1).to_numpy())


def shares_of_both(answers: pd.DataFrame, training: pd.Series) -> pd.DataFrame:
    """The shares of the classes in the training set, and among what is said: a table by label."""
    predicted = priors.shares(answers["said"], training.index)
    table = pd.DataFrame({"training": training, "predicted": predicted})
    return table.reset_index(names="label")


def least_sure(answers: pd.DataFrame, heard: pd.Series, count: int = 8) -> pd.DataFrame:
    """The recordings with the lowest probabilities, a row each, for `boards.answers`.

    Args: answers of `said`; heard bool, a row each; count of recordings.
    """
    unsure = answers[heard.to_numpy()].sort_values("top", kind="stable").reset_index()
    unsure = unsure.drop_duplicates("recording_id").head(count)
    titles = [f"{targets.in_words(row.said)} ({row.top:.0%})" for row in unsure.itertuples()]
    return unsure.assign(title=titles, note=unsure["path"])


def record(submission, asked, kind: str, model: str, unheard: pd.DataFrame, sample=None) -> dict:
    """What submission_check.json says of a submission that was written.

    Args: submission; asked Contract; kind in words; model its name; unheard rows of `files`.
    """
    what = f"{len(submission)} rows: {kind} of model {model}"
    missing = counted(len(unheard), "file", "files")
    fallback = f"{missing} could not be heard and got the shares of the training classes"
    return {
        "passed": True,
        "kind": kind,
        "model": model,
        "rows": len(submission),
        "says": f"{what}; {fallback if len(unheard) else 'all were heard'}.",
        "shape": asked.shape,
        "notes": oddities(submission, asked, sample),
        "unheard": unheard["path"].tolist(),
    }


def hidden_scores(asked, probabilities, answers, truth: pd.Series, config) -> dict:
    """What the submission scores where there is a key: {} without one, or of rows for windows.

    Args: asked Contract; probabilities of its rows; answers of `said`; truth labels by
        recording_id, or by a row's id; config.
    """
    recordings = asked.rows["recording_id"]
    identity = asked.rows["id"] if asked.rows["id"].isin(truth.index).any() else recordings
    if truth.empty or not identity.is_unique:
        return {}
    group = recordings.to_numpy()
    told = {"recording_id": identity.to_numpy(), "group": group}
    table = probabilities.assign(**told, predicted=answers["said"].to_numpy())
    scored = table.merge(truth.rename("label"), left_on="recording_id", right_index=True)
    scores = evaluate.scores_of(scored, config)
    first = {name: scores[name] for name in evaluate.headline(config)}
    return {"n_recordings": len(scored), **first}


def hidden_in_words(scores: dict) -> str:
    """The scores of `hidden_scores` in a line."""
    metrics = {name: entry for name, entry in scores.items() if name != "n_recordings"}
    words = [f"{evaluate.in_words(name)} {evaluate.percent(metrics[name])}" for name in metrics]
    return f"Hidden test: {', '.join(words)}"
