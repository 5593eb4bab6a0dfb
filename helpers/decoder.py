"""The decoder gate: a file is looked at before a decoder sees it, and what comes out is checked.

What cannot be used raises AudioIssue with a code and a reason. What passes is finite, float32 and not empty.
"""

import stat
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile

MIN_RATE, MAX_RATE = 4000, 384000  # Hz
MAX_CHANNELS = 16
MAX_SAMPLES = 4e8  # over all channels, 1.6 GB decoded: an hour of stereo at 48 kHz is 3.5e8
STREAMING = 0x7FFFFF00  # a WAV that declares so many bytes or more was written without knowing its length
WAV_CODECS = {1, 3, 6, 7}  # PCM, float, A-law, mu-law; ADPCM decoders have open holes
BIT_DEPTHS = {
    "PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "FLOAT": 32, "DOUBLE": 64, "ULAW": 8, "ALAW": 8,
}  # fmt: skip
LOSSY = {"VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III"}
MAGIC = {b"fLaC": "FLAC", b"OggS": "OGG", b"FORM": "AIFF", b".snd": "AU", b"\x1aE\xdf\xa3": "WEBM"}
BLOCK = 1 << 18  # samples read at a time


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
    container = sniff(path)
    read = _decode_av if container in ("MP4", "WEBM", "AAC") else _decode_soundfile
    decoded = read(path, container, max_seconds)
    if not len(decoded.waveform):
        raise AudioIssue("EMPTY_AUDIO", "the file holds no samples")
    if not np.isfinite(decoded.waveform).all():
        raise AudioIssue("NONFINITE", f"{int((~np.isfinite(decoded.waveform)).sum())} samples are NaN or infinite")
    return decoded


# --- before the decoder ------------------------------------------------------------------------------------


def sniff(path):
    """Container of a file by its first bytes. Raises AudioIssue for what is no audio, not allowed or cut short."""
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            raise AudioIssue("NOT_REGULAR", "not a regular file")
        if info.st_size == 0:
            raise AudioIssue("EMPTY_FILE", "the file has 0 bytes")
        with open(path, "rb") as file:
            container = _container(file.read(16))
            checks = {"WAV": _check_wav, "AIFF": _check_aiff, "AU": _check_au, "OGG": _check_ogg}
            if container in checks:
                checks[container](file, info.st_size)
            return container
    except OSError as error:
        raise AudioIssue("UNREADABLE", f"cannot be read: {error.strerror}") from None


def _container(head):
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        return "WAV"
    if head[:3] == b"ID3":
        return "MP3"
    if head[0] == 0xFF and len(head) > 1 and head[1] & 0xE0 == 0xE0:
        return "AAC" if head[1] & 0x06 == 0 else "MP3"  # the two layer bits are 0 in ADTS only
    if container := MAGIC.get(head[:4]) or ("MP4" if head[4:8] == b"ftyp" else None):
        return container
    raise AudioIssue("NOT_AUDIO", "no known audio format at the start of the file")


def _check_wav(file, size):
    """Walk the chunks of a WAV: refuse codecs and rates that are not allowed, find a data chunk cut short."""
    magic = _read_at(file, 0, 4)
    order, position, long_length = "big" if magic == b"RIFX" else "little", 12, None
    while position + 8 <= size:
        name, length = _read_at(file, position, 4), int.from_bytes(file.read(4), order)
        body = _read_at(file, position + 8, min(length, 40)) if name != b"data" else b""
        if name == b"ds64":  # RF64 keeps its length here (EBU Tech 3306)
            long_length = int.from_bytes(body[8:16], order)
        if name == b"fmt ":
            if len(body) < 16:
                break
            _check_format(body, order)
        if name == b"data":
            declared = long_length if magic == b"RF64" and long_length is not None else length
            return _check_length(declared, size - position - 8, streaming=magic != b"RF64" and length >= STREAMING)
        position += 8 + length + length % 2
    raise AudioIssue("NOT_AUDIO", "a WAV header without a data chunk")


