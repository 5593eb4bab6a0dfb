"""What the bytes of a file say before any decoder sees it: container, codec, and wholeness.

Only headers and the lengths of pieces are read, by Python alone: a decoder's own look at a file is
where it breaks. FORMATS is the one table of the formats that Earshot opens.
"""

import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from helpers.base.errors import AudioIssue

MIN_RATE = 1000  # Hz; recorders of whales run at 2000
MAX_RATE = 384000  # Hz
MAX_CHANNELS = 16
MAX_PIECES = 1 << 21  # chunks, pages or frames of a file; more are not counted
SEARCH = 1 << 16  # bytes in which the first frame, or the next page, is looked for
STREAMING = 0x7FFFFF00  # bytes; a WAV that declares more was written without knowing its length
WAV_CODECS = {  # PCM, float, A-law, mu-law: bits per sample
    1: {8, 12, 16, 20, 24, 32},
    3: {32, 64},
    6: {8},
    7: {8},
}
AIFF_CODECS = set(b"NONE sowt twos in24 in32 fl32 FL32 fl64 FL64 alaw ALAW ulaw ULAW".split())
AIFF_CODECS.add(b"raw ")
AU_CODECS = {1, 2, 3, 4, 5, 6, 7, 27}  # mu-law, PCM of 8 to 32 bits, float, double, A-law
OGG_CODECS = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"fishead\0")  # and Skeleton, an index
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # behind the codec of an extensible WAV
MAGIC = {b"fLaC": "FLAC", b"OggS": "OGG", b".snd": "AU", b"\x1aE\xdf\xa3": "WEBM"}
FORMS = {  # first word, and the third
    (b"RIFF", b"WAVE"): "WAV",
    (b"RIFX", b"WAVE"): "WAV",
    (b"RF64", b"WAVE"): "WAV",
    (b"FORM", b"AIFF"): "AIFF",
    (b"FORM", b"AIFC"): "AIFF",
}
NOT_ALLOWED = {
    b"caff": "CAF",
    b"riff": "Wave64",
    b"wvpk": "WavPack",
    b"MAC ": "Monkey's Audio",
    b"0&\xb2u": "Windows Media",
    b"#!AM": "AMR",
    b"Crea": "Creative Voice",
    b"BW64": "BW64",
    b"MThd": "MIDI",
    b"TTA1": "True Audio",
}
BOXES = set(b"ftyp moov mdat free skip wide moof mfra sidx styp udta uuid".split())
SEGMENT = b"\x18\x53\x80\x67"  # what the sound of a WebM file lies in
KBPS = {  # bitrates of MPEG audio by (version, layer); versions 2 and 2.5 have the same ones
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # layer 3, too
}


def identify(file: BinaryIO, size: int) -> tuple[str, bool]:
    """Container of an open file by its content, whatever its name.

    Args: file opened in binary mode; size in bytes.
    Returns (a name of FORMATS, whether libsndfile would miss part of what it holds, or all).
    Raises AudioIssue for what is no audio, not allowed or cut short.
    """
    start = _after_tags(file, size)
    container = _container(read_at(file, start, 16), tagged=start > 0)
    one = FORMATS[container]
    hidden = one.check(file, start, size) if one.check else False
    return container, bool(hidden) or not one.libsndfile


