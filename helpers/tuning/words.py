"""What a `search.Search` says: what is tried, what came of it, and whether the choice is better."""

import pandas as pd
import yaml

from helpers.base.targets import counted
from helpers.metrics import evaluate
from helpers.tuning import variants
from helpers.view.style import ends

PRESET = "the preset"
CHOICE = "the choice"
VERDICTS = {  # by `evaluate.direction` of the choice from the preset
    1: "the choice is better",
    0: "no clear gain, keep the preset",
    -1: "the choice is worse, keep the preset",
}


def best_of(trials: list[dict]) -> dict:
    """The trial with the highest score, the first of several."""
    return max(trials, key=lambda trial: trial["score"])


def preset_of(search, choice: dict, said: list[str]) -> str:
    """The choice as a preset, whose run tests the folds alone that chose nothing."""
    config = variants.changed(search.config, choice)
    says = list(said)
    if choice and not search.has_sides:
        config = config.but("split.test_folds", len(search.tested))
        says.append("split.test_folds leaves a run the folds that no trial saw; keep the seed.")
    tree = config.model_dump(mode="json", exclude_defaults=True, exclude={"preset", "recognised"})
    lines = [f"# {line}" for line in says]
    return "\n".join([*lines, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)])


def introduction(search, trials: list[dict] = ()) -> str:
    """What is tried and how, in a few sentences."""
    order = (
        "proposed by Optuna" if variants.optuna() else "in a random order (Optuna is not installed)"
    )
    folds = counted(len(search.trial_turns), "validation fold", "validation folds")
    epochs = search.trial_config({}).train.epochs
    before = f" {counted(len(trials), 'trial is', 'trials are')} done already." if trials else ""
    return (
        f"Tried are {', '.join(search.tried)}, {order}. Each trial trains {epochs} of "
        f"{search.config.train.epochs} epochs and is scored on {folds}. "
        f"Left out of all trials: {_tested(search)}.{before}"
    )


def _tested(search):
    """What the comparison tests, in words."""
    if search.has_sides:
        return "the official validation side"
    return " and ".join(f"fold {number}" for number in search.tested)


def trial_in_words(trials: list[dict], search, left: float) -> str:
    """The last trial in a line. Args: left seconds."""
    trial = trials[-1]
    best = best_of(trials)
    made = in_words(search.changes(trial)) or "the preset's own settings"
    minutes = max(0, left) / 60
    took = f"{trial['seconds']:.0f} s, {minutes:.1f} min left"
    most = f"best: trial {best['trial']}"
    return f"trial {trial['trial']}: {_score(trial)} · {took} · {most} · {made}"


def in_words(settings: dict) -> str:
    """Settings in a line.

    >>> in_words({"train.mix": "none", "train.masks": 0})
    'train.mix=none train.masks=0'
    """
    return " ".join(f"{setting}={value}" for setting, value in settings.items())


def _score(trial):
    entry = {"value": trial["score"], "low": trial["low"], "high": trial["high"]}
    return f"{evaluate.in_words(trial['metric'])} {evaluate.percent(entry)}"


def choice_in_words(best: dict, trials: list[dict], search) -> str:
    """Which trial scored highest, and what its score is not."""
    count = counted(len(trials), "trial", "trials")
    own = _score(trials[0])
    if not (choice := search.changes(best)):
        return f"Of {count} none scored above the preset's own settings, {own}: keep the preset."
    return (
        f"Of {count} number {best['trial']} scored highest, {_score(best)}, with "
        f"{in_words(choice)}; the preset's own settings reach {own}. The highest of several scores "
        "is too high by luck: the comparison counts."
    )


def verdict(board: pd.DataFrame, search) -> str:
    """Whether the choice is better than the preset, on what the search never saw.

    Args: board of `Search.compare`.
    """
    scores = board.set_index("model")
    metric = evaluate.headline(search.config)[0]
    value, low, high = scores.loc[CHOICE, ends(evaluate.DIFFERENCE)]
    says = VERDICTS[evaluate.direction(low, high)]
    count = int(search.recordings["fold"].isin(search.tested).sum())
    percent = (100 * scores[metric]).map("{:.1f} %".format)
    return (
        f"Both trained as usual and tested on {counted(count, 'recording', 'recordings')} of "
        f"{_tested(search)}: {evaluate.in_words(metric)} {percent[CHOICE]} with the choice, "
        f"{percent[PRESET]} with the preset. The difference in points is "
        f"{evaluate.points(value, low, high)}: {says}."
    )
