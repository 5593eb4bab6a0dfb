"""What a training step makes of clips, shown before anything is learned.

Every tensor comes from the functions that a step of `fit` calls: what is shown is what is learned.
"""

import os
import time
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from IPython.display import display

from helpers.audio import features
from helpers.base import targets
from helpers.models import networks
from helpers.rounds import learner
from helpers.splits import partition
from helpers.training import batches, fit, losses, optimise, perturb
from helpers.view import score_plots

BATCH = 16  # clips of the batch of which some are shown
TRIES = 50  # batches that are drawn until one is mixed, and one is not
DRAWN_SHARE = 0.01  # of a training's time that drawing its curves may take
LEAST = 0.005  # a share of a label below this is not worth naming
MOST_LABELS = 6  # whose shares are shown


class Clip(NamedTuple):
    """One clip on its way into the network."""

    label: str
    steps: list  # of (name, what is done in words, tensor [samples] or [bands, frames])
    wanted: dict  # what the network should answer: shares by label
    answers: pd.DataFrame  # and what was asked for before: shares [steps, labels]


class Batch(NamedTuple):
    """A batch on its way into the network."""

    draws: perturb.Draws
    steps: list  # of (name, tensor [B, ...]); the last one is the network's input
    answers: dict  # target vectors [B, C] by step; the loss compares with the last

    @property
    def is_mixed(self) -> bool:
        return self.draws.partner is not None and bool((self.draws.weight < 1).any())

    @property
    def wanted(self) -> torch.Tensor:
        """What the loss compares the network's answers with: target vectors [B, C]."""
        return list(self.answers.values())[-1]


def clips(
    packed: np.ndarray,
    rows: pd.DataFrame,
    config,
    generator: torch.Generator,
    count: int = 4,
    trainer: fit.Trainer | None = None,
) -> list[Clip]:
    """Training clips of different classes, each followed step by step into the network.

    As many are from mixed batches as train.mix_share says, each mixed of another pair of labels.

    Args: packed of `train.learned_from`; rows of waveforms.csv; config; generator of the CPU; count
        of clips; trainer of `rehearsal`, where there is one already.
    """
    trainer = trainer or rehearsal(packed, rows, config)
    labels = targets.classes(rows, config.data.multilabel)
    some = _some(rows.loc[trainer.training.rows])
    names = some["label"].tolist()
    inputs = features.unpack(torch.from_numpy(np.asarray(packed[some.index.to_numpy()])))
    wanted = torch.from_numpy(targets.matrix(names, labels))
    missing = _quota(count, config.train)
    chosen = []
    for _ in range(TRIES):
        batch = walk(trainer.model, inputs, wanted, config.train, generator, trainer.noise)
        places = _choose(names, batch, chosen, missing[batch.is_mixed])
        missing[batch.is_mixed] -= len(places)
        chosen += [(place, batch) for place in places]
        if not any(missing.values()):
            break
    return [_follow(place, batch, names, labels, config.train) for place, batch in chosen]


@torch.no_grad()
def walk(model, inputs, wanted, settings, generator, noise=None) -> Batch:
    """A batch's way into the network, as `fit.Trainer` sends it there.

    Args: model AudioClassifier; inputs waveforms [B, N] or images [B, H, W]; wanted target vectors
        [B, C]; settings the config's Train section; generator of the CPU; noise as of Trainer.
    """
    is_image = settings.inputs == "images"
    turned = perturb.turn_images(inputs, settings, generator) if is_image else inputs
    draws = perturb.draw(len(inputs), settings, generator)
    before = list(perturb.steps(turned, wanted, draws, settings, model.multilabel, noise))
    steps = [(name, x) for name, x, _ in before]
    if is_image:
        steps = [("clip", inputs), ("turned", turned), *steps[1:]]
    answers = {"as it lies there": wanted, "smoothed": before[0][-1]}
    name, heard, asked = before[-1]
    if name == "mixed":
        answers["mixed"] = asked
    noted = Noted(draws, [])
    model.features(heard, noted)
    return Batch(draws, [*steps, *noted.steps], answers)