def check_format(rate: int, channels: int):
    """Refuse sample rates (Hz) and numbers of channels that no recording has. Raises AudioIssue."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioIssue(
            "BAD_RATE", f"a sample rate of {rate} Hz; allowed are {MIN_RATE} to {MAX_RATE}"
        )
    if channels < 1:
        raise AudioIssue("NOT_AUDIO", "a header that declares no channel")
    if channels > MAX_CHANNELS:
        raise AudioIssue("TOO_MANY_CHANNELS", f"{channels} channels; at most {MAX_CHANNELS}")


def read_at(file: BinaryIO, position: int, length: int) -> bytes:
    """At most `length` bytes of a file from a position on."""
    file.seek(position)
    return file.read(length)


def _after_tags(file, size):
    """First byte behind the ID3v2 tags (https://id3.org/id3v2.4.0-structure, section 3.1)."""
    start = 0
    for _ in range(16):
        head = read_at(file, start, 10)
        if head[:3] != b"ID3" or len(head) < 10:
            break
        length = 0
        for byte in head[6:]:
            length = length << 7 | byte & 0x7F
        footer = 10 if head[5] & 0x10 else 0
        start += 10 + length + footer
    if start and start >= size:
        raise AudioIssue("TRUNCATED", "the file ends inside its ID3 tag")
    return start


def _container(head, tagged):
    """Name of a container by its first bytes; behind an ID3 tag only FLAC, AAC and MP3 follow."""
    container = _by_magic(head)
    if container in ("FLAC", "AAC", "MP3") or (container and not tagged):
        return container
    if name := NOT_ALLOWED.get(head[:4]):
        raise AudioIssue(
            "CODEC_NOT_ALLOWED", f"{name} files are not opened; convert it to WAV or FLAC"
        )
    if tagged and head[:4] not in (b"RIFF", b"FORM", *MAGIC):
        return "MP3"  # padding may follow the tag
    raise AudioIssue("NOT_AUDIO", "no known audio format at the start of the file")


def _by_magic(head):
    """The container that the first bytes name, or None."""
    if head[:1] == b"\xff" and head[1:2] >= b"\xe0":  # the two layer bits are 0 in ADTS only
        return "AAC" if head[1] & 0xF6 == 0xF0 else "MP3"
    container = MAGIC.get(head[:4]) or FORMS.get((head[:4], head[8:12]))
    if head[4:8] == b"ftyp":
        return container or "MP4"
    return container


def _check_length(declared, actual, streaming=False):
    """Refuse a file with fewer bytes of sound than its header declares, unless it was streamed."""
    if declared == 0 and actual > 0:
        raise AudioIssue(
            "EMPTY_AUDIO", f"the header declares 0 bytes of sound, {actual} follow (data size 0)"
        )
    if actual < declared and not streaming:
        raise AudioIssue("TRUNCATED", f"{max(actual, 0)} of {declared} declared bytes are there")


# --- chunks: WAV, AIFF, AU


def _chunks(file, size, order) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and declared length of each chunk of a RIFF or IFF file."""
    position = 12
    for _ in range(MAX_PIECES):
        if position + 8 > size:
            return
        head = read_at(file, position, 8)
        length = int.from_bytes(head[4:], order)
        yield head[:4], position + 8, length
        position += 8 + length + length % 2


def _check_wav(file, start, size):
    magic = read_at(file, 0, 4)
    order = "big" if magic == b"RIFX" else "little"
    places = {}
    for name, at, length in _chunks(file, size, order):
        places[name] = at
        if name == b"fmt ":
            _check_wav_format(read_at(file, at, min(length, 40)), order)
        elif name == b"data" and b"fmt " in places:
            break
    else:
        raise AudioIssue("NOT_AUDIO", "a WAV header without a format and, behind it, a data chunk")
    streaming = length >= STREAMING
    if magic == b"RF64":
        streaming = False
        if b"ds64" in places:  # where RF64 keeps its length (EBU Tech 3306)
            length = int.from_bytes(read_at(file, places[b"ds64"] + 8, 8), "little")
    elif size - at >= 1 << 32:
        raise AudioIssue("TOO_LONG", "more than 4 GB of sound, whose length a WAV cannot declare")
    _check_length(length, size - at, streaming)


def _check_wav_format(body, order):
    """A WAV's format chunk: codec, channels, rate, width of a sample."""
    if len(body) < 16:
        raise AudioIssue("NOT_AUDIO", "a WAV header that is cut")
    layout = {"little": "<", "big": ">"}[order] + "HHI4xHH"
    codec, channels, rate, width, bits = struct.unpack(layout, body[:16])
    if codec == 0xFFFE and body[26:40] == GUID_TAIL:  # the real codec of WAVE_FORMAT_EXTENSIBLE
        codec = int.from_bytes(body[24:26], order)
    if codec not in WAV_CODECS:
        raise AudioIssue(
            "CODEC_NOT_ALLOWED", f"WAV codec {codec:#06x}; allowed are PCM, float, A-law, mu-law"
        )
    check_format(rate, channels)
    if bits not in WAV_CODECS[codec] or width != channels * -(-bits // 8):
        raise AudioIssue(
            "CODEC_NOT_ALLOWED", f"{bits} bits per sample in {width} bytes for {channels} channels"
        )


def _check_aiff(file, start, size):
    form = read_at(file, 4, 8)
    for name, at, length in _chunks(file, size, "big"):
        if name == b"COMM" and form[4:] == b"AIFC":
            codec = read_at(file, at + 18, 4)
            if codec not in AIFF_CODECS:
                raise AudioIssue(
                    "CODEC_NOT_ALLOWED", f"AIFF codec {codec.decode('ascii', 'replace')}"
                )
        if name == b"SSND":
            _check_length(length, size - at)
    _check_length(int.from_bytes(form[:4], "big"), size - 8)


def _check_au(file, start, size):
    head = read_at(file, 4, 20).ljust(20, b"\0")
    offset, length, codec, rate, channels = struct.unpack(">5I", head)
    if codec not in AU_CODECS:
        raise AudioIssue("CODEC_NOT_ALLOWED", f"AU codec {codec}")
    check_format(rate, channels)
    _check_length(length, size - offset, streaming=length == 0xFFFFFFFF)


# --- pages and boxes: OGG, MP4, WebM


class Page(NamedTuple):
    """A page of an Ogg file (RFC 3533, section 6); places in bytes."""

    body: int
    end: int
    begins: bool  # a stream begins here
    ends: bool  # a stream ends here


def _pages(file) -> Iterator[Page]:
    """The pages of an Ogg file; what lies between them is passed over."""
    position = 0
    for _ in range(MAX_PIECES):
        head = read_at(file, position, 282)
        if head[:4] == b"OggS" and len(head) > 26:
            body = 27 + head[26]
            end = position + body + sum(head[27:body])
            yield Page(position + body, end, bool(head[5] & 2), bool(head[5] & 4))
            position = end
        else:
            gap = read_at(file, position + 1, SEARCH).find(b"OggS")
            if gap < 0:
                return
            position += 1 + gap


def _check_ogg(file, start, size):
    """Codecs must be allowed, the last page whole and marked as the end.

    Returns whether there are several streams, one after the other.
    """
    inside = chained = whole = False
    for page in _pages(file):
        if page.begins and not read_at(file, page.body, 8).startswith(OGG_CODECS):
            raise AudioIssue("CODEC_NOT_ALLOWED", "an Ogg stream that is not Vorbis, Opus or FLAC")
        chained = chained or (page.begins and inside)
        inside = inside or not page.begins
        whole = page.ends and page.end <= size
    if not whole:
        raise AudioIssue("TRUNCATED", "the end of the Ogg stream is missing")
    return chained


def _check_mp4(file, start, size):
    """The outermost boxes (ISO/IEC 14496-12, section 4.2) must be whole, with an index."""
    position = 0
    names = set()
    for _ in range(MAX_PIECES):
        head = read_at(file, position, 16)
        name = head[4:8]
        left = size - position
        length = int.from_bytes(head[:4], "big") or left
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if name in BOXES and length > left:
            raise AudioIssue("TRUNCATED", f"{left} of {length} bytes of {name.decode()} are there")
        if length < 8 or length > left:
            break  # no box, but bytes behind the last one
        names.add(name)
        position += length
    if b"moov" not in names:
        code = "TRUNCATED" if b"mdat" in names else "NOT_AUDIO"
        raise AudioIssue(code, "the MP4 file has no index (moov)")


def _check_webm(file, start, size):
    """The segment must be whole, where it says how long it is (RFC 8794, section 6)."""
    length, width = _ebml_number(read_at(file, 4, 8))
    position = 4 + width + length
    if not width or read_at(file, position, 4) != SEGMENT:
        return
    length, width = _ebml_number(read_at(file, position + 4, 8))
    unknown = (1 << 7 * width) - 1  # all ones; 0 where there is no number
    if length != unknown:
        _check_length(length, size - position - 4 - width)


def _ebml_number(data):
    """A number at the start of some bytes, and how many bytes it takes: 0 where there is none."""
    width = 9 - data[0].bit_length() if data else 9
    if width > len(data):
        return 0, 0
    return int.from_bytes(data[:width], "big") & ((1 << 7 * width) - 1), width


# --- frames: MP3, AAC


def mpeg_frame_bytes(head: bytes) -> int:
    """Length in bytes of a frame of MPEG audio by its first 4 bytes, 0 where they are none.

    The source is ISO/IEC 11172-3, 2.4.1.3.

    >>> mpeg_frame_bytes(bytes.fromhex("fffb9000")), mpeg_frame_bytes(b"ID3\\x03")
    (417, 0)
    """
    bits = int.from_bytes(head[:4], "big")
    version = bits >> 19 & 3  # 3: MPEG-1, 2: MPEG-2, 0: MPEG-2.5
    layer = 4 - (bits >> 17 & 3)
    speed = bits >> 12 & 15
    rate = bits >> 10 & 3
    padding = bits >> 9 & 1
    is_sync = bits >> 21 == 0x7FF
    if not is_sync or version == 1 or layer == 4 or rate == 3 or not 0 < speed < 15:
        return 0
    first = version == 3
    kbps = KBPS[(1, layer) if first else (2, min(layer, 2))][speed - 1]
    rate = (44100, 48000, 32000)[rate] // {3: 1, 2: 2, 0: 4}[version]
    if layer == 1:
        return 4 * (12000 * kbps // rate + padding)
    samples = 1152 if first or layer == 2 else 576
    return samples // 8 * 1000 * kbps // rate + padding


def adts_frame_bytes(head: bytes) -> int:
    """Length in bytes of a frame of AAC by its first 6 bytes, 0 where they are none.

    The source is ISO/IEC 13818-7, 6.2.
    """
    bits = int.from_bytes(head[:6], "big")
    length = bits >> 5 & 0x1FFF
    return length if bits >> 32 & 0xFFF6 == 0xFFF0 and length >= 7 else 0


def _walk(file, position, frame_bytes):
    """Follow frames from one to the next: returns (how many, where the last one ends)."""
    for count in range(MAX_PIECES):
        length = frame_bytes(read_at(file, position, 6))
        if not length:
            return count, position
        position += length
    return MAX_PIECES, position


def _check_mp3(file, start, size):
    """The last frame must be whole, unless a header counts them all.

    Returns whether sound lies where libsndfile does not look: behind padding, or behind the number
    of frames that the header counts.
    """
    head = read_at(file, start, SEARCH)
    first = _first_frame(head)
    frame = head[first : first + mpeg_frame_bytes(head[first : first + 4])]
    mark = max(frame.find(b"Xing"), frame.find(b"Info"))
    is_counted = mark > 0 and frame[mark + 7] & 1
    count, end = _walk(file, start + first, mpeg_frame_bytes)
    if is_counted:
        more = count > int.from_bytes(frame[mark + 8 : mark + 12], "big") + 2
        return first > 0 or more
    if end > size:
        raise AudioIssue("TRUNCATED", "the last frame is cut")
    return first > 0


def _first_frame(head):
    """Where the first frame of MPEG audio begins that another one follows."""
    at = head.find(b"\xff")
    while at >= 0:
        length = mpeg_frame_bytes(head[at : at + 4])
        after = at + length
        if length and (after == len(head) or mpeg_frame_bytes(head[after : after + 4])):
            return at
        at = head.find(b"\xff", at + 1)
    raise AudioIssue("NOT_AUDIO", "no frames of MPEG audio")


def _check_aac(file, start, size):
    count, end = _walk(file, start, adts_frame_bytes)
    if end > size:
        raise AudioIssue("TRUNCATED", "the last frame is cut")
    if not count:
        raise AudioIssue("NOT_AUDIO", "no frames of AAC")


# --- all formats


class Format(NamedTuple):
    """A format of audio files: how it is named, opened and checked."""

    suffixes: str  # of the names of its files
    demuxer: str = ""  # FFmpeg's name, where FFmpeg may be asked
    check: Callable | None = None  # of (file, first byte behind tags, size in bytes)
    libsndfile: bool = True  # whether libsndfile reads it


FORMATS = {
    "WAV": Format(".wav", check=_check_wav),
    "FLAC": Format(".flac", "flac"),
    "OGG": Format(".ogg .oga .opus", "ogg", _check_ogg),
    "MP3": Format(".mp3", "mp3", _check_mp3),
    "AIFF": Format(".aif .aiff .aifc", check=_check_aiff),
    "AU": Format(".au", check=_check_au),
    "MP4": Format(".m4a .mp4 .aac", "mp4", _check_mp4, libsndfile=False),
    "WEBM": Format(".webm", "matroska", _check_webm, libsndfile=False),
    "AAC": Format(".aac", "aac", _check_aac, libsndfile=False),
}
SUFFIXES = sorted({suffix for one in FORMATS.values() for suffix in one.suffixes.split()})
