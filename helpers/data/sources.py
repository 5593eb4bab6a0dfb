"""Finds recordings and their labels.

A folder of recordings is read as it is found: the class is the folder that holds a file, anything
below a folder named ``test`` is the test set. Tables of labels (``label_table``) and file names
(``filenames``) say more where the config names them. Every file found is accounted for: it is
audio, or it is ignored and said to be so; so is every row of a table that has no file.
"""

import hashlib
import json
import os
import re
import unicodedata
import warnings
from pathlib import Path, PurePosixPath

import pandas as pd

from helpers.audio import containers
from helpers.base import artifacts, tables, targets
from helpers.base.errors import SourceError
from helpers.data import label_table, relabel
from helpers.layouts import annotations, filenames, listing, words

# Folds of official sides: the validation side is tested, all else is only learned from.
VALIDATION = 1
LEARNED_ONLY = -1
NOISE = ("_background_noise_",)  # folders of noise to mix in, as of Speech Commands: no classes
SOURCES_KEPT = 3  # of a class, where data.max_per_class leaves recordings out
ELSEWHERE = "lies below none of data.train_folders"
# How the table of the ESC-50 archive is read; its column esc10 marks the recordings of ESC-10.
ESC50 = {
    "labels_csv": "meta/esc50.csv",
    "id_column": "filename",
    "label_column": "category",
    "fold_column": "fold",
    "group_columns": ("src_file",),
    "train_folders": ("audio",),
}
COLUMNS = [
    "recording_id",
    "path",
    "label",
    "split",
    "source",
    "together",
    "official_fold",
    "status",
    "reason",
]


def find(root: str | Path, data, edits: dict[str, str] | None = None) -> pd.DataFrame:
    """List every file below `root` with its label.

    Args: root folder; data the config's Data section; edits labels changed by hand, as of
        `relabel.read_relabel`.
    Returns a table, a row per file in path order, the unlabelled last: recording_id (from the
        path), path (relative, "/"; of an unlabelled one that lies elsewhere absolute), label ("" if
        none), split (train / test / unlabelled), source (what it was cut from, "" if not known),
        together (what binds it to others by the tables, "" if nothing),
        official_fold (missing if none), status (ok / quarantined / ignored), reason.
    Raises SourceError if there is no audio, or fewer than two classes, or if a folder of
    data.unlabelled holds none.
    """
    data = _as_esc50(root, data)
    table = pd.concat([_files(root, data), *_unlabelled(root, data)], ignore_index=True)
    _refuse_twins(table)
    table = _name_facts(table.assign(label="", together="", validation=False), data)
    table = _labels_of_tables(root, table, data) if data.tables else _labels_of_places(table, data)
    table = _without_labels(table)
    table = _settle_labels(table, data)
    table = _official_sides(root, table, data)
    table = _no_sources_where_they_are_the_classes(table, data)
    if edits:
        table, _ = relabel.apply(table, edits, data.multilabel)
        _refuse_class_twins(table, data.multilabel)
    if data.max_per_class:
        table = _thin_out(table, data.max_per_class, data.multilabel)
    _check_classes(table, root, data.multilabel)
    return table[[*COLUMNS, *artifacts.sureness(table)]]


def tested(root: str | Path, data) -> pd.DataFrame:
    """The recordings of the test side alone; the training side need not be there.

    Args: as of `find`. Returns recording_id, path, split, status, reason of each.
    """
    labelled = data.model_copy(update={"unlabelled": ()})  # those need not be there either
    table = find(root, labelled) if data.split_column else _files(root, _as_esc50(root, data))
    test = table.query("split == 'test' and status != 'ignored'")
    return test[["recording_id", "path", "split", "status", "reason"]].reset_index(drop=True)


def recording_id(path: str) -> str:
    """Identity of a recording: 12 hex digits of its relative path's SHA-256.

    So recordings of one name in different folders never collide.
    """
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def _as_esc50(root, data):
    """The settings, reading the table of the ESC-50 archive where its folder is given."""
    table = Path(root) / ESC50["labels_csv"]
    if data.tables or not table.is_file():
        return data
    names = tables.read(table)["category"].unique()
    spaced = tuple((name, name.replace("_", " ")) for name in names)
    where = (("esc10", "True"),) if data.source == "esc10" else data.where
    return data.model_copy(update={**ESC50, "rename": data.rename or spaced, "where": where})


