"""Finds recordings and their labels.

A folder of recordings is read as it is found: the class is the folder that holds a file, anything below a
folder named ``test`` is the test set. The ESC-50 archive (``meta/esc50.csv`` beside ``audio/``) is read
through its table. Every file found is accounted for: it is audio, or it is ignored and said to be so.
"""

import hashlib
import os
import re
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from helpers import artifacts, demo, downloads, environment, label_table, mixtures, targets
from helpers.downloads import SourceError

AUDIO_SUFFIXES = {
    ".wav",
    ".flac",
    ".ogg",
    ".oga",
    ".opus",
    ".mp3",
    ".aif",
    ".aiff",
    ".au",
    ".m4a",
    ".aac",
    ".webm",
    ".mp4",
}
TRAIN_NAMES = {"train", "training", "train_audio", "audio_train"}
TEST_NAMES = {"test", "testing", "test_audio", "audio_test"}

# File names that say which source a recording was cut from, and in which official fold it belongs.
NAME_GRAMMARS = {
    "ESC-50": r"(?P<fold>[1-5])-(?P<group>\d+)-[A-Z](?:-\d+)?",
    "UrbanSound8K": r"(?P<group>\d+)-\d+-\d+-\d+",
    "Speech Commands": r"(?P<group>[0-9a-f]{8})_nohash_\d+",
    "xeno-canto": r"(?P<group>XC\d+)(?:[-_ ].*)?",
}


def locate(config):
    """Folder of a config's recordings: the one it names, else the demo (made now) or a downloaded set.

    Returns a resolved Path. Raises SourceError when a folder is needed and none is there.
    """
    if config.data.root:
        environment.mount_drive(config.data.root)
        root = Path(config.data.root).resolve()
        if not root.is_dir():
            raise SourceError(f"The data folder {root} does not exist.")
        return root
    if config.data.source == "demo":
        root, key = demo_paths(config)
        demo.ensure(root, key, seed=config.seed, n_train=config.data.demo_train, n_test=config.data.demo_test)
        return root
    if config.data.source == "demo_multilabel":
        root, key = demo_paths(config)
        return mixtures.ensure(root, key, config.seed, config.data.demo_train, config.data.demo_test)
    if config.data.source in ("esc10", "esc50"):
        return downloads.download_esc50(artifacts.home() / "data")
    raise SourceError(
        "Which recordings? Give the folder: `make run-all DATA=path/to/folder`, or data = '…' in a notebook."
    )


def demo_paths(config):
    """Folder of the demo and, outside it, the hidden key of its test files."""
    name = config.data.source.replace("_", "-")  # demo or demo-multilabel
    name += "" if config.data.demo_train >= 300 else f"-{config.data.demo_train}"
    folder = artifacts.home() / "data"
    return folder / name, folder / f"{name}-key.csv"


def find(root, data):
    """List every file below `root` with its label.

    Args: root folder; data the config's Data section.
    Returns a table, a row per file in path order: recording_id (from the relative path), path (relative, "/"),
        label ("" if none), split (train / test), source (what it was cut from, "" if not known),
        official_fold (missing if none), status (ok / quarantined / ignored), reason.
    Raises SourceError if there is no audio, or fewer than two classes.
    """
    files = sorted(_walk(root))
    esc50 = root / "meta" / "esc50.csv"
    if data.labels_csv:
        rows = _table_rows(root, files, data)
    else:
        rows = _esc50_rows(root, files, esc50, data) if esc50.is_file() else [_folder_row(path, data) for path in files]
    rows = [_check_link(root, path, row) for path, row in zip(files, rows, strict=True)]
    table = pd.DataFrame(rows, columns=["recording_id", "path", "label", "split", "status", "reason"])
    table = _drop_unknown_test_labels(_name_facts(table, data), data.multilabel)
    left_out = _leave_out_classes(table, data)
    table.loc[left_out, ["status", "reason"]] = "ignored", "left out: data.exclude"
    if data.max_per_class:
        table = _thin_out(table, data.max_per_class, data.multilabel)
    _check_classes(table, root, data.multilabel)
    return table


