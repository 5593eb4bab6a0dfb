"""Every model by name: trained on the same folds, predicted alike.

A name is a network (``models.networks``), a model on the feature table or on embeddings
(``classic``), or an ensemble of the others: ``soft_vote`` averages their probabilities,
``stacking`` learns from their out-of-fold probabilities how far to trust each of them (Wolpert
1992, doi:10.1016/S0893-6080(05)80023-1).
"""

from pathlib import Path

import numpy as np
import pandas as pd
import skops.io
from scipy.special import logit
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from helpers.base import artifacts, recipe, targets
from helpers.base.settings import ENSEMBLES, Config
from helpers.compare import classic, inference
from helpers.listeners import embed
from helpers.metrics import decisions, evaluate
from helpers.models import checkpoints
from helpers.rounds import train

GAINS = {1: "a gain", 0: "no clear gain", -1: "a loss"}  # by `evaluate.direction`


def cross_validate(
    name: str,
    packed: np.ndarray,
    rows: pd.DataFrame,
    table: pd.DataFrame,
    config: Config,
    folder: Path,
    found: dict,
) -> tuple[pd.DataFrame, dict]:
    """Train a model by name, one per round, and predict each test fold.

    Args: name; packed int16 [clips, samples]; rows of waveforms.csv; table the feature table;
        config; folder that the models go to; found what this function returned for the models
        before, by name.
    Returns (out-of-fold clip probabilities: clip_id, fold and a column per class; costs:
    train_seconds, ms_per_clip, parameters).
    """
    if name in ENSEMBLES:
        return _ensemble(name, rows, config, folder, found)
    if recipe.reads(name) in recipe.TABLES:
        return classic.cross_validate(name, table, config, folder)
    config = config.with_network(name)
    out_of_fold, history = train.cross_validate(packed, rows, config, folder)
    model, _ = checkpoints.load(next(Path(folder).glob("fold*")), config)
    return out_of_fold, inference.costs(model, packed, history)


def of_network(folder: Path, packed: np.ndarray) -> tuple[pd.DataFrame, dict]:
    """What `cross_validate` returns, of the network that 05 has trained.

    Args: folder of the run; packed int16 [clips, samples], on which its time is measured.
    """
    history = artifacts.read_json(Path(folder) / "history.json")
    costs = inference.costs(inference.Bundle(folder).models[0], packed, history)
    return artifacts.read_table(Path(folder) / "models" / "cnn" / "out_of_fold.csv"), costs


def _ensemble(name, rows, config, folder, found):
    members = config.members()
    tables = [found[member][0] for member in members]
    costs = pd.DataFrame([found[member][1] for member in members]).sum().round(3).to_dict()
    artifacts.write_json(Path(folder) / "card.json", {"name": name, "members": list(members)})
    if name == "soft_vote":
        return soft_vote(tables), costs
    labels = rows.set_index("clip_id")["label"]
    several = config.data.multilabel
    stack = stack_fit(tables, labels, several)
    skops.io.dump(stack, Path(folder) / "model.skops")
    parts = stack.estimators_ if several else [stack]
    weighed = [part for part in parts if isinstance(part, LogisticRegression)]  # others: constants
    costs["parameters"] += sum(part.coef_.size for part in weighed)
    return stack_cross_validate(tables, labels, several), costs


def thresholds(name: str, folder: Path) -> pd.Series:
    """From which probability on a model of a run says each class; for runs with several labels."""
    return inference.thresholds(Path(folder) / "models" / name)


def megabytes(name: str, folder: Path, config: Config) -> float:
    """Size on disk of a model of a run, per fold; of an ensemble with its members."""
    if name in ENSEMBLES:
        members = [megabytes(member, folder, config) for member in config.members()]
        return round(sum(members), 3)
    files = list((Path(folder) / "models" / name).glob("fold*/*"))
    # several networks, one per seed, make one fold's model
    folds = {file.parent.name.partition("-")[0] for file in files}
    size = sum(file.stat().st_size for file in files)
    return round(size / len(folds) / 1e6, 3)


