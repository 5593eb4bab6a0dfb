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
import time
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from helpers.audio import features, images
from helpers.base import artifacts, code, targets, work
from helpers.base.settings import LISTENER, Config
from helpers.listeners import naming, runs
from helpers.models import checkpoints, networks
from helpers.splits import partition
from helpers.training import batches, fit, losses, optimise, processes

# Settings that say how a training is carried out, not what comes of it: a checkpoint outlives their
# change.
CARRIED_OUT = ("max_minutes", "threads", "processes", "capture", "views")
# Generations of a fold's networks: those that learn from labels, and the one that they teach, which
# may teach another one, of the number after it. Seeds follow from these numbers.
FIRST = 0
TAUGHT = 7
# For show, a training is scored this often on clips as they are, for at most this share of its
# time, of which a step takes as much as so many predictions of its clips.
GLANCES = 10
GLANCE_SHARE = 0.02
PREDICTIONS_OF_A_STEP = 3
LEAST_GLANCED = 16  # clips
GLANCED = ("held_out", "unaltered")  # what the columns of these scores begin with


@dataclass
class Clock:
    """Shares the time that is left among the networks that are left."""

    minutes: float
    networks: int
    started: float = field(default_factory=time.monotonic)

    def deadline(self) -> float:
        """When the next network must be done, in seconds of time.monotonic."""
        now = time.monotonic()
        left = max(0, self.started + 60 * self.minutes - now) / self.networks
        self.networks -= 1
        return now + left


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
    config = on_this_machine(packed, config, len(labels), device, kept_at)
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
    count = len(plan) * (train.seeds + times_taught(train, rows))
    clock = Clock(train.max_minutes or math.inf, count)
    bar = work.progress(None, "train", count * train.epochs)
    device = torch.device(device or processes.device(number))
    made = []
    work.keep_memory()
    watch = unwatched if watch and number else watch
    with bar, work.cpu_threads(train.threads):
        for position, turn in enumerate(plan, 1):
            bar.set_description(f"fold {turn['test']} ({position}/{len(plan)})")
            learner = Round(packed, rows, labels, turn, config, device, clock, bar, kept_at, watch)
            made.append(learner.run(folder))
    return made


def on_this_machine(packed, config, n_classes, device=None, kept_at=None):
    """The config as this machine carries it out: with a train.precision in place of "auto", and on
    a CPU with train.threads in place of 0.

    On a CPU a short trial of the network chooses both. All processes take what the first one chose,
    and a training that goes on takes the number format that it began with, or it would end with
    other weights.

    Args: packed clips; config; n_classes; device; kept_at as of Round.
    """
    device = torch.device(device or processes.device())
    if device.type != "cuda":
        kept = kept_at and kept_at("number_format")
        precision, threads = processes.agreed(_cpu_way(packed, config, n_classes, kept))
        return config.but("train.precision", precision).but("train.threads", threads)
    if config.train.precision == "auto":
        return config.but("train.precision", optimise.gpu_format(device))
    return config


def _cpu_way(packed, config, n_classes, kept):
    """The number format and the threads of a training on this CPU."""
    train = config.train
    if train.precision != "auto" and train.threads:
        return train.precision, train.threads
    model = networks.build(config, n_classes, fresh=False)
    clips = torch.from_numpy(packed[np.arange(train.batch_size) % len(packed)])
    batch = model.features(features.unpack(clips))
    precision = train.precision
    threads = train.threads
    with work.cpu_threads(threads):
        if precision == "auto":
            precision = _cpu_format(model.network, batch, kept)
        if not threads:
            kind = optimise.FORMATS[precision]
            threads = optimise.cpu_threads(model.network, batch, kind)
    return precision, threads


def _cpu_format(network, batch, kept):
    state = kept.read() if kept else None
    if state:
        return state["precision"]
    chosen = optimise.cpu_format(network, batch)
    if kept:
        kept.write({"precision": chosen})
    return chosen


def unwatched(records: list[dict]) -> None:
    """Who watches a training that nobody watches."""


def unlabelled(rows: pd.DataFrame) -> pd.Series:
    """Which rows of waveforms.csv have no label: of data.unlabelled, of the test set: bool [n]."""
    return rows["split"].isin(["test", "unlabelled"])


def times_taught(train, rows: pd.DataFrame) -> int:
    """How often the networks of a fold teach one that replaces them.

    Args: train the config's Train section; rows of waveforms.csv.
    """
    if train.pseudo_labels is not None and unlabelled(rows).any():
        return train.pseudo_rounds
    return int(train.distil > 0)


def powered(answers: np.ndarray, power: float, multilabel: bool = False) -> np.ndarray:
    """Answers [clips, C] raised to a power; those of one label per clip still sum to 1.

    >>> powered(np.array([[0.75, 0.25]]), 2).tolist(), powered(np.array([[0.5, 0.9]]), 1, True)[0]
    ([[0.9, 0.1]], array([0.5, 0.9]))
    """
    raised = answers**power
    return raised if multilabel else raised / raised.sum(axis=1, keepdims=True)


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


