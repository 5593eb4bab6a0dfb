"""A step, an epoch, fit.

What is trained is what is deployed: every step starts from waveforms and runs the same LogMel as
prediction does.
"""

import contextlib
import functools
import math
import time

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch.nn.parallel import DistributedDataParallel

from helpers.models import backbones
from helpers.training import capture, losses, optimise, perturb, processes

SAVE_EVERY = 20  # seconds between the checkpoints of a training


class Trainer:
    """A training under way: a network, the average of its weights, its optimiser, its learning
    rate, its history.

    The random numbers of every epoch follow from (seed, epoch, process), so a training that goes on
    from `state` ends with the same weights as one that was never stopped.

    Args: model AudioClassifier, with its standardisation fitted; training shuffled Batches;
        settings the config's Train section, its precision chosen (not "auto"); seed; teachers:
        models whose answers are learned, besides the labels, by train.distil.
    """

    def __init__(self, model, training, settings, seed=0, teachers=()):
        self.model, self.training, self.settings, self.seed, self.teachers = (
            model,
            training,
            settings,
            seed,
            teachers,
        )
        self.device, self.multilabel = training.device, model.multilabel
        if (
            getattr(model.network, "origin", "random") != "random"
        ):  # what starts from nothing has nothing to keep
            backbones.freeze(model.network, settings.freeze)
        self.format = optimise.FORMATS[settings.precision]
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.format == torch.float16)
        captured = settings.capture and can_capture(self)
        self.optimiser = optimise.make_optimiser(model, settings, captured)
        self.schedule, self.plateau = optimise.make_schedule(
            self.optimiser, self.planned_steps(), settings
        )
        self.average = optimise.Average(model, settings.ema) if settings.ema else None
        self.criterion = make_criterion(model, training, settings.balance)
        shares = training.targets.mean(dim=0, keepdim=True).to(self.device)
        self.class_shares = perturb.smooth(shares, settings.label_smoothing, self.multilabel)
        self.network = (
            DistributedDataParallel(model.network) if training.share[1] > 1 else model.network
        )
        self.run_step = capture.Captured(self.step, self.changing) if captured else self.step
        self.generator, self.steps, self.history, self.best = torch.Generator(), 0, [], None

    def planned_steps(self):
        return self.settings.epochs * len(self.training)

    @property
    def kept(self):
        """The model that is kept if training ends now: the average of the weights, where there is
        one.
        """
        return self.average.model if self.average else self.model

    def step(self, inputs, wanted, pull, *draws):
        """One training step on a batch: alter, mix, LogMel, mask, network, loss, gradients,
        weights, their average.

        Args: inputs waveforms [B, N] or images [B, H, W]; wanted target vectors [B, C]; pull
            tensor, how far the average moves; draws the fields of perturb.Draws.
        Returns a tensor [4]: its loss, the share of its clips whose likeliest class is the wanted
        one, and the two losses of `scale`.
        """
        self.optimiser.zero_grad()
        found = []
        for number, (x, y, *drawn) in enumerate(
            in_parts((inputs, wanted, *draws), self.settings.accumulate), 1
        ):
            with (
                contextlib.nullcontext()
                if number == self.settings.accumulate
                else self.without_sync()
            ):
                found.append(self.gradients(x, y, perturb.Draws(*drawn)))
        self.scaler.unscale_(self.optimiser)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average:
            self.average.update(pull)
        return torch.stack(found).mean(dim=0)

    def gradients(self, inputs, wanted, draws):
        """Add a batch's gradients to those there are; returns what `step` does."""
        with torch.no_grad():
            altered = input_steps(inputs, wanted, draws, self.settings, self.multilabel)
            _, inputs, wanted = perturb.last(altered)
            if self.teachers:
                taught = torch.stack(
                    [teacher.probabilities(inputs) for teacher in self.teachers]
                ).mean(dim=0)
                wanted = torch.lerp(wanted, taught.to(wanted), self.settings.distil)
            _, x = perturb.last(picture_steps(self.model, inputs, draws))
        with torch.autocast(self.device.type, self.format, enabled=self.format is not None):
            logits = self.network(x)
        logits = logits.float()
        loss = self.criterion(logits, wanted)
        self.scaler.scale(loss / self.settings.accumulate).backward()
        right = (logits.argmax(dim=1) == wanted.argmax(dim=1)).float().mean()
        return torch.stack([loss.detach(), right, *self.scale(wanted)])

    def scale(self, wanted):
        """The losses of two answers: the shares of the classes, and the wanted targets [B, C].

        Nothing learned, and everything: mixing and smoothing leave even the second well above 0.
        """
        answers = (self.class_shares.expand_as(wanted), wanted)
        logits = [losses.logits(answer, self.multilabel) for answer in answers]
        return [self.criterion(answer, wanted) for answer in logits]

    def without_sync(self):
        """Where several processes train: gradients stay here until the last part of a step."""
        return (
            self.network.no_sync()
            if isinstance(self.network, DistributedDataParallel)
            else contextlib.nullcontext()
        )

    def changing(self):
        """All tensors that a step changes."""
        tensors = [*self.model.state_dict().values()]
        tensors += [value for state in self.optimiser.state.values() for value in state.values()]
        return tensors + ([average for average, _ in self.average.pairs] if self.average else [])

    def epoch(self):
        """One pass over the training batches. Raises FloatingPointError on NaN.

        Returns the mean loss and accuracy, of altered and mixed clips, and `learned`: where the
        loss lies between those of `scale`, from 0, the shares of the classes, to 1, every mixture
        named.
        """
        number, (rank, _) = len(self.history) + 1, self.training.share
        torch.manual_seed(
            derived(self.seed, number, rank)
        )  # dropout draws from the global generator
        self.training.generator.manual_seed(derived(self.seed, number))
        self.generator.manual_seed(derived(self.seed, number, 1 + rank))
        self.model.train()
        total = torch.zeros(4, device=self.device)
        for inputs, wanted in self.training:
            if inputs.ndim == 3:
                inputs = perturb.turn_images(inputs, self.settings, self.generator)
            draws = draw_parts(len(inputs), self.settings, self.generator).to(self.device)
            pull = torch.tensor(
                self.average.pull_after(self.steps) if self.average else 0.0, device=self.device
            )
            total += self.run_step(inputs, wanted, pull, *draws)
            self.schedule.step()
            self.steps += 1
        loss, right, blank, perfect = (total / len(self.training)).tolist()
        require_finite(loss, "training")
        learned = (blank - loss) / max(1e-9, blank - perfect)
        record = {"train_loss": loss, "learned": learned}
        return record | ({} if self.multilabel else {"train_accuracy": right})

    # --- to and from a checkpoint
    # --------------------------------------------------------------------------

    def parts(self):
        """Everything with a state of its own, by name."""
        found = {
            "model": self.model,
            "optimiser": self.optimiser,
            "schedule": self.schedule,
            "scaler": self.scaler,
        }
        found |= {"average": self.average.model} if self.average else {}
        return found | ({"plateau": self.plateau} if self.plateau else {})

    def state(self):
        """All that training needs to go on: a tree of tensors and plain values."""
        own = {"steps": self.steps, "history": self.history, "best": self.best}
        return {name: part.state_dict() for name, part in self.parts().items()} | own

    def restore(self, state):
        """Go on from what `state` returned."""
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        for group in self.optimiser.param_groups:
            if isinstance(
                group["lr"], torch.Tensor
            ):  # comes back on the CPU, where a CUDA graph cannot read it
                group["lr"] = group["lr"].to(self.device)
        self.steps, self.history, self.best = state["steps"], state["history"], state["best"]


