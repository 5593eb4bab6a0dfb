"""Networks by name, and the classifier that carries its front end with it."""

import itertools
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from helpers.audio import features, images
from helpers.base import artifacts
from helpers.models import backbones
from helpers.models.resnet import ResNet


class Cnn(nn.Module):
    """Four convolution blocks, averaged over time and frequency, then one linear layer.

    The first block looks at 5x5 with stride 2: on a CPU the full resolution costs more than the
    other blocks together.

    Shape: standardised log-mel [B, 1, mels, frames] -> logits [B, n_classes].

    >>> Cnn(10)(torch.zeros(2, 1, 128, 200)).shape
    torch.Size([2, 10])
    """

    def __init__(self, n_classes, channels=(32, 64, 128, 256), dropout=0.2):
        super().__init__()
        later = (conv_block(a, b) for a, b in itertools.pairwise(channels))
        self.blocks = nn.Sequential(conv_block(1, channels[0], kernel=5, stride=2), *later)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels[-1], n_classes)
        )

    def forward(self, x):
        return self.head(self.pool(self.blocks(x)))

    def parts(self):
        """Its parts by name, in the order of the signal, for `outline`."""
        return [*_numbered(self.blocks), ("average", self.pool), ("linear", self.head)]


def conv_block(channels_in, channels_out, kernel=3, stride=1):
    """Convolution, BatchNorm, ReLU, then half the size along both axes by the maximum, rounded up."""
    convolution = nn.Conv2d(
        channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False
    )
    return nn.Sequential(
        convolution,
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2, ceil_mode=True),
    )


class Recurrent(nn.Module):
    """An LSTM or GRU that reads the spectrogram frame by frame in both directions; the mean of its
    outputs decides.

    Pairs of frames are averaged first, which halves the number of steps.

    Shape: standardised log-mel [B, 1, mels, frames] -> logits [B, n_classes].

    >>> Recurrent(nn.GRU, 10, 128)(torch.zeros(2, 1, 128, 200)).shape
    torch.Size([2, 10])
    """

    def __init__(self, kind, n_classes, n_mels, hidden=128, dropout=0.2):
        super().__init__()
        self.shorten = nn.AvgPool1d(2, ceil_mode=True)
        self.memory = kind(n_mels, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * hidden, n_classes))

    def forward(self, x):
        frames = self.shorten(x[:, 0]).transpose(1, 2)
        return self.head(self.memory(frames)[0].mean(dim=1))

    def parts(self):
        return [("shorten", self.shorten), ("recurrent", self.memory), ("linear", self.head)]


class Cnn1d(nn.Module):
    """One-dimensional convolutions on the raw waveform, long and coarse first, averaged over time,
    one linear layer.

    Shape: standardised waveform [B, 1, 1, N] -> logits [B, n_classes].

    >>> Cnn1d(10)(torch.zeros(2, 1, 1, 16000)).shape
    torch.Size([2, 10])
    """

    def __init__(self, n_classes, channels=(32, 64, 128, 256), dropout=0.2):
        super().__init__()
        first = conv_block_1d(1, channels[0], kernel=64, stride=8)
        later = (conv_block_1d(a, b, kernel=9, stride=1) for a, b in itertools.pairwise(channels))
        self.blocks = nn.Sequential(first, *later)
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels[-1], n_classes)
        )

    def forward(self, x):
        return self.head(self.pool(self.blocks(x[:, 0])))

    def parts(self):
        return [*_numbered(self.blocks), ("average", self.pool), ("linear", self.head)]


def conv_block_1d(channels_in, channels_out, kernel, stride):
    """Convolution over time, BatchNorm, ReLU, then a quarter of the length by the maximum, rounded
    up.
    """
    convolution = nn.Conv1d(
        channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False
    )
    return nn.Sequential(
        convolution,
        nn.BatchNorm1d(channels_out),
        nn.ReLU(inplace=True),
        nn.MaxPool1d(4, ceil_mode=True),
    )


def _numbered(blocks):
    return [(f"block {number}", block) for number, block in enumerate(blocks, 1)]


class RawWaveform(nn.Module):
    """The front end of networks that listen to the waveform itself: [B, N] -> [B, 1, N], one band."""

    def forward(self, waveforms):
        return waveforms[:, None]


NETWORKS = {
    "cnn": lambda n_classes, config: Cnn(n_classes, config.model.channels, config.model.dropout),
    "resnet": lambda n_classes, config: ResNet(
        n_classes,
        config.model.channels,
        config.model.stem_stride,
        config.model.coordinate,
        config.model.pooling,
        config.model.dropout,
    ),
    "lstm": lambda n_classes, config: Recurrent(
        nn.LSTM, n_classes, config.features.n_mels, dropout=config.model.dropout
    ),
    "gru": lambda n_classes, config: Recurrent(
        nn.GRU, n_classes, config.features.n_mels, dropout=config.model.dropout
    ),
    "cnn1d": lambda n_classes, config: Cnn1d(
        n_classes, config.model.channels, config.model.dropout
    ),
}
ON_WAVEFORMS = {"cnn1d"}


