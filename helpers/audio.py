"""The one decoder gate: check, decode, measure, resample, write.

Nothing else in Earshot opens a recording. A file is looked at before a decoder sees it; what cannot be used
raises AudioIssue with a code and a reason. What passes is finite, float32 and not empty.
"""

import hashlib
import io
import stat
from dataclasses import dataclass
from pathlib import Path

import av
import joblib
import numpy as np
import soundfile
import soxr

from helpers import artifacts

SILENCE_DB = -60.0  # dBFS: a 20-ms frame below this counts as silence
FLOOR_DB = -120.0  # dBFS: the level given to digital silence
MIN_RATE, MAX_RATE = 4000, 384000  # Hz
MAX_CHANNELS = 16
WAV_CODECS = {1, 3, 6, 7, 0xFFFE}  # PCM, float, A-law, mu-law, extensible; ADPCM decoders have open holes
BIT_DEPTHS = {
    "PCM_U8": 8,
    "PCM_S8": 8,
    "PCM_16": 16,
    "PCM_24": 24,
    "PCM_32": 32,
    "FLOAT": 32,
    "DOUBLE": 64,
    "ULAW": 8,
    "ALAW": 8,
}
SUFFIXES = {
    "WAV": {".wav"},
    "FLAC": {".flac"},
    "OGG": {".ogg", ".oga", ".opus"},
    "MP3": {".mp3"},
    "AIFF": {".aif", ".aiff"},
    "AU": {".au"},
    "MP4": {".m4a", ".mp4", ".aac"},
    "WEBM": {".webm"},
    "AAC": {".aac"},
}


class AudioIssue(ValueError):
    """A file that cannot be used. `code` is one word (EMPTY_FILE, NOT_AUDIO, TRUNCATED, …), `detail` says why."""

    def __init__(self, code, detail):
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


@dataclass(frozen=True)
class Decoded:
    """A recording as it lies in its file: waveform [samples, channels] float32, finite, not empty."""

    waveform: np.ndarray
    sample_rate: int
    codec: str
    bit_depth: int | None  # missing for lossy codecs


def decode(path, max_seconds=float("inf")):
    """Decode a file of any allowed container after checking it.

    Args: path; max_seconds longest recording that is decoded.
    Returns a Decoded. Raises AudioIssue.
    """
    path = Path(path)
    container = _sniff(path)
    if container in ("MP4", "WEBM", "AAC"):
        decoded = _decode_av(path, container, max_seconds)
    else:
        decoded = _decode_soundfile(path, container, max_seconds)
    if not len(decoded.waveform):
        raise AudioIssue("EMPTY_AUDIO", "the file holds no samples")
    if not np.isfinite(decoded.waveform).all():
        raise AudioIssue("NONFINITE", f"{int((~np.isfinite(decoded.waveform)).sum())} samples are NaN or infinite")
    return decoded


def load(path, sample_rate, max_seconds=float("inf")):
    """A recording as mono at `sample_rate`: float32 [samples], DC kept. Raises AudioIssue."""
    decoded = decode(path, max_seconds)
    return resample(to_mono(decoded.waveform)[0], decoded.sample_rate, sample_rate)


def to_mono(waveform):
    """Mean of the channels, or the first one where the mean cancels (channels in opposite phase).

    Args: waveform [samples, channels]. Returns (waveform [samples], whether the channels cancel).
    """
    mono = waveform.mean(axis=1, dtype=np.float32)
    channel_rms = float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
    cancels = channel_rms > 0 and float(np.sqrt(np.mean(np.square(mono, dtype=np.float64)))) < channel_rms * 10 ** (
        -30 / 20
    )
    return (waveform[:, 0].copy(), True) if cancels else (mono, False)


def resample(waveform, from_rate, to_rate):
    """Resample float32 [samples] from one rate (Hz) to another with soxr's high quality."""
    return (
        waveform
        if from_rate == to_rate
        else soxr.resample(waveform, from_rate, to_rate, quality="HQ").astype(np.float32)
    )


def write(path, waveform, sample_rate):
    """Write mono float32 in [-1, 1] as 16-bit FLAC. Raises ValueError on what would be written as a click."""
    waveform = np.asarray(waveform, dtype=np.float32)
    if waveform.ndim != 1 or not np.isfinite(waveform).all() or np.abs(waveform).max(initial=0) > 1:
        raise ValueError(f"{path}: expected a finite mono waveform within [-1, 1], got shape {waveform.shape}")
    soundfile.write(path, waveform, sample_rate, format="FLAC", subtype="PCM_16")


