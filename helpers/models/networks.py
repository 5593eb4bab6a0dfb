"""Networks by name, and the classifier that carries its front end with it."""

import functools
import itertools
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file
from torch import nn

from helpers.audio import features, images
from helpers.base import artifacts, errors, recipe, targets
from helpers.base.settings import Config
from helpers.models import backbones, encoders
from helpers.models.resnet import ResNet

BODY = "network."  # before the names of a network's weights in a saved AudioClassifier
RAREST = 1e-3  # share of the clips that a class has at least, where training begins


class Cnn(nn.Module):
    """Four convolution blocks, averaged over time and frequency, then one linear layer.

    The first block looks at 5x5 with stride 2: on a CPU the full resolution costs more than the
    other blocks together.

    Shape: K standardised spectrograms [B, K, mels, frames] -> logits [B, n_classes].

    >>> Cnn(10)(torch.zeros(2, 1, 128, 200)).shape
    torch.Size([2, 10])
    """

    def __init__(self, n_classes, channels=(32, 64, 128, 256), dropout=0.2, spectrograms=1):
        super().__init__()
        later = (conv_block(a, b) for a, b in itertools.pairwise(channels))
        first = conv_block(spectrograms, channels[0], kernel=5, stride=2)
        self.blocks = nn.Sequential(first, *later)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels[-1], n_classes)
        )

    def forward(self, x):
        return self.head(self.pool(self.blocks(x)))


