"""Groups, folds, and the rounds of cross-validation.

A group is whatever must stay on one side of a split: all recordings of one source, speaker or site,
as names and tables tell, and all that hold the same sound. Folds are dealt out by group, stratified
by label; official folds are kept.
"""

import warnings

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from helpers.base import errors, targets
from helpers.base.targets import counted

OFFICIAL = 0.9  # share of the recordings that official folds must cover
MOVED = 0.05  # at most so many may leave their official fold, to join recordings of the same sound


def ties(recordings, pairs=None):
    """What binds recordings: a table recording_id, tie; those that share a tie must stay together.

    Args: recordings with recording_id, source and together (what names and tables say, "" if
        nothing), pcm_sha256; pairs of `duplicates.find`, or None.
    """
    known = recordings.assign(
        source=recordings["source"].map(lambda name: f"source {name}" if name else None),
        pcm_sha256=recordings["pcm_sha256"].map(
            lambda samples: f"samples {samples[:16]}" if samples else None
        ),
    )
    listed = recordings.get("together", pd.Series("", recordings.index)).str.split(
        targets.SEPARATOR
    )
    found = [
        known[["recording_id", column]].set_axis(["recording_id", "tie"], axis=1)
        for column in ("source", "pcm_sha256")
    ]
    found.append(
        recordings[["recording_id"]].assign(tie=listed).explode("tie").replace({"tie": ""}, None)
    )
    if pairs is not None:
        tie = "the same sound as " + pairs["other_id"]
        found += [
            pd.DataFrame({"recording_id": pairs[side], "tie": tie})
            for side in ("recording_id", "other_id")
        ]
    table = pd.concat(found, ignore_index=True).dropna(subset="tie")
    return table[table["recording_id"].isin(recordings["recording_id"])].drop_duplicates(
        ignore_index=True
    )


def groups(recordings, pairs=None):
    """Group name of every recording: those that are tied to each other, directly or through others,
    share one.

    Args: as of `ties`. Returns a Series of str, named after the smallest recording_id in each
        group.
    """
    found, identities = ties(recordings, pairs), recordings["recording_id"]
    tie, names = pd.factorize(found["tie"])
    rows = pd.Index(identities).get_indexer(found["recording_id"])
    n = len(identities)
    graph = coo_array((np.ones(len(rows)), (rows, n + tie)), shape=(n + len(names),) * 2)
    component = connected_components(graph, directed=False)[1][:n] if n else []
    return identities.groupby(component).transform("min")


def named(pairs, recordings):
    """Pairs of `duplicates.find` for reading: with path, label and split of both, those that agree
    least first.
    """
    facts = recordings.set_index("recording_id")[["path", "label", "split"]]
    sides = [facts.loc[pairs[side]].reset_index(drop=True) for side in ("recording_id", "other_id")]
    agreement = pairs[["offset_seconds", "overlap_seconds", "correlation"]].reset_index(drop=True)
    table = pd.concat([sides[0], sides[1].add_suffix("_of_other"), agreement], axis=1)
    return table.sort_values("correlation", kind="stable", ignore_index=True)


def folds(recordings, n_folds, seed, multilabel=False):
    """Fold of every training recording, 1 to n: the official one, else stratified by label and
    grouped.

    Args: recordings of the training side with label, group, official_fold; with several labels per
        recording the rarest of them is what is stratified by. Returns (Series of Int64, how: str).
    A class of one source lies in one fold: the networks of the other folds learn it, none that
    knows it is tested.
    Raises SplitError when a group crosses official folds or fewer than two classes have two groups.
    """
    strata = targets.rarest(recordings["label"]) if multilabel else recordings["label"]
    per_class = targets.by_class(recordings, multilabel).groupby("label")["group"].nunique()
    lonely = per_class.index[per_class < 2].tolist()
    if len(per_class) - len(lonely) < 2:
        raise errors.SplitError(
            "At least two classes need recordings from two sources or more to be trained and tested honestly; "
            f"only one was found for: {_some(lonely)}. Add recordings, leave the class out (data.exclude), "
            "or say what a source is (data.name_pattern, data.group_columns)."
        )
    if recordings["official_fold"].notna().mean() >= OFFICIAL:
        fold, how = _official_folds(recordings, strata)
    else:
        fold, how = _dealt_folds(recordings, strata, per_class, n_folds, seed, multilabel)
    if lonely:
        how += (
            f"; with one source only, never tested by a network that has heard the class (their recall here says "
            f"nothing, macro scores are too low): {_some(lonely)}"
        )
    return fold, how


