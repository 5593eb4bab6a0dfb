"""How often a 95 % interval holds the truth, by simulation, with few groups and with many.

``python -m benchmarks.coverage`` prints a table in some minutes; ``--rounds 200`` is quicker. In
each round some groups of unequal size are drawn from a world whose scores are known. A group is
harder or easier than others as a whole, and in each class anew, so recordings of one group are
alike. Two models answer the same recordings. What is measured is ``helpers.metrics.intervals`` as
the notebooks call it, and in brackets the percentiles of the same draws.
"""

import argparse
from dataclasses import dataclass

import numpy as np
import pandas as pd

from helpers.metrics import intervals, scoring

CLASSES = 5
EASE = np.array([0.6, 1.0, 1.4, 1.8, 2.4])  # log odds of a right answer, by class
GROUPS = (3, 4, 6, 10, 20, 50)
WORLD = 200_000  # groups whose mean is taken for the truth
DRAWS = 400  # of each bootstrap
SCORES = (
    *("accuracy", "macro F1", "recall, hardest class", "recall, easiest class"),
    *("paired, accuracy", "paired, macro F1"),
)


@dataclass(frozen=True)
class World:
    """Where groups come from: a speaker says every class, a source belongs to one."""

    name: str
    one_class: bool
    # standard deviation of the groups' log odds; 1 makes a correlation of 0.15 within groups
    spread: float


WORLDS = (
    World("speakers", False, 1.0),
    World("speakers, alike", False, 0.4),
    World("sources", True, 1.0),
)


def answers(
    world: World, rounds: int, groups: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Counts of recordings [rounds, groups, classes]: "true", and of two models "hits" and "said",
    1 and 2.
    """
    shape = (rounds, groups)
    sizes = np.maximum(2, rng.lognormal(np.log(20), 0.8, shape)).astype(int)
    own = np.broadcast_to(np.eye(CLASSES)[np.arange(groups) % CLASSES], (*shape, CLASSES))
    true = rng.multinomial(sizes, own if world.one_class else rng.dirichlet([2] * CLASSES, shape))
    ease = (
        EASE
        + rng.normal(0, world.spread, (*shape, 1))
        + rng.normal(0, world.spread / 2, true.shape)
    )
    harder = ease - 0.4 + rng.normal(0, world.spread / 2, (*shape, 1))
    first, second = (1 / (1 + np.exp(-odds)) for odds in (ease, harder))
    both = (
        np.minimum(first, second) + first * second
    ) / 2  # models tend to err on the same recordings
    cells = np.stack([both, first - both, second - both, 1 - first - second + both], axis=-1)
    drawn = rng.multinomial(true, np.clip(cells, 0, 1) / cells.sum(axis=-1, keepdims=True))
    counts = {"true": true}
    for number, other in ((1, 1), (2, 2)):
        hits = drawn[..., 0] + drawn[..., other]
        elsewhere = (1 - np.eye(CLASSES)) / (CLASSES - 1)
        counts[f"hits{number}"] = hits
        counts[f"said{number}"] = hits + rng.multinomial(true - hits, elsewhere).sum(axis=2)
    return counts


def scores(counts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is asked of counts that are summed over the groups [..., classes]: arrays [...] by
    name.
    """
    true = counts["true"]
    first, second = (scoring.scores(counts[f"hits{n}"], true, counts[f"said{n}"]) for n in (1, 2))
    with np.errstate(invalid="ignore"):
        recall = counts["hits1"] / true
    values = [first["accuracy"], first["macro_f1"], recall[..., 0], recall[..., -1]]
    values += [first[name] - second[name] for name in ("accuracy", "macro_f1")]
    return dict(zip(SCORES, values, strict=True))


def coverage(world: World, groups: int, rounds: int, seed: int = 0) -> pd.DataFrame:
    """Share of the rounds whose interval holds the truth, by percentiles and as it is used, for
    each score.
    """
    rng = np.random.default_rng(seed)
    truth = scores(
        {name: part.sum(axis=(0, 1)) for name, part in answers(world, 1, WORLD, rng).items()}
    )
    counts = answers(world, rounds, groups, rng)
    weights = np.vstack([np.ones(groups, int), intervals.bootstrap_weights(groups, DRAWS, seed)])
    drawn = scores({name: np.einsum("sg,rgc->src", weights, part) for name, part in counts.items()})
    sizes = counts["true"].sum(axis=2).T
    by_class = {SCORES[2]: counts["true"][..., 0].T, SCORES[3]: counts["true"][..., -1].T}
    rows = []
    for name, samples in drawn.items():
        used = held(name, samples, by_class.get(name, sizes), truth[name])
        low, high = np.nanquantile(samples[1:], [0.025, 0.975], axis=0)
        percentile = (low <= truth[name]) & (truth[name] <= high)
        asked = np.isfinite(samples[0])  # a round without the class says nothing of it
        row = {"world": world.name, "groups": groups, "score": name}
        rows.append({**row, "percentile": percentile[asked].mean(), "used": used[asked].mean()})
    return pd.DataFrame(rows)


def held(name: str, samples: np.ndarray, sizes: np.ndarray, truth: float) -> np.ndarray:
    """In which rounds the interval holds the truth: bool [rounds]. Args: samples [1 + draws,
    rounds]; sizes [groups, rounds].
    """
    ends = intervals.change_bounds if name.startswith("paired") else intervals.bounds
    low, high = ends(samples[0], samples[1:], sizes)
    return (low <= truth) & (truth <= high)


def main(arguments=None):
    """Print the table, in Markdown."""
    about = "How often a 95 % interval holds the truth."
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=about)
    parser.add_argument(
        "--rounds", type=int, default=1000, help="data sets per row (default: 1000)"
    )
    options = parser.parse_args(arguments)
    print("| world | groups |", " | ".join(SCORES), "|")
    print("|---|---|" + "---|" * len(SCORES))
    for world in WORLDS:
        for groups in GROUPS[3:] if world.one_class else GROUPS:
            table = coverage(world, groups, options.rounds)
            cells = [f"{row.used:.1%} ({row.percentile:.0%})" for row in table.itertuples()]
            print(f"| {world.name} | {groups} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
