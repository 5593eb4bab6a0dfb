"""A step, an epoch, fit; cross-validation; weights in and out.

What is trained is what is deployed: every step starts from waveforms and runs the same LogMel as prediction does.
"""

import contextlib
import functools
import math
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import average_precision_score

from helpers import artifacts, augment, backbones, batches, images, losses, models, split, targets


def step(model, inputs, wanted, criterion, optimiser, settings, generator):
    """One training step on a batch; returns (its loss, the share of its clips whose likeliest class is the wanted one).

    Args: model AudioClassifier; inputs waveforms [B, N] or images [B, H, W]; wanted target vectors [B, C]; criterion of
        `make_criterion`; settings the config's Train section; generator of every random draw.
    """
    wanted = augment.smooth(wanted, settings.label_smoothing, model.multilabel)
    if inputs.ndim == 3:
        inputs = augment.perturb_images(inputs, settings.flip, settings.rotate, settings.zoom, generator)
    else:
        inputs = augment.perturb(inputs, settings.shift, settings.speed, settings.gain_db, generator)
    inputs, wanted = augment.mixup(inputs, wanted, *augment.draw_mixup(len(wanted), settings.mixup_alpha, generator))
    x = augment.mask_spectrogram(model.features(inputs), settings.masks, settings.mask_fraction, generator)
    logits = model.network(x)
    loss = criterion(logits, wanted)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
    optimiser.step()
    return loss.item(), (logits.argmax(dim=1) == wanted.argmax(dim=1)).float().mean().item()


def epoch(model, data, criterion, optimiser, schedule, settings, generator):
    """One pass over the training batches: mean loss and accuracy, of altered and mixed clips. Raises on NaN."""
    model.train()
    steps = []
    for inputs, wanted in data:
        steps.append(step(model, inputs, wanted, criterion, optimiser, settings, generator))
        schedule.step()
    require_finite(steps, "training")
    return np.mean(steps, axis=0).tolist()


def make_criterion(model, data, balance):
    """The training loss, with the weights that its training batches' targets give each class."""
    weights = losses.class_weights(data.targets, model.multilabel).to(data.device)
    return functools.partial(losses.loss, balance=balance, weights=weights, multilabel=model.multilabel)


def require_finite(values, which):
    """Raise FloatingPointError, saying what to do, if a loss is NaN or infinite."""
    if not np.isfinite(values).all():
        raise FloatingPointError(f"The {which} loss is not finite. Lower train.learning_rate or train.clip_norm.")


def evaluate(model, data):
    """Plain cross-entropy per clip, never mixed, smoothed or weighted, and the score: accuracy, or with several labels
    macro average precision. Returns (loss, score)."""
    probabilities, truth = predict(model, data), data.targets.numpy()
    likelihood = np.clip(np.where(truth > 0, probabilities, 1 - probabilities), 1e-7, 1)
    if model.multilabel:
        heard = truth.any(axis=0)
        score = average_precision_score(truth[:, heard], probabilities[:, heard]) if heard.any() else 0.0
        return float(-np.log(likelihood).mean()), float(score)
    right = probabilities.argmax(axis=1) == truth.argmax(axis=1)
    return float(-np.log(likelihood[truth > 0]).mean()), float(right.mean())


@torch.no_grad()
def predict(model, data, views=1):
    """Class probabilities [clips, C] of a model over unshuffled batches, the mean over circularly shifted views."""
    model.eval()
    rows = []
    for inputs, _ in data:
        shifts = [round(view * inputs.shape[-1] / views) for view in range(views)]
        rows.append(sum(model.probabilities(inputs.roll(shift, dims=-1)) for shift in shifts) / views)
    return torch.cat(rows).cpu().numpy()


