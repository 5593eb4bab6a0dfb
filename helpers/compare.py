"""Every model by name: trained on the same folds, predicted alike.

A name is a network (``models.NETWORKS``), a model on the feature table (``classic``), or an ensemble of the others:
``soft_vote`` averages their probabilities, ``stacking`` learns from their out-of-fold probabilities how far to trust
each of them (Wolpert 1992, doi:10.1016/S0893-6080(05)80023-1).
"""

from pathlib import Path

import numpy as np
import pandas as pd
import skops.io
from sklearn.linear_model import LogisticRegression

from helpers import artifacts, classic, models, predict, train


def cross_validate(name, packed, rows, table, config, folder, found):
    """Train a model by name, one per round, and predict each test fold.

    Args: name; packed int16 [clips, samples]; rows of waveforms.csv; table the feature table; config; folder that the
        models go to; found what this function returned for the models before, by name.
    Returns (out-of-fold clip probabilities: clip_id, fold and a column per class; costs: train_seconds, ms_per_clip,
    parameters).
    """
    if name in models.NETWORKS:
        return _network(name, packed, rows, config, folder)
    if name in ("soft_vote", "stacking"):
        return _ensemble(name, rows, config, folder, found)
    return classic.cross_validate(name, table, config, folder)


def _network(name, packed, rows, config, folder):
    config = config.with_network(name)
    out_of_fold, history = train.cross_validate(packed, rows, config, folder)
    model, _ = train.load(next(Path(folder).glob("fold*")), config)
    return out_of_fold, predict.costs(model, packed, history)


def _ensemble(name, rows, config, folder, found):
    members = {member: found[member] for member in config.members()}
    tables = [out_of_fold for out_of_fold, _ in members.values()]
    costs = pd.DataFrame([cost for _, cost in members.values()]).sum().round(3).to_dict()
    if name == "soft_vote":
        artifacts.write_json(Path(folder) / "card.json", {"name": name, "members": list(members)})
        return soft_vote(tables), costs
    labels = rows.set_index("clip_id")["label"]
    meta = stack_fit(tables, labels)
    skops.io.dump(meta, Path(folder) / "model.skops")
    artifacts.write_json(Path(folder) / "card.json", {"name": name, "members": list(members)})
    return stack_cross_validate(tables, labels), {**costs, "parameters": costs["parameters"] + meta.coef_.size}


# --- ensembles ---------------------------------------------------------------------------------------------


def soft_vote(tables):
    """The mean of the members' probabilities; tables with clip_id, perhaps fold, and a column per class."""
    aligned = [table.set_index("clip_id") for table in tables]
    mean = sum(table.reindex(aligned[0].index) for table in aligned) / len(aligned)
    if "fold" in mean:
        mean["fold"] = aligned[0]["fold"]
    return mean.reset_index()


def stack_inputs(tables):
    """The members' log probabilities side by side, [clips, members x classes], indexed by clip_id."""
    aligned = [table.set_index("clip_id").drop(columns="fold", errors="ignore") for table in tables]
    return pd.concat([np.log(table.reindex(aligned[0].index).clip(1e-6)) for table in aligned], axis=1)


def stack_fit(tables, labels):
    """The model that weighs the members: a logistic regression on their out-of-fold probabilities."""
    inputs = stack_inputs(tables)
    return LogisticRegression(C=0.02, max_iter=3000).fit(inputs.to_numpy(), labels[inputs.index])


def stack_cross_validate(tables, labels):
    """Out-of-fold probabilities of the stack: each fold is predicted by weights learned on the other folds."""
    parts = []
    for fold in sorted(tables[0]["fold"].unique()):
        meta = stack_fit([table[table["fold"] != fold] for table in tables], labels)
        held_out = [table[table["fold"] == fold] for table in tables]
        parts.append(_stack_table(meta, held_out, tables[0]).assign(fold=fold))
    return pd.concat(parts, ignore_index=True)


def _stack_table(meta, tables, like):
    inputs = stack_inputs(tables)
    classes = [column for column in like if column not in artifacts.IDENTITY]
    found = pd.DataFrame(meta.predict_proba(inputs.to_numpy()), columns=meta.classes_, index=inputs.index)
    return found.reindex(columns=classes, fill_value=0.0).reset_index()


# --- the test side -----------------------------------------------------------------------------------------


def test_probabilities(name, folder, config, packed, rows, table):
    """Class probabilities of test clips by a model of a run: a table clip_id and a column per class.

    Args: name of the model; folder of the run; config; packed int16 [clips, samples]; rows of waveforms.csv;
        table the feature table.
    """
    if name in models.NETWORKS:
        return predict.Bundle(folder, name).predict_packed(packed, rows)
    home = Path(folder) / "models" / name
    if name in ("soft_vote", "stacking"):
        members = artifacts.read_json(home / "card.json")["members"]
        tables = [test_probabilities(member, folder, config, packed, rows, table) for member in members]
        return soft_vote(tables) if name == "soft_vote" else _stack_table(_stack_load(home), tables, tables[0])
    loaded = [classic.load(path) for path in sorted(home.glob("fold*"))]
    clips = table[table["clip_id"].isin(rows["clip_id"])]
    votes = [classic.predict(fitted, card["name"], clips, card["labels"]) for fitted, card in loaded]
    return pd.concat([clips[["clip_id"]].reset_index(drop=True), sum(votes) / len(votes)], axis=1)


def _stack_load(home):
    return skops.io.load(home / "model.skops", trusted=[])
