"""The shortcut audit: what the facts about the files give away, without a sound being heard.

A small forest is asked for the class, or for the side (train or test), with nothing but metadata:
first one column at a time, so that a leak has a name, then the columns of a kind, then all. Its
answers are out of fold, no group crosses, and the score is the area under the ROC curve (AUC): 0.5
is chance.

A column is flagged where its AUC, over all classes or for one of them, has its 95 % interval above
the limit of its kind and is too far above chance for luck, all columns and classes being asked in
vain (Bonferroni). Formats and names have nothing to do with the sound. Level, silence and length
have: classes do differ in them, so such a fact is flagged only where it nearly decides the class,
and all of them together never are.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils.class_weight import compute_sample_weight

from helpers.base import targets
from helpers.metrics import intervals
from helpers.splits import metadata

CHANCE = 0.5
FALSE_ALARMS = 0.05  # share of the audits of innocent data that may flag anything
# AUC that may not be passed: of the mean over the classes, and of one class against the rest. How
# often a source was cut, which names count, differs by class as well: the limit of names is higher.
CLASS_LIMITS = {
    "format": (0.65, 0.65),
    "name": (0.8, 0.8),
    "sound": (0.9, 0.95),
    "all sound facts": (1.0, 1.0),
}
SIDE_LIMITS = {"format": (0.6, 0.6), "sound": (0.6, 0.6)}  # any fact that tells them is a shift
TREES = 30  # of the forest
ROWS_PER_TREE = 1500

OF_A_NAME = (
    "no model sees a name, but what it stands for may be heard: a device, a person, a place, a "
    "day, an order of recording; record every class under each, or let it form groups "
    "(data.name_pattern)"
)
OF_SEVERAL = "one by one they may look harmless; record, cut and encode all classes alike"


@dataclass(frozen=True)
class Exam:
    """What is asked, and of whom: the same for every column."""

    asks: str  # what is told, in words
    truth: np.ndarray  # bool [n, C]
    names: list  # of the C answers
    strata: np.ndarray  # [n] each counts the same in the forest
    fold: np.ndarray  # [n]
    group: np.ndarray  # [n] from 0 on
    draws: np.ndarray  # [samples, groups] of the bootstrap
    limits: dict
    seed: int


def shortcuts(
    recordings: pd.DataFrame,
    folds: pd.DataFrame,
    seed: int = 0,
    multilabel: bool = False,
    n_samples: int = 1000,
) -> dict:
    """How well metadata alone tells the class of the training recordings, and which column does.

    Args: recordings table of audio.survey; folds table with recording_id, group, fold, such as
        clips.csv (rows without a fold are not asked); seed; multilabel several labels per
        recording; n_samples of the bootstrap.
    Returns a dict ready for JSON: asks, says (sentences); score {value, low, high} of all columns
        together; chance; verdict "ok" or "suspicious"; kinds and columns (flagged first, then by
        AUC), lists of {"column", "kind", "auc", "low", "high", "flagged", "says"} with, of the
        class told best, "class", "class_auc", "class_low", "class_high"; class_in_names, the places
        of names that tell the class itself, which are not asked.
    Raises ValueError where there are fewer than two classes or two folds.
    """
    rows = _joined(recordings, folds, "inner").dropna(subset="fold").assign(split="train")
    labels = targets.classes(rows, multilabel)
    truth = targets.matrix(rows["label"], labels) > 0
    asked = ~truth.all(axis=0)  # of what every recording has there is nothing to tell
    n_folds = rows["fold"].nunique()
    if not asked.any() or n_folds < 2:
        raise ValueError(
            f"got {len(labels)} classes in {n_folds} folds; the audit needs two of each"
        )
    strata = targets.rarest(rows["label"], multilabel)
    names = np.array(labels)[asked].tolist()
    exam = _exam("the class", rows, truth[:, asked], names, strata, CLASS_LIMITS, seed, n_samples)
    in_names = metadata.name_facts(rows["path"], rows["label"])
    audit = _audit(pd.concat([metadata.file_facts(rows), in_names], axis=1), exam)
    audit["class_in_names"] = metadata.class_in_names(rows["path"], rows["label"])
    if audit["class_in_names"]:
        audit["says"] += (
            f" The class stands in the file names ({', '.join(audit['class_in_names'])}), which is "
            "harmless: no model sees a name."
        )
    return audit


def adversarial(
    recordings: pd.DataFrame,
    folds: pd.DataFrame,
    seed: int = 0,
    n_samples: int = 1000,
    n_folds: int = 5,
) -> dict | None:
    """How well metadata alone tells test from training recordings (adversarial validation).

    Names are not asked: the sides are nearly always numbered apart, and no model hears a name.
    Labels are not looked at, so a test side with other classes, or other shares of them, may differ
    in its sounds for that reason.

    Args: recordings table of audio.survey; folds table with recording_id and group (training
        recordings that it lacks are left out, a test recording that it lacks is a group of its
        own); n_folds dealt anew over both sides.
    Returns as `shortcuts`, without classes; None where one of the sides has fewer than two groups.
    """
    sides = recordings.query("status in ('ok', 'used') and split in ('train', 'test')")
    rows = _joined(sides, folds, "left")
    alone = rows["recording_id"].where(rows["split"].eq("test"))
    rows = rows.assign(group=rows["group"].fillna(alone)).dropna(subset="group")
    test = rows["split"].eq("test").to_numpy()
    n_folds = min(n_folds, rows.loc[test, "group"].nunique(), rows.loc[~test, "group"].nunique())
    if n_folds < 2:
        return None
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    fold = np.zeros(len(rows))
    for number, (_, members) in enumerate(splitter.split(rows, test, rows["group"])):
        fold[members] = number
    rows = rows.assign(fold=fold)
    truth = test[:, None]
    exam = _exam("test from train", rows, truth, ["test"], test, SIDE_LIMITS, seed, n_samples)
    return _audit(metadata.file_facts(rows), exam)


def _joined(recordings, folds, how):
    columns = [name for name in ("recording_id", "group", "fold") if name in folds]
    folds = folds[columns].drop_duplicates("recording_id")
    recordings = recordings.drop(columns=["group", "fold"], errors="ignore")
    return recordings.merge(folds, on="recording_id", how=how)


def _exam(asks, rows, truth, names, strata, limits, seed, n_samples):
    group, groups = pd.factorize(rows["group"])
    return Exam(
        asks=asks,
        truth=truth,
        names=names,
        strata=np.asarray(strata),
        fold=rows["fold"].to_numpy(float),
        group=group,
        draws=intervals.bootstrap_weights(len(groups), n_samples, seed).astype(np.float32),
        limits=limits,
        seed=seed,
    )


# --- the questions


def out_of_fold(values: np.ndarray, exam: Exam) -> np.ndarray:
    """The forest's answers [n, C] to values [n, columns], above their mean.

    Each fold is answered by what the others taught.
    """
    answers = np.zeros(exam.truth.shape)
    if not values.shape[1]:
        return answers
    for fold in np.unique(exam.fold):
        inside = exam.fold != fold
        weights = compute_sample_weight("balanced", exam.strata[inside])
        forest = RandomForestRegressor(
            TREES,
            min_samples_leaf=3,
            max_samples=min(int(inside.sum()), ROWS_PER_TREE),
            random_state=exam.seed,
        )
        taught = exam.truth[inside].astype(float)
        forest.fit(values[inside], taught.squeeze(), sample_weight=weights)
        # Where a class is rare among the others it is frequent here: without this, folds would rank
        # each other.
        usual = np.average(taught, axis=0, weights=weights)
        told = forest.predict(values[~inside])
        answers[~inside] = told.reshape(-1, len(usual)) - usual
    return answers


def auc_influence(
    positive: np.ndarray, score: np.ndarray, fold: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Area under the ROC curve within the folds, and how far each row moves it ([n], sum 0).

    Only rows of one fold are ranked against each other. Each fold has its own forest, and where a
    class is frequent in a fold it was rare in what that forest learned from: across folds, answers
    of pure noise rank below chance.

    To first order a bootstrap sample's area is the area plus each row's influence as often as it is
    drawn, so all classes of thousands of recordings cost one product of matrices (DeLong et al.
    1988, doi:10.2307/2531595; with groups Obuchowski 1997, doi:10.2307/2533958). Args: positive
    bool [n]; score [n]; fold [n] or None for one. Where no fold has both sides the area is 0.5:
    nothing is told.
    """
    fold = np.zeros(len(score)) if fold is None else fold
    rows = pd.DataFrame({"score": score, "fold": fold, "positive": positive})
    own_side = rows.groupby(["fold", "positive"])["score"]
    # Of the other side: those below, ties half, and all.
    outranked = rows.groupby("fold")["score"].rank() - own_side.rank()
    in_fold = rows.groupby("fold")["score"].transform("size")
    others = in_fold - own_side.transform("size")
    won = outranked.where(rows["positive"], others - outranked)
    pairs = others[positive].sum()
    area = won[positive].sum() / pairs if pairs else CHANCE
    return area, ((won - area * others) / max(pairs, 1)).to_numpy()


