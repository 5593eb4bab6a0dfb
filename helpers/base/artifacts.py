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

import pandas as pd
import psutil

from helpers.base import errors

REPOSITORY = Path(__file__).resolve().parents[2]


class DamagedFile(errors.StageError):
    """A file that was written here is missing or holds something else; the message names it and
    says what to do.
    """

    def __init__(self, path, problem="is damaged"):
        super().__init__(f"{path} {problem}. {_remedy(Path(path).absolute())}")


MEASURED = {
    "cleaning_ledger.csv": "ablate",
    "ablation.csv": "ablation",
    "ablation": "ablation",
}  # not by run-all


def _remedy(path):
    runs = (home() / "outputs").absolute()
    if not path.is_relative_to(runs):
        return "Copy it anew, or delete what it belongs to and call again."
    run, name = (*path.relative_to(runs).parts, "")[:2]
    if name in MEASURED:
        return f"Delete it; `make {MEASURED[name]} RUN={run}` measures it again."
    return f"`make run-all RUN={run}`, with the PRESET and DATA of that run, makes it again."


TEXT, NUMBER, WHOLE = "str", "float64", "Int64"
# Columns of tables with a column per class that are no class themselves; a class cannot have such a
# name.
IDENTITY = {
    *(
        "clip_id",
        "recording_id",
        "fold",
        "label",
        "predicted",
        "group",
        "split",
        "path",
        "file",
        "filename",
    ),
    *("id", "index", "heard", "confidence", "seed", "probability", "window"),
    *("start_seconds", "end_seconds", "start", "end", "onset", "offset"),
}
EVERYTHING_ELSE = "*"  # in a schema: the type of all columns that it does not name
SCHEMAS = {
    "recordings.csv": {
        **dict.fromkeys(
            (
                "recording_id",
                "path",
                "label",
                "split",
                "source",
                "together",
                "codec",
                "sha256",
                "pcm_sha256",
            ),
            TEXT,
        ),
        **dict.fromkeys(("official_fold", "sample_rate", "channels", "bit_depth"), WHOLE),
        **dict.fromkeys(
            ("duration_seconds", "peak", "rms_db", "silence_fraction", "clipped_fraction"), NUMBER
        ),
        **dict.fromkeys(
            ("dc_offset", "leading_silence_seconds", "noise_floor_db", "bandwidth_hz"), NUMBER
        ),
        "loudest_db": NUMBER,
        **dict.fromkeys(("status", "reason", "flags"), TEXT),
    },
    "clips.csv": {
        **dict.fromkeys(("clip_id", "recording_id"), TEXT),
        **dict.fromkeys(("start_seconds", "valid_seconds"), NUMBER),
        **dict.fromkeys(("label", "split", "group", "path"), TEXT),
        "fold": WHOLE,
    },
    "quarantine.csv": dict.fromkeys(
        ("recording_id", "path", "label", "split", "stage", "code", "reason"), TEXT
    ),
    "duplicates.csv": {
        **{"recording_id": TEXT, "other_id": TEXT},
        **dict.fromkeys(("offset_seconds", "overlap_seconds", "correlation"), NUMBER),
    },
    "suspects.csv": {
        **dict.fromkeys(("recording_id", "group", "label", "suggested"), TEXT),
        **{
            **dict.fromkeys(("doubt", "confidence_given", "confidence_suggested"), NUMBER),
            "rank": WHOLE,
        },
    },
    "augmented.csv": {
        **dict.fromkeys(
            ("clip_id", "parent_id", "recording_id", "label", "group", "path", "transforms"), TEXT
        ),
        "fold": WHOLE,
    },
    "waveforms.csv": {
        **dict.fromkeys(
            ("clip_id", "parent_id", "recording_id", "label", "split", "group", "path"), TEXT
        ),
        **{"fold": WHOLE, "start_seconds": NUMBER, "valid_seconds": NUMBER},
    },
    "features.csv": {
        **dict.fromkeys(("clip_id", "parent_id", "recording_id", "label", "split", "group"), TEXT),
        **{"fold": WHOLE, EVERYTHING_ELSE: NUMBER},
    },
    "out_of_fold.csv": {"clip_id": TEXT, "fold": WHOLE, EVERYTHING_ELSE: NUMBER},
    "seeds.csv": {"clip_id": TEXT, "fold": WHOLE, "seed": WHOLE, EVERYTHING_ELSE: NUMBER},
    "predictions.csv": {
        "recording_id": TEXT,
        "fold": WHOLE,
        "label": TEXT,
        "predicted": TEXT,
        EVERYTHING_ELSE: NUMBER,
    },
    "leaderboard.csv": {"model": TEXT, EVERYTHING_ELSE: NUMBER},
    "cleaning_ledger.csv": {
        **dict.fromkeys(("step", "setting", "tried", "metric", "verdict", "clips_sha256"), TEXT),
        EVERYTHING_ELSE: NUMBER,
    },
    "ablation.csv": {
        **dict.fromkeys(("step", "setting", "tried", "metric", "verdict", "recipe"), TEXT),
        EVERYTHING_ELSE: NUMBER,
    },
    "balance.csv": {"balance": TEXT, EVERYTHING_ELSE: NUMBER},
}


def home():
    """Where ``data/`` and ``outputs/`` live: EARSHOT_HOME if set, else the repository, or the
    working folder where that is read-only (Kaggle's inputs).
    """
    if os.environ.get("EARSHOT_HOME"):
        return Path(os.environ["EARSHOT_HOME"]).expanduser().resolve()
    return REPOSITORY if os.access(REPOSITORY, os.W_OK) else Path.cwd()


