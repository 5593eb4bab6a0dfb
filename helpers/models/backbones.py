"""Image networks of timm, pretrained or not, as networks for log-mel spectrograms; timm is an
optional extra.

Source: R. Wightman, PyTorch Image Models, https://github.com/huggingface/pytorch-image-models
"""

import contextlib
import difflib
import functools
import pickle
import threading
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import nn

PREFIX = "timm:"
# what stands before the names of a Backbone's weights in a saved AudioClassifier
OURS = "network.network."
PATIENCE = 5  # seconds that the Hugging Face hub has to answer before the network counts as missing
UNREADABLE = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    EOFError,
    pickle.UnpicklingError,
    SafetensorError,
)


class Backbone(nn.Module):
    """An image network that reads a spectrogram as a picture with one channel.

    A network that cannot read pictures of any size (most transformers) gets the spectrogram resized
    to its own.

    Shape: standardised log-mel [B, 1, mels, frames] -> logits [B, n_classes].

    Args: network of timm, with one input channel; size (height, width) that it wants, or None for
        any; origin "pretrained", "file" or "random": where its weights come from.
    """

    def __init__(self, network, size=None, origin="random"):
        super().__init__()
        self.network, self.size, self.origin = network, size, origin

    def forward(self, x):
        if self.size and x.shape[-2:] != self.size:
            x = F.interpolate(x, self.size, mode="bilinear", antialias=True)
        return self.network(x)

    def train(self, mode=True):
        """As of any module, but what is frozen stays in evaluation mode: its BatchNorm statistics
        stay, too.
        """
        super().train(mode)
        for module in self.network.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()
        return self

    @torch.no_grad()
    def parts(self):
        """Its parts by name, in the order of the signal, for `outline`: those that weigh or pool,
        and give a tensor.
        """
        seen = {}

        def note(name, module, _, output):
            if torch.is_tensor(output) and (
                "pool" in name or any(True for _ in module.parameters())
            ):
                seen.setdefault(name, module)

        children = self.network.named_children()
        hooks = [
            child.register_forward_hook(functools.partial(note, name)) for name, child in children
        ]
        was_training = self.training
        self.eval()(torch.zeros(1, 1, 128, 128, device=next(self.parameters()).device))
        self.train(was_training)
        for hook in hooks:
            hook.remove()
        return list(seen.items()) or [("network", self.network)]


# --- by name, with its weights
# -----------------------------------------------------------------------------


def build(name, n_classes, dropout=0.0, pretrained=True, weights=None):
    """An image network of timm as a `Backbone`, with one input channel and a new classifier.

    Args: name "timm:<architecture>", with or without the tag of its weights
        ("timm:efficientnet_b0.ra_in1k"); n_classes logits; dropout before the classifier, in [0,
        1]; pretrained: fetch timm's weights, from the cache or the network, and where there are
        none warn and start from random ones; weights a local file (.safetensors, .pth) of timm's or
        your own, used instead. A first convolution for three channels becomes one for one by their
        sum; a classifier of another size is left random.
    Returns a Backbone; its `origin` says where the weights come from. Raises ImportError without
    timm, ValueError for an unknown architecture or a file that is missing or does not fit.
    """
    timm = _import_timm()
    architecture = name.removeprefix(PREFIX)
    known = [*timm.list_models(), *timm.list_models(pretrained=True)]
    if architecture not in known:
        close = difflib.get_close_matches(architecture, known, n=5) or ["see timm.list_models()"]
        raise ValueError(
            f"model.name is {name!r}, which timm does not have; close are: {', '.join(close)}"
        )
    network, origin = None, "random"
    options = {"in_chans": 1, "num_classes": n_classes, "drop_rate": dropout}
    if pretrained and not weights:
        network, origin = _pretrained(timm, architecture, options), "pretrained"
    if network is None:
        network, origin = timm.create_model(architecture, **options), "random"
    if weights:
        origin = _load(network, Path(weights).expanduser())
    return Backbone(network, _wanted_size(network), origin).train()


