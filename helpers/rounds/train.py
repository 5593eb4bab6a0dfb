"""Cross-validation of a network: one training per fold and seed, from where it stopped.

``python -m helpers train --preset demo`` trains the network of 05 (its notebook calls `run` too).
With train.processes each of several processes, or GPUs, trains whole folds; ``torchrun
--nproc-per-node 2 -m -- helpers train …`` (or ``make train NPROC=2``) lets them train each network
together.
"""

import functools
import hashlib
import json
import math
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from helpers.audio import images
from helpers.base import artifacts, code, targets, work
from helpers.base.settings import LISTENER, Config
from helpers.listeners import naming, runs
from helpers.models import checkpoints
from helpers.rounds import learner, machine
from helpers.splits import partition
from helpers.training import losses, processes

# Settings that say how a training is carried out, not what comes of it: a checkpoint outlives their
# change.
CARRIED_OUT = ("max_minutes", "threads", "processes", "capture", "views")
GLANCED = ("held_out", "unaltered")  # what the columns of these scores begin with


def cross_validate(
    packed, rows, config, folder, device=None, checkpoint_folder=None, plan=None, watch=None
):
    """Train the networks of each round, each round tested once on a fold that chose nothing.

    With train.processes several rounds are under way at the same time, each GPU with its own.
    Args: packed int16 [clips, samples], or images uint8 [clips, H, W]; rows of waveforms.csv;
        config; folder that the models go to, seeds.csv where there are several networks per fold,
        teachers.csv and pseudo_labels.json where they teach, and the digests of all; device, None:
        a GPU where there is one; checkpoint_folder where trainings under way are kept, so that they
        can go on, or None; plan rounds as of partition.rounds, None: those of the config; watch a
        function of the records of the network under way, called after each glance at its test fold
        (of this process's networks), or None, without which there are no glances.
    Returns (out-of-fold clip probabilities: a table clip_id, fold and a column per class, the mean
        over the seeds; history: a list of records with their fold and seed).
    """
    labels = targets.classes(rows, config.data.multilabel)
    folds = rows["fold"].dropna()
    plan = plan or partition.rounds(folds, config.train.select, config.split.test_folds)
    kept_at = None
    if checkpoint_folder:
        learned = digest(packed, rows, config)
        kept_at = functools.partial(checkpoint, checkpoint_folder, learned)
    config = machine.on_this_machine(packed, config, len(labels), device, kept_at)
    count = min(config.train.processes, len(plan)) if processes.place()[1] == 1 else 1
    shares = [plan[number::count] for number in range(count)]
    learn = functools.partial(
        train_rounds, packed, rows, labels, config, Path(folder), device, kept_at, watch
    )
    made = [None] * len(plan)
    for number, rounds in enumerate(processes.side_by_side(learn, shares)):
        made[number::count] = rounds
    whole = defaultdict(list)
    for one in made:
        for name, part in one.items():
            whole[name] += part
    table = collect(whole, labels, Path(folder))
    artifacts.seal(folder)
    return table, whole["history"]


def train_rounds(packed, rows, labels, config, folder, device, kept_at, watch, number, plan):
    """Train the networks of some rounds, one after the other.

    Args: as of `cross_validate`; labels the classes; kept_at as of Round; number of this process,
        and so of its GPU; plan the rounds.
    Returns a list of what `Round.run` returns.
    """
    train = config.train
    count = len(plan) * (train.seeds + learner.times_taught(train, rows))
    clock = learner.Clock(train.max_minutes or math.inf, count)
    bar = work.progress(None, "train", count * train.epochs)
    device = torch.device(device or processes.device(number))
    made = []
    work.keep_memory()
    watch = unwatched if watch and number else watch
    with bar, work.cpu_threads(train.threads):
        for position, turn in enumerate(plan, 1):
            bar.set_description(f"fold {turn['test']} ({position}/{len(plan)})")
            told = (packed, rows, labels, turn, config, device, clock, bar, kept_at, watch)
            made.append(learner.Round(*told).run(folder))
    return made


def unwatched(records: list[dict]) -> None:
    """Who watches a training that nobody watches."""


