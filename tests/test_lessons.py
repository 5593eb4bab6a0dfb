"""Lessons: the pictures of a sound say what is true of it."""

import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from tables import small_config, tone

from helpers.base import errors
from helpers.view import lessons

matplotlib.use("Agg")

RATE = 8000


def words(page):
    """The text of a piece of HTML."""
    return re.sub(r"<[^>]+>", " ", page.data)


@pytest.fixture
def folder(tmp_path):
    """A steady noise, and a note that is struck four times; rows of recordings.csv."""
    time = np.arange(2 * RATE) / RATE
    struck = np.exp(-8 * (time % 0.5)) * sum(np.sin(2 * np.pi * f * time) for f in (400, 1300))
    hiss = np.random.default_rng(0).standard_normal(2 * RATE)
    for name, sound in {"hiss": hiss, "note": struck}.items():
        soundfile.write(tmp_path / f"{name}.wav", 0.05 * sound, RATE)
    rows = {"recording_id": ["a", "b"], "path": ["hiss.wav", "note.wav"], "label": ["hiss", "note"]}
    return tmp_path, pd.DataFrame(rows)


def test_the_example_is_a_sound_in_which_something_happens_at_full_level(folder):
    root, rows = folder
    label, sound = lessons.one_sound(rows, root, small_config())
    assert label == "note" and sound.dtype == torch.float32
    assert sound.abs().max() == pytest.approx(0.99, abs=1e-3)
    assert len(sound) <= lessons.SECONDS * small_config().audio.sample_rate


@pytest.mark.parametrize("n_samples", [1, 30, RATE])
def test_a_wave_is_seen_heard_and_counted(n_samples):
    page = lessons.wave(torch.ones(n_samples), RATE)
    assert page.data.count("<audio") == 1 and page.data.count("<img") == 2
    assert f"{n_samples:,} samples" in words(page) and f"{RATE:,} in each second" in words(page)


def test_a_spectrum_names_its_strongest_frequency():
    sound = torch.from_numpy(tone(440, RATE, 1.0))
    frequencies = torch.fft.rfftfreq(len(sound), 1 / RATE)
    page = lessons.spectrum(frequencies, torch.fft.rfft(sound).abs(), "a tone")
    assert "440 Hz" in words(page)


@pytest.mark.parametrize(("unit", "is_mel"), [("power", False), ("power", True), ("dB", True)])
def test_a_spectrogram_says_its_size_and_takes_silence(unit, is_mel):
    page = lessons.spectrogram(torch.zeros(8, 5), small_config(), "of nothing", unit, is_mel)
    assert "8 rows x 5 columns" in words(page)


def peaks(levels):
    """How many times the levels rise above half of the highest."""
    return int(np.sum(np.diff((levels > levels.max() / 2).astype(int), prepend=0) > 0))


@pytest.mark.parametrize(("n_fft", "clicks", "tones"), [(128, 2, 1), (4096, 1, 2)])
def test_no_window_shows_both_the_clicks_and_the_tones(n_fft, clicks, tones):
    sound = torch.from_numpy(lessons.clicks_and_tones(16000))
    window = torch.hann_window(n_fft)
    power = torch.stft(sound, n_fft, 16, window=window, return_complex=True).abs().numpy()
    above = power[n_fft // 4 :]  # 4 kHz, where only the clicks are
    assert peaks(above[:, : round(0.35 * 1000)].mean(axis=0)) == clicks
    assert peaks(power[:, round(0.7 * 1000)]) == tones


def test_a_setting_is_compared_a_card_for_each_value():
    config = small_config()
    for name, values in {"n_fft": [128, 512], "hop_length": [40, 160], "n_mels": [8, 16]}.items():
        page = lessons.compare(tone(440, RATE, 0.5), config, **{name: values})
        titles = re.findall(rf"{name} = (\d+)", words(page))
        assert set(titles) == {str(value) for value in values} and page.data.count("<img") == 2
    assert "16 rows" in words(page)


def test_bands_that_catch_nothing_are_refused_with_what_to_do():
    with pytest.raises(errors.ConfigError, match="use fewer bands"):
        lessons.compare(tone(440, RATE, 0.5), small_config(), n_mels=[512])
