"""Settings changed one by one: which changes there are, and what each is worth, in words."""

import pandas as pd

from helpers.base.settings import Config
from helpers.metrics import evaluate
from helpers.tuning import variants

# What is tried: a name, its setting, the value that is "off", the value tried where it is off.
STEPS = (
    ("high-pass", "clean.high_pass_hz", None, 50.0),
    ("high-pass", "clean.high_pass_hz", None, 100.0),
    ("trim", "clean.trim_db", None, 50.0),
    ("denoise", "clean.denoise", False, True),
    ("normalise", "clean.normalise", False, True),
)
PSEUDO = "train.pseudo_labels"
INGREDIENTS = (
    ("residual network", "model.name", "cnn", "resnet"),
    ("frequency coordinate", "model.coordinate", False, True),
    ("mean and maximum over time", "model.pooling", "mean", "mean_max"),
    ("attention over time", "model.pooling", "mean_max", "attention"),
    ("energy normalised (PCEN)", "features.kind", "log_mel", "pcen"),
    ("a second spectrogram", "features.more_n_fft", (), (4096,)),
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
    ("pseudo-labels", PSEUDO, None, 0.9),
)
# Of what is off, and of what is on and was taken out, by `evaluate.direction`.
VERDICTS = {
    False: {
        1: "turn on: it helps",
        0: "no difference: leave it off",
        -1: "leave off: it costs",
    },
    True: {
        1: "drop: it costs",
        0: "no difference: turn it off",
        -1: "keep: it helps",
    },
}
UNITS = {"clean.high_pass_hz": " Hz", "clean.trim_db": " dB"}


# --- what is tried


def trials(config: Config, steps: tuple, only: tuple[str, ...] = ()) -> list[tuple]:
    """What is tried: a list of (name, setting, value, whether it is on and taken out).

    What the run has is taken out, what it lacks is added; what other settings forbid is left out:
    labels that hold from a second on allow no trimming.

    Args: config; steps STEPS or INGREDIENTS; only names of settings, such as "train.mix"; none:
        all.
    """
    tried = {}
    for name, setting, off, on in steps:
        takes_out = variants.value_of(config, setting) != off
        value = off if takes_out else on
        wanted = not only or setting in only
        if wanted and (setting, value) not in tried and variants.allows(config, {setting: value}):
            tried[setting, value] = (name, setting, value, takes_out)
    return list(tried.values())


# --- in words


def in_words(setting: str, value) -> str:
    """A setting for reading.

    >>> in_words("clean.trim_db", 50.0), in_words("train.mix", "none"), in_words("train.ema", 0.99)
    ('50 dB', 'none', '0.99')
    >>> in_words("clean.denoise", True), in_words("clean.high_pass_hz", None)
    ('on', 'off')
    """
    if value is None or isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return value if isinstance(value, str) else f"{value:g}{UNITS.get(setting, '')}"


def verdict(on: bool, low: float, high: float) -> str:
    """What the interval of a change says of a step: it stays, or comes, on only if it helps.

    Args: on whether the run has the step on, so that it was taken out; low, high of the change. An
        interval that holds 0 is no difference.

    >>> verdict(True, -0.05, -0.01), verdict(False, -0.01, 0.02)
    ('keep: it helps', 'no difference: leave it off')
    """
    return VERDICTS[on][evaluate.direction(low, high)]


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """A measured table for reading: scores in percent, changes in points with their interval."""
    changes = table[["change", "change_low", "change_high"]].to_numpy()
    metric = evaluate.in_words(table["metric"].iloc[0])
    return pd.DataFrame(
        {
            "step": table["step"],
            "setting": table["setting"],
            metric: table["reference"].map(lambda score: f"{100 * score:.1f} %"),
            "tried": table["tried"],
            "change in points": [evaluate.points(*change) for change in changes],
            "between seeds": table["seeds_sd"].map(lambda spread: f"±{100 * spread:.1f}"),
            "verdict": table["verdict"],
        }
    )


def row(trial, config, reference, toggled, seconds):
    """A measured trial. Args: reference, toggled tables of predictions, one per seed."""
    name, setting, value, on = trial
    change = evaluate.paired_change(reference, toggled, config)
    return {
        "step": name,
        "setting": in_words(setting, variants.value_of(config, setting)),
        "tried": in_words(setting, value),
        "metric": evaluate.HEADLINE[config.data.multilabel][0],
        **change,
        "verdict": verdict(on, change["change_low"], change["change_high"]),
        "seconds": seconds,
    }
