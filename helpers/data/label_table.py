"""What tables say of each recording: labels, and when they hold; its company, fold and side."""

import ast
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

import pandas as pd

from helpers.base import tables, targets
from helpers.base.errors import SourceError
from helpers.layouts import annotations, filenames
from helpers.layouts.columns import TABLE, ZERO_OR_ONE

UNKNOWN = ("?", "nan")  # labels that are none: withheld, or left empty by another program


def gather(root: Path, data) -> pd.DataFrame:
    """All tables of labels as one.

    Tables of the same columns follow each other, others are joined on shared columns. Where they
        are told apart (data.split_column is "table"), a column has their names. Args: root data
        folder; data the config's Data section. Raises SourceError.
    """
    whole = None
    for name in data.tables:
        table = annotations.read(root, name)
        if data.split_column == TABLE and TABLE not in table:
            table[TABLE] = name
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


def read(root: Path, data) -> pd.DataFrame:
    """A row per id of the tables: label (as in targets), together, official_fold, test; secondary
    and weight where data.secondary_column and data.weight_column name their columns.

    The labels are one column, of one label or of several with data.label_separator between them;
    or, where all columns but the id hold 0 and 1 only, a column per class. Raises SourceError
    saying what is wrong with the table.
    """
    table = gather(root, data)
    where = ", ".join(data.tables)
    ids = _ids(table, data, where)
    rows = pd.DataFrame({"id": ids, "label": _labels(table, ids.name, data, where)})
    rows["together"] = _together(table, data, where)
    rows["official_fold"] = None
    if data.fold_column:
        rows["official_fold"] = filenames.folds(tables.column(table, data.fold_column, where))
    rows["test"] = False
    rows["validation"] = False
    if data.split_column:
        side = tables.column(table, data.split_column, where)
        rows["test"] = side.eq(data.test_value)
        rows["validation"] = side.eq(data.validation_value)
    if data.start_column:
        _unite_events(rows, data, where)
    _refuse_differing(rows, where)
    rows = rows.assign(**_sureness(table, data, where))
    return rows.drop_duplicates("id").set_index("id")


def _ids(table, data, where):
    return tables.column(table, data.id_column or table.columns[0], where).map(tables.spelling)


def _unite_events(rows, data, where):
    """Give every event of a recording the labels of all of them."""
    labels = rows.groupby("id")["label"]
    if not data.multilabel and labels.nunique().gt(1).any():
        raise SourceError(
            f"{where} marks events of several classes in a recording: set data.multilabel=true."
        )
    rows["label"] = rows["id"].map(labels.agg(targets.union))


def _refuse_differing(rows, where):
    """Stop where rows of one id differ in what they say of it."""
    differing = rows.groupby("id").nunique() > 1
    ids = differing.index[differing.any(axis=1)]
    if ids.empty:
        return
    what = "labels" if differing.at[ids[0], "label"] else "folds, sides or groups"
    numbers = rows.index[rows["id"].eq(ids[0])] + 2
    raise SourceError(
        f"{where} gives {len(ids)} ids several {what}: {', '.join(ids[:5])} "
        f"(rows {', '.join(map(str, numbers[:5]))})."
    )


