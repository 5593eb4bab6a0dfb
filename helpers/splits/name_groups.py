"""Groups that names propose: who was recorded together, where nothing else says it.

A part of the names, or a folder, that repeats within a few recordings may be a device, a person, a
place or a day. What looks like an identity (a UUID, a serial number, a date, speaker07, a folder
above the class) counts as one; a small number or a word only if recordings that share it sound more
alike than others of their class. What is proposed is used where every class keeps groups enough: if
it means nothing, it costs no more than folds dealt in larger pieces.
"""

import itertools

import numpy as np
import pandas as pd
from scipy.sparse import coo_array

from helpers.base import targets
from helpers.layouts import filenames
from helpers.splits import metadata, partition

COLUMNS = (
    "part",
    "kind",
    "values",
    "shared",
    "largest",
    "examples",
    "alike",
    "p_value",
    "used",
    "why",
)
SHARED = 0.1  # share of the recordings that must share their value with another
LARGEST = 0.5  # share of the recordings that one value may hold
LEAST_GROUPS = 3  # of a class: to train, to validate and to test
# So many values count without being heard, and so many where they can be heard.
TRUSTED = {"named": 3, "folder": 3, "code": 6, "serial": 6}
HEARD = {"word": 3, "number": 6, "code": 3, "serial": 3}
FORMATS = ("sample_rate", "channels", "codec", "bit_depth")
FALSE_ALARMS = 0.01  # share of data without groups in which a part may pass for one that is heard
PERMUTATIONS = 999
MOST_HEARD = 10


def propose(
    recordings: pd.DataFrame,
    data,
    pairs: pd.DataFrame | None = None,
    name_groups: str = "auto",
    seed: int = 0,
) -> pd.DataFrame:
    """The parts of names that may tell who was recorded together; at most one of them is used.

    Args: recordings in use, of both sides, a table of audio.survey; data the config's Data section;
        pairs of `duplicates.find`, or None; name_groups "auto" or "off".
    Returns a table of COLUMNS, best first: values how many; shared and largest, shares of the
        recordings; alike how much of the variance of the sound facts within the classes the part
        explains, beyond chance; p_value of that; why it is not used. It is empty where the config,
        a table, official folds or a grammar tell the groups.
    """
    train = recordings["split"].eq("train").to_numpy()
    rows = recordings[train].reset_index(drop=True)
    if _is_told(rows, data):
        return pd.DataFrame(columns=list(COLUMNS))
    texts = _distinct(filenames.parts(recordings["path"])[train].reset_index(drop=True))
    alone = _groups_of_classes(rows, pairs, data.multilabel)
    entries = [_described(part, texts) for part in texts if _shared(texts[part]) >= SHARED]
    for entry in entries:
        together = rows.assign(source=texts[entry["part"]])
        entry |= _weighed(entry, _groups_of_classes(together, pairs, data.multilabel), alone)
    entries = [entry for entry in entries if entry["of_a_class"] > 1]
    safe = [entry for entry in entries if not entry["why"]][:MOST_HEARD]
    for entry in safe:
        _hear(entry, texts[entry["part"]], rows, data.multilabel, FALSE_ALARMS / len(safe), seed)
    return _ranked(entries, name_groups)


def used(proposals: pd.DataFrame) -> str:
    """The part that is used, "" if none is. Args: proposals table of `propose`."""
    return next(iter(proposals.loc[proposals["used"].eq(True), "part"]), "")


def unite(recordings: pd.DataFrame, part: str) -> pd.DataFrame:
    """The recordings with what the part `used` says as their source; as they are without one."""
    if not part:
        return recordings
    return recordings.assign(source=filenames.parts(recordings["path"])[part].to_numpy())


