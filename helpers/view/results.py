"""The results of a trained run: its figures, and its numbers in words.

All is read from the run's files, and from its predictions out of fold.
"""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from helpers.base import artifacts
from helpers.compare import rivals
from helpers.metrics import decisions, evaluate
from helpers.view import curves, plots, score_plots


def over_seeds(folder, rows: pd.DataFrame, config) -> dict:
    """What one network per fold scores alone, as metrics.json holds it; {} where there is but one.

    Args: folder of the run; rows of waveforms.csv; config.
    """
    path = Path(folder) / "models" / "cnn" / "seeds.csv"
    if not path.is_file():
        return {}
    clips = rows[rows["parent_id"].eq("")]
    return {"over_seeds": evaluate.over_seeds(artifacts.read_table(path), clips, config)}


def in_words(metrics: dict, predictions: pd.DataFrame, config) -> str:
    """What stands beside the headline: of how many recordings, by which protocol, and chance."""
    synthetic = ", synthetic" if config.synthetic else ""
    counts = f"{metrics['n_recordings']} recordings, {metrics['n_groups']} sources{synthetic}"
    chance = evaluate.chance(predictions, config.data.multilabel)
    words = [f"{name.replace('_', ' ')} {value:.1%}" for name, value in chance.items()]
    lines = [counts, metrics["protocol"], "; ".join(words)]
    if "over_seeds" in metrics:
        alone = "One network alone: {mean:.1%} ± {sd:.1%} {metric} over {seeds} seeds"
        lines.append(alone.format(**metrics["over_seeds"]))
    return "\n".join(lines)


def headline(metrics: dict) -> pd.DataFrame:
    """The metrics that have an interval: a table metric, value, low, high."""
    scores = {name: entry for name, entry in metrics.items() if "low" in _entry(entry)}
    names = [name.replace("_", " ") for name in scores]
    table = pd.DataFrame(list(scores.values()))
    table.insert(0, "metric", names)
    return table


def _entry(value):
    return value if isinstance(value, dict) else {}


def redraws(predictions: pd.DataFrame, metrics: dict, config) -> Figure:
    """The first metric of the headline in each of the bootstrap's redraws, and its interval."""
    first = evaluate.headline(config)[0]
    asked = config.evaluate
    weights = evaluate.draws(predictions, asked.bootstrap_samples, config.seed)
    samples = evaluate.score_samples(predictions, weights, first, asked.k)
    return score_plots.redraws(samples[1:], metrics[first], first)


def words(folder, config) -> dict[str, str]:
    """How to read the learning curves, and what a random split would have said."""
    history = pd.DataFrame(artifacts.read_json(Path(folder) / "history.json"))
    gap = artifacts.read_json(Path(folder) / "leak_gap.json")
    return {
        "learning_curves": curves.in_words(history, config.train),
        "leak_gap": rivals.gap_in_words(gap, evaluate.headline(config)[0]),
    }


def figures(folder, predictions: pd.DataFrame, by_class: pd.DataFrame, config) -> dict[str, Figure]:
    """The figures of a run by name, as the report shows them.

    Args: folder of the run; predictions per recording; by_class of evaluate.per_class; config.
    """
    folder = Path(folder)
    several = config.data.multilabel
    labels = decisions.class_columns(predictions)
    history = pd.DataFrame(artifacts.read_json(folder / "history.json"))
    board = artifacts.read_table(folder / "leaderboard.csv")
    shortcuts = artifacts.read_json(folder / "shortcuts.json")
    gap = artifacts.read_json(folder / "leak_gap.json")
    calibration = decisions.calibration(predictions, multilabel=several)
    return {
        "score_by_class": score_plots.score_by_class(by_class),
        "confusion": score_plots.confusion(decisions.confusion(predictions), labels),
        "roc": score_plots.roc_curves(predictions, labels),
        "reliability": score_plots.reliability(*calibration),
        "learning_curves": score_plots.learning_curves(history),
        "leaderboard": score_plots.leaderboard(board, evaluate.leaderboard_metrics(config)[:2]),
        "shortcuts": plots.shortcut_scores(shortcuts["class"]),
        "leak_gap": score_plots.leak_gap(gap, evaluate.headline(config)[0]),
    }


def keep(figures: dict[str, Figure], folder) -> None:
    """Write figures by name as PNG files into a folder."""
    for name, figure in figures.items():
        figure.savefig(Path(folder) / f"{name}.png", dpi=120)
