"""Every model by name on the same folds; ensembles; the same model on the test side."""

import numpy as np
import pandas as pd
import pytest
from tables import feature_rows, small_config, tagged_rows, tone_clips

from helpers.base import artifacts, recipe, targets
from helpers.compare import classic, inference, rivals
from helpers.metrics import evaluate
from helpers.models import networks


def members(n_clips=60, seed=0):
    """Out-of-fold tables of two members over the same clips: one is right, the other guesses."""
    rng = np.random.default_rng(seed)
    labels = pd.Series(rng.choice(["a", "b"], n_clips), index=[f"c{i}" for i in range(n_clips)])
    good, guess = np.where(labels == "a", 0.8, 0.2), rng.uniform(size=n_clips)
    fold = np.arange(n_clips) % 3 + 1
    tables = [
        pd.DataFrame({"clip_id": labels.index, "fold": fold, "a": p, "b": 1 - p})
        for p in (good, guess)
    ]
    return tables, labels


def right(table, labels):
    said = table.set_index("clip_id")[["a", "b"]].idxmax(axis=1)
    return (said == labels[said.index]).mean()


def test_a_soft_vote_is_the_mean_whatever_the_order_of_rows():
    (good, guess), _ = members()
    vote = rivals.soft_vote([good, guess.sample(frac=1, random_state=1)])
    np.testing.assert_allclose(vote["a"], (good["a"] + guess["a"]) / 2)
    assert (
        vote["clip_id"].tolist() == good["clip_id"].tolist()
        and vote["fold"].tolist() == good["fold"].tolist()
    )


def test_stacking_learns_whom_to_trust_and_keeps_every_clip():
    (good, guess), labels = members()
    stack = rivals.stack_cross_validate([guess, good], labels)
    assert sorted(stack["clip_id"]) == sorted(good["clip_id"])
    np.testing.assert_allclose(stack[["a", "b"]].sum(axis=1), 1, rtol=1e-9)
    assert right(stack, labels) >= 0.95 > 0.7 > right(guess, labels)


def test_a_folds_labels_do_not_shape_its_own_stacked_predictions():
    tables, labels = members()
    turned = labels.copy()
    mine = tables[0].loc[tables[0]["fold"] == 2, "clip_id"]
    turned[mine] = turned[mine].map({"a": "b", "b": "a"})
    before, after = (
        rivals.stack_cross_validate(tables, truth).set_index("clip_id")
        for truth in (labels, turned)
    )
    pd.testing.assert_frame_equal(before.loc[mine], after.loc[mine])
    assert not before.equals(after)


# --- several labels ----------------------------------------------------------------------------


def tagging_members(n_clips=120, seed=0):
    """Out-of-fold tables of two members over clips with several labels: one hears p and q, the
    other guesses.
    """
    rng = np.random.default_rng(seed)
    labels = pd.Series(
        rng.choice(["p|q", "p", "q", ""], n_clips), index=[f"c{i}" for i in range(n_clips)]
    )
    good = np.clip(
        targets.matrix(labels, ["p", "q"]) * 0.4 + 0.3 + 0.05 * rng.standard_normal((n_clips, 2)),
        0,
        1,
    )
    fold, guess = np.arange(n_clips) % 3 + 1, rng.uniform(size=(n_clips, 2))
    tables = [
        pd.DataFrame({"clip_id": labels.index, "fold": fold, "p": p, "q": q})
        for p, q in (good.T, guess.T)
    ]
    return tables, labels


def test_stacking_with_several_labels_weighs_the_members_for_each_class():
    tables, labels = tagging_members()
    stack = rivals.stack_cross_validate(tables, labels, multilabel=True)
    assert list(stack.columns.drop("fold")) == ["clip_id", "p", "q"] and sorted(
        stack["clip_id"]
    ) == sorted(labels.index)
    wanted = targets.matrix(labels[stack["clip_id"]], ["p", "q"])
    assert ((stack[["p", "q"]] > 0.5).to_numpy() == wanted).mean() >= 0.95
    assert not np.allclose(stack[["p", "q"]].sum(axis=1), 1, atol=0.1)  # each class for itself


def test_with_several_labels_a_folds_labels_do_not_shape_its_own_stacked_predictions():
    tables, labels = tagging_members()
    turned, mine = labels.copy(), tables[0].loc[tables[0]["fold"] == 2, "clip_id"]
    turned[mine] = turned[mine].map({"p|q": "", "": "p|q", "p": "q", "q": "p"})
    before, after = (
        rivals.stack_cross_validate(tables, truth, multilabel=True).set_index("clip_id")
        for truth in (labels, turned)
    )
    pd.testing.assert_frame_equal(before.loc[mine], after.loc[mine])
    assert not before.equals(after)