class Noted(NamedTuple):
    """Draws that note what they are given and what they make of it."""

    draws: perturb.Draws
    steps: list  # of (name, tensor [B, 1, bands, frames])

    def bands(self, bands):
        filtered = self.draws.bands(bands)
        self.steps.append(("front end", bands[:, None]))  # of images: the images
        if filtered is not bands:
            self.steps.append(("filtered", filtered[:, None]))
        return filtered

    def picture(self, x):
        masked = self.draws.picture(x)
        self.steps.append(("standardised", x))
        if masked is not x:
            self.steps.append(("masked", masked))
        return masked


def _some(training):
    """A few clips of each label, at most BATCH."""
    originals = training[training["parent_id"].eq("") & training["label"].ne("")]
    each = max(1, BATCH // max(1, originals["label"].nunique()))
    some = originals.groupby("label").head(each)
    return some.sort_values("label", kind="stable").head(BATCH)


def mixed_share(settings) -> float:
    """The share of batches that are mixed. Args: settings the config's Train section."""
    off = settings.mix == "none" or (settings.mix == "mixup" and not settings.mixup_alpha)
    return 0.0 if off else settings.mix_share


def _quota(count, settings):
    """How many clips are shown mixed, and not: {True: number, False: number}."""
    share = mixed_share(settings)
    mixed = round(share * count)
    if 0 < share < 1:
        mixed = min(max(mixed, 1), count - 1)
    return {True: mixed, False: count - mixed}


def _choose(names, batch, chosen, count):
    """Places of `count` clips in a batch, of labels and pairs of labels not yet chosen."""
    labels = {names[place] for place, _ in chosen}
    pairs = {_pair(place, before, names) for place, before in chosen}
    places = []
    for place, label in enumerate(names):
        pair = _pair(place, batch, names)
        alike = batch.is_mixed and label == names[batch.draws.partner[place]]
        is_new = label not in labels and pair not in pairs
        if len(places) < count and is_new and not alike:
            places.append(place)
            labels.add(label)
            pairs.add(pair)
    return places


def _pair(place, batch, names):
    """The labels that a clip is made of; where there are but two of them, the clips."""
    members = [place, int(batch.draws.partner[place])] if batch.is_mixed else [place]
    return frozenset(names[one] if len(set(names)) > 2 else one for one in members)


def _follow(place, batch, names, labels, settings):
    """One clip of a batch: its steps in words, without those that leave it as it was."""
    drawn = perturb.Draws(*(None if one is None else one[place] for one in batch.draws))
    partner = "" if drawn.partner is None else names[drawn.partner]
    steps = []
    for name, x in batch.steps:
        # several spectrograms are shown one above the other
        own = x[place].reshape(-1, x.shape[-1]).squeeze()
        what = describe(name, drawn, partner, settings)
        is_sound_again = name == "front end" and own.ndim == 1  # of networks on the waveform itself
        if what and not is_sound_again:
            steps.append((name, what, own))
    spoken = [targets.in_words(name) for name in labels]
    shares = {name: answer[place].tolist() for name, answer in batch.answers.items()}
    answers = pd.DataFrame.from_dict(shares, orient="index", columns=spoken)
    wanted = answers.iloc[-1].nlargest(3)
    return Clip(names[place], steps, wanted[wanted.ge(LEAST)].to_dict(), answers)


def describe(name: str, drawn: perturb.Draws, partner: str, settings) -> str:
    """What a step does to a clip, in words; "" where it leaves the clip as it was.

    Args: name of the step; drawn the clip's own draws; partner the label that it is mixed with;
        settings the config's Train section.
    """
    if name in SPOKEN:
        return SPOKEN[name](drawn, settings)
    if name == "mixed":
        weight = drawn.weight.item()
        both = f"{weight:.0%} itself, {1 - weight:.0%} {targets.in_words(partner)}"
        return both if weight < 1 else ""
    is_picture = name == "front end" and settings.inputs == "images"  # already
    return "" if is_picture else PLAIN[name]


def _played(drawn, settings):
    part = f"{settings.crop:.0%} of the clip, " if settings.crop < 1 else ""
    start = drawn.offset.item()
    speed = drawn.rate.item()
    return f"{part}from {start:.0%} of it on, at {speed:.2f} times the speed"


def _gain(drawn, settings):
    gain_db = round(20 * drawn.gain.abs().log10().item(), 1) + 0.0
    return f"{gain_db:+.1f} dB" + (", upside down" if drawn.gain.item() < 0 else "")


def _noise(drawn, settings):
    colour, _, level = drawn.noise.tolist()
    name = ("white", "pink", "brown")[int(colour * len(perturb.COLOURS))]
    return f"{name} noise, {20 * np.log10(level):+.0f} dB against the clip" if level else ""


def _masked(drawn, settings):
    count = drawn.masks.shape[1]
    return f"{count} bands of frequencies and {count} stretches of time blanked"


SPOKEN = {"played": _played, "gain": _gain, "noise": _noise, "masked": _masked}
PLAIN = {
    "clip": "as it lies in the training data",
    "turned": "mirrored, turned and zoomed",
    "front end": "spectrogram in mel bands",
    "filtered": "bands made louder and softer",
    "standardised": "each band around its mean over the training clips",
}


# --- beside the code


def mixing(shown: list[Clip]) -> pd.DataFrame:
    """What a mixed clip, or where none is the first, should be answered with, step by step.

    Args: shown of `clips`. Returns shares [steps, labels], of six labels at most.
    """
    clip = next((clip for clip in shown if "mixed" in clip.answers.index), shown[0])
    named = clip.answers.sum().nlargest(MOST_LABELS).index
    return clip.answers[[name for name in clip.answers if name in named]]


def loss_curves() -> pd.DataFrame:
    """The loss by the probability of the right one of two classes: plain, and focal."""
    probability = torch.linspace(0.01, 1, 100, dtype=torch.float64)
    answers = torch.stack([probability, 1 - probability], dim=1).clamp(min=1e-12).log()
    right = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    table = pd.DataFrame({"probability of the right class": probability})
    for name, balance in (("cross-entropy", "none"), ("focal", "focal")):
        table[name] = [float(losses.loss(answer[None], right, balance)) for answer in answers]
    return table


def learning_rates(settings, steps: int = 200) -> pd.DataFrame:
    """The learning rate over a training, by the very schedule: a table of it by share of the steps.

    Args: settings the config's Train section; steps that are looked at.
    """
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], lr=settings.learning_rate)
    schedule, _ = optimise.make_schedule(optimiser, steps, settings)
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return pd.DataFrame({"share of all steps": np.arange(steps) / steps, "learning rate": rates})


