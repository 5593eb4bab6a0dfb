"""Models on the feature table: they beat chance, see the training side only, and come back from
their files.
"""

import numpy as np
import pandas as pd
import pytest
from tables import feature_rows, small_config, tagged_rows

from helpers.base import artifacts, recipe, targets
from helpers.compare import classic

MODELS = recipe.named("table")
LABELS = ["a", "b", "c"]


@pytest.fixture(scope="module", params=MODELS)
def validated(request, tmp_path_factory):
    """One model, cross-validated: (name, table, probabilities, costs, folder)."""
    folder, table = tmp_path_factory.mktemp(request.param), feature_rows()
    return (
        request.param,
        table,
        *classic.cross_validate(request.param, table, small_config(), folder),
        folder,
    )


def size(fitted):
    return classic.FORMATS[fitted.name].size(fitted.model)


def seen_means(fitted):
    """The mean of each feature that a fitted model has taken from its training rows."""
    model = fitted.model
    if fitted.name == "dnn":
        return model.network_.mean.numpy()
    pipeline = (
        model.calibrated_classifiers_[0].estimator
        if hasattr(model, "calibrated_classifiers_")
        else model
    )
    return pipeline.named_steps["standardscaler"].mean_


def fitted_models(monkeypatch, name, table, **sections):
    """The models of each round of a cross-validation, as they would be saved, and its
    probabilities.
    """
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
    assert (
        probabilities[LABELS].idxmax(axis=1).to_numpy() == truth["label"].to_numpy()
    ).mean() > 0.8


@pytest.mark.parametrize("name", MODELS)
def test_a_loaded_model_predicts_what_the_saved_one_did(name, tmp_path):
    table = feature_rows()
    probabilities, _ = classic.cross_validate(name, table, small_config(), tmp_path)
    for fold in (1, 2, 3):
        fitted = classic.load(tmp_path / f"fold{fold}")
        assert artifacts.read_json(tmp_path / f"fold{fold}" / "card.json")["folds"]["test"] == fold
        assert (fitted.name, fitted.labels, fitted.multilabel) == (name, LABELS, False)
        again = classic.predict(fitted, table[table["fold"].eq(fold)])
        np.testing.assert_allclose(
            again, probabilities.loc[probabilities["fold"].eq(fold), LABELS], rtol=1e-6
        )


def test_nothing_saved_is_pickled(validated):
    *_, folder = validated
    suffixes = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert suffixes in (
        {".json", ".skops"},
        {".json", ".ubj"},
        {".json", ".safetensors"},
    )  # none of them can run code when it is read


def test_costs_are_positive(validated):
    *_, costs, _ = validated
    assert set(costs) == {"train_seconds", "ms_per_clip", "parameters"} and all(
        cost > 0 for cost in costs.values()
    )


def test_size_counts_the_numbers_of_a_fitted_model(monkeypatch):
    table = feature_rows()
    [linear, *_], _ = fitted_models(monkeypatch, "mfcc_linear", table)
    assert size(linear) == 3 * 3 + 3  # three MFCC means and an intercept for each of three classes
    [svm, *_], _ = fitted_models(monkeypatch, "svm", table)
    assert size(svm) % 4 == 0 and 0 < size(svm) <= 4 * table["fold"].ne(1).sum()
    [trees, *_], _ = fitted_models(monkeypatch, "xgboost", table)
    assert size(trees) == sum(
        len(tree.strip().splitlines()) for tree in trees.model.get_booster().get_dump()
    )
    [dense, *_], _ = fitted_models(monkeypatch, "dnn", table)
    layers = (4 * 256 + 256) + (256 * 128 + 128) + (128 * 3 + 3)
    assert size(dense) == layers + 2 * 256 + 2 * 128  # and the scales and offsets of two BatchNorms