def _ask(facts, exam):
    """The areas that facts reach, of the mean over the classes and of each class.

    Returns a table [1 + C] of value, low, high and sigmas above chance.
    """
    areas, influences = _areas(out_of_fold(facts.to_numpy(), exam), exam)
    return _with_intervals(areas, influences, exam).round(5)


def _areas(answers, exam):
    """Areas [1 + C], of the mean and of each class, and how far each recording moves them."""
    told = [
        auc_influence(truth, answer, exam.fold)
        for truth, answer in zip(exam.truth.T, answers.T, strict=True)
    ]
    areas, influences = map(np.array, zip(*told, strict=True))
    influences = np.vstack([influences.mean(axis=0), influences])
    return np.append(areas.mean(), areas), influences.T


def _with_intervals(areas, influences, exam):
    """Areas with the intervals of a bootstrap over groups, and their distance from chance."""
    by_group = _by_group(influences.astype(np.float32), exam)
    samples = areas + exam.draws @ by_group
    samples = np.clip(samples, 0, 1)
    luck = _luck(exam)
    # All recordings are asked by forests that have learned nearly the same, and share their luck:
    # the interval is at least as wide as that of a coin thrown 1 / (4 luck) times, which has as
    # much luck.
    low, high = intervals.bounds(areas, samples, _sizes(exam), most=0.25 / luck)
    variance = np.maximum(luck, samples.var(axis=0))
    sigmas = (areas - CHANCE) / np.sqrt(variance)
    return pd.DataFrame({"value": areas, "low": low, "high": high, "sigmas": sigmas})