def collect(whole, labels, folder):
    """The mean of the networks' probabilities per clip; several go to seeds.csv one by one.

    So do those of their teachers to teachers.csv, and what these said to pseudo_labels.json.
    Args: whole lists of all rounds, as of `Round.run`; labels the classes; folder.
    """
    table = pd.concat(whole["answers"], ignore_index=True)
    if table["seed"].nunique() > 1:
        artifacts.write_table(folder / "seeds.csv", table)
    if whole["teachers"]:
        artifacts.write_table(folder / "teachers.csv", pd.concat(whole["teachers"]))
    if whole["learned"]:
        artifacts.write_json(folder / "pseudo_labels.json", whole["learned"])
    order = table.drop_duplicates("clip_id")[["clip_id", "fold"]]
    means = table.groupby("clip_id")[labels].mean().reset_index()
    return order.merge(means, on="clip_id").reset_index(drop=True)


def digest(packed: np.ndarray, rows: pd.DataFrame, config: Config) -> str:
    """SHA-256 of what networks learn from, and how: clips, their facts, settings, code."""
    sections = ("audio", "clean", "features", "model", "train", "split", "seed")
    include = {**dict.fromkeys(sections, True), "data": {"multilabel"}}
    settings = config.model_dump(mode="json", include=include)
    for key in CARRIED_OUT:
        settings["train"].pop(key)
    if config.train.pseudo_labels is not None:  # what is answered in so many views is learned
        settings["train"]["views"] = config.train.views
    for key in LISTENER:
        del settings["features"][key]
    facts = ["clip_id", "label", "split", "group", "fold", *artifacts.sureness(rows)]
    clips = rows[facts].to_csv(index=False)
    text = json.dumps(settings, sort_keys=True) + clips + code.module_digest("training.fit")
    if naming.begins_elsewhere(config):
        text += naming.weights_digest(config)
    sha = hashlib.sha256(text.encode())
    sha.update(np.ascontiguousarray(packed).reshape(-1))
    return sha.hexdigest()


def checkpoint(folder, digest: str, name: str, before=()) -> checkpoints.Checkpoint:
    """Where the training of a network is kept: another one where those before it learned longer."""
    epochs = "".join(f" {len(history)}" for _, history in before)
    return checkpoints.Checkpoint(Path(folder) / f"{name}.safetensors", digest + epochs)


def kept_epochs(history: pd.DataFrame) -> pd.DataFrame:
    """The record of each network's kept epoch: the best, or the last where nothing was chosen."""
    return history[history["kept"]].drop(columns="kept").reset_index(drop=True)


def learned_from(folder: Path, rows: pd.DataFrame, config: Config) -> np.ndarray:
    """What a run's network learns from, a row for each of waveforms.csv: waveforms, or images."""
    if config.train.inputs == "images":
        return images.read_images(folder / "spectrograms", rows, config.features.image_size)
    return np.load(folder / "waveforms.npy", mmap_mode="r")


def run(folder: Path, config: Config, keep: bool = False, watch=unwatched):
    """Train the network of 05 for a run: models/cnn with out_of_fold.csv, and history.json.

    Args: folder of the run, with the files of 04; config; keep the checkpoints of what is done, so
        that the next call has nothing to train; watch as of `cross_validate`.
    Returns (out-of-fold table, history), as `cross_validate`.
    Raises TrainingError if one of several processes is ended.
    """
    first = processes.is_first()
    kept = folder / "checkpoints" if first else None
    require_strangers(folder, config)
    rows = artifacts.read_table(folder / "waveforms.csv")
    inputs = learned_from(folder, rows, config)
    target = folder / "models" / "cnn"
    with processes.replacing(target) as temporary:
        table, history = cross_validate(
            inputs, rows, config, temporary, checkpoint_folder=kept, watch=watch
        )
        artifacts.write_table(temporary / "out_of_fold.csv", table)
        if first:
            artifacts.write_json(folder / "history.json", history)
    if first and not keep and "time" not in ended(target).values():
        shutil.rmtree(kept, ignore_errors=True)
    return table, history


def require_strangers(folder: Path, config: Config) -> None:
    """Raise ConfigError where networks begin from a run that has heard recordings of this one."""
    if config.model.begins_from:
        other = artifacts.existing_run(config.model.begins_from)
        runs.require_strangers(other, folder, config, "model.weights")


def ended(folder: Path) -> dict[str, str]:
    """Why each network below a folder ended, by its name: "epochs", "patience" or "time"."""
    cards = sorted(folder.glob("fold*/card.json"))
    return {path.parent.name: artifacts.read_json(path)["ended"] for path in cards}


# --- what a reader is shown


