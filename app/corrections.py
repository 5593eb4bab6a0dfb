"""What a visitor says of an answer: kept in the form of relabel.csv, with the sound beside it."""

import hashlib
from pathlib import Path

from helpers.audio import containers
from helpers.base import targets

NONE = "none of these"
TABLE = "relabel.csv"


def save(folder, name, data, said, right, multilabel):
    """Keep a sound in the folder of its class, and a row that says what it was taken for.

    A sound that was kept before moves; its row is written anew.
    Args: folder of the corrections; name of the file; data its bytes; said the classes of the
        answer; right those that are heard, none if it is none of the run's; multilabel.
    Returns the path of the sound, relative to the folder.
    """
    from helpers.data import relabel, sources

    digest = hashlib.sha256(data).hexdigest()[:12]
    suffix = Path(name).suffix.casefold()
    suffix = suffix if suffix in containers.SUFFIXES else ".wav"
    label = targets.join(right)
    path = Path(targets.folder_name(label or NONE), f"{digest}{suffix}")
    former = [old.relative_to(folder) for old in folder.glob(f"*/{path.name}")]
    for old in former:
        (folder / old).unlink()
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(data)
    row = {
        "recording_id": sources.recording_id(path.as_posix()),
        "path": path.as_posix(),
        "source": Path(name).name,
        "label": targets.join(said) or relabel.NONE,
        "new_label": label or (relabel.NONE if multilabel else relabel.DROP),
    }
    relabel.add(folder / TABLE, row, [sources.recording_id(old.as_posix()) for old in former])
    return path