# --- files


def _files(root, data):
    """Every file below a folder but the unlabelled, before anything is known of its label."""
    paths = sorted(map(str, listing.walk(root, listing.folders_of(root, data.unlabelled))))
    table = pd.DataFrame([_file(root, path, data) for path in paths])
    table = table.reindex(columns=["recording_id", "path", "split", "status", "reason"])
    if data.test_csv:
        files = table.query("status != 'ignored'")["path"]
        asked = table["path"].isin(label_table.asked_for(root, files, data.test_csv))
        table.loc[asked, "split"] = "test"
    return table


def _unlabelled(root, data):
    """The files of each folder of data.unlabelled, a table each."""
    for folder in listing.folders_of(root, data.unlabelled):
        place = Path(root, folder)
        paths = sorted(listing.walk(place))
        around = Path(root).resolve().is_relative_to(place.resolve())
        if around or not any(map(listing.is_sound, paths)):
            what = "holds no recording" if place.is_dir() else "is no folder"
            what = "holds the data folder" if around else what
            raise SourceError(
                f"data.unlabelled: {place} {what}. Name folders of recordings, from the data "
                "folder or absolutely, or leave the setting out."
            )
        states = [_status(place, str(path)) for path in paths]
        names = [str(folder / path) for path in paths]
        named = zip(names, states, strict=True)
        yield pd.DataFrame([_row(name, "unlabelled", *state) for name, state in named])


def _file(root, path, data):
    """A file as a row, before anything is known of its label."""
    place = PurePosixPath(path)
    in_test = listing.in_test_folder(place)
    if data.test_folders:
        in_test = any(map(place.is_relative_to, data.test_folders))
    status, reason = _status(root, path)
    learned = not data.train_folders or any(map(place.is_relative_to, data.train_folders))
    if status == "ok" and not in_test and not learned:
        status = "ignored"
        reason = ELSEWHERE
    return _row(path, "test" if in_test else "train", status, reason)


def _row(path, split, status, reason):
    return {
        "recording_id": recording_id(path),
        "path": os.fsencode(path).decode("utf-8", "backslashreplace"),
        "split": split,
        "status": status,
        "reason": reason,
    }


def _status(root, path):
    """(status, reason) of a file by its name: whether it is a recording, and may be opened."""
    place = Path(root) / path
    if tables.is_hidden(PurePosixPath(path)):
        return "ignored", "hidden or system file"
    if place.is_symlink() and place.is_dir():
        return "ignored", "a link to a folder, not followed: copy the folder, or give it as DATA"
    if not listing.is_sound(PurePosixPath(path)):
        return "ignored", "not an audio file by its name"
    if path != path.encode("utf-8", "ignore").decode():
        return "quarantined", "NAME_UNSAFE: the name is not valid UTF-8; rename the file"
    return _status_of_link(root, place) if place.is_symlink() else ("ok", "")


def _status_of_link(root, place):
    try:
        target = place.resolve(strict=True)
    except (RuntimeError, OSError):
        return "quarantined", "UNREADABLE: a link that leads nowhere, or to itself"
    if target.is_relative_to(Path(root).resolve()):
        return "ok", ""
    return "quarantined", "OUTSIDE_ROOT: a link to a file outside the data folder; copy the file"


def _refuse_twins(table):
    """Stop where two paths differ in case or in accents' spelling alone: elsewhere they are one."""
    paths = table.query("status == 'ok'")["path"]
    twins = _alike(paths, lambda path: tables.spelling(path).casefold())
    if len(twins):
        pair = " and ".join(map(ascii, twins.index[twins.eq(twins.iloc[0])][:3]))
        raise SourceError(
            f"ID_COLLISION: {len(twins)} recordings have names that differ in case or in the "
            f"spelling of accents alone, such as {pair}. Rename or remove one of each."
        )


def _alike(names, spell):
    """Those of the names that another is spelled like: a Series of spellings by name."""
    spelled = pd.Series([spell(name) for name in names], [*names], dtype=object)
    return spelled[spelled.duplicated(keep=False)]


# --- labels


def _in_training(table):
    """Which rows are recordings of the training side, not set aside: bool [n]."""
    return table["status"].eq("ok") & table["split"].eq("train")


