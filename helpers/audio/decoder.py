"""The decoder gate: a file is looked at before a decoder sees it, and what comes out is checked.

What cannot be used raises AudioIssue with a code and a reason. What passes is finite, float32 and
not empty.
"""

import importlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from helpers.audio.containers import FORMATS, check_format, identify
from helpers.base.errors import AudioIssue

MAX_SAMPLES = 4e8  # over all channels, 1.6 GB decoded: an hour of stereo at 48 kHz is 3.5e8
BIT_DEPTHS = {  # of the codecs that libsndfile may decode; None: lossy
    **{"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32},
    **{"FLOAT": 32, "DOUBLE": 64, "ULAW": 8, "ALAW": 8, "VORBIS": None, "OPUS": None},
    **{"MPEG_LAYER_I": None, "MPEG_LAYER_II": None, "MPEG_LAYER_III": None},
}
AV_CODECS = [
    "aac",
    "alac",
    "flac",
    "mp3",
    "mp3float",
    "opus",
    "pcm_f32le",
    "pcm_s16le",
    "pcm_s24le",
    "vorbis",
]
CUT_SHORT = ("lost sync", "Unspecified internal", "psf_fseek")  # libsndfile's words for it
BLOCK = 1 << 18  # samples read at a time


@dataclass(frozen=True)
class Decoded:
    """A recording as it lies in its file."""

    waveform: np.ndarray  # [samples, channels] float32, finite, not empty
    sample_rate: int  # Hz
    codec: str  # container and codec, such as WAV/PCM_16
    bit_depth: int | None  # missing for lossy codecs


def decode(path: str | Path, max_seconds: float = float("inf")) -> Decoded:
    """Decode a file of any allowed container after checking it.

    Args: path; max_seconds longest recording that is decoded. Raises AudioIssue.
    """
    path = Path(path)
    container, beyond_libsndfile = look(path)
    read = _decode_av if beyond_libsndfile else _decode_soundfile
    decoded = read(path, container, max_seconds)
    if not len(decoded.waveform):
        raise AudioIssue("EMPTY_AUDIO", "the file holds no samples")
    finite = np.isfinite(decoded.waveform)
    if not finite.all():
        raise AudioIssue("NONFINITE", f"{(~finite).sum()} samples are NaN or infinite")
    return decoded


def look(path: Path) -> tuple[str, bool]:
    """Container of a file by its content, and whether libsndfile cannot read (all of) it.

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
            return identify(file, info.st_size)
    except OSError as error:
        raise AudioIssue("UNREADABLE", f"cannot be read: {error.strerror}") from None


def _check_name(name):
    """Refuse a name that libsndfile cannot be given."""
    try:
        has_nul = b"\0" in name.encode()
    except UnicodeEncodeError:
        raise AudioIssue(
            "NAME_UNSAFE", "the name cannot be used: it is not valid UTF-8; rename the file"
        ) from None
    if has_nul:
        raise AudioIssue("NAME_UNSAFE", "the name cannot be used: it holds a NUL")


def _check_size(rate, channels, frames, max_seconds):
    if frames > max_seconds * rate:
        raise AudioIssue(
            "TOO_LONG", f"{frames / rate:.0f} s; at most {max_seconds:g} s (audio.max_seconds)"
        )
    samples = frames * channels
    if samples > MAX_SAMPLES:
        raise AudioIssue(
            "TOO_LARGE", f"{samples:.2g} samples over all channels; at most {MAX_SAMPLES:.2g}"
        )


def _joined(blocks, rate, channels, max_seconds):
    """Blocks [samples, channels] as one, checked as they come: a length that lies costs nothing."""
    kept = [np.zeros((0, channels), np.float32)]
    count = 0
    for block in blocks:
        kept.append(block)
        count += len(block)
        _check_size(rate, channels, count, max_seconds)
    return np.concatenate(kept)


# --- libsndfile


def _decode_soundfile(path, container, max_seconds):
    try:
        with soundfile.SoundFile(path) as file:
            if file.subtype not in BIT_DEPTHS:
                raise AudioIssue("CODEC_NOT_ALLOWED", f"{container} codec {file.subtype}")
            check_format(file.samplerate, file.channels)
            if file.frames >= 1 << 40:  # a FLAC written to a pipe does not know its length
                return _decode_av(path, container, max_seconds)
            shape = (file.samplerate, file.channels)
            _check_size(*shape, file.frames, max_seconds)
            waveform = _joined(_blocks(file), *shape, max_seconds)
    except AudioIssue:
        raise
    except (RuntimeError, ValueError) as error:
        code = "TRUNCATED" if any(words in str(error) for words in CUT_SHORT) else "NOT_AUDIO"
        raise AudioIssue(code, f"the {container} decoder gave up: {error}") from None
    # Encoders of MP3 miscount by a frame.
    missing = min(0.02 * file.frames, 2 * 1152) if container == "MP3" else 0
    if container in ("MP3", "FLAC", "OGG") and len(waveform) < file.frames - missing:
        raise AudioIssue(
            "TRUNCATED", f"{len(waveform)} of {file.frames} declared samples are there"
        )
    codec = f"{container}/{file.subtype}"
    return Decoded(waveform, file.samplerate, codec, BIT_DEPTHS[file.subtype])


def _blocks(file) -> Iterator[np.ndarray]:
    while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
        yield block


# --- PyAV


def _decode_av(path, container, max_seconds):
    """Decode what libsndfile cannot (AAC, Opus in WebM, chained Ogg) with PyAV's own FFmpeg.

    It is given one demuxer and the allowed codecs only.
    """
    av = _pyav(container)
    demuxer = FORMATS[container].demuxer
    options = {"codec_whitelist": ",".join(AV_CODECS)}
    try:
        with (
            open(path, "rb") as raw,
            av.open(raw, format=demuxer, options=options, metadata_errors="ignore") as file,
        ):
            if not file.streams.audio:
                raise AudioIssue("NOT_AUDIO", f"the {container} file has no audio track")
            stream = file.streams.audio[0]
            coder = stream.codec_context
            codec = coder.name if coder else "unknown"  # a codec that this FFmpeg does not know
            if codec not in AV_CODECS:
                raise AudioIssue("CODEC_NOT_ALLOWED", f"{container} codec {codec}")
            rate = stream.rate or 0
            check_format(rate, coder.channels)
            if container in ("MP4", "WEBM"):  # others only guess how long they are
                frames = (file.duration or 0) / av.time_base * rate
                _check_size(rate, coder.channels, frames, max_seconds)
            waveform = _joined(_frames(av, file, stream), rate, coder.channels, max_seconds)
    except AudioIssue:
        raise
    except (av.FFmpegError, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioIssue("NOT_AUDIO", f"the {container} decoder gave up: {reason}") from None
    return Decoded(waveform, rate, f"{container}/{codec.upper().removesuffix('FLOAT')}", None)


def _pyav(container):
    """The module av, which most recordings do not need and a bare Kaggle kernel does not have."""
    try:
        return importlib.import_module("av")
    except ImportError:
        reason = f"a {container} file of this kind is read by the package av: pip install av, then"
        raise AudioIssue("NO_DECODER", f"{reason} run this again") from None


def _frames(av, file, stream) -> Iterator[np.ndarray]:
    layout = stream.codec_context.layout
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=stream.rate)
    for frame in file.decode(stream):
        for part in resampler.resample(frame):
            yield part.to_ndarray().T.astype(np.float32)
