"""Would more recordings help? The score against the number of recordings that are learned from.

A part of each round's training side is learned from, whole groups of each class; what the round
tests stays as it is. The parts are halves of halves, each held by the next larger one, and drawn
several times. What the last doubling brought is paired, recording by recording. Where there is a
listener, a model on its embeddings has a curve beside the other.
"""

import functools
import math
import tempfile
from collections.abc import Callable

import numpy as np
import pandas as pd

from helpers.base import recipe, targets, work
from helpers.base.settings import Config
from helpers.compare import classic
from helpers.metrics import decisions, evaluate, intervals
from helpers.rounds import train
from helpers.splits import partition

QUICK = "dnn"  # the model on the feature table
FEWEST = 2  # recordings of a class, on average, in the smallest part
DRAWS = 3


def of_run(table: pd.DataFrame, packed: np.ndarray, rows: pd.DataFrame, config: Config) -> dict:
    """The curves that compare.learning_curve asks for: of the quick model or of the network, and
    with a listener of the first model that reads it.

    Args: table the feature table, with the embeddings; packed int16 [clips, samples]; rows of
        waveforms.csv; config.
    Returns metric, and curves: what `measure` does and its model, a list. {} where none is asked
        for.
    """
    asked = config.compare.learning_curve
    if asked == "none":
        return {}
    if asked == "network":
        fit = functools.partial(_of_network, packed, config)
        curve = measure(rows, config, fit, config.train.select)
        curves = [{"model": config.model.name, **curve}]
    else:
        curves = [_of_model(QUICK, table, config)]
    heard = [name for name in config.compare.models if recipe.reads(name) in recipe.HEARD]
    curves += [_of_model(name, table, config) for name in heard[:1]]
    return {"metric": evaluate.headline(config)[0], "curves": curves}


def _of_model(name, table, config):
    """The curve of a model on a table of columns."""
    fit = functools.partial(of_table, name, config)
    return {"model": name, **measure(table, config, fit)}


def of_table(name: str, config: Config, table: pd.DataFrame, turn: dict) -> pd.DataFrame:
    """Out-of-fold probabilities of a round by any model on a table of columns, such as "dnn"."""
    return classic.cross_validate(name, table, config, plan=[turn])[0]


def _of_network(packed, config, rows, turn):
    with tempfile.TemporaryDirectory() as scratch:
        return train.cross_validate(packed, rows, config, scratch, plan=[turn])[0]


def measure(rows: pd.DataFrame, config: Config, fit: Callable, select: str = "last") -> dict:
    """The score by the number of recordings.

    Args: rows with parent_id, recording_id, label, group, fold; fit makes of rows and a round of
        `partition.rounds` the clip probabilities of its test fold, and learns from no row without a
        fold; select as of `partition.rounds`.
    Returns sizes, a list of recordings (to learn from, the mean over rounds and draws), value, low,
        high, the largest last; where there are two or more also gain, what the last doubling
        brought: value, low, high.
    """
    plan = partition.rounds(rows["fold"].dropna(), select, config.split.test_folds)
    shares = parts(rows, plan, config.data.multilabel)
    fits = [(share, draw) for share in shares for draw in range(DRAWS if share < 1 else 1)]
    samples = {share: [] for share in shares}
    learned = {share: [] for share in shares}
    for share, draw in work.progress(fits, "learning curve", len(fits)):
        answers = []
        for turn in plan:
            rng = np.random.default_rng([config.seed, draw, turn["test"]])
            part = thinned(rows, turn, share, rng, config.data.multilabel)
            learned[share].append(_learned(part, turn))
            answers.append(fit(part, turn))
        predictions = decisions.of_recordings(pd.concat(answers, ignore_index=True), rows, config)
        samples[share].append(_samples(predictions, config))
    sizes = evaluate.group_sizes(predictions)
    drawn = {share: _over_draws(np.stack(each), config.seed) for share, each in samples.items()}
    points = []
    for share in shares:
        score = intervals.interval(drawn[share], sizes)
        points.append({"recordings": round(float(np.mean(learned[share])), 1), **score})
    curve = {"sizes": points}
    if len(shares) > 1:
        curve["gain"] = intervals.difference(drawn[1.0] - drawn[0.5], sizes)
    return curve


