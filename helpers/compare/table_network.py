"""A dense network on the feature table, with the interface of scikit-learn."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sklearn.base import BaseEstimator, ClassifierMixin
from torch import nn

from helpers.base.work import cpu_threads
from helpers.training import losses

HIDDEN = (256, 128)
DROPOUT = 0.3
EPOCHS = 40
BATCH_SIZE = 128
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2


class TableNetwork(nn.Module):
    """Two hidden layers on standardised features, missing ones filled with the training median.

    Shape: features [B, n_features], NaN where missing -> logits [B, n_classes].
    """

    def __init__(self, n_features: int, n_classes: int):
        super().__init__()
        for name in ("fill", "mean", "deviation"):
            self.register_buffer(name, torch.zeros(n_features))
        first, second = HIDDEN
        self.hidden = nn.Sequential(dense_block(n_features, first), dense_block(first, second))
        self.head = nn.Linear(second, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        filled = torch.where(x.isfinite(), x, self.fill)
        return self.head(self.hidden((filled - self.mean) / self.deviation))

    @torch.no_grad()
    def fit_standardisation(self, x: torch.Tensor) -> None:
        """Take each feature's median, mean and deviation from the training rows [n, n_features]."""
        numbers = torch.where(x.isfinite(), x, torch.nan)
        self.fill.copy_(numbers.nanmedian(dim=0).values.nan_to_num(0))
        filled = torch.where(numbers.isnan(), self.fill, numbers)
        self.mean.copy_(filled.mean(dim=0))
        deviation = filled.std(dim=0, unbiased=False)
        varies = deviation > 1e-6  # a constant feature says nothing
        self.deviation.copy_(torch.where(varies, deviation, 1.0))


def dense_block(n_in: int, n_out: int) -> nn.Sequential:
    """A dense layer, BatchNorm, ReLU, dropout."""
    return nn.Sequential(
        nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.ReLU(), nn.Dropout(DROPOUT)
    )


class DenseClassifier(ClassifierMixin, BaseEstimator):
    """A TableNetwork as an estimator of scikit-learn.

    The learning rate follows one cosine, the last epoch is used, nothing is chosen.

    Args: balance one of train.balance; multilabel: each class has a probability of its own; seed.
    """

    def __init__(
        self,
        balance: str = "none",
        multilabel: bool = False,
        seed: int = 0,
    ):
        self.balance = balance
        self.multilabel = multilabel
        self.seed = seed

    def fit(self, x: np.ndarray, wanted: np.ndarray) -> "DenseClassifier":
        """Train the network, `network_`.

        Args: x float [n, n_features], NaN where missing; wanted float32 [n, C], target vectors.
        """
        features = torch.from_numpy(np.asarray(x, np.float32))
        wanted = torch.from_numpy(wanted)
        # so small a network only waits for more threads
        with torch.random.fork_rng(devices=[]), cpu_threads(1):
            torch.manual_seed(self.seed)  # weights and dropout draw from the global generator
            self.network_ = TableNetwork(features.shape[1], wanted.shape[1])
            self.network_.fit_standardisation(features)
            self._train(features, wanted)
        self.network_.eval()
        return self

    def _train(self, features, wanted):
        optimiser = torch.optim.AdamW(
            self.network_.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
        weights = losses.class_weights(wanted, self.multilabel)
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(EPOCHS):
            for members in self._order(wanted, generator).split(BATCH_SIZE):
                if len(members) > 1:  # BatchNorm needs two
                    optimiser.zero_grad()
                    logits = self.network_(features[members])
                    losses.loss(
                        logits, wanted[members], self.balance, weights, self.multilabel
                    ).backward()
                    optimiser.step()
            schedule.step()

    def _order(self, wanted, generator):
        """The rows of an epoch: shuffled, or drawn so that classes come alike."""
        if self.balance != "sampling":
            return torch.randperm(len(wanted), generator=generator)
        chances = losses.sampling_weights(wanted)
        return torch.multinomial(chances, len(wanted), replacement=True, generator=generator)

    @torch.no_grad()
    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Class probabilities [n, C] of rows [n, n_features]."""
        logits = self.network_(torch.from_numpy(np.asarray(x, np.float32)))
        return (logits.sigmoid() if self.multilabel else logits.softmax(dim=1)).numpy()

    def save_model(self, path: Path) -> None:
        """Write the network's weights (safetensors)."""
        weights = self.network_.state_dict()
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)

    def load_model(self, path: Path) -> None:
        """Take the weights of `save_model`, ready to predict."""
        weights = load_file(path)
        self.network_ = TableNetwork(len(weights["fill"]), len(weights["head.bias"]))
        self.network_.load_state_dict(weights)
        self.network_.eval()
