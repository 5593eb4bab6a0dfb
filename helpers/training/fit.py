"""A step, an epoch, fit.

What is trained is what is deployed: every step starts from waveforms, or images, and calls the very
`forward` that predicts.
"""

import functools
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch.nn.parallel import DistributedDataParallel

from helpers.models import backbones
from helpers.training import capture, losses, optimise, perturb, processes

SAVE_EVERY = 20  # seconds between the checkpoints of a training


class Trainer:
    """A training under way: network, optimiser, learning rate, averaged weights, history.

    The random numbers of every epoch follow from (seed, epoch, process), so a training that goes on
    from `state` ends with the same weights as one that was never stopped.

    Args: model AudioClassifier, with its standardisation fitted; training shuffled Batches;
        settings the config's Train section, its precision chosen (not "auto"); seed; teachers:
        models whose answers are learned, besides the labels, by train.distil; noise of RMS 1 that
        is mixed in, [K, M] on the device, or None: coloured noise.
    """

    def __init__(self, model, training, settings, seed=0, teachers=(), noise=None):
        self.model = model
        self.training = training
        self.settings = settings
        self.seed = seed
        self.teachers = teachers
        self.noise = noise
        self.device = training.device
        self.multilabel = model.multilabel
        self.format = optimise.FORMATS[settings.precision]
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.format == torch.float16)
        captured = settings.capture and self.can_capture()
        steps = settings.epochs * len(training)
        self.thaws = settings.unfreeze < 1
        self.freeze(0 if self.thaws else settings.freeze)
        # of all that is trained, then or later
        self.optimiser = optimise.make_optimiser(model, settings, captured)
        self.freeze(settings.freeze)
        self.schedule, self.plateau = optimise.make_schedule(self.optimiser, steps, settings)
        self.average = optimise.Average(model, settings.ema) if settings.ema else None
        self.criterion = make_criterion(model, training, settings.balance)
        shares = training.targets.mean(dim=0, keepdim=True).to(self.device)
        self.class_shares = perturb.smooth(shares, settings.label_smoothing, self.multilabel)
        self.wrap()
        self.run_step = capture.Captured(self.step, self.changing) if captured else self.step
        self.generator = torch.Generator()
        self.steps = 0
        self.history = []
        self.best = None

    def freeze(self, share):
        """Leave this share of the layers untrained; what starts from nothing has none to keep."""
        if getattr(self.model.network, "origin", "random") != "random":
            backbones.freeze(self.model.network, share)

    def wrap(self):
        """The model as its training calls it, with the parameters that are trained now."""
        several = self.training.share[1] > 1
        self.classifier = DistributedDataParallel(self.model) if several else self.model

    def thaw(self):
        """Train all layers from here on, where it is time."""
        until = self.settings.unfreeze * self.settings.epochs
        if self.thaws and len(self.history) >= until:
            self.thaws = False
            self.freeze(0)
            self.wrap()

    def can_capture(self):
        """Whether a step can become a CUDA graph.

        It can on one GPU, without the scaler of float16, which asks the host, and where the same
        parameters are trained throughout.
        """
        alone = self.training.share[1] == 1 and self.settings.unfreeze == 1
        alone = alone and getattr(self.model.network, "capturable", True)
        return self.device.type == "cuda" and alone and self.format != torch.float16

    @property
    def kept(self):
        """The model that is kept if training ends now: averaged where weights are."""
        return self.average.model if self.average else self.model

    def step(self, inputs, wanted, pull, *draws):
        """One training step on a batch: alter, mix, network, loss, gradients, weights, average.

        Args: inputs waveforms [B, N] or images [B, H, W]; wanted target vectors [B, C]; pull
            tensor, how far the average moves; draws the fields of perturb.Draws.
        Returns a tensor [4]: its loss, the share of its clips whose likeliest class is the wanted
        one, and the two losses of `scale`.
        """
        draws = perturb.Draws(*draws)
        self.optimiser.zero_grad()
        several = self.multilabel
        inputs, wanted = perturb.alter(inputs, wanted, draws, self.settings, several, self.noise)
        wanted = self.taught(inputs, wanted)
        logits = self.classifier(inputs, draws, self.format)
        loss = self.criterion(logits, wanted)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average:
            self.average.update(pull)
        right = (logits.argmax(dim=1) == wanted.argmax(dim=1)).float().mean()
        return torch.stack([loss.detach(), right, *self.scale(wanted)])

    @torch.no_grad()
    def taught(self, inputs, wanted):
        """Targets [B, C], in part what the teachers answer to the inputs."""
        if not self.teachers:
            return wanted
        answers = torch.stack([teacher.probabilities(inputs) for teacher in self.teachers])
        return torch.lerp(wanted, answers.mean(dim=0).to(wanted), self.settings.distil)

    def scale(self, wanted):
        """The losses of two answers: the shares of the classes, and the wanted targets [B, C].

        Nothing learned, and everything: mixing and smoothing leave even the second well above 0.
        """
        answers = (self.class_shares.expand_as(wanted), wanted)
        logits = [losses.logits(answer, self.multilabel) for answer in answers]
        return [self.criterion(answer, wanted) for answer in logits]

    def changing(self):
        """All tensors that a step changes."""
        tensors = [*self.model.state_dict().values()]
        for state in self.optimiser.state.values():
            tensors += state.values()
        return tensors + ([average for average, _ in self.average.pairs] if self.average else [])

    def epoch(self):
        """One pass over the training batches. Raises FloatingPointError on NaN.

        Returns the mean loss and accuracy, of altered and mixed clips, and `learned`: where the
        loss lies between those of `scale`, from 0, the shares of the classes, to 1, every mixture
        named.
        """
        self.thaw()
        number = len(self.history) + 1
        rank, _ = self.training.share
        # dropout draws from the global generator
        torch.manual_seed(derived(self.seed, number, rank))
        self.training.generator.manual_seed(derived(self.seed, number))
        self.generator.manual_seed(derived(self.seed, number, 1 + rank))
        self.model.train()
        total = torch.zeros(4, device=self.device)
        for inputs, wanted in self.training:
            if self.settings.inputs == "images":
                inputs = perturb.turn_images(inputs, self.settings, self.generator)
            draws = perturb.draw(len(inputs), self.settings, self.generator).to(self.device)
            pull = self.average.pull_after(self.steps) if self.average else 0.0
            total += self.run_step(inputs, wanted, torch.tensor(pull, device=self.device), *draws)
            self.schedule.step()
            self.steps += 1
        loss, right, blank, perfect = (total / len(self.training)).tolist()
        require_finite(loss, "training")
        record = {"train_loss": loss, "learned": (blank - loss) / max(1e-9, blank - perfect)}
        return record | ({} if self.multilabel else {"train_accuracy": right})

    # --- to and from a checkpoint

    def parts(self):
        """Everything with a state of its own, by name."""
        parts = {
            "model": self.model,
            "optimiser": self.optimiser,
            "schedule": self.schedule,
            "scaler": self.scaler,
            "average": self.average and self.average.model,
            "plateau": self.plateau,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def state(self):
        """All that training needs to go on: a tree of tensors and plain values."""
        own = {"steps": self.steps, "history": self.history, "best": self.best}
        return {name: part.state_dict() for name, part in self.parts().items()} | own

    def restore(self, state):
        """Go on from what `state` returned."""
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        for group in self.optimiser.param_groups:
            # comes back on the CPU, where a CUDA graph cannot read it
            if isinstance(group["lr"], torch.Tensor):
                group["lr"] = group["lr"].to(self.device)
        self.steps = state["steps"]
        self.history = state["history"]
        self.best = state["best"]


def fit(
    model,
    training,
    validation,
    settings,
    seed=0,
    teachers=(),
    on_epoch=lambda record: None,
    checkpoint=None,
    deadline=math.inf,
    glance=None,
    noise=None,
):
    """Train, keep the best epoch on validation, or the last one.

    Args: model AudioClassifier; training Batches, shuffled; validation Batches or None, which means
        that nothing is chosen and the last epoch is kept; settings the config's Train section;
        seed; teachers and noise see Trainer; on_epoch called with each epoch's record; checkpoint
        of `checkpoints.Checkpoint`, from which it goes on, or None; deadline in seconds of
        time.monotonic, after which no epoch begins; glance a Glance, or None.
    Returns the history, a list of dicts, of which one is `kept`. The model ends with the kept
        weights.
    """
    trainer = Trainer(model, training, settings, seed, teachers, noise)
    state = processes.agreed(checkpoint.read() if checkpoint else None)
    if state:
        trainer.restore(state)
    for record in trainer.history:
        on_epoch(record)
    saved = time.monotonic()
    while not processes.agreed(finished(trainer, deadline)):
        one_epoch(trainer, validation, glance)
        on_epoch(trainer.history[-1])
        if checkpoint and time.monotonic() - saved > SAVE_EVERY:
            checkpoint.write(trainer.state())
            saved = time.monotonic()
    if checkpoint:
        checkpoint.write(trainer.state())
    last = {"epoch": len(trainer.history), "weights": trainer.kept.state_dict()}
    kept = trainer.best or last
    # each process has BatchNorm statistics of its own
    model.load_state_dict(processes.agreed(kept["weights"]))
    return [{**record, "kept": record["epoch"] == kept["epoch"]} for record in trainer.history]


def finished(trainer, deadline=math.inf):
    """Whether all epochs are done, or patience has ended, or, after one epoch, time."""
    done = len(trainer.history)
    waited = done - trainer.best["epoch"] if trainer.best else 0
    is_late = done > 0 and time.monotonic() >= deadline
    return done >= trainer.settings.epochs or waited >= trainer.settings.patience or is_late


def one_epoch(trainer, validation, glance=None):
    """Train for an epoch, look at the validation fold where there is one, remember the best."""
    started = time.perf_counter()
    rate = float(trainer.optimiser.param_groups[0]["lr"])
    record = {"epoch": len(trainer.history) + 1, "learning_rate": rate, **trainer.epoch()}
    if glance and record["epoch"] in glance.epochs:
        for name, clips in glance.clips.items():
            record |= named_scores(name, trainer.kept, clips)
    if validation is not None:
        scores = processes.agreed(named_scores("validation", trainer.kept, validation))
        record |= scores
        loss, score = scores.values()
        require_finite(loss, "validation")
        if trainer.plateau:
            trainer.plateau.step(loss)
        # of equal scores the lower loss
        merit = [-loss] if trainer.settings.monitor == "loss" else [score, -loss]
        if trainer.best is None or merit > trainer.best["merit"]:
            weights = {name: tensor.clone() for name, tensor in trainer.kept.state_dict().items()}
            trainer.best = {"epoch": record["epoch"], "merit": merit, "weights": weights}
    trainer.history.append({**record, "seconds": round(time.perf_counter() - started, 3)})


def why_ended(history: list[dict], settings) -> str:
    """Why a training ended: "epochs" (all done), "patience", or "time" (train.max_minutes)."""
    done = len(history)
    if done >= settings.epochs:
        return "epochs"
    kept = next(record["epoch"] for record in history if record["kept"])
    is_patience = settings.select == "validation" and done - kept >= settings.patience
    return "patience" if is_patience else "time"


def derived(*numbers: int) -> int:
    """A seed that follows from some whole numbers, and from each of them."""
    state = np.random.SeedSequence((len(numbers), *numbers)).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def make_criterion(model, data, balance):
    """The training loss, with the weights that its training batches' targets give each class."""
    weights = losses.class_weights(data.targets, model.multilabel).to(data.device)
    return functools.partial(
        losses.loss, balance=balance, weights=weights, multilabel=model.multilabel
    )


def require_finite(loss: float, which: str):
    """Raise FloatingPointError, saying what to do, if a loss is NaN or infinite."""
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"The {which} loss is not finite. Lower train.learning_rate or train.clip_norm."
        )


