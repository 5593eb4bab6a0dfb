"""What a network's answer rests on: where it looks, and which clips are alike to it."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from helpers.audio import features
from helpers.models import networks
from helpers.models.resnet import ResNet

BATCH = 32  # clips at a time
SMOOTHED = 9  # bands and frames over which a gradient times its input is averaged


@torch.no_grad()
def embeddings(model: networks.AudioClassifier, packed: np.ndarray) -> np.ndarray:
    """What the last layer of a network decides by: int16 [clips, N] -> float32 [clips, size]."""
    batches = torch.from_numpy(packed).split(BATCH)
    return torch.cat([decided_by(model, features.unpack(batch)) for batch in batches]).numpy()


@torch.no_grad()
def decided_by(model: networks.AudioClassifier, waveforms: torch.Tensor) -> torch.Tensor:
    """The same of clips on the network's device: float32 [B, N] -> float32 [B, size] on the CPU.

    Where the last layer answers frame by frame, the mean over the frames.
    """
    given = []
    handle = last_layer(model).register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    model.eval()(waveforms)
    handle.remove()
    return of_clips(given[0]).float().cpu()


def last_layer(model: networks.AudioClassifier) -> nn.Module:
    """What makes a network's logits."""
    kinds = (nn.Linear, nn.Conv2d)
    return [part for part in model.network.modules() if isinstance(part, kinds)][-1]


def of_clips(inputs: torch.Tensor) -> torch.Tensor:
    """Inputs of a last layer as one vector per clip: [B, T, size] averaged, others flattened."""
    return inputs.mean(dim=1) if inputs.ndim == 3 else inputs.flatten(1)


def heard_where(model: networks.AudioClassifier, waveform: np.ndarray, number: int) -> np.ndarray:
    """Where in its spectrogram a network found what speaks for a class: Grad-CAM.

    The maps that the last convolution makes are added up, each weighted with the mean of the
    gradient that the class's logit has there; what speaks against the class is cut off (Selvaraju
    et al. 2017, arXiv:1610.02391). Of a network without such maps it is the gradient times its
    input, smoothed.

    Args: model; waveform float32 [samples]; number of the class. Returns an array [bands, frames]
        from 0 to 1, its highest value; all 0 where nothing speaks for the class.
    """
    model.eval()
    picture = model.features(torch.as_tensor(waveform)[None])
    maps, logits = last_maps(model.network, picture)
    slope = torch.autograd.grad(logits[0, number], maps)[0]
    if maps.shape == picture.shape:
        found = F.avg_pool2d((slope * maps).relu(), SMOOTHED, 1, SMOOTHED // 2)
    else:
        weights = slope.mean(dim=(2, 3), keepdim=True)
        found = (weights * maps).sum(dim=1, keepdim=True).relu()
    found = F.interpolate(found, picture.shape[2:], mode="bilinear")[0, 0].detach()
    return (found / found.max().clamp(min=1e-12)).numpy()


def last_maps(network: nn.Module, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What a network's last convolution makes of a picture [1, 1, bands, frames], and its logits.

    Returns (maps [1, C, H, W], of other networks than ours the picture itself; logits [1, C]).
    """
    if not isinstance(network, networks.Cnn | ResNet):
        picture = picture.detach().requires_grad_(True)
        return picture, network(picture)
    given = []
    # the maximum that halves the last maps once more; the pooling
    after = network.blocks[-1][-1] if isinstance(network, networks.Cnn) else network.pool
    handle = after.register_forward_pre_hook(lambda part, inputs: given.append(inputs[0]))
    logits = network(picture)
    handle.remove()
    return given[0], logits