def existing_run(name):
    """Folder of a run that is there, by name. Raises StageError listing the runs that are."""
    folder = home() / "outputs" / name
    if not folder.is_dir():
        runs = sorted(path.parent.name for path in (home() / "outputs").glob("*/run.json"))
        raise errors.StageError(
            f"There is no run {name!r} yet. Runs: {', '.join(runs) or 'none; start with `make run-all`'}."
        )
    return folder


# --- files
# -------------------------------------------------------------------------------------------------


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


LEFTOVER = re.compile(
    r"\..+\.(\d+)\.(tmp|ipynb)"
)  # a temporary file or folder, with the process that made it


def leftovers(*folders):
    """Temporary files and folders, directly in these folders, of processes that are gone."""
    for path in chain.from_iterable(folder.iterdir() for folder in folders if folder.is_dir()):
        made_by = LEFTOVER.fullmatch(path.name)
        if made_by and _is_gone(int(made_by[1])):
            yield path


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
    """Inside the block a file is read; whatever shows that it is not what was written raises
    DamagedFile.
    """
    try:
        yield
    except FileNotFoundError:
        raise DamagedFile(path, "is missing") from None
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        words = (
            f"it holds no {error}"
            if isinstance(error, KeyError)
            else str(error) or type(error).__name__
        )
        raise DamagedFile(path, f"is damaged ({words.splitlines()[0][:120]})") from None


def write_table(path, table):
    """Write a CSV atomically; where the file has a schema, exactly its columns in its order."""
    schema = SCHEMAS.get(Path(path).name, {EVERYTHING_ELSE: TEXT})
    named = [column for column in schema if column != EVERYTHING_ELSE]
    if missing := [column for column in named if column not in table]:
        raise errors.StageError(f"{Path(path).name} needs the columns {', '.join(missing)}")
    others = (
        [column for column in table if column not in schema] if EVERYTHING_ELSE in schema else []
    )
    table = table[named + others]
    texts = table.select_dtypes(exclude="number")
    returns = any("\r" in str(text) for text in chain(table, *(texts[column] for column in texts)))
    quoting = (
        csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL
    )  # a carriage return survives only between quotes
    write_text(path, table.to_csv(index=False, lineterminator="\n", quoting=quoting))


def read_table(path):
    """Read a CSV as text, then give each column of its schema its type. Empty text stays empty
    text.

    Raises DamagedFile.
    """
    schema = SCHEMAS.get(Path(path).name, {})
    with readable(path):
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        if missing := [
            column for column in schema if column not in (*table.columns, EVERYTHING_ELSE)
        ]:
            raise LookupError(f"it has no column {missing[0]!r}")
        for column in table:
            kind = schema.get(column, schema.get(EVERYTHING_ELSE, TEXT))
            if kind == NUMBER:  # to the last bit, which pd.to_numeric misses in pandas 2
                table[column] = table[column].replace("", "nan").astype(NUMBER)
            elif kind == WHOLE:
                table[column] = pd.to_numeric(table[column].replace("", None)).astype(WHOLE)
    return table


# --- digests
# -----------------------------------------------------------------------------------------------


def file_digest(path):
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(path):
    """The same, or a word for a file that cannot be read: a folder's digest must not stop at one
    bad file.
    """
    try:
        return file_digest(path)
    except OSError as error:
        return f"unreadable ({error.errno})"


def digest(path):
    """SHA-256 of a file, or of a folder's relative names and contents; None if there is nothing."""
    path = Path(path)
    if path.is_file():
        return file_digest(path)
    if not path.is_dir():
        return None
    files = sorted(Path(root) / name for root, _, names in os.walk(path) for name in names)
    files = [file for file in files if file.is_file()]
    with ThreadPoolExecutor() as pool:
        contents = pool.map(content_digest, files)
    whole = hashlib.sha256()
    for file, content in zip(files, contents, strict=True):
        whole.update(os.fsencode(file.relative_to(path)) + b"\0" + content.encode() + b"\n")
    return whole.hexdigest()


DIGESTS = "digests.json"


def seal(folder):
    """Write digests.json into a folder: the SHA-256 of every file below it, by its relative path."""
    folder = Path(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != DIGESTS)
    write_json(
        folder / DIGESTS, {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
    )


def check_seal(folder, *patterns):
    """Raise DamagedFile, naming the file, unless those that match the patterns are just the ones
    that were sealed.
    """
    folder = Path(folder)
    with readable(folder / DIGESTS):
        sealed = dict(read_json(folder / DIGESTS))
    names = {
        path.relative_to(folder).as_posix() for pattern in patterns for path in folder.glob(pattern)
    }
    names |= {
        name for name in sealed if any(PurePosixPath(name).match(pattern) for pattern in patterns)
    }
    for name in sorted(names):
        if not (folder / name).is_file():
            raise DamagedFile(folder / name, "is missing")
        if file_digest(folder / name) != sealed.get(name):
            raise DamagedFile(
                folder / name, f"is not what was written: its SHA-256 is not that in {DIGESTS}"
            )


def account(table):
    """Counts of a table with a status per file: found = used + quarantined + ignored, or a
    StageError.
    """
    status = table["status"].replace("ok", "used").value_counts()
    counts = {
        "found": len(table),
        **{name: int(status.get(name, 0)) for name in ("used", "quarantined", "ignored")},
    }
    require(
        counts["found"] == counts["used"] + counts["quarantined"] + counts["ignored"],
        f"files do not add up: {counts}",
    )
    return counts


def require(condition, message):
    """Stop the stage with a message if a check does not hold."""
    if not condition:
        raise errors.StageError(message)