def _luck(exam):
    """Variance of the areas if nothing is told (Mann & Whitney 1947), groups counting: [1 + C]."""
    positive = _by_group(exam.truth, exam) > 0
    negative = _by_group(~exam.truth, exam) > 0
    yes = positive.sum(axis=0)
    no = negative.sum(axis=0)
    luck = (yes + no + 1) / (12 * yes * no)
    of_mean = luck.mean() / max(len(luck) - 1, 1)
    return np.append(of_mean, luck)


def _sizes(exam):
    """Recordings of each group: all, and of each class its smaller side: [groups, 1 + C]."""
    frequent = exam.truth.mean(axis=0) > 0.5
    rarer = np.where(frequent, ~exam.truth, exam.truth)
    counted = np.column_stack([np.ones(len(rarer)), rarer])
    return _by_group(counted, exam)


def _by_group(values, exam):
    """Sums [groups, ...] of the values [n, ...] of each group."""
    return pd.DataFrame(values).groupby(exam.group).sum().to_numpy()


def _audit(facts, exam):
    kinds = {name: _kind(name) for name in facts}
    n_questions = facts.shape[1] * (len(exam.names) + 1)
    luckiest = norm.isf(FALSE_ALARMS / max(n_questions, 1))  # standard errors
    columns = [_judged(facts[[name]], name, kind, exam, luckiest) for name, kind in kinds.items()]
    together = []
    for kind in ("format", "name", "sound"):
        if kind in kinds.values():
            part = facts[[name for name in facts if kinds[name] == kind]]
            together.append(_judged(part, f"all {kind} facts", kind, exam, luckiest))
    score = _ask(facts, exam).loc[0, ["value", "low", "high"]].to_dict()
    flagged = [entry["column"] for entry in columns if entry["flagged"]]
    flagged = flagged or [entry["column"] for entry in together if entry["flagged"]]
    return {
        "asks": exam.asks,
        "score": score,
        "chance": CHANCE,
        "verdict": "suspicious" if flagged else "ok",
        "kinds": together,
        "columns": sorted(columns, key=lambda entry: (not entry["flagged"], -entry["auc"])),
        "says": _overall(score, flagged, together, exam.asks),
    }


