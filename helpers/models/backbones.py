"""Image networks of timm, pretrained or not, as networks for log-mel spectrograms.

timm is an optional extra.

Source: R. Wightman, PyTorch Image Models, https://github.com/huggingface/pytorch-image-models
"""

import difflib
import operator
import pickle
import warnings
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import nn

from helpers.base import errors

PREFIX = "timm:"
# What stands before the names of a Backbone's weights in a saved AudioClassifier
OURS = "network.network."
PATIENCE = 5  # seconds that the Hugging Face hub has to answer
# What torch's and timm's readers raise for files of something else: a missing layer, a list
# instead of tensors, …
UNREADABLE = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    EOFError,
    pickle.UnpicklingError,
    SafetensorError,
    LookupError,
    AttributeError,
    NotImplementedError,
)


class Backbone(nn.Module):
    """An image network that reads spectrograms as a picture with a channel for each.

    A network that cannot read pictures of any size (most transformers) gets the spectrogram resized
    to its own.

    Shape: standardised log-mel [B, K, mels, frames] -> logits [B, n_classes].

    Args: network of timm, with K input channels; size (height, width) that it wants, or None for
        any; origin "pretrained", "file" or "random": where its weights come from.
    """

    def __init__(self, network, size=None, origin="random"):
        super().__init__()
        self.network = network
        self.size = size
        self.origin = origin

    def forward(self, x):
        if self.size and x.shape[-2:] != self.size:
            x = F.interpolate(x, self.size, mode="bilinear", antialias=True)
        return self.network(x)

    def train(self, mode=True):
        """As of any module, but what is frozen stays as it is, BatchNorm statistics too."""
        super().train(mode)
        rest(self.network)
        return self


# --- by name, with its weights -----------------------------------------------------------------


def build(
    name: str,
    n_classes: int,
    dropout: float = 0.0,
    pretrained: bool = True,
    weights: str | Path | None = None,
    channels: int = 1,
) -> Backbone:
    """An image network of timm as a `Backbone`, with a new classifier.

    Args: name "timm:<architecture>", with or without the tag of its weights
        ("timm:efficientnet_b0.ra_in1k"); n_classes logits; dropout before the classifier, in [0,
        1]; pretrained: fetch timm's weights, from the cache or the network, and where there are
        none warn and start from random ones; weights a local file (.safetensors, .pth) of timm's or
        your own, used instead; channels of the input. A first convolution for three channels
        becomes one for one by their sum, for others by timm's rule; a classifier of another size is
        left random.
    Returns a Backbone; its `origin` says where the weights come from. Raises ImportError without
    timm, ValueError for an unknown architecture or a file that is missing or does not fit.
    """
    timm = _import_timm()
    architecture = name.removeprefix(PREFIX)
    known = [*timm.list_models(), *timm.list_models(pretrained=True)]
    if architecture not in known:
        close = difflib.get_close_matches(architecture, known, n=5) or ["see timm.list_models()"]
        raise errors.ConfigError(f"timm has no network {name!r}; close are: {', '.join(close)}")
    options = {"in_chans": channels, "num_classes": n_classes, "drop_rate": dropout}
    network = _pretrained(timm, architecture, options) if pretrained and not weights else None
    origin = "pretrained" if network else "random"
    network = network or timm.create_model(architecture, **options)
    if weights:
        _load(network, Path(weights).expanduser())
        origin = "file"
    return Backbone(network, _wanted_size(network, channels), origin).train()


@torch.no_grad()
def _wanted_size(network, channels=1):
    """The (height, width) of the pictures that a network was made for; None if any will do."""
    wanted = network.pretrained_cfg
    size = tuple(wanted["input_size"][1:])
    if wanted.get("fixed_input_size") or wanted.get("min_input_size"):
        return size
    try:
        network.eval()(torch.zeros(1, channels, 33, 49))
    except (RuntimeError, AssertionError, ValueError):  # its own complaints about the size
        return size
    return None


