"""Cross-validation of a network: one training per fold and seed, in one process or several, from
where it stopped.

``python -m helpers train --preset demo`` trains the network of 05 (its notebook calls `run` too);
several processes share each batch with ``torchrun --nproc-per-node 2 -m -- helpers.training.train
…`` (or ``make train NPROC=2``).
"""

import contextlib
import functools
import hashlib
import json
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from helpers.audio import features, images
from helpers.base import artifacts, code, targets, work
from helpers.base.settings import Config
from helpers.models import checkpoints, networks
from helpers.splits import partition
from helpers.training import batches, fit, losses, optimise, processes

# Settings that say how a training is carried out, not what comes of it: a checkpoint outlives their
# change.
CARRIED_OUT = ("max_minutes", "threads", "processes", "resident", "capture", "views")

TRIAL_CLIPS = 4  # that number formats are tried on
# Of what can be learned. The demo ends at 0.70; 2 000 words of half a second ended at 0.63 after 24
# epochs (3.7 % wrong on new speakers) and at 0.69 after 48 (1.7 %).
ENOUGH = 2 / 3
RISE = 0.03  # of that share, in half of the epochs: a network that rises less learns no more
JUDGED = 8  # epochs, of which a curve can be called flat


@dataclass
class Clock:
    """Shares the time that is left among the networks that are left. minutes None: no limit."""

    minutes: float | None
    networks: int
    started: float = field(default_factory=time.monotonic)

    def deadline(self):
        """When the next network must be done, in seconds of time.monotonic; None: no limit."""
        if self.minutes is None:
            return None
        now, self.networks = time.monotonic(), self.networks - 1
        return now + max(0, self.started + 60 * self.minutes - now) / (self.networks + 1)


def cross_validate(packed, rows, config, folder, device=None, checkpoint_folder=None, plan=None):
    """Train the networks of each round, each round tested once on a fold that chose nothing.

    Args: packed int16 [clips, samples], or images uint8 [clips, H, W]; rows of waveforms.csv;
        config; folder that the models go to, seeds.csv where there are several networks per fold,
        and the digests of all; device; checkpoint_folder where trainings under way are kept, so
        that they can go on, or None; plan rounds as of split.rounds, None: those of the config.
    Returns (out-of-fold clip probabilities: a table clip_id, fold and a column per class, the mean
        over the seeds;
        history: a list of records with their fold and seed).
    """
    labels = targets.classes(rows, config.data.multilabel)
    plan = plan or partition.rounds(
        rows["fold"].dropna(), config.train.select, config.split.test_folds
    )
    networks = len(plan) * (config.train.seeds + taught_again(config))
    work.keep_memory()
    clock, tables, history = Clock(config.train.max_minutes, networks), [], []
    kept_at = checkpoint_folder and functools.partial(
        checkpoint, checkpoint_folder, digest(packed, rows, config)
    )
    bar = work.progress(None, "train", networks * config.train.epochs)
    device = torch.device(device or processes.device())
    with bar, work.cpu_threads(config.train.threads):
        config = with_number_format(
            packed, config, len(labels), device, kept_at and kept_at("number_format")
        )
        for number, turn in enumerate(plan, 1):
            bar.set_description(f"fold {turn['test']} ({number}/{len(plan)})")
            worker = Round(packed, rows, labels, turn, config, device, clock, bar, kept_at)
            found, records = worker.run(Path(folder))
            tables += found
            history += records
    table = collect(tables, labels, Path(folder))
    if processes.is_first():
        artifacts.seal(folder)
    return table, history


def with_number_format(packed, config, n_classes, device, kept=None):
    """The config with a train.precision that says what is calculated in, where it was "auto".

    On a CPU a short trial of the network chooses. All processes take what the first one chose, and
    a training that goes on takes what it began with, or it would end with other weights.

    Args: packed clips; config; n_classes; device; kept Checkpoint that remembers the choice, or
        None.
    """
    if config.train.precision != "auto":
        return config
    if device.type == "cuda":
        chosen = optimise.gpu_format(device)
    else:
        chosen = processes.agreed(
            _cpu_format(packed, config, n_classes, kept) if processes.is_first() else None
        )
    train = config.train.model_copy(update={"precision": chosen})
    return config.model_copy(update={"train": train})