def in_words(proposal: dict) -> str:
    """A proposal, a row of `propose`, with its evidence.

    Such as: proposed by the names: 9 values, the largest 0d1a (6), 41a7 (5); recordings of one
    value sound alike …
    """
    says = f"proposed by the names: {proposal['values']} values, the largest {proposal['examples']}"
    if proposal["p_value"] <= FALSE_ALARMS:
        p_value = f"p = {proposal['p_value']:.3f}"
        says += f"; recordings of one value sound alike beyond their class, {p_value}"
    why = "split.name_groups=off takes it back" if proposal["used"] else proposal["why"]
    return f"{says}; {why}"


def left_out(proposals: pd.DataFrame) -> str:
    """A sentence about the first proposal that looks like an identity or is heard; "" if none.

    Args: proposals of which none is used.
    """
    heard = proposals["p_value"].astype(float).le(FALSE_ALARMS)
    telling = proposals["kind"].isin(list(TRUSTED)) | heard
    rows = proposals[telling].to_dict("records")
    return f". Not used: the same {rows[0]['part']} ({in_words(rows[0])})" if rows else ""


def _is_told(rows, data):
    """Whether it is known who belongs together: nothing is proposed then."""
    sources = rows["source"][rows["source"].ne("")]
    by_config = bool(data.group_columns) or "(?P<group>" in data.name_pattern
    by_tables = rows["together"].ne("").any() or rows["official_fold"].notna().any()
    return by_config or by_tables or sources.duplicated().any()


def _distinct(texts):
    """The columns without those that part the recordings as one before them does."""
    seen = {}
    for part, values in texts.items():
        seen.setdefault(pd.factorize(values)[0].tobytes(), part)
    return texts[[*seen.values()]]


def _shared(values):
    """Share of the recordings whose value another one has."""
    return float((values.ne("") & values.duplicated(keep=False)).mean())


def _described(part, texts):
    """The entry of a part before it is weighed and heard."""
    values = texts[part]
    kind = _kind(part, texts)
    sizes = values[values.ne("")].value_counts()
    examples = [f"{value} ({size})" for value, size in sizes.head(3).items()]
    return {
        "part": part,
        "kind": kind,
        "values": len(sizes),
        "shared": _shared(values),
        "largest": sizes.max() / len(values),
        "examples": ", ".join(examples),
        "alike": np.nan,
        "p_value": np.nan,
        "heard": False,
        "trusted": len(sizes) >= TRUSTED.get(kind, np.inf),
    }


def _groups_of_classes(rows, pairs, multilabel):
    """How many groups each class has: a Series by label."""
    grouped = targets.by_class(rows.assign(group=partition.groups(rows, pairs)), multilabel)
    return grouped.groupby("label")["group"].nunique()


def _or_alone(values):
    """Values of a part; a recording whose name lacks it has one of its own."""
    return values.where(values.ne(""), " " + values.index.astype(str))


def _kind(part, texts):
    """What a part looks like; joined parts look like an identity only if each of them that varies
    does.
    """
    if part.startswith("folder"):
        return "folder"
    if not part.startswith("first"):
        return filenames.kind(texts[part])
    joined = texts.columns.intersection(
        [f"name part {number + 1}" for number in range(int(part.split()[1]))]
    )
    kinds = {filenames.kind(texts[name]) for name in joined if texts[name].nunique() > 1}
    return "code" if kinds and kinds.issubset(TRUSTED) else "word"


def _weighed(entry, groups, alone):
    """Why a part cannot be used, whatever it sounds like; and the usual number of a class's groups.

    Args: groups of each class with the part, and alone without it.
    """
    kind = entry["kind"]
    least = min(TRUSTED.get(kind, np.inf), HEARD.get(kind, np.inf))
    scarce = groups.index[groups < alone.clip(upper=LEAST_GROUPS)]
    why = f"too few values for a {kind}" if entry["values"] < least else ""
    if len(scarce):
        why = f"it would leave too few groups of {', '.join(map(str, scarce[:3]))}"
    if entry["largest"] > LARGEST:
        why = f"one value holds {entry['largest']:.0%} of the recordings"
    return {"why": why, "of_a_class": groups.median()}