def input_steps(inputs, wanted, draws, settings, multilabel=False):
    """What training does to a batch before the front end: yields (name, inputs, wanted) by step.

    Args: inputs waveforms [B, N] or images [B, H, W]; wanted target vectors [B, C]; draws of
        perturb.draw; settings the config's Train section.
    The first one is the batch itself, with smoothed labels.
    """
    wanted = perturb.smooth(wanted, settings.label_smoothing, multilabel)
    if inputs.ndim == 2:
        yield from perturb.waveform_steps(inputs, wanted, draws, settings.mix, settings.crop)
        return
    yield "clip", inputs, wanted
    if draws.partner is not None:
        yield "mixed", *perturb.mixup(inputs, wanted, draws.partner, draws.weight)


def picture_steps(model, inputs, draws):
    """And from there on: yields (name, pictures) by step; the last one is what the network gets.

    Args: model AudioClassifier; inputs waveforms [B, N] or images [B, H, W]; draws of perturb.draw.
    """
    bands = model.bands(inputs)
    yield "front end", bands[:, None]  # of images: the images
    if draws.bands_db is not None and bands.shape[1] > 1 and inputs.ndim == 2:
        bands = perturb.filter_bands(bands, draws.bands_db)
        yield "filtered", bands[:, None]
    x = model.standardise(bands)
    yield "standardised", x
    if draws.masks is not None:
        yield "masked", perturb.mask(x, draws.masks)


