"""The networks of another run of Earshot as a listener: `run:<name>`.

They have heard the labels of the recordings that they learned from. So none of these may be among
the recordings of the run that they listen for: a model on their embeddings would be tested on
answers that it was told.
"""

from pathlib import Path

import pandas as pd
import torch

from helpers.base import artifacts, errors
from helpers.listeners.listener import Listener, device
from helpers.models import checkpoints, explain
from helpers.splits import duplicates

SHOWN = 3  # shared recordings that the error names


def build(config, what: str, folder: Path) -> Listener:
    """The networks of all folds of a run, what their last layers decide by laid side by side.

    Args: config; what the name of that run; folder of the run that they listen for.
    Raises StageError where there is no such run or no trained network, ConfigError where it learned
    from recordings of this one.
    """
    other = artifacts.existing_run(what)
    require_strangers(other, Path(folder), config)
    home = other / "models" / "cnn"
    paths = sorted(home.glob("fold*"))
    if not paths:
        raise errors.StageError(f"There is no trained network in {other}: run its 05_train_cnn.")
    artifacts.check_seal(home, "fold*/card.json", "fold*/weights.safetensors")
    theirs = checkpoints.read_card(paths[0])["config"]
    models = [checkpoints.load(path, theirs, device())[0] for path in paths]

    def hear(waveforms):
        clips = torch.from_numpy(waveforms).to(device())
        return torch.cat([explain.decided_by(model, clips) for model in models], dim=1).numpy()

    rate = theirs.audio.sample_rate
    window = round(theirs.audio.clip_seconds * rate)
    sealed = artifacts.file_digest(home / artifacts.DIGESTS)
    return Listener(f"run:{what}", rate, window, sealed, hear)


def require_strangers(other: Path, folder: Path, config, key="features.listener") -> None:
    """Raise ConfigError where a run learned from recordings that another run holds.

    Equal files and equal samples are told by their digests. With split.near_duplicates, so is the
    same sound re-encoded, shifted or cut, where the clips of both runs lie on this disk.
    Args: other folder of the run that learned; folder of the run that is to be tested; config; key
        of the setting that names the other.
    """
    if not (other / "recordings.csv").is_file():
        raise errors.ConfigError(
            f"{key}: {other} has no recordings.csv, so nobody can tell whether its "
            "networks have heard recordings of this run. Copy it there from where it was trained."
        )
    learned = _used(other)
    learned = learned[learned["split"].isin(_learned_sides(other))]
    own = _used(folder).query("split != 'unlabelled'")  # which nothing is scored on
    shared = own["pcm_sha256"].isin(set(learned["pcm_sha256"]) - {""})
    shared |= own["sha256"].isin(set(learned["sha256"]) - {""})
    paths = list(own.loc[shared, "path"])
    if not paths and config.split.near_duplicates:
        paths = _near(other, folder, config.audio.max_seconds)
    if paths:
        raise errors.ConfigError(
            f"{key}: the networks of {other.name} have learned from recordings that "
            f"this run holds ({len(paths)}, such as {', '.join(paths[:SHOWN])}). Scores with them "
            "would be of answers that were told: choose a run on other recordings."
        )


def _learned_sides(other):
    """The splits that a run learned from: with pseudo-labels all of them."""
    has_pseudo_labels = (other / "models" / "cnn" / "pseudo_labels.json").is_file()
    return ["train", "test", "unlabelled"] if has_pseudo_labels else ["train"]


def _used(folder):
    recordings = artifacts.read_table(folder / "recordings.csv")
    return recordings.query("status == 'ok'").fillna({"pcm_sha256": "", "sha256": ""})


def _near(other, folder, max_seconds):
    """Clips of a run that hold a sound from which the other one learned."""
    own = _clips(folder, "train", "test")
    theirs = _clips(other, *_learned_sides(other))
    if own.empty or theirs.empty:
        return []
    table = pd.concat([own, theirs], ignore_index=True)
    pairs = duplicates.find(artifacts.home(), table, max_seconds)
    is_own = pairs["recording_id"].isin(set(own["path"]))
    across = is_own & pairs["other_id"].isin(set(theirs["path"]))
    return sorted(Path(path).name for path in set(pairs.loc[across, "recording_id"]))


def _clips(folder, *splits):
    """The clips of a run that lie on this disk, as `duplicates.find` takes recordings."""
    if not (folder / "clips.csv").is_file():
        return pd.DataFrame()
    clips = artifacts.read_table(folder / "clips.csv")
    paths = [str(folder / path) for path in clips.loc[clips["split"].isin(splits), "path"]]
    there = [path for path in paths if Path(path).is_file()]
    facts = {"pcm_sha256": "", "status": "ok", "duration_seconds": 0.0}
    return pd.DataFrame({"recording_id": there, "path": there, **facts})
