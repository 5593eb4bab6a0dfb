"""What file names tell: a recording's source, its official fold, its label; and their parts."""

import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

import pandas as pd

from helpers.base.errors import SourceError

# File names of public sets. The group is whoever, or whatever, must stay on one side: a source, a
# speaker, a recordist. The label counts only where neither a table nor folders tell it.
NAME_GRAMMARS = {
    "ESC-50": r"(?P<fold>[1-5])-(?P<group>\d+)-[A-Z](?:-\d+)?",
    "UrbanSound8K": r"(?P<group>\d+)-(?P<label>\d+)-\d+-\d+",
    "Speech Commands": r"(?P<group>[0-9a-f]{8})_nohash_\d+",
    "xeno-canto": r"(?P<group>XC\d+)(?:[-_ ].*)?",
    "Free Spoken Digits": r"(?P<label>\d)_(?P<group>[a-z]+)_\d+",
    "AudioMNIST": r"(?P<label>\d)_(?P<group>\d\d)_\d+",
    "RAVDESS": r"(?:\d\d-){2}(?P<label>\d\d)-(?:\d\d-){3}(?P<group>\d\d)",
    "CREMA-D": r"(?P<group>1\d{3})_[A-Z]{3}_(?P<label>[A-Z]{3})_[A-Z]{2}",
    "EMO-DB": r"(?P<group>\d\d)[ab]\d\d(?P<label>[A-Z])[a-z]?",
    "VCTK": r"(?P<group>[ps]\d{3})_\d{3}.*",
    "LibriSpeech": r"(?P<group>\d+)-\d+-\d{4}",
}
# What stands between signs is a part; a UUID, a date, or a number behind the word for who or what
# it counts is one.
WHO = (
    "speaker|spkr|spk|user|subject|subj|sub|participant|patient|person|actor|singer|author|"
    "recordist|animal|individual|device|phone|mic|recorder|logger|sensor|node|site|station|"
    "location|loc|place|house|home|room|session|sess|source"
)
NAMED = rf"(?i:{WHO})[-_ ]?\d+"
DATE = r"(?:19|20)\d\d([-_.])(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
PART = re.compile(rf"(?:{UUID}|{DATE}|{NAMED})(?![^\W_])|[^\W_]+")
MAX_PARTS = 12  # that are looked at, from either end of a name
# Share of the names that must change from letters to digits alike for a part to be cut there.
SAME_SHAPE = 0.9
# Where letters and digits are drawn at random: share of the values, and most that look alike.
CODED = 0.25
MIXED = 0.6
# A counter uses more of the numbers up to its largest, a serial number or a date fewer.
COUNTED = 0.05
RATES = "8000|11025|16000|22050|24000|32000|44100|48000|96000"  # Hz; no serial numbers
# Share of the names that a known grammar has to fit; the others count as sources of their own.
FITTING = 0.9
MARKS = "_-. "  # between the parts of a name that tells the class


def stems(paths: Iterable[str]) -> pd.Series:
    """The names of files without folders and extension."""
    return pd.Series([PurePosixPath(path).stem for path in paths], dtype=object)


def grammar_of(names: Iterable[str], pattern: str = "auto") -> tuple[str | None, re.Pattern | None]:
    """The pattern that reads the group (and official fold) from file names: (title, regex).

    A known grammar is used only if nearly every name fits it; (None, None) where none does.

    >>> grammar_of(["1-100032-A.ogg", "2-114280-B.ogg"])[0]
    'ESC-50'
    >>> grammar_of(["rex.wav", "2-114280-B.ogg"])
    (None, None)
    """
    if pattern != "auto":
        return "given pattern", re.compile(pattern)
    names = stems(names)
    for title, grammar in NAME_GRAMMARS.items():
        if names.str.fullmatch(grammar).mean() >= FITTING:
            return title, re.compile(grammar)
    return None, None


def facts(paths: Iterable[str], pattern: re.Pattern | None) -> pd.DataFrame:
    """What a pattern reads from file names: a table group, fold, label, a row per path.

    "" stands where it reads nothing. Args: paths; pattern a regex with named groups, or None.
    """
    rows = []
    for stem in stems(paths):
        match = pattern.fullmatch(stem) if pattern else None
        rows.append(match.groupdict() if match else {})
    table = pd.DataFrame(rows, columns=["group", "fold", "label"], dtype=object)
    return table.fillna("")


def check_fits(pattern: str, paths: Iterable[str]) -> None:
    """Refuse a pattern given by the user that fits none of the training recordings' names."""
    names = stems(paths)
    if len(names) and not names.str.fullmatch(pattern).any():
        raise SourceError(
            f"data.name_pattern {pattern!r} fits none of the file names, such as {names[0]!r}."
        )


def folds(texts: pd.Series) -> pd.Series:
    """Numbers of official folds, Int64: missing where a text holds no number.

    >>> folds(pd.Series(["3", "fold4", "5.0", ""])).tolist()
    [3, 4, 5, <NA>]
    """
    return pd.to_numeric(texts.str.extract(r"(\d+)")[0]).astype("Int64")


def telling(paths: Iterable[str]) -> tuple[str | None, str]:
    """The pattern that reads the class from names, and in words how; (None, "") where none does.

    A known grammar is taken, else the first part that is a word and repeats. The first other part
    that repeats within the classes, and is no counter, is who belongs together.

    >>> telling([f"{kind}_{who}_{n}.wav" for kind in ("bark", "moo") for who in "ab" for n in "12"])
    ('(?P<label>[^_]+)_(?P<group>[^_]+)_[^_]+', 'classes: part 1 of the names, groups: part 2')
    """
    title, grammar = grammar_of(paths)
    if grammar:
        told = "(?P<label>" in grammar.pattern
        return (grammar.pattern, f"classes: names as of {title}") if told else (None, "")
    for mark, table in split(paths):
        classes = [place for place in table if _are_classes(table[place])]
        if classes:
            return _told_by(table, classes[0], re.escape(mark))
    return None, ""