def grammar_of(names, pattern="auto"):
    """The pattern that reads the group (and official fold) from file names: (title, regex) or (None, None).

    A known grammar is used only if every name fits it.

    >>> grammar_of(["1-100032-A.ogg", "2-114280-B.ogg"])[0]
    'ESC-50'
    >>> grammar_of(["rex.wav", "2-114280-B.ogg"])
    (None, None)
    """
    stems = [PurePosixPath(name).stem for name in names]
    if pattern != "auto":
        return "given pattern", re.compile(pattern)
    for title, grammar in NAME_GRAMMARS.items():
        if stems and all(re.fullmatch(grammar, stem) for stem in stems):
            return title, re.compile(grammar)
    return None, None


def recording_id(path):
    """Identity of a recording: 12 hex digits of its relative path's SHA-256, so equal stems never collide."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def _walk(root):
    """Relative posix paths of everything below root that is not a folder; links to folders are not followed."""
    for folder, folders, names in os.walk(root):
        for name in names + [name for name in folders if os.path.islink(os.path.join(folder, name))]:
            yield (Path(folder) / name).relative_to(root).as_posix()


def _folder_row(path, data):
    parts = PurePosixPath(path).parts
    split = "test" if any(part.casefold() in TEST_NAMES for part in parts[:-1]) else "train"
    label = _folder_label(parts[:-1], data.label_pattern)
    return _row(path, label, split)


def _row(path, label, split):
    """A file's row, with the reason where it is not a labelled recording."""
    status, reason = "ok", ""
    if any(part.startswith(".") for part in PurePosixPath(path).parts) or "__MACOSX" in path:
        status, reason = "ignored", "hidden or system file"
    elif PurePosixPath(path).suffix.casefold() not in AUDIO_SUFFIXES:
        status, reason = "ignored", "not an audio file by its name"
    elif not _is_utf8(path):
        status, reason = "quarantined", "NAME_UNSAFE: the name is not valid UTF-8; rename the file"
    elif split == "train" and not label:
        status, reason = "quarantined", "NO_LABEL: the file lies in no class folder"
    safe = os.fsencode(path).decode("utf-8", "backslashreplace")
    return recording_id(path), safe, label if status == "ok" else "", split, status, reason


def _check_link(root, path, row):
    """A link is used only if it leads to a file inside the data folder; a link to a folder is not followed."""
    place = Path(root) / path
    if not place.is_symlink() or place.name.startswith("."):
        return row
    if place.is_dir():
        return (*row[:4], "ignored", "a link to a folder, not followed: copy the folder, or give it as DATA")
    if row[4] == "ok" and not place.resolve().is_relative_to(Path(root).resolve()):
        return (*row[:4], "quarantined", "OUTSIDE_ROOT: a link to a file outside the data folder; copy the file")
    return row


def _is_utf8(path):
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _folder_label(folders, pattern):
    """The class that a file's folders name: the innermost one, unless that is a mere container."""
    name = folders[-1] if folders else ""
    if name.casefold() in TRAIN_NAMES | TEST_NAMES | {"audio", "data", "wav", "wavs"}:
        return ""
    if pattern and (match := re.fullmatch(pattern, name)):
        return match.group(1)
    return name


def _esc50_rows(root, files, table_path, data):
    table = pd.read_csv(table_path, dtype=str, keep_default_na=False)
    if data.source == "esc10":
        table = table[table["esc10"] == "True"]
    labels = dict(zip("audio/" + table["filename"], table["category"].str.replace("_", " "), strict=True))
    rows = [_row(path, labels.get(path, ""), "train") for path in files]
    unlisted = ("ignored", "not listed in meta/esc50.csv for this subset")
    return [(*row[:4], *unlisted) if row[5].startswith("NO_LABEL") else row for row in rows]


def _table_rows(root, files, data):
    """Rows labelled by the table that data.labels_csv names. A training file that it does not list is left out."""
    splits, rows = {path: _folder_row(path, data)[3] for path in files}, []
    recordings = [path for path in files if _row(path, "any", splits[path])[4] == "ok"]
    tested = {path for path in recordings if splits[path] == "test"}
    labels = label_table.match(root, recordings, tested, data)
    for path in files:
        row = _row(path, labels.get(path, ""), splits[path])
        if row[5].startswith("NO_LABEL") and path not in labels:
            row = (*row[:4], "ignored", f"not listed in {data.labels_csv}")
        elif row[5].startswith("NO_LABEL"):
            row = (*row[:4], *(("ok", "") if data.multilabel else ("quarantined", "NO_LABEL: the table gives it none")))
        rows.append(row)
    return rows


