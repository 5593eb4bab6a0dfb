"""Intervals: how far a score, or the difference of two, may be off, also where there are few
groups.

Recordings of one source are not independent, so a bootstrap draws whole groups (Efron & Tibshirani
1993, chapter 13). Percentiles of the draws are too narrow: with four groups they hold the truth 75
times in a hundred, with twenty 90 times. So the draws only give the variance, and Student's t takes
the place of the normal law, with as many degrees of freedom as groups of unequal size are worth
(Kish 1965). ``python -m benchmarks.coverage`` measures what holds.
"""

import numpy as np
import pandas as pd
from scipy.stats import t as student

from helpers.metrics import scoring

LEVEL = 0.95
FEW = 20  # groups: with less, whatever shows an interval says so
CONSTANT = 1e-9  # standard error below which nothing varies
NUMBERS = (
    *(
        "no",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    ),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)


def bootstrap_weights(n_groups: int, n_samples: int, seed: int) -> np.ndarray:
    """How often each group is drawn in each bootstrap sample: [samples, groups], rows sum to
    n_groups.
    """
    shares = np.full(n_groups, 1 / n_groups)
    return np.random.default_rng(seed).multinomial(n_groups, shares, size=n_samples)


def bounds(value, samples, sizes, most=None) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of scores between 0 and 1: arrays (low, high), of the shape of value.

    Wilson's interval with as many trials as explain the bootstrap's variance (Dean & Pagano 2015,
    J. Surv. Stat. Methodol. 3:484), so it stays between 0 and 1. A bootstrap cannot imagine a
    mistake that it has not seen: where nothing varies, each group counts as one trial, lest a class
    without a mistake get the interval 100-100 %.

    Args: value [...]; samples of the bootstrap [samples, ...], NaN where one says nothing; sizes of
        the groups, in recordings that count for the value [groups] or [groups, ...]; most trials
        that it may count for, or None.
    """
    value = np.clip(np.asarray(value, dtype=float), 0, 1)
    error, reach, groups = _spread(samples, sizes)
    varies = (error > CONSTANT) & (value > 0) & (value < 1)
    trials = value * (1 - value) / np.where(varies, error, 1) ** 2
    trials = np.where(varies, trials, np.maximum(groups, 1))
    trials = trials if most is None else np.minimum(trials, most)
    low, high = scoring.wilson(value, trials, np.where(varies, reach, scoring.NORMAL))
    return np.maximum(low, 0) + 0.0, np.minimum(high, 1)  # + 0.0: no negative zero


def interval(value, samples, sizes) -> dict:
    """A score with its 95 % interval: {"value", "low", "high"}, fractions. Args as of `bounds`."""
    low, high = bounds(value, samples, sizes)
    return {name: _rounded(part) for name, part in (("value", value), ("low", low), ("high", high))}


def difference(samples, sizes) -> dict:
    """The difference of two scores of the same recordings: {"value", "low", "high"}, from -1 to 1.

    Args: samples [1 + draws], the difference itself first, then that of each draw, the same for
        both scores; sizes of the groups [groups].
    """
    low, high = change_bounds(samples[0], samples[1:], sizes)
    return {
        name: _rounded(part) for name, part in (("value", samples[0]), ("low", low), ("high", high))
    }


def change_bounds(value, samples, sizes) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of differences between -1 and 1: arrays (low, high). Args as of `bounds`."""
    error, reach, _ = _spread(samples, sizes)
    low, high = np.clip([value - reach * error, value + reach * error], -1, 1)
    return low, high


def few_sources(n_groups: int) -> str:
    """What to say beside an interval from few sources; from FEW on nothing.

    >>> few_sources(4)
    'Four sources only: the intervals allow for that, but hold only if other sources are like
    these.'
    """
    if n_groups >= FEW:
        return ""
    sources = f"{NUMBERS[n_groups].capitalize()} source{'' if n_groups == 1 else 's'} only"
    return (
        f"{sources}: the intervals allow for that, but hold only if other sources are like these."
    )


def _spread(samples, sizes):
    """(standard error, how many of them reach 95 %, groups that count), each of the shape of a
    sample.
    """
    samples, sizes = np.asarray(samples, dtype=float), np.asarray(sizes, dtype=float)
    shape = samples.shape[1:]
    variance = pd.DataFrame(samples.reshape(len(samples), -1)).var(ddof=0).to_numpy().reshape(shape)
    groups = (sizes > 0).sum(axis=0)
    worth = sizes.sum(axis=0) ** 2 / np.maximum((sizes**2).sum(axis=0), 1)
    reach = student.ppf((1 + LEVEL) / 2, np.maximum(worth - 1, 1))
    missed = worth / np.maximum(
        worth - 1, worth / 2
    )  # draws of n groups vary by (n - 1) / n too little
    return np.sqrt(variance * np.where(groups > 1, missed, 1)), reach, groups


def _rounded(number):
    return round(float(number), 5) + 0.0  # + 0.0: no negative zero
