"""The decoder gate: a file is looked at before a decoder sees it, and what comes out is checked.

What cannot be used raises AudioIssue with a code and a reason. What passes is finite, float32 and
not empty.
"""

import importlib
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from helpers.audio.containers import check_format, identify
from helpers.base.errors import AudioIssue

MAX_SAMPLES = 4e8  # over all channels, 1.6 GB decoded: an hour of stereo at 48 kHz is 3.5e8
BIT_DEPTHS = {
    "PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "FLOAT": 32, "DOUBLE": 64, "ULAW": 8, "ALAW": 8,
}  # fmt: skip
LOSSY = {"VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III"}
DEMUXERS = {
    "MP4": "mp4",
    "WEBM": "matroska",
    "AAC": "aac",
    "MP3": "mp3",
    "OGG": "ogg",
    "FLAC": "flac",
}  # FFmpeg's names
AV_CODECS = {
    "aac",
    "alac",
    "flac",
    "mp3",
    "mp3float",
    "opus",
    "vorbis",
    "pcm_s16le",
    "pcm_s24le",
    "pcm_f32le",
}
BLOCK = 1 << 18  # samples read at a time


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
    container, beyond_libsndfile = look(path)
    read = _decode_av if beyond_libsndfile else _decode_soundfile
    decoded = read(path, container, max_seconds)
    if not len(decoded.waveform):
        raise AudioIssue("EMPTY_AUDIO", "the file holds no samples")
    if not np.isfinite(decoded.waveform).all():
        raise AudioIssue(
            "NONFINITE",
            f"{int((~np.isfinite(decoded.waveform)).sum())} samples are NaN or infinite",
        )
    return decoded


def look(path):
    """Container of a file by its content, and whether libsndfile cannot read (all of) it: (name,
    bool).

    Raises AudioIssue for what is no regular file, no audio, not allowed or cut short.
    """
    _check_name(str(path))
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            raise AudioIssue("NOT_REGULAR", "not a regular file")
        if info.st_size == 0:
            raise AudioIssue("EMPTY_FILE", "the file has 0 bytes")
        with open(path, "rb") as file:
            container, more = identify(file, info.st_size)
            return container, more or container in ("MP4", "WEBM", "AAC")
    except OSError as error:
        raise AudioIssue("UNREADABLE", f"cannot be read: {error.strerror}") from None


def _check_name(name):
    """Refuse a name that libsndfile cannot be given."""
    try:
        odd = "it holds a NUL" if b"\0" in name.encode() else ""
    except UnicodeEncodeError:
        odd = "it is not valid UTF-8; rename the file"
    if odd:
        raise AudioIssue("NAME_UNSAFE", f"the name cannot be used: {odd}")


def _check_size(rate, channels, frames, max_seconds):
    if frames > max_seconds * rate:
        raise AudioIssue(
            "TOO_LONG", f"{frames / rate:.0f} s; at most {max_seconds:g} s (audio.max_seconds)"
        )
    if frames * channels > MAX_SAMPLES:
        raise AudioIssue(
            "TOO_LARGE",
            f"{frames * channels:.2g} samples over all channels; at most {MAX_SAMPLES:.2g}",
        )


# --- the decoders
# ------------------------------------------------------------------------------------------


def _decode_soundfile(path, container, max_seconds):
    try:
        with soundfile.SoundFile(path) as file:
            rate, subtype, declared = file.samplerate, file.subtype, file.frames
            if subtype not in LOSSY and subtype not in BIT_DEPTHS:
                raise AudioIssue("CODEC_NOT_ALLOWED", f"{container} codec {subtype}")
            check_format(rate, file.channels)
            if (
                declared >= 1 << 40
            ):  # a FLAC written to a pipe does not know its length; libsndfile cannot read on
                return _decode_av(path, container, max_seconds)
            _check_size(rate, file.channels, declared, max_seconds)
            waveform = _joined(_blocks(file), rate, file.channels, max_seconds)
    except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
        if isinstance(error, AudioIssue):
            raise
        cut_short = any(
            words in str(error) for words in ("lost sync", "Unspecified internal", "psf_fseek")
        )
        code = "TRUNCATED" if cut_short else "NOT_AUDIO"
        raise AudioIssue(code, f"the {container} decoder gave up: {error}") from None
    tolerated = (
        min(0.02 * declared, 2 * 1152) if container == "MP3" else 0
    )  # encoders miscount by a frame
    if container in ("MP3", "FLAC", "OGG") and len(waveform) < declared - tolerated:
        raise AudioIssue("TRUNCATED", f"{len(waveform)} of {declared} declared samples are there")
    return Decoded(waveform, rate, f"{container}/{subtype}", BIT_DEPTHS.get(subtype))


def _blocks(file):
    while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
        yield block


def _joined(blocks, rate, channels, max_seconds):
    """Blocks [samples, channels] as one, checked as they come, so that a length that lies costs
    nothing.
    """
    kept, count = [np.zeros((0, channels), np.float32)], 0
    for block in blocks:
        kept.append(block)
        count += len(block)
        _check_size(rate, channels, count, max_seconds)
    return np.concatenate(kept)


def _decode_av(path, container, max_seconds):
    """Decode what libsndfile cannot (AAC, Opus in WebM, chained Ogg) with PyAV's own FFmpeg, one
    demuxer and the allowed codecs only.
    """
    av = _pyav(container)
    options = {"codec_whitelist": ",".join(sorted(AV_CODECS))}
    try:
        with (
            open(path, "rb") as raw,
            av.open(
                raw, format=DEMUXERS[container], options=options, metadata_errors="ignore"
            ) as file,
        ):
            stream = next((stream for stream in file.streams if stream.type == "audio"), None)
            if stream is None:
                raise AudioIssue("NOT_AUDIO", f"the {container} file has no audio track")
            coder = stream.codec_context
            codec = coder.name if coder else "unknown"  # a codec that this FFmpeg does not know
            if codec not in AV_CODECS:
                raise AudioIssue("CODEC_NOT_ALLOWED", f"{container} codec {codec}")
            rate, channels = stream.rate or 0, coder.channels
            check_format(rate, channels)
            seconds = (
                (file.duration or 0) / av.time_base if container in ("MP4", "WEBM") else 0
            )  # others only guess
            _check_size(rate, channels, seconds * rate, max_seconds)
            waveform = _joined(_frames(av, file, stream), rate, channels, max_seconds)
    except (av.FFmpegError, ValueError, OSError) as error:
        if isinstance(error, AudioIssue):
            raise
        reason = getattr(error, "strerror", None) or error
        raise AudioIssue("NOT_AUDIO", f"the {container} decoder gave up: {reason}") from None
    return Decoded(waveform, rate, f"{container}/{codec.upper().removesuffix('FLOAT')}", None)


def _pyav(container):
    """The module av, which most recordings do not need and a bare Kaggle kernel does not have."""
    try:
        return importlib.import_module("av")
    except ImportError:
        reason = f"a {container} file of this kind is read by the package av: pip install av, then run this again"
        raise AudioIssue("NO_DECODER", reason) from None


def _frames(av, file, stream):
    resampler = av.AudioResampler(
        format="fltp", layout=stream.codec_context.layout, rate=stream.rate
    )
    for frame in file.decode(stream):
        for part in resampler.resample(frame):
            yield part.to_ndarray().T.astype(np.float32)
