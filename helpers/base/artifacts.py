"""Files of a run: atomic writes, tables with a schema, digests of contents."""

import contextlib
import csv
import hashlib
import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import psutil

from helpers.base import errors

REPOSITORY = Path(__file__).resolve().parents[2]
STARTER = REPOSITORY / "app" / "starter"  # a small trained run that comes with Earshot


# What run-all does not make: the command of make that measures it.
MEASURED = {
    "cleaning_ledger.csv": "ablate",
    "ablation.csv": "ablation",
    "ablation": "ablation",
    "search": "search",
}


class DamagedFile(errors.StageError):
    """A file that was written here is missing or holds something else.

    The message names it and says what to do.
    """

    def __init__(self, path, problem="is damaged"):
        super().__init__(f"{path} {problem}. {_remedy(Path(path).absolute())}")


def _remedy(path):
    runs = (home() / "outputs").absolute()
    if not path.is_relative_to(runs):
        return "Copy it anew, or delete what it belongs to and call again."
    run, name = (*path.relative_to(runs).parts, "")[:2]
    if name in MEASURED:
        return f"Delete it; `make {MEASURED[name]} RUN={run}` measures it again."
    return f"`make run-all RUN={run}`, with the PRESET and DATA of that run, makes it again."


# --- what stands in the tables

TEXT = "str"
NUMBER = "float64"
WHOLE = "Int64"
EVERYTHING_ELSE = "*"  # in a schema: the type of all columns that it does not name


def columns(**names: str) -> dict[str, str]:
    """The columns of a table, in the order given, and the type of each; "*" stands for all others.

    Args: names of the columns that hold text, number or whole (whole numbers, perhaps missing).

    >>> columns(text="name", number="size *") | columns(text="says")
    {'name': 'str', 'size': 'float64', '*': 'float64', 'says': 'str'}
    """
    types = {"text": TEXT, "number": NUMBER, "whole": WHOLE}
    table = {}
    for kind, several in names.items():
        table |= dict.fromkeys(several.split(), types[kind])
    return table


# Columns of tables with a column per class that are no class themselves; a class cannot have such a
# name.
IDENTITY = set(
    columns(
        text="clip_id recording_id fold label predicted group split path file filename id index "
        "heard confidence seed probability window start_seconds end_seconds start end onset offset"
    )
)
SCHEMAS = {
    "recordings.csv": columns(
        text="recording_id path label split source together codec sha256 pcm_sha256",
        whole="official_fold sample_rate channels bit_depth",
        number="duration_seconds peak rms_db silence_fraction clipped_fraction dc_offset "
        "leading_silence_seconds noise_floor_db bandwidth_hz loudest_db",
    )
    | columns(text="status reason flags"),
    "clips.csv": columns(text="clip_id recording_id", number="start_seconds valid_seconds")
    | columns(text="label split group path", whole="fold"),
    "quarantine.csv": columns(text="recording_id path label split stage code reason"),
    "duplicates.csv": columns(
        text="recording_id other_id", number="offset_seconds overlap_seconds correlation"
    ),
    "suspects.csv": columns(
        text="recording_id group label suggested",
        number="doubt confidence_given confidence_suggested",
        whole="rank",
    ),
    "augmented.csv": columns(
        text="clip_id parent_id recording_id label group path transforms", whole="fold"
    ),
    "waveforms.csv": columns(
        text="clip_id parent_id recording_id label split group path",
        whole="fold",
        number="start_seconds valid_seconds",
    ),
    "features.csv": columns(
        text="clip_id parent_id recording_id label split group", whole="fold", number="*"
    ),
    "out_of_fold.csv": columns(text="clip_id", whole="fold", number="*"),
    "seeds.csv": columns(text="clip_id", whole="fold seed", number="*"),
    "teachers.csv": columns(text="clip_id", whole="fold seed", number="*"),
    "predictions.csv": columns(text="recording_id path", whole="fold")
    | columns(text="label group predicted", number="*"),
    "leaderboard.csv": columns(text="model", number="*"),
    "cleaning_ledger.csv": columns(
        text="step setting tried metric verdict clips_sha256", number="*"
    ),
    "ablation.csv": columns(text="step setting tried metric verdict recipe", number="*"),
    "balance.csv": columns(text="balance", number="*"),
    "trials.csv": columns(whole="trial", number="score low high preparing seconds")
    | columns(text="metric search *"),
}
# What a table may say besides: which of the labels are secondary, what a recording is worth.
SURENESS = columns(text="secondary", number="weight")
OPTIONAL = dict.fromkeys(("recordings.csv", "clips.csv", "waveforms.csv"), SURENESS)