def fit(
    model,
    training,
    validation,
    settings,
    seed=0,
    teachers=(),
    on_epoch=None,
    checkpoint=None,
    deadline=None,
):
    """Train, keep the best epoch on validation, or the last one.

    Args: model AudioClassifier; training Batches, shuffled; validation Batches or None, which means
        that nothing is chosen and the last epoch is kept; settings the config's Train section;
        seed; teachers see Trainer; on_epoch called with each epoch's record; checkpoint of
        `checkpoints.Checkpoint`, from which it goes on, or None; deadline in seconds of
        time.monotonic, after which no epoch begins, or None.
    Returns the history, a list of dicts, of which one is `kept`. The model ends with the kept
        weights.
    """
    trainer = Trainer(model, training, settings, seed, teachers)
    if state := processes.agreed(checkpoint.read() if checkpoint else None):
        trainer.restore(state)
        for record in trainer.history if on_epoch else ():
            on_epoch(record)
    saved = time.monotonic()
    while not processes.agreed(
        finished(trainer, validation) or (late(deadline) and bool(trainer.history))
    ):
        one_epoch(trainer, validation)
        if on_epoch:
            on_epoch(trainer.history[-1])
        if time.monotonic() - saved > SAVE_EVERY:
            keep(checkpoint, trainer)
            saved = time.monotonic()
    keep(checkpoint, trainer)
    weights = trainer.best["weights"] if trainer.best else trainer.kept.state_dict()
    model.load_state_dict(
        processes.agreed(weights)
    )  # each process has BatchNorm statistics of its own
    kept = trainer.best["epoch"] if trainer.best else len(trainer.history)
    return [{**record, "kept": record["epoch"] == kept} for record in trainer.history]


def one_epoch(trainer, validation):
    """Train for an epoch, look at the validation fold where there is one, remember the best
    weights.
    """
    started, settings = time.perf_counter(), trainer.settings
    record = {
        "epoch": len(trainer.history) + 1,
        "learning_rate": float(trainer.optimiser.param_groups[0]["lr"]),
    }
    record |= trainer.epoch()
    if validation is not None:
        loss, score = processes.agreed(evaluate(trainer.kept, validation))
        require_finite(loss, "validation")
        record |= {"validation_loss": loss, score_name(trainer): score}
        if trainer.plateau:
            trainer.plateau.step(loss)
        merit = (
            [-loss] if settings.monitor == "loss" else [score, -loss]
        )  # equal scores: the lower loss
        if trainer.best is None or merit > trainer.best["merit"]:
            weights = {name: tensor.clone() for name, tensor in trainer.kept.state_dict().items()}
            trainer.best = {"epoch": record["epoch"], "merit": merit, "weights": weights}
    trainer.history.append({**record, "seconds": round(time.perf_counter() - started, 3)})