def _name_facts(table, data):
    """Add source, official_fold and named, a label, read from the names by a grammar or pattern."""
    train = table.loc[_in_training(table), "path"]
    _, pattern = filenames.grammar_of(train, data.name_pattern)
    if data.name_pattern != "auto":
        filenames.check_fits(data.name_pattern, train)
    facts = filenames.facts(table["path"], pattern)
    fold = filenames.folds(facts["fold"])
    return table.assign(source=facts["group"], official_fold=fold, named=facts["label"])


def _labels_of_places(table, data):
    """Labels from the file names where the pattern reads one, else from the class folders."""
    if "(?P<label>" in data.name_pattern:
        labels = table["named"]
        reason = "NO_LABEL: the file name tells no label"
    else:
        labels = table["path"].map(lambda path: _folder_label(path, data))
        reason = "NO_LABEL: the file lies in no class folder"
    table = table.assign(label=labels.where(table["status"].eq("ok"), ""))
    return _set_aside_unlabelled(table, reason)


def _folder_label(path, data):
    """The class that a file's innermost folder names; "" where that is a mere container."""
    name = listing.class_folder(path)
    if not name or str(PurePosixPath(path).parent) in data.validation_folders:
        return ""
    match = re.fullmatch(data.label_pattern, name) if data.label_pattern else None
    return match.group(1) if match else name


def _labels_of_tables(root, table, data):
    """Labels and more from the tables.

    A training file that they do not list is left out; a row without a file is listed as missing.
    """
    where = ", ".join(data.tables)
    train = table["split"].eq("train")
    files = table["status"].ne("ignored")
    tested = set(table.loc[files & ~train, "path"])
    facts, missing = label_table.match(root, table.loc[files, "path"].tolist(), tested, data)
    elsewhere = table.loc[table["reason"].eq(ELSEWHERE) | ~train, "path"]
    ids = {label_table.id_of(path, missing.index) for path in elsewhere}
    missing = _missing(root, missing.drop(index=ids - {None}), where)

    facts = facts.reindex(table["path"]).set_axis(table.index)
    table = table.assign(label=facts["label"].fillna(""), together=facts["together"].fillna(""))
    table = table.assign(**facts[artifacts.sureness(facts)])
    table.loc[facts["test"].eq(True), "split"] = "test"
    table["validation"] = facts["validation"].eq(True)
    unlisted = _in_training(table) & facts["label"].isna()
    _set_aside(table, unlisted, f"not listed in {where}")
    if data.fold_column:
        table["official_fold"] = facts["official_fold"].astype("Int64")
    if not data.multilabel:  # to hear none of the classes is an answer too
        table = _set_aside_unlabelled(table, "NO_LABEL: the table gives it none")
    whole = pd.concat([table, missing], ignore_index=True)
    if "secondary" in whole:
        whole["secondary"] = whole["secondary"].fillna("")
    return whole.astype({"official_fold": "Int64"})


def _missing(root, facts, where):
    """Rows for what a table lists and the folder lacks, or what leads out of the folder."""
    top = Path(root).resolve()
    places = [Path(os.path.realpath(top / path)) for path in facts.index]
    missing = f"MISSING: listed in {where}, but there is no such file"
    outside = f"OUTSIDE_ROOT: {where} names a file outside the data folder"
    return pd.DataFrame(
        {
            "recording_id": [recording_id(f"{where}:{path}") for path in facts.index],
            "path": facts.index,
            "split": ["test" if test else "train" for test in facts["test"]],
            "status": "quarantined",
            "reason": [missing if place.is_relative_to(top) else outside for place in places],
            "official_fold": None,
        }
    ).assign(label="", source="", together="", named="", validation=False)


def _set_aside_unlabelled(table, reason):
    unlabelled = _in_training(table) & table["label"].eq("")
    _set_aside(table, unlabelled, reason, "quarantined")
    return table


def _set_aside(table, rows, reason, status="ignored"):
    table.loc[rows, ["status", "reason"]] = status, reason


def _without_labels(table):
    """The table in which what is unlabelled has no label and no fold, whatever names it."""
    unlabelled = table["split"].eq("unlabelled")
    table["official_fold"] = table["official_fold"].mask(unlabelled)
    for column in table.columns.intersection(["label", "secondary"]):
        table[column] = table[column].mask(unlabelled, "")
    return table