def test_a_stack_of_several_labels_comes_back_from_its_file(tmp_path):
    config = small_config(data={"multilabel": True}, compare={"models": ("svm", "stacking")})
    tables, labels = tagging_members()
    rows = pd.DataFrame({"clip_id": labels.index, "label": labels.to_numpy()})
    costs = {"train_seconds": 1.0, "ms_per_clip": 1.0, "parameters": 100}
    found = {name: (table, costs) for name, table in zip(("cnn", "svm"), tables, strict=True)}
    _, total = rivals.cross_validate("stacking", None, rows, None, config, tmp_path, found)
    assert total["parameters"] == 200 + 2 * 4  # two members' odds of two classes, for each class
    again = rivals._stack_table(rivals._stack_load(tmp_path), tables)
    meta = rivals.stack_fit(tables, labels, multilabel=True)
    np.testing.assert_allclose(
        again[["p", "q"]], meta.predict_proba(rivals.stack_inputs(tables).to_numpy())
    )


def test_a_class_that_no_tested_fold_holds_does_not_stop_the_stack(tmp_path):
    """With split.test_folds the out-of-fold clips are some of all: a rare class may lie in the
    others.
    """
    config = small_config(
        data={"multilabel": True}, compare={"models": ("svm", "stacking")}, split={"test_folds": 2}
    )
    tables, labels = tagging_members()
    found = {
        name: (table.assign(rare=0.1), {"parameters": 1})
        for name, table in zip(("cnn", "svm"), tables, strict=True)
    }
    rows = pd.DataFrame({"clip_id": labels.index, "label": labels.to_numpy()})
    table, _ = rivals.cross_validate("stacking", None, rows, None, config, tmp_path, found)
    assert table["rare"].lt(0.1).all()


def test_the_thresholds_of_a_model_come_from_its_folder(tmp_path):
    artifacts.write_json(tmp_path / "models" / "svm" / "thresholds.json", {"p": 0.25, "q": 0.5})
    assert rivals.thresholds("svm", tmp_path).to_dict() == {"p": 0.25, "q": 0.5}


def test_megabytes_are_those_of_one_fold_and_an_ensemble_has_its_members(tmp_path):
    for name, size in (("cnn", 1_000_000), ("svm", 2_000_000)):
        for fold in (1, 2):
            (tmp_path / "models" / name / f"fold{fold}").mkdir(parents=True)
            (tmp_path / "models" / name / f"fold{fold}" / "model").write_bytes(bytes(fold * size))
        (tmp_path / "models" / name / "out_of_fold.csv").write_bytes(bytes(9_000_000))
    config = small_config(compare={"models": ("svm", "soft_vote")})
    assert [rivals.megabytes(name, tmp_path, config) for name in ("cnn", "svm", "soft_vote")] == [
        1.5,
        3.0,
        4.5,
    ]


# --- what the split, and what the balance does -------------------------------------------------


def meaningless():
    """A feature table whose classes mean nothing, but whose takes of a source, and their copies,
    are nearly equal.
    """
    table, rng = (
        feature_rows(("a", "b"), groups_per_fold=6, clips_per_group=3),
        np.random.default_rng(1),
    )
    source, names = pd.factorize(table["group"])
    columns = classic.columns_of("svm", table)
    table[columns] = rng.standard_normal((len(names), len(columns)))[source]
    copies = table.assign(parent_id=table["clip_id"], clip_id=table["clip_id"] + "-a0")
    both = pd.concat([table, copies], ignore_index=True)
    both[columns] += 0.05 * rng.standard_normal((len(both), len(columns)))
    return both


def test_a_leaking_split_seems_to_find_a_signal_where_there_is_none():
    gap = rivals.leak_gap(meaningless(), small_config())
    honest, leaking = gap["honest"]["accuracy"], gap["leaking"]["accuracy"]
    assert set(gap) == {"honest", "leaking", "can_leak"} and gap["can_leak"]
    assert honest["low"] < 0.6 and leaking["value"] > 0.75 and leaking["low"] > honest["value"]


def test_where_there_is_nothing_to_leak_both_splits_say_the_same():
    table = feature_rows(groups_per_fold=6, clips_per_group=1)
    gap = rivals.leak_gap(table, small_config())
    assert gap["leaking"]["accuracy"]["value"] == pytest.approx(
        gap["honest"]["accuracy"]["value"], abs=0.1
    )
    alone = table[table["parent_id"].eq("")].drop_duplicates("group")
    assert not rivals.leak_gap(alone, small_config())["can_leak"]


def test_the_leak_gap_names_its_model_which_is_not_the_network():
    scores = {"leaking": (0.91, 0.88, 0.94), "honest": (0.81, 0.77, 0.85)}
    gap = {
        name: {"accuracy": dict(zip(("value", "low", "high"), values, strict=True))}
        for name, values in scores.items()
    }
    says = rivals.gap_in_words({**gap, "can_leak": True}, "accuracy")
    assert says.startswith("The quick dense network") and "not the network of 05" in says
    assert says.index("91.0 % (88.0–94.0)") < says.index("81.0 % (77.0–85.0)")
    assert "Nothing can leak" in rivals.gap_in_words({**gap, "can_leak": False}, "accuracy")


