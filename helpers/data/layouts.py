"""Data folders recognised by what lies in them, so that `make run-all DATA=…` needs no more.

A preset may list what marks its data (``layout``): paths, or tables with some of their columns.
Where no preset's marks are there, a table that names the recordings is looked for, in any form that
``annotations`` reads; then what folders, lists and file names tell. What is ambiguous is left to
the class folders.
"""

import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import pandas as pd

from helpers.audio import containers
from helpers.base import errors, tables
from helpers.data import annotations, filenames

PLAIN_SUFFIXES = {".csv", ".tsv"}
TABLE_SUFFIXES = {*PLAIN_SUFFIXES, ".json", ".jsonl"}
TEST_NAMES = {"test", "testing", "test_audio", "audio_test", "test_soundscapes"}
TRAIN_NAMES = {"train", "training", "train_audio", "audio_train", "train_short_audio", "src_wavs"}
VALIDATION_NAMES = {"val", "valid", "validation", "dev"}
CONTAINERS = {"audio", "data", "wav", "wavs", "recordings", "clips", "sounds"}
NAMED = 0.8  # share of the recordings that a table has to name
# What says of which side a table, or a row, is; told apart by two letters.
SIDE = re.compile(r"(?<![a-z])(train(?:ing)?|dev|val(?:id(?:ation)?)?|test(?:ing)?)(?![a-z])")
TABLE = "table"  # the column that says from which of several tables a row is
# Names of columns, the likeliest first.
LABELS = (
    "label",
    "labels",
    "class",
    "category",
    "primary_label",
    "ebird_code",
    "species",
    "tags",
    "tag",
    "word",
    "genre",
    "emotion",
    "digit",
    "command",
    "class_name",
    "label_name",
    "category_name",
    "classname",
    "target",
    "sound",
    "event",
    "instrument",
    "keyword",
    "intent",
    "diagnosis",
    "accent",
    "language",
    "bird",
    "scene_label",
    "scene",
    "y",
)
# Names of columns that hold labels if their values repeat.
WEAK_LABELS = ("accents", "gender", "text", "sentence", "transcription", "transcript")
GROUPS = (
    "speaker",
    "speaker_id",
    "client_id",
    "author",
    "recordist",
    "subject",
    "subject_id",
    "participant",
    "patient",
    "patient_id",
    "session",
    "site",
    "device_id",
    "src_file",
    "fsid",
    "source_id",
    "freesound_id",
)
FOLDS = ("fold", "kfold", "fold_id")
SIDES = ("split", "subset", "set")
SEPARATORS = (",", ";", "|", " ")  # between the labels of a recording
ZERO_OR_ONE = ("0", "1", "0.0", "1.0")
MAX_TABLES = 20
MAX_TABLE_BYTES = 2e8


def recognise(root: str | Path, layouts: dict[str, tuple[str, ...]]) -> tuple[str | None, str]:
    """The preset whose marks lie in a data folder: (its name or None, in words how it was told).

    Args: root folder; layouts {preset: its marks}. The preset with the most marks wins; between
        equals none does.
    """
    marked = {name: len(marks) for name, marks in layouts.items() if _all_lie_in(root, marks)}
    most = max(marked.values(), default=0)
    best = [name for name, count in marked.items() if count == most]
    if not best:
        return None, ""
    if len(best) > 1:
        return None, f"it could be {' or '.join(best)}: name one with PRESET="
    [name] = best
    marks = ", ".join(layouts[name])
    return name, f"preset {name}: {marks}"


def _all_lie_in(root, marks):
    return bool(marks) and all(_lies_in(root, mark) for mark in marks)


def _lies_in(root, mark):
    """Whether a mark is there: a path with wildcards, or "table.csv: column, column"."""
    path, _, columns = mark.partition(":")
    places = sorted(Path(root).glob(path))
    wanted = {column.strip() for column in columns.split(",")} - {""}
    return bool(places) and (not wanted or wanted <= set(tables.header(places[0])))


