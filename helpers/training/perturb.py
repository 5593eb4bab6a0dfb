"""Augmentation while training: batched, on the device, from waveforms to the network's input.

`draw` takes all random numbers of a batch from one generator of the CPU; the other functions apply
them, wherever the clips lie. Nothing changes its input, and no shape depends on what was drawn, so
a GPU can replay the whole step.
"""

import collections
import functools
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

NODES = 6  # of the curve by which bands are made louder and softer
COLOURS = (
    0.0,
    0.5,
    1.0,
)  # noise whose amplitude falls with frequency to this power: white, pink, brown
WINDOWS = 50  # a clip is as loud as the loudest of so many equal parts of it
QUIET = 1e-10  # the energy of silence, so that nothing is divided by 0


class Draws(NamedTuple):
    """What was drawn for a batch of B clips; None where nothing of the kind is done."""

    offset: (
        torch.Tensor | None
    )  # [B, 1] share of the clip by which it is shifted around the circle, in [0, 1)
    rate: torch.Tensor | None  # [B, 1] playback speed
    gain: torch.Tensor | None  # [B, 1] factor, negative: upside down
    noise: (
        torch.Tensor | None
    )  # [B, 3] colour in [0, 1), share of the clip at which it begins, level (relative RMS)
    partner: torch.Tensor | None  # [B] the clip it is mixed with
    weight: torch.Tensor | None  # [B, 1] how much of the clip itself is heard
    bands_db: torch.Tensor | None  # [B, NODES] gains from the lowest band to the highest
    masks: (
        torch.Tensor | None
    )  # [B, 2, masks, 2] masks of bands, of frames: share where it starts, share it covers

    def to(self, device):
        """The same on a device."""
        return Draws(
            *(None if drawn is None else drawn.to(device, non_blocking=True) for drawn in self)
        )


def draw(size, settings, generator):
    """All random numbers that a batch of waveforms needs.

    Args: size B clips; settings the config's Train section; generator of the CPU. Returns Draws on
        the CPU.
    """
    uniform = functools.partial(_uniform, size, generator)
    moved = settings.shift or settings.speed or settings.crop < 1
    start = 1.0 if settings.crop < 1 else settings.shift
    gain = 10 ** (uniform(-settings.gain_db, settings.gain_db) / 20) if settings.gain_db else None
    if settings.polarity:
        gain = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0) * (1.0 if gain is None else gain)
    partner, weight = draw_mix(size, settings, generator)
    return Draws(
        offset=uniform(-start, start) % 1 if moved else None,
        rate=(1 + settings.speed) ** uniform(-1, 1) if moved else None,
        gain=gain,
        noise=_draw_noise(uniform, settings) if settings.noise_db is not None else None,
        partner=partner,
        weight=weight,
        bands_db=uniform(-settings.filter_db, settings.filter_db, NODES)
        if settings.filter_db
        else None,
        masks=_draw_masks(uniform, settings) if settings.masks and settings.mask_fraction else None,
    )


def draw_mix(size, settings, generator):
    """Partners [B] and weights [B, 1] for mixing; (None, None) where it is off.

    MixUp's weights are Beta(alpha, alpha) draws, at least a half; between-class weights are
    uniform. In the batches that are not mixed every weight is 1.
    """
    if (
        settings.mix == "none"
        or not settings.mix_share
        or (settings.mix == "mixup" and not settings.mixup_alpha)
    ):
        return None, None
    if settings.mix == "mixup":
        rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        drawn = rng.beta(settings.mixup_alpha, settings.mixup_alpha, (size, 1))
        weight = torch.from_numpy(np.maximum(drawn, 1 - drawn)).float()
    else:
        weight = torch.rand(size, 1, generator=generator)
    mixed = torch.rand(1, generator=generator) < settings.mix_share
    return torch.randperm(size, generator=generator), torch.where(mixed, weight, 1.0)


def _uniform(size, generator, low, high, columns=1):
    return torch.rand(size, columns, generator=generator) * (high - low) + low


def _draw_noise(uniform, settings):
    level = 10 ** (
        -(settings.noise_db + 20 * uniform(0, 1)) / 20
    )  # down to 20 dB below the loudest
    heard = uniform(0, 1) < settings.noise_share
    return torch.cat([uniform(0, 1), uniform(0, 1), level * heard], dim=1)


def _draw_masks(uniform, settings):
    width = uniform(0, settings.mask_fraction, 2 * settings.masks)
    start = uniform(0, 1, 2 * settings.masks) * (1 - width)
    return torch.stack([start, width], dim=-1).view(len(width), 2, settings.masks, 2)


