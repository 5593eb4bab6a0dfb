"""Public data sets by name: downloaded, verified, safely unpacked and put into place, each once."""

import hashlib
import math
import os
import shutil
import stat
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath

from helpers.base import tables, work
from helpers.base.errors import SourceError
from helpers.layouts import listing

PIECE = 1 << 20  # bytes read at a time
ATTEMPTS = 3  # in a row that bring nothing new, at one address
PATIENCE = 60  # seconds without a byte
BROKEN = (OSError, ValueError, tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError)
SPARE = 1.05  # of the space that a set needs
MOST_UNPACKED = 3  # times the size that is known
ESC50_TABLE = "meta/esc50.csv"


@dataclass(frozen=True)
class PublicSet:
    """A data set and where it can be had. Sizes are in bytes, about where no checksum is kept."""

    about: str
    folder: str  # below data/
    addresses: tuple[str, ...]  # the first that answers is taken
    size: float
    unpacked: float
    licence: str
    citation: str
    recordings: int
    official: str  # the official split, and whether it is used
    command: str  # what to do next
    checksum: str = ""  # "sha256:…" of the archive; "": its content is checked
    table: tuple[str, str] = ("", "")  # a file in it, and its MD5
    part_of: str = ""  # the set that it is a part of

    @property
    def guarantee(self) -> str:
        """What is checked, in words."""
        if self.checksum:
            return f"the archive's {self.checksum.partition(':')[0].upper()}, and the recordings"
        return (
            "GitHub packs this archive anew now and then, so its own checksum is not pinned: "
            f"{self.table[0]} is checked by its MD5, and that every recording is there"
        )


ESC50 = PublicSet(
    about="fifty everyday sounds, 5 s each",
    folder="ESC-50",
    addresses=(
        "https://github.com/karolpiczak/ESC-50/archive/33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6.zip",
    ),
    size=647e6,
    unpacked=0.9e9,
    licence="CC BY-NC 3.0",
    citation="K. J. Piczak 2015, doi:10.1145/2733373.2806390",
    recordings=2000,
    official="five official folds, which are used",
    command="run-all --preset esc50",
    table=(ESC50_TABLE, "54a0d0055a10bb7df84ad340a148722e"),
)
SETS = {
    "esc50": ESC50,
    "esc10": PublicSet(
        about="ten everyday sounds, those of ESC-50 that are marked esc10",
        folder="ESC-10",
        addresses=ESC50.addresses,
        size=ESC50.size,
        unpacked=1.1e9,
        licence="CC BY 3.0",
        citation=ESC50.citation,
        recordings=400,
        official="five official folds, which are used",
        command="run-all --preset esc10 --data data/ESC-10",
        part_of="esc50",
    ),
    "urbansound8k": PublicSet(
        about="ten city sounds, up to 4 s each",
        folder="UrbanSound8K",
        addresses=(
            "https://zenodo.org/record/1203745/files/UrbanSound8K.tar.gz?download=1",
            "https://zenodo.org/records/1203745/files/UrbanSound8K.tar.gz?download=1",
        ),
        size=6_023_741_708,
        unpacked=7.1e9,
        licence="CC BY-NC 4.0",
        citation="J. Salamon, C. Jacoby, J. P. Bello 2014, doi:10.1145/2647868.2655045",
        recordings=8732,
        official="ten official folds, which are used",
        command="run-all --preset urbansound8k --data data/UrbanSound8K",
        checksum="md5:9aa69802bbf37fb986f71ec1483a196e",
    ),
    "gtzan": PublicSet(
        about="ten genres of music, 30 s each",
        folder="GTZAN",
        addresses=(
            "http://opihi.cs.uvic.ca/sound/genres.tar.gz",
            "https://web.archive.org/web/20220328223413/http://opihi.cs.uvic.ca/sound/genres.tar.gz",
        ),
        size=1.23e9,
        unpacked=1.4e9,
        licence="none is stated: for research",
        citation="G. Tzanetakis, P. Cook 2002, doi:10.1109/TSA.2002.800560",
        recordings=1000,
        official="no official split; it holds copies, which are found and kept together",
        command="run-all --preset genres --data data/GTZAN",
        checksum="sha256:24347e0223d2ba798e0a558c4c172d9d4a19c00bb7963fe055d183dadb4ef2c6",
    ),
    "speech_commands": PublicSet(
        about="35 words of many speakers, 1 s each, and noise",
        folder="SpeechCommands",
        addresses=(
            "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
        ),
        size=2_428_923_189,
        unpacked=3.5e9,
        licence="CC BY 4.0",
        citation="P. Warden 2018, arXiv:1804.03209",
        recordings=105_835,
        official="official validation and test lists, which are used",
        command="run-all --preset speech_commands_v2 --data data/SpeechCommands",
        checksum="sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
    ),
    "fsdd": PublicSet(
        about="ten spoken digits of six speakers, 0.5 s each",
        folder="FSDD",
        addresses=(
            "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/v1.0.9.tar.gz",
        ),
        size=11_975_353,
        unpacked=30e6,
        licence="CC BY-SA 4.0",
        citation="Z. Jackson et al. 2018, doi:10.5281/zenodo.1342401",
        recordings=2500,
        official="takes 0 to 4 are the official test set; folds by speaker, harder, are used",
        command="run-all --data data/FSDD",
        checksum="sha256:8bc44cde129d505cbbb6b365c09f80c663f2aa77578afc634e6141a2f87100c0",
    ),
}