def by_table(root: str | Path, given: dict | None = None) -> tuple[dict, str]:
    """The keys that read a folder through its table, and how that was told; ({}, "") where none is.

    The one table is taken that names nearly all recordings outside test folders in one column, and
    their labels in another whose name says so, or in the only other one. Where there is no test
    folder, recordings that only the sample submission or a table of the test set names are the test
    set.

    Args: root folder; given the columns that the user has named, {"id_column": …, "label_column":
        …}.
    """
    readings = _readings(Path(root), given or {})
    # A column called label is surer than the only other one.
    surer = [path for path, keys in readings.items() if _is_label(keys.get("label_column"))]
    chosen = surer if len(surer) == 1 else list(readings)
    if len(chosen) > 1:
        listed = ", ".join(chosen)
        says = f"class folders; several tables name the recordings ({listed})"
        return {}, f"{says}: choose by data.labels_csv"
    if not chosen:
        beside = annotations.BESIDE in label_tables(root)
        read = (
            f"to read the label files beside the recordings: data.labels_csv={annotations.BESIDE}"
        )
        return {}, f"class folders; {read}" if beside else ""
    keys = readings[chosen[0]]
    return {f"data.{name}": value for name, value in keys.items()}, _in_words(keys)


def _readings(root, given):
    """Every table that names the recordings and tells their labels: {its path: the keys}.

    Tables that differ in the name of a side alone are one, and come before any other.
    """
    recordings, tested, candidates = _files(root, given.get("unlabelled", ()))
    names = [set(tables.spellings(path)) for path in recordings]
    questions = [path for path in candidates if _asks(path)]
    asked = {} if tested else {path: _values(root, path) for path in questions}
    in_classes = len({class_folder(path) for path in recordings}) > 1
    readings = _families_readings(root, candidates, names, asked, given, in_classes)
    if readings:
        return readings
    for path in candidates:
        keys = None if path in questions else _reading(_read(root, path), names, asked, given)
        if _counts(keys, in_classes, path):
            readings[path] = {**keys, "labels_csv": path}
    return readings


def _families_readings(root, candidates, names, asked, given, in_classes):
    readings = {}
    for family in _families(candidates):
        table, keys = _family(root, family)
        others = {path: values for path, values in asked.items() if path not in keys["labels_csv"]}
        reading = _reading(table, names, others, given, whole=False)
        if _counts(reading, in_classes):
            readings[", ".join(keys["labels_csv"])] = {**reading, **keys}
    return readings


def _counts(keys, in_classes, path=""):
    """Whether a reading counts: before class folders only what surely holds labels does."""
    if not keys or not in_classes:
        return bool(keys)
    sure = keys.get("label_column", WEAK_LABELS[0]).casefold() not in WEAK_LABELS
    return sure and path != annotations.BESIDE


def side_of(text: str) -> str | None:
    """The side that a word, or the path of a table, names; None where it names none, or several.

    >>> side_of("data/dev.tsv"), side_of("Testing"), side_of("latest.csv")
    ('validation', 'test', None)
    """
    sides = {"tr": "train", "te": "test"}
    named = {sides.get(word[:2], "validation") for word in SIDE.findall(text.casefold())}
    return named.pop() if len(named) == 1 else None


def _families(candidates):
    """Tables that differ in the name of a side alone: a list of {side: path}."""
    families = {}
    for path in candidates:
        if side := side_of(path):
            families.setdefault(SIDE.sub("*", path.casefold()), {})[side] = path
    return [family for family in families.values() if "train" in family and len(family) > 1]


def _family(root, family):
    """(the tables of several sides as one, the keys that say so); those of other columns are left
    out.
    """
    sides = [side for side in ("train", "validation", "test") if side in family]
    read = {side: _read(root, family[side]) for side in sides}
    train = read["train"]
    if train is None or TABLE in train:
        return None, {"labels_csv": ()}
    alike = {
        side: table
        for side, table in read.items()
        if table is not None and set(table) == set(train)
    }
    keys = {"labels_csv": tuple(family[side] for side in alike), "split_column": TABLE}
    keys |= {f"{side}_value": family[side] for side in alike if side != "train"}
    whole = pd.concat(alike.values(), ignore_index=True) if len(alike) > 1 else None
    return whole, keys


def _in_words(keys):
    """How a table is read: "table labels.csv: id column 'file', label column 'class'"."""
    words = [
        f"{name.replace('_', ' ')} {_quoted(keys[name])}"
        for name in ("id_column", "label_column", "group_columns", "fold_column")
        if name in keys
    ]
    if "label_column" not in keys:
        words.append("a column of 0 and 1 per class")
    if "multilabel" in keys:
        words.append("several labels per recording")
    if "label_separator" in keys:
        words.append(f"between them {keys['label_separator']!r}")
    words += _sides_in_words(keys)
    names = keys["labels_csv"]
    if isinstance(names, tuple):
        return f"tables {', '.join(names)}: {', '.join(words)}"
    if names == annotations.BESIDE:
        names = f"of the label files beside the recordings ({names})"
    return f"table {names}: {', '.join(words)}"