class AudioClassifier(nn.Module):
    """Waveforms in, logits out: a front end, standardisation fitted on the training side, a
    network.

    Where the front end makes images, finished images [B, H, W] are taken as well.
    Shape: waveforms [B, N] -> logits [B, n_classes].
    """

    def __init__(self, front_end, network, n_bands, n_classes, multilabel=False):
        super().__init__()
        self.front_end, self.network, self.n_classes, self.multilabel = (
            front_end,
            network,
            n_classes,
            multilabel,
        )
        self.register_buffer("mean", torch.zeros(n_bands, 1))
        self.register_buffer("deviation", torch.ones(n_bands, 1))

    def bands(self, inputs):
        """Output of the front end, [B, bands, frames], of waveforms [B, N]; images [B, H, W] are
        such output.
        """
        return inputs if inputs.ndim == 3 else self.front_end(inputs)

    def standardise(self, bands):
        """Output of the front end as the network takes it: [B, bands, frames] -> [B, 1, bands,
        frames].
        """
        return ((bands - self.mean) / self.deviation)[:, None]

    def features(self, inputs):
        """What the network sees of waveforms [B, N] or images: [B, 1, bands, frames]."""
        return self.standardise(self.bands(inputs))

    def forward(self, inputs):
        return self.network(self.features(inputs))

    def probabilities(self, inputs):
        """Class probabilities [B, C]: they sum to 1, or, with several labels, each class has its
        own.
        """
        logits = self(inputs)
        return logits.sigmoid() if self.multilabel else logits.softmax(dim=1)

    @torch.no_grad()
    def fit_standardisation(self, batches):
        """Take each band's mean and deviation over time from batches of training inputs."""
        total = squares = count = 0
        for inputs, _ in batches:
            bands = self.bands(inputs).double()
            total, squares = total + bands.sum((0, 2)), squares + bands.square().sum((0, 2))
            count += bands.shape[0] * bands.shape[2]
        mean = total / count
        self.mean.copy_(mean[:, None])
        self.deviation.copy_((squares / count - mean.square()).clamp(min=1e-4).sqrt()[:, None])


def build(config, n_classes, fresh=True):
    """The classifier that a config describes, with random or, for a timm network, pretrained
    weights.

    Args: config; n_classes; fresh False where saved weights will be loaded, so that none are
    fetched. Raises ValueError for an unknown network.
    """
    settings = config.model
    if settings.name.startswith(backbones.PREFIX):
        weights = (
            artifacts.home() / Path(settings.weights).expanduser()
            if fresh and settings.weights
            else None
        )
        network = backbones.build(
            settings.name, n_classes, settings.dropout, fresh and settings.pretrained, weights
        )
    elif settings.name in NETWORKS:
        network = NETWORKS[settings.name](n_classes, config)
    else:
        raise ValueError(
            f"model.name is {settings.name!r}; there are: {', '.join(NETWORKS)}, timm:<name>"
        )
    made, n_bands = front_end(config)
    classifier = AudioClassifier(made, network, n_bands, n_classes, config.data.multilabel)
    return classifier.to(
        memory_format=torch.channels_last
    )  # a CPU trains 1.3 times as many clips per second this way


def front_end(config):
    """What a config's network sees: (front end, number of bands)."""
    if config.model.name in ON_WAVEFORMS:
        return RawWaveform(), 1
    if config.train.inputs == "images":
        return images.mel_image(config), config.features.image_size
    return features.log_mel(config), config.features.n_mels


@torch.no_grad()
def outline(model, n_samples):
    """What each part of a classifier makes of one clip: a table part, output_shape, parameters."""
    rows, parts = [], [("front end", model.front_end), *model.network.parts()]
    handles = [part.register_forward_hook(_noting(name, rows)) for name, part in parts]
    was_training = model.training
    model.eval()(torch.zeros(1, n_samples))
    model.train(was_training)
    for handle in handles:
        handle.remove()
    return pd.DataFrame(rows, columns=["part", "output_shape", "parameters"])


def _noting(name, rows):
    """A forward hook that notes a part's output shape and size."""

    def note(module, _, output):
        shape = (output[0] if isinstance(output, tuple) else output).shape[1:]
        rows.append((name, " x ".join(map(str, shape)), count_parameters(module)))

    return note


def count_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())
