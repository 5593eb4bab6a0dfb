"""Nothing crosses: groups are closed, folds are made of whole groups, rounds use each fold once."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from helpers import split, targets
from helpers.split import SplitError

LAW = settings(deadline=None, derandomize=True, max_examples=60)


# --- groups ------------------------------------------------------------------------------------------------


def recordings_of(pairs):
    """Recordings from pairs (source, samples)."""
    table = pd.DataFrame(pairs, columns=["source", "pcm_sha256"], dtype="str")
    identities = np.random.default_rng(0).permutation(len(table))
    return table.assign(recording_id=[f"r{n:03d}" for n in identities])


NAMES = st.sampled_from(["", "a", "b", "c", "d", "e", "f"])


@LAW
@given(st.lists(st.tuples(NAMES, NAMES), max_size=14))
def test_groups_are_the_connected_components_of_shared_sources_and_samples(pairs):
    table = recordings_of(pairs)
    edges = [
        (i, j)
        for i, one in enumerate(pairs)
        for j, other in enumerate(pairs)
        if any(x and x == y for x, y in zip(one, other, strict=True))
    ]
    rows, columns = zip(*edges, strict=True) if edges else ((), ())
    graph = coo_array((np.ones(len(edges)), (rows, columns)), shape=(len(pairs), len(pairs)))
    component = connected_components(graph)[1] if pairs else []
    smallest = table.groupby(component)["recording_id"].transform("min") if pairs else table["recording_id"]
    assert split.groups(table).tolist() == smallest.tolist()


def test_a_chain_of_shared_things_is_one_group():
    table = recordings_of([("a", "1"), ("b", "1"), ("b", "2"), ("c", "2"), ("", "3"), ("", "3"), ("", ""), ("", "")])
    sizes = split.groups(table).value_counts()
    assert sorted(sizes) == [1, 1, 2, 4]


# --- folds -------------------------------------------------------------------------------------------------


def training_table(sizes, official=None):
    """Recordings by label: {"dog": [2, 1]} is one group of two and one of one."""
    rows = [
        (f"{label}{group}{n}", label, f"{label}-{group}")
        for label, groups in sizes.items()
        for group, size in enumerate(groups)
        for n in range(size)
    ]
    table = pd.DataFrame(rows, columns=["recording_id", "label", "group"])
    return table.assign(official_fold=pd.array([official] * len(table), dtype="Int64"))


def dealt(table, n_folds, seed=0):
    return split.folds(table, n_folds, seed)[0]


@LAW
@given(
    n_folds=st.integers(2, 5),
    extra=st.lists(st.lists(st.integers(1, 4), max_size=6), min_size=2, max_size=4),
    seed=st.integers(0, 100),
)
def test_a_fold_is_made_of_whole_groups_and_every_recording_has_one(n_folds, extra, seed):
    table = training_table({f"class{n}": [1] * n_folds + sizes for n, sizes in enumerate(extra)})
    fold = dealt(table, n_folds, seed)
    assert fold.groupby(table["group"]).nunique().eq(1).all()
    assert set(fold) == set(range(1, n_folds + 1))
    assert fold.index.equals(table.index)
    assert fold.equals(dealt(table, n_folds, seed))


def test_equal_groups_are_dealt_out_evenly_by_label():
    table = training_table({"dog": [2] * 10, "cat": [2] * 5})
    counts = pd.crosstab(table["label"], dealt(table, 5).to_numpy())
    assert counts.loc["dog"].tolist() == [4] * 5
    assert counts.loc["cat"].tolist() == [2] * 5


def test_another_seed_deals_otherwise():
    table = training_table({"dog": [1] * 20, "cat": [1] * 20})
    assert len({tuple(dealt(table, 5, seed)) for seed in range(4)}) == 4


def test_official_folds_are_kept():
    table = training_table({"dog": [1, 2, 1], "cat": [1, 1, 3]})
    table["official_fold"] = table["group"].str[-1].astype(int).add(3).astype("Int64")
    fold, how = split.folds(table, 5, seed=0)
    assert fold.tolist() == table["official_fold"].tolist()
    assert "official" in how


def test_official_folds_that_cut_through_a_group_are_refused_by_its_name():
    table = training_table({"dog": [1, 2], "cat": [1, 1]})
    table["official_fold"] = pd.array([1, 1, 2, 1, 2], dtype="Int64")
    with pytest.raises(SplitError, match=r"dog-1"):
        split.folds(table, 2, seed=0)


def test_official_folds_that_some_recordings_lack_are_not_used():
    table = training_table({"dog": [1] * 4, "cat": [1] * 4}, official=1)
    table.loc[0, "official_fold"] = pd.NA
    assert set(dealt(table, 2)) == {1, 2}


@pytest.mark.parametrize("official", [None, 1])
def test_a_class_from_a_single_source_is_refused_by_its_name(official):
    with pytest.raises(SplitError, match=r"only one was found for: bird, cow\."):
        split.folds(training_table({"cow": [5], "dog": [1, 1], "bird": [1]}, official), 2, seed=0)


def test_a_class_with_fewer_sources_than_folds_is_named():
    _, how = split.folds(training_table({"dog": [1] * 6, "cat": [2] * 3, "cow": [1] * 5}), 5, seed=0)
    assert how.endswith("some folds lack cat")


@pytest.mark.parametrize("sizes", [{"dog": [1] * 3, "cat": [1] * 3}, {"dog": [6] * 2, "cat": [6] * 2}])
def test_too_few_recordings_for_the_folds_are_dealt_out_or_refused_as_a_split_error(sizes):
    table = training_table(sizes)
    try:
        fold = dealt(table, 5)
    except SplitError:
        return
    assert fold.groupby(table["group"]).nunique().eq(1).all()


# --- several labels ----------------------------------------------------------------------------------------


def tagged_table(seed, n_groups=60, chances=(0.5, 0.4, 0.3, 0.2)):
    """Recordings of groups of one to three takes, each with several labels, one or none."""
    rng, names = np.random.default_rng(seed), np.array(list("abcdefgh"))[: len(chances)]
    heard, size = rng.uniform(size=(n_groups, len(chances))) < chances, rng.integers(1, 4, n_groups)
    table = pd.DataFrame(
        {"label": ["|".join(names[row]) for row in heard], "group": [f"g{n}" for n in range(n_groups)]}
    )
    table = table.loc[np.repeat(table.index, size)].reset_index(drop=True)
    return table.assign(
        recording_id=[f"r{n}" for n in table.index], official_fold=pd.array([None] * len(table), dtype="Int64")
    )


@settings(LAW, max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_with_several_labels_no_group_crosses_and_every_class_is_in_every_fold(seed, n_folds):
    table = tagged_table(seed)
    fold, how = split.folds(table, n_folds, seed, multilabel=True)
    assert fold.groupby(table["group"]).nunique().eq(1).all()
    assert set(fold) == set(range(1, n_folds + 1)) and fold.index.equals(table.index)
    per_class = targets.by_class(table.assign(fold=fold), multilabel=True)
    plenty = per_class.groupby("label").filter(lambda part: part["group"].nunique() >= 2 * n_folds)
    assert plenty.groupby("label")["fold"].nunique().eq(n_folds).all()
    assert f"{n_folds} folds" in how


def test_with_several_labels_the_rarest_is_dealt_out_evenly():
    table = training_table({"common": [1] * 20, "common|rare": [1] * 5, "": [1] * 5})
    fold, _ = split.folds(table, 5, seed=0, multilabel=True)
    counts = pd.crosstab(table["label"], fold.to_numpy())
    assert (counts.loc["common|rare"] == 1).all() and (counts.loc[""] == 1).all() and (counts.loc["common"] == 4).all()


def test_with_several_labels_a_class_from_a_single_source_is_refused_by_its_name():
    table = training_table({"dog": [1, 1], "cat|dog": [2], "": [1]})
    with pytest.raises(SplitError, match=r"only one was found for: cat\."):
        split.folds(table, 2, seed=0, multilabel=True)
    table = training_table({"dog": [1, 1], "cat|dog": [2], "cat": [1], "": [1]})
    assert set(split.folds(table, 2, seed=0, multilabel=True)[0]) == {1, 2}


# --- rounds ------------------------------------------------------------------------------------------------


@LAW
@given(st.sets(st.integers(1, 20), min_size=3), st.sampled_from(["validation", "last"]))
def test_every_fold_is_the_test_once_and_the_rest_is_shared_out(numbers, select):
    plan = split.rounds([*numbers, *numbers], select)
    assert sorted(turn["test"] for turn in plan) == sorted(numbers)
    if select == "validation":
        assert sorted(turn["validation"] for turn in plan) == sorted(numbers)
    for turn in plan:
        assert (turn["validation"] is None) == (select == "last")
        used = [turn["test"], *turn["train"], *([turn["validation"]] if select == "validation" else [])]
        assert sorted(used) == sorted(numbers)  # disjoint, and all of them


@LAW
@given(st.sets(st.integers(1, 20), min_size=3), st.sampled_from(["validation", "last"]), st.integers(1, 25))
def test_fewer_test_folds_are_the_first_of_all_rounds(numbers, select, test_folds):
    assert split.rounds(numbers, select, test_folds) == split.rounds(numbers, select)[:test_folds]


def test_a_single_split_tests_one_fold_and_learns_from_all_others():
    assert split.rounds([1, 2, 3, 4, 5], "last", 1) == [{"test": 1, "validation": None, "train": (2, 3, 4, 5)}]


@pytest.mark.parametrize("numbers", [[], [1], [1, 2]])
def test_a_validation_fold_takes_three(numbers):
    with pytest.raises(SplitError, match=f"there are {len(numbers)}"):
        split.rounds(numbers, "validation")


def test_a_round_has_something_to_train_on():
    with pytest.raises(SplitError):
        split.rounds([1], "last")


# --- certificate -------------------------------------------------------------------------------------------


def clips_of(rows):
    """Clips from (recording_id, label, group, fold, split), two of each recording."""
    columns = ["recording_id", "label", "group", "fold", "split"]
    table = pd.DataFrame([row for row in rows for _ in range(2)], columns=columns)
    return table.astype({"fold": "Int64"})


SOUND = [
    ("r1", "dog", "g1", 1, "train"),
    ("r2", "dog", "g1", 1, "train"),
    ("r3", "dog", "g2", 2, "train"),
    ("r4", "cat", "g3", 1, "train"),
    ("r5", "cat", "g4", 2, "train"),
    ("r6", "", "g5", None, "test"),
]


def test_a_certificate_counts_what_there_is():
    said = split.certificate(clips_of(SOUND), "dealt", "by source")
    assert (said["crossings"], said["n_groups"], said["largest_group_recordings"]) == (0, 4, 2)
    assert said["groups"] == {"g1": ["r1", "r2"], "g2": ["r3"], "g3": ["r4"], "g4": ["r5"]}
    assert said["folds"]["1"] == {"recordings": 3, "clips": 6, "groups": 2, "labels": {"cat": 1, "dog": 2}}
    assert sum(fold["recordings"] for fold in said["folds"].values()) == 5
    assert (said["how_folds"], said["groups_also_in_test"]) == ("dealt", [])


def test_a_group_across_folds_gets_no_certificate():
    with pytest.raises(SplitError, match="1 groups cross the folds: g1"):
        split.certificate(clips_of([*SOUND, ("r7", "dog", "g1", 2, "train")]), "dealt", "by source")


def test_a_group_that_is_also_in_test_is_named():
    said = split.certificate(clips_of([*SOUND, ("r7", "", "g2", None, "test")]), "dealt", "by source")
    assert said["groups_also_in_test"] == ["g2"]
