"""What is known of recordings without hearing them, as numbers: facts of recordings.csv, parts of
file names.
"""

import re
from pathlib import PurePosixPath

import pandas as pd

from helpers.data import filenames

FACTS = (
    *(
        "sample_rate",
        "channels",
        "codec",
        "bit_depth",
        "cut_off_hz",
        "dc_offset",
        "exact_duration",
        "duration_seconds",
    ),
    *(
        "bandwidth_hz",
        "peak",
        "rms_db",
        "clipped_fraction",
        "silence_fraction",
        "leading_silence_seconds",
    ),
    "noise_floor_db",
)
MAX_VALUES = 50  # texts of a column that are told apart, the most frequent ones
SPELLED = 3  # letters that a class's name must have to be told from a number or an initial
COMMON_DURATION = (
    0.05  # share of the recordings that must have exactly one duration for it to be told apart
)
LEAST_OFFSET = 0.003  # full scale; a smaller mean is left by the sound itself, more by a low one


def file_facts(recordings):
    """The columns of FACTS that are there and not all alike, as numbers: float [n, columns].

    exact_duration and cut_off_hz are 0 where a length is not common, a spectrum not cut off.
    """
    rows = recordings.reset_index(drop=True)
    facts = {name: pd.to_numeric(rows[name]) for name in FACTS if name in rows and name != "codec"}
    if "codec" in rows:
        facts["codec"] = codes(rows["codec"])
    if "dc_offset" in facts:
        facts["dc_offset"] = facts["dc_offset"].where(
            facts["dc_offset"].abs().ge(LEAST_OFFSET), 0.0
        )
    if "duration_seconds" in facts:
        exact = facts["duration_seconds"].round(3)
        shares = exact.map(exact.value_counts(normalize=True))
        facts["exact_duration"] = exact.where(shares.ge(COMMON_DURATION), 0.0)
    if (
        "bandwidth_hz" in facts and "flags" in rows
    ):  # the band of a loud click is wide, but only a format breaks it off
        facts["cut_off_hz"] = facts["bandwidth_hz"].where(
            rows["flags"].str.contains("LOW_BANDWIDTH", na=False), 0.0
        )
    return _varied({name: facts[name] for name in FACTS if name in facts})


def name_facts(paths, labels=None):
    """What the file names say, folders left out: float [n, columns] "name part 1", … and "name
    shape".

    Parts are those of `grammars.parts`, from both ends. Where a name spells its class, that is one
    part, always the same, and `class_places` are left out: no model reads them. Args: labels str
    [n], or None.
    """
    stems = _stems(paths)
    read = stems if labels is None else _without_class(stems, labels)
    shape = read.str.replace(r"\d+", "0", regex=True).str.replace(r"[^\W\d_]+", "a", regex=True)
    told = [] if labels is None else class_places(read, labels)
    told += [place.partition(", piece")[0] for place in told]  # a whole tells what its piece does
    parts = _name_parts(read).drop(columns=told)
    facts = _varied({name: codes(parts[name]) for name in parts} | {"name shape": codes(shape)})
    return facts.loc[:, ~facts.T.duplicated()]


def class_in_names(paths, labels):
    """The places at which file names tell the class itself, in words; an empty list where they do
    not.

    >>> class_in_names(["1_dog.wav", "2_cat.wav", "3_dog.wav"], ["dog", "cat", "dog"])
    ['spelled out']
    """
    stems = _stems(paths)
    spelled = _without_class(stems, labels)
    return ["spelled out"] * bool(spelled.ne(stems).mean() > 0.5) + class_places(spelled, labels)


def class_places(stems, labels):
    """The parts of names that stand for the class: one text for each. A serial number, a random
    code or a date does
    not: it is what a class was recorded with, or when, and that can be heard.
    """
    parts, labels = _name_parts(stems), pd.Series(list(labels), dtype=object)
    told = [name for name in parts if one_to_one(parts[name], labels)]
    return [name for name in told if filenames.kind(parts[name]) in ("word", "number")]


def one_to_one(values, others, share=0.95):
    """Whether nearly all rows with the same of `others` have the same of `values`, and a different
    one for each.

    >>> one_to_one(pd.Series(["d", "d", "c", "c"]), pd.Series(["dog", "dog", "cat", "cat"]))
    True
    """
    usual = values.groupby(others).agg(lambda texts: texts.mode().iloc[0])
    agreeing = values.eq(others.map(usual)).groupby(others).mean()
    return bool(len(usual) > 1 and usual.is_unique and agreeing.mean() >= share)


def _stems(paths):
    return pd.Series([PurePosixPath(path).stem for path in paths], dtype=object)


def _name_parts(stems):
    parts = filenames.parts(stems + ".")
    return parts[[name for name in parts if name.startswith("name part")]]


def _without_class(stems, labels):
    """Names without the class that they spell; classes with fewer than three letters could be
    anything.
    """
    return pd.Series(
        [_without(stem, label) for stem, label in zip(stems, labels, strict=True)], dtype=object
    )


def _without(stem, label):
    if sum(map(str.isalpha, label)) < SPELLED:
        return stem
    words = r"[\W_]*".join(map(re.escape, re.findall(r"[^\W_]+", label)))
    return re.sub(r"(?<![^\W\d_])" + words + r"(?![^\W\d_])", "class", stem, flags=re.IGNORECASE)


def codes(values):
    """Texts as numbers, float [n]: their value where all are whole numbers, else a number for each
    frequent text.

    Numbers follow the alphabet; texts that stand alone, or behind MAX_VALUES more frequent ones,
    share a 0, and a missing text is NaN: thousands of names of sources become nothing, a class in
    every name becomes a column.

    >>> codes(pd.Series(["b", "a", "b", "a", "c", ""])).tolist()
    [2.0, 1.0, 2.0, 1.0, 0.0, nan]
    """
    values = values.where(values.notna() & values.ne(""))
    if values.dropna().str.fullmatch(r"[0-9]{1,15}").all():  # longer ones a float does not hold
        return values.astype(float)
    counts = values.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    known = sorted(counts[counts > 1].index[:MAX_VALUES])
    return (
        values.map({text: number for number, text in enumerate(known, 1)})
        .fillna(0.0)
        .where(values.notna())
    )


def _varied(columns):
    """Columns as a table of floats, without those that hold one value only."""
    table = pd.DataFrame({name: column.astype(float) for name, column in columns.items()})
    return table[[name for name in table if table[name].nunique(dropna=False) > 1]]