def _sides_in_words(keys):
    """Which recordings are the test set, and the official validation side: a list of texts."""
    words = []
    column = keys.get("split_column")
    where = "" if column in (None, TABLE) else f" in column {column!r}"
    test = keys.get("test_value", None if column in (None, TABLE) else "test")
    for side, value in (("test set", test), ("validation side", keys.get("validation_value"))):
        words += [f"{side}: {value!r}{where}"] if value else []
    for side, key in (("test set", "test_csv"), ("validation side", "validation_csv")):
        words += [f"{side}: the recordings that {keys[key]} names"] if key in keys else []
    if "validation_folders" in keys:
        words.append(f"validation side: {', '.join(keys['validation_folders'])}")
    return words


def _quoted(value):
    return " and ".join(map(repr, [value] if isinstance(value, str) else value))


def recordings(root: str | Path, unlabelled: str | Iterable[str] = ()) -> list[str]:
    """The recordings below a folder outside those of the test and of data.unlabelled: relative
    paths, sorted.
    """
    return sorted(_files(root, unlabelled)[0])


def label_tables(root: str | Path) -> list[str]:
    """The tables below a folder that may hold labels: none of them is of the test set."""
    return [path for path in _files(root)[2] if not _asks(path)]


def _asks(path):
    """Whether a table asks for labels: by its name, or by lying in a test folder."""
    place = PurePosixPath(path)
    stem = place.stem.casefold()
    words = set(re.split(r"[^a-z]+", stem))
    about_test = not words.isdisjoint({"test", "testing"}) and "train" not in words
    return in_test_folder(place) or "submission" in stem or about_test


def in_test_folder(path: PurePosixPath) -> bool:
    """Whether a file lies in a folder with a name such as test."""
    return any(part.casefold() in TEST_NAMES for part in path.parts[:-1])


def is_sound(path: PurePosixPath) -> bool:
    """Whether a file is a recording by its name."""
    return path.suffix.casefold() in containers.SUFFIXES


def walk(root: str | Path, but: Iterable[PurePosixPath] = ()) -> Iterator[PurePosixPath]:
    """Relative paths of all that is no folder, or a folder that passes for a recording.

    Links to folders are not followed, nor is what lies below the folders `but`.
    """
    for folder, folders, names in os.walk(root):
        top = PurePosixPath(Path(folder).relative_to(root).as_posix())
        if top in but:
            folders.clear()
            continue
        odd = [name for name in folders if is_sound(top / name) or Path(folder, name).is_symlink()]
        yield from (top / name for name in names + odd)


def folders_of(root: str | Path, names: str | Iterable[str]) -> list[PurePosixPath]:
    """Folders that are named from a data folder or absolutely: from it where they lie below it.

    >>> folders_of("/data", ["field", "/data/a/b", "/far"])
    [PurePosixPath('field'), PurePosixPath('a/b'), PurePosixPath('/far')]
    """
    top = Path(root).resolve()
    names = [names] if isinstance(names, str) else names
    places = []
    for place in (Path(top, name).resolve() for name in names):
        place = place.relative_to(top) if place.is_relative_to(top) else place
        places.append(PurePosixPath(place.as_posix()))
    return places


def _files(root, unlabelled=()):
    """(recordings outside test folders, recordings in them, tables): relative paths.

    Those below the folders of data.unlabelled are left out.
    """
    paths = {"train": [], "test": [], "table": [], "text": [], None: []}
    for path in walk(root, folders_of(root, unlabelled)):
        paths[_kind(path)].append(str(path))
    first = sorted(paths["table"], key=lambda path: (path.count("/"), path))[:MAX_TABLES]
    first += _texts(root, paths["text"], paths["train"])
    return paths["train"], paths["test"], first


def _texts(root, texts, recordings):
    """Those of the text files that hold labels: all beside recordings as one, Raven's tables."""
    stems = {str(PurePosixPath(path).with_suffix("")) for path in recordings}
    beside = [path for path in texts if path.partition(".")[0] in stems]
    if recordings and len(beside) >= NAMED * len(recordings):
        return [annotations.BESIDE]
    few = texts[:MAX_TABLES]
    return [path for path in few if annotations.FILE in tables.header(Path(root) / path)]


def _kind(path):
    """What a file is by its path: "train" or "test", a recording; "table", "text"; None."""
    if tables.is_hidden(path):
        return None
    if path.suffix.casefold() in TABLE_SUFFIXES or path.name == "wav.scp":
        return "table"
    if path.suffix == ".txt":
        return "text"
    if not is_sound(path):
        return None
    return "test" if in_test_folder(path) else "train"


