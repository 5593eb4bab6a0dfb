"""Every model by name on the same folds; ensembles that join them; the same model on the test side."""

import numpy as np
import pandas as pd
import pytest
from tables import feature_rows, small_config, tone_clips

from helpers import classic, compare, models, predict


def members(n_clips=60, seed=0):
    """Out-of-fold tables of two members over the same clips: one is right, the other guesses."""
    rng = np.random.default_rng(seed)
    labels = pd.Series(rng.choice(["a", "b"], n_clips), index=[f"c{i}" for i in range(n_clips)])
    good, guess = np.where(labels == "a", 0.8, 0.2), rng.uniform(size=n_clips)
    fold = np.arange(n_clips) % 3 + 1
    tables = [pd.DataFrame({"clip_id": labels.index, "fold": fold, "a": p, "b": 1 - p}) for p in (good, guess)]
    return tables, labels


def right(table, labels):
    said = table.set_index("clip_id")[["a", "b"]].idxmax(axis=1)
    return (said == labels[said.index]).mean()


def test_a_soft_vote_is_the_mean_whatever_the_order_of_rows():
    (good, guess), _ = members()
    vote = compare.soft_vote([good, guess.sample(frac=1, random_state=1)])
    np.testing.assert_allclose(vote["a"], (good["a"] + guess["a"]) / 2)
    assert vote["clip_id"].tolist() == good["clip_id"].tolist() and vote["fold"].tolist() == good["fold"].tolist()


def test_stacking_learns_whom_to_trust_and_keeps_every_clip():
    (good, guess), labels = members()
    stack = compare.stack_cross_validate([guess, good], labels)
    assert sorted(stack["clip_id"]) == sorted(good["clip_id"])
    np.testing.assert_allclose(stack[["a", "b"]].sum(axis=1), 1, rtol=1e-9)
    assert right(stack, labels) >= 0.95 > 0.7 > right(guess, labels)


def test_a_folds_labels_do_not_shape_its_own_stacked_predictions():
    tables, labels = members()
    turned = labels.copy()
    mine = tables[0].loc[tables[0]["fold"] == 2, "clip_id"]
    turned[mine] = turned[mine].map({"a": "b", "b": "a"})
    before, after = (compare.stack_cross_validate(tables, truth).set_index("clip_id") for truth in (labels, turned))
    pd.testing.assert_frame_equal(before.loc[mine], after.loc[mine])
    assert not before.equals(after)


@pytest.mark.parametrize("name", ["lstm", "gru", "cnn1d"])
def test_every_network_learns_two_tones_and_predicts_them_again_from_its_folder(tmp_path, name):
    packed, rows = tone_clips()
    config = small_config(train={"epochs": 12, "patience": 12, "mixup_alpha": 0, "speed": 0.0})
    home = tmp_path / "models" / name
    home.mkdir(parents=True)
    out_of_fold, costs = compare.cross_validate(name, packed, rows, None, config, home, {})
    truth = rows.set_index("clip_id")["label"]
    said = out_of_fold.set_index("clip_id")[["high", "low"]].idxmax(axis=1)
    assert (said == truth[said.index]).mean() > 0.9
    assert costs["parameters"] == models.count_parameters(predict.Bundle(tmp_path, name).models[0])
    again = compare.test_probabilities(name, tmp_path, config, packed, rows, None)
    assert again["clip_id"].tolist() == rows["clip_id"].tolist()


@pytest.mark.parametrize("name", ["mfcc_linear", "svm", "xgboost", "dnn"])
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_a_submitted_classic_model_is_the_mean_over_its_folds(tmp_path, name):
    table = feature_rows()
    home = tmp_path / "models" / name
    compare.cross_validate(name, None, None, table, small_config(), home, {})
    test = table.iloc[[4, 11, 20]]
    found = compare.test_probabilities(name, tmp_path, small_config(), None, test, table)
    folds = [classic.load(home / f"fold{fold}")[0] for fold in (1, 2, 3)]
    expected = np.mean([classic.predict(fitted, name, test, ["a", "b", "c"]) for fitted in folds], axis=0)
    assert found["clip_id"].tolist() == test["clip_id"].tolist()
    np.testing.assert_allclose(found[["a", "b", "c"]], expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["soft_vote", "stacking"])
def test_an_ensemble_joins_its_members_and_pays_for_all_of_them(tmp_path, name):
    table = feature_rows().assign(start_seconds=0.0)
    config = small_config(compare={"models": ("svm", "xgboost", name)})
    found = {}
    for member in ("svm", "xgboost"):
        found[member] = compare.cross_validate(member, None, table, table, config, tmp_path / "models" / member, found)
    found["cnn"] = found["svm"]  # stands in for a trained network
    (tmp_path / "models" / name).mkdir(parents=True)
    out_of_fold, costs = compare.cross_validate(name, None, table, table, config, tmp_path / "models" / name, found)
    labels = table.set_index("clip_id")["label"]
    said = out_of_fold.set_index("clip_id")[["a", "b", "c"]].idxmax(axis=1)
    assert (said == labels[said.index]).mean() > 0.9
    assert costs["train_seconds"] >= found["svm"][1]["train_seconds"]
