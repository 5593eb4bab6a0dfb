"""Groups, folds, and the certificate that nothing crosses.

A group is whatever must stay on one side of a split: all recordings cut from one source, and all recordings
that hold the same samples. Folds are dealt out by group, stratified by label; official folds are kept.
"""

import warnings

import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from helpers import targets


class SplitError(ValueError):
    """The data cannot be split honestly; the message names the classes or groups that prevent it."""


def groups(recordings):
    """Group name of every recording: those of one source, or with the same samples, share one.

    Args: recordings with recording_id, source ("" if not known) and pcm_sha256.
    Returns a Series of str, named after the smallest recording_id in each group.
    """
    parent = {identity: identity for identity in recordings["recording_id"]}

    def root(identity):
        while parent[identity] != identity:
            identity = parent[identity]
        return identity

    for column in ("source", "pcm_sha256"):
        known = recordings[recordings[column].ne("")]
        for _, members in known.groupby(column)["recording_id"]:
            roots = sorted({root(member) for member in members})
            parent.update(dict.fromkeys(roots, roots[0]))
    return recordings["recording_id"].map(root)


def folds(recordings, n_folds, seed, multilabel=False):
    """Fold of every training recording, 1 to n: the official one, else stratified by label and grouped.

    Args: recordings of the training side with label, group, official_fold; with several labels per recording the
        rarest of them is what is stratified by. Returns (Series of Int64, how: str).
    Raises SplitError when a group crosses official folds or a class has fewer than two groups.
    """
    strata = targets.rarest(recordings["label"]) if multilabel else recordings["label"]
    per_class = targets.by_class(recordings, multilabel).groupby("label")["group"].nunique()
    if lonely := per_class.index[per_class < 2].tolist():
        raise SplitError(
            f"A class needs recordings from at least two sources to be trained and tested honestly; "
            f"only one was found for: {', '.join(lonely)}. Add recordings, or leave the class out: data.exclude."
        )
    if recordings["official_fold"].notna().all():
        _refuse_crossings(recordings.assign(fold=recordings["official_fold"]), "the official folds")
        return recordings["official_fold"].astype("Int64"), "official folds, read from the file names"
    n_folds = max(2, min(n_folds, int(per_class.max()), int(strata.value_counts().max())))
    how = f"{n_folds} folds, stratified by label and grouped by source (seed {seed})"
    splitter = StratifiedGroupKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    fold = pd.Series(0, index=recordings.index, dtype="Int64")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        for number, (_, members) in enumerate(splitter.split(recordings, strata, recordings["group"]), 1):
            fold.iloc[members] = number
    spread = targets.by_class(recordings.assign(fold=fold), multilabel).groupby("label")["fold"].nunique()
    if scarce := spread.index[spread < n_folds].tolist():
        how += f"; with few sources, some folds lack {', '.join(scarce)}"
    return fold, how


def rounds(fold_numbers, select, test_folds=None):
    """The rounds of cross-validation: each fold is the test fold once.

    Args: fold_numbers iterable of int; select "validation" (the next fold in turn is held out to choose the
        epoch) or "last" (nothing is chosen, every other fold is trained on); test_folds how many of the folds are
        tested (1: a single split), None: all.
    Returns a list of dicts test / validation (None for "last") / train (tuple).

    >>> rounds([1, 2, 3], "validation")[2]
    {'test': 3, 'validation': 1, 'train': (2,)}
    """
    numbers = sorted({int(number) for number in fold_numbers})
    if select == "validation" and len(numbers) < 3:
        raise SplitError(
            f"Choosing the epoch on a validation fold needs three folds; there are {len(numbers)}. "
            "Set train.select=last, or add recordings from other sources."
        )
    if len(numbers) < 2:
        raise SplitError("Cross-validation needs at least two folds; all training clips lie in one.")
    plan = []
    for position, test in enumerate(numbers[:test_folds]):
        validation = numbers[(position + 1) % len(numbers)] if select == "validation" else None
        plan.append(
            {"test": test, "validation": validation, "train": tuple(n for n in numbers if n not in (test, validation))}
        )
    return plan


def how_grouped(recordings):
    """In words, how the groups were formed: said in the certificate and in the report."""
    if recordings["source"].ne("").any():
        return "recordings of one source (told by the file name) and recordings with the same samples, united"
    return (
        "the file names tell no source, so each recording counts as its own unless samples are equal; "
        "where several recordings come from one source, the scores are too good (see data.name_pattern)"
    )


def certificate(clips, how, how_groups):
    """What split_certificate.json says: that no group crosses the folds, and which lie in train and test.

    Args: clips table with group, fold, split, label, recording_id. Raises SplitError if a group crosses.
    """
    train = clips[clips["split"].eq("train")]
    _refuse_crossings(train, "the folds")
    shared = set(train["group"]) & set(clips.loc[clips["split"].eq("test"), "group"])
    sizes = train.groupby("group")["recording_id"].nunique()
    return {
        "crossings": 0,
        "folds": {str(fold): _fold_counts(part) for fold, part in train.groupby("fold")},
        "how_folds": how,
        "how_groups": how_groups,
        "n_groups": int(sizes.size),
        "largest_group_recordings": int(sizes.max()),
        "groups": {group: sorted(part["recording_id"].unique()) for group, part in train.groupby("group")},
        "groups_also_in_test": sorted(shared),
    }


def _fold_counts(part):
    return {
        "recordings": int(part["recording_id"].nunique()),
        "clips": len(part),
        "groups": int(part["group"].nunique()),
        "labels": {label: int(n) for label, n in part.groupby("label")["recording_id"].nunique().items()},
    }


def _refuse_crossings(table, where):
    crossing = table.groupby("group")["fold"].nunique()
    if (crossing := crossing[crossing > 1]).size:
        raise SplitError(f"{crossing.size} groups cross {where}: {', '.join(crossing.index[:10])}")
