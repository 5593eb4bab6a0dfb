"""Pretrained networks that hear waveforms, of torchaudio.pipelines and transformers: wav2vec 2.0,
HuBERT, WavLM; and one of them with a classifier, to be trained on.

Their weights come from a file, from the cache, or from the network where there is one; what cannot
be had is said at once. No code comes with them, and nothing is unpickled but plain tensors.

Source: A. Baevski et al. 2020, wav2vec 2.0, arXiv:2006.11477
"""

import copy
import socket
from contextlib import contextmanager
from pathlib import Path

import torch
import torchaudio
from safetensors.torch import load_file
from torch import nn

from helpers.base import artifacts, errors
from helpers.models import backbones

WAVEFORM = "input_values"  # what transformers calls a waveform, but also AST's picture
# In training they leave out layers and mask frames by chance, of generators of their own.
BY_CHANCE = {"layer_drop": 0.0, "layerdrop": 0.0, "apply_spec_augment": False}
FACTORIES = {  # by the kind of a bundle
    "Wav2Vec2": torchaudio.models.wav2vec2_model,
    "WavLM": torchaudio.models.wavlm_model,
}


class Encoder(nn.Module):
    """A pretrained network of waveforms, the mean of its frames, a new classifier.

    Shape: standardised waveform [B, 1, 1, N] -> logits [B, n_classes].

    Args: network as `frames` asks it; n_classes; dropout; origin "pretrained", "file" or "random":
        where its weights come from.
    """

    capturable = False  # its steps are no CUDA graph: they look at lengths on the host

    def __init__(self, network, n_classes, dropout=0.0, origin="random"):
        super().__init__()
        self.network = network
        self.origin = origin
        with torch.no_grad():
            size = frames(network.eval(), torch.zeros(1, 16000)).shape[-1]
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(size, n_classes))

    def forward(self, x):
        return self.head(frames(self.network, x.flatten(1)).mean(dim=1))

    def parts(self) -> dict[str, nn.Module]:
        """What it is made of, by name: the convolutions of the waveform, then layer by layer."""
        named = {name.rpartition(".")[2]: part for name, part in self.network.named_modules()}
        layers = {f"layer {number}": layer for number, layer in enumerate(named["layers"], 1)}
        return {"convolutions": named["feature_extractor"], **layers}

    def layers(self) -> list[list[nn.Parameter]]:
        """The pretrained parameters by layer, the nearest to the waveform first."""
        _, *stack = self.parts().values()
        above = [list(layer.parameters()) for layer in stack]
        later = {id(parameter) for layer in above for parameter in layer}
        first = [part for part in self.network.parameters() if id(part) not in later]
        return [first, *above]


def frames(network, waveforms):
    """What a network's last layer says of waveforms [B, N]: [B, frames, D]."""
    if hasattr(network, "extract_features"):
        return network.extract_features(waveforms)[0][-1]
    return network(**{WAVEFORM: waveforms}).last_hidden_state


def build(config, n_classes: int, weights: Path | None = None, fresh: bool = True) -> Encoder:
    """The `Encoder` that model.name describes: torchaudio:<BUNDLE> or hf:<name or folder>.

    Args: config; n_classes; weights a file of them, torchaudio's or of another run's network; None:
        its published ones, if model.pretrained asks for them; fresh False where saved weights will
        be loaded. Raises ConfigError, MissingLibrary.
    """
    model = config.model
    published = fresh and model.pretrained and weights is None
    with had("model.name", model.name, "model.weights"):
        network, rate = _network(model.name, weights, published)
    if rate != config.audio.sample_rate:
        raise errors.ConfigError(
            f"model.name: {model.name} hears {rate} Hz: set audio.sample_rate={rate}"
        )
    for part in network.modules():
        _settle(part)
    origin = "file" if weights else "pretrained" if published else "random"
    return Encoder(network, n_classes, model.dropout, origin).train()


