"""The plain way: one file after the other in one process, with the calls that ordinary notebooks
use.

The other side of every comparison in ``bench.py``. Steps, settings and sizes are the same as ours,
so that what comes out can be compared; only the way there is the usual one.
"""

from pathlib import Path

import librosa
import librosa.display
import matplotlib
import matplotlib.pyplot as plt
import noisereduce
import numpy as np
import soundfile
import torch
import torch.nn.functional as F

from helpers.audio import clean

matplotlib.use("Agg")
DOTS_PER_INCH = 100


def cleaned(path, config):
    """Decode, resample, trim, perhaps denoise, normalise: float32 [samples]."""
    rate, rules = config.audio.sample_rate, config.clean
    waveform, _ = librosa.load(path, sr=rate)
    waveform = waveform - waveform.mean()
    if rules.trim_db is not None:
        frame, keep = round(clean.FRAME_SECONDS * rate), round(0.05 * rate)
        _, (start, stop) = librosa.effects.trim(
            waveform, top_db=rules.trim_db, frame_length=frame, hop_length=frame // 4
        )
        waveform = waveform[max(0, start - keep) : stop + keep]
    if rules.denoise:
        noise = clean.quietest(waveform, rate)
        waveform = noisereduce.reduce_noise(
            y=waveform, sr=rate, stationary=True, y_noise=noise, prop_decrease=0.8
        )
    return waveform / np.abs(waveform).max() * rules.peak


def cut(waveform, config):
    """Clips of one length, end to end; the last one is kept where it is long enough, and filled
    up.
    """
    size, settings, clips = (
        round(config.audio.clip_seconds * config.audio.sample_rate),
        config.audio,
        [],
    )
    for start in range(0, len(waveform), size):
        piece = waveform[start : start + size]
        if start == 0 or len(piece) >= settings.min_last_fraction * size:
            looped = settings.short_clips == "loop"
            clips.append(
                np.resize(piece, size) if looped else librosa.util.fix_length(piece, size=size)
            )
    return clips


def log_mel(waveform, config):
    """Log-mel spectrogram in dB, float32 [mels, frames]."""
    features = config.features
    power = librosa.feature.melspectrogram(
        y=waveform,
        sr=config.audio.sample_rate,
        n_fft=features.n_fft,
        hop_length=features.hop_length,
        n_mels=features.n_mels,
        fmin=features.f_min,
        fmax=features.f_max,
    )
    return librosa.power_to_db(power, top_db=None)


def picture(mel, path, config, draw="specshow"):
    """A spectrogram as a PNG file of features.image_size pixels, drawn by matplotlib."""
    inches = config.features.image_size / DOTS_PER_INCH
    plt.figure(figsize=(inches, inches), dpi=DOTS_PER_INCH)
    if draw == "specshow":
        librosa.display.specshow(
            mel,
            sr=config.audio.sample_rate,
            hop_length=config.features.hop_length,
            cmap="magma",
            vmin=mel.max() - 80,
        )
    else:
        plt.imshow(mel, origin="lower", aspect="auto", cmap="magma", vmin=mel.max() - 80)
    plt.axis("off")
    plt.savefig(path)
    plt.close()


def prepare(work, config):
    """Recordings to cleaned WAV clips and PNG pictures in a new folder; returns each clip and its
    log-mel, by its name.

    Args: work of harness.Work; config.
    """
    folder = work.fresh()
    folder.mkdir(parents=True)
    made = {}
    for identity, path in work.paths.items():
        for number, clip in enumerate(cut(cleaned(path, config), config)):
            name = f"{identity}-{number:03d}"
            soundfile.write(
                Path(folder) / f"{name}.wav", clip, config.audio.sample_rate, subtype="PCM_16"
            )
            made[name] = clip, log_mel(clip, config)
            picture(made[name][1], Path(folder) / f"{name}.png", config, work.draw)
    return made


def windows(path, config):
    """A whole file in windows, half over each other, the last one at its end: (clips, seconds of
    sound in each).

    Of each window its silent edges are cut, the rest is brought to the file's peak and filled up.
    For files without digital silence inside; frames are counted from librosa's RMS.
    """
    rate, rules = config.audio.sample_rate, config.clean
    waveform, _ = librosa.load(path, sr=rate)
    waveform = waveform - waveform.mean()
    frame, keep = round(clean.FRAME_SECONDS * rate), round(0.05 * rate)
    rms = librosa.feature.rms(y=waveform, frame_length=frame, hop_length=frame // 4)[0]
    loud = np.flatnonzero(rms > rms.max() * 10 ** (-rules.trim_db / 20)) * (frame // 4)
    peak = np.abs(waveform[max(0, loud[0] - keep) : loud[-1] + frame // 4 + keep]).max()
    size, clips, seconds = round(config.audio.clip_seconds * rate), [], []
    starts = list(range(0, max(1, len(waveform) - size + 1), size // 2))
    rest = len(waveform) - size - starts[-1]
    for start in [*starts, *([starts[-1] + rest] if rest > rules.min_seconds * rate else [])]:
        heard = loud[(loud >= start) & (loud < start + size)]
        if len(heard) * (frame // 4) >= rules.min_seconds * rate:
            first, last = (
                max(start, heard[0] - keep),
                min(start + size, heard[-1] + frame // 4 + keep),
            )
            piece = waveform[first:last] / peak * rules.peak
            looped = config.audio.short_clips == "loop"
            clips.append(
                np.resize(piece, size) if looped else librosa.util.fix_length(piece, size=size)
            )
            seconds.append(len(piece) / rate)
    return clips, seconds


@torch.no_grad()
def score(paths, model, config):
    """Class probabilities [files, C]: each window of each file on its own through the network,
    counted by its sound.
    """
    found = []
    for path in paths:
        clips, seconds = windows(path, config)
        inputs = [
            model.standardise(torch.from_numpy(log_mel(clip, config))[None]) for clip in clips
        ]
        each = torch.cat([model.network(x).softmax(dim=1) for x in inputs]).numpy()
        found.append(np.average(each, axis=0, weights=seconds))
    return np.stack(found)


class Spectrograms(torch.utils.data.Dataset):
    """Stored spectrograms: a .npy file [bands, frames] per clip, and its class."""

    def __init__(self, paths, labels):
        self.paths, self.labels = paths, labels

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return torch.from_numpy(np.load(self.paths[index]))[None], self.labels[index]


def epoch(network, loader, optimiser):
    """One pass over the training clips: float32, eager, the loss fetched after each step. Returns
    the mean loss.
    """
    network.train()
    total = 0.0
    for spectrograms, labels in loader:
        optimiser.zero_grad()
        loss = F.cross_entropy(network(spectrograms), labels)
        loss.backward()
        optimiser.step()
        total += loss.item()
    return total / len(loader)
