"""Losses and weights: they agree with torch and scikit-learn, and make every class count alike."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from helpers.training import losses, perturb

law = settings(deadline=None, max_examples=40, derandomize=True)
seeds = st.integers(0, 10_000)
BALANCES = ("none", "weights", "sampling", "focal")
both = pytest.mark.parametrize("multilabel", [False, True])


def batch(seed, multilabel, n=6, classes=4):
    """Logits, soft targets and class weights of a batch, float64."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    wanted = torch.rand(n, classes, generator=generator, dtype=torch.float64)
    weights = 3 * torch.rand(classes, generator=generator, dtype=torch.float64)
    return logits, wanted if multilabel else wanted / wanted.sum(dim=1, keepdim=True), weights


def hard(seed, multilabel, n=6, classes=4):
    """Targets of zeros and ones: a class per row, or with multilabel any number of them."""
    rng = np.random.default_rng(seed)
    if multilabel:
        return torch.from_numpy((rng.uniform(size=(n, classes)) < 0.4).astype(np.float64))
    return torch.eye(classes, dtype=torch.float64)[torch.from_numpy(rng.integers(classes, size=n))]


# --- the loss ----------------------------------------------------------------------------------


@law
@given(seeds)
def test_the_plain_losses_agree_with_torch(seed):
    logits, wanted, _ = batch(seed, multilabel=False)
    torch.testing.assert_close(losses.loss(logits, wanted), F.cross_entropy(logits, wanted))
    logits, wanted, _ = batch(seed, multilabel=True)
    expected = F.binary_cross_entropy_with_logits(logits, wanted)
    torch.testing.assert_close(losses.loss(logits, wanted, multilabel=True), expected)


@law
@given(seeds)
def test_the_weighted_loss_is_torchs_without_its_division_by_the_batchs_weights(seed):
    logits, _, weights = batch(seed, multilabel=False)
    wanted = hard(seed, multilabel=False)
    expected = F.cross_entropy(logits, wanted.argmax(dim=1), weight=weights, reduction="sum") / len(
        logits
    )
    torch.testing.assert_close(losses.loss(logits, wanted, "weights", weights), expected)
    soft = batch(seed, multilabel=False)[1]  # with soft targets torch leaves the division out, too
    expected = F.cross_entropy(logits, soft, weight=weights)
    torch.testing.assert_close(losses.loss(logits, soft, "weights", weights), expected)


@law
@given(seeds)
def test_the_weighted_loss_of_several_labels_is_torchs_with_pos_weight(seed):
    logits, _, weights = batch(seed, multilabel=True)
    wanted = hard(seed, multilabel=True)
    expected = F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=weights)
    torch.testing.assert_close(
        losses.loss(logits, wanted, "weights", weights, multilabel=True), expected
    )


@both
def test_weights_of_one_and_sampling_leave_the_loss_as_it_is(multilabel):
    logits, wanted, weights = batch(0, multilabel)
    plain = losses.loss(logits, wanted, multilabel=multilabel)
    ones = torch.ones(4, dtype=torch.float64)
    torch.testing.assert_close(losses.loss(logits, wanted, "weights", ones, multilabel), plain)
    assert losses.loss(logits, wanted, "sampling", weights, multilabel) == plain


@both
@law
@given(seed=seeds)
def test_the_focal_loss_never_exceeds_the_plain_one_and_is_it_without_focus(multilabel, seed):
    logits, wanted, _ = batch(seed, multilabel)
    plain = losses.loss(logits, wanted, multilabel=multilabel)
    assert 0 <= losses.loss(logits, wanted, "focal", multilabel=multilabel) <= plain
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "FOCUS", 0.0)
        torch.testing.assert_close(
            losses.loss(logits, wanted, "focal", multilabel=multilabel), plain
        )


