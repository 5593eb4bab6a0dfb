"""The results of a trained run: its figures, and its numbers in words.

All is read from the run's files, and from its predictions out of fold.
"""

import base64
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from helpers.audio import features, recording
from helpers.base import artifacts, targets
from helpers.compare import rivals
from helpers.metrics import decisions, evaluate
from helpers.models import checkpoints
from helpers.models.explain import embeddings, heard_where
from helpers.splits import partition
from helpers.view import boards, curves, plots, score_plots, style

HOW_OFTEN = {0: "were not drawn", 1: "were drawn once", 2: "twice"}
CHANCE = {
    "majority_class_accuracy": "Always answering the largest class: accuracy",
    "chance_average_precision": "Answering at random: average precision",
}
WIDE = 16  # what a name takes of a map, in per cent, at most
HIGH = 5
MOST_POINTS = 300  # of the map: training clips, and clips of the tested fold
LINKS = 12  # clips of the map that are joined with the clip that they are mistaken for
HEARD_SECONDS = 1.5  # of each point, around its loudest
MOST_SOUND = 1_500_000  # characters that the sounds of a map take


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
    sources = targets.counted(metrics["n_groups"], "source", "sources")
    counts = f"{metrics['n_recordings']} recordings, {sources}{synthetic}"
    chance = evaluate.chance(predictions, config.data.multilabel)
    words = [f"{CHANCE[name]} {value:.1%}" for name, value in chance.items()]
    lines = [counts, metrics["protocol"], *words]
    if "over_seeds" in metrics:
        alone = "One network alone: {mean:.1%} ± {sd:.1%} {metric} over {seeds} seeds"
        lines.append(alone.format(**metrics["over_seeds"]))
    return "\n".join(lines)


def headline(metrics: dict) -> pd.DataFrame:
    """The metrics that have an interval: a table metric, value, low, high."""
    scores = {name: entry for name, entry in metrics.items() if "low" in _entry(entry)}
    names = [evaluate.in_words(name) for name in scores]
    table = pd.DataFrame(list(scores.values()))
    table.insert(0, "metric", names)
    return table


def _entry(value):
    return value if isinstance(value, dict) else {}


def one_redraw(predictions: pd.DataFrame, metrics: dict, config) -> Figure:
    """The first of the bootstrap's redraws: how often each source was drawn, and what it scores."""
    first = evaluate.headline(config)[0]
    counts = evaluate.draws(predictions, 1, config.seed)
    score = evaluate.score_samples(predictions, counts, first, config.evaluate.k)[1]
    names = pd.unique(predictions["group"])
    times = pd.Series(counts[1], names)
    shares = [f"{times.eq(number).mean():.0%} {words}" for number, words in HOW_OFTEN.items()]
    value = metrics[first]["value"]
    boards.say(
        f"Of {len(times)} sources {', '.join(shares)}. In this redraw {evaluate.in_words(first)} is"
        f" {score:.1%}, in the recordings as they are {value:.1%}."
    )
    return score_plots.one_redraw(times)


def answered(predictions: pd.DataFrame, least_confidence: float) -> str:
    """How many recordings are answered, and rightly, where the likeliest class must be this likely.

    Args: predictions per recording; least_confidence in [0, 1].
    """
    highest = predictions[decisions.class_columns(predictions)].max(axis=1)
    sure = predictions[highest >= least_confidence]
    right = sure["label"].eq(sure["predicted"])
    says = f"{len(sure)} of {len(predictions)} recordings are answered"
    return f"{says}, {right.mean():.1%} of them rightly." if len(sure) else f"{says}."


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


# --- what the network heard --------------------------------------------------------------------


def reasons(folder, mistakes: pd.DataFrame, out_of_fold: pd.DataFrame, packed, rows) -> HTML:
    """A board of mistakes: where the network of the tested fold heard what it said, and the truth.

    Args: folder of the run; mistakes of `decisions.worst`; out_of_fold of the clips; packed int16
        [clips, samples]; rows of waveforms.csv.
    """
    networks = {fold: network_of(folder, fold) for fold in mistakes["fold"].unique()}
    cards = []
    for _, row in mistakes.iterrows():
        model, card = networks[row["fold"]]
        config = card["config"]
        truth = set(targets.split(row["label"], model.multilabel))
        answer = set(targets.split(row["predicted"], model.multilabel))
        said = max(answer - truth, key=row.get, default=None)
        missed = min(truth - answer, key=row.get, default=None)
        asked = [name for name in (said, missed) if name]
        clips = out_of_fold[out_of_fold["clip_id"].isin(_clips_of(rows, row["recording_id"]))]
        clip = clips.loc[clips[asked[0]].idxmax()]
        waveform = features.unpack(packed[rows.index[rows["clip_id"].eq(clip["clip_id"])][0]])
        maps = {}
        for name in asked:
            where = heard_where(model, waveform, card["labels"].index(name))
            maps[f"what speaks for {name} ({clip[name]:.0%})"] = where
        picture = plots.heard_where(waveform, maps, config)
        title = f"{targets.in_words(row['label'])} → {targets.in_words(row['predicted'])}"
        note = f"the network tested on fold {row['fold']}, which had not learned from it"
        cards.append(boards.card(title, picture, waveform, config.audio.sample_rate, note))
    return boards.board(cards, 300)


def network_of(folder, fold: int):
    """The network of a run that is tested on a fold: (model, card)."""
    path = Path(folder) / "models" / "cnn" / f"fold{fold}"
    return checkpoints.load(path, checkpoints.read_card(path)["config"])


def _clips_of(rows, recording_id):
    return rows.loc[rows["recording_id"].eq(recording_id) & rows["parent_id"].eq(""), "clip_id"]


