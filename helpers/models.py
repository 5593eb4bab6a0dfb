"""Networks by name, and the classifier that carries its front end with it."""

import itertools

import pandas as pd
import torch
from torch import nn

from helpers import features


class Cnn(nn.Module):
    """Four convolution blocks, averaged over time and frequency, then one linear layer.

    The first block looks at 5x5 with stride 2: on a CPU the full resolution costs more than the other blocks together.

    Shape: standardised log-mel [B, 1, mels, frames] -> logits [B, n_classes].

    >>> Cnn(10)(torch.zeros(2, 1, 128, 200)).shape
    torch.Size([2, 10])
    """

    def __init__(self, n_classes, channels=(32, 64, 128, 256), dropout=0.2):
        super().__init__()
        later = (conv_block(a, b) for a, b in itertools.pairwise(channels))
        self.blocks = nn.Sequential(conv_block(1, channels[0], kernel=5, stride=2), *later)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels[-1], n_classes))

    def forward(self, x):
        return self.head(self.pool(self.blocks(x)))


def conv_block(channels_in, channels_out, kernel=3, stride=1):
    """Convolution, BatchNorm, ReLU, then half the size along both axes by the maximum, rounded up."""
    convolution = nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(
        convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True), nn.MaxPool2d(2, ceil_mode=True)
    )


NETWORKS = {"cnn": Cnn}


class AudioClassifier(nn.Module):
    """Waveforms in, logits out: LogMel, standardisation fitted on the training side, a network.

    Shape: waveforms [B, N] -> logits [B, n_classes].
    """

    def __init__(self, front_end, network, n_mels):
        super().__init__()
        self.front_end, self.network = front_end, network
        self.register_buffer("mean", torch.zeros(n_mels, 1))
        self.register_buffer("deviation", torch.ones(n_mels, 1))

    def features(self, waveforms):
        """Standardised log-mel [B, 1, mels, frames] of waveforms [B, N]."""
        return ((self.front_end(waveforms) - self.mean) / self.deviation)[:, None]

    def forward(self, waveforms):
        return self.network(self.features(waveforms))

    @torch.no_grad()
    def fit_standardisation(self, batches):
        """Take each band's mean and deviation over time from batches of training waveforms."""
        total = squares = count = 0
        for waveforms, _ in batches:
            mel = self.front_end(waveforms).double()
            total, squares = total + mel.sum((0, 2)), squares + mel.square().sum((0, 2))
            count += mel.shape[0] * mel.shape[2]
        mean = total / count
        self.mean.copy_(mean[:, None])
        self.deviation.copy_((squares / count - mean.square()).clamp(min=1e-4).sqrt()[:, None])


def build(config, n_classes):
    """The classifier that a config describes, randomly initialised. Raises ValueError for an unknown network."""
    if config.model.name not in NETWORKS:
        raise ValueError(f"model.name is {config.model.name!r}; there are: {', '.join(NETWORKS)}")
    network = NETWORKS[config.model.name](n_classes, config.model.channels, config.model.dropout)
    classifier = AudioClassifier(features.log_mel(config), network, config.features.n_mels)
    return classifier.to(memory_format=torch.channels_last)  # a CPU trains 1.3 times as many clips per second this way


def outline(model, n_samples):
    """What each part of a classifier makes of one clip: a table part, output shape, parameters."""
    blocks = [(f"block {number}", block) for number, block in enumerate(model.network.blocks, 1)]
    x, rows = torch.zeros(2, n_samples), []
    for name, part in [
        ("log-mel", model.features),
        *blocks,
        ("average", model.network.pool),
        ("linear", model.network.head),
    ]:
        x = part(x)
        rows.append(
            (name, " x ".join(map(str, x.shape[1:])), count_parameters(part) if isinstance(part, nn.Module) else 0)
        )
    return pd.DataFrame(rows, columns=["part", "output_shape", "parameters"])


def count_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())
