"""Every model by name: trained on the same folds, predicted alike.

A name is a network (``models.NETWORKS``), a model on the feature table (``classic``), or an
ensemble of the others: ``soft_vote`` averages their probabilities, ``stacking`` learns from their
out-of-fold probabilities how far to trust each of them (Wolpert 1992,
doi:10.1016/S0893-6080(05)80023-1).
"""

from pathlib import Path

import numpy as np
import pandas as pd
import skops.io
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from helpers.base import artifacts, targets
from helpers.base.settings import ENSEMBLES
from helpers.compare import classic, inference
from helpers.metrics import decisions, evaluate
from helpers.models import checkpoints
from helpers.training import train


def cross_validate(name, packed, rows, table, config, folder, found):
    """Train a model by name, one per round, and predict each test fold.

    Args: name; packed int16 [clips, samples]; rows of waveforms.csv; table the feature table;
        config; folder that the models go to; found what this function returned for the models
        before, by name.
    Returns (out-of-fold clip probabilities: clip_id, fold and a column per class; costs:
    train_seconds, ms_per_clip, parameters).
    """
    if name in ENSEMBLES:
        return _ensemble(name, rows, config, folder, found)
    if name in classic.NAMES:
        return classic.cross_validate(name, table, config, folder)
    return _network(name, packed, rows, config, folder)


def _network(name, packed, rows, config, folder):
    config = config.with_network(name)
    out_of_fold, history = train.cross_validate(packed, rows, config, folder)
    model, _ = checkpoints.load(next(Path(folder).glob("fold*")), config)
    return out_of_fold, inference.costs(model, packed, history)


def _ensemble(name, rows, config, folder, found):
    members = {member: found[member] for member in config.members()}
    tables = [out_of_fold for out_of_fold, _ in members.values()]
    costs = pd.DataFrame([cost for _, cost in members.values()]).sum().round(3).to_dict()
    if name == "soft_vote":
        artifacts.write_json(Path(folder) / "card.json", {"name": name, "members": list(members)})
        return soft_vote(tables), costs
    labels, several = rows.set_index("clip_id")["label"], config.data.multilabel
    meta = stack_fit(tables, labels, several)
    skops.io.dump(meta, Path(folder) / "model.skops")
    artifacts.write_json(Path(folder) / "card.json", {"name": name, "members": list(members)})
    parts = meta.estimators_ if several else [meta]  # of a class without recordings, a constant
    costs["parameters"] += sum(
        part.coef_.size for part in parts if isinstance(part, LogisticRegression)
    )
    return stack_cross_validate(tables, labels, several), costs


def thresholds(name, folder):
    """From which probability on a model of a run says each class: a Series; for runs with several
    labels.
    """
    found = artifacts.read_json(Path(folder) / "models" / name / "thresholds.json")
    return pd.Series(found, dtype=float)


def megabytes(name, folder, config):
    """Size on disk of a model of a run, per fold; of an ensemble with its members."""
    if name in ENSEMBLES:
        return round(sum(megabytes(member, folder, config) for member in config.members()), 3)
    networks = list((Path(folder) / "models" / name).glob("fold*"))
    folds = {
        path.name.partition("-")[0] for path in networks
    }  # several networks, one per seed, make one fold's model
    return round(
        sum(file.stat().st_size for path in networks for file in path.iterdir()) / len(folds) / 1e6,
        3,
    )


# --- what the split, and what the balance does
# --------------------------------------------------------------


def leak_gap(table, config):
    """What a quick model (the dnn) scores on the certified folds, and what it seems to on a leaking
    split.

    There clips and copies are dealt out at random, so copies of a recording, and other recordings
    of its source, are learned from. Only the split differs. Returns {"honest", "leaking"}, each as
    `evaluate.summary`, and "can_leak": whether there are copies, or sources with several clips, at
    all.
    """
    config = config.model_copy(
        update={"compare": config.compare.model_copy(update={"augmented_copies": True})}
    )
    folds = table["fold"].dropna().unique()
    dealt = pd.Series(np.random.default_rng(config.seed).choice(folds, len(table)), table.index)
    leaking = table.assign(fold=dealt.where(table["fold"].notna()).astype("Int64"))
    found = {
        name: _quick_scores(rows, config)
        for name, rows in (("honest", table), ("leaking", leaking))
    }
    return {**found, "can_leak": bool(table.loc[table["fold"].notna(), "group"].duplicated().any())}


