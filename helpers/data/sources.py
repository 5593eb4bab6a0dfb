"""Finds recordings and their labels.

A folder of recordings is read as it is found: the class is the folder that holds a file, anything
below a folder named ``test`` is the test set. Tables of labels (``label_table``) and file names
(``grammars``) say more where the config names them. Every file found is accounted for: it is audio,
or it is ignored and said to be so; so is every row of a table that has no file.
"""

import hashlib
import json
import os
import re
import unicodedata
import warnings
from pathlib import Path, PurePosixPath

import pandas as pd

from helpers.base import artifacts, tables, targets
from helpers.base.errors import SourceError
from helpers.data import filenames, label_table, layouts, relabel
from helpers.data.layouts import AUDIO_SUFFIXES, TEST_NAMES

TRAIN_NAMES = {"train", "training", "train_audio", "audio_train", "train_short_audio", "src_wavs"}
CONTAINERS = {"audio", "data", "wav", "wavs", "recordings", "clips", "sounds"}
SOURCES_KEPT = 3  # of a class, where data.max_per_class leaves recordings out
ELSEWHERE = "lies below none of data.train_folders"
FOUND = (
    "recording_id",
    "path",
    "label",
    "split",
    "source",
    "together",
    "official_fold",
    "status",
    "reason",
)


def find(root, data, edits=None):
    """List every file below `root` with its label.

    Args: root folder; data the config's Data section; edits labels changed by hand, as of
        `relabel.read_relabel`.
    Returns a table, a row per file in path order: recording_id (from the relative path), path
        (relative, "/"), label ("" if none), split (train / test), source (what it was cut from, ""
        if not known), together (what binds it to others by the tables, "" if nothing),
        official_fold (missing if none), status (ok / quarantined / ignored), reason.
    Raises SourceError if there is no audio, or fewer than two classes.
    """
    data = _esc50(root, data)
    files = sorted(_walk(root))
    table = pd.DataFrame(
        [_file(root, path, data) for path in files], columns=[*FOUND[:2], "split", *FOUND[-2:]]
    )
    _refuse_twins(table)
    table = _tested_by_table(root, table, data) if data.test_csv else table
    table = _name_facts(table.assign(label="", together=""), data)
    table = _labels_of_tables(root, table, data) if data.tables else _labels_of_places(table, data)
    table = _settle_labels(table, data)
    table = _no_sources_where_they_are_the_classes(table, data)
    if edits:
        table, _ = relabel.apply(table, edits, data.multilabel)
        _refuse_class_twins(set(targets.classes(table[table["status"].eq("ok")], data.multilabel)))
    if data.max_per_class:
        table = _thin_out(table, data.max_per_class, data.multilabel)
    _check_classes(table, root, data.multilabel)
    return table[list(FOUND)]


def recording_id(path):
    """Identity of a recording: 12 hex digits of its relative path's SHA-256, so equal stems never
    collide.
    """
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


# --- files
# -------------------------------------------------------------------------------------------------


def _walk(root):
    """Relative posix paths of everything below root that is not a folder, or is one that passes for
    a recording.

    Links to folders are not followed.
    """
    for folder, folders, names in os.walk(root):
        odd = [
            name for name in folders if os.path.islink(os.path.join(folder, name)) or _sounds(name)
        ]
        for name in names + odd:
            yield (Path(folder) / name).relative_to(root).as_posix()


def _sounds(name):
    return PurePosixPath(name).suffix.casefold() in AUDIO_SUFFIXES


def _file(root, path, data):
    """A file's recording_id, path as text, split, status and reason, before anything is known of
    its label.
    """
    split = "test" if _lies_below(path, data.test_folders, TEST_NAMES) else "train"
    elsewhere = (
        split == "train" and data.train_folders and not _lies_below(path, data.train_folders, ())
    )
    safe = os.fsencode(path).decode("utf-8", "backslashreplace")
    return recording_id(path), safe, split, *(_status(root, path) or _placed(elsewhere))


def _placed(elsewhere):
    return ("ignored", ELSEWHERE) if elsewhere else ("ok", "")


def _lies_below(path, folders, names):
    """Whether a path lies below one of the folders; where none are given, below a folder of one of
    the names.
    """
    place = PurePosixPath(path)
    if folders:
        return any(place.is_relative_to(folder) for folder in folders)
    return any(part.casefold() in names for part in place.parts[:-1])