def parts(rows: pd.DataFrame, plan: list[dict], multilabel: bool = False) -> list[float]:
    """The shares of the training side that are learned from, the smallest first, 1 last."""
    classes = len(targets.classes(rows, multilabel))
    count = np.mean([_learned(rows, turn) for turn in plan])
    halvings = math.log2(max(1, count / (FEWEST * classes)))
    return [0.5**number for number in range(int(halvings), -1, -1)]


def _learned(rows, turn):
    """How many recordings a round learns from."""
    return rows.loc[rows["fold"].isin(turn["train"]), "recording_id"].nunique()


def thinned(
    rows: pd.DataFrame,
    turn: dict,
    share: float,
    rng: np.random.Generator,
    multilabel: bool = False,
) -> pd.DataFrame:
    """The rows, of which a round learns from a share: the others of its training side get no fold.

    Of each class so many groups are kept, one at least; a smaller share with an equal generator
    keeps some of those.
    """
    trained = rows["fold"].isin(turn["train"])
    first = rows[trained].drop_duplicates("group").set_index("group")
    label = targets.rarest(first["label"], multilabel)
    size = rows[trained].groupby("group")["recording_id"].nunique()
    groups = pd.DataFrame({"label": label, "size": size[first.index]})
    groups = groups.sample(frac=1, random_state=rng)
    by_label = groups.groupby("label")["size"]
    before = by_label.cumsum() - groups["size"]
    kept = groups.index[before < share * by_label.transform("sum")]
    return rows.assign(fold=rows["fold"].where(~trained | rows["group"].isin(kept)))


def _samples(predictions, config):
    """The first metric of the headline, and its redraws: [1 + samples]."""
    asked = config.evaluate
    weights = evaluate.draws(predictions, asked.bootstrap_samples, config.seed)
    return evaluate.score_samples(predictions, weights, evaluate.headline(config)[0], asked.k)


def _over_draws(samples, seed):
    """The mean over the draws of a part [draws, 1 + samples], the draws redrawn with the groups."""
    redrawn = intervals.bootstrap_weights(len(samples), samples.shape[1] - 1, seed)
    counts = np.concatenate([np.ones((1, len(samples))), redrawn])
    return (counts.T * samples).mean(axis=0)


def in_words(found: dict) -> str:
    """What each curve says of more recordings, a line each. Args: found of `of_run`."""
    return "\n".join(_says(curve, found["metric"]) for curve in found.get("curves", ()))


def _says(curve, metric):
    model = _named(curve["model"])
    if "gain" not in curve:
        return f"Too few recordings to learn from half of them: no learning curve of {model}."
    half, whole = (round(point["recordings"]) for point in curve["sizes"][-2:])
    gain = curve["gain"]
    points = evaluate.points(gain["value"], gain["low"], gain["high"])
    says = f"{whole} recordings to learn from instead of {half}: that brought {model}, {points}"
    says = f"{says} points of {evaluate.in_words(metric)}."
    if gain["low"] > 0:
        return f"{says} More recordings like these are likely to help."
    return f"{says} That is no clear gain: from this, nobody can promise that more would help."


def _named(model):
    """A model in the words of a reader of 06."""
    if model == QUICK:
        return "the quick dense network on the feature table, which is not the network of 05"
    if recipe.reads(model) in recipe.HEARD:
        return f"{model}, which learns from what the listener hears"
    return f"the network of 05, {model}"


def drawn(found: dict) -> list[dict]:
    """The curves of several points, which can be drawn."""
    return [curve for curve in found.get("curves", ()) if "gain" in curve]