def _check_format(body, order):
    """A WAV's format chunk: codec (the real one behind WAVE_FORMAT_EXTENSIBLE), channels and rate."""
    codec, channels, rate = (int.from_bytes(body[a:b], order) for a, b in ((0, 2), (2, 4), (4, 8)))
    if codec == 0xFFFE:
        codec = int.from_bytes(body[24:26], order)
    if codec not in WAV_CODECS:
        raise AudioIssue("CODEC_NOT_ALLOWED", f"WAV codec {codec:#06x}; allowed are PCM, float, A-law, mu-law")
    _check_shape(rate, channels, 0, 0)


def _check_aiff(file, size):
    _check_length(int.from_bytes(_read_at(file, 4, 4), "big"), size - 8)


def _check_au(file, size):
    offset, length = (int.from_bytes(_read_at(file, at, 4), "big") for at in (4, 8))
    _check_length(length, size - offset, streaming=length == 0xFFFFFFFF)


def _check_length(declared, there, streaming=False):
    if declared == 0 and there:
        raise AudioIssue("EMPTY_AUDIO", f"the header declares 0 bytes of sound, {there} follow")
    if there < declared and not streaming:
        raise AudioIssue("TRUNCATED", f"{max(there, 0)} of {declared} declared bytes are there")


def _check_ogg(file, size):
    """The last Ogg page must be whole and carry the end-of-stream mark (RFC 3533, section 6)."""
    tail = _read_at(file, max(0, size - 70000), 70000)  # a page has at most 65 307 bytes
    page = tail[max(tail.rfind(b"OggS"), 0) :]
    whole = len(page) > 27 and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
    if not whole or not page[5] & 4:
        raise AudioIssue("TRUNCATED", "the end of the Ogg stream is missing")


def _read_at(file, position, length):
    file.seek(position)
    return file.read(length)


# --- the decoders ------------------------------------------------------------------------------------------


def _decode_soundfile(path, container, max_seconds):
    try:
        with soundfile.SoundFile(path) as file:
            rate, subtype, declared = file.samplerate, file.subtype, file.frames
            if subtype not in LOSSY and subtype not in BIT_DEPTHS:
                raise AudioIssue("CODEC_NOT_ALLOWED", f"{container} codec {subtype}")
            if declared >= 1 << 40:  # a FLAC written to a pipe does not know its length; libsndfile cannot read on
                return _decode_av(path, container, max_seconds)
            _check_shape(rate, file.channels, declared, max_seconds)
            waveform = _read_blocks(file, max_seconds * rate)
    except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
        if isinstance(error, AudioIssue):
            raise
        cut_short = any(words in str(error) for words in ("lost sync", "Unspecified internal", "psf_fseek"))
        code = "TRUNCATED" if cut_short else "NOT_AUDIO"
        raise AudioIssue(code, f"the {container} decoder gave up: {error}") from None
    if container in ("MP3", "FLAC") and len(waveform) < 0.98 * declared:
        raise AudioIssue("TRUNCATED", f"{len(waveform)} of {declared} declared samples are there")
    return Decoded(waveform, rate, f"{container}/{subtype}", BIT_DEPTHS.get(subtype))


def _read_blocks(file, max_samples):
    """All samples of an open file, read in blocks, so that a length that lies costs nothing."""
    blocks, count = [np.zeros((0, file.channels), np.float32)], 0
    while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
        blocks.append(block)
        if (count := count + len(block)) > max_samples:
            raise AudioIssue("TOO_LONG", f"more than {max_samples / file.samplerate:g} s (audio.max_seconds)")
    return np.concatenate(blocks)


def _check_shape(rate, channels, frames, max_seconds):
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioIssue("BAD_RATE", f"a sample rate of {rate} Hz; allowed are {MIN_RATE} to {MAX_RATE}")
    if channels > MAX_CHANNELS:
        raise AudioIssue("TOO_MANY_CHANNELS", f"{channels} channels; at most {MAX_CHANNELS}")
    if frames / rate > max_seconds:
        raise AudioIssue("TOO_LONG", f"{frames / rate:.0f} s; at most {max_seconds:g} s (audio.max_seconds)")
    if frames * channels > MAX_SAMPLES:
        raise AudioIssue("TOO_LARGE", f"{frames * channels:.2g} samples over all channels; at most {MAX_SAMPLES:.2g}")


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