def _read(root, name):
    """A table of two columns or more; None where it cannot be read, or is too large to look at."""
    path = Path(root) / name
    plain = path.suffix.casefold() in PLAIN_SUFFIXES
    if name != annotations.BESIDE:
        if not path.is_file() or path.stat().st_size > MAX_TABLE_BYTES:
            return None
        if plain and len(tables.header(path)) < 2:
            return None
    try:
        table = annotations.read(root, name)
    except (errors.SourceError, OSError):
        return None
    return table if table.shape[1] > 1 else None


def _values(root, path):
    """What each column of a table may call recordings: a list of sets; [] where none is read."""
    table = _read(root, path)
    return [] if table is None else [_names_in(table[column]) for column in table]


def _names_in(column):
    """What a column calls recordings, also as seen from a folder further down."""
    return {end for text in column.unique() for end in tables.places(text) if end}


def _reading(table, names, asked, given, whole=True):
    """The keys that read one table: columns of ids, labels, groups, folds and sides; or None.

    Args: table or None; names sets of what each recording may be called; asked {table of
        questions: its columns' values}; given; whole whether it must name nearly all recordings,
        or may name a part of them in nearly all its rows.
    """
    if table is None or not names:
        return None
    needed = NAMED * (len(names) if whole else min(len(names), len(table)))
    columns = sorted(table, key=lambda column: -table[column].str.contains(r"\.\w+$").mean())
    if given.get("id_column") in columns:  # else names with an extension are surer than numbers
        columns = [given["id_column"]]
    for column in columns:
        test_csv, n_tested = _test_table(names, _names_in(table[column]), asked)
        n_listed = _n_named(names, table[column])
        if n_listed and n_listed + n_tested >= needed:
            keys = _labels(table.drop(columns=column), given)
            return keys and _set({"id_column": column, **keys, "test_csv": test_csv})
    return None


def _set(keys):
    return {name: value for name, value in keys.items() if value is not None}


def _test_table(names, listed, asked):
    """(the table of questions that names most recordings without a label or None, how many)."""
    best = None
    most = 0
    for path, columns in asked.items():
        for values in columns:
            tested = [spellings for spellings in names if not spellings.isdisjoint(values)]
            if len(tested) > most and all(map(listed.isdisjoint, tested)):
                best = path
                most = len(tested)
    return best, most


def _labels(table, given):
    """What a table without its ids says of labels, groups, folds and sides: keys, or None."""
    column = _label_column(table, given)
    if column is None:
        return _flags(table)
    keys = {"label_column": column, **_several(table[column])}
    separator = keys.get("label_separator")
    lists = table[column].str.split(separator) if separator else table[column]
    groups = [name for name in _called(table, GROUPS) if _binds(table[name], lists)]
    folds = [name for name in _called(table, FOLDS)[:1] if _are_folds(table[name])]
    keys["group_columns"] = tuple(groups[:1]) or None
    keys["fold_column"] = folds[0] if folds else None
    return {**keys, **_sides(table)}


def _sides(table):
    """Keys for a column of sides, where one of them is called test or validation, or much alike."""
    for column in _called(table, SIDES)[:1]:
        words = [value for value in table[column].unique() if SIDE.fullmatch(value.casefold())]
        sides = {side_of(value): value for value in words}
        if sides.keys() & {"test", "validation"}:
            test = sides.get("test", "test")
            values = {"test_value": None if test == "test" else test}
            return {
                "split_column": column,
                **values,
                "validation_value": sides.get("validation"),
            }
    return {}


def _called(table, names):
    """The columns whose names are among these, whatever their case, in the order of the names."""
    columns = {column.casefold(): column for column in table}
    return [columns[name] for name in names if name in columns]


def _is_label(column):
    return column is not None and column.casefold() in LABELS


def _label_column(table, given):
    """The column of labels: the one given, by its name, or the only one if its values repeat."""
    if given.get("label_column") in list(table):
        return given["label_column"]
    if named := _called(table, LABELS):
        return named[0]
    if weak := [column for column in _called(table, WEAK_LABELS) if _repeats(table[column])]:
        return weak[0]
    others = [column for column in table if column.casefold() not in (*FOLDS, *SIDES, *GROUPS)]
    return others[0] if len(others) == 1 and _repeats(table[others[0]]) else None


