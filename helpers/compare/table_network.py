"""compare.table_network"""

import functools

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from helpers.base.work import cpu_threads
from helpers.training import losses

HIDDEN, DROPOUT = (256, 128), 0.3
EPOCHS, BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 40, 128, 3e-3, 1e-2


class TableNetwork(nn.Module):
    """Two hidden layers on standardised features; missing ones are filled with the training side's
    median.

    Shape: features [B, n_features], NaN where missing -> logits [B, n_classes].
    """

    def __init__(self, n_features, n_classes):
        super().__init__()
        for name in ("fill", "mean", "deviation"):
            self.register_buffer(name, torch.zeros(n_features))
        blocks = [dense_block(a, b) for a, b in zip((n_features, *HIDDEN), HIDDEN, strict=False)]
        self.hidden, self.head = nn.Sequential(*blocks), nn.Linear(HIDDEN[-1], n_classes)

    def forward(self, x):
        x = torch.where(x.isfinite(), x, self.fill)
        return self.head(self.hidden((x - self.mean) / self.deviation))

    @torch.no_grad()
    def fit_standardisation(self, x):
        """Take each feature's median, mean and deviation from the training rows [n, n_features]."""
        known = torch.where(x.isfinite(), x, torch.nan)
        self.fill.copy_(known.nanmedian(dim=0).values.nan_to_num(0))
        filled = torch.where(known.isnan(), self.fill, known)
        self.mean.copy_(filled.mean(dim=0))
        deviation = filled.std(dim=0, unbiased=False)
        self.deviation.copy_(
            torch.where(deviation > 1e-6, deviation, 1.0)
        )  # a constant feature says nothing


def dense_block(n_in, n_out):
    """A dense layer, BatchNorm, ReLU, dropout."""
    return nn.Sequential(
        nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.ReLU(), nn.Dropout(DROPOUT)
    )


def fit(x, wanted, balance="none", multilabel=False, seed=0):
    """Train a TableNetwork; the learning rate follows one cosine, the last epoch is used, nothing
    is chosen.

    Args: x float [n, n_features], NaN where missing; wanted float32 [n, C], target vectors; balance
        one of train.balance; multilabel bool; seed int. Returns the network, ready to predict.
    """
    x, wanted = torch.from_numpy(np.asarray(x, np.float32)), torch.from_numpy(wanted)
    generator = torch.Generator().manual_seed(seed)
    with (
        torch.random.fork_rng(devices=[]),
        cpu_threads(1),
    ):  # so small a network only waits for more threads
        torch.manual_seed(seed)  # initial weights and dropout draw from the global generator
        network = TableNetwork(x.shape[1], wanted.shape[1])
        network.fit_standardisation(x)
        optimiser = torch.optim.AdamW(
            network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
        weights, chances = losses.class_weights(wanted, multilabel), losses.sampling_weights(wanted)
        criterion = functools.partial(
            losses.loss, balance=balance, weights=weights, multilabel=multilabel
        )
        for _ in range(EPOCHS):
            epoch(
                network,
                x,
                wanted,
                criterion,
                optimiser,
                chances if balance == "sampling" else None,
                generator,
            )
            schedule.step()
    return network.eval()


def epoch(network, x, wanted, criterion, optimiser, chances, generator):
    """One pass over the rows, shuffled, or drawn with the given chances [n]."""
    if chances is None:
        order = torch.randperm(len(x), generator=generator)
    else:
        order = torch.multinomial(chances, len(x), replacement=True, generator=generator)
    for members in order.split(BATCH_SIZE):
        if len(members) > 1:  # BatchNorm needs two
            optimiser.zero_grad()
            criterion(network(x[members]), wanted[members]).backward()
            optimiser.step()


@torch.no_grad()
def probabilities(network, x, multilabel=False):
    """Class probabilities [n, C] of rows [n, n_features]."""
    logits = network(torch.from_numpy(np.asarray(x, np.float32)))
    return (logits.sigmoid() if multilabel else logits.softmax(dim=1)).numpy()


def save(network, path):
    """Write a network's weights (safetensors)."""
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)


def load(path):
    """The network of `save`, ready to predict."""
    weights = load_file(path)
    network = TableNetwork(len(weights["fill"]), len(weights["head.bias"]))
    network.load_state_dict(weights)
    return network.eval()
