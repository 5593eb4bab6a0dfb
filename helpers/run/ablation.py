"""The ablation: what each ingredient of the recipe is worth, paired and with an interval.

``python -m helpers ablation --run esc10`` (or ``make ablation``) measures it on a run that has
finished 04_features. Each ingredient is changed alone against the run's own recipe. No test fold
takes part: in each round the networks learn from all folds but two and are scored on one of those,
the validation fold (K. Piczak's protocol for ESC,
https://github.com/karolpiczak/paper-2015-esc-convnet), so that a recipe may be chosen by these
numbers.
"""

import hashlib
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.audio import windowing
from helpers.base import artifacts, code
from helpers.base.recipe import WIDTHS
from helpers.metrics import decisions, evaluate
from helpers.run import ledger
from helpers.splits import partition
from helpers.training import train

FILE = "ablation.csv"
# What is tried: an ingredient, its setting, the value that is "off", the value tried where the run
# has it off.
INGREDIENTS = (
    ("residual network", "model.name", "cnn", "resnet"),
    ("frequency coordinate", "model.coordinate", False, True),
    ("mean and maximum over time", "model.pooling", "mean", "mean_max"),
    ("dropout", "model.dropout", 0.0, 0.2),
    ("looped short clips", "audio.short_clips", "pad", "loop"),
    ("half clips", "train.crop", 1.0, 0.5),
    ("shift around the circle", "train.shift", 0.0, 1.0),
    ("random speed", "train.speed", 0.0, 0.2),
    ("random gain", "train.gain_db", 0.0, 6.0),
    ("polarity", "train.polarity", False, True),
    ("coloured noise", "train.noise_db", None, 20.0),
    ("filter augmentation", "train.filter_db", 0.0, 3.5),
    ("masks (SpecAugment)", "train.masks", 0, 2),
    ("mixing", "train.mix", "none", "mixup"),
    ("between-class mixing", "train.mix", "mixup", "between_class"),
    ("label smoothing", "train.label_smoothing", 0.0, 0.05),
    ("average of weights (EMA)", "train.ema", 0.0, 0.99),
    ("weight decay", "train.weight_decay", 0.0, 0.05),
    ("test-time views", "train.views", 1, 8),
    ("two seeds", "train.seeds", 1, 2),
)


def trials(config, only=()):
    """What is tried: a list of (ingredient, setting, value). What the run has is taken out, what it
    lacks is added.

    Args: config; only names of settings, such as "train.mix"; none: all that the config allows.
    """
    found = []
    for name, setting, off, on in INGREDIENTS:
        current = value_of(config, setting)
        wanted = off if current != off else on
        known = {(key, value) for _, key, value in found}
        if (
            (only and setting not in only)
            or (setting, wanted) in known
            or not allows(config, setting, wanted)
        ):
            continue
        found.append((name, setting, wanted))
    return found


def value_of(config, setting):
    section, key = setting.split(".")
    return getattr(getattr(config, section), key)


def vary(config, setting, value):
    """The config with one setting changed. Raises ValueError where others forbid it."""
    tree = config.model_dump()
    section, key = setting.split(".")
    tree[section][key] = value
    if setting == "model.name":  # each with its own width
        tree["model"]["channels"] = WIDTHS[value]
    return type(config).model_validate(tree)


def allows(config, setting, value):
    """Whether the config's other settings allow a change, and it means anything for its network."""
    if setting in ("model.coordinate", "model.pooling") and config.model.name != "resnet":
        return False
    if (
        setting == "train.shift" and config.train.crop < 1
    ):  # the part that is heard begins anywhere already
        return False
    try:
        vary(config, setting, value)
    except ValueError:
        return False
    return True


def plan(rows):
    """The rounds: each fold once the one that is scored, the fold before it left alone.

    Returns a list of rounds as of split.rounds, whose `test` is the validation fold.
    """
    return [
        {"test": turn["validation"], "validation": None, "train": turn["train"]}
        for turn in partition.rounds(rows["fold"].dropna(), "validation")
    ]