def _import_timm():
    try:
        import timm
    # RuntimeError: a torchvision that does not fit torch
    except (ImportError, RuntimeError) as error:
        raise errors.MissingLibrary(
            f"model.name {PREFIX}<name> needs timm and torchvision ({error}): "
            "pip install -r requirements-extras.txt"
        ) from error
    return timm


def _pretrained(timm, architecture, options):
    """The network with timm's own weights; None, with a warning, where they cannot be had."""
    if not timm.models.get_pretrained_cfg(architecture).has_weights:
        why = f"timm has no pretrained weights of {architecture}: starting from random weights"
        warnings.warn(why, stacklevel=3)
        return None
    try:
        # What the hub reads from the variable HF_HUB_OFFLINE, but once and for all, on import.
        # Where a name cannot be looked up it tries for 48 seconds, whatever its timeouts.
        offline = {} if hub_answers() else {"HF_HUB_OFFLINE": True}
        with mock.patch.multiple("huggingface_hub.constants", **offline):
            return timm.create_model(architecture, pretrained=True, **options)
    # those of the hub, of its HTTP library and of torch share no other base
    except Exception as error:
        why = f"could not be fetched (no network? {type(error).__name__})"
        warnings.warn(
            f"The pretrained weights of {architecture} {why}: "
            "starting from random weights; give a file with model.weights",
            stacklevel=3,
        )
        return None


def hub_answers() -> bool:
    """Whether the Hugging Face hub can be reached: its own client would retry for long."""
    from huggingface_hub import constants, utils

    try:
        utils.get_session().head(constants.ENDPOINT, timeout=PATIENCE)
    except Exception:  # of whichever HTTP library it uses: it did not answer
        return False
    return True


def _load(network, path):
    """Load a file of weights into a network, whole but for the classifier, or raise ConfigError."""
    if not path.is_file():
        raise errors.ConfigError(f"there is no file {path} of weights")
    own = network.state_dict()
    try:
        weights = _read(path, network, own)
        fitting = {
            name: tensor
            for name, tensor in weights.items()
            if name in own and tensor.shape == own[name].shape
        }
    except UNREADABLE as error:
        raise errors.ConfigError(
            f"{path} holds no weights of this network, as tensors only ({type(error).__name__})"
        ) from None
    unfit = (weights.keys() | own.keys()) - fitting.keys() - _classifier(network)
    # old files lack these
    unfit = sorted(name for name in unfit if not name.endswith("num_batches_tracked"))
    if unfit:
        raise errors.ConfigError(
            f"the weights of {path} do not fit: {len(unfit)} tensors differ, such as {unfit[0]}"
        )
    network.load_state_dict(fitting, strict=False)


def _read(path, network, own):
    """The tensors of a file by the network's own names, the first convolution for one channel."""
    from timm.models import adapt_input_conv, load_state_dict

    weights = load_state_dict(str(path))
    ours = {
        name.removeprefix(OURS): tensor for name, tensor in weights.items() if name.startswith(OURS)
    }
    weights = ours or weights
    first = network.pretrained_cfg.get("first_conv") or ()
    for layer in [first] if isinstance(first, str) else first:
        name = f"{layer}.weight"
        if weights[name].shape != own[name].shape:
            weights[name] = adapt_input_conv(own[name].shape[1], weights[name])
    return weights


def _classifier(network):
    """The names of the classifier's parameters."""
    heads = network.get_classifier()
    heads = heads if isinstance(heads, (tuple, list)) else [heads]
    inside = {id(parameter) for head in heads for parameter in head.parameters()}
    return {name for name, parameter in network.named_parameters() if id(parameter) in inside}


# --- fine-tuning


def rest(network: nn.Module) -> None:
    """Bring what is frozen of a network into evaluation mode."""
    for module in network.modules():
        trained = {parameter.requires_grad for parameter in module.parameters()}
        if trained == {False}:
            module.eval()