def taught(folder: Path, rows: pd.DataFrame, config: Config) -> pd.DataFrame:
    """What teaching brought the network of 05, out of fold: the paired change from its teachers.

    Args: folder of the run; rows of waveforms.csv; config.
    Returns a table against (which networks, in words) and the entries of
        `evaluate.paired_change`; no rows where no network was taught.
    """
    home = Path(folder) / "models" / "cnn"
    if not (home / "teachers.csv").is_file():
        return pd.DataFrame()
    kept = artifacts.read_table(home / "out_of_fold.csv")
    student = decisions.of_recordings(kept, rows, config)
    answers = artifacts.read_table(home / "teachers.csv")
    seeds = config.train.seeds
    before = {"one network that learned from labels alone": answers[answers["seed"].eq(0)]}
    if seeds > 1:
        before[f"the {seeds} of them together"] = answers[answers["seed"].lt(seeds)]
    for number in range(seeds, int(answers["seed"].max()) + 1):
        round_before = f"the network of round {number - seeds + 1}"
        before[round_before] = answers[answers["seed"].eq(number)]
    changes = []
    for name, part in before.items():
        clips = part.drop(columns="seed").groupby(["clip_id", "fold"], sort=False).mean()
        teachers = decisions.of_recordings(clips.reset_index(), rows, config)
        change = evaluate.paired_change([teachers], [student], config)
        changes.append({"against": name, **change})
    return pd.DataFrame(changes)


def taught_in_words(changes: pd.DataFrame, config: Config) -> str:
    """What `taught` found, in a sentence; "" where no network was taught."""
    if changes.empty:
        return ""
    pseudo = config.train.pseudo_labels is not None
    ways = ["pseudo-labels"] * pseudo + ["distillation"] * bool(config.train.distil)
    metric = evaluate.in_words(evaluate.HEADLINE[config.data.multilabel][0])
    gains = []
    for row in changes.itertuples():
        gain = evaluate.points(row.change, row.change_low, row.change_high)
        clear = GAINS[evaluate.direction(row.change_low, row.change_high)]
        gains.append(f"{gain} against {row.against}, {clear}")
    what = f"What {' and '.join(ways)} brought out of fold, in points of {metric}"
    return f"{what}: {'; '.join(gains)}."


# --- what the split, and what the balance does -------------------------------------------------


def leak_gap(table: pd.DataFrame, config: Config) -> dict:
    """What a quick model (the dnn) scores on the certified folds, and on a leaking split.

    There clips and copies are dealt out at random, so copies of a recording, and other recordings
    of its source, are learned from. Only the split differs.

    Returns {"honest", "leaking"}, each as `evaluate.summary`, and "can_leak": whether there are
    copies, or sources with several clips, at all.
    """
    config = config.but("compare.augmented_copies", True)
    is_tested = table["fold"].notna()
    folds = table["fold"].dropna().unique()
    dealt = np.random.default_rng(config.seed).choice(folds, len(table))
    leaking = table.assign(fold=pd.Series(dealt, table.index, dtype="Int64").where(is_tested))
    return {
        "honest": _quick_scores(table, config),
        "leaking": _quick_scores(leaking, config),
        "can_leak": bool(table.loc[is_tested, "group"].duplicated().any()),
    }


def gap_in_words(gap: dict, metric: str) -> str:
    """What `leak_gap` found for a metric, naming its model, which is not the network."""
    if not gap["can_leak"]:
        return "Nothing can leak here: there are no copies, and every source has one clip."
    seems = evaluate.percent(gap["leaking"][metric])
    honest = evaluate.percent(gap["honest"][metric])
    score = evaluate.in_words(metric)
    return (
        "The quick dense network on the feature table, which is not the network of 05, reaches"
        f" {score} {seems} on a random split and {honest} on these folds. Only the split differs."
    )


def balance_effects(table: pd.DataFrame, config: Config) -> pd.DataFrame:
    """What each way of helping rare classes does to a quick model (the dnn), on the same folds.

    Returns a table: balance, then the metrics of the leaderboard with their intervals.
    """
    rows = []
    for balance in ("none", "weights", "sampling", "focal"):
        tried = config.but("train.balance", balance)
        rows.append(evaluate.leaderboard_row(balance, _quick_predictions(table, tried), config))
    return pd.DataFrame(rows).rename(columns={"model": "balance"})


def _quick_scores(table, config):
    return evaluate.scores_of(_quick_predictions(table, config), config)


def _quick_predictions(table, config):
    out_of_fold, _ = classic.cross_validate("dnn", table, config)
    originals = table[table["parent_id"].eq("")]
    return decisions.per_recording(
        out_of_fold, originals, config.data.multilabel, config.model.aggregate
    )


# --- ensembles ---------------------------------------------------------------------------------


def soft_vote(tables: list) -> pd.DataFrame:
    """The mean of the members' probabilities, in the order of the first.

    Args: tables with clip_id, perhaps fold, and a column per class.
    """
    mean = sum(_aligned(tables)) / len(tables)
    identity = tables[0][[column for column in ("clip_id", "fold") if column in tables[0]]]
    return identity.join(mean, on="clip_id").reset_index(drop=True)