@dataclass
class Round:
    """One round of cross-validation: its networks learn from some folds and predict another."""

    packed: np.ndarray
    rows: pd.DataFrame
    labels: list
    turn: dict
    config: Config
    device: torch.device
    clock: Clock
    bar: object
    kept_at: (
        object  # a function from a network's name, and those before it, to its Checkpoint, or None
    )
    watch: object = None  # as of cross_validate
    learned: list = field(default_factory=list)  # records of what is learned without labels

    def run(self, folder: Path) -> dict[str, list]:
        """Train, save below `folder`, predict the clips of the test fold.

        Returns lists: answers, tables of probabilities with their seed; history; teachers, tables
        of those that are not kept, numbered in their order; learned, what they taught.
        """
        training = self.training_rows()
        wanted = torch.from_numpy(self.wanted(training))
        seeds = range(self.config.train.seeds)
        generations = [[self.network(seed, training.index, wanted) for seed in seeds]]
        for _ in range(times_taught(self.config.train, self.rows)):
            told = self.with_pseudo_labels(training.index, wanted, generations[-1])
            generations.append([self.network(0, *told, generations)])
        *teachers, made = generations
        history = []
        for seed, (model, records) in enumerate(made):
            ended = fit.why_ended(records, self.config.train)
            target = folder / self.name(seed)
            checkpoints.save(model, target, self.labels, self.config, self.turn, ended=ended)
            which = {"fold": self.turn["test"]} | ({"seed": seed} if len(made) > 1 else {})
            history += [which | record for record in records]
        return {
            "answers": self.predictions(made),
            "teachers": self.predictions(chain(*teachers)),
            "history": history,
            "learned": self.learned,
        }

    def predictions(self, made) -> list[pd.DataFrame]:
        """What each of some networks answers to the test fold, numbered in the column seed."""
        return [self.predict(model).assign(seed=seed) for seed, (model, _) in enumerate(made)]

    def name(self, seed: int) -> str:
        """The name of a network of this round, such as fold2 or fold2-seed1."""
        return f"fold{self.turn['test']}" + (f"-seed{seed}" if seed else "")

    def training_rows(self) -> pd.DataFrame:
        """The rows that are learned from, copies included where asked."""
        train = self.config.train
        training = partition.fold_rows(
            self.rows, self.turn["train"], with_copies=train.augmented_copies
        )
        if train.inputs == "images":
            return images.without_repeats(self.packed, training)
        return training

    def wanted(self, rows) -> np.ndarray:
        """What is asked for of rows: 1 for their labels, less for those that are secondary."""
        wanted = targets.matrix(rows["label"], self.labels)
        if "secondary" in rows:
            also = targets.matrix(rows["secondary"], self.labels)
            wanted *= 1 - also * (1 - self.config.train.secondary_weight)
        return wanted

    def network(self, seed, members, wanted, generations=()):
        """One network, trained: (model with the weights that are kept, history).

        Args: seed its number; members numbers of rows; wanted their targets [rows, C]; generations
            before it, lists of (model, history): it learns from the last of them.
        """
        train = self.config.train
        times = len(generations)
        generation = TAUGHT + times - 1 if times else FIRST
        teachers = generations[-1] if train.distil and times else ()
        begun = fit.derived(self.config.seed, self.turn["test"], seed, generation)
        torch.manual_seed(begun)
        model = networks.build(self.config, len(self.labels)).to(self.device)
        model.fit_standardisation(self.batches(members, wanted))
        model.begin_at(wanted.mean(dim=0))
        validation = None
        if self.turn["validation"] is not None:
            validation = self.fold(self.turn["validation"])[1]
        name = self.name(seed) + ("-taught" if times else "") + (str(times) if times > 1 else "")
        history = fit.fit(
            model,
            self.batches(members, wanted, torch.Generator()),
            validation,
            train,
            begun,
            teachers=[teacher.eval() for teacher, _ in teachers],
            on_epoch=functools.partial(self.after_epoch, seed, []),
            checkpoint=self.kept_at and self.kept_at(name, chain(*generations)),
            deadline=self.clock.deadline(),
            glance=self.glance() if self.watch else None,
            noise=batches.noise(self.packed, self.rows, train, self.device),
        )
        self.bar.update(train.epochs - len(history))
        return model.eval(), history

    def after_epoch(self, seed, records, record):
        """Move the bar, and show who watches the records of a network, after each glance."""
        self.bar.update()
        records.append({"fold": self.turn["test"], "seed": seed, **record})
        if self.watch and "held_out_loss" in record:
            self.watch(records)

    def glance(self) -> fit.Glance:
        """For show: the test fold and training clips as they are, as many of both, a few times."""
        train = self.config.train
        epochs = {math.ceil(train.epochs * number / GLANCES) for number in range(1, GLANCES + 1)}
        held_out = partition.fold_rows(self.rows, [self.turn["test"]])
        learned = partition.fold_rows(self.rows, self.turn["train"])
        steps = train.epochs * train.crop * len(learned)
        most = GLANCE_SHARE * PREDICTIONS_OF_A_STEP * steps / len(epochs) / 2
        count = min(max(LEAST_GLANCED, int(most)), len(held_out), len(learned))
        clips = {
            "held_out": self.some(held_out, count),
            "unaltered": self.some(learned, count),
        }
        return fit.Glance(epochs, clips)

    def some(self, rows, count):
        """Batches of so many of the rows, evenly spread."""
        places = np.linspace(0, len(rows) - 1, count).astype(int)
        chosen = rows.iloc[places]
        return self.batches(chosen.index, targets.matrix(chosen["label"], self.labels))

    def with_pseudo_labels(self, members, wanted, made):
        """The training clips and, with train.pseudo_labels, sure answers to clips without labels.

        These are clips of the test set and of data.unlabelled; the fold that is tested is never
        among them, nor is a clip of a group that lies in it. Args: members, wanted of the training
        clips; made the networks that answer.
        """
        train = self.config.train
        held_out = partition.fold_rows(self.rows, [self.turn["test"], self.turn["validation"]])
        asked = self.rows[unlabelled(self.rows) & ~self.rows["group"].isin(held_out["group"])]
        if train.pseudo_labels is None or asked.empty:
            return members, wanted
        several = self.config.data.multilabel
        nothing = np.zeros((len(asked), len(self.labels)), np.float32)
        clips = self.batches(asked.index, nothing)
        answers = np.mean([fit.predict(model, clips, train.views) for model, _ in made], axis=0)
        answers = processes.agreed(answers)  # or processes would count their batches differently
        sureness = answers.max(axis=1)
        if several:
            sureness = np.maximum(answers, 1 - answers).min(axis=1)
        sure = sureness >= train.pseudo_labels
        self.note_learned(answers[sure], sureness[sure], len(asked))
        added = powered(answers[sure], train.pseudo_power, several).astype(np.float32)
        return [*members, *asked.index[sure]], torch.cat([wanted, torch.from_numpy(added)])

    def note_learned(self, answers, sureness, asked):
        """Note what is learned without labels: how many clips, of which class, how sure.

        Args: answers [clips, C]; sureness [clips]; asked how many clips there were to answer.
        """
        several = self.config.data.multilabel
        said = answers >= (0.5 if several else answers.max(axis=1, keepdims=True, initial=0))
        counts = said.sum(axis=0).tolist()
        record = {
            "fold": self.turn["test"],
            "round": 1 + len(self.learned),
            "asked": asked,
            "learned": len(answers),
            "sureness": round(float(sureness.mean()), 4) if len(answers) else None,
            "clips": dict(zip(self.labels, counts, strict=True)),
        }
        self.learned.append(record)

    def predict(self, model) -> pd.DataFrame:
        """Probabilities of the test fold's clips: clip_id, fold and a column per class."""
        rows, clips = self.fold(self.turn["test"])
        answers = fit.predict(model, clips, self.config.train.views)
        table = pd.DataFrame(answers, columns=self.labels)
        return pd.concat([rows[["clip_id", "fold"]].reset_index(drop=True), table], axis=1)

    def fold(self, number: int):
        """The rows of a fold, without copies, and batches of them."""
        rows = partition.fold_rows(self.rows, [number])
        return rows, self.batches(rows.index, targets.matrix(rows["label"], self.labels))

    def batches(self, members, wanted, generator=None) -> batches.Batches:
        """Batches of some rows; with a generator shuffled, or drawn evenly over the classes, and by
        what the recordings are worth.
        """
        wanted = torch.as_tensor(wanted)
        told = (self.packed, members, wanted, self.config.train.batch_size, self.device)
        if not generator:
            return batches.Batches(*told)
        without = int(unlabelled(self.rows.loc[list(members)]).sum())
        drawn = len(members) - without + math.ceil(self.config.train.pseudo_weight * without)
        chances = self.chances(members, wanted)
        return batches.Batches(*told, generator, chances, processes.place(), drawn)

    def chances(self, members, wanted) -> torch.Tensor | None:
        """How often each clip is drawn, of another one [rows]; None where all come alike."""
        train = self.config.train
        rows = self.rows.loc[list(members)]
        worth = rows.get("weight", pd.Series(1.0, rows.index)).fillna(1.0)
        worth = torch.tensor(worth.where(~unlabelled(rows), train.pseudo_weight).to_numpy())
        if train.balance == "sampling":
            worth = worth * losses.sampling_weights(wanted)
        return None if worth.eq(worth[0]).all() else worth


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
        lacking = config.train.pseudo_labels is not None and not unlabelled(rows).any()
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
