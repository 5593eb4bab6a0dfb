"""The dense network on the feature table: it learns, forgives missing features and repeats itself
exactly.
"""

import numpy as np
import pytest
import torch

from helpers.compare import table_network

BALANCES = ("none", "weights", "sampling", "focal")
both = pytest.mark.parametrize("multilabel", [False, True])


@pytest.fixture(autouse=True)
def few_epochs(monkeypatch):
    monkeypatch.setattr(table_network, "EPOCHS", 10)


def task(multilabel=False, n=200, seed=0, shares=(0.4, 0.3, 0.3)):
    """Features [n, 6] of which each of the first three tells of a class, and the target vectors [n,
    3].
    """
    rng = np.random.default_rng(seed)
    wanted = np.eye(3)[rng.choice(3, n, p=shares)]
    if multilabel:
        wanted = (rng.uniform(size=(n, 3)) < shares).astype(float)
    x = rng.standard_normal((n, 6)) * [1, 10, 0.01, 1, 1, 1] + [0, 500, 0, 3, 0, 0]
    x[:, :3] += wanted * [6, 60, 0.06]
    return x.astype(np.float32), wanted.astype(np.float32)


def trained(x, wanted, balance="none", multilabel=False, seed=0):
    return table_network.DenseClassifier(balance, multilabel, seed).fit(x, wanted)


def share_right(network, x, wanted, multilabel=False):
    found = network.predict_proba(x)
    if multilabel:
        return np.mean((found > 0.5) == (wanted > 0.5))
    return np.mean(found.argmax(axis=1) == wanted.argmax(axis=1))


@pytest.mark.parametrize("balance", BALANCES)
@both
def test_an_easy_task_is_learned_however_classes_are_balanced(balance, multilabel):
    x, wanted = task(multilabel)
    network = trained(x, wanted, balance, multilabel)
    assert share_right(network, *task(multilabel, seed=1), multilabel) > 0.95


@both
def test_probabilities_are_probabilities(multilabel):
    x, wanted = task(multilabel)
    found = trained(x, wanted, "none", multilabel).predict_proba(x)
    assert found.shape == wanted.shape and found.min() >= 0 and found.max() <= 1
    if not multilabel:
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("balance", ["weights", "sampling"])
@both
def test_balancing_makes_a_rare_class_more_likely(balance, multilabel, monkeypatch):
    monkeypatch.setattr(table_network, "EPOCHS", 40)
    wanted = task(multilabel, shares=(0.5, 0.45, 0.05))[1]
    x = np.random.default_rng(9).standard_normal((len(wanted), 2))  # tells nothing
    plain, helped = (
        trained(x, wanted, b, multilabel).predict_proba(x)[:, 2].mean() for b in ("none", balance)
    )
    assert helped > 1.5 * plain


def test_the_units_of_the_features_do_not_matter():
    x, wanted = task()
    scaled = x * np.float32(1000) + np.float32(5)
    first, second = (trained(one, wanted).predict_proba(one) for one in (x, scaled))
    np.testing.assert_allclose(first, second, atol=0.02)


# --- missing features --------------------------------------------------------------------------


