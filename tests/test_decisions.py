"""From probabilities to answers: clips are averaged, thresholds come from other folds, mistakes are
counted.
"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from tables import prediction_rows

from helpers.base import targets
from helpers.metrics import decisions, scoring

law = settings(deadline=None, max_examples=20, derandomize=True)
seeds = st.integers(0, 10_000)
CLASSES = ("a", "b", "c")


def clip_tables(seed, multilabel=False, n_recordings=12, folds=3):
    """Probabilities of clips, one to three per recording in any order; the table of the clips."""
    rng, clips = np.random.default_rng(seed), []
    for number in range(n_recordings):
        label = (
            targets.join(np.array(CLASSES)[rng.uniform(size=3) < 0.4])
            if multilabel
            else rng.choice(CLASSES)
        )
        for take in range(rng.integers(1, 4)):
            clips.append(
                (
                    f"r{number:02}-{take}",
                    f"r{number:02}",
                    label,
                    f"g{number // 2}",
                    1 + number % folds,
                )
            )
    clips = pd.DataFrame(
        clips, columns=["clip_id", "recording_id", "label", "group", "fold"]
    ).astype({"fold": "Int64"})
    probabilities = (
        rng.uniform(size=(len(clips), 3)) if multilabel else rng.dirichlet([1, 1, 1], len(clips))
    )
    table = pd.DataFrame(probabilities, columns=CLASSES)
    table.insert(0, "fold", clips["fold"])
    table.insert(0, "clip_id", clips["clip_id"])
    return table.sample(frac=1, random_state=seed), clips


def tagged(seed, n=12, classes=CLASSES):
    """A table of predictions with several labels per recording, none for some, and any answers."""
    rng = np.random.default_rng(seed)
    label, predicted = (
        [targets.join(np.array(classes)[row]) for row in rng.uniform(size=(n, len(classes))) < 0.4]
        for _ in range(2)
    )
    rows = prediction_rows(label, predicted, classes=classes)
    rows[list(classes)] = rng.uniform(size=(n, len(classes)))
    return rows


# --- clips to recordings -----------------------------------------------------------------------


@pytest.mark.parametrize("multilabel", [False, True])
@law
@given(seed=seeds)
def test_a_recording_has_the_mean_of_its_clips_and_their_facts(multilabel, seed):
    probabilities, clips = clip_tables(seed, multilabel)
    table = decisions.per_recording(probabilities, clips, multilabel)
    assert list(table) == ["recording_id", "fold", "label", "group", "predicted", *CLASSES]
    assert table["recording_id"].tolist() == sorted(clips["recording_id"].unique())
    of_clip = clips.set_index("clip_id")
    for row in table.to_dict("records"):
        members = probabilities[
            probabilities["clip_id"].map(of_clip["recording_id"]).eq(row["recording_id"])
        ]
        np.testing.assert_allclose([row[name] for name in CLASSES], members[list(CLASSES)].mean())
        first = clips[clips["recording_id"].eq(row["recording_id"])].iloc[0]
        assert all(row[fact] == first[fact] for fact in ("fold", "label", "group"))


@pytest.mark.parametrize("multilabel", [False, True])
def test_the_order_of_the_clips_does_not_matter(multilabel):
    probabilities, clips = clip_tables(0, multilabel)
    shuffled = probabilities.sample(frac=1, random_state=5), clips.sample(frac=1, random_state=6)
    pd.testing.assert_frame_equal(
        decisions.per_recording(*shuffled, multilabel),
        decisions.per_recording(probabilities, clips, multilabel),
    )


def test_recordings_that_were_not_predicted_are_left_out():
    probabilities, clips = clip_tables(0)
    kept = probabilities[~probabilities["clip_id"].str.startswith("r03")]
    assert set(clips["recording_id"]) - set(
        decisions.per_recording(kept, clips)["recording_id"]
    ) == {"r03"}


@law
@given(seeds)
def test_with_one_label_the_most_probable_class_is_said(seed):
    probabilities, clips = clip_tables(seed)
    for table in (
        decisions.per_recording(probabilities, clips),
        decisions.per_clip(probabilities, clips),
    ):
        assert table["predicted"].tolist() == [
            CLASSES[i] for i in table[list(CLASSES)].to_numpy().argmax(axis=1)
        ]


@law
@given(seeds)
def test_per_clip_keeps_every_clip_in_its_order_with_its_facts(seed):
    probabilities, clips = clip_tables(seed, multilabel=True)
    table = decisions.per_clip(probabilities, clips, multilabel=True)
    assert table["clip_id"].tolist() == probabilities["clip_id"].tolist()
    np.testing.assert_array_equal(table[list(CLASSES)], probabilities[list(CLASSES)])
    facts = clips.set_index("clip_id").loc[table["clip_id"]]
    assert (facts["label"].to_numpy() == table["label"]).all() and (
        facts["group"].to_numpy() == table["group"]
    ).all()


def test_whatever_is_no_identity_is_a_class_in_its_order():
    table = prediction_rows("ab", "ab", classes=("zebra finch", "a", "Ünder", "mean"))
    assert decisions.class_columns(table) == ["zebra finch", "a", "Ünder", "mean"]


WAYS = ("mean", "max", "top", "noisy_or")


def joined_clips(seed):
    """Probabilities of clips, certain ones among them, with the recording that each belongs to."""
    probabilities, clips = clip_tables(seed, multilabel=True, n_recordings=6)
    table = probabilities.merge(clips[["clip_id", "recording_id"]], on="clip_id")
    certain = np.random.default_rng(seed).uniform(size=(len(table), 3))
    return table.assign(
        **{name: table[name].mask(certain[:, c] < 0.1, c % 2) for c, name in enumerate(CLASSES)}
    )


@law
@given(seeds)
def test_every_way_of_joining_clips_agrees_with_its_definition(seed):
    table = joined_clips(seed)
    definitions = {
        "mean": lambda clips: clips.mean(axis=0),
        "max": lambda clips: clips.max(axis=0),
        "top": lambda clips: np.sort(clips, axis=0)[::-1][: max(1, len(clips) // 3)].mean(axis=0),
        "noisy_or": lambda clips: 1 - np.prod(1 - clips, axis=0),
    }
    for how, definition in definitions.items():
        found = decisions.aggregate(table, "recording_id", CLASSES, how, multilabel=True)
        assert list(found) == list(CLASSES) and set(found.index) == set(table["recording_id"])
        for name, clips in table.groupby("recording_id"):
            np.testing.assert_allclose(
                found.loc[name], definition(clips[list(CLASSES)].to_numpy()), atol=1e-12
            )


@law
@given(seeds, st.integers(1, 9))
def test_what_clips_say_together_lies_between_the_least_and_the_most_and_a_noisy_or_above(
    seed, n_clips
):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.uniform(size=(2 * n_clips, 3)), columns=CLASSES).assign(
        recording_id=["r", "s"] * n_clips
    )
    found = {
        how: decisions.aggregate(table, "recording_id", CLASSES, how, multilabel=True)
        for how in WAYS
    }
    least, most = (table.groupby("recording_id").agg(bound) for bound in ("min", "max"))
    for how in ("mean", "max", "top"):
        assert (found[how] >= least - 1e-12).all(axis=None) and (found[how] <= most + 1e-12).all(
            axis=None
        )
    assert (found["mean"] <= found["top"] + 1e-12).all(axis=None)
    assert (found["noisy_or"] >= most - 1e-12).all(axis=None) and (found["noisy_or"] <= 1).all(
        axis=None
    )


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("how", WAYS)
def test_one_clip_speaks_for_itself_and_the_order_of_clips_does_not_matter(how, multilabel):
    probabilities, clips = clip_tables(3, multilabel)
    one = probabilities.assign(clip_id=[f"c{n:02}" for n in range(len(probabilities))])
    alone = decisions.aggregate(one, "clip_id", CLASSES, how, multilabel)
    np.testing.assert_allclose(alone, probabilities[list(CLASSES)], atol=1e-12)
    shuffled = probabilities.sample(frac=1, random_state=5), clips.sample(frac=1, random_state=6)
    found, again = (
        decisions.per_recording(*tables, multilabel, how)
        for tables in ((probabilities, clips), shuffled)
    )
    pd.testing.assert_frame_equal(found, again)


@pytest.mark.parametrize("how", WAYS)
def test_with_one_label_per_recording_the_classes_share_one_probability(how):
    probabilities, clips = clip_tables(4)
    found = decisions.per_recording(probabilities, clips, how=how)
    np.testing.assert_allclose(found[list(CLASSES)].sum(axis=1), 1)
    joined = probabilities.merge(clips[["clip_id", "recording_id"]], on="clip_id")
    unscaled = decisions.aggregate(joined, "recording_id", CLASSES, how, multilabel=True)
    assert found["predicted"].tolist() == unscaled.idxmax(axis=1).tolist()
    silent = joined.assign(**dict.fromkeys(CLASSES, 0.0))
    assert (decisions.aggregate(silent, "recording_id", CLASSES, how) == 0).all(axis=None)


def test_the_mean_is_the_plain_mean_to_the_last_bit():
    probabilities, clips = clip_tables(7)
    joined = probabilities.merge(clips[["clip_id", "recording_id"]], on="clip_id")
    plain = joined.groupby("recording_id")[list(CLASSES)].mean()
    pd.testing.assert_frame_equal(
        decisions.aggregate(joined, "recording_id", CLASSES), plain, check_exact=True
    )
    found = decisions.per_recording(probabilities, clips).set_index("recording_id")[list(CLASSES)]
    pd.testing.assert_frame_equal(found, plain, check_exact=True)


def test_small_chances_add_up_and_nothing_stays_nothing():
    table = pd.DataFrame({"recording_id": ["r"] * 1000 + ["s"], "a": [1e-18] * 1000 + [0.0]})
    found = decisions.aggregate(table, "recording_id", ["a"], "noisy_or", multilabel=True)["a"]
    assert found["r"] == pytest.approx(1e-15) and f"{found['s']:.6f}" == "0.000000"


# --- several labels: thresholds ----------------------------------------------------------------


@law
@given(seeds)
def test_a_folds_answers_come_from_the_thresholds_of_the_other_folds(seed):
    probabilities, clips = clip_tables(seed, multilabel=True)
    table = decisions.per_recording(probabilities, clips, multilabel=True)
    for fold, rows in table.groupby("fold"):
        others = table[table["fold"].ne(fold)]
        best = scoring.best_thresholds(
            targets.matrix(others["label"], CLASSES) > 0, others[list(CLASSES)].to_numpy()
        )
        said = [
            targets.join(np.array(CLASSES)[row >= best]) for row in rows[list(CLASSES)].to_numpy()
        ]
        assert rows["predicted"].tolist() == said


@pytest.mark.parametrize("per", [decisions.per_recording, decisions.per_clip])
@law
@given(seed=seeds)
def test_a_folds_own_labels_do_not_move_its_answers(per, seed):
    probabilities, clips = clip_tables(seed, multilabel=True)
    before = per(probabilities, clips, multilabel=True)
    changed = clips.assign(label=clips["label"].where(clips["fold"].ne(1), "a|c"))
    after = per(probabilities, changed, multilabel=True)
    first = before["fold"].eq(1)
    assert first.any() and after.loc[first, "label"].eq("a|c").all()
    assert after.loc[first, "predicted"].equals(before.loc[first, "predicted"])


def test_the_labels_of_other_folds_do_move_a_folds_answers():
    probabilities, clips = clip_tables(1, multilabel=True)
    changed = clips.assign(label=clips["label"].where(clips["fold"].eq(1), "a"))
    before, after = (
        decisions.per_recording(probabilities, table, multilabel=True) for table in (clips, changed)
    )
    assert not before.loc[before["fold"].eq(1), "predicted"].equals(
        after.loc[after["fold"].eq(1), "predicted"]
    )


def test_a_single_fold_has_a_threshold_of_a_half():
    probabilities, clips = clip_tables(0, multilabel=True, folds=1)
    table = decisions.per_recording(probabilities, clips, multilabel=True)
    assert (
        table["predicted"].tolist()
        == decisions.say(table[list(CLASSES)], pd.Series(0.5, CLASSES)).tolist()
    )


def test_the_thresholds_by_hand():
    probabilities = pd.DataFrame(
        {"rain": [0.9, 0.6, 0.5, 0.1], "bird": [0.1, 0.2, 0.3, 0.4], "none": [0.9] * 4}
    )
    found = decisions.thresholds(probabilities, pd.Series(["rain", "bird|rain", "bird", "bird"]))
    assert found.to_dict() == pytest.approx({"rain": 0.55, "bird": 0.15, "none": 0.5})


# --- say ---------------------------------------------------------------------------------------


def test_all_classes_that_reach_their_threshold_are_said_in_one_order():
    table = pd.DataFrame({"rain": [0.5, 0.4, 0.9], "bird": [0.3, 0.1, 0.3]}, index=[7, 3, 5])
    said = decisions.say(table, pd.Series({"bird": 0.3, "rain": 0.5}))
    assert said.to_dict() == {7: "bird|rain", 3: "", 5: "bird|rain"}


@law
@given(seeds)
def test_the_order_of_the_columns_and_of_the_thresholds_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.uniform(size=(6, 3)), columns=CLASSES)
    limits = pd.Series(rng.uniform(size=3), CLASSES)
    turned = decisions.say(table[["c", "a", "b"]], limits[["b", "c", "a"]])
    assert turned.equals(decisions.say(table, limits))
    assert (targets.matrix(turned, CLASSES) == (table >= limits)).all(axis=None)


def test_of_no_rows_nothing_is_said():
    empty = pd.DataFrame({"a": pd.Series(dtype=float), "b": pd.Series(dtype=float)})
    assert decisions.say(empty, pd.Series({"a": 0.5, "b": 0.5})).empty


# --- confusion ---------------------------------------------------------------------------------


@law
@given(
    st.lists(st.tuples(st.sampled_from(CLASSES), st.sampled_from(CLASSES)), min_size=1, max_size=30)
)
def test_the_confusion_of_single_labels_agrees_with_scikit_learn(pairs):
    true, said = zip(*pairs, strict=True)
    rows = prediction_rows(true, said)
    np.testing.assert_array_equal(
        decisions.confusion(rows), reference.confusion_matrix(true, said, labels=list(CLASSES))
    )


@law
@given(seeds)
def test_the_confusion_of_several_labels_counts_hits_and_what_was_said_wrongly_beside_each(seed):
    rows = tagged(seed)
    found = decisions.confusion(rows)
    counted = np.zeros((3, 3), dtype=int)
    for label, predicted in zip(
        rows["label"].map(targets.split), rows["predicted"].map(targets.split), strict=True
    ):
        for i, there in enumerate(CLASSES):
            for j, said in enumerate(CLASSES):
                hit, slip = i == j and said in label, i != j and said not in label
                counted[i, j] += there in label and said in predicted and (hit or slip)
    np.testing.assert_array_equal(found, counted)
    of_classes = reference.multilabel_confusion_matrix(
        *(targets.matrix(rows[column], CLASSES) for column in ("label", "predicted"))
    )
    np.testing.assert_array_equal(np.diagonal(found), of_classes[:, 1, 1])


def test_perfect_answers_have_a_diagonal_confusion():
    labels = ["a|b", "", "c", "a|b|c"]
    np.testing.assert_array_equal(
        decisions.confusion(prediction_rows(labels, labels)), np.diag([2, 2, 2])
    )


# --- calibration -------------------------------------------------------------------------------


def test_the_calibration_of_several_labels_by_hand():
    """Six answers: two at 5 % (none right), one at 30 % (right), three at 95 % (two right)."""
    rows = prediction_rows(["a|b", "c"], ["", ""])
    rows[list(CLASSES)] = [[0.95, 0.3, 0.05], [0.95, 0.05, 0.95]]
    table, ece = decisions.calibration(rows, multilabel=True)
    assert table["confidence"].tolist() == pytest.approx([0.05, 0.3, 0.95])
    assert table["accuracy"].tolist() == pytest.approx([0, 1, 2 / 3])
    assert table["recordings"].tolist() == [2, 1, 3]
    assert ece == pytest.approx((2 * 0.05 + 0.7 + 3 * (0.95 - 2 / 3)) / 6)


@law
@given(seeds, st.integers(1, 20))
def test_every_class_of_every_recording_is_an_answer(seed, bins):
    rows = tagged(seed).set_index(np.arange(12)[::-1])
    rows.loc[0, list(CLASSES)] = [0.0, 1.0, 0.5]
    table, ece = decisions.calibration(rows, bins, multilabel=True)
    assert table["recordings"].sum() == 12 * 3 and len(table) <= bins and 0 <= ece <= 1
    truth = targets.matrix(rows["label"], CLASSES)
    assert (table["accuracy"] * table["recordings"]).sum() == pytest.approx(truth.sum())
    assert (table["confidence"] * table["recordings"]).sum() == pytest.approx(
        rows[list(CLASSES)].to_numpy().sum()
    )
    assert decisions.calibration(rows.sample(frac=1, random_state=0), bins, multilabel=True)[
        1
    ] == pytest.approx(ece)


def test_answers_that_come_true_as_often_as_they_say_are_calibrated():
    rows = prediction_rows(["a"] * 3 + [""], [""] * 4)
    rows[list(CLASSES)] = [0.75, 0.0, 0.0]
    assert decisions.calibration(rows, multilabel=True)[1] == pytest.approx(0)


@law
@given(seeds)
def test_the_calibration_error_of_one_bin_is_the_mean_confidence_minus_the_accuracy(seed):
    rng = np.random.default_rng(seed)
    rows = prediction_rows(rng.choice(CLASSES, 20), rng.choice(CLASSES, 20))
    rows[list(CLASSES)] = rng.dirichlet([1, 1, 1], 20)
    gap = rows[list(CLASSES)].max(axis=1).mean() - rows["label"].eq(rows["predicted"]).mean()
    assert decisions.calibration(rows, bins=1)[1] == pytest.approx(abs(gap))


# --- mistakes ----------------------------------------------------------------------------------


@law
@given(seeds)
def test_the_worst_of_several_labels_are_wrong_and_the_surest_mistake_comes_first(seed):
    rows = tagged(seed)
    before = rows.copy()
    found = decisions.worst(rows, 5, multilabel=True)
    assert rows.equals(before)
    assert (
        found["label"].ne(found["predicted"]).all() and found["confidence"].is_monotonic_decreasing
    )
    assert len(found) == min(5, rows["label"].ne(rows["predicted"]).sum())
    for row in found.to_dict("records"):
        there = targets.split(row["label"])
        unexpected = [1 - row[name] if name in there else row[name] for name in CLASSES]
        assert row["confidence"] == pytest.approx(max(unexpected))
    left_out = rows[
        rows["label"].ne(rows["predicted"]) & ~rows["recording_id"].isin(found["recording_id"])
    ]
    others = decisions.worst(left_out, 12, multilabel=True)["confidence"]
    assert others.empty or others.max() <= found["confidence"].min()


@pytest.mark.parametrize("multilabel", [False, True])
def test_where_nothing_is_wrong_there_is_no_worst(multilabel):
    found = decisions.worst(prediction_rows("abc", "abc"), 3, multilabel)
    assert found.empty and "confidence" in found


@law
@given(seeds)
def test_the_worst_single_label_has_the_confidence_of_what_was_said(seed):
    probabilities, clips = clip_tables(seed)
    rows = decisions.per_recording(probabilities, clips)
    found = decisions.worst(rows, len(rows))
    assert (
        len(found) == rows["label"].ne(rows["predicted"]).sum()
        and found["confidence"].is_monotonic_decreasing
    )
    np.testing.assert_array_equal(found["confidence"], found[list(CLASSES)].max(axis=1))