def conv_block(channels_in, channels_out, kernel=3, stride=1):
    """Convolution, BatchNorm, ReLU, then half the size by the maximum, rounded up."""
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

    Shape: K standardised spectrograms [B, K, mels, frames], in all K x mels = n_bands bands ->
    logits [B, n_classes].

    >>> Recurrent(nn.GRU, 10, 128)(torch.zeros(2, 1, 128, 200)).shape
    torch.Size([2, 10])
    """

    def __init__(self, kind, n_classes, n_bands, hidden=128, dropout=0.2):
        super().__init__()
        self.pool = nn.AvgPool1d(2, ceil_mode=True)
        self.memory = kind(n_bands, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * hidden, n_classes))

    def forward(self, x):
        frames = self.pool(x.flatten(1, 2)).transpose(1, 2)
        return self.head(self.memory(frames)[0].mean(dim=1))


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


class RawWaveform(nn.Module):
    """The front end of networks that hear the waveform itself: [B, N] -> [B, 1, N], one band."""

    def forward(self, waveforms):
        return waveforms[:, None]


# --- by name: what makes a network of a config and its number of classes, and what that reads


@recipe.model("cnn", reads="picture")
def cnn(config: Config, n_classes: int) -> nn.Module:
    model = config.model
    return Cnn(n_classes, model.channels, model.dropout, len(config.features.windows))


@recipe.model("resnet", reads="picture")
def resnet(config: Config, n_classes: int) -> nn.Module:
    model = config.model
    return ResNet(
        n_classes,
        model.channels,
        model.stem_stride,
        model.coordinate,
        model.pooling,
        model.dropout,
        config.data.multilabel,
        len(config.features.windows),
    )


@recipe.model("lstm", reads="frames")
def lstm(config: Config, n_classes: int) -> nn.Module:
    return Recurrent(nn.LSTM, n_classes, front_end(config)[1], dropout=config.model.dropout)


@recipe.model("gru", reads="frames")
def gru(config: Config, n_classes: int) -> nn.Module:
    return Recurrent(nn.GRU, n_classes, front_end(config)[1], dropout=config.model.dropout)


@recipe.model("cnn1d", reads="waveform")
def cnn1d(config: Config, n_classes: int) -> nn.Module:
    return Cnn1d(n_classes, config.model.channels, config.model.dropout)


# --- with its front end


class AudioClassifier(nn.Module):
    """Waveforms in, logits out: a front end, standardisation fitted on the training side, a
    network.

    Where the front end makes images, finished images [B, H, W] are taken as well.
    Shape: waveforms [B, N] -> logits [B, n_classes].
    """

    def __init__(self, front_end, n_bands, network, n_classes, multilabel=False):
        super().__init__()
        self.front_end = front_end
        self.network = network
        self.n_classes = n_classes
        self.multilabel = multilabel
        self.spectrograms = getattr(front_end, "spectrograms", 1)
        self.register_buffer("mean", torch.zeros(n_bands, 1))
        self.register_buffer("deviation", torch.ones(n_bands, 1))

    def train(self, mode=True):
        """As of any module, but what is frozen stays as it is, BatchNorm statistics too."""
        super().train(mode)
        backbones.rest(self.network)
        return self

    def bands(self, inputs):
        """Output of the front end, [B, bands, frames], of waveforms [B, N]; images [B, H, W] are
        such output.
        """
        return inputs if inputs.ndim == 3 else self.front_end(inputs)

    def standardise(self, bands):
        """Output of the front end as the network takes it: [B, K x bands, frames] -> [B, K, bands,
        frames], each of the K spectrograms a channel.
        """
        standard = (bands - self.mean) / self.deviation
        rows = self.mean.shape[0] // self.spectrograms
        # an exported graph leaves the sizes of reshape free, not those of unflatten
        return standard.reshape(bands.shape[0], self.spectrograms, rows, -1)

    def features(self, inputs: torch.Tensor, alter=None) -> torch.Tensor:
        """What the network sees of waveforms [B, N] or images: [B, K, bands, frames].

        Args: alter what a training step changes on the way, its `bands` and its `picture`, such as
            perturb.Draws; None: nothing.
        """
        bands = self.bands(inputs)
        if alter is None:
            return self.standardise(bands)
        return alter.picture(self.standardise(alter.bands(bands)))

    def forward(self, inputs: torch.Tensor, alter=None, number_format=None) -> torch.Tensor:
        """Logits [B, n_classes], float32.

        Args: inputs and alter as of `features`; number_format of torch that the network calculates
            in, None: that of its weights.
        """
        picture = self.features(inputs, alter)
        with torch.autocast(picture.device.type, number_format, enabled=number_format is not None):
            return self.network(picture).float()

    def probabilities(self, inputs):
        """Class probabilities [B, C]: they sum to 1, or, with several labels, each class has its
        own.
        """
        logits = self(inputs)
        return self._shares(logits)

    def frame_probabilities(self, inputs):
        """Class probabilities of each frame [B, C, T], of inputs as of `features`.

        A frame lasts `frame_length` frames of the spectrogram. Only of networks that have one, with
        attention.
        """
        return self._shares(self.network.frames(self.features(inputs)).float())

    @property
    def frame_length(self) -> int | None:
        """Frames of the spectrogram to one that answers for itself; None: only clips do."""
        return getattr(self.network, "frame_length", None)

    def _shares(self, logits):
        return logits.sigmoid() if self.multilabel else logits.softmax(dim=1)

    @torch.no_grad()
    def fit_standardisation(self, batches):
        """Take each band's mean and deviation over time from batches of training inputs."""
        total = squares = count = 0
        for inputs, _ in batches:
            bands = self.bands(inputs).double()
            total = total + bands.sum((0, 2))
            squares = squares + bands.square().sum((0, 2))
            count += bands.shape[0] * bands.shape[2]
        mean = total / count
        self.mean.copy_(mean[:, None])
        self.deviation.copy_((squares / count - mean.square()).clamp(min=1e-4).sqrt()[:, None])

    @torch.no_grad()
    def begin_at(self, shares: torch.Tensor):
        """Let a new classifier of several labels answer with the shares of the classes [C].

        The last layer's biases become their log odds (Lin et al. 2017, arXiv:1708.02002). With
        hundreds of rare classes a training would else spend its first epochs on learning how rare
        they are. A classifier that may have come from a file stays as it is.
        """
        learned = getattr(self.network, "origin", "") == "file"
        if learned or not self.multilabel:
            return
        layers = [layer for layer in self.network.modules() if isinstance(layer, nn.Linear)]
        classifiers = [layer for layer in layers if layer.out_features == self.n_classes]
        if not classifiers:
            return
        bias = classifiers[-1].bias
        if bias is not None:
            bias.copy_(shares.clamp(RAREST, 1 - RAREST).logit())


def build(config: Config, n_classes: int, fresh: bool = True) -> AudioClassifier:
    """The classifier that a config describes, with random or, of a timm network, published weights.

    Args: config; n_classes; fresh False where saved weights will be loaded, so that none are
        fetched.
    Raises ValueError for an unknown network.
    """
    classifier = AudioClassifier(
        *front_end(config), _network(config, n_classes, fresh), n_classes, config.data.multilabel
    )
    # a CPU trains 1.3 times as many clips per second this way
    return classifier.to(memory_format=torch.channels_last)


