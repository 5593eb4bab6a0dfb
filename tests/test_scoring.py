"""Metrics as arithmetic: they agree with scikit-learn, and a weight counts like repeating a row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as reference

from helpers.metrics import evaluate, scoring

law = settings(deadline=None, max_examples=40, derandomize=True)
seeds = st.integers(0, 10_000)
METRICS = {
    scoring.auc: reference.roc_auc_score,
    scoring.average_precision: reference.average_precision_score,
}
each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
scored_rows = st.lists(
    st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=25
)


def tables(seed, n=15, n_classes=4, levels=8):
    """Truth bool [n, C], tied scores [n, C] and integer weights [n] such as a bootstrap draws."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(size=(n, n_classes)) < rng.uniform(0, 0.8, n_classes)
    weights = np.bincount(rng.integers(n, size=n), minlength=n)
    return truth, rng.integers(0, levels + 1, (n, n_classes)) / levels, weights


def tagging_scores(truth, said, scores, weights):
    """What metrics.json holds where a recording may have several labels."""
    return scoring.measure(evaluate.SUMMARY[True], truth, said, scores, weights)


def expected(reference_metric, positive, score, weights):
    """scikit-learn's answer for rows repeated as their weights say: NaN where there is nothing to
    rank.
    """
    positive, score = (np.repeat(column, weights) for column in (positive, score))
    lacking = not positive.any() or (reference_metric is reference.roc_auc_score and positive.all())
    return np.nan if lacking else reference_metric(positive, score)


def counts(confusion):
    """Per class of confusions [..., C, C]: how often it was rightly said, is there, was said."""
    return (
        np.diagonal(confusion, axis1=-2, axis2=-1),
        confusion.sum(axis=-1),
        confusion.sum(axis=-2),
    )


# --- ranking -----------------------------------------------------------------------------------


@each_metric
@law
@given(rows=scored_rows)
def test_areas_agree_with_scikit_learn_where_weights_repeat_rows(metric, rows):
    positive, score, weights = (np.array(column) for column in zip(*rows, strict=True))
    found = metric(positive, score / 6, np.stack([weights, np.ones_like(weights), 2 * weights]))
    truth = [
        expected(METRICS[metric], positive, score / 6, w)
        for w in (weights, np.ones_like(weights), weights)
    ]
    np.testing.assert_allclose(found, truth, atol=1e-12)


@each_metric
@law
@given(seed=seeds)
def test_areas_agree_with_scikit_learn_for_any_weights(metric, seed):
    rng = np.random.default_rng(seed)
    positive, score, weights = (
        np.arange(12) % 3 == 0,
        rng.uniform(size=12).round(1),
        rng.uniform(0.1, 2, 12),
    )
    theirs = METRICS[metric](positive, score, sample_weight=weights)
    assert metric(positive, score, weights[None])[0] == pytest.approx(theirs, abs=1e-12)


@each_metric
@law
@given(rows=scored_rows, order=st.randoms(use_true_random=False))
def test_neither_the_order_of_the_rows_nor_the_scale_of_the_scores_counts(metric, rows, order):
    shuffled = order.sample(rows, len(rows))
    found = [
        metric(np.array(positive), rescale(np.array(score)), np.array([weights]))
        for (positive, score, weights), rescale in (
            (zip(*rows, strict=True), lambda s: s / 6),
            (zip(*shuffled, strict=True), lambda s: np.exp(3.0 * s) - 40),
        )
    ]
    np.testing.assert_allclose(*found, atol=1e-12)


@each_metric
def test_the_best_ranking_scores_one_the_same_score_for_all_says_nothing(metric):
    positive, ones = np.array([True, True, False, False, False]), np.ones((1, 5))
    assert metric(positive, np.array([0.9, 0.8, 0.5, 0.2, 0.1]), ones) == 1
    chance = 0.5 if metric is scoring.auc else 2 / 5
    assert metric(positive, np.full(5, 0.3), ones) == pytest.approx(chance)