def _status(root, path):
    """(status, reason) of a file that is no recording, or one that must not be opened; None of any
    other.
    """
    place = Path(root) / path
    if any(part.startswith(".") for part in PurePosixPath(path).parts) or "__MACOSX" in path:
        return "ignored", "hidden or system file"
    if place.is_symlink() and place.is_dir():
        return "ignored", "a link to a folder, not followed: copy the folder, or give it as DATA"
    if not _sounds(path):
        return "ignored", "not an audio file by its name"
    if not _is_utf8(path):
        return "quarantined", "NAME_UNSAFE: the name is not valid UTF-8; rename the file"
    if place.is_symlink():
        try:
            inside = place.resolve(strict=True).is_relative_to(Path(root).resolve())
        except (RuntimeError, OSError):
            return "quarantined", "UNREADABLE: a link that leads nowhere, or to itself"
        if not inside:
            return (
                "quarantined",
                "OUTSIDE_ROOT: a link to a file outside the data folder; copy the file",
            )
    return None


def _is_utf8(path):
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_twins(table):
    """Stop where two recordings' paths differ in case or in the spelling of accents alone:
    elsewhere they are one.
    """
    paths = table.loc[table["status"].eq("ok"), "path"]
    spelled = paths.map(tables.spelling).str.casefold()
    if (twins := paths[spelled.duplicated(keep=False)]).size:
        pair = twins[spelled[twins.index].eq(spelled[twins.index[0]])].tolist()
        raise SourceError(
            f"ID_COLLISION: {len(twins)} recordings have names that differ in case or in the spelling of accents "
            f"alone, such as {' and '.join(map(ascii, pair[:3]))}. Rename or remove one of each."
        )


def _tested_by_table(root, table, data):
    """The table with the recordings that data.test_csv names on the test side."""
    heard = table.loc[table["status"].ne("ignored"), "path"]
    table.loc[table["path"].isin(label_table.asked_for(root, heard, data)), "split"] = "test"
    return table


# --- labels
# ------------------------------------------------------------------------------------------------


def _name_facts(table, data):
    """Add `source`, `official_fold` and `named`, a label: read from the names by a known grammar or
    the pattern.
    """
    train = table.loc[table["status"].eq("ok") & table["split"].eq("train"), "path"]
    _, pattern = filenames.grammar_of(train, data.name_pattern)
    if data.name_pattern != "auto":
        filenames.check_fits(data.name_pattern, train)
    facts = filenames.facts(table["path"], pattern).reindex(columns=["group", "fold", "label"])
    return table.assign(
        source=facts["group"], official_fold=filenames.folds(facts["fold"]), named=facts["label"]
    )


def _labels_of_places(table, data):
    """Labels from the file names where the pattern reads one, else from the class folders."""
    ok, by_name = table["status"].eq("ok"), "(?P<label>" in data.name_pattern
    folders = table["path"].map(
        lambda path: _folder_label(PurePosixPath(path).parts[:-1], data.label_pattern)
    )
    table = table.assign(label=(table["named"] if by_name else folders).where(ok, ""))
    where = "the file name tells no label" if by_name else "the file lies in no class folder"
    return _set_aside_unlabelled(table, f"NO_LABEL: {where}")


def _folder_label(folders, pattern):
    """The class that a file's folders name: the innermost one, unless that is a mere container."""
    name = folders[-1] if folders else ""
    if name.casefold() in TRAIN_NAMES | TEST_NAMES | CONTAINERS:
        return ""
    if pattern and (match := re.fullmatch(pattern, name)):
        return match.group(1)
    return name