# --- on waveforms
# ------------------------------------------------------------------------------------------


def waveforms(x, y, draws, mix, crop=1.0):
    """Everything that is done to waveforms: played differently, noise added, mixed with a partner.

    Args: x waveforms [B, N]; y target vectors [B, C]; draws of `draw`; mix and crop the config's
        train.mix, train.crop.
    Returns new (x, y): [B, round(crop N)], [B, C].
    """
    return last(waveform_steps(x, y, draws, mix, crop))[1:]


def waveform_steps(x, y, draws, mix, crop=1.0):
    """The same step by step: yields (name, waveforms, targets), first as they are."""
    yield "clip", x, y
    if draws.rate is not None:
        x = play(x, draws.offset, draws.rate, round(crop * x.shape[1]))
        yield "played", x, y
    if draws.gain is not None:
        x = x * draws.gain.to(x)
        yield "gain", x, y
    if draws.noise is not None:
        x = add_noise(x, draws.noise)
        yield "noise", x, y
    if draws.partner is not None:
        blend = between_class if mix == "between_class" else mixup
        yield "mixed", *blend(x, y, draws.partner, draws.weight)


def last(steps):
    """What the last of some steps yields; those before are not kept in memory."""
    return collections.deque(steps, maxlen=1).pop()


def play(x, offset, rate, samples=None):
    """Play each clip from another point on, faster or slower (pitch moves along), around the
    circle.

    Args: x waveforms [B, N]; offset [B, 1] in [0, 1), share of the clip; rate [B, 1] up to 2;
        samples how many, None: N. Samples between two others are interpolated linearly. Returns [B,
        samples].
    """
    n = x.shape[1]
    samples = samples or n
    position = torch.addcmul(
        offset.to(x) * n, torch.arange(samples, device=x.device, dtype=x.dtype), rate.to(x)
    )
    left = position.long()
    around = x.repeat(
        1, 1 + -(-(2 * samples + 1) // n)
    )  # long enough for any position: remainders take longer
    return torch.lerp(around.gather(1, left), around[:, 1:].gather(1, left), position - left)


def add_noise(x, noise):
    """Add white, pink or brown noise to each clip, so much quieter than the clip's own RMS.

    Args: x waveforms [B, N]; noise [B, 3] as in Draws. Returns [B, N].
    """
    n, noise = x.shape[1], noise.to(x)
    bank = noise_bank(n, x.device, x.dtype)
    first = (noise[:, 1:2] * n).long() + torch.arange(n, device=x.device)
    colour = (noise[:, 0] * len(bank)).long()
    level = noise[:, 2:] * x.square().mean(dim=1, keepdim=True).sqrt()
    return x + level * bank[colour].gather(1, torch.where(first < n, first, first - n))


@functools.lru_cache(maxsize=4)
def noise_bank(n, device, dtype):
    """One clip of noise of each colour, RMS 1: [len(COLOURS), n]; always the same."""
    white = torch.randn(
        len(COLOURS), n, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    falls = (
        torch.arange(1, n // 2 + 2, dtype=torch.float64)
        ** -torch.tensor(COLOURS, dtype=torch.float64)[:, None]
    )
    coloured = torch.fft.irfft(torch.fft.rfft(white) * falls, n)
    return (coloured / coloured.square().mean(dim=1, keepdim=True).sqrt()).to(device, dtype)


def mixup(x, y, partner, weight):
    """Blend every clip and its label with a partner (Zhang et al. 2018, arXiv:1710.09412).

    Args: x clips [B, ...]; y label distributions [B, C], rows sum to 1;
        partner [B] indices; weight [B, 1] in [0, 1], how much of the clip itself is kept.
    Returns new (x, y) of the same shapes. Raises ValueError if y holds integer labels.
    """
    _require_distributions(y)
    weight_x = weight.to(x).view(-1, *[1] * (x.ndim - 1))
    return weight_x * x + (1 - weight_x) * x[partner], _blend(y, partner, weight)


def between_class(x, y, partner, weight):
    """Mix every waveform with a partner so that it is heard as `weight` says, however loud the two
    recordings are.

    Sounds add up in the air as waveforms do; a label that says half and half should sound half and
    half, so the gains are corrected by the clips' levels, and the sum keeps their energy (Tokozume
    et al. 2018, arXiv:1711.10282). The level is that of the loudest WINDOWS-th of a clip,
    unweighted; the paper takes A-weighted windows.

    Args: x waveforms [B, N]; y label distributions [B, C]; partner [B] indices; weight [B, 1] in
        [0, 1].
    Returns new (x, y) of the same shapes. Raises ValueError if y holds integer labels.
    """
    _require_distributions(y)
    weight = weight.to(x)
    own = loudness(x)
    other = own[partner]
    # p = 1 / (1 + own / other * (1 - weight) / weight), the share of the amplitude, without its
    # division by 0
    share = weight * other / (weight * other + (1 - weight) * own)
    keep = (share.square() + (1 - share).square()).rsqrt()
    return torch.addcmul(x * (share * keep), x[partner], (1 - share) * keep), _blend(
        y, partner, weight
    )


def loudness(x):
    """RMS of the loudest of WINDOWS equal parts of each clip: waveforms [B, N] -> [B, 1], above 0."""
    size = max(1, x.shape[1] // WINDOWS)
    parts = x[:, : x.shape[1] // size * size].unflatten(1, (-1, size))
    return parts.square().mean(dim=2).amax(dim=1, keepdim=True).clamp(min=QUIET).sqrt()


def _require_distributions(y):
    if not y.is_floating_point() or y.ndim != 2:
        raise ValueError(
            "mixing blends label distributions [B, C]; one-hot encode integer labels first"
        )


def _blend(y, partner, weight):
    weight = weight.to(y)
    return weight * y + (1 - weight) * y[partner]


# --- on spectrograms
# ---------------------------------------------------------------------------------------


def filter_bands(bands, bands_db):
    """Make bands louder and softer along a random curve (FilterAugment, Nam et al. 2022,
    arXiv:2110.03282).

    Args: bands log-mel in dB [B, mels, frames]; bands_db [B, NODES] gains, between which the curve
        is linear.
    Returns [B, mels, frames].
    """
    curve = F.interpolate(
        bands_db.to(bands)[:, None], bands.shape[1], mode="linear", align_corners=True
    )[:, 0]
    return bands + curve[:, :, None]


def mask(x, masks):
    """Blank random bands of frequency and stretches of time (SpecAugment, Park et al. 2019,
    arXiv:1904.08779).

    Args: x standardised log-mel [B, 1, mels, frames], so that blank is 0, the mean; masks [B, 2, M,
        2], for each axis where each mask starts and how much it covers, as shares. Returns [B, 1,
        mels, frames].
    """
    for axis, shape in ((0, (-1, 1, x.shape[2], 1)), (1, (-1, 1, 1, x.shape[3]))):
        size = x.shape[2 + axis]
        start, width = (
            (masks[:, axis] * size).to(x.device).unsqueeze(-1).unbind(dim=2)
        )  # each [B, M, 1]
        index = torch.arange(size, device=x.device)
        x = x * ((index < start) | (index >= start + width)).all(dim=1).view(shape)
    return x


# --- on images, and on labels
# ------------------------------------------------------------------------------


def turn_images(images, settings, generator):
    """Mirror images in time, turn them and zoom: what image networks are often trained with.

    What comes in from outside the image is its nearest edge. A sound played backwards or tilted is
    no sound that exists; whether this helps is for the scores to say.

    Args: images [B, H, W]; settings the config's Train section (flip, rotate, zoom); generator of
        the CPU that every draw comes from. Returns [B, H, W].
    """
    uniform = functools.partial(_uniform, len(images), generator)
    angle = uniform(-settings.rotate, settings.rotate)[:, 0].to(images) * 2 * torch.pi
    scale = 1 / (1 + uniform(-settings.zoom, settings.zoom)[:, 0].to(images))
    mirror = torch.where(uniform(0, 1)[:, 0].to(images) < settings.flip, -1.0, 1.0)
    cosine, sine, zero = angle.cos() * scale, angle.sin() * scale, torch.zeros_like(angle)
    rows = [(mirror * cosine, -sine, zero), (mirror * sine, cosine, zero)]
    turn = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
    grid = F.affine_grid(turn, (len(images), 1, *images.shape[1:]), align_corners=False)
    return F.grid_sample(images[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def smooth(targets, smoothing, multilabel=False):
    """Targets [B, C] with label smoothing (Szegedy et al. 2016, arXiv:1512.00567), each class for
    itself if several.

    >>> smooth(torch.tensor([[0.0, 1.0]]), 0.1).tolist()
    [[0.05000000074505806, 0.949999988079071]]
    """
    return targets * (1 - smoothing) + smoothing / (2 if multilabel else targets.shape[1])