def encode_mp3(waveform, sample_rate):
    """Mono float32 as MP3 bytes, small enough to travel inside a page. Rates that MP3 lacks are resampled."""
    rate = min(
        (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000), key=lambda legal: abs(legal - sample_rate)
    )
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(resample(waveform, sample_rate, rate), -1, 1), rate, format="MP3")
    return buffer.getvalue()


# --- measuring ---------------------------------------------------------------------------------------------


def level_db(waveform):
    """RMS level in dBFS, never below FLOOR_DB.

    >>> level_db(np.zeros(10)), round(level_db(np.ones(10)), 1)
    (-120.0, 0.0)
    """
    rms = float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))) if len(waveform) else 0.0
    return max(20 * float(np.log10(max(rms, 1e-12))), FLOOR_DB)


def measure(decoded):
    """The facts about a decoded recording that recordings.csv lists, as a flat dict."""
    waveform, rate = decoded.waveform, decoded.sample_rate
    mono, cancels = to_mono(waveform)
    magnitude = np.abs(mono)
    peak, offset = float(np.abs(waveform).max()), float(mono.mean(dtype=np.float64))
    clipped = float(np.mean(magnitude >= 0.999 * magnitude.max())) if peak else 0.0
    flags = {
        "CLIPPED": clipped > 0.05,
        "DC_OFFSET": abs(offset) > 0.05,
        "OVER_RANGE": peak > 1.0,
        "PHASE_CANCEL": cancels,
    }
    return {
        "duration_seconds": round(len(waveform) / rate, 4),
        "sample_rate": rate,
        "channels": waveform.shape[1],
        "codec": decoded.codec,
        "bit_depth": decoded.bit_depth,
        "peak": round(peak, 6),
        "rms_db": round(level_db(mono - offset), 2),
        "silence_fraction": round(silence_fraction(mono - offset, rate), 4),
        "clipped_fraction": round(clipped, 5),
        "dc_offset": round(offset, 5),
        "flags": " ".join(flag for flag, raised in flags.items() if raised),
        "pcm_sha256": hashlib.sha256(
            np.round(waveform * 32767).astype(np.int32).tobytes() + str(rate).encode()
        ).hexdigest(),
    }


