"""Networks that others have published, as listeners: torchaudio's, transformers', timm's.

Their weights come from a file, from the cache, or from the network where there is one; what cannot
be had is said at once. No code comes with them, and nothing is unpickled but plain tensors.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from helpers.audio import images
from helpers.base import errors
from helpers.base.settings import LISTENER
from helpers.listeners import naming
from helpers.listeners.listener import Listener, device, identity_of, of_torch
from helpers.models import backbones, encoders

# Grey pictures as timm's networks know them: mean and deviation of ImageNet over the colours
MEAN = 0.449
DEVIATION = 0.226


# --- torchaudio


class LastLayer(nn.Module):
    """A network of torchaudio: waveforms [B, N] -> the mean of its last layer over time [B, D]."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, waveforms):
        return encoders.frames(self.network, waveforms).mean(dim=1)


def torchaudio_bundle(config, what: str, folder: Path) -> Listener:
    """A bundle of torchaudio.pipelines: wav2vec 2.0, HuBERT, WavLM.

    Args: config; what its name, such as WAV2VEC2_BASE; folder of the run.
    Raises ConfigError for an unknown bundle, or weights that cannot be had.
    """
    weights = config.features.listener_weights
    weights = weights and naming.path(weights)
    with _had(f"torchaudio:{what}"):
        network, rate = encoders.of_torchaudio("features.listener", what, weights)
    return of_torch(f"torchaudio:{what}", LastLayer(network), rate, None, what)


def _had(name):
    return encoders.had("features.listener", name, "features.listener_weights")


# --- transformers


def transformers_network(config, what: str, folder: Path) -> Listener:
    """A network of transformers with its feature extractor: AST, WavLM, HuBERT, Whisper's encoder.

    Its embedding is what it pools itself, else the mean of its last layer over time.
    Args: config; what a folder, or a name on the Hugging Face hub; folder of the run.
    Raises ConfigError where it cannot be had, MissingLibrary without transformers.
    """
    with _had(f"hf:{what}"):
        extractor, model = encoders.from_transformers("features.listener", what)
    network = model.get_encoder() if model.config.is_encoder_decoder else model
    network = network.to(device()).eval()
    rate = extractor.sampling_rate

    @torch.inference_mode()
    def hear(waveforms):
        inputs = extractor(list(waveforms), sampling_rate=rate, return_tensors="pt")
        output = network(inputs[extractor.model_input_names[0]].to(device()))
        pooled = output.get("pooler_output")
        pooled = output.last_hidden_state.mean(dim=1) if pooled is None else pooled
        return pooled.float().cpu().numpy()

    try:
        hear(np.zeros((1, rate), np.float32))
    except Exception as error:  # networks share no other base of errors
        raise errors.ConfigError(
            f"features.listener: hf:{what} cannot be asked with sound alone ({error})"
        ) from error
    identity = identity_of(network, extractor.to_json_string())
    return Listener(f"hf:{Path(what).name}", rate, _window(extractor), identity, hear)


def _window(extractor):
    """How many samples a feature extractor makes a picture of one size of; None for any number."""
    if hasattr(extractor, "n_samples"):  # Whisper's
        return extractor.n_samples
    frames = getattr(extractor, "max_length", None)  # AST's, of 10 ms
    return frames and frames * extractor.sampling_rate // 100


# --- timm


class PictureNetwork(nn.Module):
    """An image network without its classifier on log-mel images: waveforms [B, N] -> [B, D]."""

    def __init__(self, front_end: nn.Module, backbone: backbones.Backbone):
        super().__init__()
        backbone.network.reset_classifier(0)
        self.front_end = front_end
        self.backbone = backbone

    def forward(self, waveforms):
        pictures = (self.front_end(waveforms)[:, None] - MEAN) / DEVIATION
        return self.backbone(pictures).flatten(1)


def timm_network(config, what: str, folder: Path) -> Listener:
    """An image network of timm on the log-mel images that the config describes.

    Args: config; what its name; folder of the run.
    Raises ConfigError for an unknown network, or weights that cannot be had.
    """
    weights = config.features.listener_weights
    weights = weights and naming.path(weights)
    with _had(f"timm:{what}"), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        backbone = backbones.build(f"timm:{what}", 1, weights=weights)
        if backbone.origin == "random":
            raise ValueError(str(told[-1].message).partition(":")[0])
    network = PictureNetwork(images.mel_image(config), backbone)
    facts = (what, str(config.features.model_dump(exclude=set(LISTENER))))
    return of_torch(f"timm:{what}", network, config.audio.sample_rate, None, *facts)
