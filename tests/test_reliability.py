"""Bad input, row by row: what comes in, and what becomes of it. The numbers are those of the
failure table.

Where a row is about a file, the file is made here byte by byte; where it is about a folder, the
folder is.
"""

import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import scipy.signal
import soundfile
import soxr
from signals import (
    chunk,
    encoded,
    encoded_av,
    encoded_mp3,
    half,
    id3,
    noise,
    plant,
    recordings_table,
    riff,
    tone,
    wav_bytes,
    wav_format,
    write_wav,
)

from helpers.audio import clean, decoder, recording, windowing
from helpers.base import artifacts, errors, settings
from helpers.base.errors import AudioIssue
from helpers.data import sources
from helpers.run import presets
from helpers.splits import partition, rules

RATE = 16000
ROOT = Path(__file__).resolve().parent.parent
CHORD = tone(440, 2, amplitude=0.3) + tone(1333, 2, amplitude=0.2) + noise(2, rms=0.01)
PCM = (CHORD * 32767).astype("<i2").tobytes()
STEREO = np.stack([CHORD, CHORD[::-1]], axis=1)
HISS = noise(10)


def decode(folder, content, **limits):
    (folder / "x").write_bytes(content)
    return decoder.decode(folder / "x", **limits)


def code_of(folder, content, **limits):
    with pytest.raises(AudioIssue) as refusal:
        decode(folder, content, **limits)
    return refusal.value.code


def rows(*cases):
    """Cases (row, what it is, …) as parameters whose ids begin with the row's number."""
    return [pytest.param(*rest, id=f"{row}-{name}") for row, name, *rest in cases]


# --- 1 to 11, 19 to 24, 27 and 28: what the gate refuses ---------------------------------------


def with_sample(value):
    return encoded(np.where(np.arange(len(CHORD)) == 1000, value, CHORD), subtype="FLOAT")


def guid(codec, tail="000000001000800000aa00389b71"):
    return struct.pack("<HHIH", 22, 16, 4, codec) + bytes.fromhex(tail)