def in_words(name: str, folder: str | Path) -> str:
    """A set before it is downloaded: sizes, licence, what is checked, what comes out."""
    one = SETS[name]
    free = shutil.disk_usage(_existing(Path(folder))).free
    return (
        f"{name}: {one.about}; {one.recordings} recordings; {one.official}\n"
        f"  download {_size(one.size)}, unpacked {_size(one.unpacked)}, into "
        f"{Path(folder) / one.folder} ({_size(free)} free)\n"
        f"  licence {one.licence}; cite {one.citation}\n"
        f"  checked: {(SETS[one.part_of] if one.part_of else one).guarantee}"
    )


def fetch(name: str, folder: str | Path) -> Path:
    """A public set below `folder`, downloaded and unpacked where it is not there yet: its root.

    A download that broke off goes on where it was, where the server allows it. Args: name of SETS;
        folder such as data/.
    Raises SourceError, saying what was kept, where the set cannot be had, is not what it should be,
        or does not fit on the disk.
    """
    one = SETS[name]
    root = Path(folder) / one.folder
    if root.is_dir():  # it is moved there when complete
        return root
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{one.folder}-") as temporary:
        target = Path(temporary) / "whole"
        if one.part_of:
            _part_of_esc50(fetch(one.part_of, folder), target)
        else:
            archive = Path(folder) / f".{one.folder}.part"
            _require_space(one, archive)
            _download(one, archive)
            target = _opened(one, archive, target)
        os.replace(target, root)
    return root


def _opened(one, archive, target):
    """The root of an archive that is what it should be; what is not is removed."""
    try:
        _verify_archive(one, archive)
        _unpack(archive, target, MOST_UNPACKED * max(one.unpacked, PIECE))
        entries = [path for path in target.iterdir() if not path.name.startswith(".")]
        if len(entries) == 1 and entries[0].is_dir():
            target = entries[0]
        _verify_content(one, target)
    except BROKEN as error:
        raise SourceError(
            f"What came from {one.addresses[0]} is not what it should be, and nothing of it is "
            f"kept: {error}. Try again later, or download it by hand and give the unpacked folder: "
            f"DATA=path/to/{one.folder}"
        ) from None
    finally:
        archive.unlink(missing_ok=True)
    return target


# --- space and bytes


def _existing(path):
    return next(place for place in (path, *path.resolve().parents) if place.exists())


def _size(n_bytes):
    """Bytes in words.

    >>> _size(647e6), _size(6.02e9)
    ('647 MB', '6.0 GB')
    """
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


def _require_space(one, archive):
    there = archive.stat().st_size if archive.is_file() else 0
    needed = SPARE * (one.size + one.unpacked) - there
    free = shutil.disk_usage(archive.parent).free
    if free < needed:
        raise SourceError(
            f"{one.folder} needs {_size(needed)} while it is unpacked; {archive.parent} has "
            f"{_size(free)} free. Make room, or name another folder: --to path/to/folder"
        )


