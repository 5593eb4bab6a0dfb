"""LogMel, the one front end of every consumer; packed waveforms; the feature table."""

import functools
import math
import re
import warnings
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import torch
from torch import nn
from torchaudio import transforms

from helpers.audio import recording
from helpers.base import artifacts, errors, work

RANGE_DB = 80.0  # an image shows this much below its loudest point
LOG_MEL = {"n_fft", "hop_length", "n_mels", "f_min", "f_max"}  # settings of a LogMel
IDENTITY = ["clip_id", "parent_id", "recording_id", "label", "split", "group", "fold"]
NOISE = "noise"  # the folder in clips/ of what is mixed in, beside train and test
FLOOR_DB = -100.0  # LogMel of digital silence
MEL_GROUPS = 32  # mel statistics of the feature table are taken over so many groups of bands

HARMLESS = ("images", "equal_images", "missing_features", "repeated_features")  # of what is found


class LogMel(nn.Module):
    """Log-mel spectrogram in dB re full scale, one module for training, the app and an export.

    Power of a centred Hann STFT (torchaudio), mel bands after Slaney (librosa), 10 log10 with a
    floor of 1e-10. Nothing depends on the clip's own maximum, so silence stays quiet. Agrees with
    ``librosa.power_to_db(librosa.feature.melspectrogram(...), top_db=None)``. Its buffers follow
    from its arguments and are not saved with a network.

    Args: sample_rate, f_min, f_max in Hz (None: half the sample rate); n_fft, hop_length in
        samples. Raises ValueError where a band would catch no frequency bin at all.
    Shape: waveforms [B, N] -> [B, n_mels, 1 + N // hop_length].

    >>> LogMel(16000, n_fft=512, hop_length=160, n_mels=40)(torch.zeros(2, 16000)).shape
    torch.Size([2, 40, 101])
    """

    def __init__(
        self,
        sample_rate: int,
        n_fft: int = 1024,
        hop_length: int = 320,
        n_mels: int = 128,
        f_min: float = 0.0,
        f_max: float | None = None,
    ):
        super().__init__()
        self.stft = transforms.Spectrogram(
            n_fft, hop_length=hop_length, power=None, pad_mode="constant"
        )
        self.stft.register_buffer("window", self.stft.window, persistent=False)
        self.decibels = transforms.AmplitudeToDB()
        # torchaudio's own mel filters end at 5512 Hz for 11025 Hz and so disagree with librosa's.
        bands = librosa.filters.mel(
            sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=f_min, fmax=f_max
        )
        if empty := int((bands.max(axis=1) == 0).sum()):
            raise errors.ConfigError(
                f"{empty} of {n_mels} mel bands catch no frequency bin: use fewer bands or a"
                f" longer n_fft than {n_fft}"
            )
        self.register_buffer("bands", torch.from_numpy(bands), persistent=False)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        spectrum = self.stft(waveforms)
        power = spectrum.real.square() + spectrum.imag.square()  # a root less than abs().square()
        return self.decibels(self.bands @ power)


def log_mel(config) -> LogMel:
    """The LogMel that a config describes, the first of several."""
    options = config.features.model_dump(include=LOG_MEL)
    return LogMel(config.audio.sample_rate, **options)


class Pcen(nn.Module):
    """Per-channel energy normalisation: each band divided by its own recent past (Wang et al. 2017,
    arXiv:1607.05666), so that what stays fades and what begins stands out.

    With the mean M of a band's energy E, in 32-bit steps, over about `seconds` before each frame it
    is (E / (1e-6 + M) ** 0.98 + 2) ** 0.5 - 2 ** 0.5. Agrees with ``librosa.pcen`` begun at the
    first frame's energy.

    Args: frame_seconds from one frame to the next; seconds.
    Shape: log-mel in dB [B, bands, frames] -> the same.
    """

    def __init__(self, frame_seconds: float, seconds: float = 0.4):
        super().__init__()
        squared = (seconds / frame_seconds) ** 2
        self.newest = (math.sqrt(1 + 4 * squared) - 1) / (2 * squared)  # its share of the mean

    def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
        energy = 2**31 * 10 ** (log_mel / 10)
        past = energy @ self.weights(log_mel).T
        return (energy / (1e-6 + past) ** 0.98 + 2).sqrt() - math.sqrt(2)

    def weights(self, log_mel: torch.Tensor) -> torch.Tensor:
        """What each frame (column) counts for in the mean at each frame (row)."""
        frame = torch.arange(log_mel.shape[2], device=log_mel.device, dtype=log_mel.dtype)
        age = frame[:, None] - frame
        share = 1 - (1 - self.newest) * (frame > 0)
        weights = share * (1 - self.newest) ** age.clamp(min=0)
        return weights * (age >= 0)