@each_metric
def test_without_positives_nothing_is_defined(metric):
    weights = np.array([[1.0, 1, 1], [0, 1, 1], [0, 0, 0]])
    positive = np.array([True, False, False])
    found = metric(positive, np.array([0.1, 0.2, 0.3]), weights)
    np.testing.assert_array_equal(np.isnan(found), [False, True, True])
    assert np.isnan(metric(np.zeros(3, bool), np.arange(3.0), weights)).all()


def test_without_negatives_there_is_no_area_but_full_precision():
    ones = np.ones((1, 3))
    assert np.isnan(scoring.auc(np.ones(3, bool), np.arange(3.0), ones)).all()
    assert scoring.average_precision(np.ones(3, bool), np.arange(3.0), ones) == 1


@each_metric
@law
@given(seed=seeds)
def test_the_macro_mean_leaves_undefined_classes_out(metric, seed):
    truth, scores, weights = tables(seed)
    truth[:, 0] = False
    found = scoring.macro(metric, truth, scores, weights[None])[0]
    values = [expected(METRICS[metric], truth[:, c], scores[:, c], weights) for c in range(4)]
    defined = [value for value in values if np.isfinite(value)]
    assert found == pytest.approx(np.mean(defined) if defined else np.nan, abs=1e-12, nan_ok=True)
    assert np.isnan(scoring.macro(metric, np.zeros_like(truth), scores, weights[None])).all()


# --- label ranking -----------------------------------------------------------------------------


def lwlrap_by_hand(truth, scores):
    """The metric as its authors explain it: for each label that is there, walk down the ranking to
    it.
    """
    found = []
    for there, score in zip(truth, scores, strict=True):
        for c in np.flatnonzero(there):
            rank = sum(other >= score[c] for other in score)
            hits = sum(other >= score[c] for other in score[there])
            found.append(hits / rank)
    return np.mean(found) if found else np.nan


@law
@given(seeds)
def test_lwlrap_agrees_with_its_definition_for_repeated_rows(seed):
    truth, scores, weights = tables(seed)
    found = scoring.lwlrap(truth, scores, np.stack([np.ones(len(truth)), weights]))
    theirs = [lwlrap_by_hand(truth, scores)]
    theirs.append(
        lwlrap_by_hand(np.repeat(truth, weights, axis=0), np.repeat(scores, weights, axis=0))
    )
    np.testing.assert_allclose(found, theirs, atol=1e-12)


@law
@given(seeds)
def test_lwlrap_is_scikit_learns_label_ranking_precision_weighted_by_labels(seed):
    truth, scores, weights = tables(seed)
    truth[0, 0], weights[0] = True, 1
    theirs = reference.label_ranking_average_precision_score(
        truth, scores, sample_weight=weights * truth.sum(axis=1)
    )
    assert scoring.lwlrap(truth, scores, weights[None])[0] == pytest.approx(theirs, abs=1e-12)


@law
@given(seeds)
def test_with_one_label_per_row_lwlrap_is_scikit_learns_label_ranking_precision(seed):
    _, scores, _ = tables(seed)
    truth = np.eye(4, dtype=bool)[np.random.default_rng(seed).integers(4, size=len(scores))]
    theirs = reference.label_ranking_average_precision_score(truth, scores)
    assert scoring.lwlrap(truth, scores, np.ones((1, len(truth))))[0] == pytest.approx(
        theirs, abs=1e-12
    )


def test_rows_without_a_label_do_not_count_in_lwlrap_and_alone_they_say_nothing():
    truth, scores = np.array([[True, False], [False, False]]), np.array([[0.2, 0.8], [0.5, 0.5]])
    np.testing.assert_array_equal(
        scoring.lwlrap(truth, scores, np.array([[1, 1], [1, 9]])), [0.5, 0.5]
    )
    assert np.isnan(scoring.lwlrap(truth, scores, np.array([[0, 1]]))).all()


def label_ranking_by_comparing(truth, scores):
    """The same for all rows at once, each class compared with each: [n, C, C]."""
    at_least = scores[:, None, :] >= scores[:, :, None]
    return ((at_least & truth[:, None, :]).sum(axis=2) / at_least.sum(axis=2))[truth].mean()


