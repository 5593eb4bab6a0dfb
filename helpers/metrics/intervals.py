"""Intervals: how far a score, or the difference of two, may be off, also from few groups.

Recordings of one source are not independent, so a bootstrap draws whole groups (Efron & Tibshirani
1993, chapter 13). Percentiles of the draws are too narrow: with four groups they hold the truth 75
times in a hundred, with twenty 90 times. So the draws only give the variance, and Student's t takes
the place of the normal law, with as many degrees of freedom as groups of unequal size are worth
(Kish 1965). ``python -m benchmarks.coverage`` measures what holds.
"""

import numpy as np
import pandas as pd
from numpy import ndarray
from scipy.stats import t as student

from helpers.metrics import scoring

LEVEL = 0.95
FEW = 20  # groups: with less, whatever shows an interval says so
CONSTANT = 1e-9  # standard error below which nothing varies
NUMBERS = (
    "no one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen"
)


def bootstrap_weights(
    n_groups: int,
    n_samples: int,
    seed: int,
) -> ndarray:
    """How often each group is drawn: int [samples, groups], rows sum to n_groups."""
    shares = np.full(n_groups, 1 / n_groups)
    return np.random.default_rng(seed).multinomial(n_groups, shares, size=n_samples)


def bounds(
    value: ndarray,
    samples: ndarray,
    sizes: ndarray,
    most: int | None = None,
) -> tuple[ndarray, ndarray]:
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
    explained = value * (1 - value) / np.where(varies, error, 1) ** 2
    trials = np.where(varies, explained, np.maximum(groups, 1))
    if most is not None:
        trials = np.minimum(trials, most)
    low, high = scoring.wilson(value, trials, np.where(varies, reach, scoring.NORMAL))
    return np.maximum(low, 0) + 0.0, np.minimum(high, 1)  # + 0.0: no negative zero


def interval(samples: ndarray, sizes: ndarray) -> dict:
    """A score with its 95 % interval: {"value", "low", "high"}, fractions.

    Args: samples [1 + draws], the score itself first; sizes of the groups [groups].
    """
    return _rounded(samples[0], *bounds(samples[0], samples[1:], sizes))


def difference(samples: ndarray, sizes: ndarray) -> dict:
    """The difference of two scores of the same recordings, as `interval` has one, from -1 to 1.

    Args: samples [1 + draws], the difference itself first, then that of each draw, the same for
        both scores; sizes of the groups [groups].
    """
    return _rounded(samples[0], *change_bounds(samples[0], samples[1:], sizes))


def change_bounds(
    value: ndarray,
    samples: ndarray,
    sizes: ndarray,
) -> tuple[ndarray, ndarray]:
    """95 % interval of differences between -1 and 1: arrays (low, high). Args as of `bounds`."""
    error, reach, _ = _spread(samples, sizes)
    return np.clip(value - reach * error, -1, 1), np.clip(value + reach * error, -1, 1)


def few_sources(n_groups: int) -> str:
    """What to say beside an interval from few sources; from FEW on nothing.

    >>> few_sources(4)
    'Four sources only: the intervals allow for that, but hold only if other sources are like
    these.'
    """
    if n_groups >= FEW:
        return ""
    sources = "source" if n_groups == 1 else "sources"
    number = NUMBERS.split()[n_groups].capitalize()
    return (
        f"{number} {sources} only: the intervals allow for that, but hold only if other sources are"
        " like these."
    )


def _spread(samples, sizes):
    """Standard error, how many of them reach 95 %, groups that count: each like one sample."""
    samples = np.asarray(samples, dtype=float)
    sizes = np.asarray(sizes, dtype=float)
    columns = pd.DataFrame(samples.reshape(len(samples), -1))
    variance = columns.var(ddof=0).to_numpy().reshape(samples.shape[1:])
    groups = (sizes > 0).sum(axis=0)
    squares = (sizes**2).sum(axis=0)
    worth = sizes.sum(axis=0) ** 2 / np.maximum(squares, 1)
    reach = student.ppf((1 + LEVEL) / 2, np.maximum(worth - 1, 1))
    missed = worth / np.maximum(worth - 1, worth / 2)  # draws of n groups vary by (n - 1) / n
    error = np.sqrt(variance * np.where(groups > 1, missed, 1))
    return error, reach, groups


def _rounded(*numbers):
    value, low, high = (round(float(number), 5) + 0.0 for number in numbers)  # no negative zero
    return {"value": value, "low": low, "high": high}
