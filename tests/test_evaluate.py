"""Scores: they agree with scikit-learn, their intervals draw whole groups and are never too sure of
themselves.
"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn import metrics as reference
from tables import prediction_rows, small_config, tagging_rows

from helpers.base import artifacts, errors, targets
from helpers.metrics import decisions, evaluate, intervals, scoring
from helpers.run import presets

law = settings(deadline=None, max_examples=60, derandomize=True)
CLASSES = ("a", "b", "c")
pytestmark = pytest.mark.filterwarnings(
    "ignore::RuntimeWarning"
)  # tables of one label have no ROC curve
answers = st.lists(
    st.tuples(st.sampled_from(CLASSES), st.sampled_from(CLASSES)), min_size=1, max_size=40
)


def counts_of(predictions):
    """Per class: how often it was rightly said, is there, and was said."""
    confusion = decisions.confusion(predictions)
    return np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0)


def macro_auc(predictions, weights=None):
    """Macro area of a table whose rows count as their weights say."""
    weights = np.ones(len(predictions)) if weights is None else weights
    tables = decisions.answers(predictions)
    return scoring.measure(["roc_auc"], *tables, weights[None])["roc_auc"][0]


# --- against scikit-learn ----------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning")
@law
@given(answers)
def test_scores_agree_with_scikit_learn(pairs):
    true, said = zip(*pairs, strict=True)
    scores = scoring.scores(*counts_of(prediction_rows(true, said)))
    expected = {
        "accuracy": reference.accuracy_score(true, said),
        "macro_precision": reference.precision_score(true, said, average="macro", zero_division=0),
        "macro_recall": reference.balanced_accuracy_score(true, said),
        "macro_f1": reference.f1_score(true, said, average="macro", zero_division=0),
        "weighted_f1": reference.f1_score(true, said, average="weighted", zero_division=0),
    }
    assert scores.keys() == expected.keys()
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, abs=1e-12), name


@law
@given(answers)
def test_confusions_agree_with_scikit_learn_and_scores_of_a_stack_are_those_of_each(pairs):
    true, said = zip(*pairs, strict=True)
    predictions = prediction_rows(true, said)
    confusion, counts = decisions.confusion(predictions), counts_of(predictions)
    np.testing.assert_array_equal(confusion, reference.confusion_matrix(true, said, labels=CLASSES))
    np.testing.assert_array_equal(
        counts, [np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0)]
    )
    stack = scoring.scores(*(np.stack([count, 2 * count]) for count in counts))
    for name, value in scoring.scores(*counts).items():
        np.testing.assert_allclose(stack[name], [value, value])


@law
@given(st.integers(0, 10_000), st.integers(6, 40))
def test_macro_auc_agrees_with_scikit_learn(seed, n):
    rng = np.random.default_rng(seed)
    labels = np.array([*CLASSES, *rng.choice(CLASSES, n)])
    table = prediction_rows(labels, labels)
    table[list(CLASSES)] = rng.dirichlet([1, 1, 1], len(table)).round(2)
    probabilities = table[list(CLASSES)].to_numpy()
    table[list(CLASSES)] = probabilities / probabilities.sum(axis=1, keepdims=True)
    expected = reference.roc_auc_score(labels, table[list(CLASSES)], multi_class="ovr")
    assert macro_auc(table) == pytest.approx(expected, abs=1e-12)
    without_c = np.where(labels == "c", 0.0, 1.0)  # a class that was not drawn is left out
    areas = [
        reference.roc_auc_score(labels == name, table[name], sample_weight=without_c)
        for name in "ab"
    ]
    assert macro_auc(table, without_c) == pytest.approx(np.mean(areas), abs=1e-12)
    doubled = pd.concat([table, table[:5]])
    weights = np.ones(len(table)) + (np.arange(len(table)) < 5)
    assert macro_auc(table, weights) == pytest.approx(macro_auc(doubled), abs=1e-12)


def test_per_class_agrees_with_scikit_learn_worst_recall_first():
    rng = np.random.default_rng(0)
    true, said = rng.choice(CLASSES, 200, p=[0.6, 0.3, 0.1]), rng.choice(CLASSES, 200)
    table = evaluate.per_class(prediction_rows(true, said), n_samples=200)
    report = reference.classification_report(true, said, output_dict=True)
    assert table["recall"].is_monotonic_increasing and set(table["label"]) == set(CLASSES)
    for row in table.itertuples():
        expected = report[row.label]
        assert (row.precision, row.recall, row.f1, row.recordings) == pytest.approx(
            (expected["precision"], expected["recall"], expected["f1-score"], expected["support"])
        )
        assert row.recall_low <= row.recall <= row.recall_high


def test_minority_and_majority_recall_by_hand():
    # a: 4 recordings, 3 found. b and c: 2 each, 1 and 2 found: as the smallest classes they are
    # pooled.
    predictions = prediction_rows("aaaabbcc", "aaabbacc")
    hits, true, _ = counts_of(predictions)
    recalls = scoring.extreme_recalls(hits, true, true)
    assert recalls["majority_recall"] == 3 / 4 and recalls["minority_recall"] == 3 / 4
    assert (
        scoring.extreme_recalls(hits[::-1], true[::-1], np.array([2, 2, 4]))["majority_recall"]
        == 3 / 4
    )


# --- intervals ---------------------------------------------------------------------------------


def accuracy_interval(right, groups, n_samples=2000):
    """Interval of the accuracy where `right` says which recordings are right."""
    predictions = prediction_rows(["a"] * len(right), np.where(right, "a", "b"), groups)
    return evaluate.summary(predictions, n_samples)["accuracy"]


def width(interval):
    return interval["high"] - interval["low"]


def test_bootstrap_samples_draw_as_many_groups_as_there_are():
    weights = intervals.bootstrap_weights(7, 50, seed=1)
    assert weights.shape == (50, 7) and (weights.sum(axis=1) == 7).all()
    np.testing.assert_array_equal(weights, intervals.bootstrap_weights(7, 50, seed=1))
    assert weights.std() > 0


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_where_each_recording_is_its_own_group_the_interval_is_the_binomial_one(share):
    found = accuracy_interval(np.arange(200) < 200 * share, groups=np.arange(200))
    low, high = binom.ppf([0.025, 0.975], 200, share) / 200
    assert found["value"] == share
    assert found["low"] == pytest.approx(low, abs=0.012) and found["high"] == pytest.approx(
        high, abs=0.012
    )


def test_recordings_of_one_source_do_not_count_as_many():
    right = np.arange(200) % 10 < 8
    alone = accuracy_interval(right, groups=np.arange(200))
    all_right_or_all_wrong = accuracy_interval(np.arange(200) < 160, groups=np.arange(200) // 20)
    assert width(all_right_or_all_wrong) > 2 * width(alone)


def test_one_huge_group_makes_the_interval_wide():
    right = np.arange(100) < 90  # the 90 right ones are takes of one source
    huge = accuracy_interval(right, groups=np.maximum(np.arange(100), 89))
    assert huge["low"] < 0.2 and huge["high"] > 0.9


def test_groups_are_drawn_whole_however_they_are_named_and_ordered():
    right, groups = np.arange(40) % 3 > 0, np.arange(40) // 4
    found = accuracy_interval(right, groups)
    renamed = accuracy_interval(right, [f"source {name}" for name in groups])
    assert renamed == found


@settings(law, max_examples=20)
@given(
    st.lists(
        st.tuples(st.sampled_from(CLASSES), st.sampled_from(CLASSES), st.integers(0, 4)),
        min_size=3,
        max_size=30,
    )
)
def test_low_and_high_are_in_order_and_shares(rows):
    predictions = prediction_rows(*zip(*rows, strict=True))
    found = evaluate.summary(predictions, 50)
    for name, entry in found.items():
        if name != "roc_auc" or predictions["label"].nunique() > 1:
            assert 0 <= entry["low"] <= entry["high"] <= 1, name
            assert 0 <= entry["value"] <= 1, name
    assert found["accuracy"]["low"] <= found["accuracy"]["value"] <= found["accuracy"]["high"]


def test_every_metric_of_a_fair_table_lies_in_its_interval():
    rng = np.random.default_rng(1)
    true = rng.choice(CLASSES, 150)
    said = np.where(rng.uniform(size=150) < 0.7, true, rng.choice(CLASSES, 150))
    for name, entry in evaluate.summary(prediction_rows(true, said, np.arange(150) // 2)).items():
        assert entry["low"] < entry["value"] < entry["high"], name


def test_a_perfect_score_still_gets_an_interval():
    predictions = prediction_rows("abc" * 10, "abc" * 10)
    for entry in evaluate.summary(predictions, 200).values():
        assert entry["value"] == 1 and entry["high"] == 1 and 0.8 < entry["low"] < 1
    assert (evaluate.per_class(predictions, 200)["recall_low"] < 0.9).all()


def test_wilson_agrees_with_its_formula_solved_the_other_way():
    """Wilson's bounds are the two shares from which the observed one lies 1.96 standard errors
    away.
    """
    low, high = scoring.wilson(np.array([0.3]), 50)
    for bound in (low, high):
        assert abs(0.3 - bound) / np.sqrt(bound * (1 - bound) / 50) == pytest.approx(1.96)


def unbalanced(n_rare, n_common=60):
    """A perfect table with few sources of class a and many of class b."""
    labels = ["a"] * n_rare + ["b"] * n_common
    return prediction_rows(labels, labels, classes=("a", "b"))


def test_the_interval_of_an_extreme_recall_is_as_unsure_as_its_class():
    """Recall of the smallest class is a share of that class: 3 of 3 must not look as sure as 63 of
    63.
    """
    predictions = unbalanced(20)
    by_class = evaluate.per_class(predictions).set_index("label")["recall_low"]
    found = evaluate.summary(predictions)
    assert found["minority_recall"]["low"] == pytest.approx(by_class["a"], abs=0.01)
    assert found["majority_recall"]["low"] == pytest.approx(by_class["b"], abs=0.01)


def test_a_class_that_a_bootstrap_sample_lacks_is_not_counted_as_missed():
    """As in per_class: without a recording of the class, a sample says nothing of its recall."""
    assert evaluate.summary(unbalanced(2))["minority_recall"]["low"] > 0


# --- tables ------------------------------------------------------------------------------------


def test_a_recordings_probabilities_are_the_mean_of_its_clips():
    clips = pd.DataFrame(
        {
            "clip_id": ["r1-0", "r1-1", "r2-0", "unused"],
            "recording_id": ["r1", "r1", "r2", "r3"],
            "label": ["a", "a", "b", "a"],
            "group": ["g1", "g1", "g2", "g3"],
            "fold": [1, 1, 2, 2],
        }
    )
    probabilities = pd.DataFrame(
        {
            "clip_id": ["r2-0", "r1-0", "r1-1"],
            "fold": [2, 1, 1],
            "a": [0.6, 0.9, 0.2],
            "b": [0.4, 0.1, 0.8],
        }
    )
    table = decisions.per_recording(probabilities, clips).set_index("recording_id")
    assert table.loc["r1", ["a", "b"]].tolist() == pytest.approx([0.55, 0.45])
    assert table[["label", "predicted", "group", "fold"]].loc["r2"].tolist() == ["b", "a", "g2", 2]
    assert table.index.tolist() == ["r1", "r2"]
    by_clip = decisions.per_clip(probabilities, clips).set_index("clip_id")
    assert by_clip["predicted"].to_dict() == {"r2-0": "a", "r1-0": "a", "r1-1": "b"}
    assert by_clip["label"].to_dict() == {"r2-0": "b", "r1-0": "a", "r1-1": "a"}
    assert decisions.class_columns(table) == decisions.class_columns(by_clip) == ["a", "b"]


def test_a_perfectly_calibrated_table_has_no_calibration_error():
    predictions = prediction_rows("aaaab" * 4, "a" * 20, classes=("a", "b"), confidence=0.8)
    table, ece = decisions.calibration(predictions)
    assert ece == pytest.approx(0)
    assert table.to_dict("records") == [
        {"confidence": pytest.approx(0.8), "accuracy": 0.8, "recordings": 20}
    ]


def test_the_calibration_error_by_hand():
    # 4 recordings at 85 %, 2 of them right: 0.35 off. 2 recordings at 60 %, all right: 0.4 off. 2
    # at 100 %, right: 0.
    predictions = prediction_rows("aabb" + "aa" + "bb", "aaaa" + "aa" + "bb", classes=("a", "b"))
    confidence = [0.85] * 4 + [0.6] * 2 + [1.0] * 2
    predictions["a"] = np.where(
        predictions["predicted"].eq("a"), confidence, 1 - np.array(confidence)
    )
    predictions["b"] = 1 - predictions["a"]
    table, ece = decisions.calibration(predictions)
    assert ece == pytest.approx((4 * 0.35 + 2 * 0.4) / 8)
    assert table["recordings"].tolist() == [2, 4, 2]


def test_the_worst_mistakes_are_wrong_and_the_most_confident_comes_first():
    predictions = prediction_rows("abcab", "acbab", confidence=0.7)
    predictions.loc[2, ["a", "b", "c"]] = [0.05, 0.9, 0.05]
    worst = decisions.worst(predictions, 5)
    assert worst["recording_id"].tolist() == ["r2", "r1"] and worst[
        "confidence"
    ].tolist() == pytest.approx([0.9, 0.7])
    assert len(decisions.worst(predictions, 1)) == 1
    assert decisions.worst(prediction_rows("ab", "ab"), 3).empty
    assert "confidence" not in predictions


def test_the_worst_mistakes_are_those_the_docstring_names():
    """The surest first: 60 % for the wrong class is worse than 50 %."""
    predictions = prediction_rows("aa", "bb")
    predictions.loc[0, ["a", "b", "c"]] = [0.4, 0.6, 0.0]
    predictions.loc[1, ["a", "b", "c"]] = [0.05, 0.5, 0.45]
    assert decisions.worst(predictions, 1)["recording_id"].tolist() == ["r0"]


METRICS = ("accuracy", "macro_f1", "weighted_f1", "minority_recall", "majority_recall")


@pytest.fixture
def scored():
    return prediction_rows("abcabcab", "abcabbaa", groups=[1, 1, 2, 3, 3, 4, 5, 6])


def test_metrics_are_what_the_design_promises(scored, tmp_path):
    config = small_config(train={"select": "last"})
    found = evaluate.metrics(scored, scored, evaluate.protocol(5, config), config)
    artifacts.write_json(tmp_path / "metrics.json", found)
    found = artifacts.read_json(tmp_path / "metrics.json")
    assert found["n_recordings"] == 8 and found["n_groups"] == 6 and found["n_classes"] == 3
    assert "5 folds" in found["protocol"] and "nothing is chosen" in found["protocol"]
    assert found["headline"] == ["accuracy", "macro_f1"]
    for metric in (*METRICS, "roc_auc"):
        assert set(found[metric]) == {"value", "low", "high"}
    assert found["accuracy"]["value"] == 6 / 8 and found["majority_class_accuracy"] == 3 / 8
    assert found["per_clip"]["n_clips"] == 8 and found["per_clip"]["accuracy"] == found["accuracy"]


def test_a_leaderboard_row_has_every_metric_with_its_interval_and_its_costs(scored, tmp_path):
    costs = {"train_seconds": 1.5, "ms_per_clip": 0.2, "parameters": 12, "megabytes": 0.5}
    row = evaluate.leaderboard_row("cnn", scored, small_config(), **costs)
    intervals = [metric + bound for metric in METRICS for bound in ("", "_low", "_high")]
    assert list(row) == ["model", *intervals, *costs]
    assert (
        row["accuracy"] == 6 / 8 and row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"]
    )
    artifacts.write_table(tmp_path / "leaderboard.csv", pd.DataFrame([row]))
    assert artifacts.read_table(tmp_path / "leaderboard.csv").iloc[0].to_dict() == row


def test_the_same_seed_gives_the_same_interval(scored):
    first, again, other = (evaluate.summary(scored, 200, seed)["macro_f1"] for seed in (1, 1, 2))
    assert first == again and first != other


def test_the_protocol_says_what_was_pooled_what_chosen_and_who_decides():
    pooled = evaluate.protocol(5, small_config())
    assert (
        pooled.startswith("Pooled out-of-fold predictions of 5 folds") and "another fold" in pooled
    )
    single = evaluate.protocol(5, small_config(split={"test_folds": 1}, train={"select": "last"}))
    assert single.startswith("Predictions of 1 of 5 folds") and "nothing is chosen" in single
    assert evaluate.protocol(3, small_config(split={"test_folds": 5})) == evaluate.protocol(
        3, small_config()
    )
    assert "threshold" in evaluate.protocol(5, SEVERAL) and "threshold" not in pooled


def test_over_seeds_is_the_mean_and_spread_of_what_each_seeds_networks_score_alone():
    names = [f"r{number}" for number in range(4)]
    clips = pd.DataFrame(
        {"clip_id": names, "recording_id": names, "group": names, "label": ["a", "b", "a", "b"]}
    ).assign(fold=1)
    right = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
    tables = [
        pd.DataFrame(said, columns=["a", "b"])
        for said in (right, np.where([[1], [0], [0], [1]], right, 1 - right))
    ]
    table = pd.concat(
        [part.assign(clip_id=names, fold=1, seed=seed) for seed, part in enumerate(tables)]
    )
    found = evaluate.over_seeds(table, clips, small_config())
    assert found == {
        "metric": "accuracy",
        "mean": 0.75,
        "sd": round(0.5 / np.sqrt(2), 5),
        "seeds": 2,
    }


def two_models(n_groups=40, takes=5, seed=0):
    """Two models on the same recordings: b makes a's mistakes and some of its own; sources differ
    in difficulty.
    """
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), takes)
    true = rng.choice(CLASSES, len(groups))
    right = rng.uniform(size=len(groups)) < np.clip(rng.normal(0.8, 0.25, n_groups), 0, 1)[groups]
    worse = right & (rng.uniform(size=len(groups)) < 0.93)
    wrong = np.roll(CLASSES, 1)[np.searchsorted(CLASSES, true)]
    return {
        name: prediction_rows(true, np.where(hit, true, wrong), groups)
        for name, hit in (("a", right), ("b", worse))
    }


def test_a_model_is_compared_with_the_best_on_the_same_recordings():
    """Their own intervals overlap by far, and yet one is clearly better: it is right wherever the
    other is.
    """
    board = evaluate.leaderboard(two_models(), {"a": {}, "b": {}}, small_config())
    assert (
        board["model"].tolist() == ["a", "b"]
        and board["accuracy_high"][1] > board["accuracy_low"][0] + 0.05
    )
    assert evaluate.ties(board).tolist() == [True, False]
    assert board["difference"][1] == pytest.approx(
        board["accuracy"][1] - board["accuracy"][0], abs=1e-5
    )
    assert board["difference_low"][1] < board["difference"][1] < board["difference_high"][1] < 0
    best = board.loc[0, ["difference", "difference_low", "difference_high"]]
    assert (best == 0).all() and ",-0.0," not in board.to_csv()
    assert evaluate.best_in_words(board, 40) == "Not clearly worse than the best: a."
    assert evaluate.best_in_words(board, 4).startswith(
        "Not clearly worse than the best: a. Four sources only:"
    )
    assert evaluate.with_intervals(board).iloc[0, -1] == "0"


def test_models_that_err_on_different_recordings_tie():
    truth = list("ab" * 40)
    said = [np.where(np.arange(80) % 8 == turn, "c", truth) for turn in (0, 1)]
    tables = {
        name: prediction_rows(truth, answers)
        for name, answers in zip(("m", "n"), said, strict=True)
    }
    board = evaluate.leaderboard(tables, {"m": {}, "n": {}}, small_config())
    assert evaluate.ties(board).all() and board["difference"].tolist() == [0, 0]
    assert board["difference_low"][1] < 0 < board["difference_high"][1]
    with pytest.raises(errors.StageError, match="the same recordings"):
        evaluate.leaderboard(
            {**tables, "o": tables["m"][:-1]}, {name: {} for name in "mno"}, small_config()
        )


def test_few_sources_are_named_and_their_interval_is_wide():
    """Four speakers, of whom one is hardly understood: an accuracy of 75 % may lie anywhere."""
    right = np.repeat([0.95, 0.9, 0.85, 0.3], 40) > np.tile(np.arange(40) / 40, 4)
    found = accuracy_interval(right, np.repeat(list("pqrs"), 40))
    assert found["low"] < 0.35 and found["high"] > 0.92
    rows = prediction_rows(["a"] * 160, np.where(right, "a", "b"), np.repeat(list("pqrs"), 40))
    config = small_config()
    assert (
        "Four sources only"
        in evaluate.metrics(rows, rows, evaluate.protocol(4, config), config)["protocol"]
    )
    many = rows.assign(group=np.arange(160))
    assert (
        "only" not in evaluate.metrics(many, many, evaluate.protocol(4, config), config)["protocol"]
    )


def test_the_interval_of_a_class_with_three_sources_is_wider_than_that_of_one_with_thirty():
    label = ["a"] * 60 + ["b"] * 60
    said = np.where(np.arange(120) % 5 == 0, "c", label)
    said[:10] = "c"
    groups = [*(np.arange(60) // 20), *(100 + np.arange(60) // 2)]
    table = evaluate.per_class(prediction_rows(label, said, groups)).set_index("label")
    width = table["recall_high"] - table["recall_low"]
    assert table["sources"].to_dict() == {"a": 3, "b": 30, "c": 0} and width["a"] > 3 * width["b"]
    assert table.loc["a", "recall_low"] < 0.35


def test_a_score_of_zero_has_no_negative_zero():
    table = prediction_rows(
        "a" * 30 + "b" * 30, "b" * 30 + "a" * 30, np.arange(60) // 2, classes=("a", "b")
    )
    found = evaluate.metrics(table, table, "", small_config())
    assert found["accuracy"]["value"] == found["accuracy"]["low"] == 0
    assert "-0" not in str(found) and "-0" not in evaluate.per_class(table, 100).to_csv()
    assert evaluate.percent(found["accuracy"]).startswith("0.0 % (0.0")


# --- several labels per recording --------------------------------------------------------------

SEVERAL = small_config(data={"multilabel": True})
TAGGED = ("macro_average_precision", "lwlrap", "macro_f1", "micro_f1", "exact_match")


def tables_of(predictions):
    """Truth, answers and probabilities of a table of predictions: three arrays [recordings,
    classes].
    """
    truth, said = (
        targets.matrix(predictions[column], CLASSES) for column in ("label", "predicted")
    )
    return truth, said, predictions[list(CLASSES)].to_numpy()


def precisions_at_labels(truth, scores):
    """Of every label the share of right classes among those ranked at least as high: lwlrap is
    their mean.
    """
    for there, ranked in zip(truth > 0, scores, strict=True):
        for score in ranked[there]:
            yield there[ranked >= score].mean()


@settings(law, max_examples=20)
@given(st.integers(0, 10_000), st.integers(10, 60))
def test_with_several_labels_the_summary_agrees_with_scikit_learn(seed, n):
    predictions = tagging_rows(n, seed)
    truth, said, scores = tables_of(predictions)
    expected = {
        "macro_average_precision": reference.average_precision_score(
            truth, scores, average="macro"
        ),
        "lwlrap": np.mean(list(precisions_at_labels(truth, scores))),
        "macro_f1": reference.f1_score(truth, said, average="macro"),
        "micro_f1": reference.f1_score(truth, said, average="micro"),
        "exact_match": reference.accuracy_score(truth, said),
        "roc_auc": reference.roc_auc_score(truth, scores, average="macro"),
    }
    found = evaluate.summary(predictions, 50, multilabel=True)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name]["value"] == pytest.approx(value, abs=1e-5), name
        assert 0 <= found[name]["low"] <= found[name]["high"] <= 1


def test_with_several_labels_every_metric_lies_in_its_interval_and_groups_are_drawn_whole():
    predictions = tagging_rows(120, groups=np.arange(120) // 4)
    found = evaluate.summary(predictions, multilabel=True)
    for name, entry in found.items():
        assert entry["low"] < entry["value"] < entry["high"], name
    renamed = predictions.assign(group="source " + predictions["group"].astype(str))
    assert evaluate.summary(renamed, multilabel=True) == found
    repeated = pd.concat(
        [tagging_rows(30)] * 4
    )  # the same thirty, four times: no surer than thirty
    together, alone = (
        evaluate.summary(rows, multilabel=True)["lwlrap"]
        for rows in (repeated, repeated.assign(group=range(120)))
    )
    assert width(together) == pytest.approx(2 * width(alone), rel=0.15)


def test_with_several_labels_a_perfect_score_still_gets_an_interval():
    predictions = tagging_rows(30)
    predictions[list(CLASSES)] = targets.matrix(predictions["label"], CLASSES)
    predictions["predicted"] = predictions["label"]
    for name, entry in evaluate.summary(predictions, 200, multilabel=True).items():
        assert entry["value"] == 1 and entry["high"] == 1 and 0.8 < entry["low"] < 1, name


def test_with_several_labels_per_class_agrees_with_scikit_learn_worst_first():
    predictions = tagging_rows(80)
    truth, said, scores = tables_of(predictions)
    table = evaluate.per_class(predictions, 200, multilabel=True)
    assert table["average_precision"].is_monotonic_increasing and set(table["label"]) == set(
        CLASSES
    )
    expected = reference.precision_recall_fscore_support(truth, said)
    for row in table.itertuples():
        number = CLASSES.index(row.label)
        assert (row.precision, row.recall, row.f1, row.recordings) == pytest.approx(
            [part[number] for part in expected]
        )
        area = reference.average_precision_score(truth[:, number], scores[:, number])
        assert row.average_precision == pytest.approx(area)
        assert row.average_precision_low <= row.average_precision <= row.average_precision_high


def test_with_several_labels_metrics_and_leaderboard_lead_with_average_precision(tmp_path):
    predictions = tagging_rows(40)
    found = evaluate.metrics(predictions, predictions, evaluate.protocol(3, SEVERAL), SEVERAL)
    artifacts.write_json(tmp_path / "metrics.json", found)
    assert artifacts.read_json(tmp_path / "metrics.json") == found
    assert found["headline"] == ["macro_average_precision", "lwlrap"]
    shares = targets.matrix(predictions["label"], CLASSES).mean(axis=0)
    assert found["chance_average_precision"] == pytest.approx(shares.mean(), abs=1e-5)
    assert found["per_clip"]["lwlrap"] == found["lwlrap"]
    row = evaluate.leaderboard_row("cnn", predictions, SEVERAL, parameters=3)
    intervals = [metric + bound for metric in TAGGED for bound in ("", "_low", "_high")]
    assert list(row) == ["model", *intervals, "parameters"]


def test_random_scores_have_about_the_average_precision_of_chance():
    predictions, rng = tagging_rows(2000), np.random.default_rng(5)
    predictions[list(CLASSES)] = rng.uniform(size=(2000, 3))
    found = evaluate.summary(predictions, 50, multilabel=True)["macro_average_precision"]["value"]
    assert found == pytest.approx(
        evaluate.chance(predictions, True)["chance_average_precision"], abs=0.03
    )


# --- the competition's metric ------------------------------------------------------------------

each_metric = pytest.mark.parametrize("metric", scoring.METRICS)
each_kind = pytest.mark.parametrize("several", [False, True])


def table_of(several, n=60):
    """A table of predictions, of one label or several per recording, two recordings per group."""
    if several:
        return tagging_rows(n, groups=np.arange(n) // 2)
    rng = np.random.default_rng(0)
    true = rng.choice(CLASSES, n)
    rows = prediction_rows(
        true, np.where(rng.uniform(size=n) < 0.7, true, rng.choice(CLASSES, n)), np.arange(n) // 2
    )
    rows[list(CLASSES)] = (0.7 * rows[list(CLASSES)] + 0.3 * rng.dirichlet([1, 1, 1], n)).round(3)
    return rows


def asking(metric, several, k=2):
    return small_config(
        data={"multilabel": several}, evaluate={"metric": metric, "k": k, "bootstrap_samples": 200}
    )


def reciprocal_rank(actual, ranked):
    return sum(
        (place + 1) / (rank + 1)
        for place, rank in enumerate(np.flatnonzero(np.isin(ranked, actual)))
    )


def as_scikit_learn_has_it(metric, truth, said, scores):
    padded = [np.vstack([table, np.ones((5, 3))]) for table in (truth, scores)]
    some = truth.any(axis=1)
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :2]
    at_k = [
        reciprocal_rank(np.flatnonzero(there), best) / min(there.sum(), 2)
        for there, best in zip(truth[some], ranked[some], strict=True)
    ]
    return {
        "accuracy": lambda: reference.accuracy_score(truth, said),
        "macro_f1": lambda: reference.f1_score(truth, said, average="macro"),
        "row_f1": lambda: reference.f1_score(truth, said, average="samples", zero_division=1),
        "map_at_k": lambda: np.mean(at_k),
        "lwlrap": lambda: reference.label_ranking_average_precision_score(
            truth, scores, sample_weight=truth.sum(axis=1)
        ),
        "roc_auc": lambda: reference.roc_auc_score(truth, scores, average="macro"),
        "cmap": lambda: reference.average_precision_score(*padded, average="macro"),
        "macro_average_precision": lambda: reference.average_precision_score(
            truth, scores, average="macro"
        ),
    }[metric]()


@each_kind
@each_metric
def test_the_competitions_metric_agrees_with_scikit_learn_and_lies_in_its_interval(metric, several):
    predictions = table_of(several)
    found = evaluate.scores_of(predictions, asking(metric, several))[metric]
    assert found["value"] == pytest.approx(
        as_scikit_learn_has_it(metric, *tables_of(predictions)), abs=1e-5
    )
    assert 0 <= found["low"] < found["value"] < found["high"] <= 1


@each_kind
@each_metric
def test_the_competitions_metric_stands_first_everywhere(metric, several, tmp_path):
    config, predictions = asking(metric, several), table_of(several)
    first, *usual = evaluate.headline(config)
    assert first == metric and [*usual] == [
        name for name in evaluate.HEADLINE[several] if name != metric
    ]
    found = evaluate.metrics(predictions, predictions, evaluate.protocol(3, config), config)
    artifacts.write_json(tmp_path / "metrics.json", found)
    assert found["headline"] == [first, *usual] and found.get("k") == (
        2 if metric == "map_at_k" else None
    )
    assert (
        found["per_clip"][metric]
        == found[metric]
        == evaluate.scores_of(predictions, config)[metric]
    )
    row = evaluate.leaderboard_row("cnn", predictions, config, parameters=3)
    assert (
        list(row)[1:4] == [metric, f"{metric}_low", f"{metric}_high"]
        and list(row)[-1] == "parameters"
    )
    assert set(evaluate.LEADERBOARD[several]) <= set(row) and row[metric] == found[metric]["value"]
    least = predictions[list(CLASSES)].idxmin(axis=1)
    wrong = predictions.assign(predicted=least, **{name: 1 - predictions[name] for name in CLASSES})
    board = evaluate.leaderboard(
        {"bad": wrong, "good": predictions}, {"bad": {}, "good": {}}, config
    )
    assert board["model"].tolist() == ["good", "bad"] and board["difference"][1] < 0
    assert evaluate.ties(board).tolist() == [True, False]


@each_kind
def test_a_metric_is_added_in_one_place(several, monkeypatch):
    monkeypatch.setattr(scoring, "METRICS", dict(scoring.METRICS))

    @scoring.metric("hamming", "said", "Hamming score")
    def hamming(truth, said, weights):
        return weights @ (truth == said).mean(axis=1) / weights.sum(axis=1)

    preset = "demo_multilabel" if several else "demo"
    config = presets.load(preset, settings="evaluate.metric=hamming")
    predictions = table_of(several)
    truth, said, _ = tables_of(predictions)
    assert evaluate.headline(config)[0] == "hamming"
    assert evaluate.in_words("hamming") == "Hamming score"
    found = evaluate.leaderboard_row("cnn", predictions, config)["hamming"]
    assert found == pytest.approx((truth == said).mean(), abs=1e-5)


@each_kind
def test_without_a_competition_everything_is_as_usual(several):
    config, predictions = asking("auto", several), table_of(several)
    assert evaluate.headline(config) == evaluate.HEADLINE[several]
    assert evaluate.leaderboard_metrics(config) == evaluate.LEADERBOARD[several]
    usual = evaluate.summary(predictions, 200, 0, several)
    assert evaluate.scores_of(predictions, config) == usual
    assert usual.items() <= evaluate.summary(predictions, 200, 0, several, metric="cmap").items()
    assert "k" not in evaluate.metrics(predictions, predictions, "", config)


@each_kind
def test_blocks_of_samples_give_what_all_samples_at_once_give(several, monkeypatch):
    predictions = table_of(several)
    at_once = (
        evaluate.summary(predictions, 100, 0, several, "cmap"),
        evaluate.per_class(predictions, 100, 0, several),
    )
    monkeypatch.setattr(evaluate, "BLOCK", 7 * len(predictions))
    assert evaluate.summary(predictions, 100, 0, several, "cmap") == at_once[0]
    pd.testing.assert_frame_equal(evaluate.per_class(predictions, 100, 0, several), at_once[1])


def test_a_class_that_is_never_there_counts_in_cmap_only():
    predictions = table_of(True).assign(d=0.1)
    without = evaluate.summary(predictions.drop(columns="d"), 50, 0, True, "cmap")
    found = evaluate.summary(predictions, 50, 0, True, "cmap")
    assert found["roc_auc"] == without["roc_auc"]
    assert found["cmap"]["value"] == pytest.approx((3 * without["cmap"]["value"] + 1) / 4, abs=1e-5)


@pytest.mark.parametrize(
    ("how", "words"), [("mean", "clips averaged"), ("max", "highest"), ("noisy_or", "noisy or")]
)
def test_the_protocol_says_how_clips_are_joined(how, words):
    assert words in evaluate.protocol(3, small_config(model={"aggregate": how})).split(".")[0]


def test_metrics_are_spelled_for_reading():
    names = [
        evaluate.in_words(name)
        for name in ("roc_auc", "cmap", "row_f1", "macro_average_precision", "lwlrap")
    ]
    assert names == ["ROC AUC", "padded cmAP", "row-wise F1", "macro average precision", "lwlrap"]