def sureness(table: pd.DataFrame) -> list[str]:
    """The columns of SURENESS that a table has."""
    return [column for column in SURENESS if column in table]


def home() -> Path:
    """Where ``data/`` and ``outputs/`` live: EARSHOT_HOME if set, else the repository, or the
    working folder where that is read-only (Kaggle's inputs).
    """
    if os.environ.get("EARSHOT_HOME"):
        return Path(os.environ["EARSHOT_HOME"]).expanduser().resolve()
    return REPOSITORY if os.access(REPOSITORY, os.W_OK) else Path.cwd()


def existing_run(name: str) -> Path:
    """Folder of a run that is there, by name, or of an exported one, by its path.

    Raises StageError listing the runs that are.
    """
    folder = home() / "outputs" / name
    if name == STARTER.name and not (folder / "models").is_dir():
        return STARTER
    if not folder.is_dir() and Path(name, "models").is_dir():
        return Path(name).resolve()
    if not folder.is_dir():
        runs = sorted(path.parent.name for path in (home() / "outputs").glob("*/run.json"))
        listed = ", ".join(runs) or "none; start with `make run-all`"
        raise errors.StageError(f"There is no run {name!r} yet. Runs: {listed}.")
    return folder


# --- files


@contextlib.contextmanager
def replacing(path):
    """Yield a temporary path beside `path`, moved into place when the block ends without an error.

    Works for a file or a folder; what was there before is replaced only then.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    remove(temporary)
    try:
        yield temporary
        if temporary.is_dir():
            remove(path)
        os.replace(temporary, path)
    finally:
        remove(temporary)


def remove(path):
    """Remove a file, or a folder with all it holds; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# A temporary file or folder, with the process that made it.
LEFTOVER = re.compile(r"\..+\.(\d+)\.(tmp|ipynb)")


def leftovers(*folders: Path) -> list[Path]:
    """Temporary files and folders, directly in these folders, of processes that are gone."""
    paths = chain.from_iterable(folder.iterdir() for folder in folders if folder.is_dir())
    made = [(path, LEFTOVER.fullmatch(path.name)) for path in paths]
    return [path for path, made_by in made if made_by and _is_gone(int(made_by[1]))]


def _is_gone(process):
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:  # somebody else's
        return False


def write_text(path, text):
    """Write a UTF-8 text file atomically."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json(path, value):
    """Write JSON atomically; numbers that JSON does not know (NaN) are refused."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path):
    """What a JSON file holds. Raises DamagedFile."""
    with readable(path):
        return json.loads(Path(path).read_text(encoding="utf-8"))


@contextlib.contextmanager
def readable(path):
    """A block in which a file is read; what shows that it is not what was written: DamagedFile."""
    try:
        yield
    except FileNotFoundError:
        raise DamagedFile(path, "is missing") from None
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        words = f"it holds no {error}" if isinstance(error, KeyError) else str(error)
        line = (words or type(error).__name__).splitlines()[0]
        raise DamagedFile(path, f"is damaged ({line[:120]})") from None


def write_table(path, table: pd.DataFrame):
    """Write a CSV atomically; where the file has a schema, exactly its columns in its order."""
    name = Path(path).name
    schema = SCHEMAS.get(name, {EVERYTHING_ELSE: TEXT})
    named = [column for column in schema if column != EVERYTHING_ELSE]
    optional = sureness(table) if name in OPTIONAL else []
    others = [column for column in table if column not in schema]
    if missing := [column for column in named if column not in table]:
        raise errors.StageError(f"{name} needs the columns {', '.join(missing)}")
    table = table[named + optional + others * (EVERYTHING_ELSE in schema)]
    texts = table.select_dtypes(exclude="number")
    cells = chain(table, texts.to_numpy().flat)
    returns = any("\r" in str(text) for text in cells)  # which survive only between quotes
    quoting = csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL
    write_text(path, table.to_csv(index=False, lineterminator="\n", quoting=quoting))