@torch.no_grad()
def _wanted_size(network):
    """The (height, width) of the pictures that a network was made for; None if it reads those of
    any size.
    """
    wanted = network.pretrained_cfg
    if not (wanted.get("fixed_input_size") or wanted.get("min_input_size")):
        with contextlib.suppress(
            RuntimeError, AssertionError, ValueError
        ):  # its own complaints about the size
            network.eval()(torch.zeros(1, 1, 33, 49))
            return None
    return tuple(wanted["input_size"][1:])


def _import_timm():
    try:
        import timm
    except (
        ImportError,
        RuntimeError,
    ) as error:  # RuntimeError: a torchvision that does not fit torch
        raise ImportError(
            f"model.name {PREFIX}<name> needs timm and torchvision ({error}): pip install -r requirements-extras.txt"
        ) from error
    return timm


def _pretrained(timm, architecture, options):
    """The network with timm's own weights; None, with a warning, where they cannot be had."""
    if not timm.models.get_pretrained_cfg(architecture).has_weights:
        warnings.warn(
            f"timm has no pretrained weights of {architecture}: starting from random weights",
            stacklevel=3,
        )
        return None
    try:
        with contextlib.nullcontext() if _online() else _only_cached():
            return timm.create_model(architecture, pretrained=True, **options)
    except (
        Exception
    ) as error:  # those of the hub, of its HTTP library and of torch share no other base
        warnings.warn(
            f"The pretrained weights of {architecture} could not be fetched (no network? {type(error).__name__}): "
            "starting from random weights; give a file with model.weights",
            stacklevel=3,
        )
        return None


def _online():
    """Whether the Hugging Face hub answers within PATIENCE. Its own client would try for three
    quarters of a minute.
    """
    import huggingface_hub

    answered = threading.Event()

    def ask():
        with contextlib.suppress(Exception):  # whatever goes wrong, it did not answer
            huggingface_hub.utils.get_session().head(
                huggingface_hub.constants.ENDPOINT, timeout=PATIENCE
            )
            answered.set()

    thread = threading.Thread(
        target=ask, daemon=True
    )  # a look-up of the name has no timeout of its own
    thread.start()
    thread.join(PATIENCE)
    return answered.is_set()


@contextlib.contextmanager
def _only_cached():
    """Inside the block the hub looks into its cache and nowhere else: HF_HUB_OFFLINE, which it
    reads on import.
    """
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _load(network, path):
    """Load a file of weights into a network, whole but for the classifier, or raise ValueError;
    returns "file".
    """
    from timm.models import adapt_input_conv, load_state_dict

    if not path.is_file():
        raise ValueError(f"model.weights: there is no file {path}")
    own, first = network.state_dict(), network.pretrained_cfg.get("first_conv") or ()
    try:
        weights = load_state_dict(str(path))
        inner = {
            key.removeprefix(OURS): tensor
            for key, tensor in weights.items()
            if key.startswith(OURS)
        }
        weights = inner or weights
        for key in (f"{layer}.weight" for layer in ([first] if isinstance(first, str) else first)):
            if weights[key].shape != own[key].shape:
                weights[key] = adapt_input_conv(1, weights[key])
        fitting = {
            key: tensor
            for key, tensor in weights.items()
            if key in own and tensor.shape == own[key].shape
        }
    # What torch's and timm's readers raise for files of something else: a missing layer, a list
    # instead of tensors, …
    except (*UNREADABLE, LookupError, AttributeError, NotImplementedError) as error:
        raise ValueError(
            f"model.weights: {path} holds no weights of this network ({error!r})"
        ) from None
    unfit = (weights.keys() | own.keys()) - fitting.keys() - _classifier(network)
    unfit = sorted(
        key for key in unfit if not key.endswith("num_batches_tracked")
    )  # old files lack these
    if unfit:
        raise ValueError(
            f"model.weights: {path} does not fit: {len(unfit)} tensors differ, such as {unfit[0]}"
        )
    network.load_state_dict(fitting, strict=False)
    return "file"