def test_lwlrap_of_many_classes_and_many_ties_is_that_of_comparing_each_with_each():
    rng = np.random.default_rng(0)
    truth, scores = rng.uniform(size=(300, 80)) < 0.1, rng.integers(0, 12, (300, 80)) / 12
    found = scoring.lwlrap(truth, scores, np.ones((1, 300)))[0]
    assert found == pytest.approx(label_ranking_by_comparing(truth, scores), abs=1e-12)


# --- metrics of competitions -------------------------------------------------------------------


def average_precision_at_k(actual, predicted, k):
    """Kaggle's definition, walked through: labels that are there, a ranked list of what is said."""
    score, hits = 0.0, 0
    for rank, name in enumerate(predicted[:k], 1):
        if name in actual:
            hits += 1
            score += hits / rank
    return score / min(len(actual), k)


def as_submitted(score):
    """Classes in the order of a submission: the highest score first, the first class first where
    they are equal.
    """
    return sorted(range(len(score)), key=lambda number: (-score[number], number))


@law
@given(seeds, st.integers(1, 6))
def test_map_at_k_agrees_with_its_definition_for_repeated_rows(seed, k):
    truth, scores, weights = tables(seed)
    truth[0, 0], weights[0] = True, 1
    found = scoring.map_at_k(truth, scores, np.stack([np.ones(len(truth)), weights]), k)
    for value, repeats in zip(found, (np.ones(len(truth), int), weights), strict=True):
        rows = [
            average_precision_at_k(np.flatnonzero(there), as_submitted(score), k)
            for there, score in zip(
                np.repeat(truth, repeats, axis=0), np.repeat(scores, repeats, axis=0), strict=True
            )
            if there.any()
        ]
        assert value == pytest.approx(np.mean(rows), abs=1e-12)


@law
@given(seeds)
def test_with_one_label_map_at_1_is_accuracy_and_of_all_places_the_mean_reciprocal_rank(seed):
    rng = np.random.default_rng(seed)
    truth, scores, ones = (
        np.eye(5, dtype=bool)[rng.integers(5, size=20)],
        rng.dirichlet([1] * 5, 20),
        np.ones((1, 20)),
    )
    found = [scoring.map_at_k(truth, scores, ones, k)[0] for k in (1, 2, 3, 5)]
    assert found[0] == pytest.approx(
        reference.accuracy_score(truth.argmax(axis=1), scores.argmax(axis=1))
    )
    assert found == sorted(found)
    assert found[-1] == pytest.approx(
        reference.label_ranking_average_precision_score(truth, scores)
    )


def test_rows_without_a_label_do_not_count_in_map_at_k_and_alone_they_say_nothing():
    truth, scores = np.array([[True, False], [False, False]]), np.array([[0.2, 0.8], [0.5, 0.5]])
    found = scoring.map_at_k(truth, scores, np.array([[1, 1], [1, 9], [0, 1]]), 2)
    np.testing.assert_array_equal(found, [0.5, 0.5, np.nan])


def test_equal_scores_rank_in_the_order_of_the_classes():
    truth, ones = np.array([[False, True, False]]), np.ones((1, 1))
    assert scoring.map_at_k(truth, np.full((1, 3), 0.3), ones) == 1 / 2
    assert scoring.map_at_k(truth, np.full((1, 3), 0.3), ones, k=1) == 0


@law
@given(seeds, st.integers(1, 6))
def test_cmap_agrees_with_scikit_learn_on_padded_tables(seed, pad):
    truth, scores, weights = tables(seed)
    truth[:, 0] = False  # never there, and counted all the same
    found = scoring.cmap(truth, scores, np.stack([np.ones(len(truth)), weights]), pad)
    for value, repeats in zip(found, (np.ones(len(truth), int), weights), strict=True):
        padded = [
            np.vstack([np.repeat(table, repeats, axis=0), np.ones((pad, 4))])
            for table in (truth, scores)
        ]
        assert value == pytest.approx(
            reference.average_precision_score(*padded, average="macro"), abs=1e-12
        )