REFUSED = rows(
    (1, "no bytes", "EMPTY_FILE", lambda: b""),
    (2, "header only", "EMPTY_AUDIO", lambda: wav_bytes(b"")),
    (2, "AIFF of no samples", "EMPTY_AUDIO", lambda: encoded(CHORD[:0], format="AIFF")),
    (3, "text", "NOT_AUDIO", lambda: b"this is no sound at all, whatever its name"),
    (3, "text in UTF-16", "NOT_AUDIO", lambda: "no sound at all".encode("utf-16")),
    (3, "PDF", "NOT_AUDIO", lambda: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj"),
    (3, "ZIP", "NOT_AUDIO", lambda: b"PK\x03\x04" + PCM),
    (3, "HTML", "NOT_AUDIO", lambda: b"<!DOCTYPE html><html>"),
    (3, "JSON", "NOT_AUDIO", lambda: b'{"error": "not found"}'),
    (3, "PNG", "NOT_AUDIO", lambda: b"\x89PNG\r\n\x1a\n" + bytes(100)),
    (3, "0xFF only", "NOT_AUDIO", lambda: b"\xff" * 5000),
    (3, "ID3 tag before a WAV", "NOT_AUDIO", lambda: id3(50) + encoded(CHORD)),
    (3, "IFF that is no AIFF", "NOT_AUDIO", lambda: encoded(CHORD, format="SVX")),
    (4, "header cut at 20 bytes", "NOT_AUDIO", lambda: encoded(CHORD)[:20]),
    (4, "no format", "NOT_AUDIO", lambda: riff(chunk(b"data", PCM))),
    (4, "format behind the sound", "NOT_AUDIO", lambda: riff(chunk(b"data", PCM), wav_format())),
    (4, "a chunk longer than the file", "NOT_AUDIO", lambda: riff(wav_format(), b"JUNK\xf0\xff\xff\xff", PCM)),
    (4, "no channel", "NOT_AUDIO", lambda: riff(wav_format(channels=0), chunk(b"data", PCM))),
    (4, "0 bits", "CODEC_NOT_ALLOWED", lambda: riff(wav_format(bits=0, width=2), chunk(b"data", PCM))),
    (4, "12 bits in 1 byte", "CODEC_NOT_ALLOWED", lambda: riff(wav_format(bits=12, width=1), chunk(b"data", PCM))),
    (4, "24 bits in 4 bytes", "CODEC_NOT_ALLOWED", lambda: riff(wav_format(bits=24, width=4), chunk(b"data", PCM))),
    (4, "float of 16 bits", "CODEC_NOT_ALLOWED", lambda: riff(wav_format(codec=3), chunk(b"data", PCM))),
    (5, "WAV cut in half", "TRUNCATED", lambda: half(encoded(CHORD))),
    (5, "RF64 cut in half", "TRUNCATED", lambda: half(encoded(CHORD, format="RF64"))),
    (5, "AIFF cut in half", "TRUNCATED", lambda: half(encoded(CHORD, format="AIFF"))),
    (5, "AU cut in half", "TRUNCATED", lambda: half(encoded(CHORD, format="AU"))),
    (5, "M4A cut in half", "TRUNCATED", lambda: half(encoded_av(CHORD))),
    (5, "M4A without its end", "TRUNCATED", lambda: half(encoded_av(CHORD), 0.95)),
    (5, "AAC cut in half", "TRUNCATED", lambda: half(encoded_av(CHORD, format="adts"))),
    (5, "WebM cut in half", "TRUNCATED", lambda: half(encoded_av(CHORD, 48000, "webm", "libopus"))),
    (6, "FLAC cut in half", "TRUNCATED", lambda: half(encoded(CHORD, format="FLAC"))),
    (6, "FLAC without its end", "TRUNCATED", lambda: half(encoded(CHORD, format="FLAC"), 0.99)),
    (7, "MP3 cut in half", "TRUNCATED", lambda: half(encoded(CHORD, format="MP3"))),
    (7, "MP3 without its end", "TRUNCATED", lambda: half(encoded(HISS, format="MP3"), 0.97)),
    (7, "CBR without a count", "TRUNCATED", lambda: half(encoded_mp3(CHORD, counted=False), 0.51)),
    (7, "VBR without a count", "TRUNCATED", lambda: half(encoded_mp3(CHORD, counted=False, variable=True), 0.51)),
    (7, "VBR with a count", "TRUNCATED", lambda: half(encoded_mp3(CHORD, variable=True))),
    (7, "MP3 behind an ID3 tag", "TRUNCATED", lambda: half(id3(2000) + encoded_mp3(HISS, counted=False), 0.61)),
    (7, "cut in its ID3 tag", "TRUNCATED", lambda: id3(2000)[:1000]),
    (8, "OGG cut in half", "TRUNCATED", lambda: half(encoded(HISS, format="OGG"))),
    (8, "last page cut", "TRUNCATED", lambda: encoded(HISS, format="OGG")[:-100]),
    (8, "last page missing", "TRUNCATED", lambda: encoded(HISS, format="OGG").rpartition(b"OggS")[0]),
    (8, "Opus cut in half", "TRUNCATED", lambda: half(encoded(HISS, 48000, "OGG", "OPUS"))),
    (10, "size 0, sound behind it", "EMPTY_AUDIO", lambda: wav_bytes(declared=0)),
    (19, "IMA ADPCM", "CODEC_NOT_ALLOWED", lambda: wav_bytes(codec=0x11, bits=4)),
    (19, "MS ADPCM", "CODEC_NOT_ALLOWED", lambda: encoded(CHORD, subtype="MS_ADPCM")),
    (19, "ADPCM behind WAVEX", "CODEC_NOT_ALLOWED", lambda: wav_bytes(codec=0xFFFE, extra=guid(2))),
    (19, "WAVEX of another family", "CODEC_NOT_ALLOWED", lambda: wav_bytes(codec=0xFFFE, extra=guid(1, "99" * 14))),
    (19, "GSM", "CODEC_NOT_ALLOWED", lambda: encoded(CHORD, subtype="GSM610")),
    (19, "MP3 in WAV", "CODEC_NOT_ALLOWED", lambda: wav_bytes(codec=0x55)),
    (19, "IMA in AIFF", "CODEC_NOT_ALLOWED", lambda: encoded(CHORD, format="AIFF", subtype="IMA_ADPCM")),
    (19, "G721 in AU", "CODEC_NOT_ALLOWED", lambda: encoded(CHORD, format="AU", subtype="G721_32")),
    (19, "CAF", "CODEC_NOT_ALLOWED", lambda: encoded(CHORD, format="CAF", subtype="ALAC_16")),
    (19, "Wave64", "CODEC_NOT_ALLOWED", lambda: encoded(CHORD, format="W64")),
    (19, "AC-3 in Matroska", "CODEC_NOT_ALLOWED", lambda: encoded_av(CHORD, 48000, "matroska", "ac3")),
    (19, "Speex in Ogg", "CODEC_NOT_ALLOWED", lambda: encoded(CHORD, format="OGG").replace(b"\1vorbis", b"Speex  ")),
    (22, "1024 channels", "TOO_MANY_CHANNELS", lambda: wav_bytes(bytes(2048 * 8), channels=1024)),
    (22, "17 channels", "TOO_MANY_CHANNELS", lambda: wav_bytes(bytes(34 * 8), channels=17)),
    (24, "0 Hz", "BAD_RATE", lambda: wav_bytes(sample_rate=0)),
    (24, "1 Hz", "BAD_RATE", lambda: wav_bytes(sample_rate=1)),
    (24, "2 GHz", "BAD_RATE", lambda: wav_bytes(sample_rate=2_000_000_000)),
    (24, "AU of 1 Hz", "BAD_RATE", lambda: encoded(CHORD, 1, "AU")),
    (24, "AIFF of 1 MHz", "BAD_RATE", lambda: encoded(CHORD, 1_000_000, "AIFF")),
    (27, "NaN", "NONFINITE", lambda: with_sample(np.nan)),
    (28, "Inf", "NONFINITE", lambda: with_sample(np.inf)),
    (28, "beyond float32", "NONFINITE", lambda: encoded(np.full(100, 1e300), subtype="DOUBLE")),
)  # fmt: skip


@pytest.mark.parametrize(("code", "content"), REFUSED)
def test_what_cannot_be_used_is_refused_by_its_code(tmp_path, code, content):
    assert code_of(tmp_path, content()) == code


def test_10_a_size_of_0_is_named_as_the_cause(tmp_path):
    with pytest.raises(AudioIssue, match="size 0"):
        decode(tmp_path, wav_bytes(declared=0))


UNSEEN = [case for case in REFUSED if case.id.startswith(("19-", "22-", "24-"))]
UNSEEN = [
    case for case in UNSEEN if "AIFF of" not in case.id and "AC-3" not in case.id
]  # told by the decoder's reading


@pytest.mark.parametrize(("code", "content"), UNSEEN)
def test_no_decoder_sees_what_is_not_allowed(tmp_path, monkeypatch, code, content):
    made = content()
    monkeypatch.setattr(
        soundfile, "SoundFile", lambda *_, **__: pytest.fail("libsndfile opened it")
    )
    monkeypatch.setattr(av, "open", lambda *_, **__: pytest.fail("FFmpeg opened it"))
    assert code_of(tmp_path, made) == code


def test_15_only_regular_files_are_opened(tmp_path):
    (tmp_path / "x.wav").mkdir()
    os.mkfifo(tmp_path / "fifo.wav")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.wav"))
    for path in (
        tmp_path / "x.wav",
        tmp_path / "fifo.wav",
        tmp_path / "socket.wav",
        Path("/dev/zero"),
    ):
        with pytest.raises(AudioIssue, match="NOT_REGULAR"):
            decoder.decode(path)


def test_16_a_file_that_may_not_be_read_is_unreadable(tmp_path, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied")

    path = write_wav(tmp_path / "x.wav", CHORD)
    monkeypatch.setattr(
        decoder, "open", refuse, raising=False
    )  # root may read everything, so refuse by hand
    with pytest.raises(AudioIssue, match=r"UNREADABLE: .*Permission denied"):
        decoder.decode(path)


# --- 9, 11, 17, 18, 20, 21, 25: what the gate lets through -------------------------------------

ODD = chunk(b"JUNK", b"abc")  # padded to an even length
INFO = chunk(b"LIST", b"INFO" + chunk(b"INAM", b"title"))
DATA = chunk(b"data", PCM)
STREAM = wav_bytes(PCM, declared=0xFFFFFFFF)

ACCEPTED = rows(
    (9, "streaming header", lambda: STREAM, len(CHORD), 1e-4),
    (9, "FFmpeg's streaming header", lambda: wav_bytes(PCM, declared=0x7FFFFFFF), len(CHORD), 1e-4),
    (9, "RIFF size unknown too", lambda: STREAM[:4] + b"\xff" * 4 + STREAM[8:], len(CHORD), 1e-4),
    (11, "junk of an odd size", lambda: riff(wav_format(), ODD, DATA), len(CHORD), 1e-4),
    (11, "tags before the format", lambda: riff(INFO, wav_format(), DATA), len(CHORD), 1e-4),
    (11, "unknown chunks all around", lambda: riff(ODD, wav_format(), ODD, DATA, ODD), len(CHORD), 1e-4),
    (11, "trailing bytes", lambda: encoded(CHORD) + b"garbage" * 99, len(CHORD), 1e-4),
    (11, "FLAC behind an ID3 tag", lambda: id3(100) + encoded(CHORD, format="FLAC"), len(CHORD), 1e-4),
    (11, "FLAC and trailing bytes", lambda: encoded(CHORD, format="FLAC") + b"garbage" * 99, len(CHORD), 1e-4),
    (11, "MP3 behind two ID3 tags", lambda: id3(99) + id3(9) + encoded(CHORD, format="MP3"), len(CHORD), 0.05),
    (11, "MP3 before an ID3v1 tag", lambda: encoded(CHORD, format="MP3") + b"TAG" + bytes(125), len(CHORD), 0.05),
    (11, "OGG and trailing bytes", lambda: encoded(CHORD, format="OGG") + b"garbage" * 99, len(CHORD), 0.1),
    (17, "8 bits", lambda: encoded(CHORD, subtype="PCM_U8"), len(CHORD), 1 / 127),
    (17, "12 bits", lambda: riff(wav_format(bits=12, width=2), DATA), len(CHORD), 1e-4),
    (17, "16 bits", lambda: encoded(CHORD, subtype="PCM_16"), len(CHORD), 2**-15),
    (17, "24 bits", lambda: encoded(CHORD, subtype="PCM_24"), len(CHORD), 2**-23),
    (17, "32 bits", lambda: encoded(CHORD, subtype="PCM_32"), len(CHORD), 2**-24),
    (17, "float", lambda: encoded(CHORD, subtype="FLOAT"), len(CHORD), 0),
    (17, "double", lambda: encoded(CHORD, subtype="DOUBLE"), len(CHORD), 2**-24),
    (18, "A-law", lambda: encoded(CHORD, subtype="ALAW"), len(CHORD), 0.02),
    (18, "mu-law", lambda: encoded(CHORD, subtype="ULAW"), len(CHORD), 0.02),
    (20, "extensible", lambda: encoded(CHORD, format="WAVEX"), len(CHORD), 1e-4),
    (20, "RF64", lambda: encoded(CHORD, format="RF64"), len(CHORD), 1e-4),
    (20, "big-endian", lambda: encoded(CHORD, format="WAV", endian="BIG"), len(CHORD), 1e-4),
)  # fmt: skip


@pytest.mark.parametrize(("content", "n_samples", "error"), ACCEPTED)
def test_what_can_be_read_is_read_whole(tmp_path, content, n_samples, error):
    decoded = decode(tmp_path, content())
    assert decoded.waveform.shape == (n_samples, 1)
    assert np.abs(decoded.waveform[:, 0] - CHORD).max() <= error + 1e-9


@pytest.mark.parametrize(
    ("content", "times"),
    rows(
        (
            8,
            "chained Vorbis",
            lambda: encoded(CHORD, format="OGG") + encoded(CHORD[::-1], format="OGG"),
            2,
        ),
        (8, "chained Opus", lambda: 2 * encoded(HISS[: len(CHORD)], 48000, "OGG", "OPUS"), 2),
        (7, "MP3 behind another", lambda: 2 * encoded(CHORD, format="MP3"), 2),
        (
            7,
            "padding behind an ID3 tag",
            lambda: id3(99) + bytes(500) + encoded(CHORD, format="MP3"),
            1,
        ),
    ),
)
def test_no_part_of_a_file_is_lost_in_silence(tmp_path, content, times):
    assert len(decode(tmp_path, content()).waveform) == pytest.approx(times * len(CHORD), rel=0.1)


def test_a_band_of_frames_is_no_mp3_behind_anything_but_a_tag(tmp_path):
    assert code_of(tmp_path, b"garbage" * 50 + encoded(CHORD, format="MP3")) == "NOT_AUDIO"


@pytest.mark.parametrize("format", ["MP3", "FLAC"])
def test_11_a_wrong_name_is_flagged_and_read(tmp_path, format):
    for name in ("dog/1.wav", "cat/2.wav"):
        plant(tmp_path, name, content=encoded(CHORD, format=format))
    found = survey(tmp_path)
    assert found["flags"].tolist() == ["EXT_MISMATCH"] * 2
    assert found["codec"].str.startswith(format).all()


@pytest.mark.parametrize(("channels", "subtype"), [(6, "PCM_16"), (3, "PCM_24"), (16, "PCM_16")])
def test_21_many_channels_become_one_and_are_noted(tmp_path, channels, subtype):
    waveform = np.stack([CHORD * k / channels for k in range(1, channels + 1)], axis=1)
    decoded = decode(tmp_path, encoded(waveform, subtype=subtype))
    assert recording.measure(decoded)["channels"] == channels
    np.testing.assert_allclose(
        recording.to_mono(decoded.waveform)[0], waveform.mean(axis=1), atol=1e-4
    )


def test_23_opposite_channels_are_heard_and_flagged(tmp_path):
    decoded = decode(tmp_path, encoded(np.stack([CHORD, -CHORD], axis=1)))
    assert recording.measure(decoded)["flags"] == "PHASE_CANCEL"
    assert recording.level_db(recording.load(tmp_path / "x", RATE)) == pytest.approx(
        recording.level_db(CHORD), abs=0.01
    )


@pytest.mark.parametrize("rate", [4000, 8000, 11025, 44100, 96000, 192000, 384000])
def test_25_any_usual_rate_gives_the_exact_length(tmp_path, rate):
    (tmp_path / "x").write_bytes(encoded(noise(1.5, rate), rate))
    n_samples = len(noise(1.5, rate))
    assert abs(len(recording.load(tmp_path / "x", RATE)) - n_samples * RATE / rate) <= 0.5 + 1e-9


# --- 26 to 36, 39: what is flagged, and what is set aside by the rules -------------------------


def facts_of(waveform, rate=RATE):
    waveform = np.asarray(waveform, np.float32)
    return recording.measure(
        decoder.Decoded(waveform.reshape(len(waveform), -1), rate, "WAV/PCM_16", 16)
    )


def in_16_bits(waveform):
    return np.round(np.asarray(waveform) / np.abs(waveform).max() * 16000) / 32768


def low_passed(order, cutoff, rate=48000, seconds=2):
    sections = scipy.signal.butter(order, cutoff, fs=rate, output="sos")
    return scipy.signal.sosfilt(sections, noise(seconds, rate))


def brick(cutoff, rate=48000):
    spectrum = np.fft.rfft(noise(2, rate))
    return np.fft.irfft(np.where(np.fft.rfftfreq(2 * rate, 1 / rate) < cutoff, spectrum, 0))


TIME = np.arange(96000) / 48000
THUD = np.sin(2 * np.pi * 70 * TIME) * np.exp(-12 * TIME)


@pytest.mark.parametrize(
    ("waveform", "rate", "hz"),
    rows(
        (26, "8 kHz as 48 kHz", lambda: soxr.resample(noise(2, 8000), 8000, 48000), 48000, 4000),
        (26, "8 kHz as 16 kHz", lambda: soxr.resample(noise(2, 8000), 8000, 16000), 16000, 4000),
        (26, "8 kHz as 44.1 kHz", lambda: soxr.resample(noise(2, 8000), 8000, 44100), 44100, 4000),
        (
            26,
            "22.05 kHz as 44.1 kHz",
            lambda: soxr.resample(noise(2, 22050), 22050, 44100),
            44100,
            11025,
        ),
        (
            26,
            "by SciPy's polyphase filter",
            lambda: scipy.signal.resample_poly(noise(2, 8000), 6, 1),
            48000,
            4000,
        ),
        (26, "band-limited noise", lambda: brick(4000), 48000, 4000),
        (26, "steeply filtered noise", lambda: low_passed(16, 3800), 48000, 4500),
        (
            26,
            "rumbling below its edge",
            lambda: soxr.resample(np.cumsum(noise(2, 8000)), 8000, 48000),
            48000,
            4000,
        ),
    ),
)
def test_26_a_band_that_another_rate_has_cut_is_flagged(waveform, rate, hz):
    facts = facts_of(in_16_bits(waveform()), rate)
    assert facts["flags"] == "LOW_BANDWIDTH"
    assert facts["bandwidth_hz"] == pytest.approx(hz, rel=0.2)


@pytest.mark.parametrize("format", ["OGG", "MP3"])
def test_26_a_lossy_codec_does_not_hide_the_cut_nor_make_one(tmp_path, format):
    narrow = (soxr.resample(noise(2, 8000), 8000, 48000)).astype(np.float32)
    flags = [
        recording.measure(decode(tmp_path, encoded(w, 48000, format)))["flags"]
        for w in (narrow, noise(2, 48000))
    ]
    assert flags == ["LOW_BANDWIDTH", ""]


@pytest.mark.parametrize(
    ("waveform", "rate"),
    rows(
        (26, "a dull thud", lambda: THUD, 48000),
        (26, "a dull thud of noise", lambda: low_passed(4, 200) * np.exp(-5 * TIME), 48000),
        (26, "a distant rumble", lambda: low_passed(2, 300), 48000),
        (26, "a gently filtered noise", lambda: low_passed(4, 3000), 48000),
        (26, "a steeper one", lambda: low_passed(6, 1500), 44100),
        (26, "noise at 8 kHz itself", lambda: noise(2, 8000), 8000),
        (26, "noise at 4 kHz", lambda: noise(2, 4000), 4000),
        (26, "noise at 48 kHz", lambda: noise(2, 48000), 48000),
        (26, "brown noise", lambda: np.cumsum(noise(2, 48000)), 48000),
        (26, "a low tone", lambda: tone(100, 2, 48000), 48000),
        (26, "a tone", lambda: tone(1000, 2, 44100), 44100),
        (26, "few samples", lambda: noise(0.01, 8000), 8000),
    ),
)
def test_26_dull_sounds_and_low_rates_are_not_flagged(waveform, rate):
    for form in (in_16_bits, np.asarray):
        assert "LOW_BANDWIDTH" not in facts_of(form(waveform()), rate)["flags"]


def test_26_of_real_recordings_few_are_flagged():
    folder = Path(os.environ.get("ESC10", ROOT.parent / "shared/data/ESC-10"))
    paths = sorted(folder.rglob("*.ogg"))[::8]
    if not paths:
        pytest.skip("needs ESC-10")
    flags = [recording.measure(decoder.decode(path))["flags"].split() for path in paths]
    assert sum("LOW_BANDWIDTH" in raised for raised in flags) <= 0.05 * len(flags)
    assert sum("TRIM_SKIPPED" in raised for raised in flags) <= 0.05 * len(flags)


def test_29_what_is_over_full_scale_is_flagged_and_scaled_down(tmp_path):
    facts = recording.measure(decode(tmp_path, encoded(40 * CHORD, subtype="FLOAT")))
    assert facts["flags"] == "OVER_RANGE"
    assert facts["peak"] == pytest.approx(40 * np.abs(CHORD).max(), rel=1e-4)
    for normalise in (True, False):
        rules = settings.Clean(normalise=normalise)
        assert np.abs(clean.clean(40 * CHORD, RATE, rules)).max() == pytest.approx(
            rules.peak, rel=1e-6
        )


def verdict(waveform, **more):
    """What the rules say of a recording that lies among sound ones."""
    facts = facts_of(waveform)
    others = [{"label": label} for label in ("dog", "cat") for _ in range(5)]
    mine = {name: facts[name] for name in ("loudest_db", "duration_seconds", "flags")} | more
    return rules.judge(recordings_table(mine, *others), settings.Config()).iloc[0]


LEAST = 1 / 32768


@pytest.mark.parametrize(
    ("waveform", "code"),
    rows(
        (30, "digital silence", np.zeros(RATE), "SILENT"),
        (31, "the last bit", np.random.default_rng(0).choice([-LEAST, 0, LEAST], RATE), "SILENT"),
        (31, "just loud enough", 2e-4 * np.random.default_rng(0).standard_normal(RATE), ""),
        (33, "a constant", np.full(RATE, 0.5), "SILENT"),
        (35, "one sample", CHORD[:1], "TOO_SHORT"),
        (36, "100 samples", CHORD[:100], "TOO_SHORT"),
    ),
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_what_holds_no_sound_is_set_aside_on_either_side(waveform, code, split):
    found = verdict(waveform, split=split)
    assert (found["code"], found["status"]) == (code, "quarantined" if code else "used")


@pytest.mark.parametrize(
    "signal", rows((30, "silence", np.zeros(RATE)), (33, "a constant", np.full(RATE, 0.5)))
)
@pytest.mark.parametrize("denoise", [False, True])
def test_silence_stays_silence_and_finite(signal, denoise):
    rules = settings.Clean(denoise=denoise, high_pass_hz=50)
    assert not clean.clean(signal.astype(np.float32), RATE, rules).any()


@pytest.mark.parametrize("max_gain_db", [20, 40, 60])
def test_31_what_is_faint_is_raised_by_no_more_than_the_cap(max_gain_db):
    rules, faint = settings.Clean(max_gain_db=max_gain_db, trim_db=None), 1e-3 * tone()
    raised = np.abs(clean.clean(faint, RATE, rules)).max() / np.abs(faint).max()
    assert 20 * np.log10(raised) == pytest.approx(
        min(max_gain_db, 20 * np.log10(0.99 / 5e-4)), abs=0.01
    )


def test_32_dc_is_flagged_and_removed():
    facts, cleaned = facts_of(CHORD + 0.5), clean.clean(CHORD + 0.5, RATE, settings.Clean())
    assert "DC_OFFSET" in facts["flags"]
    assert "DC_OFFSET" not in facts_of(CHORD + 0.04)["flags"]
    assert abs(cleaned.mean()) < 1e-3


def test_34_clipping_is_flagged():
    assert "CLIPPED" in facts_of(np.clip(4 * tone(), -1, 1))["flags"]
    assert "CLIPPED" not in facts_of(CHORD)["flags"]


@pytest.mark.parametrize("n_samples", [1, 2, 100, 1000])
@pytest.mark.parametrize("denoise", [False, True])
def test_35_36_where_the_rule_allows_it_few_samples_become_a_filled_clip(n_samples, denoise):
    rules = settings.Clean(min_seconds=1e-5, denoise=denoise, high_pass_hz=100)
    cleaned = clean.clean(CHORD[:n_samples], RATE, rules)
    [(start, valid, clip)] = windowing.cut(cleaned, settings.Audio(clip_seconds=1))
    assert (start, valid, len(clip)) == (0, round(n_samples / RATE, 4), RATE)
    assert np.isfinite(clip).all()


@pytest.mark.parametrize("how", ["pad", "loop"])
def test_37_a_short_recording_is_filled_and_its_own_length_is_kept(tmp_path, how):
    settled = presets.load("folder", settings=f"audio.clip_seconds=5 audio.short_clips={how}")
    for seed, name in enumerate(("dog/1.wav", "cat/2.wav")):
        write_wav(tmp_path / name, noise(2.5, seed=seed))
    clips = windowing.write_clips(judged(tmp_path, settled), tmp_path, settled, tmp_path / "clips")
    assert clips["valid_seconds"].tolist() == [2.5, 2.5]
    decoded = decoder.decode(tmp_path / clips["path"].iloc[0])
    assert len(decoded.waveform) == 5 * RATE
    assert bool(decoded.waveform[round(2.5 * RATE) + 1 :].any()) == (how == "loop")


def test_38_clips_of_any_recordings_fit_into_one_batch():
    settled = settings.Audio(clip_seconds=1)
    clips = [
        clip for seconds in (0.2, 1, 3.7) for _, _, clip in windowing.cut(noise(seconds), settled)
    ]
    assert np.stack(clips).shape == (6, RATE)


def click(rate=RATE, level=1e-5, seconds=4):
    waveform = noise(seconds, rate, rms=level)
    waveform[len(waveform) // 2] = 1
    return waveform


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 96000])
def test_39_a_click_in_near_silence_is_kept_whole_and_flagged(rate):
    rules = settings.Clean()
    assert facts_of(click(rate), rate)["flags"] == "TRIM_SKIPPED"
    assert len(clean.clean(click(rate), rate, rules)) == len(click(rate))


@pytest.mark.parametrize(
    "waveform", [CHORD, click(level=0.05), np.zeros(RATE), CHORD[:800], noise(0.1)]
)
def test_39_where_trimming_does_its_work_or_has_none_there_is_no_flag(waveform):
    assert "TRIM_SKIPPED" not in facts_of(waveform)["flags"]


# --- 40, 41: length and size -------------------------------------------------------------------

MEMORY = """
import sys
from helpers.audio.decoder import decode
from helpers.base.errors import AudioIssue
from helpers.run.journal import peak_mb
before = peak_mb()
try:
    code = str(decode(sys.argv[1], float(sys.argv[2])).waveform.shape)
except AudioIssue as issue:
    code = issue.code
print(code, before, peak_mb())
"""


def in_a_process(program, *arguments, seconds=120):
    """Run Python in a process of its own, what decoders say on stderr left out: CompletedProcess."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        env=environment,
        cwd=ROOT,
        timeout=seconds,
    )


def sparse_wav(path, data_bytes, rf64, channels=2, rate=48000):
    """A WAV of digital silence that takes no room on the disk."""
    width = channels * 2
    body = struct.pack("<HHIIHH", 1, channels, rate, rate * width, width, 16)
    sizes = struct.pack("<QQQI", data_bytes + 80, data_bytes, data_bytes // width, 0)
    head = b"RF64" if rf64 else b"RIFF"
    head += (
        b"\xff" * 4 + b"WAVE" + (b"ds64" + struct.pack("<I", len(sizes)) + sizes if rf64 else b"")
    )
    head += b"fmt " + struct.pack("<I", 16) + body + b"data"
    head += b"\xff" * 4 if rf64 else struct.pack("<I", data_bytes % 2**32)
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(len(head) + data_bytes)
    if path.stat().st_blocks * 512 > data_bytes / 10:
        pytest.skip("the disk knows no sparse files")
    return path


HOURS_10 = 10 * 3600 * 48000 * 4  # bytes, 6.9 GB


@pytest.mark.parametrize(
    ("n_bytes", "rf64", "most_seconds", "code"),
    rows(
        (40, "10 h as RF64", HOURS_10, True, 900, "TOO_LONG"),
        (40, "10 h as RF64, without a limit", HOURS_10, True, "inf", "TOO_LARGE"),
        (40, "10 h as WAV, whose length wraps", HOURS_10, False, 900, "TOO_LONG"),
        (40, "4 GB more than is declared", 2**32 + 192000, False, 900, "TOO_LONG"),
        (40, "3 h as WAV", 3 * 3600 * 48000 * 4, False, 900, "TOO_LONG"),
    ),
)
def test_40_a_huge_recording_is_refused_before_it_takes_memory(
    tmp_path, n_bytes, rf64, most_seconds, code
):
    path = sparse_wav(tmp_path / "x.wav", n_bytes, rf64)
    found, before, after = in_a_process(MEMORY, path, most_seconds).stdout.split()
    path.unlink()
    assert found == code
    assert int(after) < 500
    assert int(after) - int(before) < 50


def test_41_half_an_hour_of_silence_in_a_small_flac_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "x.flac"
    with soundfile.SoundFile(path, "w", 48000, 1, "PCM_16") as file:
        for _ in range(30):
            file.write(np.zeros(60 * 48000, np.int16))
    assert path.stat().st_size < 1e6
    found, before, after = in_a_process(MEMORY, path, 900).stdout.split()
    assert found == "TOO_LONG"
    assert int(after) - int(before) < 50


def flac_without_length(content):
    content = bytearray(content)
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    rows(
        (
            41,
            "FLAC that declares no length",
            lambda: flac_without_length(encoded(np.zeros(160000), format="FLAC")),
        ),
        (41, "chained Ogg", lambda: 5 * encoded(CHORD, format="OGG")),
        (41, "AAC without an index", lambda: encoded_av(HISS, format="adts")),
    ),
)
def test_41_a_length_that_is_not_declared_is_checked_while_decoding(tmp_path, monkeypatch, content):
    assert len(decode(tmp_path, content(), max_seconds=11).waveform) >= 159000
    assert code_of(tmp_path, content(), max_seconds=9) == "TOO_LONG"
    monkeypatch.setattr(decoder, "MAX_SAMPLES", 100_000)
    assert code_of(tmp_path, content()) == "TOO_LARGE"


# --- 42: shapes --------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["clean", "steps", "denoise"])
@pytest.mark.parametrize("shape", [(RATE, 2), (2, RATE)])
def test_42_what_is_not_mono_is_refused_at_once(function, shape):
    arguments = {"denoise": (RATE,)}.get(function, (RATE, settings.Clean()))
    with pytest.raises(errors.ShapeError, match=rf"mono.*\({shape[0]}, {shape[1]}\)"):
        getattr(clean, function)(np.zeros(shape, np.float32), *arguments)


# --- 12 to 16, 43 to 47: folders and names -----------------------------------------------------


def survey(root, **data):
    return recording.survey(root, sources.find(root, settings.Data(**data)))


def judged(root, settled=None):
    return rules.judge(
        survey(root), settled or presets.load("folder", settings="data.max_bad_fraction=0.9")
    )


def two_classes(root, *names):
    for number, name in enumerate(("dog/1.wav", "dog/2.wav", "cat/1.wav", "cat/2.wav", *names)):
        write_wav(root / name, noise(0.5, seed=number))
    return root


def status_of(found, name):
    row = found.set_index("path").loc[name]
    return row["status"], row["reason"].partition(":")[0]


@pytest.mark.parametrize("name", ["dog/x.WAV", "dog/x.Wav", "dog/x.wAv"])
def test_12_the_suffix_counts_in_any_case(tmp_path, name):
    assert status_of(survey(two_classes(tmp_path, name)), name) == ("ok", "")


@pytest.mark.parametrize(
    "name", ["dog/.DS_Store", "dog/._a.wav", "dog/Thumbs.db", "__MACOSX/dog/1.wav", ".git/x.wav"]
)
def test_13_what_systems_leave_behind_is_ignored_and_counted(tmp_path, name):
    found = survey(plant(two_classes(tmp_path), name))
    assert status_of(found, name)[0] == "ignored"
    assert artifacts.account(found) == {"found": 5, "used": 4, "quarantined": 0, "ignored": 1}


def test_14_a_loop_of_links_is_walked_once_and_a_link_to_outside_is_set_aside(tmp_path):
    root = two_classes(tmp_path / "data")
    (root / "dog/loop").symlink_to(root)
    (root / "dog/out.wav").symlink_to(write_wav(tmp_path / "elsewhere.wav", CHORD))
    found = survey(root)
    assert status_of(found, "dog/out.wav") == ("quarantined", "OUTSIDE_ROOT")
    assert artifacts.account(found) == {"found": 6, "used": 4, "quarantined": 1, "ignored": 1}


def test_14_a_link_to_itself_is_set_aside(tmp_path):
    (two_classes(tmp_path) / "dog/itself.wav").symlink_to("itself.wav")
    assert status_of(survey(tmp_path), "dog/itself.wav")[0] == "quarantined"


def test_15_what_is_no_file_is_set_aside(tmp_path):
    os.mkfifo(two_classes(tmp_path) / "dog/fifo.wav")
    assert status_of(survey(tmp_path), "dog/fifo.wav") == ("quarantined", "NOT_REGULAR")


def test_15_a_folder_named_as_a_recording_is_set_aside(tmp_path):
    (two_classes(tmp_path) / "dog/a.wav").mkdir()
    assert status_of(survey(tmp_path), "dog/a.wav") == ("quarantined", "NOT_REGULAR")


NAMES = [
    "é ü ñ.wav",
    "a b.wav",
    "a,b.wav",
    'say "x".wav',
    "two\nlines.wav",
    "鳥.wav",
    "=cmd().wav",
    "n" * 251 + ".wav",
]


@pytest.mark.parametrize("name", NAMES)
def test_43_44_any_name_survives_from_the_folder_to_the_clip(tmp_path, name):
    root = two_classes(tmp_path / "data", f"dog/{name}")
    artifacts.write_table(tmp_path / "recordings.csv", survey(root).convert_dtypes())
    recordings = artifacts.read_table(tmp_path / "recordings.csv")
    assert f"dog/{name}" in recordings["path"].tolist()
    settled = presets.load("folder")
    clips = windowing.write_clips(
        rules.judge(recordings, settled), root, settled, tmp_path / "clips"
    )
    artifacts.write_table(tmp_path / "clips.csv", clips.assign(group="", fold=None))
    assert len(artifacts.read_table(tmp_path / "clips.csv")) == 5


def test_45_a_name_that_is_no_text_is_set_aside_and_shown_escaped(tmp_path):
    with open(os.fsencode(two_classes(tmp_path) / "dog") + b"/\xff.wav", "wb") as file:
        file.write(encoded(CHORD))
    found = survey(tmp_path)
    assert status_of(found, "dog/\\xff.wav") == ("quarantined", "NAME_UNSAFE")
    artifacts.write_table(tmp_path / "recordings.csv", found)


@pytest.mark.parametrize(
    ("one", "other"), [("dog/e\u0301.wav", "dog/\u00e9.wav"), ("dog/a.wav", "dog/A.wav")]
)
def test_46_names_that_only_this_disk_tells_apart_stop_the_run(tmp_path, one, other):
    root = two_classes(tmp_path, one, other)
    with pytest.raises(errors.SourceError, match=r"ID_COLLISION.* and "):
        sources.find(root, settings.Data())


def test_47_equal_names_in_two_folders_stay_two_recordings(tmp_path):
    found = survey(two_classes(tmp_path))
    assert found["recording_id"].is_unique
    assert sorted(found["path"]) == ["cat/1.wav", "cat/2.wav", "dog/1.wav", "dog/2.wav"]


# --- 48 to 51: the same sound twice ------------------------------------------------------------


def codes(table):
    return dict(zip(table["path"], table["code"], strict=True))


def test_48_of_equal_files_of_one_class_the_first_is_kept(tmp_path):
    root = two_classes(tmp_path)
    for name in ("dog/0.wav", "dog/9.wav", "test/1.wav", "test/2.wav"):
        write_wav(root / name, CHORD)
    table = judged(root)
    assert {path for path, code in codes(table).items() if code} == {"dog/9.wav"}
    reason = table.set_index("path").loc["dog/9.wav", "reason"]
    assert reason.startswith("DUP_SAME_LABEL: ")
    assert "dog/0.wav" in reason
    assert rules.quarantine_table(table)["stage"].tolist() == ["02_clean"]


def test_48_copies_are_no_bad_recordings():
    copies = [{"label": "dog", "pcm_sha256": "same"}] * 30
    table = recordings_table(*copies, *[{"label": "cat"}] * 3)
    table["pcm_sha256"] = ["same"] * 30 + ["a", "b", "c"]
    found = rules.judge(table, settings.Config(data=settings.Data(max_bad_fraction=0)))
    assert found["status"].value_counts().to_dict() == {"quarantined": 29, "used": 4}


def test_49_the_same_sound_in_two_classes_is_set_aside_in_both(tmp_path):
    root = two_classes(tmp_path)
    for name in ("dog/0.wav", "cat/0.wav"):
        write_wav(root / name, CHORD)
    plant(root, "dog/0.flac", content=encoded((CHORD * 32767).astype(np.int16), format="FLAC"))
    write_wav(root / "dog/0.wav", CHORD)
    found = {path: code for path, code in codes(judged(root)).items() if code}
    assert found["cat/0.wav"] == found["dog/0.wav"] == "DUP_LABEL_CONFLICT"


def near(*pairs):
    return pd.DataFrame(pairs, columns=["recording_id", "other_id"]).assign(
        offset_seconds=0.0, overlap_seconds=1.0, correlation=0.99
    )


def judged_pairs(labels, pairs, **more):
    """The verdict on recordings r0, r1, … with these labels and near duplicates, among others of
    two classes.
    """
    mine = [{"label": label, **more.get(f"r{n}", {})} for n, label in enumerate(labels)]
    table = recordings_table(*mine, *[{"label": label} for label in ("dog", "cat") * 10])
    return rules.judge(table, settings.Config(), near(*pairs)).iloc[: len(labels)]


def test_50_near_duplicates_of_one_class_stay_and_are_flagged():
    table = judged_pairs(["dog", "dog", "dog"], [("r0", "r1")])
    assert table["status"].tolist() == ["used"] * 3
    assert table["flags"].tolist() == ["DUP_NEAR", "DUP_NEAR", ""]


@pytest.mark.parametrize(("one", "other"), [("dog", "cat"), ("bird|dog", "dog"), ("dog", "")])
def test_50_near_duplicates_under_differing_labels_are_set_aside_with_the_others_name(one, other):
    table = judged_pairs([one, other, one], [("r0", "r1")])
    assert table["code"].tolist() == ["DUP_LABEL_CONFLICT"] * 2 + [""]
    assert "1.wav" in table["reason"].iloc[0]
    assert "0.wav" in table["reason"].iloc[1]


def test_50_only_the_training_side_is_set_aside():
    table = judged_pairs(["dog", "cat"], [("r0", "r1")], r1={"split": "test"})
    assert table["status"].tolist() == ["used", "used"]
    assert table["flags"].tolist() == ["DUP_NEAR"] * 2


def test_50_a_copy_of_what_contradicts_itself_goes_with_it():
    same = {"pcm_sha256": "same"}
    table = judged_pairs(["dog", "cat", "dog"], [("r0", "r1")], r0=same, r2=same)
    assert table["code"].tolist() == ["DUP_LABEL_CONFLICT"] * 3


def test_50_an_unusable_twin_is_none():
    table = judged_pairs(
        ["dog", "cat", "dog"],
        [("r0", "r1"), ("r0", "r2"), ("r0", "gone")],
        r1={"loudest_db": -100.0},
    )
    assert table["code"].tolist() == ["", "SILENT", ""]
    assert table["flags"].tolist() == ["DUP_NEAR", "", "DUP_NEAR"]


def test_50_a_re_encoded_recording_is_one_group_with_its_source(tmp_path):
    recordings = recordings_table({}, {}, {})
    assert partition.groups(recordings, near(("r0", "r2"))).tolist() == ["r0", "r1", "r0"]


def test_51_the_same_recording_in_train_and_test_is_one_group():
    recordings = recordings_table({}, {"split": "test"}, {})
    recordings["pcm_sha256"] = ["same", "same", "other"]
    assert partition.groups(recordings).tolist() == ["r0", "r0", "r2"]


# --- 52 to 54: too little of something ---------------------------------------------------------


def test_52_a_class_of_one_recording_is_named():
    recordings = recordings_table(*[{"label": "dog"}] * 5, {"label": "lonely"})
    with pytest.raises(errors.SplitError, match="lonely"):
        partition.folds(recordings.assign(group=recordings["recording_id"]), 5, seed=0)


@pytest.mark.parametrize(
    "names",
    rows((53, "one class", ["dog/1.wav", "dog/2.wav"]), (53, "no class", ["1.wav", "2.wav"])),
)
def test_53_fewer_than_two_classes_stop_the_run(tmp_path, names):
    for name in names:
        write_wav(tmp_path / name, CHORD)
    with pytest.raises(errors.SourceError):
        sources.find(tmp_path, settings.Data())


def test_53_a_class_with_too_few_for_every_fold_is_said_so():
    recordings = recordings_table(*[{"label": "dog"}] * 10, *[{"label": "cat"}] * 2)
    recordings["recording_id"] = [f"r{n:02}" for n in range(12)]
    _, how = partition.folds(recordings.assign(group=recordings["recording_id"]), 5, seed=0)
    assert "cat" in how


@pytest.mark.parametrize(
    "make", [lambda root: None, lambda root: (root / "test").mkdir()], ids=["54-none", "54-empty"]
)
def test_54_without_a_test_set_the_training_side_is_found_all_the_same(tmp_path, make):
    make(two_classes(tmp_path))
    assert survey(tmp_path)["split"].tolist() == ["train"] * 4


# --- windows of a test recording, and the other new steps --------------------------------------


@pytest.mark.parametrize(
    ("seconds", "windows"),
    [(600.0000001, 120), (600, 120), (602.5, 121), (5, 1), (5.0001, 1), (5.1, 2), (0.2, 1)],
)
def test_a_test_recording_has_as_many_windows_as_its_duration_rounded_up(seconds, windows):
    settled = settings.Audio(sample_rate=4000, clip_seconds=5, test_windows=True)
    clips = windowing.cut(np.zeros(int(np.ceil(seconds * 4000)), np.float32), settled, every=True)
    assert [start for start, _, _ in clips] == [5.0 * k for k in range(windows)]
    assert {clip.shape for _, _, clip in clips} == {(20000,)}


def test_windows_of_test_recordings_count_from_the_beginning_of_the_file(tmp_path):
    settled = presets.load("folder", settings="audio.clip_seconds=1 audio.test_windows=true")
    paused = np.concatenate([np.zeros(2 * RATE), noise(1), np.zeros(round(1.2 * RATE))]).astype(
        np.float32
    )
    for shift, name in enumerate(("dog/1.wav", "cat/1.wav", "test/1.wav")):
        write_wav(tmp_path / name, np.roll(paused, shift))
    table = judged(tmp_path, presets.load("folder", settings="data.max_bad_fraction=0.9"))
    clips = windowing.write_clips(table, tmp_path, settled, tmp_path / "clips")
    by_split = {side: part["start_seconds"].tolist() for side, part in clips.groupby("split")}
    assert by_split["test"] == [0, 1, 2, 3, 4]
    assert len(by_split["train"]) == 2
    assert clips.loc[clips["split"].eq("test"), "valid_seconds"].tolist() == [1, 1, 1, 1, 0.2]


@pytest.mark.parametrize("rate", [8000, 44100])
def test_a_high_pass_takes_out_what_lies_below_and_moves_nothing(rate):
    rules = settings.Clean(high_pass_hz=200, trim_db=None, normalise=False)
    low, high = tone(40, 2, rate, 0.3), tone(1000, 2, rate, 0.3)
    steps = clean.steps(low + high, rate, rules)
    assert [name for name, _ in steps] == ["DC removed", "high-pass filtered", "peak limited"]
    inside = slice(rate // 4, -rate // 4)
    assert np.abs(steps[-1][1][inside] - high[inside]).max() < 1e-3
    with pytest.raises(ValueError, match="high_pass_hz"):
        clean.high_pass(low, 8000, 4000)


def test_without_normalising_the_level_is_left_unless_it_is_too_high():
    rules = settings.Clean(normalise=False, trim_db=None)
    np.testing.assert_allclose(clean.clean(0.01 * tone(), RATE, rules), 0.01 * tone(), atol=1e-7)
    assert np.abs(clean.clean(3 * tone(), RATE, rules)).max() == pytest.approx(rules.peak, rel=1e-6)


# --- what is measured --------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [1, 0.01])
def test_leading_silence_is_the_time_before_the_sound_at_any_gain(gain):
    waveform = np.concatenate([noise(0.5, rms=1e-4), tone(440, 1), noise(0.5, rms=1e-4)])
    assert facts_of(gain * waveform)["leading_silence_seconds"] == pytest.approx(0.5, abs=0.02)
    assert facts_of(gain * tone())["leading_silence_seconds"] == 0


@pytest.mark.parametrize("rms", [1e-4, 1e-2])
def test_the_noise_floor_is_the_level_of_the_quietest_tenth(rms):
    facts = facts_of(np.concatenate([tone(440, 4), noise(1, rms=rms)]))
    assert facts["noise_floor_db"] == pytest.approx(20 * np.log10(rms), abs=1)
    assert (
        facts_of(np.concatenate([tone(440, 4), np.zeros(RATE)]))["noise_floor_db"]
        == recording.FLOOR_DB
    )


@pytest.mark.parametrize("cutoff", [2500, 6000, 15000])
def test_bandwidth_is_where_the_content_ends(cutoff):
    assert facts_of(brick(cutoff), 48000)["bandwidth_hz"] == pytest.approx(cutoff, rel=0.2)
    assert facts_of(noise(1, 48000), 48000)["bandwidth_hz"] == pytest.approx(24000, rel=0.01)


# --- mutants -----------------------------------------------------------------------------------

WORKER = """
import resource, signal, sys
import numpy as np
from helpers.audio.decoder import decode
from helpers.base.errors import AudioIssue
from helpers.run.journal import peak_mb
from signals import mutants
container, number, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
for index, (kind, content) in enumerate(mutants(container, number)):
    open(path, "wb").write(content)
    print(index, kind, flush=True)
    signal.alarm(5)
    try:
        waveform = decode(path, 60).waveform
        sound = len(waveform) and waveform.dtype == np.float32 and np.isfinite(waveform).all()
        print("audio" if sound else "BROKEN")
    except AudioIssue as issue:
        print(issue.code)
    signal.alarm(0)
print(peak_mb())
"""
MUTANTS = {"WAV": 500, "FLAC": 500, "OGG": 500, "MP3": 500} | dict.fromkeys(
    ("AIFF", "AU", "M4A", "AAC", "WEBM"), 70
)


@pytest.mark.parametrize("container", MUTANTS)
def test_a_damaged_file_is_finite_audio_or_an_issue_within_seconds_and_little_memory(
    tmp_path, container
):
    done = in_a_process(WORKER, container, MUTANTS[container], tmp_path / "x")
    said = done.stdout.splitlines()
    words = f"ended by {done.returncode} at mutant {said[-2:]}\n{done.stderr[-2000:]}"
    assert done.returncode == 0, words  # -11: a crash, -14: more than 5 s, 1: another error
    outcomes, peak_mb = said[1:-1:2], int(said[-1])
    assert len(outcomes) == MUTANTS[container]
    assert "BROKEN" not in outcomes
    assert (
        "audio" in outcomes and "NOT_AUDIO" in outcomes and "TRUNCATED" in outcomes
    )  # the mutants do bite
    assert peak_mb < 500
