"""What moves the weights besides the gradient: the learning rate over time, the average of weights,
number formats and threads.
"""

import copy
import functools
import math
import time

import torch

from helpers.base import work
from helpers.models import backbones

# steps in which the average forgets faster than `decay` says, as it starts from random weights
WARM = 10
# of train.precision; None: no autocast
FORMATS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
TRIAL_PASSES = 5  # at most, in each number format that is tried
THREAD_PASSES = 2  # with each number of threads that is tried
# so many times as fast must half the threads be: what else the machine does now may end soon
FEWER = 1.5
TRIAL_SECONDS = 0.3  # after which no other pass begins
CHOSEN = {}  # what trials on the CPU chose in this process
CLEARLY = 1.15  # so many times as fast is half precision worth having: less may be chance


def make_optimiser(model, settings, capturable=False):
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) over the parameters that are trained.

    Args: model; settings the config's Train section; capturable: for use inside a CUDA graph.
    """
    groups = backbones.parameter_groups(
        model, settings.learning_rate, settings.weight_decay, settings.layer_decay
    )
    if capturable:  # a graph reads the rate from the device each time
        groups = [
            {**group, "lr": torch.tensor(group["lr"], device=group["params"][0].device)}
            for group in groups
        ]
    return torch.optim.AdamW(groups, capturable=capturable)


def make_schedule(optimiser, steps, settings):
    """The learning rate over time: (schedule to step after each batch, schedule for each validation
    loss, or None).

    "cosine": a warm-up, then half a cosine down to 0. "plateau": the same rate until the validation
    loss has not improved for train.plateau_patience epochs, then half of it, and so on.
    """
    if settings.schedule == "cosine":
        factor = functools.partial(warm_cosine, warmup=settings.warmup_fraction)
        return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda done: factor(done / steps)), None
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=0.5, patience=settings.plateau_patience
    )
    return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0), plateau


def warm_cosine(progress, warmup):
    """Learning-rate factor: a linear rise over the warm-up share of all steps, then half a cosine
    down to 0.

    >>> [round(warm_cosine(p, 0.1), 2) for p in (0.0, 0.1, 0.55, 1.0)]
    [0.0, 1.0, 0.5, 0.0]
    """
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / max(1e-9, 1 - warmup)))


class Average:
    """The exponential moving average of a model's weights and BatchNorm statistics, itself a model.

    Args: model; decay in (0, 1): how much of the average each step keeps; the first steps keep
        less.
    """

    def __init__(self, model, decay):
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        own = self.model.state_dict().values()
        self.pairs = list(zip(own, model.state_dict().values(), strict=True))

    @torch.no_grad()
    def update(self, pull):
        """Move towards the model by `pull`, a tensor without dimensions, of `pull_after`."""
        for average, value in self.pairs:
            if average.is_floating_point():
                average.lerp_(value, pull)
            else:
                average.copy_(value)

    def pull_after(self, steps):
        """How far the average moves towards the model after so many steps, in (0, 1].

        >>> average = Average(torch.nn.Linear(1, 1), 0.9)
        >>> [round(average.pull_after(steps), 2) for steps in (0, 10, 1000)]
        [0.9, 0.45, 0.1]
        """
        return 1 - min(self.decay, (1 + steps) / (WARM + steps))


# --- number formats and threads ----------------------------------------------------------------


def gpu_format(device: torch.device) -> str:
    """The half precision of a GPU: bfloat16, or float16 on an older one (its small gradients are
    scaled up).
    """
    return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"


def cpu_format(network: torch.nn.Module, x: torch.Tensor) -> str:
    """The number format in which this CPU trains a network faster, by a short trial: no flag tells
    it for sure.

    Chosen once in a process for each kind of network, size of input and number of threads.

    Args: network, which stays as it is; x a batch as it takes it, [B, 1, bands, frames].
    Returns "bf16" where that is clearly faster and its gradients are finite, else "fp32".
    """
    key = (str(network), x.shape, torch.get_num_threads())
    if key not in CHOSEN:
        seconds = trial(copy.deepcopy(network).train(), x)
        CHOSEN[key] = "bf16" if CLEARLY * seconds["bf16"] < seconds["fp32"] else "fp32"
    return CHOSEN[key]


def cpu_threads(network: torch.nn.Module, x: torch.Tensor, kind: torch.dtype | None) -> int:
    """How many threads train a network fastest on this CPU, by a short trial.

    Torch takes one for each core that it sees, and in a container it may be allowed few of them. So
    half as many are tried too, and a quarter, as long as that is clearly faster.

    Args: network, which stays as it is; x a batch as it takes it; kind of FORMATS.
    """
    count = torch.get_num_threads()
    key = (str(network), x.shape, kind, count)
    if key not in CHOSEN:
        tried = copy.deepcopy(network).train()
        seconds = threads_seconds(tried, x, kind, count)
        while count > 1:
            of_half = threads_seconds(tried, x, kind, count // 2)
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
            pass_seconds(network, x, FORMATS[name])
        stop = time.monotonic() + TRIAL_SECONDS
        for _ in range(TRIAL_PASSES):
            for name, best in seconds.items():
                seconds[name] = min(best, pass_seconds(network, x, FORMATS[name]))
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
