"""What file names tell: the source that a recording was cut from, its official fold, its label; and
their parts.
"""

import re
from pathlib import PurePosixPath

import pandas as pd

from helpers.base.errors import SourceError

# File names of public sets. The group is whoever, or whatever, must stay on one side: a source, a
# speaker, a recordist.
NAME_GRAMMARS = {
    "ESC-50": r"(?P<fold>[1-5])-(?P<group>\d+)-[A-Z](?:-\d+)?",
    "UrbanSound8K": r"(?P<group>\d+)-\d+-\d+-\d+",
    "Speech Commands": r"(?P<group>[0-9a-f]{8})_nohash_\d+",
    "xeno-canto": r"(?P<group>XC\d+)(?:[-_ ].*)?",
    "Free Spoken Digits": r"\d_(?P<group>[a-z]+)_\d+",
    "AudioMNIST": r"\d_(?P<group>\d\d)_\d+",
    "RAVDESS": r"(?:\d\d-){6}(?P<group>\d\d)",
    "CREMA-D": r"(?P<group>1\d{3})_[A-Z]{3}_[A-Z]{3}_[A-Z]{2}",
    "EMO-DB": r"(?P<group>\d\d)[ab]\d\d[A-Z][a-z]?",
    "VCTK": r"(?P<group>[ps]\d{3})_\d{3}.*",
    "LibriSpeech": r"(?P<group>\d+)-\d+-\d{4}",
}
# What stands between signs is a part; a UUID, a date, or a number behind the word for who or what
# it counts is one.
WHO = (
    "speaker|spkr|spk|user|subject|subj|sub|participant|patient|person|actor|singer|author|recordist|animal|individual|"
    "device|phone|mic|recorder|logger|sensor|node|site|station|location|loc|place|house|home|room|session|sess|source"
)
NAMED = rf"(?i:{WHO})[-_ ]?\d+"
DATE = r"(?:19|20)\d\d([-_.])(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
PART = re.compile(rf"(?:{UUID}|{DATE}|{NAMED})(?![^\W_])|[^\W_]+")
MAX_PARTS = 12  # that are looked at, from either end of a name
# share of the names that must change from letters to digits alike for a part to be cut there
SAME_SHAPE = 0.9
# share of the values, and MIXED, most that look alike, where letters and digits are drawn at random
CODED = 0.25
MIXED = 0.6
COUNTED = (
    0.05  # a counter uses more of the numbers up to its largest, a serial number or a date fewer
)
RATES = {
    "8000",
    "11025",
    "16000",
    "22050",
    "24000",
    "32000",
    "44100",
    "48000",
    "96000",
}  # Hz; no serial numbers

# share of the names that a known grammar has to fit; the others count as sources of their own
FITTING = 0.9


def grammar_of(names, pattern="auto"):
    """The pattern that reads the group (and official fold) from file names: (title, regex) or
    (None, None).

    A known grammar is used only if nearly every name fits it.

    >>> grammar_of(["1-100032-A.ogg", "2-114280-B.ogg"])[0]
    'ESC-50'
    >>> grammar_of(["rex.wav", "2-114280-B.ogg"])
    (None, None)
    """
    stems = [PurePosixPath(name).stem for name in names]
    if pattern != "auto":
        return "given pattern", re.compile(pattern)
    for title, grammar in NAME_GRAMMARS.items():
        fitting = sum(re.fullmatch(grammar, stem) is not None for stem in stems)
        if stems and fitting >= FITTING * len(stems):
            return title, re.compile(grammar)
    return None, None


def facts(paths, pattern):
    """What a pattern reads from file names: a table group, fold, label, a row per path; "" where it
    reads nothing.

    Args: paths iterable of str; pattern a regex with named groups, or None.
    """
    matches = [pattern.fullmatch(PurePosixPath(path).stem) if pattern else None for path in paths]
    found = [match.groupdict() if match else {} for match in matches]
    return pd.DataFrame(
        [{name: fact.get(name) or "" for name in ("group", "fold", "label")} for fact in found]
    )


def check_fits(pattern, paths):
    """Refuse a pattern given by the user that fits none of the training recordings' names."""
    stems = [PurePosixPath(path).stem for path in paths]
    if stems and not any(re.fullmatch(pattern, stem) for stem in stems):
        raise SourceError(
            f"data.name_pattern {pattern!r} fits none of the file names, such as {stems[0]!r}."
        )


def folds(texts):
    """Official folds as numbers: a nullable integer array."""
    return pd.array([int(text) if text.isdecimal() else None for text in texts], dtype="Int64")


# --- names as a whole
# --------------------------------------------------------------------------------------


def parts(paths):
    """What stands at each place of file names and folders: a table of texts, a row per path; ""
    where nothing does.

    Places count from both ends: "name part 1", "name part 1 from the end", "folder 1", … A part
    such as dog12, where nearly all names change there from letters to digits alike, has pieces;
    "first 2 name parts" are joined.

    >>> parts(["a/user-3_take2.wav", "b/user-4_take2.wav"])["name part 1"].tolist()
    ['user-3', 'user-4']
    """
    paths = [PurePosixPath(path) for path in paths]
    names = [[match.group() for match in PART.finditer(path.stem)] for path in paths]
    folders = [list(path.parent.parts) for path in paths]
    first = _places(names, "name part {}")
    columns = _with_pieces(first) | _with_pieces(
        _places(_reversed(names), "name part {} from the end")
    )
    for number in range(2, len(first) + 1):
        heads = ["_".join(name[:number]) if len(name) >= number else "" for name in names]
        columns[f"first {number} name parts"] = pd.Series(heads, dtype=object)
    columns |= _places(folders, "folder {}") | _places(_reversed(folders), "folder {} from the end")
    return pd.DataFrame(columns, index=range(len(paths)))


def _reversed(rows):
    return [row[::-1] for row in rows]


def _places(rows, title):
    """Columns of the texts at the first place, the second, …, by title."""
    width = min(max(map(len, rows), default=0), MAX_PARTS)
    texts = [row[:width] + [""] * (width - len(row)) for row in rows]
    return {
        title.format(place + 1): pd.Series([row[place] for row in texts], dtype=object)
        for place in range(width)
    }


def _with_pieces(columns):
    """The columns, each followed by its runs of letters and of digits where nearly all values have
    the same ones.
    """
    wider = {}
    for title, column in columns.items():
        wider[title] = column
        runs = column.map(lambda text: re.findall(r"\d+|\D+", text))
        shapes = runs.map(lambda texts: tuple(text.isdigit() for text in texts))
        if (
            shapes.value_counts(normalize=True).iloc[0] < SAME_SHAPE
            or len(shapes.mode().iloc[0]) < 2
        ):
            continue
        for piece in range(len(shapes.mode().iloc[0])):
            wider[f"{title}, piece {piece + 1}"] = runs.map(
                lambda texts, n=piece: texts[n] if n < len(texts) else ""
            )
    return wider


def kind(values):
    """What texts look like: "code" (drawn at random), "serial" (or a date), "named", "number" (a
    counter) or "word".

    >>> kind(["a3f9", "90cc", "7b1e", "c04d"]), kind(["20240512", "20240513"]), kind(["spk1", "spk2"])
    ('code', 'serial', 'named')
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
    if len(numbers) < FITTING * len(values) or RATES.issuperset(values):
        return "number" if values.str.contains(r"\d").mean() >= FITTING else "word"
    return "number" if numbers.nunique() > COUNTED * numbers.quantile(0.95) else "serial"