def plan(rows: pd.DataFrame, config) -> pd.DataFrame:
    """The rounds of a run: test fold, the fold that chooses the epoch, those learned from.

    Args: rows of waveforms.csv; config.
    """
    folds = rows["fold"].dropna()
    turns = partition.rounds(folds, config.train.select, config.split.test_folds)
    names = {"test": "test fold", "validation": "chooses the epoch", "train": "learned from"}
    table = pd.DataFrame(turns).fillna("nothing: the last is kept").rename(columns=names)
    learned = table["learned from"]
    sides = learned.map(min).lt(0)  # official sides
    return table.assign(**{"learned from": learned.mask(sides, "the training side")})


def balance(rows: pd.DataFrame, config) -> pd.DataFrame:
    """Clips of each class, and what each way of train.balance makes of it, the rarest first.

    Args: rows of waveforms.csv; config.
    """
    labels = targets.classes(rows, config.data.multilabel)
    clips = rows[rows["split"].eq("train") & rows["parent_id"].eq("")]
    wanted = torch.from_numpy(targets.matrix(clips["label"], labels))
    table = pd.DataFrame({"label": labels, "clips": wanted.sum(dim=0).int()})
    table["share"] = wanted.mean(dim=0)
    table["share_if_sampled"] = losses.sampling_weights(wanted) @ wanted.double()
    table["class_weight"] = losses.class_weights(wanted, config.data.multilabel)
    return table.sort_values("clips")


def pseudo_labels_in_words(folder, rows: pd.DataFrame, config) -> str:
    """Of how many clips without labels the networks of a run learned, and how sure their answers
    were, a line per round; folder of the run, rows of waveforms.csv.
    """
    path = Path(folder) / "models" / "cnn" / "pseudo_labels.json"
    if not path.is_file():
        lacking = config.train.pseudo_labels is not None and not learner.unlabelled(rows).any()
        return "No clip without a label was there to learn from." if lacking else ""
    lines = []
    for number, part in pd.DataFrame(artifacts.read_json(path)).groupby("round"):
        shares = part["learned"].agg(["min", "max"]).unique()
        sure = part["sureness"].mean()
        how_sure = "" if pd.isna(sure) else f", their mean sureness {sure:.0%}"
        lines.append(
            f"Round {number}: of {part['asked'].max()} clips without labels, "
            f"{' to '.join(map(str, shares))} per fold were answered surely enough "
            f"({config.train.pseudo_labels:g}) and learned{how_sure}."
        )
    return "\n".join(lines)


def pseudo_labelled(folder) -> pd.DataFrame:
    """How many clips of each class were learned without labels in the last round, fold by fold:
    the fewest first; no rows where there are none. Args: folder of the run.
    """
    path = Path(folder) / "models" / "cnn" / "pseudo_labels.json"
    records = artifacts.read_json(path) if path.is_file() else []
    last = {f"fold {record['fold']}": record["clips"] for record in records}  # rounds in order
    table = pd.DataFrame(last).rename_axis("label")
    order = table.sum(axis=1).sort_values(kind="stable").index
    return table.loc[order].reset_index()


def ended_in_words(folder) -> str:
    """How the networks of a run began, ended, and were calculated; folder of the run."""
    paths = sorted(Path(folder).glob("models/cnn/*/card.json"))
    cards = {path.parent.name: artifacts.read_json(path) for path in paths}
    origins = pd.Series([card["origin"] for card in cards.values()]).value_counts()
    began = ", ".join(f"{name} ({count})" for name, count in origins.items())
    short = ", ".join(name for name, card in cards.items() if card["ended"] == "time")
    late = f"Ended by train.max_minutes, and can be trained on: {short}."
    early = sum(card["ended"] == "patience" for card in cards.values())
    whole = f"{early} stopped early (train.patience)." if early else "All trained to the end."
    formats = sorted({card["config"]["train"]["precision"] for card in cards.values()})
    return (
        f"{targets.counted(len(cards), 'network', 'networks')}, before training: {began}."
        f" {late if short else whole} Calculated in {' '.join(formats)}."
    )


def kept_and_tested(history: pd.DataFrame, tested: pd.DataFrame) -> pd.DataFrame:
    """Each network's kept epoch, and the share of its test recordings that is right.

    Args: history its records; tested predictions per recording.
    """
    right = tested["label"].eq(tested["predicted"]).groupby(tested["fold"]).mean()
    chosen = kept_epochs(history).drop(columns=["seconds", "learning_rate"])
    chosen = chosen[[name for name in chosen if not name.startswith(GLANCED)]]
    return chosen.assign(test_recordings_right=chosen["fold"].map(right))