@law
@given(seeds)
def test_row_f1_agrees_with_scikit_learns_over_samples(seed):
    truth, scores, weights = tables(seed)
    said = scores > 0.7
    found = scoring.row_f1(truth, said, np.stack([np.ones(len(truth)), weights]))
    repeated = [np.repeat(table, weights, axis=0) for table in (truth, said)]
    theirs = [
        reference.f1_score(*pair, average="samples", zero_division=1)
        for pair in ((truth, said), repeated)
    ]
    np.testing.assert_allclose(found, theirs, atol=1e-12)


def test_hearing_nothing_where_nothing_is_counts_as_right_and_as_wrong_where_something_is():
    nothing, bird, ones = np.array([[False]]), np.array([[True]]), np.ones((1, 1))
    assert scoring.row_f1(nothing, nothing, ones) == scoring.row_f1(bird, bird, ones) == 1
    assert scoring.row_f1(nothing, bird, ones) == scoring.row_f1(bird, nothing, ones) == 0


@law
@given(seeds)
def test_an_exact_match_is_scikit_learns_accuracy_of_sets(seed):
    truth, scores, weights = tables(seed)
    found = scoring.exact_match(truth, scores > 0.5, weights[None])
    repeated = [np.repeat(table, weights, axis=0) for table in (truth, scores > 0.5)]
    assert found[0] == pytest.approx(reference.accuracy_score(*repeated), abs=1e-12)


# --- several labels ----------------------------------------------------------------------------


@law
@given(seeds)
def test_tagging_scores_agree_with_scikit_learn(seed):
    truth, scores, weights = tables(seed)
    truth[0], weights[0] = True, 1
    said = scores >= 0.5
    found = tagging_scores(truth, said, scores, weights[None])
    there, answer, score = (np.repeat(table, weights, axis=0) for table in (truth, said, scores))
    areas = [
        expected(reference.roc_auc_score, truth[:, c], scores[:, c], weights) for c in range(4)
    ]
    assert {name: value[0] for name, value in found.items()} == pytest.approx(
        {
            "macro_average_precision": reference.average_precision_score(
                there, score, average="macro"
            ),
            "lwlrap": lwlrap_by_hand(there, score),
            "macro_f1": reference.f1_score(there, answer, average="macro", zero_division=np.nan),
            "micro_f1": reference.f1_score(there, answer, average="micro"),
            "exact_match": reference.accuracy_score(there, answer),
            "roc_auc": np.nanmean(areas) if np.isfinite(areas).any() else np.nan,
        },
        abs=1e-12,
        nan_ok=True,
    )


@law
@given(seeds)
def test_all_samples_at_once_are_those_of_each(seed):
    truth, scores, weights = tables(seed)
    truth[0], weights[0] = True, 1
    weights = np.stack([weights, np.ones_like(weights)])
    together = tagging_scores(truth, scores > 0.4, scores, weights)
    for sample in range(2):
        alone = tagging_scores(truth, scores > 0.4, scores, weights[[sample]])
        for name, value in together.items():
            np.testing.assert_allclose(value[sample], alone[name][0], atol=1e-12, err_msg=name)


def test_a_class_that_is_neither_there_nor_said_is_left_out_of_macro_f1():
    truth, said = (
        np.array([[True, False], [True, False]]),
        np.array([[True, False], [False, False]]),
    )
    found = tagging_scores(truth, said, said.astype(float), np.ones((1, 2)))
    assert found["macro_f1"] == pytest.approx(2 / 3) and found["micro_f1"] == pytest.approx(2 / 3)
    assert found["exact_match"] == 0.5
    found = tagging_scores(truth, truth | ~truth, said.astype(float), np.ones((1, 2)))
    assert found["macro_f1"] == pytest.approx(0.5)  # said where it never is: F1 of 0


# --- thresholds --------------------------------------------------------------------------------