# --- one step, on a copy


def rehearsal(packed: np.ndarray, rows: pd.DataFrame, config) -> fit.Trainer:
    """A training as the first round begins it, on a network that is thrown away.

    It is that of `train.run` but for the warm-up, whose first step has a learning rate of 0, and
    has random numbers of its own, so that nothing of the real training changes.

    Args: packed of `train.learned_from`; rows of waveforms.csv; config.
    """
    labels = targets.classes(rows, config.data.multilabel)
    turn = partition.rounds(rows["fold"].dropna(), config.train.select, config.split.test_folds)[0]
    first = learner.Round(packed, rows, labels, turn, config, "cpu", None, None, None)
    training = first.training_rows()
    wanted = targets.matrix(training["label"], labels)
    settings = config.but("train.precision", "fp32").but("train.warmup_fraction", 0.0).train
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = networks.build(config, len(labels), fresh=False)
        model.fit_standardisation(first.batches(training.index, wanted))
        model.begin_at(torch.from_numpy(wanted).mean(dim=0))
        shuffled = torch.Generator().manual_seed(config.seed)
        clips = first.batches(training.index, wanted, shuffled)
        noise = batches.noise(packed, rows, settings)
        return fit.Trainer(model, clips, settings, config.seed, noise=noise)


def by_hand(trainer: fit.Trainer, logits, asked, rows: pd.DataFrame) -> pd.DataFrame:
    """The loss of one clip, worked out class by class, what is asked for most first.

    Args: trainer; logits [C]; asked for [C] of the clip; rows of waveforms.csv. Returns a table
        with a row per class; the loss is the sum of its `cost`, with several labels the mean.
    """
    settings = trainer.settings
    one = trainer.multilabel
    names = [targets.in_words(name) for name in targets.classes(rows, one)]
    wanted = asked.double().numpy()
    table = pd.DataFrame({"label": names, "logit": logits.detach().double().numpy()})
    if one:
        table["probability"] = 1 / (1 + np.exp(-table["logit"]))
    else:
        table["e^logit"] = np.exp(table["logit"])
        table["probability"] = table["e^logit"] / table["e^logit"].sum()
    weights = np.ones(len(table))
    if settings.balance == "weights":
        weights = trainer.criterion.keywords["weights"].double().numpy()
    table["asked_for"] = wanted
    table["-ln(probability)"] = -np.log(table["probability"])
    table["cost"] = weights * wanted * table["-ln(probability)"]
    if one:
        table["cost"] -= (1 - wanted) * np.log(1 - table["probability"])
    if settings.balance == "focal":
        missing = (wanted - table["probability"]).abs() if one else 1 - table["probability"]
        table["cost"] *= missing**losses.FOCUS
    return table.sort_values(["asked_for", "probability"], ascending=False, ignore_index=True)