@law
@given(seeds)
def test_the_focal_loss_is_that_of_its_paper(seed):
    """FL = -(1 - p)^2 log p, p the probability given to the truth (Lin et al. 2017, equation 4)."""
    logits = batch(seed, multilabel=False)[0]
    truth = hard(seed, multilabel=False)
    p = logits.softmax(dim=1)[truth > 0]
    torch.testing.assert_close(
        losses.loss(logits, truth, "focal"), ((1 - p) ** 2 * -p.log()).mean()
    )
    truth = hard(seed, multilabel=True)
    p = torch.where(truth > 0, logits.sigmoid(), 1 - logits.sigmoid())
    torch.testing.assert_close(
        losses.loss(logits, truth, "focal", multilabel=True), ((1 - p) ** 2 * -p.log()).mean()
    )


def test_the_focal_loss_looks_away_from_what_is_learned():
    """At 90 % the loss shrinks a hundredfold, at 10 % by a fifth."""
    logits = torch.tensor([[0.9, 0.1]]).log()
    for truth, factor in ((torch.tensor([[1.0, 0.0]]), 0.01), (torch.tensor([[0.0, 1.0]]), 0.81)):
        shrunk = losses.loss(logits, truth, "focal") / losses.loss(logits, truth)
        assert float(shrunk) == pytest.approx(factor, rel=1e-5)


@pytest.mark.parametrize("balance", BALANCES)
@both
def test_the_loss_of_a_batch_is_the_mean_of_its_clips(balance, multilabel):
    logits, wanted, weights = batch(1, multilabel)
    alone = [
        losses.loss(logits[[i]], wanted[[i]], balance, weights, multilabel)
        for i in range(len(logits))
    ]
    torch.testing.assert_close(
        losses.loss(logits, wanted, balance, weights, multilabel), torch.stack(alone).mean()
    )


@pytest.mark.parametrize("balance", BALANCES)
@both
def test_extreme_logits_have_finite_losses_and_gradients(balance, multilabel):
    signs = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [-1.0, -1.0], [0.0, 0.0]])
    for size in (80.0, 1e4):
        for truth in ([1.0, 0.0], [0.5, 0.5], [0.0, 1.0]) + (
            ([0.0, 0.0], [1.0, 1.0]) if multilabel else ()
        ):
            logits = (size * signs).requires_grad_()
            wanted = torch.tensor([truth]).expand(5, 2)
            found = losses.loss(logits, wanted, balance, torch.tensor([0.0, 3.0]), multilabel)
            found.backward()
            assert found.isfinite() and found >= 0 and logits.grad.isfinite().all()


@both
def test_a_step_against_the_gradient_makes_the_truth_more_likely(multilabel):
    for balance in BALANCES:
        logits, _, weights = batch(2, multilabel)
        logits.requires_grad_()
        losses.loss(logits, hard(2, multilabel), balance, weights, multilabel).backward()
        assert (logits.grad[hard(2, multilabel) > 0] < 0).all(), balance


# --- smoothing ---------------------------------------------------------------------------------


@law
@given(seeds, st.floats(0, 0.9))
def test_smoothing_agrees_with_torch(seed, smoothing):
    logits, wanted = batch(seed, multilabel=False)[0], hard(seed, multilabel=False)
    smoothed = perturb.smooth(wanted, smoothing)
    torch.testing.assert_close(smoothed.sum(dim=1), torch.ones(len(wanted), dtype=torch.float64))
    expected = F.cross_entropy(logits, wanted.argmax(dim=1), label_smoothing=smoothing)
    torch.testing.assert_close(losses.loss(logits, smoothed), expected)


@law
@given(seeds, st.floats(0, 0.9))
def test_each_of_several_labels_is_smoothed_as_one_of_two_classes(seed, smoothing):
    wanted = hard(seed, multilabel=True)
    for column, found in zip(
        wanted.T, perturb.smooth(wanted, smoothing, multilabel=True).T, strict=True
    ):
        two = perturb.smooth(torch.stack([1 - column, column], dim=1), smoothing)
        torch.testing.assert_close(found, two[:, 1])


