"""A step, an epoch, fit; cross-validation; weights in and out.

What is trained is what is deployed: every step starts from waveforms and runs the same LogMel as prediction does.
"""

import contextlib
import math
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from helpers import artifacts, augment, batches, models, split


def step(model, waveforms, labels, optimiser, settings, generator):
    """One training step on a batch; returns its loss.

    Args: model AudioClassifier; waveforms [B, N]; labels int [B]; settings the config's Train section;
        generator of every random draw.
    """
    targets = augment.smooth(labels, model.n_classes, settings.label_smoothing)
    waveforms = augment.perturb(waveforms, settings.shift, settings.speed, settings.gain_db, generator)
    waveforms, targets = augment.mixup(
        waveforms, targets, *augment.draw_mixup(len(labels), settings.mixup_alpha, generator)
    )
    x = augment.mask_spectrogram(model.features(waveforms), settings.masks, settings.mask_fraction, generator)
    loss = F.cross_entropy(model.network(x), targets)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
    optimiser.step()
    return loss.item()


def epoch(model, data, optimiser, schedule, settings, generator):
    """One pass over the training batches; returns the mean loss (on mixed, smoothed labels). Raises on NaN."""
    model.train()
    losses = []
    for waveforms, labels in data:
        losses.append(step(model, waveforms, labels, optimiser, settings, generator))
        schedule.step()
    require_finite(losses, "training")
    return float(np.mean(losses))


def require_finite(losses, which):
    """Raise FloatingPointError, saying what to do, if a loss is NaN or infinite."""
    if not np.isfinite(losses).all():
        raise FloatingPointError(f"The {which} loss is not finite. Lower train.learning_rate or train.clip_norm.")


def evaluate(model, data):
    """Plain cross-entropy and accuracy per clip: never mixed, never smoothed. Returns (loss, accuracy)."""
    probabilities, labels = predict(model, data), data.labels.numpy()
    likelihood = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(likelihood, 1e-7, 1)).mean()), float((probabilities.argmax(1) == labels).mean())


@torch.no_grad()
def predict(model, data, views=1):
    """Class probabilities [clips, C] of a model over unshuffled batches, the mean over circularly shifted views."""
    model.eval()
    rows = []
    for waveforms, _ in data:
        shifts = [round(view * waveforms.shape[1] / views) for view in range(views)]
        rows.append(sum(model(waveforms.roll(shift, dims=1)).softmax(1) for shift in shifts) / views)
    return torch.cat(rows).cpu().numpy()


def fit(model, training, validation, settings, generator, on_epoch=None):
    """Train with warm-up and a cosine schedule; keep the best epoch on validation, or the last one.

    Args: model AudioClassifier; training WaveformBatches, shuffled; validation WaveformBatches or None, which means
        that nothing is chosen and the last epoch is kept; settings the config's Train section; generator; on_epoch
        called with each epoch's record. Returns the history, a list of dicts. The model ends with the kept weights.
    """
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    steps = settings.epochs * len(training)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda done: warm_cosine(done / steps, settings.warmup_fraction)
    )
    history, best, best_weights = [], math.inf, None
    for number in range(1, settings.epochs + 1):
        started = time.perf_counter()
        record = {"epoch": number, "learning_rate": schedule.get_last_lr()[0]}
        record["train_loss"] = epoch(model, training, optimiser, schedule, settings, generator)
        if validation is not None:
            record["validation_loss"], record["validation_accuracy"] = evaluate(model, validation)
            require_finite([record["validation_loss"]], "validation")
            if record["validation_loss"] < best:
                best, best_epoch = record["validation_loss"], number
                best_weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        history.append({**record, "seconds": round(time.perf_counter() - started, 3)})
        if on_epoch:
            on_epoch(history[-1])
        if validation is not None and number - best_epoch >= settings.patience:
            break
    if best_weights:
        model.load_state_dict(best_weights)
    return history


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

    Args: packed int16 [clips, samples]; rows of waveforms.csv; config; folder that the models go to.
    Returns (out-of-fold clip probabilities: a table clip_id, fold and a column per class;
        history: a list of records with their fold).
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    labels = sorted(rows.loc[rows["split"].eq("train"), "label"].unique())
    plan = split.rounds(rows["fold"].dropna(), config.train.select)
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
    """Batches of some rows of waveforms.csv; shuffled if there is a generator."""
    targets = rows["label"].map({label: number for number, label in enumerate(labels)})
    targets = targets.fillna(0).astype(np.int64).to_numpy()  # test clips have no label; theirs is never looked at
    return batches.WaveformBatches(packed, rows.index.to_numpy(), targets, config.train.batch_size, device, generator)


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
    if "validation_loss" in history:
        return history.loc[history.groupby("fold")["validation_loss"].idxmin()].reset_index(drop=True)
    return history.groupby("fold").tail(1).reset_index(drop=True)


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
            "sha256": artifacts.file_digest(temporary / "weights.safetensors"),
            "config": config.model_dump(
                mode="json", include={"preset", "seed", "audio", "clean", "features", "model", "train"}
            ),
        }
        artifacts.write_json(temporary / "card.json", card)


def load(folder, config, device="cpu"):
    """A saved classifier, ready to predict: (model, card). Raises ValueError if the weights are not the card's."""
    card = artifacts.read_json(Path(folder) / "card.json")
    if artifacts.file_digest(Path(folder) / "weights.safetensors") != card["sha256"]:
        raise ValueError(f"{folder}: the weights are damaged (their SHA-256 is not the card's). Train again: FORCE=1.")
    model = models.build(config, len(card["labels"]))
    model.load_state_dict(load_file(Path(folder) / "weights.safetensors"))
    return model.to(device).eval(), card