def _repeats(column):
    return 2 <= 2 * column.nunique() <= len(column)


def _flags(table):
    """Keys for columns of 0 and 1, of which several may hold in a row; None for other columns."""
    if table.shape[1] < 2 or table.empty or not table.isin(ZERO_OR_ONE).all(axis=None):
        return None
    several = table.astype(float).sum(axis=1).ne(1).any()
    return {"multilabel": True if several else None}


def _several(column):
    """Keys for a column of several labels per row, {} for one of a label each.

    Labels between separators come in several company: "bark", "bark,purr", "purr,meow". Where the
    parts of a text never meet others ("Speech, male"), or stand alone only with others (spaces), it
    is one name.
    """
    cells = pd.Series([text for text in column.unique() if text], dtype=object)
    if cells.empty:
        return {}
    if cells.str.fullmatch(r"\[.*\]").all():  # as Python writes lists
        return {"multilabel": True}
    for separator in SEPARATORS:
        parts = cells.str.split(separator).explode().str.strip()
        parts = parts[parts.ne("")]
        joined = parts[parts.index.duplicated(keep=False)].drop_duplicates()
        by_spaces = separator == " "
        company = cells if by_spaces else parts[parts.duplicated()]
        if len(joined) and joined.isin(company).mean() >= (1.0 if by_spaces else 0.5):
            return {"multilabel": True, "label_separator": separator}
    return {}


def _binds(column, lists):
    """Whether a column can form groups.

    Values are shared, and most classes, at least two, have two of them.
    """
    rows = pd.DataFrame({"label": lists, "value": column}).explode("label")
    labels = rows["label"].str.strip()
    enough = rows.groupby(labels)["value"].nunique() >= 2
    shared = column.nunique() < len(column)
    return bool(shared and enough.sum() >= 2 and enough.mean() >= 0.5)


def _are_folds(column):
    folds = filenames.folds(column)
    return bool(folds.notna().all() and 2 <= folds.nunique() <= 20)


# --- what is not recognised


def seen(root: str | Path) -> str:
    """What lies in a folder whose labels are not found, and a preset's lines that would read it."""
    recordings, tested, _ = _files(root)
    counts = pd.Series([path.suffix.casefold() for path in walk(root)]).value_counts()
    facts = [f"{count} {suffix or 'without extension'}" for suffix, count in counts[:5].items()]
    names = label_tables(root)
    readable = {name: _read(root, name) for name in names[:3]}
    readable = {name: table for name, table in readable.items() if table is not None}
    for name, table in readable.items():
        facts.append(f"{name} has {len(table)} rows ({', '.join(table.columns[:8])})")
    told, pattern = _parts_seen(recordings)
    first = next(iter(readable or names), "labels.csv")
    keys = {"labels_csv": first, "id_column": "file", "label_column": "label"}
    if readable:
        keys |= _likely(readable[first], [*recordings, *tested])
    elif pattern:
        keys = {"name_pattern": pattern}
    lines = "".join(f"\n  {key}: {value}" for key, value in keys.items())
    return (
        f"What was seen: {'; '.join([*facts, *told])}. If one of them is the class, a preset reads "
        f"it; change it where it is wrong and give it as PRESET=my.yaml:\ndata:{lines}"
    )