def _some(names):
    """Up to ten names, and how many more there are."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _dealt_folds(recordings, strata, per_class, n_folds, seed, multilabel):
    """Folds dealt out by group: as many as asked for, or as the best-provided class has groups."""
    n_folds = max(2, min(n_folds, int(per_class.max()), int(strata.value_counts().max())))
    how = f"{n_folds} folds, stratified by label and grouped by source (seed {seed})"
    splitter = StratifiedGroupKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    fold = pd.Series(0, index=recordings.index, dtype="Int64")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        for number, (_, members) in enumerate(
            splitter.split(recordings, strata, recordings["group"]), 1
        ):
            fold.iloc[members] = number
    spread = (
        targets.by_class(recordings.assign(fold=fold), multilabel)
        .groupby("label")["fold"]
        .nunique()
    )
    few = spread.lt(n_folds) & per_class.reindex(spread.index).gt(1)
    if scarce := spread.index[few].tolist():
        how += f"; with few sources, some folds lack {_some(scarce)}"
    return fold, how


def _official_folds(recordings, strata):
    """Official folds, made whole: a group lies where most of it does; what has no fold goes where
    its label is rarest.

    Raises SplitError where more than a few recordings would have to move.
    """
    official = recordings["official_fold"].astype("Int64")
    most = official.groupby(recordings["group"]).agg(
        lambda folds: folds.mode().iloc[0] if folds.notna().any() else pd.NA
    )
    fold = recordings["group"].map(most).astype("Int64")
    moved, dealt = (fold.ne(official) & official.notna()).fillna(False), fold.isna()
    if moved.mean() > MOVED:
        refuse_crossings(recordings.assign(fold=official), "the official folds")
    for _, members in recordings[dealt].groupby("group"):
        label = strata[members.index[0]]
        counts = (
            fold[strata.eq(label)]
            .value_counts()
            .reindex(sorted(official.dropna().unique()), fill_value=0)
        )
        fold[members.index] = counts.index[counts.argmin()]
    how = "official folds"
    if moved.any():
        how += f"; {counted(moved.sum(), 'recording', 'recordings')} moved to the fold of the same sound"
    if dealt.any():
        how += f"; {counted(dealt.sum(), 'recording', 'recordings')} without one dealt out"
    return fold, how


def rounds(fold_numbers, select, test_folds=None):
    """The rounds of cross-validation: each fold is the test fold once.

    Args: fold_numbers iterable of int; select "validation" (the next fold in turn is held out to
        choose the epoch) or "last" (nothing is chosen, every other fold is trained on); test_folds
        how many of the folds are tested (1: a single split), None: all.
    Returns a list of dicts test / validation (None for "last") / train (tuple).

    >>> rounds([1, 2, 3], "validation")[2]
    {'test': 3, 'validation': 1, 'train': (2,)}
    """
    numbers = sorted({int(number) for number in fold_numbers})
    if select == "validation" and len(numbers) < 3:
        raise errors.SplitError(
            f"Choosing the epoch on a validation fold needs three folds; there are {len(numbers)}. "
            "Set train.select=last, or add recordings from other sources."
        )
    if len(numbers) < 2:
        raise errors.SplitError(
            "Cross-validation needs at least two folds; all training clips lie in one."
        )
    plan = []
    for position, test in enumerate(numbers[:test_folds]):
        validation = numbers[(position + 1) % len(numbers)] if select == "validation" else None
        plan.append(
            {
                "test": test,
                "validation": validation,
                "train": tuple(n for n in numbers if n not in (test, validation)),
            }
        )
    return plan


def fold_rows(rows, folds, with_copies=False):
    """The training-side clips of some folds; augmented copies only where asked, and they follow
    their parent.
    """
    chosen = rows["split"].eq("train") & rows["fold"].isin(
        [fold for fold in folds if fold is not None]
    )
    return rows[chosen & (rows["parent_id"].eq("") | with_copies)]


def refuse_crossings(table, where):
    """Raise SplitError where a group has rows in several folds. Args: table with group and fold;
    where, in words.
    """
    crossing = table.groupby("group")["fold"].nunique()
    if (crossing := crossing[crossing > 1]).size:
        groups = counted(crossing.size, "group crosses", "groups cross")
        raise errors.SplitError(f"{groups} {where}: {', '.join(crossing.index[:10])}")