def _classifier(network):
    """The names of the classifier's parameters."""
    heads = network.get_classifier()
    heads = heads if isinstance(heads, (tuple, list)) else [heads]
    inside = {id(parameter) for head in heads for parameter in head.parameters()}
    return {name for name, parameter in network.named_parameters() if id(parameter) in inside}


# --- fine-tuning
# -------------------------------------------------------------------------------------------


def freeze(backbone, share):
    """Keep the first layers of a Backbone as they are: untrained, and in evaluation mode.

    Args: share of the layers, in [0, 1], from the input on; 1: all but the classifier, which is
        always trained.
    Returns how many parameters are frozen. Raises ValueError for another share.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"train.freeze is {share}: it is a share of the layers, from 0 to 1")
    network = backbone.network
    classifier, layers = _classifier(network), _layers(network)
    body = sorted({layer for name, layer in layers.items() if name not in classifier})
    frozen = set(body[: round(share * len(body))])
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in classifier or layers[name] not in frozen)
    backbone.train(backbone.training)
    return sum(
        parameter.numel() for parameter in network.parameters() if not parameter.requires_grad
    )


def parameter_groups(model, learning_rate, weight_decay, layer_decay=1.0):
    """The trainable parameters of a model as groups for an optimiser, the one with the highest rate
    first.

    In a Backbone, the rate of a layer falls with its distance from the classifier, so that what was
    pretrained moves less (Howard and Ruder 2018, arXiv:1801.06146; Bao et al. 2021,
    arXiv:2106.08254), and biases, the parameters of norms and embeddings do not decay. Any other
    model is one group.

    Args: model with or without a Backbone in it; learning_rate of the classifier; weight_decay;
        layer_decay in (0, 1], what the rate is multiplied by from layer to layer.
    Returns a list of dicts params, lr, weight_decay. Raises ValueError for another layer_decay.

    >>> [group["lr"] for group in parameter_groups(nn.Linear(2, 2), 0.1, 0.01)]
    [0.1]
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"train.layer_decay is {layer_decay}: it must be above 0 and at most 1")
    backbone = next((module for module in model.modules() if isinstance(module, Backbone)), None)
    factors = _factors(backbone.network, layer_decay) if backbone else {}
    groups = {}
    for parameter in filter(lambda parameter: parameter.requires_grad, model.parameters()):
        groups.setdefault(factors.get(id(parameter), (1.0, True)), []).append(parameter)
    return [
        {"params": parameters, "lr": learning_rate * factor, "weight_decay": weight_decay * decays}
        for (factor, decays), parameters in sorted(
            groups.items(), key=lambda group: group[0], reverse=True
        )
    ]


def _factors(network, layer_decay):
    """What each parameter's learning rate is multiplied by, and whether it decays, by the
    parameter's id.
    """
    layers = _layers(network)
    spared = network.no_weight_decay() if hasattr(network, "no_weight_decay") else ()
    return {
        id(parameter): (
            layer_decay ** (max(layers.values()) - layers[name]),
            parameter.ndim > 1 and not name.endswith(".bias") and name not in spared,
        )
        for name, parameter in network.named_parameters()
    }


def _layers(network):
    """The number of each parameter's layer by name, counted from the input as timm does; the
    classifier is the last.
    """
    from timm.models import group_parameters
    from timm.optim import auto_group_layers

    if hasattr(network, "group_matcher"):
        numbers = group_parameters(network, network.group_matcher(coarse=False), reverse=True)
    else:
        numbers = auto_group_layers(network)
    last, classifier = max(numbers.values()), _classifier(network)
    return {
        name: last if name in classifier else numbers.get(name, last)
        for name, _ in network.named_parameters()
    }
