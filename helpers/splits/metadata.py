"""What is known of recordings without hearing them, as numbers: facts, and parts of names."""

import re
from collections.abc import Iterable

import pandas as pd

from helpers.layouts import filenames

TO_ALL_RATES = "lower audio.sample_rate or features.f_max to what every recording holds"
# The facts by kind, and what to do where one tells the class.
ADVICE = {
    "format": {
        "sample_rate": "bring all recordings to the lowest rate; what a low rate has cut off stays"
        " cut off",
        "channels": "mix all recordings down to one channel",
        "codec": "encode all recordings alike: lossy codecs leave traces that a network hears",
        "bit_depth": "store all recordings with the smallest depth: rounding leaves a noise of its"
        " own",
        "cut_off_hz": TO_ALL_RATES,
        "dc_offset": "take the offset out: clean.high_pass_hz",
        "exact_duration": "cut all recordings with the same tool to the same lengths",
    },
    "sound": {
        "duration_seconds": "cut shorter clips, so that no padding shows how long a recording was",
        "bandwidth_hz": TO_ALL_RATES,
        "peak": "bring all recordings to one peak: clean.normalise",
        "rms_db": "bring all recordings to one level: clean.normalise, train.gain_db",
        "clipped_fraction": "leave out what is clipped, or see that every class is",
        "silence_fraction": "trim the edges, clean.trim_db, and fill short clips:"
        " audio.short_clips=loop",
        "leading_silence_seconds": "trim the edges, clean.trim_db, and shift the clips:"
        " train.shift",
        "noise_floor_db": "mix in noise: gaussian_noise in augment.transforms",
    },
}
FACTS = [name for facts in ADVICE.values() for name in facts]
MAX_VALUES = 50  # texts of a column that are told apart, the most frequent ones
SPELLED = 3  # letters that a class's name must have to be told from a number or an initial
# Share of the recordings that must have exactly one duration for it to be told apart.
COMMON_DURATION = 0.05
LEAST_OFFSET = 0.003  # full scale; a smaller mean is left by the sound itself, more by a low one


def file_facts(recordings: pd.DataFrame) -> pd.DataFrame:
    """The columns of FACTS that are there and not all alike, as numbers: float [n, columns].

    exact_duration and cut_off_hz are 0 where a length is not common, a spectrum not cut off.
    """
    rows = recordings.reset_index(drop=True).reindex(columns=[*FACTS, "flags"]).astype(object)
    numbers = rows.drop(columns=["codec", "flags"]).apply(pd.to_numeric)
    is_offset = numbers["dc_offset"].abs().ge(LEAST_OFFSET)
    exact = numbers["duration_seconds"].round(3)
    shares = exact.map(exact.value_counts(normalize=True))
    # The band of a loud click is wide, but only a format breaks it off.
    cut_off = rows["flags"].str.contains("LOW_BANDWIDTH", na=False)
    facts = numbers.assign(
        codec=codes(rows["codec"]),
        dc_offset=numbers["dc_offset"].where(is_offset, 0.0),
        exact_duration=exact.where(shares.ge(COMMON_DURATION), 0.0),
        cut_off_hz=numbers["bandwidth_hz"].where(cut_off, 0.0),
    )
    return _varied(facts[FACTS])


def name_facts(paths: pd.Series, labels: pd.Series | None = None) -> pd.DataFrame:
    """What the file names say, folders left out: float [n, columns].

    The columns are "name part 1", … as in `filenames.parts`, from both ends, and "name shape".
    Where a name spells its class, that is one part, always the same, and `class_places` are left
    out: no model reads them. Args: labels str [n], or None.
    """
    stems = filenames.stems(paths)
    read = stems if labels is None else _without_class(stems, labels)
    shape = read.str.replace(r"\d+", "0", regex=True).str.replace(r"[^\W\d_]+", "a", regex=True)
    told = [] if labels is None else class_places(read, labels)
    told += [place.partition(", piece")[0] for place in told]  # a whole tells what its piece does
    parts = _name_parts(read).drop(columns=told)
    parts["name shape"] = shape
    facts = _varied({name: codes(parts[name]) for name in parts})
    return facts.loc[:, ~facts.T.duplicated()]


def class_in_names(paths: Iterable[str], labels: Iterable[str]) -> list[str]:
    """The places at which file names tell the class itself, in words; [] where they do not.

    >>> class_in_names(["1_dog.wav", "2_cat.wav", "3_dog.wav"], ["dog", "cat", "dog"])
    ['spelled out']
    """
    stems = filenames.stems(paths)
    without = _without_class(stems, labels)
    spelled = without.ne(stems).mean() > 0.5
    return (["spelled out"] if spelled else []) + class_places(without, labels)


def class_places(stems: pd.Series, labels: Iterable[str]) -> list[str]:
    """The parts of names that stand for the class: one text for each.

    A serial number, a random code or a date does not: it is what a class was recorded with, or
    when, and that can be heard.
    """
    parts = _name_parts(stems)
    labels = pd.Series(list(labels), dtype=object)
    told = []
    for name, texts in parts.items():
        if one_to_one(texts, labels) and filenames.kind(texts) in ("word", "number"):
            told.append(name)
    return told


def one_to_one(values: pd.Series, others: pd.Series, share: float = 0.95) -> bool:
    """Whether nearly all rows with one of `others` have the same of `values`, each another.

    >>> one_to_one(pd.Series(["d", "d", "c", "c"]), pd.Series(["dog", "dog", "cat", "cat"]))
    True
    """
    usual = values.groupby(others).agg(lambda texts: texts.mode().iloc[0])
    if len(usual) < 2 or not usual.is_unique:
        return False
    agreeing = values.eq(others.map(usual))
    return bool(agreeing.groupby(others).mean().mean() >= share)


def _name_parts(stems):
    parts = filenames.parts(stems + ".")
    return parts[[name for name in parts if name.startswith("name part")]]


def _without_class(stems, labels):
    """Names without the class that they spell; one of two letters could be anything."""
    texts = [_without(stem, label) for stem, label in zip(stems, labels, strict=True)]
    return pd.Series(texts, dtype=object)


def _without(stem, label):
    if sum(map(str.isalpha, label)) < SPELLED:
        return stem
    words = r"[\W_]*".join(map(re.escape, re.findall(r"[^\W_]+", label)))
    return re.sub(r"(?<![^\W\d_])" + words + r"(?![^\W\d_])", "class", stem, flags=re.IGNORECASE)


def codes(values: pd.Series) -> pd.Series:
    """Texts as numbers, float [n]: whole numbers as they are, else a number for each frequent text.

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
    frequent = sorted(counts[counts > 1].index[:MAX_VALUES])
    numbers = {text: number for number, text in enumerate(frequent, 1)}
    return values.map(numbers).fillna(0.0).where(values.notna())


def _varied(columns):
    """Columns as a table of floats, without those that hold one value only."""
    table = pd.DataFrame(columns).astype(float)
    return table.loc[:, table.nunique(dropna=False) > 1]