def _network(config, n_classes, fresh):
    model = config.model
    networks = recipe.named(*recipe.NETWORKS)
    weights = None
    if fresh and model.begins_from:
        weights = _of_run(model.begins_from)
    elif fresh and model.weights:
        weights = artifacts.home() / Path(model.weights).expanduser()
    if model.name in networks:
        network = recipe.MAKERS[model.name](config, n_classes)
        return _begun(network, weights) if weights and model.begins_from else network
    recipe.require("model.name", model.name, networks, (*recipe.CALLED,))
    if recipe.reads(model.name) == "waveform":
        return encoders.build(config, n_classes, weights, fresh)
    pretrained = fresh and model.pretrained
    channels = len(config.features.windows)
    return backbones.build(model.name, n_classes, model.dropout, pretrained, weights, channels)


def _of_run(name):
    """The weights of the first network of a run."""
    home = artifacts.existing_run(name) / "models" / "cnn"
    paths = sorted(home.glob("fold*/weights.safetensors"))
    if not paths:
        raise errors.StageError(f"model.weights=run:{name}: that run has no trained network.")
    artifacts.check_seal(home, "fold*/weights.safetensors")
    return paths[0]


def _begun(network, path):
    """One of our networks with the weights of another, all but those of its last layer."""
    weights = {name.removeprefix(BODY): tensor for name, tensor in load_file(path).items()}
    own = network.state_dict()
    *_, (head, _) = network.named_children()
    body = [name for name in own if not name.startswith(f"{head}.")]
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    if unfit := [name for name in body if shapes.get(name) != own[name].shape]:
        raise errors.ConfigError(
            f"model.weights: {path} is of another network ({len(unfit)} tensors differ, such as "
            f"{unfit[0]}): model.name and its width must be those of that run"
        )
    network.load_state_dict({name: weights[name] for name in body}, strict=False)
    network.origin = "run"
    return network


def front_end(config: Config) -> tuple[nn.Module, int]:
    """What a config's network sees: (front end, number of bands)."""
    if recipe.reads(config.model.name) == "waveform":
        return RawWaveform(), 1
    if config.train.inputs == "images":
        return images.mel_image(config), config.features.image_size
    spectrograms = features.front_end(config)
    return spectrograms, config.features.n_mels * len(config.features.windows)


@torch.no_grad()
def outline(model: AudioClassifier, n_samples: int) -> pd.DataFrame:
    """What each part of a classifier makes of a clip: a table part, output_shape, parameters."""
    rows = {}

    def note(name, part, _, output):
        output = output[0] if isinstance(output, tuple) else output
        parameters = count_parameters(part)
        if torch.is_tensor(output) and (parameters or name == "front end" or "pool" in name):
            shape = " x ".join(str(size) for size in output.shape[1:])
            rows.setdefault(name, (name, shape, parameters))

    handles = [
        part.register_forward_hook(functools.partial(note, name)) for name, part in _parts(model)
    ]
    was_training = model.training
    model.eval()(torch.zeros(1, n_samples))
    model.train(was_training)
    for handle in handles:
        handle.remove()
    return pd.DataFrame(rows.values(), columns=["part", "output_shape", "parameters"])


def _parts(model):
    """The front end, and the parts of the network, its blocks one by one: (name, module)."""
    yield "front end", model.front_end
    if isinstance(model.network, encoders.Encoder):
        yield from {**model.network.parts(), "head": model.network.head}.items()
        return
    is_backbone = isinstance(model.network, backbones.Backbone)
    network = model.network.network if is_backbone else model.network
    for name, part in network.named_children():
        if name == "blocks":
            for number, block in enumerate(part.children(), 1):
                yield f"block {number}", block
        else:
            yield name, part


def count_parameters(model: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(parameter.numel() for parameter in model.parameters())


def untrained(rows: pd.DataFrame, config) -> AudioClassifier:
    """The classifier of a run before it has learned anything; rows of waveforms.csv."""
    return build(config, len(targets.classes(rows, config.data.multilabel)), fresh=False)
