"""LogMel, the one front end of every consumer; packed waveforms; the feature table."""

import functools
import re
import warnings
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import torch
from torch import nn

from helpers.audio import recording
from helpers.base import work

RANGE_DB = 80.0  # an image shows this much below its loudest point
MEL_GROUPS = 32  # mel statistics of the feature table are taken over so many groups of bands


class LogMel(nn.Module):
    """Log-mel spectrogram in dB (re full scale), a module so that training, the app and an export
    share it.

    Power of a centred Hann STFT, mel bands after Slaney (area-normalised), 10 log10 with a floor of
    1e-10. Nothing depends on the clip's own maximum, so silence stays quiet. Agrees with
    ``librosa.power_to_db(librosa.feature.melspectrogram(...), top_db=None)``.

    Shape: waveforms [B, N] -> [B, n_mels, 1 + N // hop_length].

    >>> LogMel(16000, n_fft=512, hop_length=160, n_mels=40)(torch.zeros(2, 16000)).shape
    torch.Size([2, 40, 101])
    """

    def __init__(self, sample_rate, n_fft=1024, hop_length=320, n_mels=128, f_min=0.0, f_max=None):
        super().__init__()
        self.n_fft, self.hop_length = n_fft, hop_length
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer(
            "bands", mel_filterbank(sample_rate, n_fft, n_mels, f_min, f_max), persistent=False
        )

    def forward(self, waveforms):
        spectrum = torch.stft(
            waveforms,
            self.n_fft,
            self.hop_length,
            window=self.window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        return 10 * torch.log10(torch.clamp(self.bands @ power, min=1e-10))


def log_mel(config):
    """The LogMel that a config describes."""
    features = config.features
    return LogMel(
        config.audio.sample_rate,
        features.n_fft,
        features.hop_length,
        features.n_mels,
        features.f_min,
        features.f_max,
    )


@functools.lru_cache(maxsize=8)
def shared_log_mel(config):
    """The same, made once per config: for looking and describing, where nobody moves it to another
    device.
    """
    return log_mel(config)


def hz_to_mel(hz):
    """Slaney's mel scale: linear below 1 kHz, logarithmic above (Slaney 1998, Auditory Toolbox).

    >>> hz_to_mel(np.array([0.0, 1000.0])).tolist()
    [0.0, 15.0]
    """
    return np.where(
        hz < 1000, hz * 3 / 200, 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4)
    )


def mel_to_hz(mel):
    """Inverse of hz_to_mel."""
    return np.where(
        mel < 15, mel * 200 / 3, 1000 * np.exp((np.maximum(mel, 15) - 15) * np.log(6.4) / 27)
    )


