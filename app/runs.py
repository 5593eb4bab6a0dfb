"""The trained runs that the app offers: their names, what they know, how well they did."""

from dataclasses import dataclass
from pathlib import Path

from helpers.base import artifacts

NETWORKS = "models/cnn/fold*/"


@dataclass(frozen=True)
class Run:
    """A trained run as the page shows it; scores are sentences, none where nothing was measured."""

    folder: Path
    config: object
    labels: list
    networks: int
    marks: list
    scores: list

    @property
    def starter(self):
        """Whether it is the network that comes with Earshot."""
        return self.folder == artifacts.STARTER

    @property
    def kept(self):
        """Where what a visitor says of its answers is kept."""
        return artifacts.home() / "outputs" / self.folder.name / "corrections"


def names():
    """Names of the runs that hold a trained CNN, the one trained last first; then the starter."""
    newest = {}
    for card in (artifacts.home() / "outputs").glob(f"*/{NETWORKS}card.json"):
        name = card.parents[3].name
        newest[name] = max(newest.get(name, 0), card.stat().st_mtime)
    trained = sorted(newest, key=newest.get, reverse=True)
    return list(dict.fromkeys([*trained, artifacts.STARTER.name]))


def called(name):
    """A run's name as the page says it."""
    own = name == artifacts.STARTER.name and artifacts.existing_run(name) == artifacts.STARTER
    return f"{name} (comes with Earshot)" if own else name


def read(name):
    """The facts about a run, from its cards and scores. Raises what a damaged file raises."""
    from helpers.base.settings import Config

    folder = artifacts.existing_run(name)
    sealed = ("fold*/card.json", "fold*/weights.safetensors", "thresholds.json")
    artifacts.check_seal(folder / "models" / "cnn", *sealed)
    cards = sorted(folder.glob(f"{NETWORKS}card.json"))
    card = artifacts.read_json(cards[0])
    settings = _read_if_there(folder / "run.json").get("config", {})
    marks = [
        mark
        for key, mark in (("synthetic", "synthetic data"), ("fast", "smoke run"))
        if settings.get(key)
    ]
    metrics = _read_if_there(folder / "metrics.json")
    name = metrics.get("headline", ["accuracy"])[0]
    measures = {"held-out": metrics, "hidden test": metrics.get("hidden_test", {})}
    scores = [
        measured(name, scored[name], f"{which} recordings")
        for which, scored in measures.items()
        if name in scored
    ]
    return Run(folder, Config(**card["config"]), card["labels"], len(cards), marks, scores)


def _read_if_there(path):
    """What a JSON file holds, or an empty dict where there is no file."""
    return artifacts.read_json(path) if path.is_file() else {}


def fingerprint(folder):
    """What changes when a run is trained again: names, times and sizes of its cards and weights."""
    files = sorted([*folder.glob(f"{NETWORKS}*"), *folder.glob("models/cnn/*.json")])
    return tuple(
        (file.parent.name, file.name, file.stat().st_mtime_ns, file.stat().st_size)
        for file in files
    )


def measured(name, score, which="held-out recordings"):
    """A score in words.

    >>> measured("accuracy", {"value": 0.855, "low": 0.804, "high": 0.899})
    '**85.5%** of held-out recordings right (95% interval 80.4% to 89.9%)'
    """
    of = f"of {which} right" if name == "accuracy" else f"{name.replace('_', ' ')} on {which}"
    return f"**{score['value']:.1%}** {of} (95% interval {score['low']:.1%} to {score['high']:.1%})"