@pytest.mark.parametrize("name", ["mfcc_linear", "svm", "dnn"])
def test_the_scaler_never_sees_the_test_fold(name, monkeypatch):
    table = feature_rows()
    columns = classic.columns_of(name, table)
    far = table.copy()
    far.loc[far["fold"].eq(1), columns] += 1e6
    near_models, far_models = (fitted_models(monkeypatch, name, rows)[0] for rows in (table, far))
    np.testing.assert_array_equal(seen_means(near_models[0]), seen_means(far_models[0]))
    training_mean = table.loc[table["fold"].ne(1), columns].mean()
    np.testing.assert_allclose(seen_means(near_models[0]), training_mean, rtol=1e-4, atol=1e-5)
    assert (seen_means(far_models[1]) > 1e5).all()  # the shift is felt where it belongs


def test_calibration_folds_split_by_group():
    table = feature_rows()
    groups = table["group"].to_numpy()
    folds = classic.calibration_folds(table["label"], groups, seed=0)
    assert len(folds) == 3 and sorted(np.concatenate([test for _, test in folds])) == list(
        range(len(table))
    )
    for training, test in folds:
        assert not set(groups[training]) & set(groups[test])


@pytest.mark.parametrize("name", MODELS)
def test_a_class_missing_from_the_training_folds_gets_probability_0(name, monkeypatch):
    table = feature_rows(labels=("a", "b", "c", "d"), groups_per_fold=3)
    table = table[table["label"].ne("b") | table["fold"].eq(1)].reset_index(drop=True)
    models, probabilities = fitted_models(monkeypatch, name, table)
    without = probabilities[probabilities["fold"].eq(1)]
    assert list(probabilities) == ["clip_id", "fold", "a", "b", "c", "d"]
    assert (without["b"] == 0).all() and (
        probabilities.loc[probabilities["fold"].ne(1), "b"] > 0
    ).all()
    np.testing.assert_allclose(without[["a", "b", "c", "d"]].sum(axis=1), 1, rtol=1e-5)
    known = without[without["clip_id"].str[0].ne("b")]
    assert (known[["a", "b", "c", "d"]].idxmax(axis=1) == known["clip_id"].str[0]).mean() > 0.8
    assert [fitted.known for fitted in models] == [
        ["a", "c", "d"],
        ["a", "b", "c", "d"],
        ["a", "b", "c", "d"],
    ]


@pytest.mark.parametrize(
    "labels", [("a", "b"), ("a", "b", "c")], ids=["two classes", "three classes"]
)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore:Number of classes:RuntimeWarning")
def test_a_class_of_two_sources_can_still_be_cross_validated(name, labels, tmp_path):
    """split.folds asks for two sources per class; then one of them is all that a round can train
    on.
    """
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
    monkeypatch.setattr(
        classic, "fit", lambda name, rows, *rest: (trained.append(rows), fit(name, rows, *rest))[1]
    )
    both = pd.concat([table, copies], ignore_index=True)
    _, probabilities = fitted_models(
        monkeypatch, "mfcc_linear", both, compare={"augmented_copies": used}
    )
    assert sorted(probabilities["clip_id"]) == sorted(table["clip_id"])
    for fold, rows in enumerate(trained, 1):
        assert rows["parent_id"].ne("").any() == used and not rows["fold"].eq(fold).any()


def test_the_linear_baseline_sees_mfcc_means_alone():
    table = feature_rows()
    assert classic.columns_of("mfcc_linear", table) == [
        "mfcc_01_mean",
        "mfcc_02_mean",
        "mfcc_03_mean",
    ]
    assert classic.columns_of("svm", table) == [
        *classic.columns_of("mfcc_linear", table),
        "rms_std",
    ]


@pytest.mark.parametrize("name", ["xgboost", "dnn"])
def test_the_same_seed_gives_the_same_model(name):
    table = feature_rows()
    seeds = [small_config().model_copy(update={"seed": seed}) for seed in (7, 7, 8)]
    first, again, other = (
        classic.predict(classic.fit(name, table, LABELS, seed), table) for seed in seeds
    )
    np.testing.assert_array_equal(first, again)
    assert not first.equals(other)


def test_an_unknown_model_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"'forest'.* There are: mfcc_linear, .*svm, .*dnn"):
        classic.fit("forest", feature_rows(), LABELS, small_config())