def _labels_of_tables(root, table, data):
    """Labels and more from the tables. A training file that they do not list is left out; a row
    without a file is listed as missing.
    """
    ok, where = table["status"].eq("ok"), ", ".join(data.tables)
    there = table["status"].ne("ignored")
    tested = set(table.loc[there & table["split"].eq("test"), "path"])
    facts, missing = label_table.match(root, table.loc[there, "path"].tolist(), tested, data)
    elsewhere = table.loc[table["reason"].eq(ELSEWHERE) | table["split"].eq("test"), "path"]
    missing = missing.drop(
        index={label_table.id_of(path, missing.index) for path in elsewhere} - {None}
    )
    facts = facts.reindex(table["path"]).set_axis(table.index)
    listed = facts["label"].notna()
    table = table.assign(label=facts["label"].fillna(""), together=facts["together"].fillna(""))
    table.loc[facts["test"].eq(True), "split"] = "test"
    if data.fold_column:
        table["official_fold"] = facts["official_fold"].astype("Int64")
    table.loc[ok & ~listed & table["split"].eq("train"), ["status", "reason"]] = (
        "ignored",
        f"not listed in {where}",
    )
    if not data.multilabel:  # to hear none of the classes is an answer too
        table = _set_aside_unlabelled(table, "NO_LABEL: the table gives it none")
    return pd.concat([table, _missing(root, missing, where)], ignore_index=True).astype(
        {"official_fold": "Int64"}
    )


def _missing(root, lost, where):
    """Rows for what a table lists and the folder lacks; a path that leads out of the folder is said
    to.
    """
    top = Path(root).resolve()
    outside = [not Path(os.path.realpath(top / path)).is_relative_to(top) for path in lost.index]
    code = (
        "MISSING: listed in {}, but there is no such file",
        "OUTSIDE_ROOT: {} names a file outside the data folder",
    )
    rows = pd.DataFrame({"path": lost.index, "status": "quarantined", "official_fold": None})
    rows["recording_id"] = [recording_id(f"{where}:{path}") for path in lost.index]
    rows["split"] = ["test" if test else "train" for test in lost["test"]]
    rows["reason"] = [code[out].format(where) for out in outside]
    return rows.assign(label="", source="", together="", named="")


def _set_aside_unlabelled(table, reason):
    unlabelled = table["status"].eq("ok") & table["split"].eq("train") & table["label"].eq("")
    table.loc[unlabelled, ["status", "reason"]] = "quarantined", reason
    return table


def _esc50(root, data):
    """Where the ESC-50 archive lies, its table is read as any other."""
    place = Path(root) / "meta" / "esc50.csv"
    if data.tables or not place.is_file():
        return data
    names = data.rename or tuple(
        (name, name.replace("_", " ")) for name in tables.read(place)["category"].unique()
    )
    keys = {
        "labels_csv": "meta/esc50.csv",
        "id_column": "filename",
        "label_column": "category",
        "rename": names,
    }
    keys |= {"fold_column": "fold", "group_columns": ("src_file",), "train_folders": ("audio",)}
    return data.model_copy(
        update={**keys, "where": (("esc10", "True"),) if data.source == "esc10" else data.where}
    )


def _settle_labels(table, data):
    """Labels as the config calls them: renamed, joined into `other`, left out; on the test side
    only known classes.
    """
    several = data.multilabel
    settled = {label: _settled(label, data) for label in table["label"].unique()}
    left_out = table["label"].ne("") & table["label"].map(settled).eq("")
    train = table["split"].eq("train") & table["status"].eq("ok")
    why = "left out: data.exclude" if not data.classes else "left out: not one of data.classes"
    table.loc[train & left_out, ["status", "reason"]] = "ignored", why
    table["label"] = table["label"].map(settled).where(table["status"].eq("ok"), "")
    ok = table[table["status"].eq("ok")]
    classes = set(targets.classes(ok, several))
    _refuse_class_twins(classes)
    named = table["label"].map(lambda label: set(targets.split(label) if several else [label]))
    stray = table["split"].eq("test") & ~named.map(classes.issuperset)
    table.loc[stray, "label"] = ""
    return table


def _settled(label, data):
    """One recording's label after renaming and leaving out; "" where nothing is left."""
    names = [
        tables.spelling(name).strip()
        for name in (targets.split(label) if data.multilabel else [label])
    ]
    names = [dict(data.rename).get(name, name) for name in names if name]
    if data.classes:
        names = [name if name in data.classes else data.other for name in names]
    names = [name for name in names if name and name not in data.exclude]
    return targets.join(names) if data.multilabel else "".join(names)