# --- looking, not learning


@dataclass
class Glance:
    """Clips on which a training is scored now and then for show: nothing follows from the scores.

    Args: epochs after which it is; clips unshuffled Batches by name.
    """

    epochs: set
    clips: dict


def named_scores(name: str, model, data) -> dict:
    """What `evaluate` finds, as entries of a record: <name>_loss, and the score by its name."""
    loss, score = evaluate(model, data)
    which = "average_precision" if model.multilabel else "accuracy"
    return {f"{name}_loss": loss, f"{name}_{which}": score}


def evaluate(model, data) -> tuple[float, float]:
    """Plain cross-entropy per clip, never mixed, smoothed or weighted, and the score.

    The score is accuracy, or with several labels macro average precision.
    """
    probabilities = predict(model, data)
    truth = data.targets.numpy()
    likelihood = np.clip(np.where(truth > 0, probabilities, 1 - probabilities), 1e-7, 1)
    if not model.multilabel:
        right = probabilities.argmax(axis=1) == truth.argmax(axis=1)
        return float(-np.log(likelihood[truth > 0]).mean()), float(right.mean())
    heard = truth.any(axis=0)
    score = 0.0
    if heard.any():
        score = average_precision_score(truth[:, heard], probabilities[:, heard])
    return float(-np.log(likelihood).mean()), float(score)


@torch.no_grad()
def predict(model, data, views: int = 1) -> np.ndarray:
    """Class probabilities [clips, C] of a model over unshuffled batches.

    Args: views how many circularly shifted ones of each clip are averaged.
    """
    model.eval()
    rows = []
    for inputs, _ in data:
        shifts = [round(view * inputs.shape[-1] / views) for view in range(views)]
        answers = [model.probabilities(inputs.roll(shift, dims=-1)) for shift in shifts]
        rows.append(sum(answers) / views)
    return torch.cat(rows).cpu().numpy()
