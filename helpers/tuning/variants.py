"""Variants of a config: one setting changed, or several; which of them a search tries next.

Optuna proposes them where it is installed (T. Akiba et al. 2019, arXiv:1907.10902); without it they
come in a random order, the same each time.
"""

import itertools

import numpy as np
import pandas as pd

from helpers.audio import features
from helpers.base.settings import Config

# What is tried beside the preset's own value: so many times as much, or these values.
TIMES = {
    "audio.sample_rate": (0.5, 2),
    "audio.clip_seconds": (0.5, 2),
    "features.n_mels": (0.5, 2),
    "train.learning_rate": (0.5, 2),
}
VALUES = {
    "model.name": ("cnn", "resnet"),
    "train.mix": ("none", "mixup", "between_class"),
    "train.speed": (0.0, 0.2),
    "train.masks": (0, 2),
}
FILLED = 1.5  # clips last at most this times what nine of ten recordings do


def value_of(config: Config, setting: str):
    """The value of a setting such as "train.mix"."""
    section, key = setting.split(".")
    return getattr(getattr(config, section), key)


def vary(config: Config, setting: str, value) -> Config:
    """The config with one setting changed: a network with its own width; at another rate the
    windows of spectrograms last as long as before.

    Raises ValueError where others forbid it.

    >>> vary(Config(), "audio.sample_rate", 8000).features.hop_length
    160
    """
    if setting == "model.name":
        return config.with_network(value)
    if setting != "audio.sample_rate":
        return config.but(setting, value)
    times = value / config.audio.sample_rate
    scaled = {"n_fft": round(times * config.features.n_fft)}
    scaled["more_n_fft"] = tuple(round(times * size) for size in config.features.more_n_fft)
    scaled["hop_length"] = max(1, round(times * config.features.hop_length))
    audio = {**dict(config.audio), "sample_rate": value}
    heard = {**dict(config.features), **scaled}
    return Config.model_validate({**dict(config), "audio": audio, "features": heard})


def changed(config: Config, settings: dict) -> Config:
    """The config with some settings changed, as `vary` does."""
    for setting, value in settings.items():
        config = vary(config, setting, value)
    return config


def allows(config: Config, settings: dict) -> bool:
    """Whether settings go together and mean anything, and each mel band catches a frequency."""
    if idle(config) & set(settings):
        return False
    try:
        features.front_end(changed(config, settings))
    except ValueError:
        return False
    return True


def idle(config: Config) -> set[str]:
    """The settings that change nothing where the config's others are as they are."""
    found = set()
    if config.model.name != "resnet":
        found |= {"model.coordinate", "model.pooling"}
    if config.train.crop < 1:  # a part begins anywhere already
        found.add("train.shift")
    return found


def space(config: Config, recordings: pd.DataFrame) -> dict[str, list]:
    """The settings that are tried, and the values of each, in their order.

    No rate above that of most recordings, no clips far longer than they are; where the rows of a
    submission or the times of labels decide, clips stay as long as they are.
    Args: config; recordings with sample_rate and duration_seconds.
    """
    most = {
        "audio.sample_rate": recordings["sample_rate"].median(),
        "audio.clip_seconds": FILLED * recordings["duration_seconds"].quantile(0.9),
    }
    fixed = {"model.name"} if config.model.weights else set()
    if config.audio.test_windows or config.data.start_column:
        fixed.add("audio.clip_seconds")
    tried = {}
    for setting in (*TIMES, *VALUES):
        own = value_of(config, setting)
        scaled = [type(own)(float(f"{own * by:.6g}")) for by in TIMES.get(setting, ())]
        others = [value for value in scaled if value <= most.get(setting, np.inf)]
        others += VALUES.get(setting, ())
        values = {value for value in others if allows(config, {setting: value})}
        tried[setting] = sorted({own, *values})
    return {name: tried[name] for name in tried if len(tried[name]) > 1 and name not in fixed}


def propose(trials: list[dict], tried: dict[str, list], config: Config) -> dict | None:
    """The settings of the next trial: first the config's own, none twice, None when all are done.

    They follow from the trials before and the seed alone, so a search that was stopped goes on as
    if it had not been.
    Args: trials with their settings and score; tried of `space`; config.
    """
    past = [settings_of(trial, tried) for trial in trials]
    own = {setting: value_of(config, setting) for setting in tried}
    wanted = _by_optuna(trials, tried, config.seed) if trials else [own]
    for settings in itertools.chain(wanted, _in_random_order(tried, config.seed)):
        if settings not in past and allows(config, settings):
            return settings
    return None


def settings_of(trial: dict, tried: dict) -> dict:
    """The settings of a trial without its score."""
    return {setting: trial[setting] for setting in tried}


def _in_random_order(tried, seed):
    combinations = list(itertools.product(*tried.values()))
    for number in np.random.default_rng(seed).permutation(len(combinations)):
        yield dict(zip(tried, combinations[number], strict=True))


def optuna():
    """The library, silent; None where it is not installed."""
    try:
        import optuna as library
    except ImportError:
        return None
    library.logging.set_verbosity(library.logging.WARNING)
    return library


def _by_optuna(trials, tried, seed):
    """What Optuna's sampler proposes, a list of one; an empty one where it is not installed."""
    if not (library := optuna()):
        return []
    sampler = library.samplers.TPESampler(seed=1000 * seed + len(trials))
    study, kinds = _study(library, trials, tried, sampler)
    return [study.ask(kinds).params]


def _study(library, trials, tried, sampler=None):
    """A study of Optuna that knows the trials, and the kinds of the settings."""
    study = library.create_study(direction="maximize", sampler=sampler)
    category = library.distributions.CategoricalDistribution
    kinds = {setting: category(values) for setting, values in tried.items()}
    for trial in trials:
        params = {setting: trial[setting] for setting in tried}
        known = library.trial.create_trial(params=params, distributions=kinds, value=trial["score"])
        study.add_trial(known)
    return study, kinds


def importance(trials: list[dict], tried: dict[str, list], seed: int) -> dict[str, float]:
    """How much of the spread of the scores each setting explains, the most first.

    By Optuna's fANOVA (F. Hutter et al. 2014); without Optuna the share of their variance that lies
    between the means of a setting's values.
    """
    scores = pd.Series([trial["score"] for trial in trials])
    if scores.nunique() < 2:
        return dict.fromkeys(tried, 0.0)
    if library := optuna():
        study, _ = _study(library, trials, tried)
        judge = library.importance.FanovaImportanceEvaluator(seed=seed)
        shares = library.importance.get_param_importances(study, evaluator=judge)
    else:
        table = pd.DataFrame(trials)
        means = {name: table.groupby(name)["score"].transform("mean") for name in tried}
        shares = {name: column.var() / scores.var() for name, column in means.items()}
    most_first = sorted(tried, key=lambda name: -shares[name])
    return {name: round(float(shares[name]), 3) for name in most_first}
