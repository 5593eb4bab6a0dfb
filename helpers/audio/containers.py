"""What the bytes of a file say before any decoder sees it: its container, its codec, and whether it
is whole.

Only headers and the lengths of pieces are read, by Python alone: a decoder's own look at a file is
where it breaks.
"""

from helpers.base import errors

MIN_RATE, MAX_RATE = 1000, 384000  # Hz; recorders of whales run at 2000
MAX_CHANNELS = 16
MAX_PIECES = 1 << 21  # chunks, pages or frames of a file; more are not counted
SEARCH = 1 << 16  # bytes in which the first frame, or the next page, is looked for
STREAMING = (
    0x7FFFFF00  # a WAV that declares so many bytes or more was written without knowing its length
)
WAV_CODECS = {
    1: {8, 12, 16, 20, 24, 32},
    3: {32, 64},
    6: {8},
    7: {8},
}  # PCM, float, A-law, mu-law: bits per sample
AIFF_CODECS = {
    b"NONE",
    b"sowt",
    b"twos",
    b"in24",
    b"in32",
    b"raw ",
    b"fl32",
    b"FL32",
    b"fl64",
    b"FL64",
}
AIFF_CODECS |= {b"alaw", b"ALAW", b"ulaw", b"ULAW"}
AU_CODECS = {1, 2, 3, 4, 5, 6, 7, 27}  # mu-law, PCM of 8 to 32 bits, float, double, A-law
OGG_CODECS = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC")
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # behind the codec of an extensible WAV
MAGIC = {b"OggS": "OGG", b".snd": "AU", b"\x1aE\xdf\xa3": "WEBM"}
NOT_ALLOWED = {
    b"caff": "CAF", b"riff": "Wave64", b"wvpk": "WavPack", b"MAC ": "Monkey's Audio", b"0&\xb2u": "Windows Media",
    b"#!AM": "AMR", b"Crea": "Creative Voice", b"BW64": "BW64", b"MThd": "MIDI", b"TTA1": "True Audio",
}  # fmt: skip
BOXES = {
    b"ftyp",
    b"moov",
    b"mdat",
    b"free",
    b"skip",
    b"wide",
    b"moof",
    b"mfra",
    b"sidx",
    b"styp",
    b"udta",
    b"uuid",
}
KBPS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    # bitrates of MPEG audio by (version, layer); versions 2 and 2.5 have the same ones, and layer 3
    # layer 2's
}


def identify(file, size):
    """Container of an open file by its content, whatever its name.

    Args: file opened in binary mode; size in bytes.
    Returns (WAV, FLAC, OGG, MP3, AIFF, AU, MP4, WEBM or AAC; whether libsndfile would miss part of
        what it holds).
    Raises AudioIssue for what is no audio, not allowed or cut short.
    """
    start = _after_tags(file, size)
    container = _container(read_at(file, start, 16), tagged=start > 0)
    return container, bool(CHECKS[container](file, start, size)) if container in CHECKS else False