def _name_facts(table, data):
    """Add `source` and `official_fold`, read from the names by a known grammar or the config's pattern."""
    ok = table["status"].eq("ok") & table["split"].eq("train")
    _, pattern = grammar_of(table.loc[ok, "path"], data.name_pattern)
    matches = [pattern.fullmatch(PurePosixPath(path).stem) if pattern else None for path in table["path"]]
    facts = [match.groupdict() if match else {} for match in matches]
    if data.name_pattern != "auto" and ok.any() and not any(np.array(facts, dtype=object)[ok.to_numpy()]):
        name = PurePosixPath(table.loc[ok, "path"].iloc[0]).stem
        raise SourceError(f"data.name_pattern {data.name_pattern!r} fits none of the file names, such as {name!r}.")
    table["source"] = [fact.get("group") or "" for fact in facts]
    table["official_fold"] = pd.array(
        [int(fact["fold"]) if fact.get("fold") else None for fact in facts], dtype="Int64"
    )
    return table


def _leave_out_classes(table, data):
    """Take the excluded classes out of recordings with several labels; returns which recordings have to go: bool."""
    train = table["split"].eq("train") & table["status"].eq("ok")
    excluded = table["label"].isin(data.exclude)
    if data.multilabel:
        kept = table["label"].map(lambda label: targets.join(set(targets.split(label)) - set(data.exclude)))
        excluded = table["label"].ne("") & kept.eq("")
        table.loc[train & ~excluded, "label"] = kept
    return train & excluded


def _drop_unknown_test_labels(table, multilabel):
    """A test file's folder counts as its label only where it is a class of the training side."""
    classes = set(targets.classes(table[table["status"].eq("ok")], multilabel))
    named = table["label"].map(lambda label: set(targets.split(label) if multilabel else [label]))
    stray = table["split"].eq("test") & ~named.map(classes.issuperset)
    table.loc[stray, "label"] = ""
    return table


def _thin_out(table, max_per_class, multilabel):
    """Leave out all but a few training recordings of each class, in the order of hashed sources.

    The test side is never thinned: every test file needs its row in the submission.
    """
    ok = table[table["status"].eq("ok") & table["split"].eq("train")]
    order = ok.assign(_group=ok["source"].where(ok["source"].ne(""), ok["recording_id"]).map(recording_id))
    order = order.assign(label=targets.rarest(order["label"])) if multilabel else order
    order = order.sort_values(["_group", "path"]).groupby("label").cumcount()
    surplus = order[order >= max_per_class].index
    table.loc[surplus, ["status", "reason"]] = "ignored", f"left out: data.max_per_class is {max_per_class}"
    return table


def hidden_labels(root, recordings, config):
    """True labels of the test recordings where there is a key, by recording_id: an empty Series if there is none.

    The demo keeps its key outside the data folder; a user's test set may lie in class folders. Only the last stage
    reads them, after the submission is written.
    """
    test = recordings[recordings["split"].eq("test")].set_index("recording_id")
    demo_root, key = demo_paths(config)
    if config.data.source.startswith("demo") and Path(root) == demo_root.resolve():
        answers = pd.read_csv(key, dtype=str, keep_default_na=False).set_index("filename")["label"]
        names = test["path"].map(lambda path: PurePosixPath(path).name)
        return names[names.isin(answers.index)].map(answers)
    return test["label"][test["label"].ne("")]


def _check_classes(table, root, multilabel):
    train = table[table["status"].eq("ok") & table["split"].eq("train")]
    if train.empty:
        tables = [path for path in table["path"] if path.lower().endswith(".csv")]
        hint = f" If the labels are in a table, name it: data.labels_csv={tables[0]}." if tables else ""
        raise SourceError(
            f"No labelled audio was found below {root}: {len(table)} files, none of them a recording in a class "
            f"folder. Expected <folder>/<class>/<recording>, at any depth; audio is {' '.join(sorted(AUDIO_SUFFIXES))}"
            + hint
        )
    classes = targets.classes(train, multilabel)
    if reserved := set(classes) & artifacts.IDENTITY:
        raise SourceError(
            f"A class cannot be called {', '.join(sorted(reserved))}: predictions.csv has a column of that name."
        )
    if len(classes) < 2:
        raise SourceError(
            f"Only one class, {', '.join(classes) or 'none'!r}, was found below {root}; at least two are needed."
        )
