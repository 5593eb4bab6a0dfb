"""The decoder gate: a file is looked at before a decoder sees it, and what comes out is checked.

What cannot be used raises AudioIssue with a code and a reason. What passes is finite, float32 and
not empty.
"""

import importlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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


class Header(NamedTuple):
    """What a file says before its samples; as Decoded, but for how many channels and samples."""

    sample_rate: int  # Hz
    channels: int
    codec: str
    bit_depth: int | None
    frames: int  # samples of a channel, as far as they are declared; else 0


def decode(path: str | Path, max_seconds: float = float("inf")) -> Decoded:
    """Decode a file of any allowed container after checking it.

    Args: path; max_seconds longest recording that is decoded. Raises AudioIssue.
    """
    header, blocks = stream(path, max_seconds, MAX_SAMPLES)
    waveform = np.concatenate(list(blocks))
    return Decoded(waveform, header.sample_rate, header.codec, header.bit_depth)


def stream(
    path: str | Path,
    max_seconds: float = float("inf"),
    max_samples: float = float("inf"),
) -> tuple[Header, Iterator[np.ndarray]]:
    """Decode a file block by block, whatever its length.

    Args: path; max_seconds; max_samples over all channels.
    Returns (its Header, blocks float32 [samples, channels], finite, one at least); the file is
        checked while they are taken. Raises AudioIssue, before them or instead of one.
    """
    path = Path(path)
    container, beyond_libsndfile = look(path)
    read = _read_av if beyond_libsndfile else _read_soundfile
    parts = read(path, container, max_seconds, max_samples)
    header = next(parts)
    return header, _checked(parts, header, max_seconds, max_samples)


def _checked(blocks, header, max_seconds, max_samples):
    """The blocks, checked as they come: a length that lies costs nothing."""
    count = 0
    for block in blocks:
        count += len(block)
        _check_size(header.sample_rate, header.channels, count, max_seconds, max_samples)
        finite = np.isfinite(block)
        if not finite.all():
            raise AudioIssue("NONFINITE", f"{(~finite).sum()} samples are NaN or infinite")
        yield block
    if not count:
        raise AudioIssue("EMPTY_AUDIO", "the file holds no samples")


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


def _check_size(rate, channels, frames, max_seconds, max_samples):
    if frames > max_seconds * rate:
        raise AudioIssue(
            "TOO_LONG", f"{frames / rate:.0f} s; at most {max_seconds:g} s (audio.max_seconds)"
        )
    samples = frames * channels
    if samples > max_samples:
        raise AudioIssue(
            "TOO_LARGE", f"{samples:.2g} samples over all channels; at most {max_samples:.2g}"
        )


# --- libsndfile


class Forward(soundfile.SoundFile):
    """An MP3 that is read from its first sample to its last.

    A SoundFile seeks after each block, and an MP3 decoder then lacks what the frames before it have
    laid by: every block would begin with a distortion.
    """

    def seekable(self) -> bool:
        return False


READERS = {"MP3": Forward}


def _read_soundfile(path, container, max_seconds, max_samples):
    """The Header of a file, then its blocks."""
    try:
        with READERS.get(container, soundfile.SoundFile)(path) as file:
            header = _soundfile_header(file, container)
            if header.frames >= 1 << 40:  # a FLAC written to a pipe does not know its length
                yield from _read_av(path, container, max_seconds, max_samples)
                return
            _check_size(*header[:2], header.frames, max_seconds, max_samples)
            yield header
            count = 0
            while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
                count += len(block)
                yield block
    except AudioIssue:
        raise
    except (RuntimeError, ValueError) as error:
        code = "TRUNCATED" if any(words in str(error) for words in CUT_SHORT) else "NOT_AUDIO"
        raise AudioIssue(code, f"the {container} decoder gave up: {error}") from None
    # Encoders of MP3 miscount by a frame.
    missing = min(0.02 * header.frames, 2 * 1152) if container == "MP3" else 0
    if container in ("MP3", "FLAC", "OGG") and count < header.frames - missing:
        raise AudioIssue("TRUNCATED", f"{count} of {header.frames} declared samples are there")


def _soundfile_header(file, container):
    if file.subtype not in BIT_DEPTHS:
        raise AudioIssue("CODEC_NOT_ALLOWED", f"{container} codec {file.subtype}")
    check_format(file.samplerate, file.channels)
    codec = f"{container}/{file.subtype}"
    return Header(file.samplerate, file.channels, codec, BIT_DEPTHS[file.subtype], file.frames)


# --- PyAV


def _read_av(path, container, max_seconds, max_samples):
    """The Header, then the blocks, of what libsndfile cannot read: AAC, Opus in WebM, chained Ogg.

    PyAV's own FFmpeg is given one demuxer and the allowed codecs only.
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
            frames = 0
            if container in ("MP4", "WEBM"):  # others only guess how long they are
                frames = round((file.duration or 0) / av.time_base * rate)
                _check_size(rate, coder.channels, frames, max_seconds, max_samples)
            spoken = f"{container}/{codec.upper().removesuffix('FLOAT')}"
            yield Header(rate, coder.channels, spoken, None, frames)
            yield from _frames(av, file, stream)
    except AudioIssue:
        raise
    except (av.FFmpegError, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioIssue("NOT_AUDIO", f"the {container} decoder gave up: {reason}") from None


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