def check_format(rate, channels):
    """Refuse sample rates (Hz) and numbers of channels that no recording has. Raises AudioIssue."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise errors.AudioIssue(
            "BAD_RATE", f"a sample rate of {rate} Hz; allowed are {MIN_RATE} to {MAX_RATE}"
        )
    if channels < 1:
        raise errors.AudioIssue("NOT_AUDIO", "a header that declares no channel")
    if channels > MAX_CHANNELS:
        raise errors.AudioIssue("TOO_MANY_CHANNELS", f"{channels} channels; at most {MAX_CHANNELS}")


def read_at(file, position, length):
    file.seek(position)
    return file.read(length)


def _after_tags(file, size):
    """First byte behind the ID3v2 tags (https://id3.org/id3v2.4.0-structure, section 3.1)."""
    start = 0
    for _ in range(16):
        head = read_at(file, start, 10)
        if head[:3] != b"ID3" or len(head) < 10:
            break
        length = sum(
            (byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)
        )
        start += 10 + length + (10 if head[5] & 0x10 else 0)
    if start and start >= size:
        raise errors.AudioIssue("TRUNCATED", "the file ends inside its ID3 tag")
    return start


def _container(head, tagged):
    """Name of a container by its first bytes. Behind an ID3 tag only FLAC, AAC and MP3 may follow."""
    if head[:4] == b"fLaC":
        return "FLAC"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return "AAC" if head[1] & 0xF6 == 0xF0 else "MP3"  # the two layer bits are 0 in ADTS only
    if not tagged:
        if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
            return "WAV"
        if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
            return "AIFF"
        if container := MAGIC.get(head[:4]) or ("MP4" if head[4:8] == b"ftyp" else None):
            return container
    if name := NOT_ALLOWED.get(head[:4]):
        raise errors.AudioIssue(
            "CODEC_NOT_ALLOWED", f"{name} files are not opened; convert it to WAV or FLAC"
        )
    if tagged and head[:4] not in (b"RIFF", b"FORM", *MAGIC):
        return "MP3"  # padding may follow the tag
    raise errors.AudioIssue("NOT_AUDIO", "no known audio format at the start of the file")


def _check_length(declared, there, streaming=False):
    if declared == 0 and there > 0:
        raise errors.AudioIssue(
            "EMPTY_AUDIO", f"the header declares 0 bytes of sound, {there} follow (data size 0)"
        )
    if there < declared and not streaming:
        raise errors.AudioIssue(
            "TRUNCATED", f"{max(there, 0)} of {declared} declared bytes are there"
        )


# --- chunks: WAV, AIFF, AU
# ---------------------------------------------------------------------------------


def _chunks(file, size, order):
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
    order, long_length, formatted = "big" if magic == b"RIFX" else "little", None, False
    for name, at, length in _chunks(file, size, order):
        if name == b"ds64":  # RF64 keeps its length here (EBU Tech 3306)
            long_length = int.from_bytes(read_at(file, at + 8, 8), "little")
        elif name == b"fmt ":
            _check_wav_format(read_at(file, at, min(length, 40)), order)
            formatted = True
        elif name == b"data" and formatted:
            there, is_long = size - at, magic == b"RF64"
            if there >= 1 << 32 and not is_long:
                raise errors.AudioIssue(
                    "TOO_LONG", "more than 4 GB of sound, whose length a WAV cannot declare"
                )
            declared = long_length if is_long and long_length is not None else length
            return _check_length(declared, there, streaming=length >= STREAMING and not is_long)
    raise errors.AudioIssue(
        "NOT_AUDIO", "a WAV header without a format and, behind it, a data chunk"
    )


def _check_wav_format(body, order):
    """A WAV's format chunk: codec (the real one behind WAVE_FORMAT_EXTENSIBLE), channels, rate,
    width of a sample.
    """
    if len(body) < 16:
        raise errors.AudioIssue("NOT_AUDIO", "a WAV header that is cut")
    fields = ((0, 2), (2, 4), (4, 8), (12, 14), (14, 16))
    codec, channels, rate, width, bits = (int.from_bytes(body[a:b], order) for a, b in fields)
    if codec == 0xFFFE:
        codec = int.from_bytes(body[24:26], order) if body[26:40] == GUID_TAIL else codec
    if codec not in WAV_CODECS:
        raise errors.AudioIssue(
            "CODEC_NOT_ALLOWED", f"WAV codec {codec:#06x}; allowed are PCM, float, A-law, mu-law"
        )
    check_format(rate, channels)
    if bits not in WAV_CODECS[codec] or width != channels * -(-bits // 8):
        raise errors.AudioIssue(
            "CODEC_NOT_ALLOWED", f"{bits} bits per sample in {width} bytes for {channels} channels"
        )


def _check_aiff(file, start, size):
    form = read_at(file, 4, 8)
    for name, at, length in _chunks(file, size, "big"):
        codec = read_at(file, at + 18, 4) if form[4:] == b"AIFC" else b"NONE"
        if name == b"COMM" and codec not in AIFF_CODECS:
            raise errors.AudioIssue(
                "CODEC_NOT_ALLOWED", f"AIFF codec {codec.decode('ascii', 'replace')}"
            )
        if name == b"SSND":
            _check_length(length, size - at)
    _check_length(int.from_bytes(form[:4], "big"), size - 8)


def _check_au(file, start, size):
    offset, length, codec, rate, channels = (
        int.from_bytes(read_at(file, at, 4), "big") for at in range(4, 24, 4)
    )
    if codec not in AU_CODECS:
        raise errors.AudioIssue("CODEC_NOT_ALLOWED", f"AU codec {codec}")
    check_format(rate, channels)
    _check_length(length, size - offset, streaming=length == 0xFFFFFFFF)


# --- pages and boxes: OGG, MP4, WebM
# -----------------------------------------------------------------------


def _check_ogg(file, start, size):
    """Codecs must be allowed, the last page whole and marked as the end (RFC 3533, section 6). Are
    there several streams, one after the other?
    """
    position, whole, ended, begun, chained = 0, False, False, False, False
    for _ in range(MAX_PIECES):
        head = read_at(file, position, 282)
        if head[:4] != b"OggS":
            found = read_at(file, position + 1, SEARCH).find(b"OggS")
            if found < 0:
                break
            position += 1 + found
            continue
        body = 27 + (head[26] if len(head) > 26 else 0)
        length = body + sum(head[27:body])
        first = len(head) > 26 and bool(head[5] & 2)
        if first and not read_at(file, position + body, 8).startswith((*OGG_CODECS, b"fishead\0")):
            raise errors.AudioIssue(
                "CODEC_NOT_ALLOWED", "an Ogg stream that is not Vorbis, Opus or FLAC"
            )
        whole, ended = (
            len(head) > 26 and position + length <= size,
            len(head) > 26 and bool(head[5] & 4),
        )
        chained, begun = chained or (first and begun), begun or not first
        position += length
    if not (whole and ended):
        raise errors.AudioIssue("TRUNCATED", "the end of the Ogg stream is missing")
    return chained


def _check_mp4(file, start, size):
    """The boxes of the outermost level (ISO/IEC 14496-12, section 4.2) must be whole, the index
    among them.
    """
    position, found = 0, set()
    for _ in range(MAX_PIECES):
        head = read_at(file, position, 16)
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        length = int.from_bytes(head[8:16], "big") if length == 1 else length or size - position
        if name in BOXES and position + length > size:
            raise errors.AudioIssue(
                "TRUNCATED", f"{size - position} of {length} bytes of {name.decode()} are there"
            )
        if length < 8 or position + length > size:
            break  # no box, but bytes behind the last one
        found.add(name)
        position += length
    if b"moov" not in found:
        raise errors.AudioIssue(
            "TRUNCATED" if b"mdat" in found else "NOT_AUDIO", "the MP4 file has no index (moov)"
        )


def _check_webm(file, start, size):
    """The segment must be whole, where it says how long it is (RFC 8794, section 6)."""
    head, position = read_at(file, 0, 64), 4
    for name in (b"", b"\x18\x53\x80\x67"):
        if head[position : position + len(name)] != name:
            return
        position += len(name)
        width = 9 - head[position].bit_length() if position < len(head) else 9
        body = head[position : position + width]
        if width > 8 or len(body) < width:
            return
        length = int.from_bytes(body, "big") & ((1 << 7 * width) - 1)
        position += width + (length if not name else 0)
    if length != (1 << 7 * width) - 1:  # all ones: not known
        _check_length(length, size - position)


# --- frames: MP3, AAC
# --------------------------------------------------------------------------------------


def mpeg_frame_bytes(head):
    """Length in bytes of a frame of MPEG audio by its first 4 bytes, 0 where they are none (ISO/IEC
    11172-3, 2.4.1.3).

    >>> mpeg_frame_bytes(bytes.fromhex("fffb9000")), mpeg_frame_bytes(b"ID3\\x03")
    (417, 0)
    """
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = (
        head[1] >> 3 & 3,
        4 - (head[1] >> 1 & 3),
    )  # version 3: MPEG-1, 2: MPEG-2, 0: MPEG-2.5
    kbps, rate, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or rate == 3 or not 0 < kbps < 15:
        return 0
    older = version == 3
    bits = 1000 * KBPS[(1, layer) if older else (2, min(layer, 2))][kbps - 1]
    rate = (44100, 48000, 32000)[rate] // {3: 1, 2: 2, 0: 4}[version]
    if layer == 1:
        return 4 * (12 * bits // rate + padding)
    return (144 if older or layer == 2 else 72) * bits // rate + padding


def adts_frame_bytes(head):
    """Length in bytes of a frame of AAC by its first 6 bytes, 0 where they are none (ISO/IEC
    13818-7, 6.2).
    """
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return 0
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return length if length >= 7 else 0


def _walk(file, position, frame_bytes):
    """Follow frames from one to the next: returns (how many, where the last one ends)."""
    for count in range(MAX_PIECES):
        if not (length := frame_bytes(read_at(file, position, 6))):
            return count, position
        position += length
    return MAX_PIECES, position


def _check_mp3(file, start, size):
    """The last frame must be whole, unless a header counts them all. Does sound lie where
    libsndfile does not look: behind padding, or behind the number of frames that the header counts?
    """
    head = read_at(file, start, SEARCH)
    first = _first_frame(head)
    frame = head[first : first + mpeg_frame_bytes(head[first : first + 4])]
    mark = max(frame.find(b"Xing"), frame.find(b"Info"))
    counted = (
        int.from_bytes(frame[mark + 8 : mark + 12], "big")
        if mark > 0 and frame[mark + 7] & 1
        else None
    )
    count, end = _walk(file, start + first, mpeg_frame_bytes)
    if end > size and counted is None:
        raise errors.AudioIssue("TRUNCATED", "the last frame is cut")
    return first > 0 or (counted is not None and count > counted + 2)


def _first_frame(head):
    """Where the first frame of MPEG audio begins that another one follows."""
    at = head.find(b"\xff")
    while at >= 0:
        length = mpeg_frame_bytes(head[at : at + 4])
        after = head[at + length : at + length + 4]
        if length and (mpeg_frame_bytes(after) or at + length == len(head)):
            return at
        at = head.find(b"\xff", at + 1)
    raise errors.AudioIssue("NOT_AUDIO", "no frames of MPEG audio")


def _check_aac(file, start, size):
    count, end = _walk(file, start, adts_frame_bytes)
    if end > size:
        raise errors.AudioIssue("TRUNCATED", "the last frame is cut")
    if not count:
        raise errors.AudioIssue("NOT_AUDIO", "no frames of AAC")


CHECKS = {
    "WAV": _check_wav, "AIFF": _check_aiff, "AU": _check_au, "OGG": _check_ogg, "MP4": _check_mp4,
    "WEBM": _check_webm, "MP3": _check_mp3, "AAC": _check_aac,
}  # fmt: skip
