"""A run that was begun in another session: an attached notebook's outputs, or a mounted Drive.

On Kaggle each notebook is a session of its own, and its outputs reach the next one as a read-only
input; on Colab a disconnect leaves what lies on Drive. What is found there is checked by the
digests in its run.json before it is used.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from helpers.base import artifacts

ROOTS = ("/kaggle/input", "/content/drive/MyDrive")
DEPTH = 5  # folders above a run's own, as in notebooks/<user>/<notebook>/outputs/<run>
# What no later stage changes. Where it is large it is linked: a Kaggle session may write 20 GB.
READ_ONLY = ("clips", "augmented", "waveforms.npy", "embeddings.npy")
READ_ONLY += ("spectrograms", "spectrograms.zip")
LINKED = 1 << 28  # bytes
# What belongs to no stage's outputs. Checkpoints have checksums of their own.
CHECKPOINTS = "checkpoints"
BESIDE = ("notebooks", "relabel.csv", *artifacts.MEASURED)


def take(
    folder: Path, run: dict, names: Iterable[str], differs: Callable[[dict], str]
) -> tuple[dict, list[str]]:
    """Bring what a run folder lacks from the same run in another session.

    Stages are taken in their order, each with all its outputs, from the most complete and newest
    session first, as long as they were made from what is here already.

    Args: folder of the run; run what its run.json holds; names of the stages that may be taken;
        differs what is not the same here as in a stage's settings, in words, or "".
    Returns (what run.json should hold now; what was taken from where, and what not and why).
    """
    told = []
    for source, other in attached(folder):
        if not other:
            told.append(f"{source} was not taken: its run.json is damaged, and so is its copy.")
        run, says = _take_from(source, other, folder, run, names, differs)
        told += says
    return run, told


def attached(folder: Path) -> list[tuple[Path, dict]]:
    """Folders of a run among Kaggle's inputs and on Drive, and what run.json says of each.

    The most complete comes first, of these the newest.
    """
    folders = [path.parent for path in search(f"{folder.name}/run.json")]
    folders = [found for found in folders if found.resolve() != folder.resolve()]
    runs = [(source, _record(source)) for source in folders]
    return sorted(runs, key=lambda found: progress(found[1]), reverse=True)


def search(name: str) -> list[Path]:
    """Paths of a name, or of its last parts, among Kaggle's inputs and on Drive."""
    paths = []
    for root in ROOTS:
        for depth in range(DEPTH):
            paths += Path(root).glob("*/" * depth + name)
    return sorted(paths)


def _record(source):
    for name in ("run.json", ".run.json"):
        with contextlib.suppress(artifacts.DamagedFile):
            record = artifacts.read_json(source / name)
            if isinstance(record, dict) and isinstance(record.get("stages"), dict):
                return record
    return {}


def progress(run: dict) -> tuple:
    """How many stages are done, and when the last one was."""
    ended = [stage.get("ended", 0) for stage in _done(run).values()]
    return len(ended), max(ended, default=0)


def _done(run):
    stages = run.get("stages", {})
    return {name: stage for name, stage in stages.items() if stage.get("status") == "done"}


def _take_from(source, other, folder, run, names, differs):
    """Bring what a folder lacks from one source: (what run.json should hold, what to say)."""
    taken = []
    told = []
    for name in names:
        if _is_here(folder, run, name):
            continue
        if name not in _done(other):
            break
        record = other["stages"][name]
        try:
            _require_fit(record, run, differs)
            for output, content in record["outputs"].items():
                _bring(source / output, folder / output, content)
        except (artifacts.DamagedFile, ValueError, OSError) as reason:
            told.append(f"{name} was not taken from {source}: {reason}")
            break
        run = {**other, **run, "stages": {**run.get("stages", {}), name: record}}
        taken.append(name)
    beside = _bring_beside(source, folder) if taken or not told else []
    if taken or beside:
        told.append(f"Taken from {source}: {', '.join([*taken, *beside])}.")
    return run, told


def _is_here(folder, run, name):
    record = _done(run).get(name)
    return bool(record) and all((folder / output).exists() for output in record["outputs"])


def _require_fit(record, run, differs):
    """Raise ValueError where a stage has other settings, or was made from other files than ours."""
    if reason := differs(record.get("settings", {})):
        raise ValueError(reason)
    ours = {}
    for stage in _done(run).values():
        ours |= stage["outputs"]
    read = record["key"]["inputs"]
    if other := [name for name, content in read.items() if ours.get(name, content) != content]:
        raise ValueError(f"it was made from another {other[0]} than the one here.")


def _bring(source, target, content):
    """Copy a file or folder, or link a large one, and put it in place if it has this digest."""
    if not source.exists():
        raise artifacts.DamagedFile(source, "is missing")
    with artifacts.replacing(target) as temporary:
        if source.name in READ_ONLY and _size(source) > LINKED:
            temporary.symlink_to(source.resolve())
        else:
            _copy(source, temporary)
        if artifacts.digest(temporary) != content:
            raise artifacts.DamagedFile(source, "is damaged: it is not what its run.json says")


def _size(source):
    files = [source] if source.is_file() else source.rglob("*")
    return sum(file.stat().st_size for file in files)


def _copy(source, target):
    """Copy contents alone: what lies on a read-only input may be written to here."""
    if source.is_file():
        shutil.copyfile(source, target)
        return
    target.mkdir()
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir()
        else:
            shutil.copyfile(path, place)


def _bring_beside(source, folder):
    """Bring what lies beside the stages' outputs: names of it.

    Checkpoints are brought while the network is not trained here; one that is damaged, or of
    another training, is not taken up by it.
    """
    untrained = not (folder / "models" / "cnn").exists()
    names = [*BESIDE, *[CHECKPOINTS] * untrained]
    lacking = [name for name in names if (source / name).exists() and not (folder / name).exists()]
    for name in lacking:
        with artifacts.replacing(folder / name) as temporary:
            _copy(source / name, temporary)
    return lacking