def mel_filterbank(sample_rate, n_fft, n_mels, f_min=0.0, f_max=None):
    """Triangular mel filters of equal area: float32 tensor [n_mels, 1 + n_fft // 2].

    Raises ValueError where a filter would catch no frequency bin at all.
    """
    frequencies = np.linspace(0, sample_rate / 2, 1 + n_fft // 2)
    ends = hz_to_mel(np.array([f_min, f_max or sample_rate / 2]))
    edges = mel_to_hz(np.linspace(*ends, n_mels + 2))
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    if empty := int((triangles.max(axis=1) == 0).sum()):
        raise ValueError(
            f"{empty} of {n_mels} mel bands catch no frequency bin: use fewer bands or a longer n_fft than {n_fft}"
        )
    return torch.from_numpy(triangles.astype(np.float32))


# --- packed waveforms
# --------------------------------------------------------------------------------------


def pack(clips, copies, folder, path, config):
    """Pack all clips and augmented copies as int16 rows of one array that is memory-mapped later.

    Args: clips, copies the tables of clips.csv and augmented.csv; folder the run folder; path of
        the .npy file to write; config. Returns the rows of waveforms.csv, in the array's order.
    """
    rows = pd.concat(
        [
            clips.assign(parent_id=""),
            copies.assign(split="train", start_seconds=0.0).merge(
                clips.set_index("clip_id")["valid_seconds"], left_on="parent_id", right_index=True
            ),
        ],
        ignore_index=True,
    )
    size = round(config.audio.clip_seconds * config.audio.sample_rate)
    packed = np.lib.format.open_memmap(path, mode="w+", dtype=np.int16, shape=(len(rows), size))
    loaded = work.in_threads(
        recording.read_steps, [Path(folder) / clip for clip in rows["path"]], "pack waveforms"
    )
    for row, waveform in enumerate(loaded):
        packed[row] = waveform
    packed.flush()
    return rows


def unpack(packed):
    """Waveforms float32 in [-1, 1] from int16, images in [0, 1] from uint8: NumPy array or tensor
    of any shape.
    """
    full = 255 if packed.dtype in (np.uint8, torch.uint8) else recording.STEPS
    return (
        packed.astype(np.float32) / full
        if isinstance(packed, np.ndarray)
        else packed.float() / full
    )


# --- feature table
# -----------------------------------------------------------------------------------------


def describe(waveform, config):
    """Features of one clip, the table's row: a flat dict of float.

    Mean and deviation over time of spectral centroid, roll-off (85 %), bandwidth, flatness,
    zero-crossing rate, RMS, 20 MFCCs and the log-mel spectrum in MEL_GROUPS groups of bands.

    Args: waveform float32 [samples], without padding; config.
    """
    features, rate = config.features, config.audio.sample_rate
    waveform = np.pad(waveform, (0, max(0, features.n_fft - len(waveform))))
    frames = {"n_fft": features.n_fft, "hop_length": features.hop_length}
    magnitude = np.abs(librosa.stft(waveform, **frames)) + 1e-10
    mel = shared_log_mel(config)(torch.from_numpy(waveform)[None])[0].numpy()
    groups = [group.mean(axis=0) for group in np.array_split(mel, min(MEL_GROUPS, len(mel)))]
    centroid = librosa.feature.spectral_centroid(S=magnitude, sr=rate)
    tracks = {
        "centroid": centroid[0],
        "rolloff": librosa.feature.spectral_rolloff(S=magnitude, sr=rate)[0],
        "bandwidth": librosa.feature.spectral_bandwidth(S=magnitude, sr=rate, centroid=centroid)[0],
        "flatness": librosa.feature.spectral_flatness(S=magnitude)[0],
        "zero_crossing_rate": zero_crossing_rate(waveform, features.hop_length),
        "rms": librosa.feature.rms(y=waveform, hop_length=features.hop_length)[0],
        **{
            f"mfcc_{i:02d}": track
            for i, track in enumerate(librosa.feature.mfcc(S=mel, n_mfcc=20), 1)
        },
        **{f"mel_{i:02d}": track for i, track in enumerate(groups, 1)},
    }
    return {
        f"{name}_{stat}": float(getattr(np, stat)(track))
        for name, track in tracks.items()
        for stat in ("mean", "std")
    }


def zero_crossing_rate(waveform, hop_length, frame_length=2048):
    """Changes of sign per sample of each centred frame, as librosa counts them, without looking at
    a sample twice.

    Args: waveform float32 [samples]; hop_length, frame_length in samples. Returns float64 [frames].
    """
    padded = np.pad(waveform, frame_length // 2, mode="edge")
    negative = padded < -1e-10  # what is quieter is 0, and 0 is positive
    crossed = np.concatenate(([0], np.cumsum(negative[1:] != negative[:-1])))  # up to each sample
    first = np.arange(0, len(padded) - frame_length + 1, hop_length)
    return (crossed[first + frame_length - 1] - crossed[first]) / frame_length


def feature_table(packed, rows, config):
    """The feature table: identity columns of waveforms.csv and the features of `describe`, a row
    per clip.

    Args: packed int16 [clips, samples]; rows of waveforms.csv; config.
    """
    lengths = (
        (rows["valid_seconds"] * config.audio.sample_rate)
        .round()
        .astype(int)
        .clip(1, packed.shape[1])
        .to_numpy()
    )
    with warnings.catch_warnings(), work.cpu_threads(1):
        warnings.filterwarnings("ignore", category=UserWarning, module="librosa")
        described = work.in_threads(
            lambda i: describe(unpack(packed[i][: lengths[i]]), config),
            range(len(rows)),
            "feature table",
        )
        table = pd.DataFrame(list(described))
    identity = rows[
        ["clip_id", "parent_id", "recording_id", "label", "split", "group", "fold"]
    ].reset_index(drop=True)
    return pd.concat([identity, table.round(6)], axis=1)


def feature_columns(table):
    """The columns of a feature table that are features, not identity."""
    return [column for column in table if re.search(r"_(mean|std)$", column)]


def validate(packed, rows, table):
    """Look at the packed waveforms and the feature table: a dict of lists of clip ids (empty is
    good).

    Silent waveforms; features missing (NaN or infinite), which the models fill with the training
    side's median; clips that repeat another clip's features to the last digit, of which a model
    learns from the first only.
    """
    columns = feature_columns(table)
    finite = np.isfinite(table[columns].to_numpy(float)).all(axis=1)
    return {
        "silent_waveforms": rows.loc[~np.array([row.any() for row in packed]), "clip_id"].tolist(),
        "missing_features": table.loc[~finite, "clip_id"].tolist(),
        "repeated_features": table.loc[table[columns].duplicated(), "clip_id"].tolist(),
    }