class Spectrograms(nn.Module):
    """Several front ends, the bands of one after those of the other: [B, N] -> [B, K x bands,
    frames].
    """

    def __init__(self, parts: list):
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.spectrograms = len(parts)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        return torch.cat([part(waveforms) for part in self.parts], dim=1)


def front_end(config) -> nn.Module:
    """What networks see of waveforms [B, N]: [B, K x bands, frames], of K spectrograms."""
    settings = config.features
    parts = []
    for n_fft in settings.windows:
        part = log_mel(config.but("features.n_fft", n_fft))
        if settings.kind == "pcen":
            part = nn.Sequential(part, Pcen(settings.hop_length / config.audio.sample_rate))
        parts.append(part)
    return parts[0] if len(parts) == 1 else Spectrograms(parts)


@functools.lru_cache(maxsize=8)
def shared_log_mel(config) -> LogMel:
    """The same, made once per config: for looking and describing, never moved to a device."""
    return log_mel(config)


# --- packed waveforms


def pack(clips: pd.DataFrame, copies: pd.DataFrame, folder, path, config) -> pd.DataFrame:
    """Pack all clips and augmented copies as int16 rows of one array that is memory-mapped later.

    Behind them lie the unlabelled clips, then the noise of train.noise_folder, if there are any.
    Args: clips, copies the tables of clips.csv and augmented.csv; folder the run folder; path of
        the .npy file to write; config. Returns the rows of waveforms.csv, in the array's order.
    """
    own = clips.set_index("clip_id")[["valid_seconds", *artifacts.sureness(clips)]]
    copies = copies.assign(split="train", start_seconds=0.0)
    copies = copies.merge(own, left_on="parent_id", right_index=True)
    clips = clips.assign(parent_id="")
    is_labelled = clips["split"].ne("unlabelled")
    rows = pd.concat([clips[is_labelled], copies, clips[~is_labelled]], ignore_index=True)
    size = round(config.audio.clip_seconds * config.audio.sample_rate)
    paths = [Path(folder) / clip for clip in rows["path"]]
    paths += sorted(Path(folder, "clips", NOISE).glob("*.flac"))
    packed = np.lib.format.open_memmap(path, mode="w+", dtype=np.int16, shape=(len(paths), size))
    for row, steps in enumerate(work.in_threads(recording.read_steps, paths, "pack waveforms")):
        packed[row] = steps
    packed.flush()
    return rows