def _no_sources_where_they_are_the_classes(table, data):
    """Sources that a known grammar reads bind nothing where every class has a single one: no class
    could be tested.

    So it is where the speakers are the classes, or where one speaker says everything.
    """
    train = table[table["status"].eq("ok") & table["split"].eq("train") & table["source"].ne("")]
    per_class = (
        targets.by_class(train, data.multilabel).groupby("label")["source"].agg(["size", "nunique"])
    )
    single = len(per_class) > 1 and per_class["nunique"].max() == 1 and per_class["size"].max() > 1
    if not single or data.name_pattern != "auto" or table["official_fold"].notna().any():
        return table
    warnings.warn(
        f"Every class has one source by the file names (such as {train['source'].iloc[0]!r}): names do not bind "
        "recordings together here, and scores hold for these sources alone.",
        stacklevel=2,
    )
    return table.assign(source="")


def _refuse_class_twins(classes):
    """Stop where two classes differ in case or in spaces alone: most likely they are one."""
    spelled = pd.Series(
        {name: " ".join(name.casefold().split()) for name in sorted(classes)}, dtype=object
    )
    if (twins := spelled[spelled.duplicated(keep=False)]).size:
        one, other = twins.index[twins.eq(twins.iloc[0])][:2]
        raise SourceError(
            f"The classes {', '.join(map(repr, twins.index[:6]))} differ in case or in spaces alone. Rename the "
            f"folders or labels, or say that they are one: data.rename: {{{one!r}: {other!r}}}."
        )


def _refuse_names(classes):
    """Stop where a class has a name that tables with a column per class cannot hold."""
    reserved = sorted(set(classes) & artifacts.IDENTITY)
    broken = sorted(
        name for name in classes if any(unicodedata.category(letter) == "Cc" for letter in name)
    )
    if names := [*reserved, *broken]:
        why = (
            "tables of probabilities have a column of that name"
            if reserved
            else "it holds a line break or the like"
        )
        raise SourceError(
            f"A class cannot be called {', '.join(map(repr, names[:6]))}: {why}. Rename the folder or label, or give "
            f"it another name in a preset: data.rename: {{{json.dumps(names[0])}: another name}}."
        )


def _thin_out(table, max_per_class, multilabel):
    """Leave out all but a few training recordings of each class, in the order of hashed sources.

    The same sources are kept in every class, three of them where there are as many, so that the few
    that are left can still be dealt into folds. The test side is never thinned: every test file
    needs its row in the submission.
    """
    ok = table[table["status"].eq("ok") & table["split"].eq("train")]
    source = ok["source"].where(ok["source"].ne(""), ok["together"])
    source = source.where(source.ne(""), ok["recording_id"]).map(recording_id)
    label = targets.rarest(ok["label"]) if multilabel else ok["label"]
    ok = ok.assign(_group=source, label=label).sort_values(["_group", "path"])
    turn = ok.groupby(["label", "_group"]).cumcount() // max(1, max_per_class // SOURCES_KEPT)
    order = (
        ok.assign(_turn=turn).sort_values(["_turn", "_group", "path"]).groupby("label").cumcount()
    )
    surplus = order[order >= max_per_class].index
    table.loc[surplus, ["status", "reason"]] = (
        "ignored",
        f"left out: data.max_per_class is {max_per_class}",
    )
    return table


def _hint(root):
    """How a table below the folder may hold the labels, or why it cannot be read; "" where there is
    none.
    """
    names = layouts.label_tables(root)
    if not names:
        return ""
    try:
        columns = ", ".join(tables.read(Path(root) / names[0], names[0]))
    except SourceError as error:
        return f" {error}"
    return (
        f" If the labels are in a table, name it and its columns: data.labels_csv={names[0]} "
        f"data.id_column=… data.label_column=… (it has {columns})."
    )


def _check_classes(table, root, multilabel):
    train = table[table["status"].eq("ok") & table["split"].eq("train")]
    if train.empty:
        raise SourceError(
            f"No labelled audio was found below {root}: {len(table)} files, none of them a recording in a class "
            f"folder. Expected <folder>/<class>/<recording>, at any depth; audio is {' '.join(sorted(AUDIO_SUFFIXES))}"
            + _hint(root)
        )
    classes = targets.classes(train, multilabel)
    _refuse_names(classes)
    if len(classes) < 2:
        raise SourceError(
            f"Only one class, {', '.join(classes) or 'none'!r}, was found below {root}; at least two are needed."
        )