def _cpu_format(packed, config, n_classes, kept):
    if state := kept.read() if kept else None:
        return state["precision"]
    model = networks.build(config, n_classes, fresh=False)
    clips = torch.from_numpy(packed[np.arange(TRIAL_CLIPS) % len(packed)])
    with torch.no_grad():
        x = model.features(features.unpack(clips))
    chosen = optimise.cpu_format(model.network, x)
    if kept:
        kept.write({"precision": chosen})
    return chosen


def taught_again(config):
    """Whether the networks of a fold are teachers of the one that is kept."""
    return bool(config.train.distil) or config.train.pseudo_labels is not None


def collect(tables, labels, folder):
    """The mean of the networks' probabilities per clip; several per fold are written to seeds.csv
    one by one.
    """
    table = pd.concat(tables, ignore_index=True)
    if table["seed"].nunique() > 1 and processes.is_first():
        artifacts.write_table(folder / "seeds.csv", table)
    order = table.drop_duplicates("clip_id")[["clip_id", "fold"]]
    return order.merge(
        table.groupby("clip_id")[labels].mean().reset_index(), on="clip_id"
    ).reset_index(drop=True)


@dataclass
class Round:
    """One round of cross-validation: its networks learn from the training folds and predict the
    test fold.
    """

    packed: np.ndarray
    rows: pd.DataFrame
    labels: list
    turn: dict
    config: Config
    device: str
    clock: Clock
    bar: object
    kept_at: (
        object  # a function from a network's name, and its teachers, to its Checkpoint, or None
    )

    def run(self, folder):
        """Train, save below `folder`, predict: (tables of out-of-fold probabilities with their
        seed, history).
        """
        fold, train = f"fold{self.turn['test']}", self.config.train
        training = self.training_rows()
        wanted = torch.from_numpy(targets.matrix(training["label"], self.labels))
        names = [fold + (f"-seed{seed}" if seed else "") for seed in range(train.seeds)]
        made = [self.network(seed, name, training.index, wanted) for seed, name in enumerate(names)]
        if taught_again(self.config):
            made = [
                self.network(
                    0, fold, *self.with_pseudo_labels(training.index, wanted, made), made, "-taught"
                )
            ]
        for name, (model, records) in zip(names, made, strict=False):
            if processes.is_first():
                ended = fit.why_ended(records, train)
                checkpoints.save(
                    model, folder / name, self.labels, self.config, self.turn, ended=ended
                )
        history = [
            {"fold": self.turn["test"], **({"seed": seed} if len(made) > 1 else {}), **record}
            for seed, (_, records) in enumerate(made)
            for record in records
        ]
        return [
            self.predict(model).assign(seed=seed) for seed, (model, _) in enumerate(made)
        ], history

    def training_rows(self):
        """The rows that are learned from, copies included where asked."""
        training = partition.fold_rows(
            self.rows, self.turn["train"], with_copies=self.config.train.augmented_copies
        )
        return (
            images.without_repeats(self.packed, training)
            if self.config.train.inputs == "images"
            else training
        )

    def network(self, seed, name, members, wanted, teachers=(), suffix=""):
        """One network, trained: (model with the weights that are kept, history)."""
        started, settings = (
            fit.derived(self.config.seed, self.turn["test"], seed, len(suffix)),
            self.config.train,
        )
        torch.manual_seed(started)
        model = networks.build(self.config, len(self.labels)).to(self.device)
        model.fit_standardisation(self.batches(members, wanted))
        validation = None
        if self.turn["validation"] is not None:
            held = partition.fold_rows(self.rows, [self.turn["validation"]])
            validation = self.batches(held.index, targets.matrix(held["label"], self.labels))
        history = fit.fit(
            model, self.batches(members, wanted, torch.Generator()), validation, settings, started,
            teachers=[teacher.eval() for teacher, _ in teachers] if settings.distil else (),
            on_epoch=lambda record: self.bar.update(),
            checkpoint=self.kept_at and self.kept_at(name + suffix, teachers), deadline=self.clock.deadline(),
        )  # fmt: skip
        self.bar.update(settings.epochs - len(history))
        return model.eval(), history

    def with_pseudo_labels(self, members, wanted, made):
        """The training clips and, with train.pseudo_labels, the test clips of whose label the
        networks are sure.

        These are clips of the test set, which has no labels; the fold that is tested is never among
        them, nor is a clip of a group that lies in it.
        """
        if self.config.train.pseudo_labels is None:
            return members, wanted
        held_out = partition.fold_rows(self.rows, [self.turn["test"], self.turn["validation"]])[
            "group"
        ]
        unlabelled = self.rows[self.rows["split"].eq("test") & ~self.rows["group"].isin(held_out)]
        if not len(unlabelled):
            return members, wanted
        data = self.batches(
            unlabelled.index, np.zeros((len(unlabelled), len(self.labels)), np.float32)
        )
        answers = np.mean(
            [fit.predict(model, data, self.config.train.views) for model, _ in made], axis=0
        )
        answers = processes.agreed(answers)  # or processes would count their batches differently
        sure = (
            np.maximum(answers, 1 - answers).min(axis=1)
            if self.config.data.multilabel
            else answers.max(axis=1)
        )
        sure = sure >= self.config.train.pseudo_labels
        added = torch.from_numpy(answers[sure].astype(np.float32))
        return [*members, *unlabelled.index[sure]], torch.cat([wanted, added])

    def predict(self, model):
        """The network's probabilities of the test fold's clips: clip_id, fold and a column per
        class.
        """
        test = partition.fold_rows(self.rows, [self.turn["test"]])
        held = self.batches(test.index, targets.matrix(test["label"], self.labels))
        table = pd.DataFrame(fit.predict(model, held, self.config.train.views), columns=self.labels)
        return pd.concat([test[["clip_id", "fold"]].reset_index(drop=True), table], axis=1)

    def batches(self, members, wanted, generator=None):
        """Batches of some rows; with a generator shuffled, or drawn evenly over the classes, and
        shared out.
        """
        train, wanted = self.config.train, torch.as_tensor(wanted)
        chances = (
            losses.sampling_weights(wanted) if train.balance == "sampling" and generator else None
        )
        share = processes.place() if generator else (0, 1)
        return batches.Batches(
            self.packed, np.asarray(members), wanted, train.batch_size, self.device, generator, chances, share,
            train.resident,
        )  # fmt: skip