def fit(model, training, validation, settings, generator, on_epoch=None):
    """Train, keep the best epoch on validation, or the last one.

    Args: model AudioClassifier; training Batches, shuffled; validation Batches or None, which means
        that nothing is chosen and the last epoch is kept; settings the config's Train section; generator; on_epoch
        called with each epoch's record. Returns the history, a list of dicts, of which one is `kept`. The model ends
        with the kept weights.
    """
    if getattr(model.network, "origin", "random") != "random":  # what starts from nothing has nothing to keep
        backbones.freeze(model.network, settings.freeze)
    groups = backbones.parameter_groups(model, settings.learning_rate, settings.weight_decay, settings.layer_decay)
    optimiser = torch.optim.AdamW(groups)
    criterion = make_criterion(model, training, settings.balance)
    schedule, after_epoch = make_schedule(optimiser, len(training), settings)
    history, best, kept, best_weights = [], (-math.inf,), settings.epochs, None
    for number in range(1, settings.epochs + 1):
        started = time.perf_counter()
        record = {"epoch": number, "learning_rate": optimiser.param_groups[0]["lr"]}
        record["train_loss"], right = epoch(model, training, criterion, optimiser, schedule, settings, generator)
        if not model.multilabel:
            record["train_accuracy"] = right
        if validation is not None:
            loss, score = evaluate(model, validation)
            require_finite([loss], "validation")
            record |= {"validation_loss": loss, score_name(model): score}
            after_epoch(loss)
            merit = (-loss,) if settings.monitor == "loss" else (score, -loss)  # equal scores: the lower loss
            if merit > best:
                best, kept = merit, number
                best_weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        history.append({**record, "seconds": round(time.perf_counter() - started, 3)})
        if on_epoch:
            on_epoch(history[-1])
        if validation is not None and number - kept >= settings.patience:
            break
    if best_weights:
        model.load_state_dict(best_weights)
    return [{**record, "kept": record["epoch"] == kept} for record in history]


def score_name(model):
    """What the history calls the score on validation."""
    return "validation_average_precision" if model.multilabel else "validation_accuracy"


def make_schedule(optimiser, steps_per_epoch, settings):
    """The learning rate over time: (schedule to step after each batch, function to call with each validation loss).

    "cosine": a warm-up, then half a cosine down to 0. "plateau": the same rate until the validation loss has not
    improved for train.plateau_patience epochs, then half of it, and so on.
    """
    steps = settings.epochs * steps_per_epoch
    if settings.schedule == "cosine":
        factor = functools.partial(warm_cosine, warmup=settings.warmup_fraction)
        return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda done: factor(done / steps)), lambda loss: None
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=settings.plateau_patience)
    return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0), plateau.step


def warm_cosine(progress, warmup):
    """Learning-rate factor: a linear rise over the warm-up share of all steps, then half a cosine down to 0.

    >>> [round(warm_cosine(p, 0.1), 2) for p in (0.0, 0.1, 0.55, 1.0)]
    [0.0, 1.0, 0.5, 0.0]
    """
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / max(1e-9, 1 - warmup)))


# --- cross-validation --------------------------------------------------------------------------------------