def _settle_labels(table, data):
    """Labels as the config calls them: renamed, joined into `other`, left out.

    On the test side only known classes stay.
    """
    ok = table["status"].eq("ok")
    train = table["split"].eq("train")
    if data.multilabel and data.empty_label:
        table["label"] = table["label"].replace(data.empty_label, "")
    if "secondary" in table:
        table["secondary"] = table["secondary"].map(lambda label: _settled(label, data))
    settled = {label: _settled(label, data) for label in table["label"].unique()}
    labels = table["label"].map(settled)
    left_out = _in_training(table) & table["label"].ne("") & labels.eq("")
    why = "left out: not one of data.classes" if data.classes else "left out: data.exclude"
    _set_aside(table, left_out & table["label"].isin(NOISE), "left out: noise, and no class")
    _set_aside(table, left_out & ~table["label"].isin(NOISE), why)
    table["label"] = labels.where(ok & ~left_out, "")
    _refuse_class_twins(table, data.multilabel)
    classes = set(targets.classes(table.query("status == 'ok'"), data.multilabel))
    known = table["label"].map(
        lambda label: classes.issuperset(targets.split(label, data.multilabel))
    )
    table["label"] = table["label"].where(train | known, "")
    return table


def _settled(label, data):
    """One recording's label after renaming and leaving out; "" where nothing is left."""
    rename = dict(data.rename)
    names = [tables.spelling(name).strip() for name in targets.split(label, data.multilabel)]
    names = [rename.get(name, name) for name in names if name and _is_class(name, data)]
    if data.classes:
        names = [name if name in data.classes else data.other for name in names]
    names = [name for name in names if name and name not in data.exclude]
    return targets.join(names)


def _is_class(name, data):
    """Whether a label may be a class: folders of noise are none unless the config names them."""
    return name not in NOISE or name in dict(data.rename) or name in data.classes


def _official_sides(root, table, data):
    """Official sides as folds, where the validation side has every class that is learned.

    Otherwise it is learned from and tested in folds like all else, with a warning.
    """
    if data.validation_csv:
        paths = table.query("status != 'ignored'")["path"]
        names = label_table.asked_for(root, paths, data.validation_csv)
        table["validation"] |= table["path"].isin(names)
    for folder in data.validation_folders:
        table["validation"] |= table["path"].str.startswith(f"{folder}/")
    train = _in_training(table)
    tested = table[train & table["validation"]]
    if tested.empty or table["official_fold"].notna().any():
        return table
    lacking = set(table.loc[train, "label"]) - set(tested["label"])
    if lacking:
        warnings.warn(
            f"The official validation side has {len(tested)} recordings and lacks classes "
            f"({', '.join(sorted(lacking)[:5])}): it is learned from, and tested in folds, like "
            "the rest.",
            stacklevel=2,
        )
        return table
    fold = table["validation"].map({True: VALIDATION, False: LEARNED_ONLY}).where(train)
    return table.assign(official_fold=fold.astype("Int64"))


def _no_sources_where_they_are_the_classes(table, data):
    """Sources that a known grammar reads bind nothing where every class has a single one.

    No class could be tested. So it is where the speakers are the classes, or where one speaker says
    everything.
    """
    train = table[_in_training(table) & table["source"].ne("")]
    sources = targets.by_class(train, data.multilabel).groupby("label")["source"]
    single = sources.nunique().eq(1).all() and sources.ngroups > 1 and sources.size().max() > 1
    if not single or data.name_pattern != "auto" or table["official_fold"].notna().any():
        return table
    warnings.warn(
        f"Every class has one source by the file names (such as {train['source'].iloc[0]!r}): "
        "names do not bind recordings together here, and scores hold for these sources alone.",
        stacklevel=2,
    )
    return table.assign(source="")


def _refuse_class_twins(table, multilabel):
    """Stop where two classes differ in case or in spaces alone: most likely they are one."""
    classes = targets.classes(table.query("status == 'ok'"), multilabel)
    twins = _alike(classes, lambda name: " ".join(name.casefold().split()))
    if len(twins):
        one, other = twins.index[twins.eq(twins.iloc[0])][:2]
        raise SourceError(
            f"The classes {', '.join(map(repr, twins.index[:6]))} differ in case or in spaces "
            "alone. Rename the folders or labels, or say that they are one: data.rename: "
            f"{{{one!r}: {other!r}}}."
        )