def test_the_leak_gap_repeats_and_leaves_the_table_and_the_test_side_alone():
    table = meaningless()
    table.loc[[0, 1, 2], ["split", "fold"]] = "test", pd.NA
    before = table.copy()
    assert rivals.leak_gap(table, small_config()) == rivals.leak_gap(table, small_config())
    pd.testing.assert_frame_equal(table, before)


def test_the_balances_are_compared_on_the_same_folds_with_the_metrics_of_the_leaderboard(tmp_path):
    board = rivals.balance_effects(feature_rows(), small_config())
    assert board["balance"].tolist() == ["none", "weights", "sampling", "focal"]
    metrics = evaluate.LEADERBOARD[False]
    assert list(board.columns[1:]) == [
        metric + bound for metric in metrics for bound in ("", "_low", "_high")
    ]
    assert board["accuracy"].gt(0.8).all()
    artifacts.write_table(tmp_path / "balance.csv", board)
    pd.testing.assert_frame_equal(artifacts.read_table(tmp_path / "balance.csv"), board)


def test_with_several_labels_gap_and_balances_have_the_metrics_of_several_labels():
    config, table = small_config(data={"multilabel": True}), tagged_rows()
    board, gap = rivals.balance_effects(table, config), rivals.leak_gap(table, config)
    metrics = evaluate.LEADERBOARD[True]
    assert list(board.columns[1:]) == [
        metric + bound for metric in metrics for bound in ("", "_low", "_high")
    ]
    assert board["macro_average_precision"].gt(0.9).all()
    assert set(metrics) <= set(gap["honest"]) == set(gap["leaking"])


def test_helping_rare_classes_shows_in_their_recall():
    table = feature_rows(("a", "b"), groups_per_fold=10)
    columns = classic.columns_of("svm", table)
    table[columns] += 4 * np.random.default_rng(0).standard_normal((len(table), len(columns)))
    rare = table["label"].eq("a") | table["group"].str[2:].eq("0")
    board = rivals.balance_effects(table[rare].reset_index(drop=True), small_config()).set_index(
        "balance"
    )
    assert (
        board.loc[["weights", "sampling"], "minority_recall"].min()
        > board.loc["none", "minority_recall"]
    )


# --- by name -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lstm", "gru", "cnn1d"])
def test_every_network_learns_two_tones_and_predicts_them_again_from_its_folder(tmp_path, name):
    packed, rows = tone_clips()
    config = small_config(train={"epochs": 12, "patience": 12, "mixup_alpha": 0, "speed": 0.0})
    home = tmp_path / "models" / name
    home.mkdir(parents=True)
    out_of_fold, costs = rivals.cross_validate(name, packed, rows, None, config, home, {})
    truth = rows.set_index("clip_id")["label"]
    said = out_of_fold.set_index("clip_id")[["high", "low"]].idxmax(axis=1)
    assert (said == truth[said.index]).mean() > 0.9
    assert costs["parameters"] == networks.count_parameters(
        inference.Bundle(tmp_path, name).models[0]
    )
    again = rivals.test_probabilities(name, tmp_path, config, packed, rows, None)
    assert again["clip_id"].tolist() == rows["clip_id"].tolist()


@pytest.mark.parametrize("name", recipe.named("table"))
def test_a_submitted_classic_model_is_the_mean_over_its_folds(tmp_path, name):
    table = feature_rows()
    home = tmp_path / "models" / name
    rivals.cross_validate(name, None, None, table, small_config(), home, {})
    test = table.iloc[[4, 11, 20]]
    found = rivals.test_probabilities(name, tmp_path, small_config(), None, test, table)
    folds = [classic.load(home / f"fold{fold}") for fold in (1, 2, 3)]
    expected = np.mean([classic.predict(fitted, test) for fitted in folds], axis=0)
    assert found["clip_id"].tolist() == test["clip_id"].tolist()
    np.testing.assert_allclose(found[["a", "b", "c"]], expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["soft_vote", "stacking"])
def test_an_ensemble_joins_its_members_and_pays_for_all_of_them(tmp_path, name):
    table = feature_rows().assign(start_seconds=0.0)
    config = small_config(compare={"models": ("svm", "xgboost", name)})
    found = {}
    for member in ("svm", "xgboost"):
        found[member] = rivals.cross_validate(
            member, None, table, table, config, tmp_path / "models" / member, found
        )
    found["cnn"] = found["svm"]  # stands in for a trained network
    (tmp_path / "models" / name).mkdir(parents=True)
    out_of_fold, costs = rivals.cross_validate(
        name, None, table, table, config, tmp_path / "models" / name, found
    )
    labels = table.set_index("clip_id")["label"]
    said = out_of_fold.set_index("clip_id")[["a", "b", "c"]].idxmax(axis=1)
    assert (said == labels[said.index]).mean() > 0.9
    assert costs["train_seconds"] >= found["svm"][1]["train_seconds"]