@both
def test_no_smoothing_changes_nothing(multilabel):
    wanted = hard(0, multilabel)
    torch.testing.assert_close(perturb.smooth(wanted, 0.0, multilabel), wanted, rtol=0, atol=0)


# --- class weights -----------------------------------------------------------------------------


@law
@given(st.lists(st.integers(0, 3), max_size=30))
def test_class_weights_are_scikit_learns_balanced_ones(drawn):
    labels = np.array([0, 1, 2, 3, *drawn])
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    np.testing.assert_allclose(
        losses.class_weights(torch.eye(4)[torch.from_numpy(labels)]), expected, rtol=1e-6
    )


@law
@given(seeds)
def test_with_class_weights_the_positives_of_a_class_weigh_as_much_as_its_negatives(seed):
    wanted = hard(seed, multilabel=True, n=20)
    weights = losses.class_weights(wanted, multilabel=True)
    there = wanted.sum(dim=0)
    torch.testing.assert_close((weights * there)[there > 0], (len(wanted) - there)[there > 0])
    assert (weights >= 0).all() and weights.isfinite().all()


@both
def test_a_class_without_a_clip_weighs_nothing(multilabel):
    wanted = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 1, 0]])
    weights = losses.class_weights(wanted, multilabel)
    assert weights[2] == 0 and (weights[:2] > 0).all() and weights.isfinite().all()


# --- sampling ----------------------------------------------------------------------------------


@law
@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_single_labels_are_drawn_evenly_as_scikit_learn_weighs_them(drawn):
    wanted = torch.eye(6)[torch.tensor(drawn)]  # nobody has the last class
    chances = losses.sampling_weights(wanted)
    assert chances.dtype == torch.float64 and float(chances.sum()) == pytest.approx(1)
    there = wanted.sum(dim=0) > 0
    torch.testing.assert_close(
        (chances @ wanted.double())[there],
        torch.full((int(there.sum()),), 1 / int(there.sum())).double(),
    )
    expected = compute_sample_weight("balanced", drawn)
    np.testing.assert_allclose(chances, expected / expected.sum())


@law
@given(seeds)
def test_of_several_labels_the_rarest_says_how_often_a_clip_is_drawn(seed):
    wanted = hard(seed, multilabel=True, n=20)
    chances, counts = losses.sampling_weights(wanted), wanted.sum(dim=0)
    labelled = wanted.sum(dim=1) > 0
    fewest = torch.where(wanted > 0, counts, torch.inf).amin(dim=1)[labelled]
    ratio = chances[labelled] * fewest
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
    assert chances.min() > 0 and float(chances.sum()) == pytest.approx(1)


def test_a_rare_label_is_drawn_more_often_than_it_comes():
    wanted = torch.tensor([[1.0, 0.0]] * 18 + [[1.0, 1.0]] * 2)
    chances = losses.sampling_weights(wanted)
    assert float(chances[18:].sum()) == pytest.approx(0.5 / (0.5 + 18 / 40), rel=1e-6)
    drawn = torch.multinomial(
        chances, 4000, replacement=True, generator=torch.Generator().manual_seed(0)
    )
    assert float(wanted[drawn, 1].mean()) == pytest.approx(0.526, abs=0.03)


def test_clips_without_a_label_are_a_class_of_their_own():
    wanted = torch.tensor([[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 3 + [[0.0, 0.0]] * 3)
    chances = losses.sampling_weights(wanted)
    for members in (slice(0, 6), slice(6, 9), slice(9, 12)):
        assert float(chances[members].sum()) == pytest.approx(1 / 3)
    np.testing.assert_allclose(losses.sampling_weights(torch.zeros(4, 2)), 0.25)


def test_one_clip_is_always_drawn():
    assert losses.sampling_weights(torch.tensor([[0.0, 1.0]])).tolist() == [1.0]
