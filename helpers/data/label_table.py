"""What tables say of each recording: its labels, when they hold, who belongs together, its fold,
its side.
"""

import ast
import re
import warnings
from collections import Counter

import pandas as pd

from helpers.base import tables, targets
from helpers.base.errors import SourceError

ZERO_OR_ONE = ["0", "1", "0.0", "1.0"]
UNKNOWN = {"?", "nan"}  # labels that are none: withheld, or left empty by another program
MISSING = "MISSING"


def gather(root, data):
    """All tables of labels as one: tables of the same columns follow each other, others are joined
    on shared columns.

    Args: root data folder; data the config's Data section. Raises SourceError.
    """
    whole = None
    for name in data.tables:
        table = tables.read(root / name, name)
        if whole is None:
            whole = table
        elif set(table) == set(whole):
            whole = pd.concat([whole, table], ignore_index=True)
        elif shared := [column for column in whole if column in table]:
            whole = whole.merge(table, how="left", on=shared).fillna("")
        else:
            raise SourceError(
                f"{name} shares no column with {data.tables[0]}: they cannot be joined."
            )
    for column, wanted in data.where:
        whole = whole[tables.column(whole, column, data.tables[0]).eq(wanted)]
    return whole


def read(root, data):
    """A row per id of the tables: ``label`` (joined as in targets), ``together``,
    ``official_fold``, ``test``.

    The labels are one column, of one label or of several with data.label_separator between them;
    or, where all columns but the id hold 0 and 1 only, a column per class. Raises SourceError
    saying what is wrong with the table.
    """
    table, where = gather(root, data), ", ".join(data.tables)
    ids = tables.column(table, data.id_column or table.columns[0], where).map(tables.spelling)
    lists = _labels(table, ids.name, data, where)
    facts = pd.DataFrame({"id": ids, "label": lists.map(targets.join)})
    facts["together"] = _together(table, data, where)
    facts["official_fold"] = (
        _folds(tables.column(table, data.fold_column, where)) if data.fold_column else None
    )
    facts["test"] = (
        tables.column(table, data.split_column, where).eq(data.test_value)
        if data.split_column
        else False
    )
    if (
        data.start_column
        and not data.multilabel
        and facts.groupby("id")["label"].nunique().gt(1).any()
    ):
        raise SourceError(
            f"{where} marks events of several classes in a recording: set data.multilabel=true."
        )
    if data.start_column:
        united = lists.groupby(ids).agg(lambda rows: targets.union(map(targets.join, rows)))
        facts["label"] = facts["id"].map(united)
    said = ["label", "together", "official_fold", "test"]
    differing = facts.groupby("id")[said].nunique().max(axis=1)
    if (differing := differing.index[differing > 1]).size:
        what = (
            "labels"
            if facts.loc[facts["id"].eq(differing[0]), "label"].nunique() > 1
            else "folds, sides or groups"
        )
        rows = [number + 2 for number in facts.index[facts["id"].eq(differing[0])]]
        raise SourceError(
            f"{where} gives {len(differing)} ids several {what}: {', '.join(differing[:5])} "
            f"(rows {', '.join(map(str, rows[:5]))})."
        )
    return facts.drop_duplicates("id").set_index("id")


def match(root, recordings, tested, data):
    """What the tables say of recordings, by their paths; those that they do not list are left out.

    Args: root data folder; recordings relative paths; tested those of the test side: a test file
        may have a training file's name, so its whole path counts, unless the tables say themselves
        what is tested.
    Returns (table of `read` indexed by path, the rows of `read` without a recording).
    Raises SourceError where no id is a recording's, or one is several recordings'.
    """
    facts, where = read(root, data), ", ".join(data.tables)
    facts = facts.rename(index=below(facts.index, recordings))
    keys = {
        path: id_of(path, facts.index, whole=path in tested and not data.split_column)
        for path in recordings
    }
    keys = pd.Series(keys, dtype=object).dropna()
    if keys.empty:
        raise SourceError(
            f"None of the ids of {where} ({', '.join(facts.index[:3])}, …) is the path or the name of a recording "
            f"({', '.join(recordings[:3])}, …). Another column may hold the names: data.id_column."
        )
    if (several := keys[keys.duplicated(keep=False)]).size:
        twins = several.index[several.eq(several.iloc[0])]
        raise SourceError(
            f"{several.nunique()} ids of {where} fit several files, such as {' and '.join(twins[:3])}: "
            "write their paths into the table."
        )
    return facts.loc[keys].set_axis(keys.index), facts.drop(index=keys)


def segments(root, recordings, data):
    """When the labels of recordings hold: a table recording_id, start_seconds, end_seconds, label;
    a row per event.

    Args: root; recordings table with recording_id and path; data with start_column and end_column.
    """
    table, where = gather(root, data), ", ".join(data.tables)
    ids = tables.column(table, data.id_column or table.columns[0], where).map(tables.spelling)
    ids = ids.replace(below(set(ids), recordings["path"]))
    listed = set(ids)
    known = {
        id_of(path, listed): identity
        for identity, path in recordings[["recording_id", "path"]].to_numpy()
    }
    times = [
        pd.to_numeric(tables.column(table, name, where), "coerce")
        for name in (data.start_column, data.end_column)
    ]
    found = pd.DataFrame(
        {"recording_id": ids.map(known), "start_seconds": times[0], "end_seconds": times[1]}
    )
    found["label"] = _labels(table, ids.name, data, where).map(targets.join)
    if (
        wrong := found["start_seconds"].isna() | ~(found["end_seconds"] >= found["start_seconds"])
    ).any():
        row = int(wrong.idxmax())
        raise SourceError(
            f"{where}, row {row + 2}: {data.start_column} and {data.end_column} are no times in seconds."
        )
    return found.dropna(subset="recording_id").reset_index(drop=True)