def _there(archive):
    return archive.stat().st_size if archive.is_file() else 0


def _download(one, archive):
    """Fill the archive from the first address that gives it all; what came is kept for later."""
    problems = []
    for address in one.addresses:
        failures = 0
        while failures < ATTEMPTS:
            before = _there(archive)
            try:
                if _go_on(address, archive, one.folder):
                    return
                problem = "the connection broke off"
            except (HTTPException, OSError, ValueError) as error:
                problem = str(error)
            failures = 0 if _there(archive) > before else failures + 1
        problems.append(f"{address}: {problem}")
    there = _there(archive)
    kept = f"{_size(there)} are kept: the same command goes on from there. " if there else ""
    raise SourceError(
        f"{one.folder} could not be downloaded ({'; '.join(problems)}). {kept}"
        f"Or download it by hand and give the unpacked folder: DATA=path/to/{one.folder}"
    )


def _go_on(address, archive, title):
    """Read on at the end of what there is. Returns whether that is all."""
    start = _there(archive)
    headers = {"User-Agent": "earshot"} | ({"Range": f"bytes={start}-"} if start else {})
    request = urllib.request.Request(address, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # there is nothing behind what was kept
            return True
        raise
    with response:
        if response.status != 206:  # a server that only gives the whole
            start = 0
        left = int(response.headers.get("Content-Length") or 0)
        pieces = iter(lambda: response.read(PIECE), b"")
        with open(archive, "ab" if start else "wb") as file:
            for piece in work.progress(pieces, f"{title}, MiB", math.ceil(left / PIECE) or None):
                file.write(piece)
    return _there(archive) >= start + left


# --- what came


def _verify_archive(one, archive):
    kind, _, wanted = one.checksum.partition(":")
    if wanted:
        with open(archive, "rb") as file:
            digest = hashlib.file_digest(file, kind).hexdigest()
        if digest != wanted:
            raise ValueError(f"its {kind.upper()} is {digest}, not {wanted}")


def _verify_content(one, root):
    sounds = filter(listing.is_sound, listing.walk(root))
    found = sum(not tables.is_hidden(path) for path in sounds)
    if found < one.recordings:
        raise ValueError(f"it holds {found} recordings, not {one.recordings}")
    name, wanted = one.table
    if name:
        with open(root / name, "rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
        if digest != wanted:
            raise ValueError(f"the MD5 of {name} is {digest}, not {wanted}")


def _unpack(archive, target, most):
    """Unpack a zip or tar; what leads out of the folder, is no plain file, or is far too large is
    refused.
    """
    target.mkdir()
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            members = zipped.infolist()
            _refuse_size(sum(member.file_size for member in members), most)
            for member in members:
                _refuse_path(member.filename)
                if stat.S_ISLNK(member.external_attr >> 16):
                    raise ValueError(f"it holds a link, {member.filename}")
            zipped.extractall(target)
        return
    if not tarfile.is_tarfile(archive):
        raise ValueError("it is no archive, or a part of one")
    size = 0
    with tarfile.open(archive) as packed:
        for member in packed:
            size += member.size
            _refuse_size(size, most)
            _refuse_path(member.name)
            packed.extract(member, target, filter="data")


def _refuse_path(name):
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name.partition("/")[0]:
        raise ValueError(f"it holds a path that leads out of its folder, {name}")


def _refuse_size(size, most):
    if size > most:
        raise ValueError(f"it unpacks to more than {_size(most)}")


def _part_of_esc50(whole, target):
    """ESC-10 as a folder of its own in ESC-50's layout, its files linked where the disk can."""
    table = tables.read(whole / ESC50_TABLE)
    ten = table[table["esc10"].eq("True")]
    (target / "audio").mkdir(parents=True)
    (target / "meta").mkdir()
    ten.to_csv(target / ESC50_TABLE, index=False)
    for name in ten["filename"]:
        source = whole / "audio" / name
        try:
            os.link(source, target / "audio" / name)
        except OSError:
            shutil.copy2(source, target / "audio" / name)
