"""Predictions to a submission that is checked before it is put in place."""

import unicodedata
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from helpers import artifacts, decisions, targets


class SubmissionError(ValueError):
    """The submission would be refused; the message lists every problem."""


def find_sample(root):
    """The sample submission below a data folder, as text, or None. Its header, ids and their order are the contract."""
    found = sorted(path for path in Path(root).rglob("*.csv") if _is_sample(path.relative_to(root)))
    if not found:
        return None
    try:
        sample = pd.read_csv(found[0], dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise SubmissionError(f"{found[0]} cannot be read as a CSV in UTF-8: {error}") from None
    if sample.shape[1] < 2:
        raise SubmissionError(f"{found[0].name} has the columns {list(sample)}; expected an id and a label, or classes")
    return sample


def _is_sample(path):
    """Whether a relative path names a sample submission; hidden files and what macOS leaves in archives do not."""
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return not hidden and "sample" in path.name.lower() and "submission" in path.name.lower()


def prior(labels, classes):
    """The share of the training recordings with each class: what is said of a recording that cannot be heard."""
    return pd.Series(targets.matrix(labels, classes).mean(axis=0), index=list(classes), dtype=float)


def recording_probabilities(recordings, clip_probabilities, clips, class_shares):
    """Probabilities of every recording, clips averaged; a recording without clips gets the prior.

    Args: recordings table; clip_probabilities with clip_id and a column per class; clips with clip_id and
        recording_id; class_shares of `prior`. Returns a table indexed like recordings: the classes, and `heard` bool.
    """
    classes = list(class_shares.sort_index().index)
    joined = clip_probabilities.merge(clips[["clip_id", "recording_id"]], on="clip_id")
    means = joined.groupby("recording_id")[classes].mean().reindex(recordings["recording_id"])
    heard = means.notna().all(axis=1)
    means = means.fillna(class_shares).set_axis(recordings.index)
    return means.assign(heard=heard.to_numpy())


def out_of_fold(recordings, predictions):
    """Where there is no test set: the training recordings with their out-of-fold probabilities, in one order."""
    classes = [column for column in predictions if column not in artifacts.IDENTITY]
    table = recordings[recordings["recording_id"].isin(predictions["recording_id"])].reset_index(drop=True)
    probabilities = predictions.set_index("recording_id").loc[table["recording_id"], classes].reset_index(drop=True)
    return table, probabilities.assign(heard=True)


def ids_for(recordings, sample=None):
    """The id of each recording in the submission: as the sample spells it, else its name (or path, if names repeat).

    Raises SubmissionError when sample and files do not match one to one.
    """
    names = recordings["path"].map(lambda path: PurePosixPath(path).name)
    if sample is None:
        return names if names.is_unique else recordings["path"]
    wanted = sample.iloc[:, 0]
    asked = {unicodedata.normalize("NFC", name): name for name in wanted}  # macOS spells accents in two characters
    spellings = [names, names.map(lambda name: PurePosixPath(name).stem), recordings["path"]]
    spellings = [s.map(lambda name: asked.get(unicodedata.normalize("NFC", name), name)) for s in spellings]
    best = max(spellings, key=lambda spelling: spelling.isin(wanted).sum())
    missing, extra = sorted(set(wanted) - set(best)), sorted(set(best) - set(wanted))
    if missing or extra or best.duplicated().any():
        raise SubmissionError(
            f"sample_submission.csv and the test files do not match: {len(missing)} ids without a file "
            f"({', '.join(missing[:5])}), {len(extra)} files without an id ({', '.join(extra[:5])}), "
            f"{int(best.duplicated().sum())} repeated names."
        )
    return best


def build(recordings, probabilities, sample=None, thresholds=None, separator=","):
    """The submission: a row per recording, in the sample's order and with its header if there is one.

    An id and a label: the most probable class, or with thresholds (a Series by class) all classes that reach theirs,
    joined by `separator`. An id and a column per class: the probabilities. Without a sample the first for one label per
    recording, the second for several. Raises SubmissionError for any other header.
    """
    classes = [column for column in probabilities if column not in artifacts.IDENTITY]
    id_column, *columns = header_of(classes, sample, wide=thresholds is not None)
    table = pd.DataFrame({id_column: ids_for(recordings, sample)})
    if len(columns) == 1:
        said = decisions.say(probabilities[classes], thresholds)
        table[columns[0]] = said if thresholds is None else said.map(targets.split).map(separator.join)
    else:
        table[columns] = probabilities[columns].map("{:.6f}".format)
    if sample is not None:
        table = table.set_index(id_column).loc[sample.iloc[:, 0]].reset_index()
    return table


def header_of(classes, sample, wide):
    """The submission's header: the sample's, else filename and label, or with `wide` filename and the classes."""
    if sample is None:
        return ["filename", *(classes if wide else ["label"])]
    if len(sample.columns) != 2 and set(sample.columns[1:]) != set(classes):
        lacking, foreign = sorted(set(classes) - set(sample.columns)), sorted(set(sample.columns[1:]) - set(classes))
        raise SubmissionError(
            f"The sample submission has {len(sample.columns) - 1} columns beside its id, which are not the "
            f"{len(classes)} classes of the training data: {len(lacking)} classes without a column "
            f"({', '.join(lacking[:5])}), {len(foreign)} columns that are no class ({', '.join(foreign[:5])})."
        )
    return list(sample.columns)


def problems(table, expected_ids, labels, separator=None):
    """Everything that is wrong with a submission, in words; an empty list if nothing is.

    Args: table with an id and a label, or an id and a column of probabilities per class; expected_ids; labels the
        classes; separator between several labels, or None for one.

    >>> problems(pd.DataFrame({"filename": ["a", "a"], "label": ["cat", None]}), ["a", "b"], {"cat"})
    ["1 ids appear twice: ['a']", "1 ids are missing: ['b']", '1 labels are missing (NaN)']
    """
    ids, found = table.iloc[:, 0], []
    expected = pd.Index(list(expected_ids))
    if repeated := ids[ids.duplicated()].unique().tolist():
        found.append(f"{len(repeated)} ids appear twice: {repeated[:5]}")
    if missing := expected.difference(ids).tolist():
        found.append(f"{len(missing)} ids are missing: {missing[:5]}")
    if extra := pd.Index(ids.unique()).difference(expected).tolist():
        found.append(f"{len(extra)} ids were not asked for: {extra[:5]}")
    if table.shape[1] > 2:
        return found + _wrong_probabilities(table.iloc[:, 1:])
    given = table.iloc[:, 1]
    if empty := int(given.isna().sum()):
        found.append(f"{empty} labels are missing (NaN)")
    given = given.dropna()
    given = given[given.ne("")].str.split(separator, regex=False).explode() if separator else given
    if unknown := sorted(set(given) - set(labels)):
        found.append(f"{len(unknown)} labels are not classes of the training data: {unknown[:5]}")
    return found


def _wrong_probabilities(table):
    found, numbers = [], table.apply(pd.to_numeric, errors="coerce")
    if empty := int(numbers.isna().sum().sum()):
        found.append(f"{empty} probabilities are missing or no numbers")
    if outside := int((numbers.lt(0) | numbers.gt(1)).sum().sum()):
        found.append(f"{outside} probabilities lie outside 0 to 1")
    return found


def write(table, path, expected_ids, labels, separator=None):
    """Check a submission and put it in place; nothing is written if anything is wrong. Raises SubmissionError."""
    if wrong := problems(table, expected_ids, labels, separator):
        raise SubmissionError("The submission was not written:\n- " + "\n- ".join(wrong))
    artifacts.write_table(path, table)
    read_back = pd.read_csv(path, dtype=str, keep_default_na=False)
    if not np.array_equal(read_back.to_numpy(str), table.to_numpy(str)):
        raise SubmissionError(f"{path} does not read back as it was written")