def _refuse_names(classes):
    """Stop where a class has a name that tables with a column per class cannot hold."""
    reserved = sorted(artifacts.IDENTITY.intersection(classes))
    broken = [name for name in classes if "Cc" in map(unicodedata.category, name)]
    if names := [*reserved, *broken]:
        why = "tables of probabilities have a column of that name"
        why = why if reserved else "it holds a line break or the like"
        raise SourceError(
            f"A class cannot be called {', '.join(map(repr, names[:6]))}: {why}. Rename the folder "
            "or label, or give it another name in a preset: data.rename: "
            f"{{{json.dumps(names[0])}: another name}}."
        )


def _thin_out(table, max_per_class, multilabel):
    """Leave out all but a few training recordings of each class, in the order of hashed sources.

    The same sources are kept in every class, three of them where there are as many, so that the few
    that are left can still be dealt into folds. The test side is never thinned: every test file
    needs its row in the submission.
    """
    train = table[_in_training(table)]
    source = train["source"].where(train["source"].ne(""), train["together"])
    source = source.where(source.ne(""), train["recording_id"])
    labels = targets.rarest(train["label"], multilabel)
    rows = train.assign(source=source.map(recording_id), label=labels)
    rows = rows.sort_values(["source", "path"])
    per_source = max(1, max_per_class // SOURCES_KEPT)
    rows["turn"] = rows.groupby(["label", "source"]).cumcount() // per_source
    by_fold = rows.groupby(["label", "official_fold"], dropna=False)["source"]
    rows["number"] = by_fold.transform(lambda sources: pd.factorize(sources)[0])
    order = rows.sort_values(["turn", "number", "source", "path"]).groupby("label").cumcount()
    surplus = order.index[order >= max_per_class]
    _set_aside(table, surplus, f"left out: data.max_per_class is {max_per_class}")
    return table


def _hint(root):
    """Why a table below the folder cannot be read, or what was seen and how it may be read."""
    for name in listing.label_tables(root)[:1]:
        try:
            annotations.read(root, name)
        except SourceError as error:
            return f" {error}"
    return f"\n{words.seen(root)}"


def _check_classes(table, root, multilabel):
    train = table[_in_training(table)]
    if train.empty:
        raise SourceError(
            f"No labelled audio was found below {root}: {len(table)} files, none of them a "
            "recording in a class folder. Expected <folder>/<class>/<recording>, at any depth; "
            f"audio is {' '.join(containers.SUFFIXES)}." + _hint(root)
        )
    classes = targets.classes(train, multilabel)
    _refuse_names(classes)
    if len(classes) < 2:
        raise SourceError(
            f"Only one class, {', '.join(classes) or 'none'!r}, was found below {root}; at least "
            "two are needed."
        )


def in_words(recordings: pd.DataFrame, data) -> str:
    """Who was recorded together, as names and tables tell it: three lines.

    Args: recordings of `sources.find`; data the config's Data section.
    """
    train = recordings.query("split == 'train' and status == 'ok'")
    title, pattern = filenames.grammar_of(train["path"], data.name_pattern)
    names = f"{title} {pattern.pattern}" if title else "no known pattern"
    sources = recordings["source"].replace("", None).nunique()
    official = recordings["official_fold"].dropna()
    folds = f"{'with' if len(official) else 'without'} official folds"
    if official.eq(LEARNED_ONLY).any():
        folds = f"an official validation side of {official.eq(VALIDATION).sum()} recordings"
    bound = ", ".join(data.group_columns) or "none"
    return (
        f"File names: {names}\n{sources} sources, {folds}\nBound by columns of the table: {bound}"
    )


def sides_in_words(recordings: pd.DataFrame) -> str:
    """How many recordings there are to learn from, to test, and without labels, and how long.

    Args: recordings that can be heard, with split and duration_seconds.
    """
    parts = []
    for split, side in recordings.groupby("split"):
        kind = "training" if split == "train" else split
        number = targets.counted(len(side), f"{kind} recording", f"{kind} recordings")
        minutes = side["duration_seconds"].sum() / 60
        parts.append(f"{number} ({minutes:,.1f} minutes)")
    return f"{', '.join(parts)} can be heard."
