"""What moves the weights besides the gradient: the learning rate over time, the average of weights,
number formats.
"""

import copy
import functools
import math

import torch

from helpers.models import backbones

# steps in which the average forgets faster than `decay` says, as it starts from random weights
WARM = 10
# of train.precision; None: no autocast
FORMATS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


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
