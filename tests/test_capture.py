"""A captured step: what goes in is copied, what the warm-up changed is put back, and a GPU ends
where the host does.
"""

import contextlib
import math
import time
import types

import pytest
import torch
from tables import small_config, tone_clips

from helpers.base import targets
from helpers.models import checkpoints, networks
from helpers.splits import partition
from helpers.training import batches, capture, fit

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
LABELS = ["high", "low"]


class Replayed:
    """Stands in for a CUDA graph: replaying calls the function on the inputs and writes where its
    outputs lie.
    """

    captured = None

    def replay(self):
        found = self.captured.function(*self.captured.inputs)
        for held, new in zip(self.captured.outputs, found, strict=True):
            held.copy_(new)


@pytest.fixture
def without_a_gpu(monkeypatch):
    """The parts of torch.cuda that a capture needs, on the CPU."""
    stream = types.SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Replayed)


def captured(function, state):
    """A captured function whose graph is replayed on the host."""
    made = capture.Captured(function, state)
    Replayed.captured = made
    return made


def test_calls_give_what_the_function_gives_and_change_what_it_changes(without_a_gpu):
    total = torch.zeros(3)

    def add(x, y):
        total.add_(x)
        return (x * 2 if y is None else x * y).sum().reshape(1)

    step = captured(add, lambda: [total])
    assert [step(torch.full((3,), value), None).item() for value in (1.0, 2.0, 5.0)] == [6, 12, 30]
    assert total.tolist() == [8.0, 8.0, 8.0]


def test_inputs_are_copied_and_outputs_lie_in_the_same_memory_each_time(without_a_gpu):
    step, x = captured(lambda x: (x + 1).unbind(), list), torch.zeros(2)
    first = step(x)
    x.fill_(9.0)
    assert [value.item() for value in first] == [1.0, 1.0]  # what comes in later is another call's
    second = step(x)
    assert (
        all(one is other for one, other in zip(first, second, strict=True))
        and first[0].item() == 10.0
    )


def test_the_warm_up_is_put_back_however_the_state_is_listed_and_what_is_born_in_it_starts_at_zero(
    without_a_gpu,
):
    """A state dict makes new tensors over the same memory each time it is asked for."""
    torch.manual_seed(0)
    plain, other = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    other.load_state_dict(plain.state_dict())

    def trained(model, wrap):
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(x):
            optimiser.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimiser.step()
            return loss.detach().reshape(1)

        def state():
            return [
                *model.state_dict().values(),
                *(s["momentum_buffer"] for s in optimiser.state.values()),
            ]

        run = wrap(step, state)
        return [
            run(torch.randn(4, 2, generator=torch.Generator().manual_seed(seed))).item()
            for seed in range(4)
        ]

    losses = trained(plain, lambda step, state: step)
    assert trained(other, captured) == pytest.approx(losses)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value)


# --- on a GPU ----------------------------------------------------------------------------------


def fitted(device, checkpoint=None, deadline=math.inf, **train):
    """A network trained on a device: (weights, history)."""
    config = small_config(
        train={"epochs": 3, "select": "last", "precision": "fp32", "masks": 2, **train}
    )
    packed, rows = tone_clips()
    training = partition.fold_rows(rows, [1, 2])
    wanted = targets.matrix(training["label"], LABELS)
    torch.manual_seed(0)
    model = networks.build(config, 2).to(device)
    data = batches.Batches(packed, training.index, wanted, 8, device, torch.Generator())
    model.fit_standardisation(data)
    history = fit.fit(
        model, data, None, config.train, seed=1, checkpoint=checkpoint, deadline=deadline
    )
    return {name: tensor.cpu() for name, tensor in model.state_dict().items()}, history


@on_a_gpu
@pytest.mark.parametrize("train", [{}, {"ema": 0.9}, {"mix": "between_class"}])
def test_a_captured_training_ends_near_one_that_is_not(train):
    (graph, history), (eager, expected) = (
        fitted("cuda", capture=on, **train) for on in (True, False)
    )
    losses = [[record["train_loss"] for record in records] for records in (history, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    for name, value in eager.items():
        torch.testing.assert_close(graph[name], value, rtol=0.05, atol=0.02)


@on_a_gpu
def test_a_captured_training_goes_on_from_its_checkpoint_with_the_learning_rate_on_the_device(
    tmp_path,
):
    kept = checkpoints.Checkpoint(tmp_path / "kept.safetensors", "digest")
    _, short = fitted("cuda", checkpoint=kept, deadline=time.monotonic())
    weights, history = fitted("cuda", checkpoint=kept)
    expected, whole = fitted("cuda")
    assert len(short) == 1 and len(history) == len(whole) == 3
    assert [record["learning_rate"] for record in history] == [
        record["learning_rate"] for record in whole
    ]
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=0.05, atol=0.02)