def digest(packed, rows, config):
    """SHA-256 of what networks learn from, and how: the clips themselves, what is known of them,
    settings, code.
    """
    sections = dict.fromkeys(
        ("audio", "clean", "features", "model", "train", "split", "seed"), True
    )
    part = config.model_dump(mode="json", include={**sections, "data": {"multilabel"}})
    part["train"] = {key: value for key, value in part["train"].items() if key not in CARRIED_OUT}
    clips = rows[["clip_id", "label", "split", "group", "fold"]].to_csv(index=False)
    found = hashlib.sha256(
        (json.dumps(part, sort_keys=True) + clips + code.module_digest("fit")).encode()
    )
    found.update(np.ascontiguousarray(packed).reshape(-1))
    return found.hexdigest()


def checkpoint(folder, digest, name, teachers=()):
    """Where the training of a network is kept; it is another one where its teachers have learned
    longer.
    """
    epochs = "".join(f" {len(history)}" for _, history in teachers)
    return checkpoints.Checkpoint(Path(folder) / f"{name}.safetensors", digest + epochs)


def kept_epochs(history):
    """The record of each network's kept epoch: the best on validation, or the last where nothing
    was chosen.
    """
    return history[history["kept"]].drop(columns="kept").reset_index(drop=True)


def curves_in_words(history: pd.DataFrame, settings) -> str:
    """How to read learning curves. Args: history its records; settings its Train section."""
    if "validation_loss" in history:
        best = "lowest validation loss" if settings.monitor == "loss" else "best validation score"
        says = f"Of each network the epoch with the {best} is kept. Validation loss should fall and"
        says += " level off: if it rises while training loss falls, the network learns by heart;"
        says += " if it still falls, train longer."
    else:
        says = "No fold chooses an epoch, and the last one is kept, so there is only the training"
        says += " curve. It should have flattened by the end; if it still falls, train longer."
    if altered := _altered(settings):
        says += f" The training curve is that of altered clips ({', '.join(altered)}), which are"
        says += " harder than clips as they are, so it looks worse than the network is."
    return says


