"""One round of cross-validation: its networks learn from some folds and predict another."""

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from helpers.audio import images
from helpers.base import targets
from helpers.base.settings import Config
from helpers.models import checkpoints, networks
from helpers.splits import partition
from helpers.training import batches, fit, losses, processes

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


@dataclass
class Round:
    """One round of cross-validation: its networks learn from some folds and predict another.

    packed, rows, config, device, watch: as of train.cross_validate.
    labels: the classes, in their order.
    turn: its folds, as of partition.rounds.
    clock, bar: what is left of the time; what shows the epochs.
    kept_at: from a network's name, and those before it, to its Checkpoint; or None.
    learned: records of what is learned without labels.
    """

    packed: np.ndarray
    rows: pd.DataFrame
    labels: list
    turn: dict
    config: Config
    device: torch.device
    clock: Clock
    bar: object
    kept_at: Callable | None
    watch: Callable | None = None
    learned: list = field(default_factory=list)

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


def times_taught(train, rows: pd.DataFrame) -> int:
    """How often the networks of a fold teach one that replaces them.

    Args: train the config's Train section; rows of waveforms.csv.
    """
    if train.pseudo_labels is not None and unlabelled(rows).any():
        return train.pseudo_rounds
    return int(train.distil > 0)


def unlabelled(rows: pd.DataFrame) -> pd.Series:
    """Which rows of waveforms.csv have no label: of data.unlabelled, of the test set: bool [n]."""
    return rows["split"].isin(["test", "unlabelled"])


def powered(answers: np.ndarray, power: float, multilabel: bool = False) -> np.ndarray:
    """Answers [clips, C] raised to a power; those of one label per clip still sum to 1.

    >>> powered(np.array([[0.75, 0.25]]), 2).tolist(), powered(np.array([[0.5, 0.9]]), 1, True)[0]
    ([[0.9, 0.1]], array([0.5, 0.9]))
    """
    raised = answers**power
    return raised if multilabel else raised / raised.sum(axis=1, keepdims=True)