def embedding_map(folder, predictions: pd.DataFrame, packed, rows: pd.DataFrame) -> HTML:
    """A map of clips as the last layer of one network sees them; a click plays the nearest one.

    Each fold's network has a space of its own, so it is that of the fold with the most mistakes:
    the clips of this fold, and, faint, clips that the network learned from. Lines lead from a clip
    to the one that is most like it, where they are of different classes.

    Args: folder of the run; predictions per recording; packed int16 [clips, samples]; rows of
        waveforms.csv.
    """
    wrong = predictions["label"].ne(predictions["predicted"])
    fold = wrong.groupby(predictions["fold"]).sum().idxmax()
    model, card = network_of(folder, fold)
    points = _points(card["folds"]["train"], fold, predictions, rows)
    vectors = embeddings(model, packed[points.index.to_numpy()])
    learned = ~points["held_out"].to_numpy()
    plane = PCA(2).fit(vectors[learned])
    points[["x", "y"]] = plane.transform(vectors)
    links = _strangers(points, vectors, model.multilabel)
    boards.say(
        f"The network tested on fold {fold}. Of the {(~learned).sum()} tested clips on the map"
        f" {len(links)} lie nearest to a learned clip of another class."
        f" The two directions hold {plane.explained_variance_ratio_.sum():.0%} of the variance."
    )
    links = links.head(LINKS)
    heard = [*links["clip"], *links["other"], *points.index[~learned]]
    points["sound"] = _sounds(packed, dict.fromkeys(heard), card["config"].audio.sample_rate)
    return HTML(boards.part("sound_map", *_map(points, links, model.multilabel)))


def _points(learned_folds, fold, predictions, rows):
    """Clips of the map: those of the tested fold, and as many that were learned from, at most."""
    parts = []
    for folds in (learned_folds, [fold]):
        clips = partition.fold_rows(rows, folds)
        some = np.linspace(0, len(clips) - 1, min(MOST_POINTS, len(clips))).astype(int)
        parts.append(clips.iloc[some].assign(held_out=folds == [fold]))
    points = pd.concat(parts)
    said = predictions.set_index("recording_id")["predicted"]
    points["said"] = points["recording_id"].map(said).where(points["held_out"], points["label"])
    return points


def _strangers(points, vectors, multilabel):
    """Tested clips whose nearest learned clip has none of their classes: clip, other, the nearest
    first.
    """
    held_out = points["held_out"].to_numpy()
    nearest = NearestNeighbors(n_neighbors=1).fit(vectors[~held_out])
    away, place = nearest.kneighbors(vectors[held_out])
    others = points[~held_out].iloc[place[:, 0]]
    links = pd.DataFrame({"clip": points.index[held_out], "other": others.index})
    links["away"] = away[:, 0]
    strange = []
    pairs = zip(points["label"][held_out], others["label"], strict=True)
    for label, other in pairs:
        classes = set(targets.split(label, multilabel))
        strange.append(label != other and classes.isdisjoint(targets.split(other, multilabel)))
    return links[strange].sort_values("away")


def _sounds(packed, numbers, sample_rate):
    """The loudest part of clips as MP3 in base64, by number, until MOST_SOUND is spent: Series."""
    sounds = {}
    left = MOST_SOUND
    size = round(HEARD_SECONDS * sample_rate)
    for number in numbers:
        waveform = features.unpack(packed[number])
        start = max(0, int(np.abs(waveform).argmax()) - size // 2)
        mp3 = recording.encode_mp3(waveform[start : start + size], sample_rate)
        sounds[number] = base64.b64encode(mp3).decode()
        left -= len(sounds[number])
        if left < 0:
            del sounds[number]
            break
    return pd.Series(sounds, dtype=object)


def _map(points, links, multilabel):
    """What the macro sound_map takes: an identity, dots, lines, names on the map, colours."""
    first = points["label"].map(lambda label: (targets.split(label, multilabel) or ["none"])[0])
    order = pd.unique(pd.concat([first[links["clip"]], first[~points["held_out"]], first]))
    colours = dict(zip(order, style.COLOURS, strict=False))
    spread = points[["x", "y"]] - points[["x", "y"]].min()
    place = 4 + 92 * spread / spread.max().clip(lower=1e-9)
    dots = []
    for number, row in points.iterrows():
        side = "tested" if row["held_out"] else "learned from"
        wrong = f", taken for {targets.in_words(row['said'])}" * (row["said"] != row["label"])
        dots.append(
            {
                "x": place.at[number, "x"],
                "y": 100 - place.at[number, "y"],
                "colour": colours.get(first[number], style.GREY),
                "title": f"{targets.in_words(row['label'])}{wrong} ({side})",
                "sound": row["sound"] if isinstance(row["sound"], str) else "",
                "held_out": row["held_out"],
                "wrong": bool(wrong),
            }
        )
    index = dict(zip(points.index, dots, strict=True))
    lines = [(index[link.clip], index[link.other]) for link in links.itertuples()]
    if len(colours) < len(order):
        colours["other classes"] = style.GREY
    identity = "map-" + hashlib.sha256(str(dots).encode()).hexdigest()[:12]
    middles = place.groupby(first).median().loc[list(dict.fromkeys(order))]
    return identity, dots, lines, colours, _apart(middles)


def _apart(middles):
    """Names of classes at the middle of their clips, without those that others would cover."""
    names = {}
    for name, row in middles.iterrows():
        spot = {"x": row["x"], "y": 100 - row["y"]}
        covered = False
        for other in names.values():
            wide = abs(spot["x"] - other["x"]) < WIDE
            covered |= wide and abs(spot["y"] - other["y"]) < HIGH
        if not covered:
            names[targets.in_words(name)] = spot
    return names