def keep(checkpoint, trainer):
    """Write the state of a training; of several processes the first does."""
    if checkpoint and trainer.training.share[0] == 0:
        checkpoint.write(trainer.state())


def why_ended(history, settings):
    """Why a training ended, from its history: "epochs" (all done), "patience", or "time"
    (train.max_minutes).
    """
    if len(history) >= settings.epochs:
        return "epochs"
    kept = next(record["epoch"] for record in history if record["kept"])
    return (
        "patience"
        if settings.select == "validation" and len(history) - kept >= settings.patience
        else "time"
    )


def finished(trainer, validation):
    """Whether all epochs are done, or patience has ended."""
    done = len(trainer.history)
    waited = done - trainer.best["epoch"] if validation is not None and trainer.best else 0
    return done >= trainer.settings.epochs or waited >= trainer.settings.patience


def late(deadline):
    return deadline is not None and time.monotonic() >= deadline


def can_capture(trainer):
    """Whether a step can become a CUDA graph: on one GPU, and without the scaler of float16, which
    asks the host.
    """
    return (
        trainer.device.type == "cuda"
        and trainer.training.share[1] == 1
        and trainer.format != torch.float16
    )


def in_parts(tensors, count):
    """Tensors [B, ...], or None, cut into `count` parts along the batch: for each part a list of
    them.
    """
    cut = [[None] * count if tensor is None else tensor.tensor_split(count) for tensor in tensors]
    return list(zip(*cut, strict=True))


def draw_parts(size, settings, generator):
    """Draws of a batch whose parts pass one after the other: partners are found within a part."""
    sizes = [len(part) for part in torch.arange(size).tensor_split(settings.accumulate)]
    drawn = zip(*(perturb.draw(part, settings, generator) for part in sizes), strict=True)
    return perturb.Draws(*(None if parts[0] is None else torch.cat(parts) for parts in drawn))


def derived(*numbers):
    """A seed that follows from some whole numbers, and from each of them."""
    return int(
        np.random.SeedSequence((len(numbers), *numbers)).generate_state(1, np.uint64)[0]
        >> np.uint64(1)
    )


def make_criterion(model, data, balance):
    """The training loss, with the weights that its training batches' targets give each class."""
    weights = losses.class_weights(data.targets, model.multilabel).to(data.device)
    return functools.partial(
        losses.loss, balance=balance, weights=weights, multilabel=model.multilabel
    )


def require_finite(loss, which):
    """Raise FloatingPointError, saying what to do, if a loss is NaN or infinite."""
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"The {which} loss is not finite. Lower train.learning_rate or train.clip_norm."
        )


def score_name(model):
    """What the history calls the score on validation."""
    return "validation_average_precision" if model.multilabel else "validation_accuracy"


# --- looking, not learning
# ---------------------------------------------------------------------------------


def evaluate(model, data):
    """Plain cross-entropy per clip, never mixed, smoothed or weighted, and the score: accuracy, or
    with several labels macro average precision. Returns (loss, score).
    """
    probabilities, truth = predict(model, data), data.targets.numpy()
    likelihood = np.clip(np.where(truth > 0, probabilities, 1 - probabilities), 1e-7, 1)
    if model.multilabel:
        heard = truth.any(axis=0)
        score = (
            average_precision_score(truth[:, heard], probabilities[:, heard])
            if heard.any()
            else 0.0
        )
        return float(-np.log(likelihood).mean()), float(score)
    right = probabilities.argmax(axis=1) == truth.argmax(axis=1)
    return float(-np.log(likelihood[truth > 0]).mean()), float(right.mean())


@torch.no_grad()
def predict(model, data, views=1):
    """Class probabilities [clips, C] of a model over unshuffled batches, the mean over circularly
    shifted views.
    """
    model.eval()
    rows = []
    for inputs, _ in data:
        shifts = [round(view * inputs.shape[-1] / views) for view in range(views)]
        rows.append(
            sum(model.probabilities(inputs.roll(shift, dims=-1)) for shift in shifts) / views
        )
    return torch.cat(rows).cpu().numpy()