def both_ways(worked: pd.DataFrame, trainer: fit.Trainer, logits, asked) -> str:
    """A clip's loss by hand and by the code, in words. Args: worked of `by_hand`; those of it."""
    by_hand = worked["cost"].mean() if trainer.multilabel else worked["cost"].sum()
    by_code = trainer.criterion(logits.detach()[None].double(), asked[None].double())
    which = "The mean" if trainer.multilabel else "The sum"
    return f"{which} of the costs is the loss: {by_hand:.6f} by hand, {by_code:.6f} by the code."


def longest(worked: pd.DataFrame, count: int = 10) -> pd.DataFrame:
    """The first rows of `by_hand`, and one for all other classes together."""
    if len(worked) <= count:
        return worked
    rest = worked.iloc[count:].sum(numeric_only=True)
    rest = rest.drop(["logit", "-ln(probability)"])
    last = pd.DataFrame([{"label": f"{len(worked) - count} others together", **rest}])
    return pd.concat([worked.head(count), last], ignore_index=True)


def before_and_after(before, after) -> str:
    """What a step did to the loss of its own batch, in words. Args: losses, tensors."""
    rose = "did not fall: the learning rate is too high for a first step, or dropout drew otherwise"
    moved = "fell" if after < before else rose
    return f"Loss of this batch before the step {before:.4f}, after it {after:.4f}: it {moved}."


def one_batch(trainer: fit.Trainer, clips, wanted, draws: perturb.Draws, steps: int):
    """The loss of one batch that is learned from again and again, and the least it can be.

    Args: trainer of `rehearsal`; clips, wanted of a batch; draws of its random numbers; steps.
    Returns a table for `score_plots.curves`.
    """
    trainer.model.train()
    still = torch.tensor(0.0)  # how far the averaged weights move
    rows = []
    for step in range(steps):
        loss, _, _, least = trainer.step(clips, wanted, still, *draws).tolist()
        share = step / max(1, steps - 1)
        rows.append({"share of the steps": share, "loss": loss, "least possible": least})
    return pd.DataFrame(rows)


# --- while it trains


class Live:
    """Learning curves, drawn in place while a training goes on; headless, at its end."""

    def __init__(self):
        self.records = {}
        self.handle = None
        self.due = time.monotonic()

    def watch(self, records: list[dict]) -> None:
        """Draw the networks so far, now and then. Args: records of the one under way."""
        self.records[records[0]["fold"], records[0]["seed"]] = list(records)
        started = time.monotonic()
        if "EARSHOT_HEADLESS" in os.environ or started < self.due:
            return
        self.show([record for own in self.records.values() for record in own])
        done = time.monotonic()
        self.due = done + (done - started) / DRAWN_SHARE

    def show(self, history: list[dict]) -> None:
        """Draw the records of a training, in the place of what was drawn before."""
        figure = score_plots.learning_curves(pd.DataFrame(history))
        if self.handle:
            self.handle.update(figure)
        else:
            self.handle = display(figure, display_id=True)