def silence_fraction(waveform, sample_rate, frame_seconds=0.02):
    """Share of 20-ms frames whose RMS is below SILENCE_DB."""
    size = max(1, round(frame_seconds * sample_rate))
    frames = waveform[: len(waveform) // size * size].reshape(-1, size) if len(waveform) >= size else waveform[None]
    return float(np.mean(np.sqrt(np.mean(np.square(frames), axis=1)) < 10 ** (SILENCE_DB / 20)))


def survey(root, recordings, max_seconds=float("inf")):
    """Decode and measure every recording whose status is ok; set aside, with the reason, what cannot be used.

    Args: root data folder; recordings table of sources.find.
    Returns a new table with the columns of recordings.csv.
    """
    ok = recordings["status"].eq("ok")
    paths = [Path(root) / path for path in recordings.loc[ok, "path"]]
    jobs = (joblib.delayed(_examine)(path, max_seconds) for path in paths)
    found = joblib.Parallel(n_jobs=-1, prefer="threads", return_as="generator")(jobs)
    facts = list(artifacts.progress(found, "recordings", len(paths)))
    table = recordings.copy()
    for column, kind in artifacts.SCHEMAS["recordings.csv"].items():
        if column not in table:
            table[column] = "" if kind == artifacts.TEXT else None
    for index, fact in zip(table.index[ok], facts, strict=True):
        for column, value in fact.items():
            table.at[index, column] = value
    return table


def _examine(path, max_seconds):
    """The facts about one file, or what is wrong with it."""
    try:
        return {"sha256": artifacts.file_digest(path), **measure(decode(path, max_seconds))}
    except AudioIssue as issue:
        digest = artifacts.file_digest(path) if path.is_file() else ""
        return {"sha256": digest, "status": "quarantined", "reason": str(issue)}


# --- the gate ----------------------------------------------------------------------------------------------


def _sniff(path):
    """Container of a file by its first bytes. Raises AudioIssue for what is no audio or not allowed."""
    try:
        info = path.lstat() if not path.is_symlink() else path.stat()
        if not stat.S_ISREG(info.st_mode):
            raise AudioIssue("NOT_REGULAR", "not a regular file")
        if info.st_size == 0:
            raise AudioIssue("EMPTY_FILE", "the file has 0 bytes")
        with open(path, "rb") as file:
            head = file.read(16)
            if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
                _check_wav(file, info.st_size, head[:4])
                return "WAV"
    except OSError as error:
        raise AudioIssue("UNREADABLE", f"cannot be read: {error.strerror}") from None
    if head[:3] == b"ID3":
        return "MP3"
    if head[0] == 0xFF and head[1:2] and head[1] & 0xF6 == 0xF0:
        return "AAC"  # ADTS: sync word with layer 00
    if head[0] == 0xFF and head[1:2] and head[1] & 0xE0 == 0xE0:
        return "MP3"
    magic = {b"fLaC": "FLAC", b"OggS": "OGG", b"FORM": "AIFF", b".snd": "AU", b"\x1aE\xdf\xa3": "WEBM"}
    if container := magic.get(head[:4]) or ("MP4" if head[4:8] == b"ftyp" else None):
        return container
    raise AudioIssue("NOT_AUDIO", "no known audio format at the start of the file")


def _check_wav(file, size, magic):
    """Walk the chunks of a WAV: refuse codecs that are not allowed, find a data chunk cut short."""
    order = "big" if magic == b"RIFX" else "little"
    position = 12
    while position + 8 <= size:
        file.seek(position)
        name, length = file.read(4), int.from_bytes(file.read(4), order)
        if name == b"fmt ":
            codec = int.from_bytes(file.read(2), order)
            if codec not in WAV_CODECS:
                raise AudioIssue("CODEC_NOT_ALLOWED", f"WAV codec {codec:#06x}; allowed are PCM, float, A-law, mu-law")
        if name == b"data":
            there = size - position - 8
            streaming = length == 0xFFFFFFFF or magic == b"RF64"
            if length == 0 and there:
                raise AudioIssue("EMPTY_AUDIO", f"the header declares 0 bytes of sound, {there} follow")
            if not streaming and there < length:
                raise AudioIssue("TRUNCATED", f"{there} of {length} declared bytes are there")
            return
        position += 8 + length + length % 2
    raise AudioIssue("NOT_AUDIO", "a WAV header without a data chunk")


def _decode_soundfile(path, container, max_seconds):
    try:
        with soundfile.SoundFile(path) as file:
            _check_shape(file.samplerate, file.channels, file.frames, max_seconds)
            declared, rate, subtype = file.frames, file.samplerate, file.subtype
            waveform = file.read(dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        code = "TRUNCATED" if "lost sync" in str(error) or "Unspecified internal" in str(error) else "NOT_AUDIO"
        raise AudioIssue(code, f"the {container} decoder gave up: {error.error_string}") from None
    if container in ("MP3", "FLAC") and len(waveform) < 0.98 * declared:
        raise AudioIssue("TRUNCATED", f"{len(waveform)} of {declared} declared samples are there")
    if container == "OGG" and not _ogg_ends(path):
        raise AudioIssue("TRUNCATED", "the last page of the Ogg stream is missing")
    return Decoded(waveform, rate, f"{container}/{subtype}", BIT_DEPTHS.get(subtype))


def _check_shape(rate, channels, frames, max_seconds):
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioIssue("BAD_RATE", f"a sample rate of {rate} Hz; allowed are {MIN_RATE} to {MAX_RATE}")
    if channels > MAX_CHANNELS:
        raise AudioIssue("TOO_MANY_CHANNELS", f"{channels} channels; at most {MAX_CHANNELS}")
    if frames / rate > max_seconds:
        raise AudioIssue("TOO_LONG", f"{frames / rate:.0f} s; at most {max_seconds:g} s (audio.max_seconds)")


def _ogg_ends(path):
    """Whether the last Ogg page carries the end-of-stream mark (RFC 3533, section 6)."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 65536))
        tail = file.read()
    page = tail.rfind(b"OggS")
    return page >= 0 and len(tail) > page + 5 and bool(tail[page + 5] & 4)


def _decode_av(path, container, max_seconds):
    """Decode what libsndfile cannot (AAC, Opus in WebM) with PyAV's own FFmpeg."""
    try:
        with av.open(str(path), metadata_errors="ignore") as file:
            stream = next((stream for stream in file.streams if stream.type == "audio"), None)
            if stream is None:
                raise AudioIssue("NOT_AUDIO", f"the {container} file has no audio track")
            seconds = float(file.duration or 0) / av.time_base
            _check_shape(stream.rate, stream.codec_context.channels, seconds * stream.rate, max_seconds)
            resampler = av.AudioResampler(format="fltp", layout=stream.codec_context.layout, rate=stream.rate)
            frames = [part.to_ndarray() for frame in file.decode(stream) for part in resampler.resample(frame)]
            codec, rate = stream.codec_context.name.upper(), stream.rate
    except av.FFmpegError as error:
        raise AudioIssue("NOT_AUDIO", f"the {container} decoder gave up: {error.strerror}") from None
    waveform = np.concatenate(frames, axis=1).T if frames else np.zeros((0, 1), np.float32)
    return Decoded(np.ascontiguousarray(waveform, dtype=np.float32), rate, f"{container}/{codec}", None)