def _parts_seen(recordings):
    """(parts of names that repeat, in words; the pattern in YAML that takes the first as class)."""
    facts = []
    pattern = ""
    for mark, table in filenames.split(recordings):
        several = table.nunique()
        repeated = several[several.between(2, len(table) // 2)]
        for place, count in repeated[:3].items():
            some = ", ".join(sorted(table[place].unique())[:3])
            facts.append(f"part {place + 1} of the names has {count} values ({some}, …)")
        if len(repeated) and not pattern:
            parts = [f"[^{mark}]+"] * table.shape[1]
            parts[repeated.index[0]] = f"(?P<label>[^{mark}]+)"
            pattern = f"'{mark.join(parts)}'"
    return facts, pattern


def _likely(table, recordings):
    """The columns of a table that most likely hold names and labels."""
    names = [set(tables.spellings(path)) for path in recordings]
    fitting = pd.Series({column: _n_named(names, table[column]) for column in table})
    column = fitting.idxmax()
    values = table.drop(columns=column).nunique()
    repeated = values[values.between(2, len(table) // 2)].sort_values(kind="stable")
    label = next(iter(repeated.index), values.index[0])
    return {"id_column": column, "label_column": label}


def _n_named(names, column):
    """How many recordings a column names. Args: names what each may be called."""
    listed = _names_in(column)
    return sum(not spellings.isdisjoint(listed) for spellings in names)


# --- what lies where, and what names tell

SIDES_TOLD = ("train_folders", "test_folders", "test_csv", "split_column", "fold_column")
LABELS_TOLD = ("labels_csv", "label_pattern", "name_pattern")
LISTS = {"test": "testing_list.txt", "validation": "validation_list.txt"}


def by_place(root: str | Path, own: dict, rows_are_told: bool = False) -> tuple[dict, str]:
    """Keys for sides told by lists or folders, for names that tell the class, for windows asked
    for; and how that was told.

    Args: root folder; own what is set of the section data, without "data."; rows_are_told whether
        the settings say themselves what the submission's rows are.
    """
    root = Path(root)
    train, test, candidates = _files(root, own.get("unlabelled", ()))
    keys = {} if any(map(own.get, SIDES_TOLD)) else _listed_sides(root) or _folder_sides(train)
    words = _sides_in_words(keys)
    if not any(own.get(key, "auto") not in ("auto", None) for key in LABELS_TOLD):
        grammar, says = _told_by_names(train)
        keys |= grammar
        words += says
    keys = {f"data.{name}": value for name, value in keys.items()}
    if windows := {} if rows_are_told else _windows(root, train, test, candidates):
        keys |= windows
        words.append(f"a row per {windows['audio.clip_seconds']:g} s of each test recording")
    return keys, ", ".join(words)


def _told_by_names(recordings):
    """(keys, words) for names that tell the class, where no folders do."""
    if len({class_folder(path) for path in recordings}) > 1:
        return {}, []
    pattern, says = filenames.telling(recordings)
    return ({"name_pattern": pattern}, [says]) if pattern else ({}, [])


def class_folder(path: str) -> str:
    """The innermost folder of a recording; "" where it is a mere container, or a side.

    >>> class_folder("train/dog/1.wav"), class_folder("data/train/1.wav")
    ('dog', '')
    """
    name = PurePosixPath(path).parent.name
    return "" if name.casefold() in TRAIN_NAMES | TEST_NAMES | CONTAINERS else name


def _listed_sides(root):
    """Keys for lists of files as of Speech Commands."""
    found = {side: sorted(root.glob(f"**/{name}"))[:1] for side, name in LISTS.items()}
    return {
        f"{side}_csv": path.relative_to(root).as_posix()
        for side, paths in found.items()
        for path in paths
    }


def _folder_sides(recordings):
    """Keys for folders such as val beside one such as train."""
    parents = {parent for path in recordings for parent in PurePosixPath(path).parents}
    learned = {folder.parent for folder in parents if folder.name.casefold() in TRAIN_NAMES}
    folders = [
        str(folder)
        for folder in sorted(parents)
        if folder.name.casefold() in VALIDATION_NAMES and folder.parent in learned
    ]
    return {"validation_folders": tuple(folders)} if folders else {}


def _windows(root, train, test, candidates):
    """Keys for a sample submission whose ids are a test file's name and seconds; {} for others."""
    samples = [path for path in candidates if re.search("sample.*submission", path.casefold())]
    sample = _read(root, samples[0]) if samples else None
    ids = pd.Series(dtype=str) if sample is None else sample.iloc[:, 0]
    stems = {PurePosixPath(path).stem for path in test}
    known = {PurePosixPath(path).stem for path in train} | stems
    step, asked = _steps(ids)
    fitting = asked <= stems if test else asked.isdisjoint(known)
    if not fitting or not known.isdisjoint(ids) or step < (1 if test else 2):
        return {}
    hidden = {"data.allow_empty_test": True, "submit.rows_from": "files"}
    return {
        "audio.test_windows": True,
        "audio.clip_seconds": float(step),
        "submit.id": "{stem}_{end}",
        **({} if test else hidden),
    }


def _steps(ids):
    """(seconds from one window's end to the next, names) where ids are names and ends; (0, …) else.

    >>> _steps(pd.Series(["a_5", "a_10", "b_5"])) == (5, {"a", "b"})
    True
    """
    parts = ids.str.extract(r"^(.+)_(\d{1,6})$")
    if parts.empty or parts.isna().any(axis=None):
        return 0, set()
    ends = parts[1].astype(int)
    step = math.gcd(*ends)
    by_name = ends.groupby(parts[0])
    in_turn = by_name.nunique().mul(step).eq(by_name.max()).all()
    return (step if in_turn else 0), set(parts[0])