def _network(name, weights, published):
    """(network, its sample rate in Hz) with the weights that it is to begin from."""
    kind, _, what = name.partition(":")
    tensors = read_weights(weights) if weights else {}
    of_a_run = {
        name.removeprefix(backbones.OURS): tensor
        for name, tensor in tensors.items()
        if name.startswith(backbones.OURS)
    }
    if kind == "torchaudio":
        file = None if of_a_run else weights
        network, rate = of_torchaudio("model.name", what, file, published)
    else:
        if weights and not of_a_run:
            raise errors.ConfigError("model.weights is for torchaudio; hf:<folder> brings its own")
        extractor, network = from_transformers("model.name", what, published)
        rate = extractor.sampling_rate
        if not hasattr(network.config, "conv_stride"):
            raise errors.ConfigError(
                f"model.name: {name} does not hear waveforms, as wav2vec 2.0, HuBERT and WavLM do; "
                "features.listener takes it"
            )
    if of_a_run:
        network.load_state_dict(of_a_run)
    return network, rate


def _settle(part):
    """Let a part of a network leave nothing out by chance."""
    for holder in (part, getattr(part, "config", None)):
        for name, never in BY_CHANCE.items():
            if hasattr(holder, name):
                setattr(holder, name, never)


# --- with their weights


def of_torchaudio(key: str, what: str, weights: Path | None = None, published: bool = True):
    """A bundle of torchaudio.pipelines: (network, its sample rate in Hz).

    Args: key of the setting that names it; what its name, such as WAV2VEC2_BASE; weights a file of
        them; published False: with random weights. Raises ConfigError for an unknown one.
    """
    known = vars(torchaudio.pipelines).items()
    kind = torchaudio.pipelines.Wav2Vec2Bundle
    bundles = {name: bundle for name, bundle in known if isinstance(bundle, kind)}
    if what not in bundles:
        raise errors.ConfigError(
            f"{key}: torchaudio has no bundle {what!r}. There are: {', '.join(bundles)}"
        )
    bundle = copy.copy(bundles[what])
    if weights:
        bundle._get_state_dict = lambda _: read_weights(weights)
    if not published and not weights:
        random = FACTORIES[bundle._model_type](**bundle._params).state_dict()
        bundle._get_state_dict = lambda _: random
    with _impatient():
        network = bundle.get_model(dl_kwargs={"weights_only": True, "progress": False})
    return network, int(bundle.sample_rate)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, .safetensors or of torch, of which nothing else is read."""
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


@contextmanager
def _impatient():
    """A block in which a network that does not answer is given up."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(backbones.PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def had(key: str, name: str, files: str):
    """A block in which a network is fetched or read; what prevents it becomes one clear message.

    Args: key of the setting that names it; name; files the keys that name a file of it.
    """
    try:
        yield
    except (errors.MissingLibrary, errors.ConfigError):
        raise
    # those of hubs, of their HTTP libraries and of torch share no other base
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise errors.ConfigError(
            f"{key}: {name} could not be had ({reason}). Its weights come from the cache, from the "
            f"network, or from a file of yours: {files}, for transformers hf:<folder>."
        ) from None


def from_transformers(key: str, what: str, published: bool = True):
    """A network of transformers: (its feature extractor, the network).

    Args: key of the setting that names it; what a folder, or a name on the Hugging Face hub, where
        it is looked up if it answers; published False: with random weights.
    """
    try:
        import transformers
    except ImportError as error:
        raise errors.MissingLibrary(
            f"{key} hf:<name> needs transformers ({error}): pip install -r requirements-extras.txt"
        ) from error
    local = artifacts.home() / Path(what).expanduser()
    source = str(local) if local.is_dir() else what
    safe = {"trust_remote_code": False, "local_files_only": True}
    try:
        extractor = transformers.AutoFeatureExtractor.from_pretrained(source, **safe)
    except OSError:
        if local.is_dir() or not backbones.hub_answers():
            raise
        safe["local_files_only"] = False
        extractor = transformers.AutoFeatureExtractor.from_pretrained(source, **safe)
    if not published:
        described = transformers.AutoConfig.from_pretrained(source, **safe)
        return extractor, transformers.AutoModel.from_config(described)
    network, told = transformers.AutoModel.from_pretrained(
        source, weights_only=True, output_loading_info=True, **safe
    )
    missing = {name for name in told["missing_keys"] if "masked_spec_embed" not in name}
    if missing:
        raise ValueError(f"it lacks {len(missing)} weights, such as {min(missing)}")
    return extractor, network.float()  # some are kept in half precision