def _kind(column):
    return next((kind for kind, columns in metadata.ADVICE.items() if column in columns), "name")


def _judged(facts, column, kind, exam, luckiest):
    """The entry of a column, or of several at once."""
    areas = _ask(facts, exam)
    of_mean, of_class = exam.limits.get(column, exam.limits[kind])
    limits = pd.Series(of_class, areas.index)
    limits[0] = of_mean
    alarms = areas["low"].gt(limits) & areas["sigmas"].gt(luckiest)
    mean = areas.loc[0].to_dict()
    entry = {"column": column, "kind": kind}
    entry |= {"auc": mean["value"], "low": mean["low"], "high": mean["high"]}
    entry["flagged"] = bool(alarms.any())
    told = exam.asks
    if len(exam.names) > 1:
        in_question = alarms[1:] if alarms[1:].any() else ~alarms[1:]
        best = areas.loc[1:, "value"][in_question].idxmax()
        name = exam.names[best - 1]
        area = areas.loc[best].to_dict()
        entry |= {"class": name, "class_auc": area["value"]}
        entry |= {"class_low": area["low"], "class_high": area["high"]}
        if alarms.any() and not alarms[0]:
            told = f"{name} from the rest"
            mean = area
    return entry | {"says": _sentence(entry, told, mean, of_mean)}


# --- in words


def auc_in_words(area: dict) -> str:
    """An area with its interval in words.

    >>> auc_in_words({"value": 0.984, "low": 0.97, "high": 0.991})
    'AUC 0.98 (0.97–0.99)'
    """
    return f"AUC {area['value']:.2f} ({area['low']:.2f}–{area['high']:.2f})"


def _sentence(entry, told, area, limit):
    several = entry["column"].startswith("all ")
    subject = f"{entry['column']} {'together tell' if several else 'alone tells'}"
    words = auc_in_words(area)
    if entry["flagged"]:
        of_kind = metadata.ADVICE.get(entry["kind"], {})
        advice = OF_SEVERAL if several else of_kind.get(entry["column"], OF_A_NAME)
        return f"{subject} {told} with {words}: {advice}."
    if area["low"] <= CHANCE:
        return f"{subject} {told} no better than chance: {words}."
    return f"{subject} a little of {told}: {words}; above {limit:g} it would be suspicious."


def _overall(score, flagged, together, asks):
    kinds = ", ".join(f"{entry['kind']} {entry['auc']:.2f}" for entry in together) or "none"
    given_away = f"It is given away by {', '.join(flagged)}."
    return (
        f"Metadata alone tells {asks} with {auc_in_words(score)}, 0.5 being chance; by kind: "
        f"{kinds}. {given_away if flagged else 'No fact is suspicious.'}"
    )


def of_clips(judged: pd.DataFrame, clips: pd.DataFrame, config) -> dict:
    """What tells the class, and the test side, without listening: as shortcuts.json holds it.

    Args: judged of `rules.judge`; clips with group and fold; config.
    """
    facts = clips[["recording_id", "group", "fold", "split", "label"]]
    folds = facts.drop_duplicates("recording_id")
    return {
        "class": shortcuts(judged, folds, config.seed, config.data.multilabel),
        "test side": adversarial(judged, folds, config.seed),
    }