def _altered(settings):
    """What training does to the clips and their labels, in words."""
    picture = settings.inputs == "images"
    on = {
        "moved": not picture and (settings.shift or settings.speed or settings.crop < 1),
        "louder or softer": not picture and settings.gain_db,
        "with noise": not picture and settings.noise_db is not None,
        "turned": picture and (settings.flip or settings.rotate or settings.zoom),
        "mixed": settings.mix != "none" and settings.mix_share,
        "filtered": not picture and settings.filter_db,
        "masked": settings.masks and settings.mask_fraction,
        "with smoothed labels": settings.label_smoothing,
    }
    return [name for name, is_on in on.items() if is_on]


def still_falling(history, config):
    """A sentence where training ended while its loss was still falling, with what to set; else "".

    More than half of the networks that did all of train.epochs must have ended early. What a limit
    in time or patience ended is not judged, nor is a smoke run, which is short on purpose.

    Args: history records of history.json, or a table of them; config of the run.
    """
    table = pd.DataFrame(history)
    epochs = config.train.epochs
    if config.fast or "learned" not in table:  # a history of before has no such column
        return ""
    keys = [key for key in ("fold", "seed") if key in table]
    networks = [network.to_numpy() for _, network in table.groupby(keys)["learned"]]
    whole = [learned for learned in networks if len(learned) == epochs]
    if 2 * sum(ended_early(learned) for learned in whole) <= len(whole):
        return ""
    percent = 100 * max(0, np.mean([learned[-1] for learned in whole]))
    return (
        f"The training loss was still falling in the last epoch ({epochs}): {percent:.0f} % "
        f"learned of what the altered clips can teach. "
        f'Train longer: SET="train.epochs={2 * epochs}", twice the time of 05.'
    )


def ended_early(learned):
    """Whether a network would have gone on learning, judged by `learned` of its epochs, [epochs].

    It would if it ended below ENOUGH and rose by RISE from the second quarter of the epochs to the
    last. That the loss lies flat at the very end says nothing: the learning rate is 0 there.
    """
    quarter = max(1, len(learned) // 4)
    end = learned[-quarter:].mean()
    flat = len(learned) >= JUDGED and end - learned[quarter : 2 * quarter].mean() < RISE
    return bool(end < ENOUGH and not flat)


def learned_from(folder: Path, rows: pd.DataFrame, config: Config) -> np.ndarray:
    """What a run's network learns from, a row for each of waveforms.csv: waveforms, or images."""
    if config.train.inputs == "images":
        return images.read_images(folder / "spectrograms", rows, config.features.image_size)
    return np.load(folder / "waveforms.npy", mmap_mode="r")


def run(folder, config, keep=False):
    """Train the network of 05 for a run: models/cnn with out_of_fold.csv, and history.json.

    In this process, or, with train.processes, in several that torchrun starts on this machine.
    Args: folder of the run, with the files of 04; config; keep the checkpoints of what is done, so
        that the next call has nothing to train. Returns (out-of-fold table, history), as
        `cross_validate`.
    Raises processes.TrainingError if a process fails.
    """
    if config.train.processes > 1 and processes.place()[1] == 1:
        return _in_several(folder, config)
    rows = artifacts.read_table(folder / "waveforms.csv")
    inputs = learned_from(folder, rows, config)
    target = folder / "models" / "cnn"
    with (
        artifacts.replacing(target)
        if processes.is_first()
        else contextlib.nullcontext(target) as temporary
    ):
        if processes.is_first():
            temporary.mkdir()
        table, history = cross_validate(
            inputs, rows, config, temporary, checkpoint_folder=folder / "checkpoints"
        )
        if processes.is_first():
            artifacts.write_table(temporary / "out_of_fold.csv", table)
            artifacts.write_json(folder / "history.json", history)
    if processes.is_first() and not keep and "time" not in ended(target).values():
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return table, history


def ended(folder):
    """Why the training of each network below a folder ended, by its name: "epochs", "patience" or
    "time".
    """
    return {
        path.parent.name: artifacts.read_json(path)["ended"]
        for path in sorted(folder.glob("fold*/card.json"))
    }


def _in_several(folder, config):
    """The same in processes of their own, from which only files come back."""
    with tempfile.TemporaryDirectory() as scratch:
        artifacts.write_json(Path(scratch) / "config.json", config.model_dump(mode="json"))
        options = ("--config", f"{scratch}/config.json", "--run", folder.name)
        processes.start(config.train.processes, "helpers", "train", *options)
    table = artifacts.read_table(folder / "models" / "cnn" / "out_of_fold.csv")
    return table, artifacts.read_json(folder / "history.json")