@law
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), min_size=1, max_size=25))
def test_no_threshold_has_a_better_f1_than_the_best(rows):
    positive, score = (np.array(column) for column in zip(*rows, strict=True))
    score = score / 12
    [threshold] = scoring.best_thresholds(positive[:, None], score[:, None])
    assert (
        0 < threshold <= 1
    )  # a threshold of 0 would say the class of everything, whatever the scores
    tried = [reference.f1_score(positive, score >= t, zero_division=0) for t in (*score, 2.0)]
    said_of_all = reference.f1_score(positive, score >= 0, zero_division=0)
    if positive.all() or not positive.any() or said_of_all >= max(tried) - 1e-12:
        return
    assert reference.f1_score(positive, score >= threshold) == pytest.approx(max(tried), abs=1e-12)


@law
@given(seeds)
def test_a_classs_threshold_depends_on_no_other_class_and_on_no_order(seed):
    truth, scores, _ = tables(seed)
    found = scoring.best_thresholds(truth, scores)
    order = np.random.default_rng(seed).permutation(len(truth))
    np.testing.assert_array_equal(scoring.best_thresholds(truth[order], scores[order]), found)
    for c in range(4):
        np.testing.assert_array_equal(
            scoring.best_thresholds(truth[:, [c]], scores[:, [c]]), found[c]
        )


@law
@given(seeds)
def test_a_threshold_lies_halfway_between_neighbours_so_nothing_is_on_its_edge(seed):
    truth, scores, _ = tables(seed)
    for c, threshold in enumerate(scoring.best_thresholds(truth, scores)):
        if 0 < truth[:, c].sum() < len(truth) and scores[:, c].min() > 0:
            levels = np.unique(np.append(scores[:, c], 0.0))
            assert np.isclose(threshold, (levels[1:] + levels[:-1]) / 2).any()


def test_thresholds_of_no_rows_are_a_half():
    np.testing.assert_array_equal(
        scoring.best_thresholds(np.zeros((0, 2), bool), np.zeros((0, 2))), [0.5, 0.5]
    )


def test_scores_a_rounding_apart_are_told_apart():
    for score in (0.1, 0.3, 0.7, 0.9, 1.0):
        scores = np.array([score, np.nextafter(score, 0)])
        [threshold] = scoring.best_thresholds(np.array([[True], [False]]), scores[:, None])
        assert (scores >= threshold).tolist() == [True, False]


# --- one label ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning")
@law
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_scores_of_a_confusion_agree_with_scikit_learn(pairs):
    true, said = zip(*pairs, strict=True)
    confusion = reference.confusion_matrix(
        true, said, labels=range(5)
    )  # the last class never comes
    found = scoring.scores(*counts(np.stack([confusion, 3 * confusion])))
    theirs = {
        "accuracy": reference.accuracy_score(true, said),
        "macro_precision": reference.precision_score(true, said, average="macro", zero_division=0),
        "macro_recall": reference.balanced_accuracy_score(true, said),
        "macro_f1": reference.f1_score(true, said, average="macro", zero_division=0),
        "weighted_f1": reference.f1_score(true, said, average="weighted", zero_division=0),
    }
    assert found.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_allclose(found[name], [value, value], atol=1e-12, err_msg=name)


def test_extreme_recalls_pool_ties_and_say_nothing_of_a_class_that_was_not_drawn():
    confusion = np.array([[[3, 1, 0], [1, 1, 0], [0, 0, 2]], [[4, 0, 0], [0, 0, 0], [0, 0, 0]]])
    found = scoring.extreme_recalls(*counts(confusion)[:2], np.array([4, 2, 2]))
    np.testing.assert_array_equal(found["minority_recall"], [3 / 4, np.nan])
    np.testing.assert_array_equal(found["majority_recall"], [3 / 4, 1])


def test_a_class_without_recordings_is_not_the_smallest():
    found = scoring.extreme_recalls(np.array([2, 0, 0]), np.array([2, 1, 0]), np.array([2, 1, 0]))
    assert found["minority_recall"] == 0 and found["majority_recall"] == 1


@law
@given(st.integers(1, 60), st.data())
def test_wilsons_interval_agrees_with_scipy(n, data):
    hits = data.draw(st.integers(0, n))
    theirs = binomtest(hits, n).proportion_ci(method="wilson")
    assert scoring.wilson(hits / n, n) == pytest.approx((theirs.low, theirs.high), abs=1e-4)