@pytest.mark.parametrize("name", MODELS)
def test_missing_features_are_filled_and_infinite_ones_count_as_missing(name):
    table = feature_rows()
    columns = classic.columns_of("svm", table)
    holed, infinite = table.copy(), table.copy()
    holed.loc[::5, columns[0]], infinite.loc[::5, columns[0]] = np.nan, np.inf
    found = classic.predict(classic.fit(name, holed, LABELS, small_config()), holed)
    assert np.isfinite(found.to_numpy()).all()
    assert (found.idxmax(axis=1) == table["label"]).mean() > 0.8
    pd.testing.assert_frame_equal(
        classic.predict(classic.fit(name, infinite, LABELS, small_config()), infinite), found
    )


def test_of_rows_with_the_same_features_and_label_one_is_learned_from():
    table = feature_rows()
    twice = pd.concat([table, table.assign(clip_id=table["clip_id"] + "-a0")], ignore_index=True)
    once, again = (
        classic.predict(classic.fit("svm", rows, LABELS, small_config()), table)
        for rows in (table, twice)
    )
    pd.testing.assert_frame_equal(once, again)


# --- class balance -----------------------------------------------------------------------------


def overlapping(n_common=90, n_rare=12, seed=0):
    """A table of two classes that overlap, one of them rare."""
    table = feature_rows(("a", "b"), groups_per_fold=10, clips_per_group=3, seed=seed)
    values, rng = classic.columns_of("svm", table), np.random.default_rng(seed)
    table[values] = (
        rng.standard_normal((len(table), len(values)))
        + 0.8 * table["label"].eq("b").to_numpy()[:, None]
    )
    kept = pd.concat(
        [table[table["label"].eq("a")].head(n_common), table[table["label"].eq("b")].head(n_rare)]
    )
    return kept.reset_index(drop=True)


HELPED = [(name, balance) for name in MODELS for balance in ("weights", "sampling", "focal")]


@pytest.mark.parametrize("name, balance", HELPED)
def test_helping_the_rare_class_makes_it_be_said_more_often(name, balance):
    table, told = overlapping(), overlapping(90, 90, seed=1)
    plain, helped = (
        classic.predict(
            classic.fit(name, table, ["a", "b"], small_config(train={"balance": how})), told
        )["b"].mean()
        for how in ("none", balance)
    )
    assert helped > plain


# --- several labels ----------------------------------------------------------------------------

SEVERAL = small_config(data={"multilabel": True})


@pytest.mark.parametrize("name", MODELS)
def test_with_several_labels_each_class_is_found_for_itself_and_again_from_its_file(name, tmp_path):
    table = tagged_rows()
    probabilities, costs = classic.cross_validate(name, table, SEVERAL, tmp_path)
    wanted = targets.matrix(
        table.set_index("clip_id")["label"][probabilities["clip_id"]], ["p", "q"]
    )
    assert list(probabilities) == ["clip_id", "fold", "p", "q"] and costs["parameters"] > 0
    assert ((probabilities[["p", "q"]].to_numpy() > 0.5) == wanted).mean() > 0.9
    fitted, tested = classic.load(tmp_path / "fold1"), table[table["fold"].eq(1)]
    again = probabilities[probabilities["fold"].eq(1)]
    assert fitted.multilabel
    np.testing.assert_allclose(
        classic.predict(fitted, tested), again[["p", "q"]], rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("name", MODELS)
def test_with_several_labels_a_class_that_was_not_there_to_learn_gets_probability_0(name, tmp_path):
    table = tagged_rows()
    table = table[~table["label"].str.contains("q")].reset_index(drop=True)
    fitted = classic.fit(name, table, ["p", "q"], SEVERAL)
    classic.save(fitted, tmp_path / "fold1", {"test": 1, "validation": None, "train": (2, 3)})
    for model in (fitted, classic.load(tmp_path / "fold1")):
        found = classic.predict(model, table)
        assert (found["q"] == 0).all() and list(found) == ["p", "q"]
        assert (found["p"].gt(0.5) == table["label"].eq("p")).mean() > 0.9