def described(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of waveforms.csv that get features and embeddings: all before the unlabelled."""
    return rows[rows["split"].ne("unlabelled")]


def unpack(packed: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
    """Waveforms float32 in [-1, 1] from int16, images in [0, 1] from uint8, of any shape."""
    full = 255 if packed.dtype in (np.uint8, torch.uint8) else recording.STEPS
    if isinstance(packed, np.ndarray):
        return packed.astype(np.float32) / full
    return packed.float() / full


# --- feature table


def describe(waveform: np.ndarray, config) -> dict[str, float]:
    """Features of one clip, the table's row.

    Mean and deviation over time of spectral centroid, roll-off (85 %), bandwidth, flatness,
    zero-crossing rate, RMS, 20 MFCCs and the log-mel spectrum in MEL_GROUPS groups of bands.

    Args: waveform float32 [samples], without padding; config.
    """
    rate = config.audio.sample_rate
    n_fft = config.features.n_fft
    hop = config.features.hop_length
    waveform = np.pad(waveform, (0, max(0, n_fft - len(waveform))))
    magnitude = np.abs(librosa.stft(waveform, n_fft=n_fft, hop_length=hop)) + 1e-10
    of = librosa.feature
    centroid = of.spectral_centroid(S=magnitude, sr=rate)
    tracks = {
        "centroid": centroid[0],
        "rolloff": of.spectral_rolloff(S=magnitude, sr=rate)[0],
        "bandwidth": of.spectral_bandwidth(S=magnitude, sr=rate, centroid=centroid)[0],
        "flatness": of.spectral_flatness(S=magnitude)[0],
        "zero_crossing_rate": zero_crossing_rate(waveform, hop),
        "rms": of.rms(y=waveform, hop_length=hop)[0],
    }
    mel = shared_log_mel(config)(torch.from_numpy(waveform)[None])[0].numpy()
    for number, track in enumerate(of.mfcc(S=mel, n_mfcc=20), 1):
        tracks[f"mfcc_{number:02d}"] = track
    for number, group in enumerate(np.array_split(mel, min(MEL_GROUPS, len(mel))), 1):
        tracks[f"mel_{number:02d}"] = group.mean(axis=0)
    row = {}
    for name, track in tracks.items():
        row[f"{name}_mean"] = float(np.mean(track))
        row[f"{name}_std"] = float(np.std(track))
    return row


def zero_crossing_rate(
    waveform: np.ndarray, hop_length: int, frame_length: int = 2048
) -> np.ndarray:
    """Changes of sign per sample of each centred frame, as librosa counts them.

    No sample is looked at twice. Args: waveform float32 [samples]; hop_length, frame_length in
    samples. Returns float64 [frames].
    """
    padded = np.pad(waveform, frame_length // 2, mode="edge")
    negative = padded < -1e-10  # what is quieter is 0, and 0 is positive
    changes = np.diff(negative, prepend=negative[:1])
    crossed = np.cumsum(changes)  # up to each sample
    first = np.arange(0, len(padded) - frame_length + 1, hop_length)
    last = first + frame_length - 1
    return (crossed[last] - crossed[first]) / frame_length


def feature_table(packed: np.ndarray, rows: pd.DataFrame, config) -> pd.DataFrame:
    """The feature table: identity columns of waveforms.csv, and `describe`, a row per clip.

    Unlabelled clips have none. Args: packed int16 [clips, samples]; rows of waveforms.csv; config.
    """
    rows = described(rows)
    lengths = (rows["valid_seconds"] * config.audio.sample_rate).round().astype(int)
    lengths = lengths.clip(1, packed.shape[1]).to_numpy()

    def describe_row(index):
        return describe(unpack(packed[index][: lengths[index]]), config)

    with warnings.catch_warnings(), work.cpu_threads(1):
        warnings.filterwarnings("ignore", category=UserWarning, module="librosa")
        table = pd.DataFrame(work.in_threads(describe_row, range(len(rows)), "feature table"))
    identity = rows[IDENTITY].reset_index(drop=True)
    return pd.concat([identity, table.round(6)], axis=1)


def feature_columns(table: pd.DataFrame) -> list[str]:
    """The columns of a feature table that are features, not identity."""
    return [column for column in table if re.search(r"_(mean|std)$", column)]


def validate(packed: np.ndarray, rows: pd.DataFrame, table: pd.DataFrame) -> dict[str, list]:
    """Look at the packed waveforms and the feature table: lists of clip ids (empty is good).

    Silent waveforms; features missing (NaN or infinite), which the models fill with the training
    side's median; clips that repeat another clip's features to the last digit, of which a model
    learns from the first only.
    """
    columns = feature_columns(table)
    finite = np.isfinite(table[columns].to_numpy(float)).all(axis=1)
    return {
        "silent_waveforms": rows.loc[
            ~np.array([row.any() for row in packed[: len(rows)]]), "clip_id"
        ].tolist(),
        "missing_features": table.loc[~finite, "clip_id"].tolist(),
        "repeated_features": table.loc[table[columns].duplicated(), "clip_id"].tolist(),
    }


def agreement(waveform: np.ndarray, config) -> tuple[torch.Size, float]:
    """How far LogMel lies from librosa: (bands and frames, largest difference of the powers).

    The difference is relative to the largest power. Args: waveform float32 [samples]; config.
    """
    settings = config.features
    rate = config.audio.sample_rate
    theirs = librosa.feature.melspectrogram(
        y=waveform,
        sr=rate,
        n_fft=settings.n_fft,
        hop_length=settings.hop_length,
        n_mels=settings.n_mels,
        fmin=settings.f_min,
        fmax=settings.f_max,
    )
    ours_db = log_mel(config)(torch.from_numpy(waveform)[None])[0]
    ours = 10 ** (ours_db.numpy() / 10)
    difference = np.abs(ours - np.maximum(theirs, 1e-10)).max()
    return ours_db.shape, float(difference / theirs.max())


def means(table: pd.DataFrame) -> list[str]:
    """The columns of a feature table that are means over time, but for those of mel bands."""
    columns = [column for column in feature_columns(table) if column.endswith("_mean")]
    return [column for column in columns if "mel_" not in column]


def problems(found: dict) -> dict:
    """What should not be there, of what `validate` and `images.validate` found: the first few."""
    wrong = {name: hits for name, hits in found.items() if hits and name not in HARMLESS}
    return {name: hits[:5] for name, hits in wrong.items()}
