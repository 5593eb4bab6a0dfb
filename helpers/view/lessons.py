"""Lessons: small pictures, with sound, of what a wave, a spectrum, a window and a band are."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import HTML
from matplotlib.figure import Figure

from helpers.audio import clean, features, recording
from helpers.base import targets
from helpers.view import boards, plots, style
from helpers.view.style import BLUE, styled

SECONDS = 3.0  # of the one sound that is followed through its pictures
CLOSE_SECONDS = 0.004  # of a wave seen sample by sample
SIZE = (3.8, 2.6)  # inches; three such pictures stand side by side on a laptop
WIDTH = 320  # pixels of a card, at least
BRIGHTEST = 0.995  # of the values of a picture of power; what is above has the same colour
RANGE_DB = 80.0  # a picture in dB shows this much below its loudest point
LEAST_POWER = 1e-10  # below it no logarithm is taken


# --- one sound


def one_sound(train: pd.DataFrame, root, config) -> tuple[str, torch.Tensor]:
    """The stretch of a recording whose spectrogram changes most, from band to band and in time.

    Of one recording of up to twelve labels, SECONDS around the loudest moment of each.
    Args: training rows of recordings.csv; root data folder; config. Returns (label in words,
        waveform float32 [samples] at the config's rate with a peak of 0.99).
    """
    rate = config.audio.sample_rate
    first = targets.one_each(train.sort_values("recording_id"), config.data.multilabel)
    sounds = {}
    for row in train.loc[first].head(12).itertuples():
        whole = recording.load(Path(root) / row.path, rate, config.audio.max_seconds)
        stretch = clean.normalise(_loudest(whole, rate))
        sounds[targets.in_words(row.label)] = torch.from_numpy(stretch)
    label = max(sounds, key=lambda name: _changes(sounds[name], config))
    return label, sounds[label]


def _loudest(waveform, rate):
    """SECONDS of a waveform, from a third before its loudest moment on."""
    levels = recording.frame_levels(waveform, rate)
    moment = int(levels.argmax() * recording.FRAME_SECONDS * rate)
    size = round(SECONDS * rate)
    start = max(0, min(moment - size // 3, len(waveform) - size))
    return waveform[start : start + size]


def _changes(waveform, config):
    """How much a log-mel spectrogram changes over time, times how much from band to band."""
    levels = features.shared_log_mel(config)(waveform[None])[0]
    levels = levels.clamp(min=levels.max() - 60)
    return float(levels.std(dim=1, correction=0).mean() * levels.diff(dim=0).abs().mean())


def wave(waveform: torch.Tensor, sample_rate: int) -> HTML:
    """A sound as a wave: all of it, to be heard, and a few milliseconds of it sample by sample.

    Args: waveform float32 [samples]; sample_rate in Hz.
    """
    sound = np.asarray(waveform)
    seconds = len(sound) / sample_rate
    size = max(2, round(CLOSE_SECONDS * sample_rate))
    loudest = int(np.abs(sound).argmax())
    start = max(0, min(loudest - size // 2, len(sound) - size))
    close = sound[start : start + size]
    counts = f"{len(sound):,} samples in {seconds:.1f} s, {sample_rate:,} in each second"
    few = f"{len(close)} samples, each a dot, around the loudest one"
    whole = boards.card("all of it", _outline(sound, sample_rate), sound, sample_rate, counts)
    dots = _samples(close, start / sample_rate, sample_rate)
    return boards.board([whole, boards.card("very close", dots, note=few)], WIDTH)


@styled
def _outline(waveform, rate) -> Figure:
    figure, axis = plt.subplots(figsize=SIZE)
    axis.fill_between(*plots.envelope(waveform, rate), color=BLUE, linewidth=0)
    axis.set(ylim=(-1, 1), xlim=(0, len(waveform) / rate), xlabel="seconds", ylabel="amplitude")
    return figure


@styled
def _samples(waveform, start_seconds, rate) -> Figure:
    figure, axis = plt.subplots(figsize=SIZE)
    milliseconds = 1000 * (start_seconds + np.arange(len(waveform)) / rate)
    axis.plot(milliseconds, waveform, "o-", markersize=3, linewidth=0.8, color=BLUE)
    axis.axhline(0, color=style.PALE, linewidth=0.6)
    axis.set(ylim=(-1.05, 1.05), xlabel="milliseconds", ylabel="amplitude")
    return figure


def spectrum(frequencies: torch.Tensor, magnitudes: torch.Tensor, title: str) -> HTML:
    """Which frequencies a sound holds, and how much of each: magnitudes [bins] at Hz [bins]."""
    peak = float(frequencies[magnitudes.argmax()])
    note = f"the strongest frequency: {peak:,.0f} Hz"
    return boards.board([boards.card(title, _bins(frequencies, magnitudes), note=note)], WIDTH)


@styled
def _bins(frequencies, magnitudes) -> Figure:
    figure, axis = plt.subplots(figsize=SIZE)
    axis.plot(frequencies / 1000, magnitudes, linewidth=0.6, color=BLUE)
    axis.set(xlabel="frequency (kHz)", ylabel="magnitude", ylim=(0, None))
    axis.set(xlim=(0, float(frequencies[-1]) / 1000))
    return figure


def spectrogram(
    levels: torch.Tensor, config, title: str, unit: str = "power", is_mel: bool = False
) -> HTML:
    """A spectrogram as a card: time to the right, frequency upwards, brighter is more.

    Args: levels [rows, columns], a column every hop; config; title; unit of the levels; is_mel
        where a row is a mel band, else a frequency bin.
    """
    rate = config.audio.sample_rate
    rows, columns = levels.shape
    seconds = (columns - 1) * config.features.hop_length / rate
    ticks = plots.mel_ticks(config.features, rate) if is_mel else _linear_ticks(rate / 2)
    picture = _image(np.asarray(levels), seconds, ticks, unit)
    note = f"{rows} rows x {columns} columns"
    return boards.board([boards.card(title, picture, note=note)], WIDTH)


@styled
def _image(levels, seconds, ticks, unit="dB") -> Figure:
    figure, axis = plt.subplots(figsize=SIZE)
    is_power = unit == "power"
    top = np.quantile(levels, BRIGHTEST) if is_power else levels.max()
    scale = {"vmin": 0 if is_power else top - RANGE_DB, "vmax": top}
    place = {"origin": "lower", "aspect": "auto", "extent": (0, seconds, 0, 1)}
    shown = axis.imshow(levels, cmap="magma", **scale, **place)
    figure.colorbar(shown, label=unit, extend="max" if is_power else "neither")
    axis.set(xlabel="seconds", ylabel="kHz")
    axis.set_yticks(*ticks)
    return figure


def _linear_ticks(highest_hz):
    """Places in [0, 1] of round frequencies on an axis that ends at `highest_hz`, and their names.

    >>> _linear_ticks(4000.0)
    ([0.0, 0.25, 0.5, 0.75, 1.0], ['0', '1', '2', '3', '4'])
    """
    step = next(step for step in (250, 500, 1000, 2000, 5000, 10000) if highest_hz / step < 6)
    hertz = np.arange(0, highest_hz + 1, step)
    return (hertz / highest_hz).tolist(), [f"{value / 1000:g}" for value in hertz]


# --- what the settings of a spectrogram do


def clicks_and_tones(sample_rate: int) -> np.ndarray:
    """Two clicks 30 ms apart, then two tones 60 Hz apart, of 1 s in all: float32 [samples].

    Which of the two pairs a spectrogram can tell apart is a matter of its window.
    """
    time = np.arange(sample_rate) / sample_rate
    tones = np.sin(2 * np.pi * 1000 * time) + np.sin(2 * np.pi * 1060 * time)
    sound = 0.2 * tones * (time >= 0.4)
    for moment in (0.15, 0.18):
        sound[round(moment * sample_rate)] = 0.99
    return sound.astype(np.float32)


def compare(waveform: np.ndarray, config, up_to_hz: float | None = None, **choice: list) -> HTML:
    """One sound seen with several values of one setting of `features`, side by side, in dB.

    Of n_mels the rows are mel bands, else the plain frequencies of the Fourier transform. Windows
    of several lengths all begin a quarter of the shortest apart, so that none skips a sound.
    Args: waveform float32 [samples]; config; up_to_hz where these end, None: half the rate; choice
        the setting and its values, such as n_fft=[256, 1024].
    """
    [(name, values)] = choice.items()
    draw = _mel_card if name == "n_mels" else _stft_card
    closest = {"hop_length": min(values) // 4} if name == "n_fft" else {}
    cards = []
    for value in values:
        settings = config.features.model_copy(update={name: value, **closest})
        changed = config.model_copy(update={"features": settings})
        cards.append(draw(f"{name} = {value}", waveform, changed, up_to_hz))
    return boards.board(cards, WIDTH)


def _stft_card(title, waveform, config, up_to_hz):
    """A card of a sound's short-time Fourier transform in dB."""
    rate = config.audio.sample_rate
    n_fft = config.features.n_fft
    hop = config.features.hop_length
    window = torch.hann_window(n_fft)
    samples = torch.from_numpy(np.ascontiguousarray(waveform))
    options = {"window": window, "pad_mode": "constant", "return_complex": True}
    power = torch.stft(samples, n_fft, hop, **options).abs().square()
    levels = 10 * power.clamp(min=LEAST_POWER).log10().numpy()
    highest = min(up_to_hz or rate / 2, rate / 2)
    rows = 1 + round(highest * n_fft / rate)
    picture = _image(levels[:rows], len(waveform) / rate, _linear_ticks(highest))
    ends = f"{1000 * n_fft / rate:.0f} ms every {1000 * hop / rate:.0f} ms"
    return boards.card(title, picture, note=f"{ends}, rows {rate / n_fft:.1f} Hz apart")


def _mel_card(title, waveform, config, _):
    """A card of a sound's log-mel spectrogram."""
    rate = config.audio.sample_rate
    samples = torch.from_numpy(np.ascontiguousarray(waveform))
    front_end = features.log_mel(config)
    levels = front_end(samples[None])[0].numpy()
    ticks = plots.mel_ticks(config.features, rate)
    picture = _image(levels, len(waveform) / rate, ticks)
    rows, columns = levels.shape
    return boards.card(title, picture, note=f"{rows} rows x {columns} columns")
