"""Models on the feature table: they beat chance, see the training side only, and come back from their files."""

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import LabelEncoder
from tables import feature_rows, small_config

from helpers import classic

MODELS = ("mfcc_linear", "svm", "xgboost")
LABELS = ["a", "b", "c"]


@pytest.fixture(scope="module", params=MODELS)
def validated(request, tmp_path_factory):
    """One model, cross-validated: (name, table, probabilities, costs, folder)."""
    folder, table = tmp_path_factory.mktemp(request.param), feature_rows()
    return request.param, table, *classic.cross_validate(request.param, table, small_config(), folder), folder


def scaler(fitted):
    """The fitted StandardScaler of a fitted model."""
    model = fitted[0]
    return (model.calibrated_classifiers_[0].estimator if hasattr(model, "calibrated_classifiers_") else model)[0]


def fitted_models(monkeypatch, name, table, **sections):
    """The models of each round of a cross-validation, as they would be saved, and its probabilities."""
    kept = []
    with monkeypatch.context() as patch:
        patch.setattr(classic, "save", lambda fitted, *rest: kept.append(fitted))
        probabilities, _ = classic.cross_validate(name, table, small_config(**sections), "nowhere")
    return kept, probabilities


def test_out_of_fold_predictions_cover_every_clip_once_and_beat_chance(validated):
    _, table, probabilities, _, _ = validated
    truth = table.set_index("clip_id")[["label", "fold"]].loc[probabilities["clip_id"]]
    assert sorted(probabilities["clip_id"]) == sorted(table["clip_id"])
    assert probabilities["fold"].tolist() == truth["fold"].tolist()
    assert list(probabilities) == ["clip_id", "fold", *LABELS]
    np.testing.assert_allclose(probabilities[LABELS].sum(axis=1), 1, rtol=1e-5)
    assert (probabilities[LABELS].idxmax(axis=1).to_numpy() == truth["label"].to_numpy()).mean() > 0.8


@pytest.mark.parametrize("name", MODELS)
def test_a_loaded_model_predicts_what_the_saved_one_did(name, tmp_path):
    table = feature_rows()
    probabilities, _ = classic.cross_validate(name, table, small_config(), tmp_path)
    for fold in (1, 2, 3):
        fitted, card = classic.load(tmp_path / f"fold{fold}")
        assert card["folds"]["test"] == fold and card["labels"] == LABELS
        again = classic.predict(fitted, name, table[table["fold"].eq(fold)], LABELS)
        np.testing.assert_allclose(again, probabilities.loc[probabilities["fold"].eq(fold), LABELS], rtol=1e-6)


def test_nothing_saved_is_pickled(validated):
    *_, folder = validated
    suffixes = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert suffixes in ({".json", ".skops"}, {".json", ".ubj"})  # none of them can run code when it is read


def test_costs_are_positive(validated):
    *_, costs, _ = validated
    assert set(costs) == {"train_seconds", "ms_per_clip", "parameters"} and all(cost > 0 for cost in costs.values())


def test_size_counts_the_numbers_of_a_fitted_model(monkeypatch):
    table = feature_rows()
    [linear, *_], _ = fitted_models(monkeypatch, "mfcc_linear", table)
    assert classic.size(linear) == 3 * 3 + 3  # three MFCC means and an intercept for each of three classes
    [svm, *_], _ = fitted_models(monkeypatch, "svm", table)
    assert classic.size(svm) % 4 == 0 and 0 < classic.size(svm) <= 4 * table["fold"].ne(1).sum()
    [trees, *_], _ = fitted_models(monkeypatch, "xgboost", table)
    assert classic.size(trees) == sum(len(tree.strip().splitlines()) for tree in trees[0].get_booster().get_dump())


@pytest.mark.parametrize("name", ["mfcc_linear", "svm"])
def test_the_scaler_never_sees_the_test_fold(name, monkeypatch):
    table = feature_rows()
    columns = classic.columns_of(name, table)
    far = table.copy()
    far.loc[far["fold"].eq(1), columns] += 1e6
    near_models, far_models = (fitted_models(monkeypatch, name, rows)[0] for rows in (table, far))
    np.testing.assert_array_equal(scaler(near_models[0]).mean_, scaler(far_models[0]).mean_)
    training_mean = table.loc[table["fold"].ne(1), columns].mean()
    np.testing.assert_allclose(scaler(near_models[0]).mean_, training_mean, rtol=1e-4, atol=1e-5)
    assert (scaler(far_models[1]).mean_ > 1e5).all()  # the shift is felt where it belongs