def label_clips(clips, events):
    """The training clips that touch an event, labelled by those they touch; clips of the test side
    as they are.

    Args: clips table with recording_id, start_seconds, valid_seconds, label, split; events of
        `segments`.
    """
    joined = clips.reset_index().merge(events, on="recording_id", suffixes=("", "_event"))
    ends = joined["start_seconds"] + joined["valid_seconds"]
    touching = joined[
        (joined["end_seconds"] > joined["start_seconds"]) & (joined["start_seconds_event"] < ends)
    ]
    heard = touching.groupby("index")["label_event"].agg(targets.union)
    kept = clips["split"].eq("test") | clips.index.isin(heard.index)
    labels = heard.reindex(clips.index).where(clips["split"].ne("test")).fillna(clips["label"])
    return clips.assign(label=labels)[kept].reset_index(drop=True)


def below(ids, recordings):
    """The paths of recordings for ids written otherwise: from further up, or in the manner of
    Windows.

    >>> below(["set/a/1.wav", "2.wav"], ["a/1.wav", "a/2.wav"])
    {'set/a/1.wav': 'a/1.wav'}
    """
    paths = {end for path in recordings for end in tables.with_and_without(tables.spelling(path))}
    fitting = {}
    for name in ids:
        ends = [end for end in tables.places(name) if end in paths]
        if ends and name not in paths:
            fitting[name] = ends[0]
    counts = Counter(fitting.values())
    return {name: end for name, end in fitting.items() if counts[end] == 1 and end not in ids}


def asked_for(root, recordings, data):
    """Those of the recordings' paths that data.test_csv names, in whichever column names the most."""
    table = tables.read(root / data.test_csv, data.test_csv)
    columns = [{end for text in table[name] for end in tables.places(text)} for name in table]
    return max(([path for path in recordings if id_of(path, ids)] for ids in columns), key=len)


def id_of(path, ids, whole=False):
    """The id under which a table lists a file; None where it does not.

    Its path; unless the `whole` of it is asked for, the end of the path, the name; each of them
    also without extension.
    """
    place = tables.spelling(path)
    names = tables.with_and_without(place) if whole else tables.spellings(place)
    return next((key for key in names if key in ids), None)


def _labels(table, id_column, data, where):
    """The labels of each row, as a Series of lists."""
    facts = {
        data.secondary_column,
        data.start_column,
        data.end_column,
        data.fold_column,
        data.split_column,
    }
    flags = table.drop(columns=[id_column, *(facts | set(data.group_columns)) & set(table)])
    if not data.label_column and flags.shape[1] > 1 and flags.isin(ZERO_OR_ONE).all(axis=None):
        lists = pd.Series(
            [list(flags.columns[row]) for row in flags.astype(float).to_numpy() == 1], table.index
        )
    else:
        texts = tables.column(table, data.label_column or (*flags.columns, None)[0], where)
        lists = texts.map(
            lambda text: _listed(text, data.label_separator) if data.multilabel else [text]
        )
        _check_flags(flags, data, where)
    if data.secondary_column and data.multilabel:
        lists += tables.column(table, data.secondary_column, where).map(
            lambda text: _listed(text, data.label_separator)
        )
    lists = lists.map(
        lambda names: [
            name.strip() for name in names if name.strip() and name.strip() not in UNKNOWN
        ]
    )
    _check_labels(lists, data, where)
    return lists


def _listed(text, separator):
    """The labels in a cell: with a separator between them, or as Python writes a list.

    >>> _listed("a,b", ","), _listed("['a', 'b']", " ")
    (['a', 'b'], ['a', 'b'])
    """
    if re.fullmatch(r"\[.*\]", text):
        try:
            return [str(name) for name in ast.literal_eval(text)]
        except (SyntaxError, ValueError):
            text = text[1:-1]
    return text.split(separator)


def _together(table, data, where):
    """What binds recordings beside their names: "author=Ann|site=3"; empty values bind nothing."""
    columns = [tables.column(table, name, where) for name in data.group_columns]
    pairs = [
        column.map(
            lambda value, name=column.name: f"{name}={value.replace('|', '/')}" if value else ""
        )
        for column in columns
    ]
    return (
        [targets.SEPARATOR.join(filter(None, row)) for row in zip(*pairs, strict=True)]
        if pairs
        else ""
    )


def _folds(texts):
    """Numbers of official folds: "3", "fold3" or "3.0"; missing where there is no number."""
    return pd.to_numeric(texts.str.extract(r"(\d+)")[0]).astype("Int64")


def _check_flags(flags, data, where):
    spoiling = [name for name in flags if not flags[name].isin(ZERO_OR_ONE).all()]
    if (
        not data.label_column
        and 0 < len(spoiling) < flags.shape[1] - 1
        and flags.columns[0] not in spoiling
    ):
        raise SourceError(
            f"{where} looks like a column of 0 and 1 per class, but {', '.join(spoiling[:5])} "
            "holds something else: take it out, or name data.label_column."
        )


def _check_labels(lists, data, where):
    """Refuse several labels where one is expected, and names that would fall apart or differ in
    case alone.
    """
    if not data.multilabel and (several := int(lists.map(len).gt(1).sum())):
        raise SourceError(
            f"{where} has {several} rows with several labels: set data.multilabel=true."
        )
    names = {name for row in lists for name in row}
    if data.multilabel and (split_up := {name for name in names if targets.SEPARATOR in name}):
        raise SourceError(
            f"{where}: a class name cannot hold {targets.SEPARATOR!r}: {', '.join(sorted(split_up)[:5])}"
        )
    if not any(lists):
        warnings.warn(f"{where} gives no recording a label", stacklevel=2)
