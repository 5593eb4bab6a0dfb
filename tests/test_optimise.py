"""What moves the weights: the learning rate over time, the average of the weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.base.recipe import Train
from helpers.training import optimise

law = settings(deadline=None, max_examples=60, derandomize=True)


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)
    )


def wander(model, seed):
    """Other weights, and other BatchNorm statistics, at random."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for value in model.state_dict().values():
            value.copy_(torch.randn_like(value) if value.is_floating_point() else value + 1)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


# --- the learning rate -------------------------------------------------------------------------


@law
@given(st.floats(0, 1), st.floats(0, 1))
def test_the_learning_rate_rises_then_falls_between_0_and_1(progress, warmup):
    factor = optimise.warm_cosine(progress, warmup)
    assert 0 <= factor <= 1
    if progress + 0.01 <= warmup:
        assert optimise.warm_cosine(progress + 0.01, warmup) >= factor
    elif warmup <= progress <= 0.99:
        assert optimise.warm_cosine(progress + 0.01, warmup) <= factor


def test_the_learning_rate_peaks_where_the_warm_up_ends_and_ends_at_zero():
    assert optimise.warm_cosine(0.2, 0.2) == 1 and optimise.warm_cosine(0.1, 0.2) == pytest.approx(
        0.5
    )
    assert optimise.warm_cosine(1.0, 0.2) == pytest.approx(0, abs=1e-12)
    assert optimise.warm_cosine(0.0, 0.0) == 1


def stepped(settings, steps):
    """The learning rates of so many steps."""
    optimiser = optimise.make_optimiser(network(), settings)
    schedule, plateau = optimise.make_schedule(optimiser, steps, settings)
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return rates, plateau, optimiser


def test_the_cosine_schedule_follows_its_curve_step_by_step():
    settings = Train(schedule="cosine", learning_rate=0.02, warmup_fraction=0.25)
    rates, plateau, _ = stepped(settings, 8)
    assert rates == pytest.approx(
        [0.02 * optimise.warm_cosine(step / 8, 0.25) for step in range(8)]
    )
    assert plateau is None and max(rates) == 0.02


def test_without_a_plateau_the_rate_of_that_schedule_stays():
    rates, plateau, optimiser = stepped(
        Train(schedule="plateau", select="validation", plateau_patience=1, learning_rate=0.02), 12
    )
    assert rates == [0.02] * 12
    for loss in (1.0, 2.0, 2.0):
        plateau.step(loss)
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0.01)


def test_a_rate_for_a_graph_is_a_tensor_of_the_same_value_that_the_schedule_moves_in_place():
    settings = Train(schedule="cosine", learning_rate=0.02, warmup_fraction=0.5)
    optimiser = optimise.make_optimiser(network(), settings, capturable=True)
    schedule, _ = optimise.make_schedule(optimiser, 4, settings)
    held = [group["lr"] for group in optimiser.param_groups]
    assert all(isinstance(rate, torch.Tensor) for rate in held) and len(
        {rate.data_ptr() for rate in held}
    ) == len(held)
    rates = []
    for _ in range(4):
        rates.append(held[0].item())
        optimiser.step()
        schedule.step()
    assert all(
        group["lr"] is rate for group, rate in zip(optimiser.param_groups, held, strict=True)
    )
    assert rates == pytest.approx(stepped(settings, 4)[0])


# --- the average of the weights ----------------------------------------------------------------


@law
@given(st.floats(0.01, 0.999), st.integers(1, 30))
def test_the_average_is_the_hand_written_recursion_batchnorm_statistics_included(decay, steps):
    model = network()
    average, expected = optimise.Average(model, decay), weights(model)
    for step in range(steps):
        wander(model, step)
        average.update(torch.tensor(average.pull_after(step)))
        kept = min(decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            expected[name] = (
                kept * expected[name] + (1 - kept) * value
                if value.is_floating_point()
                else value.clone()
            )
    for name, value in average.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)


def test_an_average_that_keeps_nothing_is_the_model_itself():
    model = network()
    average = optimise.Average(model, 1e-9)
    for step in range(3):
        wander(model, step)
        average.update(torch.tensor(average.pull_after(step)))
    for name, value in average.model.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name])


@law
@given(st.floats(0.001, 0.9999), st.integers(0, 10**6))
def test_the_pull_falls_from_step_to_step_to_what_the_decay_leaves(decay, steps):
    average = optimise.Average(torch.nn.Linear(1, 1), decay)
    assert 1 >= average.pull_after(steps) >= average.pull_after(steps + 1) >= 1 - decay - 1e-12
    assert average.pull_after(10**9) == pytest.approx(1 - decay)


def test_the_average_is_a_model_of_its_own_that_nothing_trains():
    model = network()
    average = optimise.Average(model, 0.9)
    before = weights(average.model)
    wander(model, 1)
    assert all(
        torch.equal(value, before[name]) for name, value in average.model.state_dict().items()
    )
    assert not average.model.training and model.training
    assert not any(p.requires_grad for p in average.model.parameters())
    assert all(p.requires_grad for p in model.parameters())


def test_the_average_follows_weights_that_are_loaded_into_the_model():
    model = network()
    average = optimise.Average(model, 0.5)
    other = weights(network(1))
    model.load_state_dict(other)
    average.update(torch.tensor(1.0))
    for name, value in average.model.state_dict().items():
        torch.testing.assert_close(value, other[name])
