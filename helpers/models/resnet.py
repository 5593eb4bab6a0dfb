"""A residual network for spectrograms that knows which frequency it looks at.

Pre-activation blocks (He et al. 2016, arXiv:1603.05027); a second input channel with the frequency
coordinate (Liu et al. 2018, arXiv:1807.03247), because the same shape an octave higher is another
sound; pooled over frequency, then time.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import nn


class ResNet(nn.Module):
    """A stem, residual blocks that halve the size of the picture, pooling, one linear layer.

    Args: n_classes; channels of the stem, then of each block, which halves the size where it
        changes their number; stem_stride 1 or 2; coordinate: whether the frequency is an input;
        pooling over time, "mean", "mean_max", "gem" (generalised mean, Radenovic et al. 2018,
        arXiv:1711.02512) or "attention"; dropout before the linear layer; multilabel as of
        Attention; spectrograms K.
    Shape: standardised log-mel [B, K, mels, frames] -> logits [B, n_classes].

    >>> ResNet(10, (8, 8, 16))(torch.zeros(2, 1, 64, 157)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        n_classes,
        channels,
        stem_stride=2,
        coordinate=True,
        pooling="mean_max",
        dropout=0.2,
        multilabel=False,
        spectrograms=1,
    ):
        super().__init__()
        kernel = 3 if stem_stride == 1 else 5
        self.coordinate = coordinate
        self.stem = nn.Conv2d(
            spectrograms + coordinate, channels[0], kernel, stem_stride, kernel // 2, bias=False
        )
        self.blocks = nn.Sequential(
            *(Block(a, b, 1 if a == b else 2) for a, b in itertools.pairwise(channels))
        )
        self.norm = nn.BatchNorm2d(channels[-1])
        self.pool = Pool(pooling)
        width = channels[-1] * self.pool.width
        self.frame_length = None  # frames of the spectrogram to one of `frames`
        if pooling == "attention":
            halved = sum(block.around is not None for block in self.blocks)
            self.frame_length = stem_stride * 2**halved
            self.head = Attention(width, n_classes, dropout, multilabel)
        else:
            self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, n_classes))

    def forward(self, x):
        return self.head(self.pool(self.maps(x)))

    def frames(self, x):
        """Logits of each frame [B, n_classes, frames / frame_length], with attention only."""
        return self.head.frames(self.pool(self.maps(x)))

    def maps(self, x):
        """What the last block makes of a picture: [B, C, H, W], not below 0."""
        if self.coordinate:
            frequency = torch.linspace(-1, 1, x.shape[2], device=x.device, dtype=x.dtype)
            frequency = frequency[:, None].expand(x.shape[0], 1, -1, x.shape[3])
            x = torch.cat([x, frequency], dim=1)
        x = self.blocks(self.stem(x))
        return F.relu(self.norm(x), inplace=True)


class Block(nn.Module):
    """BatchNorm, ReLU, convolution, twice, and the way around them: [B, C, H, W] -> [B, C', H /
    stride, W / stride].
    """

    def __init__(self, channels_in, channels_out, stride=1):
        super().__init__()
        self.norm_1 = nn.BatchNorm2d(channels_in)
        self.norm_2 = nn.BatchNorm2d(channels_out)
        self.convolution_1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.convolution_2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.around = None
        if channels_in != channels_out or stride > 1:
            halve = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
            self.around = nn.Sequential(halve, nn.Conv2d(channels_in, channels_out, 1, bias=False))

    def forward(self, x):
        ready = F.relu(self.norm_1(x))
        past = x if self.around is None else self.around(ready)
        return past + self.convolution_2(
            F.relu(self.norm_2(self.convolution_1(ready)), inplace=True)
        )


class Pool(nn.Module):
    """The mean over frequency, then over time the mean, the mean and the maximum, or the
    generalised mean; for attention the frames are left to the head.

    Shape: [B, C, H, W], not below 0 -> [B, C x width], width 2 for "mean_max", else 1; for
    "attention" -> [B, W, C].
    """

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.width = 2 if how == "mean_max" else 1
        if how == "gem":
            self.power = nn.Parameter(torch.tensor(3.0))

    def forward(self, x):
        x = x.mean(dim=2)
        if self.how == "attention":
            return x.transpose(1, 2)
        if self.how == "gem":
            return x.float().clamp(min=1e-4).pow(self.power).mean(dim=2).pow(1 / self.power)
        mean = x.mean(dim=2)
        return torch.cat([mean, x.amax(dim=2)], dim=1) if self.how == "mean_max" else mean


class Attention(nn.Module):
    """Every frame answers, and for each class those count that attend to it (Kong et al. 2020,
    arXiv:1912.10211), so that labels of whole clips teach when a sound is heard.

    With several labels the probability of a class is the mean of the frames' probabilities,
    weighted with its attention, a softmax over time; else the logits are averaged so.

    Shape: [B, T, C] -> logits [B, n_classes].
    """

    def __init__(self, width, n_classes, dropout, multilabel):
        super().__init__()
        self.multilabel = multilabel
        self.dropout = nn.Dropout(dropout)
        self.attention = nn.Linear(width, n_classes)
        self.answer = nn.Linear(width, n_classes)

    def forward(self, x):
        x = self.dropout(x)
        attention = self.attention(x).float().log_softmax(dim=1)
        answer = self.answer(x).float()
        if not self.multilabel:
            return (attention.exp() * answer).sum(dim=1)
        # the logit of the mean, log p - log (1 - p), is finite however sure the frames are
        heard = attention + F.logsigmoid(answer)
        unheard = attention + F.logsigmoid(-answer)
        return heard.logsumexp(dim=1) - unheard.logsumexp(dim=1)

    def frames(self, x):
        """Logits of each frame [B, n_classes, T]."""
        return self.answer(x).float().transpose(1, 2)
