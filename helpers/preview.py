"""What a training step makes of clips, shown before anything is learned.

Every tensor here comes from the functions that a step of `fit` calls, so what is shown is what is learned from.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from helpers import features, fit, models, perturb, split, targets, train

BATCH = 16  # clips of the batch of which some are shown
TRIES = 50  # batches that are drawn until one is mixed, and one is not
LEAST = 0.005  # a share of a label below this is not worth naming


class Clip(NamedTuple):
    """One clip on its way into the network."""

    label: str
    steps: list  # of (name, what is done in words, tensor [samples] or [bands, frames])
    wanted: dict  # what the network should answer: shares by label


def rounds_model(packed, rows: pd.DataFrame, config, turn: dict):
    """A network as the first step of a round finds it, and the rows that it learns from.

    Args: packed of `train.learned_from`; rows of waveforms.csv; config; turn of `split.rounds`.
    Returns (AudioClassifier, its standardisation fitted as for the training, rows).
    """
    labels = targets.classes(rows, config.data.multilabel)
    learner = train.Round(packed, rows, labels, turn, config, "cpu", None, None, None)
    training = learner.training_rows()
    model = models.build(config, len(labels), fresh=False)
    wanted = targets.matrix(training["label"], labels)
    model.fit_standardisation(learner.batches(training.index, wanted))
    return model, training


def clips(packed, rows: pd.DataFrame, config, generator: torch.Generator, count: int = 4) -> list[Clip]:
    """Some training clips of different classes, each followed step by step from the file to the network's input.

    As many of them are from mixed batches as train.mix_share says; of the mixed ones every pair is another, of two
    labels. Args: packed of `train.learned_from`; rows of waveforms.csv; config; generator of the CPU; count.
    """
    turn = split.rounds(rows["fold"].dropna(), config.train.select, config.split.test_folds)[0]
    model, training = rounds_model(packed, rows, config, turn)
    labels = targets.classes(rows, config.data.multilabel)
    batch = _batch(training)
    inputs = features.unpack(torch.from_numpy(np.asarray(packed[batch.index.to_numpy()])))
    wanted = torch.from_numpy(targets.matrix(batch["label"], labels))
    names = batch["label"].tolist()
    quota = _quota(count, config.train)
    shown = []
    for _ in range(TRIES):
        draws, steps, asked = walk(model, inputs, wanted, config.train, generator)
        mixed = draws.partner is not None and bool((draws.weight < 1).any())
        for clip in _choose(names, draws.partner if mixed else None, shown, quota[mixed]):
            quota[mixed] -= 1
            shown.append((clip, draws, steps, asked))
        if not any(quota.values()):
            break
    return [_follow(*one, names, labels, config.train) for one in shown]


@torch.no_grad()
def walk(model, inputs, wanted, settings, generator):
    """A batch's way into the network, as `fit.Trainer` sends it there.

    Args: model AudioClassifier; inputs waveforms [B, N] or images [B, H, W]; wanted target vectors [B, C]; settings the
        config's Train section; generator of the CPU. Returns (draws; the steps, a list of (name, tensor [B, ...]), of
        which the last is the network's input; targets [B, C] of the loss).
    """
    turned = perturb.turn_images(inputs, settings, generator) if inputs.ndim == 3 else inputs
    draws = perturb.draw(len(inputs), settings, generator)
    before = list(fit.input_steps(turned, wanted, draws, settings, model.multilabel))
    _, heard, asked = before[-1]
    steps = [(name, x) for name, x, _ in before] + list(fit.picture_steps(model, heard, draws))
    if inputs.ndim == 3:
        steps = [("clip", inputs), ("turned", turned), *steps[1:]]
    return draws, steps, asked


def _batch(training):
    """A few clips of each label, at most BATCH; the labels that few clips have come as well."""
    originals = training[training["parent_id"].eq("") & training["label"].ne("")]
    each = max(1, BATCH // max(1, originals["label"].nunique()))
    return originals.groupby("label").head(each).sort_values("label", kind="stable").head(BATCH)


def _quota(count, settings):
    """How many clips are shown mixed, and not: {True: number, False: number}."""
    off = settings.mix == "none" or (settings.mix == "mixup" and not settings.mixup_alpha)
    share = 0.0 if off else settings.mix_share
    mixed = round(share * count)
    if 0 < share < 1:
        mixed = min(max(mixed, 1), count - 1)
    return {True: mixed, False: count - mixed}


def _choose(names, partner, shown, count):
    """Places in the batch of clips of labels not yet shown, with partners of another label, no pair twice."""
    labels = {names[clip] for clip, *_ in shown}
    pairs = {_pair(clip, draws.partner, names) for clip, draws, *_ in shown}
    for clip, label in enumerate(names):
        if count == 0:
            return
        pair = _pair(clip, partner, names)
        alike = partner is not None and (label == names[partner[clip]] or pair in pairs)
        if label not in labels and not alike:
            yield clip
            labels.add(label)
            pairs.add(pair)
            count -= 1


def _pair(clip, partner, names):
    """The labels that a clip is made of; where there are but two of them, the clips."""
    members = [clip] if partner is None else [clip, int(partner[clip])]
    return frozenset(names[one] if len(set(names)) > 2 else one for one in members)


def _follow(clip, draws, steps, asked, names, labels, settings):
    """One clip of a batch: its steps in words, without those that leave it as it was."""
    alone = perturb.Draws(*(None if drawn is None else drawn[clip] for drawn in draws))
    other = "" if draws.partner is None else names[draws.partner[clip]]
    own = [(name, x[clip].squeeze()) for name, x in steps]
    said = [(name, describe(name, alone, other, settings), x) for name, x in own]
    shares = zip(labels, asked[clip].tolist(), strict=True)
    wanted = {targets.in_words(name): share for name, share in shares if share >= LEAST}
    wanted = dict(sorted(wanted.items(), key=lambda one: -one[1])[:3])
    shown = [(name, what, x) for name, what, x in said if what and not (name == "front end" and x.ndim == 1)]
    return Clip(names[clip], shown, wanted)


def describe(name: str, drawn: perturb.Draws, partner: str, settings) -> str:
    """What a step does to a clip, in words; "" where it leaves the clip as it was.

    Args: name of the step; drawn the clip's own draws; partner the label that it is mixed with; settings the config's
        Train section.
    """
    if name == "played":
        part = f"{settings.crop:.0%} of the clip, " if settings.crop < 1 else ""
        return f"{part}from {drawn.offset.item():.0%} of it on, at {drawn.rate.item():.2f} times the speed"
    if name == "gain":
        flipped = ", upside down" if drawn.gain.item() < 0 else ""
        gain_db = round(20 * drawn.gain.abs().log10().item(), 1) + 0.0
        return f"{gain_db:+.1f} dB{flipped}"
    if name == "noise":
        colour, _, level = drawn.noise.tolist()
        kind = ("white", "pink", "brown")[int(colour * len(perturb.COLOURS))]
        return f"{kind} noise, {20 * np.log10(level):+.0f} dB against the clip" if level else ""
    if name == "mixed":
        weight = drawn.weight.item()
        return f"{weight:.0%} itself, {1 - weight:.0%} {targets.in_words(partner)}" if weight < 1 else ""
    if name == "masked":
        count = drawn.masks.shape[1]
        return f"{count} bands of frequencies and {count} stretches of time blanked"
    return {
        "clip": "as it lies in the training data",
        "turned": "mirrored, turned and zoomed",
        "front end": "log-mel spectrogram" if settings.inputs == "waveforms" else "",
        "filtered": "bands made louder and softer",
        "standardised": "each band around its mean over the training clips",
    }[name]
