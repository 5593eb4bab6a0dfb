"""How this machine carries a training out: its number format, its threads."""

import math
import time

import numpy as np
import torch

from helpers.audio import features
from helpers.base import work
from helpers.models import networks
from helpers.training import optimise, processes

TRIAL_PASSES = 5  # at most, in each number format that is tried
THREAD_PASSES = 2  # with each number of threads that is tried
# so many times as fast must half the threads be: what else the machine does now may end soon
FEWER = 1.5
TRIAL_SECONDS = 0.3  # after which no other pass begins
CHOSEN = {}  # what trials on the CPU chose in this process
CLEARLY = 1.15  # so many times as fast is half precision worth having: less may be chance


def on_this_machine(packed, config, n_classes, device=None, kept_at=None):
    """The config as this machine carries it out: with a train.precision in place of "auto", and on
    a CPU with train.threads in place of 0.

    On a CPU a short trial of the network chooses both. All processes take what the first one chose,
    and a training that goes on takes the number format that it began with, or it would end with
    other weights.

    Args: packed clips; config; n_classes; device; kept_at as of Round.
    """
    device = torch.device(device or processes.device())
    if device.type != "cuda":
        kept = kept_at and kept_at("number_format")
        precision, threads = processes.agreed(_cpu_way(packed, config, n_classes, kept))
        return config.but("train.precision", precision).but("train.threads", threads)
    if config.train.precision == "auto":
        return config.but("train.precision", gpu_format(device))
    return config


def _cpu_way(packed, config, n_classes, kept):
    """The number format and the threads of a training on this CPU."""
    train = config.train
    if train.precision != "auto" and train.threads:
        return train.precision, train.threads
    model = networks.build(config, n_classes, fresh=False).train()
    clips = torch.from_numpy(packed[np.arange(train.batch_size) % len(packed)])
    batch = model.features(features.unpack(clips))
    precision = train.precision
    threads = train.threads
    with work.cpu_threads(threads):
        if precision == "auto":
            precision = _cpu_format(model.network, batch, kept)
        if not threads:
            kind = optimise.FORMATS[precision]
            threads = cpu_threads(model.network, batch, kind)
    return precision, threads


def _cpu_format(network, batch, kept):
    state = kept.read() if kept else None
    if state:
        return state["precision"]
    chosen = cpu_format(network, batch)
    if kept:
        kept.write({"precision": chosen})
    return chosen


def gpu_format(device: torch.device) -> str:
    """The half precision of a GPU: bfloat16, or float16 on an older one (its small gradients are
    scaled up).
    """
    return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"


def cpu_format(network: torch.nn.Module, x: torch.Tensor) -> str:
    """The number format in which this CPU trains a network faster, by a short trial: no flag tells
    it for sure.

    Chosen once in a process for each kind of network, size of input and number of threads.

    Args: network in training mode, of no use after it; x a batch as it takes it, [B, 1, bands,
        frames].
    Returns "bf16" where that is clearly faster and its gradients are finite, else "fp32".
    """
    key = (str(network), x.shape, torch.get_num_threads())
    if key not in CHOSEN:
        seconds = trial(network, x)
        CHOSEN[key] = "bf16" if CLEARLY * seconds["bf16"] < seconds["fp32"] else "fp32"
    return CHOSEN[key]


def cpu_threads(network: torch.nn.Module, x: torch.Tensor, kind: torch.dtype | None) -> int:
    """How many threads train a network fastest on this CPU, by a short trial.

    Torch takes one for each core that it sees, and in a container it may be allowed few of them. So
    half as many are tried too, and a quarter, as long as that is clearly faster.

    Args: network in training mode, of no use after it; x a batch as it takes it; kind of
        optimise.FORMATS.
    """
    count = torch.get_num_threads()
    key = (str(network), x.shape, kind, count)
    if key not in CHOSEN:
        seconds = threads_seconds(network, x, kind, count)
        while count > 1:
            of_half = threads_seconds(network, x, kind, count // 2)
            if FEWER * of_half >= seconds:
                break
            count //= 2
            seconds = of_half
        CHOSEN[key] = count
    return CHOSEN[key]


def threads_seconds(network, x, kind, count):
    """Seconds of the quickest pass with so many threads."""
    with work.cpu_threads(count), torch.random.fork_rng(devices=[]):
        pass_seconds(network, x, kind)
        return min(pass_seconds(network, x, kind) for _ in range(THREAD_PASSES))


def trial(network: torch.nn.Module, x: torch.Tensor) -> dict[str, float]:
    """Seconds of a network's quickest pass in float32 and in bfloat16, by turns; the rest of the
    machine only adds.
    """
    seconds = {"fp32": math.inf, "bf16": math.inf}
    with torch.random.fork_rng(devices=[]):  # dropout draws from the global generator
        for name in seconds:  # what the first pass has to build does not count
            pass_seconds(network, x, optimise.FORMATS[name])
        stop = time.monotonic() + TRIAL_SECONDS
        for _ in range(TRIAL_PASSES):
            for name, best in seconds.items():
                seconds[name] = min(best, pass_seconds(network, x, optimise.FORMATS[name]))
            if time.monotonic() > stop:
                break
    return seconds


def pass_seconds(network: torch.nn.Module, x: torch.Tensor, kind: torch.dtype | None) -> float:
    """Seconds of a forward and a backward pass; infinite where they fail in this format or are not
    finite.
    """
    network.zero_grad()
    started = time.perf_counter()
    try:
        with torch.autocast(x.device.type, kind, enabled=kind is not None):
            logits = network(x)
        logits.float().square().mean().backward()
    except RuntimeError:  # an operation that this torch has not in this format
        return math.inf
    seconds = time.perf_counter() - started
    finite = all(
        value.grad.isfinite().all() for value in network.parameters() if value.grad is not None
    )
    return seconds if finite else math.inf