def freeze(network: nn.Module, share: float) -> int:
    """Keep the first layers of a network as they are: untrained, and in evaluation mode.

    Args: network a Backbone or one of ours; share of its layers, in [0, 1], from the input on; 1:
        all but the classifier, which is always trained.
    Returns how many parameters are frozen.
    """
    network.requires_grad_(True)
    body = _body(network.network) if isinstance(network, Backbone) else _own_body(network)
    frozen = 0
    for layer in body[: round(share * len(body))]:
        for parameter in layer:
            parameter.requires_grad_(False)
            frozen += parameter.numel()
    network.train(network.training)
    rest(network)
    return frozen


def _body(network):
    """The parameters of a timm network by layer, the nearest to the input first, no classifier."""
    classifier = _classifier(network)
    heads = {id(part) for name, part in network.named_parameters() if name in classifier}
    layers = {}  # by rate: the smaller, the nearer the input
    for group in _layer_groups(network, layer_decay=0.5):
        body = [parameter for parameter in group["params"] if id(parameter) not in heads]
        layers.setdefault(group["lr_scale"], []).extend(body)
    return [layers[rate] for rate in sorted(layers) if layers[rate]]


def _own_body(network):
    """The same of one of our networks, whose classifier stands last."""
    if hasattr(network, "layers"):
        return network.layers()
    parts = []
    for name, part in network.named_children():
        parts += part.children() if name == "blocks" else [part]
    layers = [list(part.parameters()) for part in parts]
    return [layer for layer in layers if layer][:-1]


def parameter_groups(
    model: nn.Module, learning_rate: float, weight_decay: float, layer_decay: float = 1.0
) -> list[dict]:
    """The trainable parameters of a model for an optimiser, the group of the highest rate first.

    In a Backbone, the rate of a layer falls with its distance from the classifier, so that what was
    pretrained moves less (Howard and Ruder 2018, arXiv:1801.06146; Bao et al. 2021,
    arXiv:2106.08254), and biases, the parameters of norms and embeddings do not decay. One of our
    networks that begins from another run has a group per layer. Any other model is one group.

    Args: model with or without a Backbone in it; learning_rate of the classifier; weight_decay;
        layer_decay in (0, 1], what the rate is multiplied by from layer to layer.
    Returns a list of dicts params, lr, weight_decay.

    >>> [group["lr"] for group in parameter_groups(nn.Linear(2, 2), 0.1, 0.01)]
    [0.1]
    """
    backbone = next((module for module in model.modules() if isinstance(module, Backbone)), None)
    if backbone is None:
        layers = _own_layers_from_the_classifier(model, layer_decay)
        rates = [learning_rate * layer_decay**depth for depth in range(len(layers))]
        pairs = zip(layers, rates, strict=True)
        return [{"params": part, "lr": rate, "weight_decay": weight_decay} for part, rate in pairs]
    groups = _layer_groups(backbone.network, layer_decay, weight_decay)
    for group in groups:
        group["lr"] = learning_rate * group.pop("lr_scale")
    return sorted(groups, key=lambda group: group["lr"], reverse=True)


def _own_layers_from_the_classifier(model, layer_decay):
    """The trainable parameters of a model of ours, by layer if it is begun from other weights."""
    network = getattr(model, "network", model)
    is_begun = layer_decay < 1 and getattr(network, "origin", "random") != "random"
    body = _own_body(network)[::-1] if is_begun else []
    below = {id(parameter) for layer in body for parameter in layer}
    first = [parameter for parameter in model.parameters() if id(parameter) not in below]
    layers = [list(filter(operator.attrgetter("requires_grad"), part)) for part in [first, *body]]
    return [layer for layer in layers if layer]


def _layer_groups(network, layer_decay, weight_decay=0.0):
    """timm's groups of a network's trainable parameters, each with its `lr_scale`."""
    from timm.optim import param_groups_layer_decay

    spared = network.no_weight_decay() if hasattr(network, "no_weight_decay") else ()
    return param_groups_layer_decay(network, weight_decay, spared, layer_decay=layer_decay)