def read_table(path) -> pd.DataFrame:
    """Read a CSV as text, then give each column of its schema its type; empty text stays text.

    Raises DamagedFile.
    """
    schema = SCHEMAS.get(Path(path).name, {})
    optional = OPTIONAL.get(Path(path).name, {})
    with readable(path):
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        missing = [name for name in schema if name not in (*table.columns, EVERYTHING_ELSE)]
        if missing:
            raise LookupError(f"it has no column {missing[0]!r}")
        for column in table:
            kind = (schema | optional).get(column, schema.get(EVERYTHING_ELSE, TEXT))
            if kind == NUMBER:  # to the last bit, which pd.to_numeric misses in pandas 2
                table[column] = table[column].replace("", "nan").astype(NUMBER)
            elif kind == WHOLE:
                table[column] = pd.to_numeric(table[column].replace("", None)).astype(WHOLE)
    return table


def read(path):
    """A table (.csv), an array, memory-mapped (.npy), or else a JSON value. Raises DamagedFile."""
    if Path(path).suffix == ".npy":
        return np.load(path, mmap_mode="r")
    return read_table(path) if Path(path).suffix == ".csv" else read_json(path)


# --- digests


def file_digest(path):
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(path):
    """The same, or a word for a file that cannot be read, at which no folder's digest may stop."""
    try:
        return file_digest(path)
    except OSError as error:
        return f"unreadable ({error.errno})"


def digest(path) -> str | None:
    """SHA-256 of a file, or of a folder's relative names and contents; None if there is nothing."""
    path = Path(path)
    if path.is_file():
        return file_digest(path)
    if not path.is_dir():
        return None
    whole = hashlib.sha256()
    for name, content in _contents(path, content_digest).items():
        whole.update(os.fsencode(name) + b"\0" + content.encode() + b"\n")
    return whole.hexdigest()


def _contents(folder, digest_of):
    """The digest of every file below a folder, by relative path, in the order of the paths."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor() as pool:
        digests = pool.map(digest_of, files)
    names = [file.relative_to(folder).as_posix() for file in files]
    return dict(zip(names, digests, strict=True))


DIGESTS = "digests.json"


def seal(folder):
    """Write digests.json into a folder: the SHA-256 of every file below it, by relative path."""
    folder = Path(folder)
    (folder / DIGESTS).unlink(missing_ok=True)
    write_json(folder / DIGESTS, _contents(folder, file_digest))


def check_seal(folder, *patterns: str):
    """Raise DamagedFile unless the files that match the patterns are those that were sealed."""
    folder = Path(folder)
    with readable(folder / DIGESTS):
        sealed = dict(read_json(folder / DIGESTS))
    for pattern in patterns:
        present = {path.relative_to(folder).as_posix() for path in folder.glob(pattern)}
        promised = {name for name in sealed if PurePosixPath(name).match(pattern)}
        for name in sorted(present | promised):
            if name not in present:
                raise DamagedFile(folder / name, "is missing")
            if file_digest(folder / name) != sealed.get(name):
                says = f"is not what was written: its SHA-256 is not that in {DIGESTS}"
                raise DamagedFile(folder / name, says)


def account(table: pd.DataFrame) -> dict[str, int]:
    """Counts of a table with a status per file: found = used + quarantined + ignored.

    Raises StageError where that does not hold.
    """
    status = table["status"].replace("ok", "used")
    kinds = {name: int(status.eq(name).sum()) for name in ("used", "quarantined", "ignored")}
    counts = {"found": len(table), **kinds}
    require(len(table) == sum(kinds.values()), f"files do not add up: {counts}")
    return counts


def require(condition, message: str):
    """Stop the stage with a message if a check does not hold."""
    if not condition:
        raise errors.StageError(message)