def gap_in_words(gap: dict, metric: str) -> str:
    """What `leak_gap` found for a metric, naming its model, which is not the network."""
    if not gap["can_leak"]:
        return "Nothing can leak here: there are no copies, and every source has one clip."
    seems, honest = (evaluate.percent(gap[name][metric]) for name in ("leaking", "honest"))
    score = evaluate.in_words(metric)
    return (
        "The quick dense network on the feature table, which is not the network of 05: on a random"
        f" split it seems at {score} {seems}, on these folds {honest}. Only the split differs."
    )


def balance_effects(table, config):
    """What each way of helping rare classes does to a quick model (the dnn), on the same folds.

    Returns a table: balance, then the metrics of the leaderboard with their intervals.
    """
    rows = []
    for balance in ("none", "weights", "sampling", "focal"):
        tried = config.model_copy(
            update={"train": config.train.model_copy(update={"balance": balance})}
        )
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


# --- ensembles
# ---------------------------------------------------------------------------------------------


def soft_vote(tables):
    """The mean of the members' probabilities; tables with clip_id, perhaps fold, and a column per
    class.
    """
    aligned = [table.set_index("clip_id") for table in tables]
    mean = sum(table.reindex(aligned[0].index) for table in aligned) / len(aligned)
    if "fold" in mean:
        mean["fold"] = aligned[0]["fold"]
    return mean.reset_index()


def stack_inputs(tables):
    """The members' log odds side by side, [clips, members x classes], indexed by clip_id."""
    aligned = [table.set_index("clip_id").drop(columns="fold", errors="ignore") for table in tables]
    return pd.concat(
        [logit(table.reindex(aligned[0].index).clip(1e-6, 1 - 1e-6)) for table in aligned], axis=1
    )


def stack_fit(tables, labels, multilabel=False):
    """The model that weighs the members: a logistic regression on their out-of-fold probabilities,
    one per class where there are several labels. labels: a Series by clip_id.
    """
    inputs, meta = stack_inputs(tables), LogisticRegression(C=0.02, max_iter=3000)
    if not multilabel:
        return meta.fit(inputs.to_numpy(), labels[inputs.index])
    return OneVsRestClassifier(meta).fit(
        inputs.to_numpy(), targets.matrix(labels[inputs.index], decisions.class_columns(tables[0]))
    )


def stack_cross_validate(tables, labels, multilabel=False):
    """Out-of-fold probabilities of the stack: each fold is predicted by weights learned on the
    other folds.
    """
    parts = []
    for fold in sorted(tables[0]["fold"].unique()):
        meta = stack_fit([table[table["fold"] != fold] for table in tables], labels, multilabel)
        held_out = [table[table["fold"] == fold] for table in tables]
        parts.append(_stack_table(meta, held_out, tables[0]).assign(fold=fold))
    return pd.concat(parts, ignore_index=True)


def _stack_table(meta, tables, like):
    inputs, classes = stack_inputs(tables), decisions.class_columns(like)
    known = classes if isinstance(meta, OneVsRestClassifier) else meta.classes_
    found = pd.DataFrame(meta.predict_proba(inputs.to_numpy()), columns=known, index=inputs.index)
    return found.reindex(columns=classes, fill_value=0.0).reset_index()


# --- the test side
# -----------------------------------------------------------------------------------------


def test_probabilities(name, folder, config, packed, rows, table):
    """Class probabilities of test clips by a model of a run: a table clip_id and a column per
    class.

    Args: name of the model; folder of the run; config; packed int16 [clips, samples]; rows of
        waveforms.csv; table the feature table.
    """
    if name not in (*ENSEMBLES, *classic.NAMES):
        return inference.Bundle(folder, name).predict_packed(packed, rows)
    home = Path(folder) / "models" / name
    if name in ENSEMBLES:
        members = artifacts.read_json(home / "card.json")["members"]
        tables = [
            test_probabilities(member, folder, config, packed, rows, table) for member in members
        ]
        return (
            soft_vote(tables)
            if name == "soft_vote"
            else _stack_table(_stack_load(home), tables, tables[0])
        )
    loaded = [classic.load(path) for path in sorted(home.glob("fold*"))]
    clips = table[table["clip_id"].isin(rows["clip_id"])]
    votes = [classic.predict(fitted, clips) for fitted in loaded]
    return pd.concat([clips[["clip_id"]].reset_index(drop=True), sum(votes) / len(votes)], axis=1)


def _stack_load(home):
    return skops.io.load(home / "model.skops", trusted=["sklearn.multiclass._ConstantPredictor"])
