"""How this machine carries a training out: number format and threads, by trial."""

import math

import pytest
import torch

from helpers.rounds import machine
from helpers.training import optimise


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)
    )


def taking(**seconds):
    """A pass that takes so long in each number format."""
    named = {kind: name for name, kind in optimise.FORMATS.items()}
    return lambda network, x, kind: seconds[named[kind]]


@pytest.fixture
def untried(monkeypatch):
    """A process in which nothing was tried yet, on a torch that says nothing of its CPU (as 2.10
    does).
    """
    monkeypatch.setattr(machine, "CHOSEN", {})
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)


@pytest.mark.parametrize(
    ("fp32", "bf16", "expected"),
    [
        (1.0, 0.5, "bf16"),
        (1.0, 0.9, "fp32"),
        (1.0, 3.0, "fp32"),
        (1.0, math.inf, "fp32"),
        (math.inf, math.inf, "fp32"),
    ],
)
def test_a_cpu_takes_half_precision_only_where_it_is_clearly_faster(
    untried, monkeypatch, fp32, bf16, expected
):
    monkeypatch.setattr(machine, "pass_seconds", taking(fp32=fp32, bf16=bf16))
    assert machine.cpu_format(network(), torch.ones(4, 3)) == expected


def test_a_process_tries_each_kind_of_network_once(untried, monkeypatch):
    monkeypatch.setattr(machine, "pass_seconds", taking(fp32=1.0, bf16=0.5))
    first = machine.cpu_format(network(), torch.ones(4, 3))
    monkeypatch.setattr(machine, "pass_seconds", taking(fp32=0.5, bf16=1.0))
    assert first == machine.cpu_format(network(1), torch.ones(4, 3)) == "bf16"
    assert machine.cpu_format(network(), torch.ones(8, 3)) == "fp32"


@pytest.mark.parametrize(
    ("by_threads", "expected"),
    [
        ({8: 1.0, 4: 2.0, 2: 3.0, 1: 4.0}, 8),
        ({8: 1.0, 4: 0.9, 2: 0.1, 1: 0.1}, 8),  # half as many are not clearly faster
        ({8: 4.0, 4: 2.0, 2: 1.0, 1: 1.5}, 2),  # a container that may use two cores of eight
        ({8: 4.0, 4: 2.0, 2: 1.0, 1: 0.5}, 1),
    ],
)
def test_fewer_threads_are_taken_where_they_are_clearly_faster(
    untried, monkeypatch, by_threads, expected
):
    held = [8]
    monkeypatch.setattr(torch, "get_num_threads", lambda: held[-1])
    monkeypatch.setattr(torch, "set_num_threads", held.append)
    monkeypatch.setattr(machine, "pass_seconds", lambda *arguments: by_threads[held[-1]])
    assert machine.cpu_threads(network(), torch.ones(4, 3), None) == expected
    assert held[-1] == 8
    monkeypatch.setattr(machine, "pass_seconds", lambda *arguments: pytest.fail("it tries again"))
    assert machine.cpu_threads(network(), torch.ones(4, 3), None) == expected


def test_a_trial_leaves_the_random_numbers_as_they_are(untried):
    model = torch.nn.Sequential(*network(), torch.nn.Dropout(0.5))
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    batch = torch.randn(4, 3, generator=torch.Generator())
    assert machine.cpu_format(model, batch) in ("fp32", "bf16")
    assert machine.cpu_threads(model, batch, None) >= 1
    assert torch.equal(torch.rand(4), expected)


def test_a_format_that_overflows_or_that_an_operation_lacks_is_not_timed():
    class Lacking(torch.nn.Linear):
        def forward(self, x):
            raise NotImplementedError("not implemented for 'BFloat16'")

    for kind in (None, torch.bfloat16):
        assert 0 < machine.pass_seconds(network(), torch.ones(4, 3), kind) < math.inf
        assert machine.pass_seconds(network(), torch.full((4, 3), math.nan), kind) == math.inf
        assert machine.pass_seconds(Lacking(3, 2), torch.ones(4, 3), kind) == math.inf


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp16"), ((8, 0), "bf16")])
def test_on_a_gpu_the_half_precision_is_the_one_that_it_knows(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert machine.gpu_format(torch.device("cuda")) == expected