def test_calibration_folds_split_by_group():
    table = feature_rows()
    groups = table["group"].to_numpy()
    folds = classic.calibration_folds(table["label"], groups, seed=0)
    assert len(folds) == 3 and sorted(np.concatenate([test for _, test in folds])) == list(range(len(table)))
    for training, test in folds:
        assert not set(groups[training]) & set(groups[test])


@pytest.mark.parametrize("name", MODELS)
def test_a_class_missing_from_the_training_folds_gets_probability_0(name, monkeypatch):
    table = feature_rows(labels=("a", "b", "c", "d"), groups_per_fold=3)
    table = table[table["label"].ne("b") | table["fold"].eq(1)].reset_index(drop=True)
    models, probabilities = fitted_models(monkeypatch, name, table)
    without = probabilities[probabilities["fold"].eq(1)]
    assert list(probabilities) == ["clip_id", "fold", "a", "b", "c", "d"]
    assert (without["b"] == 0).all() and (probabilities.loc[probabilities["fold"].ne(1), "b"] > 0).all()
    np.testing.assert_allclose(without[["a", "b", "c", "d"]].sum(axis=1), 1, rtol=1e-5)
    known = without[without["clip_id"].str[0].ne("b")]
    assert (known[["a", "b", "c", "d"]].idxmax(axis=1) == known["clip_id"].str[0]).mean() > 0.8
    assert [list(present) for _, present in models] == [["a", "c", "d"], ["a", "b", "c", "d"], ["a", "b", "c", "d"]]


@pytest.mark.parametrize("labels", [("a", "b"), ("a", "b", "c")], ids=["two classes", "three classes"])
@pytest.mark.parametrize(
    "name",
    [
        "mfcc_linear",
        "svm",
        "xgboost",
    ],
)
@pytest.mark.filterwarnings("ignore:Number of classes:RuntimeWarning")
def test_a_class_of_two_sources_can_still_be_cross_validated(name, labels, tmp_path):
    """split.folds asks for two sources per class; then one of them is all that a round can train on."""
    table = feature_rows(labels=labels, groups_per_fold=2)
    rare = table["label"].eq("b") & ~table["group"].isin(["b10", "b20"])
    table = table[~rare].reset_index(drop=True)
    probabilities, _ = classic.cross_validate(name, table, small_config(), tmp_path)
    assert sorted(probabilities["clip_id"]) == sorted(table["clip_id"])


@pytest.mark.parametrize("used", [False, True])
def test_copies_are_trained_on_only_where_asked_and_never_tested(used, monkeypatch):
    table = feature_rows()
    copies = table.assign(parent_id=table["clip_id"], clip_id=table["clip_id"] + "-a0")
    trained, fit = [], classic.fit
    monkeypatch.setattr(classic, "fit", lambda name, rows, *rest: (trained.append(rows), fit(name, rows, *rest))[1])
    both = pd.concat([table, copies], ignore_index=True)
    _, probabilities = fitted_models(monkeypatch, "mfcc_linear", both, compare={"augmented_copies": used})
    assert sorted(probabilities["clip_id"]) == sorted(table["clip_id"])
    for fold, rows in enumerate(trained, 1):
        assert rows["parent_id"].ne("").any() == used and not rows["fold"].eq(fold).any()


def test_the_linear_baseline_sees_mfcc_means_alone():
    table = feature_rows()
    assert classic.columns_of("mfcc_linear", table) == ["mfcc_01_mean", "mfcc_02_mean", "mfcc_03_mean"]
    assert classic.columns_of("svm", table) == [*classic.columns_of("mfcc_linear", table), "rms_std"]


def test_the_same_seed_gives_the_same_model():
    table, encoder = feature_rows(), LabelEncoder().fit(LABELS)
    first, again = (classic.predict(classic.fit("xgboost", table, encoder, 7), "xgboost", table, LABELS) for _ in "ab")
    np.testing.assert_array_equal(first, again)