def measure(folder, config, seeds=1, only=()):
    """Train the run's recipe and each changed one; yield the table of all changes measured so far,
    after each.

    Args: folder of the run; config; seeds per trial; only see `trials`. What was trained before
    with the same settings is taken from the run's ablation/, so a measurement that was stopped goes
    on.
    """
    rows, packed = (
        artifacts.read_table(folder / "waveforms.csv"),
        np.load(folder / "waveforms.npy", mmap_mode="r"),
    )
    tried = trials(config, only)
    reference, _ = predictions(folder, packed, rows, config, seeds)
    found = []
    for name, setting, value in tried:
        toggled, seconds = predictions(folder, packed, rows, vary(config, setting, value), seeds)
        change = evaluate.paired_change(reference, toggled, config)
        on = any(
            (name, setting, value) == (word, key, off) for word, key, off, _ in INGREDIENTS
        )  # and is taken out
        words = {
            "step": name,
            "setting": in_words(value_of(config, setting)),
            "tried": in_words(value),
        }
        low, high = change["change_low"], change["change_high"]
        says = "no difference" if low <= 0 <= high else ledger.verdict(on, low, high)
        metric = evaluate.HEADLINE[config.data.multilabel][0]
        found.append({**words, "metric": metric, **change, "verdict": says, "seconds": seconds})
        yield pd.DataFrame(found).assign(recipe=key_of(config, rows))


def read(folder, config, rows):
    """A run's ablation, or None: where there is none, or the recipe or the clips have changed since
    it was measured.
    """
    path = folder / FILE
    table = artifacts.read_table(path) if path.is_file() else None
    return table if table is not None and table["recipe"].eq(key_of(config, rows)).all() else None


def in_words(value):
    """A setting for reading.

    >>> in_words(True), in_words(None), in_words(0.05), in_words("cnn")
    ('on', 'off', '0.05', 'cnn')
    """
    if value is None or isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def predictions(folder, packed, rows, config, seeds):
    """Predictions per recording of the validation folds, a table for each seed, and the seconds it
    took.

    They are kept below the run's ablation/, so that nothing is trained twice.
    """
    found, seconds = [], 0.0
    for seed in range(config.seed, config.seed + seeds):
        varied = config.model_copy(update={"seed": seed})
        place = folder / "ablation" / key_of(varied, rows)
        if not (place / "seconds.json").is_file():  # which is written last
            started = time.perf_counter()
            _train(place, packed, rows, varied)
            artifacts.write_json(place / "seconds.json", round(time.perf_counter() - started, 1))
        seconds += artifacts.read_json(place / "seconds.json")
        clips = rows[rows["split"].eq("train") & rows["parent_id"].eq("")]
        table = artifacts.read_table(place / "out_of_fold.csv")
        found.append(
            decisions.per_recording(table, clips, config.data.multilabel, config.model.aggregate)
        )
    return found, seconds


def key_of(config, rows):
    """A name for what is trained: equal names mean equal networks."""
    wanted = config.model_dump(
        mode="json", include={"audio", "clean", "features", "model", "train", "seed"}
    )
    clips = rows[["clip_id", "label", "fold"]].to_csv(index=False)
    known = json.dumps(wanted, sort_keys=True) + clips + code.module_digest("fit")
    return hashlib.sha256(known.encode()).hexdigest()[:16]


def _train(place, packed, rows, config):
    with tempfile.TemporaryDirectory() as scratch:
        clips = filled(packed, rows, config.audio, Path(scratch) / "waveforms.npy")
        table, _ = train.cross_validate(
            clips, rows, config, scratch, checkpoint_folder=place, plan=plan(rows)
        )
    artifacts.write_table(place / "out_of_fold.csv", table)
    for path in place.glob("*.safetensors"):
        path.unlink()


def filled(packed, rows, settings, path):
    """The packed clips, short ones filled as `settings.short_clips` says, whatever they were filled
    with before.

    Args: packed int16 [clips, samples]; rows of waveforms.csv; settings the config's Audio section;
        path of the array to write. Returns the array.
    """
    size = packed.shape[1]
    made = np.lib.format.open_memmap(path, mode="w+", dtype=np.int16, shape=packed.shape)
    for index, seconds in enumerate(rows["valid_seconds"]):
        length = min(size, max(1, round(seconds * settings.sample_rate)))
        made[index] = windowing.fill(packed[index][:length], size, settings.short_clips)
    return made
