"""Nothing crosses: groups are closed, folds are made of whole groups, rounds use each fold once."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from helpers.base import targets
from helpers.base.errors import SplitError
from helpers.splits import partition

LAW = settings(deadline=None, derandomize=True, max_examples=60)


# --- groups ------------------------------------------------------------------------------------


def recordings_of(rows):
    """Recordings from rows (source, samples, ties by tables)."""
    table = pd.DataFrame(rows, columns=["source", "pcm_sha256", "together"], dtype="str")
    identities = np.random.default_rng(0).permutation(len(table))
    return table.assign(recording_id=[f"r{n:03d}" for n in identities])


def pairs_of(pairs):
    """A table of duplicates from pairs of recording_ids."""
    return pd.DataFrame(pairs, columns=["recording_id", "other_id"], dtype="str")


NAMES = st.sampled_from(["", "a", "b", "c", "d", "e", "f"])
TIES = st.sets(
    st.sampled_from(["author=a", "author=b", "author=c", "site=a", "site=b"]), max_size=2
).map(targets.join)


@settings(LAW, max_examples=150)
@given(st.lists(st.tuples(NAMES, NAMES, TIES), max_size=12), st.data())
def test_groups_are_the_connected_components_of_all_that_is_shared(rows, data):
    table = recordings_of(rows)
    positions = st.integers(0, max(len(rows) - 1, 0))
    same = data.draw(st.lists(st.tuples(positions, positions), max_size=3 if rows else 0))
    edges = [
        (i, j)
        for i, (source, samples, ties) in enumerate(rows)
        for j, (other_source, other_samples, other_ties) in enumerate(rows)
        if (source and source == other_source)
        or (samples and samples == other_samples)
        or set(targets.split(ties)) & set(targets.split(other_ties))
        or (i, j) in same
    ]
    starts, ends = zip(*edges, strict=True) if edges else ((), ())
    graph = coo_array((np.ones(len(edges)), (starts, ends)), shape=(len(rows), len(rows)))
    component = connected_components(graph, directed=False)[1] if rows else []
    smallest = (
        table.groupby(component)["recording_id"].transform("min") if rows else table["recording_id"]
    )
    pairs = pairs_of([(table["recording_id"][i], table["recording_id"][j]) for i, j in same])
    assert partition.groups(table, pairs).tolist() == smallest.tolist()
    shuffled = table.sample(frac=1, random_state=1)
    assert partition.groups(shuffled, pairs[::-1]).sort_index().tolist() == smallest.tolist()


def test_a_chain_of_shared_things_is_one_group():
    things = [
        ("a", "1"),
        ("b", "1"),
        ("b", "2"),
        ("c", "2"),
        ("", "3"),
        ("", "3"),
        ("", ""),
        ("", ""),
    ]
    table = recordings_of([(*pair, "") for pair in things])
    assert sorted(partition.groups(table).value_counts()) == [1, 1, 2, 4]
    last = table["recording_id"].iloc[[4, 6]]
    assert sorted(partition.groups(table, pairs_of([last.tolist()])).value_counts()) == [1, 3, 4]


def test_values_of_different_columns_and_kinds_bind_nothing():
    table = recordings_of([("a", "", ""), ("", "a", ""), ("", "", "author=a"), ("", "", "site=a")])
    assert partition.groups(table).nunique() == 4


def test_recordings_without_a_column_of_ties_are_grouped_too():
    table = recordings_of([("a", "", ""), ("a", "", ""), ("", "", "")])
    assert partition.groups(table.drop(columns="together")).equals(partition.groups(table))


def test_ties_say_in_words_what_binds_whom():
    table = recordings_of(
        [("x", "0123456789abcdef0123", "author=Ann|site=3"), ("", "", ""), ("", "", "")]
    )
    first, second, third = table["recording_id"]
    found = partition.ties(table, pairs_of([(third, first), ("gone", second)]))
    assert set(found.itertuples(index=False, name=None)) == {
        (first, "source x"),
        (first, "samples 0123456789abcdef"),
        (first, "author=Ann"),
        (first, "site=3"),
        (first, f"the same sound as {first}"),
        (third, f"the same sound as {first}"),
        (second, f"the same sound as {second}"),
    }
    assert not found.duplicated().any()


# --- folds -------------------------------------------------------------------------------------


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
    return partition.folds(table, n_folds, seed)[0]


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


def official_table(folds=4, per_fold=10):
    """Recordings of two classes in official folds, each a group of its own."""
    table = training_table(
        {"dog": [1] * (folds * per_fold // 2), "cat": [1] * (folds * per_fold // 2)}
    )
    table["official_fold"] = pd.array([n % folds + 1 for n in range(len(table))], dtype="Int64")
    return table


def test_official_folds_are_kept():
    table = training_table({"dog": [1, 2, 1], "cat": [1, 1, 3]})
    table["official_fold"] = table["group"].str[-1].astype(int).add(3).astype("Int64")
    fold, how = partition.folds(table, 5, seed=0)
    assert fold.tolist() == table["official_fold"].tolist()
    assert how == "official folds"


def test_official_folds_that_cut_through_a_group_are_refused_by_its_name():
    table = training_table({"dog": [1, 2], "cat": [1, 1]})
    table["official_fold"] = pd.array([1, 1, 2, 1, 2], dtype="Int64")
    with pytest.raises(SplitError, match=r"1 group crosses the official folds: dog-1"):
        partition.folds(table, 2, seed=0)


def test_a_duplicate_in_another_fold_moves_to_where_most_of_its_group_lies():
    table = official_table()
    table.loc[[0, 4, 9], "group"] = "trio"  # in the folds 1, 1 and 2
    fold, how = partition.folds(table, 5, seed=0)
    expected = table["official_fold"].tolist()
    expected[9] = 1
    assert fold.tolist() == expected and fold.dtype == "Int64"
    assert how == "official folds; 1 recording moved to the fold of the same sound"


@pytest.mark.parametrize(("moving", "refused"), [(2, False), (3, True)])
def test_no_more_than_a_twentieth_may_leave_their_official_folds(moving, refused):
    table = official_table()  # of 40
    for first in range(0, 4 * moving, 4):
        table.loc[[first, first + 1], "group"] = f"pair{first}"
    if refused:
        with pytest.raises(
            SplitError, match="3 groups cross the official folds: pair0, pair4, pair8"
        ):
            partition.folds(table, 5, seed=0)
    else:
        fold, how = partition.folds(table, 5, seed=0)
        assert fold.ne(table["official_fold"]).sum() == moving and "2 recordings moved" in how


@pytest.mark.parametrize(("lacking", "kept"), [(4, True), (5, False)])
def test_official_folds_are_used_where_nine_of_ten_recordings_have_one(lacking, kept):
    table = official_table()
    table.loc[10 : 9 + lacking, "official_fold"] = pd.NA
    known = table["official_fold"].notna()
    fold, how = partition.folds(table, 5, seed=0)
    assert how.startswith("official folds" if kept else "5 folds") and fold.notna().all()
    assert fold[known].equals(table.loc[known, "official_fold"]) == kept
    assert (f"; {lacking} recording" in how and "without one dealt out" in how) == kept


def test_recordings_without_a_fold_are_dealt_where_their_label_is_rarest_and_by_whole_groups():
    table = official_table()
    table.loc[[0, 20], "official_fold"] = pd.NA  # a dog and a cat of fold 1
    table.loc[[4, 8], ["group", "official_fold"]] = ["pair", 2]
    table.loc[[3], ["group", "official_fold"]] = ["pair", pd.NA]
    fold, _ = partition.folds(table, 5, seed=0)
    assert fold[[0, 20]].tolist() == [1, 1] and fold[[3, 4, 8]].tolist() == [2, 2, 2]


@LAW
@given(st.integers(0, 10_000))
def test_official_folds_made_whole_have_no_crossing_and_few_changes(seed):
    rng, table = np.random.default_rng(seed), official_table(5, 12)
    for pair in rng.permutation(60)[:6].reshape(3, 2):
        table.loc[pair, "group"] = table["group"][pair[0]]
    table.loc[rng.permutation(60)[:4], "official_fold"] = pd.NA
    fold, how = partition.folds(table, 5, seed)
    known = table["official_fold"].notna()
    moved = (fold[known] != table.loc[known, "official_fold"]).sum()
    assert fold.groupby(table["group"]).nunique().eq(1).all() and fold.isin(range(1, 6)).all()
    assert moved <= 3 and (f"; {moved} recording" in how and "moved" in how) == (moved > 0)
    assert fold.equals(partition.folds(table, 5, seed + 1)[0])


@pytest.mark.parametrize("official", [None, 1])
def test_a_class_from_a_single_source_is_refused_by_its_name(official):
    with pytest.raises(SplitError, match=r"only one was found for: bird, cow\."):
        partition.folds(
            training_table({"cow": [5], "dog": [1, 1], "bird": [1]}, official), 2, seed=0
        )


@pytest.mark.parametrize("official", [None, [1, 2] * 4 + [1] * 3])
def test_a_class_of_one_source_lies_in_one_fold_and_is_said_to(official):
    table = training_table({"dog": [1] * 4, "cat": [1] * 4, "cow": [3]})
    if official:
        table["official_fold"] = pd.array(official, dtype="Int64")
    fold, how = partition.folds(table, 2, seed=0)
    assert fold[table["label"].eq("cow")].nunique() == 1 and set(fold) == {1, 2}
    assert "never tested by a network that has heard the class" in how and how.endswith(": cow")


def test_a_class_with_fewer_sources_than_folds_is_named():
    _, how = partition.folds(
        training_table({"dog": [1] * 6, "cat": [2] * 3, "cow": [1] * 5}), 5, seed=0
    )
    assert how.endswith("some folds lack cat")


@pytest.mark.parametrize(
    "sizes", [{"dog": [1] * 3, "cat": [1] * 3}, {"dog": [6] * 2, "cat": [6] * 2}]
)
def test_too_few_recordings_for_the_folds_are_dealt_out_or_refused_as_a_split_error(sizes):
    table = training_table(sizes)
    try:
        fold = dealt(table, 5)
    except SplitError:
        return
    assert fold.groupby(table["group"]).nunique().eq(1).all()


# --- several labels ----------------------------------------------------------------------------


def tagged_table(seed, n_groups=60, chances=(0.5, 0.4, 0.3, 0.2)):
    """Recordings of groups of one to three takes, each with several labels, one or none."""
    rng, names = np.random.default_rng(seed), np.array(list("abcdefgh"))[: len(chances)]
    heard, size = rng.uniform(size=(n_groups, len(chances))) < chances, rng.integers(1, 4, n_groups)
    table = pd.DataFrame(
        {
            "label": ["|".join(names[row]) for row in heard],
            "group": [f"g{n}" for n in range(n_groups)],
        }
    )
    table = table.loc[np.repeat(table.index, size)].reset_index(drop=True)
    return table.assign(
        recording_id=[f"r{n}" for n in table.index],
        official_fold=pd.array([None] * len(table), dtype="Int64"),
    )


@settings(LAW, max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_with_several_labels_no_group_crosses_and_every_class_is_in_every_fold(seed, n_folds):
    table = tagged_table(seed)
    fold, how = partition.folds(table, n_folds, seed, multilabel=True)
    assert fold.groupby(table["group"]).nunique().eq(1).all()
    assert set(fold) == set(range(1, n_folds + 1)) and fold.index.equals(table.index)
    per_class = targets.by_class(table.assign(fold=fold), multilabel=True)
    plenty = per_class.groupby("label").filter(lambda part: part["group"].nunique() >= 2 * n_folds)
    assert plenty.groupby("label")["fold"].nunique().eq(n_folds).all()
    assert f"{n_folds} folds" in how


def test_with_several_labels_the_rarest_is_dealt_out_evenly():
    table = training_table({"common": [1] * 20, "common|rare": [1] * 5, "": [1] * 5})
    fold, _ = partition.folds(table, 5, seed=0, multilabel=True)
    counts = pd.crosstab(table["label"], fold.to_numpy())
    assert (
        (counts.loc["common|rare"] == 1).all()
        and (counts.loc[""] == 1).all()
        and (counts.loc["common"] == 4).all()
    )


def test_with_several_labels_a_class_from_a_single_source_is_refused_by_its_name():
    table = training_table({"dog": [1, 1], "cat|dog": [2], "": [1]})
    with pytest.raises(SplitError, match=r"only one was found for: cat\."):
        partition.folds(table, 2, seed=0, multilabel=True)
    table = training_table({"dog": [1, 1], "cat|dog": [2], "cat": [1], "": [1]})
    assert set(partition.folds(table, 2, seed=0, multilabel=True)[0]) == {1, 2}


# --- rounds ------------------------------------------------------------------------------------


@LAW
@given(st.sets(st.integers(1, 20), min_size=3), st.sampled_from(["validation", "last"]))
def test_every_fold_is_the_test_once_and_the_rest_is_shared_out(numbers, select):
    plan = partition.rounds([*numbers, *numbers], select)
    assert sorted(turn["test"] for turn in plan) == sorted(numbers)
    if select == "validation":
        assert sorted(turn["validation"] for turn in plan) == sorted(numbers)
    for turn in plan:
        assert (turn["validation"] is None) == (select == "last")
        used = [
            turn["test"],
            *turn["train"],
            *([turn["validation"]] if select == "validation" else []),
        ]
        assert sorted(used) == sorted(numbers)  # disjoint, and all of them


@LAW
@given(
    st.sets(st.integers(1, 20), min_size=3),
    st.sampled_from(["validation", "last"]),
    st.integers(1, 25),
)
def test_fewer_test_folds_are_the_first_of_all_rounds(numbers, select, test_folds):
    assert (
        partition.rounds(numbers, select, test_folds)
        == partition.rounds(numbers, select)[:test_folds]
    )


def test_a_single_split_tests_one_fold_and_learns_from_all_others():
    assert partition.rounds([1, 2, 3, 4, 5], "last", 1) == [
        {"test": 1, "validation": None, "train": (2, 3, 4, 5)}
    ]


@pytest.mark.parametrize("numbers", [[], [1], [1, 2]])
def test_a_validation_fold_takes_three(numbers):
    with pytest.raises(SplitError, match=f"there are {len(numbers)}"):
        partition.rounds(numbers, "validation")


def test_a_round_has_something_to_train_on():
    with pytest.raises(SplitError):
        partition.rounds([1], "last")


def test_folds_dealt_clip_by_clip_keep_their_sizes_and_cut_through_groups():
    folds = pd.Series([1, 1, 1, 2, 2, 2] * 3, dtype="Int64")
    clips = pd.DataFrame({"split": "train", "group": list("aaabbb" * 3), "fold": folds})
    clips.loc[len(clips)] = ["test", "c", pd.NA]
    shuffled = partition.shuffled(clips, seed=1)
    assert len(shuffled) == 18 and sorted(shuffled["fold"]) == sorted(folds)
    assert partition.shuffled(clips, seed=1).equals(shuffled)
    assert partition.crossings_in_words(clips[:18]).endswith(" 0 lie in more than one fold.")
    assert "Of 2 groups that have several clips, 2 lie" in partition.crossings_in_words(shuffled)