def cross_validate(packed, rows, config, folder, device=None):
    """Train one network per round, each tested once on a fold that chose nothing.

    Args: packed int16 [clips, samples], or images uint8 [clips, H, W]; rows of waveforms.csv; config; folder that the
        models go to.
    Returns (out-of-fold clip probabilities: a table clip_id, fold and a column per class;
        history: a list of records with their fold).
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    labels = targets.classes(rows, config.data.multilabel)
    plan = split.rounds(rows["fold"].dropna(), config.train.select, config.split.test_folds)
    tables, history = [], []
    with artifacts.progress(None, "train", len(plan) * config.train.epochs) as bar, cpu_threads(config.train.threads):
        for number, turn in enumerate(plan, 1):
            bar.set_description(f"fold {turn['test']} ({number}/{len(plan)})")
            model, records, table = train_round(packed, rows, labels, turn, config, device, bar.update)
            bar.update(number * config.train.epochs - bar.n)
            save(model, Path(folder) / f"fold{turn['test']}", labels, config, turn)
            history += [{"fold": turn["test"], **record} for record in records]
            tables.append(table)
    return pd.concat(tables, ignore_index=True), history


def train_round(packed, rows, labels, turn, config, device, tick=lambda: None):
    """Train on a round's training folds, choose on its validation fold, predict its test fold.

    Returns (model, history, table of out-of-fold probabilities).
    """
    seed = config.seed * 1000 + turn["test"]
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = models.build(config, len(labels)).to(device)
    training = fold_rows(rows, turn["train"], with_copies=config.train.augmented_copies)
    if config.train.inputs == "images":
        training = images.without_repeats(packed, training)
    shuffled = make_batches(packed, training, labels, config, device, generator)
    validation = None
    if turn["validation"] is not None:
        validation = make_batches(packed, fold_rows(rows, [turn["validation"]]), labels, config, device)
    model.fit_standardisation(make_batches(packed, training, labels, config, device))
    history = fit(model, shuffled, validation, config.train, generator, lambda record: tick())
    test = fold_rows(rows, [turn["test"]])
    probabilities = predict(model, make_batches(packed, test, labels, config, device), config.train.views)
    table = pd.DataFrame(probabilities, columns=labels)
    return model, history, pd.concat([test[["clip_id", "fold"]].reset_index(drop=True), table], axis=1)


def fold_rows(rows, folds, with_copies=False):
    """The training-side clips of some folds; augmented copies only where asked, and they follow their parent."""
    chosen = rows["split"].eq("train") & rows["fold"].isin(list(folds))
    return rows[chosen & (rows["parent_id"].eq("") | with_copies)]


def make_batches(packed, rows, labels, config, device, generator=None):
    """Batches of some rows of waveforms.csv; shuffled, or drawn evenly over the classes, if there is a generator."""
    wanted = torch.from_numpy(targets.matrix(rows["label"], labels))
    chances = losses.sampling_weights(wanted) if config.train.balance == "sampling" and generator else None
    return batches.Batches(packed, rows.index.to_numpy(), wanted, config.train.batch_size, device, generator, chances)


@contextlib.contextmanager
def cpu_threads(count):
    """Use so many CPU threads inside the block; 0 leaves torch's own choice."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def kept_epochs(history):
    """The record of each fold's kept epoch: the best on validation, or the last where nothing was chosen."""
    return history[history["kept"]].drop(columns="kept").reset_index(drop=True)


# --- weights -----------------------------------------------------------------------------------------------


def save(model, folder, labels, config, turn):
    """Write a classifier as weights (safetensors) and a card (JSON): labels, config, folds, the weights' SHA-256."""
    with artifacts.replacing(folder) as temporary:
        temporary.mkdir()
        weights = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
        save_file(weights, temporary / "weights.safetensors")
        card = {
            "labels": labels,
            "folds": {**turn, "train": list(turn["train"])},
            "parameters": models.count_parameters(model),
            "origin": getattr(model.network, "origin", "random"),  # of its weights before training
            "sha256": artifacts.file_digest(temporary / "weights.safetensors"),
            "config": config.model_dump(
                mode="json",
                include={
                    **dict.fromkeys(("preset", "seed", "audio", "clean", "features", "model", "train"), True),
                    "data": {"multilabel"},
                },
            ),
        }
        artifacts.write_json(temporary / "card.json", card)


def load(folder, config, device="cpu"):
    """A saved classifier, ready to predict: (model, card). Raises ValueError if the weights are not the card's."""
    card = artifacts.read_json(Path(folder) / "card.json")
    if artifacts.file_digest(Path(folder) / "weights.safetensors") != card["sha256"]:
        raise ValueError(f"{folder}: the weights are damaged (their SHA-256 is not the card's). Train again: FORCE=1.")
    model = models.build(config, len(card["labels"]), fresh=False)
    model.load_state_dict(load_file(Path(folder) / "weights.safetensors"))
    return model.to(device).eval(), card