def stack_inputs(tables: list) -> pd.DataFrame:
    """The members' log odds side by side, [clips, members x classes], indexed by clip_id."""
    return pd.concat([logit(table.clip(1e-6, 1 - 1e-6)) for table in _aligned(tables)], axis=1)


def _aligned(tables):
    """The members' probabilities, by clip_id, in the order of the first."""
    indexed = [table.set_index("clip_id").drop(columns="fold", errors="ignore") for table in tables]
    return [table.reindex(indexed[0].index) for table in indexed]


def stack_fit(
    tables: list,
    labels: pd.Series,
    multilabel: bool = False,
) -> BaseEstimator:
    """The model that weighs the members: a logistic regression on their out-of-fold probabilities.

    Where there are several labels it is one per class. Args: tables; labels by clip_id.
    """
    inputs = stack_inputs(tables)
    labels = labels[inputs.index]
    stack = LogisticRegression(C=0.02, max_iter=3000)
    if multilabel:
        stack = OneVsRestClassifier(stack)
        labels = targets.matrix(labels, decisions.class_columns(tables[0]))
    return stack.fit(inputs.to_numpy(), labels)


def stack_cross_validate(
    tables: list,
    labels: pd.Series,
    multilabel: bool = False,
) -> pd.DataFrame:
    """Out-of-fold probabilities of the stack: the weights of a fold come from the other folds."""
    parts = []
    for fold in sorted(tables[0]["fold"].unique()):
        learned = [table[table["fold"] != fold] for table in tables]
        held_out = [table[table["fold"] == fold] for table in tables]
        stack = stack_fit(learned, labels, multilabel)
        parts.append(_stack_table(stack, held_out).assign(fold=fold))
    return pd.concat(parts, ignore_index=True)


def _stack_table(stack, tables):
    inputs = stack_inputs(tables)
    classes = decisions.class_columns(tables[0])
    learned = classes if isinstance(stack, OneVsRestClassifier) else stack.classes_
    probabilities = stack.predict_proba(inputs.to_numpy())
    table = pd.DataFrame(probabilities, columns=learned, index=inputs.index)
    return table.reindex(columns=classes, fill_value=0.0).reset_index()


# --- the test side -----------------------------------------------------------------------------


def test_probabilities(
    name: str,
    folder: Path,
    config: Config,
    packed: np.ndarray,
    rows: pd.DataFrame,
    table: pd.DataFrame,
) -> pd.DataFrame:
    """Class probabilities of test clips by a model of a run: clip_id and a column per class.

    Args: name of the model; folder of the run; config; packed int16 [clips, samples]; rows of
        waveforms.csv; table the feature table.
    """
    home = Path(folder) / "models" / name
    if name in ENSEMBLES:
        members = artifacts.read_json(home / "card.json")["members"]
        tables = [
            test_probabilities(member, folder, config, packed, rows, table) for member in members
        ]
        return soft_vote(tables) if name == "soft_vote" else _stack_table(_stack_load(home), tables)
    if recipe.reads(name) not in recipe.TABLES:
        return inference.Bundle(folder, name).predict_packed(packed, rows)
    models = [classic.load(path) for path in sorted(home.glob("fold*"))]
    clips = table[table["clip_id"].isin(rows["clip_id"])].reset_index(drop=True)
    mean = sum(classic.predict(fitted, clips) for fitted in models) / len(models)
    return pd.concat([clips[["clip_id"]], mean], axis=1)


def _stack_load(home):
    return skops.io.load(home / "model.skops", trusted=["sklearn.multiclass._ConstantPredictor"])


# --- files of a run


def table_of(folder: Path, config: Config) -> pd.DataFrame:
    """The feature table of a run, with what its listener heard in each clip, if it has one."""
    table = artifacts.read_table(Path(folder) / "features.csv")
    if not config.features.listener:
        return table
    heard = embed.table(artifacts.read(Path(folder) / "embeddings.npy"))
    return pd.concat([table, heard], axis=1)


def fit(name, packed, rows, table, config, found, folder):
    """Cross-validate a model by name and keep it in a folder, with out_of_fold.csv.

    Args and result as of `cross_validate`.
    """
    out_of_fold, costs = cross_validate(name, packed, rows, table, config, folder, found)
    artifacts.write_table(Path(folder) / "out_of_fold.csv", out_of_fold)
    return out_of_fold, costs


def answers(name: str, folder, rows: pd.DataFrame, config) -> pd.DataFrame:
    """A model's out-of-fold predictions per recording, from the files of a run."""
    out_of_fold = artifacts.read_table(Path(folder) / "models" / name / "out_of_fold.csv")
    return decisions.of_recordings(out_of_fold, rows, config)