def split(paths: Iterable[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Names cut at each mark that gives nearly all of them as many parts: (mark, a column a part).

    >>> [(mark, table.shape) for mark, table in split(["a_1.wav", "b_2.wav"])]
    [('_', (2, 2))]
    """
    names = stems(paths)
    for mark in MARKS:
        rows = names.str.split(mark, regex=False)
        width = rows.map(len).mode().max() if len(rows) else 0
        table = pd.DataFrame(rows[rows.map(len).eq(width)].tolist(), dtype=object)
        if width > 1 and len(table) >= FITTING * len(names):
            yield mark, table


def _are_classes(values):
    """Whether a part of names may be the class: words, each of them in two names or more."""
    repeats = values.value_counts().min() > 1 and values.nunique() > 1
    return bool(repeats and kind(values) == "word")


def _told_by(table, label, mark):
    """The pattern and the words of names whose part `label` is the class."""
    facts = {"label": label}
    for place in table.columns.difference([label]):
        counts = table.groupby(label)[place].nunique()
        binds = counts.min() > 1 and table[place].value_counts().min() > 1
        if binds and kind(table[place]) != "number":
            facts["group"] = place
            break
    names = {place: f"(?P<{fact}>[^{mark}]+)" for fact, place in facts.items()}
    pattern = mark.join(names.get(place, f"[^{mark}]+") for place in table)
    words = {"label": "classes", "group": "groups"}
    said = [f"{words[fact]}: part {place + 1}" for fact, place in facts.items()]
    said[0] += " of the names"
    return pattern, ", ".join(said)


# --- names as a whole


def parts(paths: Iterable[str]) -> pd.DataFrame:
    """What stands at each place of file names and folders: a table of texts, a row per path.

    Places count from both ends: "name part 1", "name part 1 from the end", "folder 1", …; "" where
    nothing stands. A part such as dog12, where nearly all names change there from letters to digits
    alike, has pieces; "first 2 name parts" are joined.

    >>> parts(["a/user-3_take2.wav", "b/user-4_take2.wav"])["name part 1"].tolist()
    ['user-3', 'user-4']
    """
    paths = [PurePosixPath(path) for path in paths]
    names = [_words(path.stem) for path in paths]
    folders = [path.parent.parts for path in paths]
    first = _places(names, "name part {}")
    heads = pd.DataFrame(index=first.index)
    for number in range(2, first.shape[1] + 1):
        joined = ["_".join(name[:number]) if len(name) >= number else "" for name in names]
        heads[f"first {number} name parts"] = pd.Series(joined, dtype=object)
    tables = [
        _with_pieces(first),
        _with_pieces(_places(_reversed(names), "name part {} from the end")),
        heads,
        _places(folders, "folder {}"),
        _places(_reversed(folders), "folder {} from the end"),
    ]
    return pd.concat(tables, axis=1)


def _reversed(rows):
    return [row[::-1] for row in rows]


def _words(stem):
    return [match.group() for match in PART.finditer(stem)]


def _places(rows, title):
    """A table of the texts at the first place, the second, …, by title."""
    table = pd.DataFrame([list(row[:MAX_PARTS]) for row in rows], dtype=object).fillna("")
    return table.rename(columns=lambda place: title.format(place + 1))


def _with_pieces(table):
    """The columns, each followed by its runs of letters and of digits where most have the same."""
    wider = []
    for title, column in table.items():
        wider.append(column)
        runs = column.str.findall(r"\d+|\D+")
        shapes = runs.map(lambda texts: tuple(map(str.isdigit, texts))).value_counts(normalize=True)
        n_pieces = len(shapes.index[0])
        if shapes.iloc[0] >= SAME_SHAPE and n_pieces > 1:
            pieces = [runs.str[piece].fillna("") for piece in range(n_pieces)]
            wider += [piece.rename(f"{title}, piece {n}") for n, piece in enumerate(pieces, 1)]
    return pd.concat(wider, axis=1) if wider else table


def kind(values: Iterable[str]) -> str:
    """What texts look like: "code", "serial", "named", "number" or "word".

    A code is drawn at random, a serial number may be a date, a number is a counter.

    >>> kind(["a3f9", "90cc", "7b1e", "c04d"]), kind(["20240512", "20240513"])
    ('code', 'serial')
    >>> kind(["spk1", "spk2"])
    'named'
    >>> kind(["01", "02", "03"]), kind(["anna", "ben"])
    ('number', 'word')
    """
    values = pd.Series(sorted({value for value in values if value}), dtype=object)
    if values.str.fullmatch(NAMED).mean() >= FITTING:
        return "named"
    if values.str.fullmatch(DATE).mean() >= FITTING:
        return "serial"
    shapes = values.str.replace(r"\d+", "0", regex=True).str.replace(r"[^\W\d_]+", "a", regex=True)
    random = shapes.str.len().ge(3) & values.str.len().ge(4)
    if random.mean() >= CODED and shapes.value_counts(normalize=True).iloc[0] < MIXED:
        return "code"
    if values.str.fullmatch(UUID).mean() >= FITTING:
        return "code"
    numbers = values.str.extract(r"^\D*(\d{1,15})$")[0].dropna().astype(float)
    if len(numbers) < FITTING * len(values) or values.str.fullmatch(RATES).all():
        return "number" if values.str.contains(r"\d").mean() >= FITTING else "word"
    return "number" if numbers.nunique() > COUNTED * numbers.quantile(0.95) else "serial"