def _hear(entry, values, rows, multilabel, level, seed):
    """Add to an entry how alike its values sound, and whether that speaks against it."""
    labels = targets.rarest(rows["label"], multilabel)
    entry["alike"], entry["p_value"] = alikeness(metadata.file_facts(rows), labels, values, seed)
    entry["heard"] = entry["p_value"] <= level
    if entry["trusted"]:
        return
    if not entry["heard"]:
        entry["why"] = f"a {entry['kind']} that sounds no more alike than others of its class"
        return
    formats = rows[rows.columns.intersection(FORMATS)].astype(str)
    if any(metadata.one_to_one(values, formats[name]) for name in formats):
        entry["why"] = "it names the files' format"


def alikeness(
    facts: pd.DataFrame, labels: pd.Series, values: pd.Series, seed: int = 0
) -> tuple[float, float]:
    """How alike recordings of one value are, beyond their class: the variance that it explains.

    That is of ranks within the class. Ranks are dealt anew within the classes for the p-value.
    Where values repeat within classes, only that counts: the third source of one class need not be
    the third of another.

    Args: facts float [n, facts]; labels, values str [n], "" a value of its own. Returns (share
        beyond chance, p-value).
    """
    rng = np.random.default_rng(seed)
    cell = _or_alone(values)
    inside = cell + "|" + labels
    if 2 * inside.duplicated(keep=False).sum() >= cell.duplicated(keep=False).sum():
        cell = inside
    ranks = _ranks_within(facts, labels.to_numpy())
    between = _between(cell)
    anew = _dealt_anew(pd.factorize(labels)[0], rng)
    total = max(_power(ranks), 1e-12)  # 0 where nothing varies
    share = _power(between @ ranks) / total
    orders = itertools.islice(anew, PERMUTATIONS)
    by_chance = np.array([_power(between @ ranks[order]) / total for order in orders])
    as_alike = np.sum(by_chance >= share - 1e-12)
    beyond = (share - by_chance.mean()) / max(1 - by_chance.mean(), 1e-12)
    return float(beyond), float((1 + as_alike) / (1 + PERMUTATIONS))


def _power(values):
    return np.sum(np.square(values))


def _ranks_within(facts, labels):
    """Ranks of facts [n, facts] among those of the same label [n]: 0 is the mean, or missing."""
    ranks = facts.groupby(labels).rank(pct=True)
    return (ranks - ranks.groupby(labels).transform("mean")).fillna(0.0).to_numpy()


def _between(cell):
    """A sparse matrix [cells, n]: the power of its product with [n] is that between the cells."""
    code = pd.factorize(cell)[0]
    sizes = cell.map(cell.value_counts()).to_numpy()
    return coo_array((1 / np.sqrt(sizes), (code, np.arange(len(code))))).tocsr()


def _dealt_anew(place, rng):
    """Orders of rows [n], one after another, in which each keeps its class [n] and nothing else."""
    sorted_rows = np.argsort(place, kind="stable")
    order = np.empty(len(place), dtype=int)
    while True:
        order[sorted_rows] = np.argsort(place + rng.random(len(place)))
        yield order


def _ranked(entries, name_groups):
    """The table of proposals: first what is used, or would be."""
    rest = sorted((entry for entry in entries if entry["why"]), key=lambda entry: -entry["shared"])
    usable = sorted((entry for entry in entries if not entry["why"]), key=_preference)
    for rank, entry in enumerate(usable):
        entry["why"] = "another part is used" if rank else ""
    table = pd.DataFrame(usable + rest, columns=list(COLUMNS))
    if name_groups == "off":
        table["why"] = table["why"].replace("", "split.name_groups is off")
    return table.assign(used=table["why"].eq(""))


def _preference(entry):
    """What is heard comes first, then identities, one part, few large groups."""
    joined = entry["part"].startswith("first")
    return not entry["heard"], not entry["trusted"], joined, entry["values"]


def choice_in_words(proposals: pd.DataFrame) -> str:
    """Which of the proposals is used, "" where there are none."""
    part = used(proposals)
    none = "None of these is used." if len(proposals) else ""
    return f"Used: {part}." if part else none