def match(
    root: Path, recordings: list[str], tested: set[str], data
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What the tables say of recordings, by their paths; those that they do not list are left out.

    Args: root data folder; recordings relative paths; tested those of the test side: a test file
        may have a training file's name, so its whole path counts, unless the tables say themselves
        what is tested.
    Returns (table of `read` indexed by path, the rows of `read` without a recording).
    Raises SourceError where no id is a recording's, or one is several recordings'.
    """
    facts = read(root, data)
    where = ", ".join(data.tables)
    facts = facts.rename(index=below(facts.index, recordings))
    keys = {
        path: id_of(path, facts.index, whole=path in tested and not data.split_column)
        for path in recordings
    }
    keys = pd.Series(keys, dtype=object).dropna()
    if keys.empty:
        raise SourceError(
            f"None of the ids of {where} ({', '.join(facts.index[:3])}, …) is the path or the name "
            f"of a recording ({', '.join(recordings[:3])}, …). Another column may hold the names: "
            "data.id_column."
        )
    if (several := keys[keys.duplicated(keep=False)]).size:
        twins = several.index[several.eq(several.iloc[0])]
        raise SourceError(
            f"{several.nunique()} ids of {where} fit several files, such as "
            f"{' and '.join(twins[:3])}: write their paths into the table."
        )
    return facts.loc[keys].set_axis(keys.index), facts.drop(index=keys)


def segments(root: Path, recordings: pd.DataFrame, data) -> pd.DataFrame:
    """When the labels of recordings hold: a row per event.

    Args: root; recordings table with recording_id and path; data with start_column and end_column.
    Returns a table recording_id, start_seconds, end_seconds, label.
    """
    table = gather(root, data)
    where = ", ".join(data.tables)
    ids = _ids(table, data, where)
    paths = ids.replace(below(set(ids), recordings["path"]))
    listed = set(paths)
    names = recordings["path"].map(lambda path: id_of(path, listed))
    identities = dict(zip(names, recordings["recording_id"], strict=True))
    start = pd.to_numeric(tables.column(table, data.start_column, where), "coerce")
    end = pd.to_numeric(tables.column(table, data.end_column, where), "coerce")
    if not (timed := end.ge(start)).all():
        raise SourceError(
            f"{where}, row {timed.idxmin() + 2}: {data.start_column} and {data.end_column} are no "
            "times in seconds."
        )
    labels = _labels(table, ids.name, data, where)
    events = pd.DataFrame({"start_seconds": start, "end_seconds": end, "label": labels})
    events.insert(0, "recording_id", paths.map(identities))
    return events.dropna(subset="recording_id").reset_index(drop=True)


def label_clips(clips: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
    """The training clips that touch an event, labelled by those they touch.

    All other clips stay as they are. Args: clips table with recording_id, start_seconds,
        valid_seconds, label, split; events of `segments`.
    """
    joined = clips.reset_index().merge(events, on="recording_id", suffixes=("", "_event"))
    ends = joined["start_seconds"] + joined["valid_seconds"]
    touching = joined[
        (joined["end_seconds"] > joined["start_seconds"]) & (joined["start_seconds_event"] < ends)
    ]
    heard = touching.groupby("index")["label_event"].agg(targets.union)
    learned = clips["split"].eq("train")
    kept = ~learned | clips.index.isin(heard.index)
    labels = heard.reindex(clips.index).where(learned).fillna(clips["label"])
    return clips.assign(label=labels)[kept].reset_index(drop=True)


def below(ids: Collection[str], recordings: Iterable[str]) -> dict[str, str]:
    """The paths of recordings for ids that are written from further up, or as Windows does.

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


def asked_for(root: Path, recordings: Iterable[str], name: str) -> list[str]:
    """Those of the paths that a table or list names, by the column that names the most."""
    table = annotations.read(root, name)
    named = []
    for column in table:
        whole = {tables.places(text)[0] for text in table[column]}
        ends = {end for text in table[column] for end in tables.places(text)}
        exactly = [path for path in recordings if id_of(path, whole)]
        named.append(exactly or [path for path in recordings if id_of(path, ends)])
    return max(named, key=len)


def id_of(path: str, ids: Collection[str], whole: bool = False) -> str | None:
    """The id under which a table lists a file; None where it does not.

    Its path; unless the `whole` of it is asked for, the end of the path, the name; each of them
    also without extension.
    """
    place = tables.spelling(path)
    names = tables.with_and_without(place) if whole else tables.spellings(place)
    return next((key for key in names if key in ids), None)


# --- labels, by the shape of the table


def _labels(table, id_column, data, where):
    """The label of each row, as in targets."""
    facts = [id_column, data.secondary_column, data.weight_column]
    facts += [data.start_column, data.end_column]
    facts += [data.fold_column, data.split_column, *data.group_columns]
    rest = table.drop(columns=facts, errors="ignore")
    is_flag = rest.isin(ZERO_OR_ONE).all()
    if not data.label_column and rest.shape[1] > 1 and is_flag.all():
        lists = _of_flags(rest)
    else:
        name = data.label_column or next(iter(rest), None)
        lists = _of_column(table, name, data, where)
        if not data.label_column and is_flag[:1].all():
            _refuse_spoilt_flags(rest, is_flag, where)
    lists = lists.map(_without_unknown)
    _check_labels(lists, data, where)
    return lists.map(targets.join)


def _of_flags(flags):
    """Lists of labels from a table with a column of 0 and 1 per class."""
    rows = flags.astype(float).eq(1).to_numpy()
    return pd.Series([flags.columns[row].tolist() for row in rows], flags.index, dtype=object)


def _of_column(table, name, data, where):
    """Lists of labels from a column of one label, or of several, and one of secondary labels."""
    texts = tables.column(table, name, where)
    if not data.multilabel:
        return texts.map(lambda text: [text])
    lists = texts.map(lambda text: _listed(text, data.label_separator))
    return lists + _secondary(table, lists, data, where) if data.secondary_column else lists


def _secondary(table, firsts, data, where):
    """Lists of the labels of data.secondary_column, without those that are no row's first label."""
    classes = {name.strip() for names in firsts for name in names}
    others = tables.column(table, data.secondary_column, where)
    lists = others.map(lambda text: _without_unknown(_listed(text, data.label_separator)))
    return lists.map(lambda names: [name for name in names if name in classes])


def _sureness(table, data, where):
    """What is said besides the label: the secondary ones, as a label, and what a row is worth.

    Weights are relative to the highest.
    """
    columns = {}
    if data.secondary_column and data.multilabel and data.label_column:
        texts = tables.column(table, data.label_column, where)
        firsts = texts.map(lambda text: _listed(text, data.label_separator))
        others = _secondary(table, firsts, data, where)
        pairs = zip(others, firsts, strict=True)
        columns["secondary"] = [targets.join(set(also) - set(first)) for also, first in pairs]
    if data.weight_column:
        texts = tables.column(table, data.weight_column, where)
        weights = pd.to_numeric(texts, errors="coerce").astype(float)
        weights = weights.where(weights > 0) / weights.max()
        columns["weight"] = weights.fillna(weights.mean()).fillna(1.0)
    return columns


def _without_unknown(names):
    names = [name.strip() for name in names]
    return [name for name in names if name and name not in UNKNOWN]


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
    together = pd.Series("", table.index)
    for name in data.group_columns:
        values = tables.column(table, name, where).str.replace("|", "/", regex=False)
        together += (f"{targets.SEPARATOR}{name}=" + values).where(values.ne(""), "")
    return together.str.removeprefix(targets.SEPARATOR)


def _refuse_spoilt_flags(table, is_flag, where):
    spoiling = table.columns[~is_flag]
    if 0 < len(spoiling) < table.shape[1] - 1:
        raise SourceError(
            f"{where} looks like a column of 0 and 1 per class, but {', '.join(spoiling[:5])} "
            "holds something else: take it out, or name data.label_column."
        )


def _check_labels(lists, data, where):
    """Refuse several labels where one is expected, and names that would fall apart."""
    several = int(lists.map(len).gt(1).sum())
    if several and not data.multilabel:
        raise SourceError(
            f"{where} has {several} rows with several labels: set data.multilabel=true."
        )
    names = {name for row in lists for name in row}
    split_up = sorted(name for name in names if targets.SEPARATOR in name)
    if split_up and data.multilabel:
        raise SourceError(
            f"{where}: a class name cannot hold {targets.SEPARATOR!r}: {', '.join(split_up[:5])}"
        )
    if not names:
        warnings.warn(f"{where} gives no recording a label", stacklevel=2)