def test_missing_and_infinite_features_are_filled_with_the_training_sides_median():
    x, wanted = task(n=201)
    holes = np.random.default_rng(3).uniform(size=x.shape) < 0.1
    x[holes] = np.random.default_rng(4).choice([np.nan, np.inf, -np.inf], holes.sum())
    network = trained(x, wanted)
    known = np.where(np.isfinite(x), x, np.nan)
    for column, fill in zip(known.T, network.network_.fill.tolist(), strict=True):
        below, above = (
            np.nanpercentile(column, [50, 50], method="lower"),
            np.nanpercentile(column, 50, method="higher"),
        )
        assert below[0] <= fill <= above
    filled = np.where(np.isfinite(x), x, network.network_.fill.numpy())
    np.testing.assert_allclose(network.network_.mean, filled.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(network.network_.deviation, filled.std(axis=0, ddof=0), rtol=1e-4)
    np.testing.assert_array_equal(network.predict_proba(x), network.predict_proba(filled))
    assert share_right(network, *task(seed=1)) > 0.9


def test_numbers_beyond_single_precision_count_as_missing():
    x, wanted = task()
    network = trained(x, wanted)
    with np.errstate(over="ignore"):
        huge = network.predict_proba(np.where(np.arange(6) == 4, 1e300, x.astype(np.float64)))
    missing = network.predict_proba(np.where(np.arange(6) == 4, np.nan, x))
    np.testing.assert_array_equal(huge, missing)


def test_a_feature_that_is_always_missing_or_never_varies_says_nothing():
    x, wanted = task()
    x[:, 3], x[:, 4], x[:, 5] = np.nan, 1234.567, 0.0
    network = trained(x, wanted)
    assert all(tensor.isfinite().all() for tensor in network.network_.state_dict().values())
    assert share_right(network, x, wanted) > 0.95


@pytest.mark.parametrize("constant", [0.0, np.nan])
def test_a_feature_that_varies_only_after_training_does_not_decide_alone(constant):
    """scikit-learn's StandardScaler, which the other models use, leaves such a feature's scale as
    it is.
    """
    x, wanted = task()
    x[:, 5] = constant
    network = trained(x, wanted)
    x[:, 5] = 0.1
    assert share_right(network, x, wanted) > 0.9


def test_a_row_of_nothing_but_holes_has_probabilities():
    network = trained(*task())
    assert np.isfinite(network.predict_proba(np.full((1, 6), np.nan))).all()


# --- the same again ----------------------------------------------------------------------------


@pytest.mark.parametrize("balance", ["none", "sampling"])
def test_the_same_seed_gives_the_same_weights_another_seed_others(balance):
    x, wanted = task()
    torch.manual_seed(11)
    one = trained(x, wanted, balance, seed=1).network_.state_dict()
    torch.manual_seed(12)
    again, other = (trained(x, wanted, balance, seed=seed).network_.state_dict() for seed in (1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_fitting_leaves_the_global_generator_the_threads_and_the_rows_as_they_were():
    x, wanted = task()
    x[0, 0] = np.nan
    before = x.copy(), wanted.copy()
    state, threads, mode = torch.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled()
    network = trained(x, wanted)
    network.predict_proba(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (threads, mode)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(wanted, before[1])


@both
def test_a_network_survives_its_file(tmp_path, multilabel):
    x, wanted = task(multilabel)
    x[::7, 1] = np.nan
    network = trained(x, wanted, "none", multilabel)
    network.save_model(tmp_path / "model.safetensors")
    loaded = table_network.DenseClassifier(multilabel=multilabel)
    loaded.load_model(tmp_path / "model.safetensors")
    assert not loaded.network_.training
    np.testing.assert_array_equal(
        loaded.predict_proba(x),
        network.predict_proba(x),
    )


def test_the_outputs_of_a_row_do_not_depend_on_its_company():
    x, wanted = task()
    network = trained(x, wanted)
    together = network.predict_proba(x[:20])
    alone = np.concatenate([network.predict_proba(row[None]) for row in x[:20]])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert network.predict_proba(x[:0]).shape == (0, 3)


# --- few rows ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, table_network.BATCH_SIZE + 1, 2 * table_network.BATCH_SIZE + 1])
@pytest.mark.parametrize("balance", ["none", "sampling"])
def test_a_last_batch_of_one_row_does_not_break(n, balance):
    x, wanted = task(n=n)
    assert np.isfinite(trained(x, wanted, balance).predict_proba(x)).all()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_single_row_gives_probabilities():
    x, wanted = task(n=1)
    assert np.isfinite(trained(x, wanted).predict_proba(x)).all()


@pytest.mark.parametrize("balance", BALANCES)
def test_rows_without_a_label_and_classes_without_a_row_do_not_break(balance):
    x, wanted = task(multilabel=True, n=60)
    wanted[:, 2], wanted[:20] = 0, 0
    found = trained(x, wanted, balance, multilabel=True).predict_proba(x)
    assert np.isfinite(found).all() and found[:20, :2].mean() < found[20:, :2].mean()
