"""What is known of a recording before anything is heard: how often each class is, there and then.

Where names or tables tell where or when recordings were made (submit.prior_pattern and
submit.prior_columns), the classes that were frequent there become likelier, and the others less
likely (Bayes' rule; each fact by itself, as naive Bayes has it).
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from helpers.base import tables, targets
from helpers.base.errors import ConfigError
from helpers.base.settings import Config
from helpers.data import label_table
from helpers.layouts import annotations
from helpers.metrics import decisions, evaluate

TRUST = 10  # recordings: a place with so many counts as much as all places together


@dataclass(frozen=True)
class Prior:
    """What is known of recordings before they are heard.

    shares: of the training recordings, those with each class; moved: by how much the facts of a
        recording move each class, a row per recording_id as of `moves`; None: there are no facts.
    """

    shares: pd.Series
    moved: pd.DataFrame | None = None

    def applied(self, probabilities: pd.DataFrame, recordings, config: Config) -> pd.DataFrame:
        """The probabilities of the rows of a submission [n, C], with what is known of them.

        Args: probabilities, NaN where nothing was heard; recordings their ids; config.
        """
        filled = probabilities.fillna(self.shares)
        if self.moved is None:
            return filled
        by_row = self.moved.reindex(recordings)[list(filled)].fillna(0.0)
        moved = config.submit.prior_weight * by_row.to_numpy()
        return _moved(filled, moved, config.data.multilabel)


def _moved(probabilities, moves, multilabel):
    if multilabel:
        return probabilities.map(logit).add(moves).map(expit)
    weighed = probabilities * np.exp(moves)
    return weighed.div(weighed.sum(axis=1), axis=0)


def shares(labels: pd.Series, classes) -> pd.Series:
    """The share of the recordings with each class: said of what cannot be heard."""
    return pd.Series(targets.matrix(labels, classes).mean(axis=0), index=list(classes), dtype=float)


def facts(root: str | Path, recordings: pd.DataFrame, config: Config) -> pd.DataFrame:
    """What is told of recordings: a column per fact, "" where it is not, by recording_id.

    Args: root data folder; recordings with recording_id and path; config. Raises SourceError.
    """
    told = pd.DataFrame(index=recordings.index)
    if pattern := config.submit.prior_pattern:
        names = list(re.compile(pattern).groupindex)
        told = recordings["path"].str.extract(pattern)[names]
    for column in config.submit.prior_columns:
        told[column] = recordings["path"].map(_cells(root, recordings["path"], column, config))
    return told.fillna("").set_index(recordings["recording_id"])


def _cells(root, paths, column, config):
    """What the tables of labels and of the test set say in a column, by path."""
    data = config.data
    named = [name for name in (*data.tables, data.test_csv, config.submit.rows_csv) if name]
    there = [name for name in named if (Path(root) / name).is_file()]
    found = {}
    for table in (annotations.read(root, name) for name in there):
        if column not in table:
            continue
        ids = table[data.id_column if data.id_column in table else table.columns[0]]
        cells = dict(zip(ids.map(tables.spelling), table[column], strict=True))
        below = label_table.below(cells, paths)
        cells = {below.get(name, name): cell for name, cell in cells.items()}
        ids_of = {path: label_table.id_of(path, cells) for path in paths}
        found |= {path: cells[name] for path, name in ids_of.items() if name}
    return found


def learn(labels: pd.Series, told: pd.DataFrame, classes, multilabel: bool = False) -> dict:
    """How each value of each fact moves the classes: {fact: {value: {class: by how much}}}.

    The share of a class there, drawn to its share everywhere as if TRUST recordings more had been
    made there, against its share everywhere: as a difference of logarithms, with several labels of
    log odds. Args: labels of training recordings, and what is `told` of them, in one order.

    >>> told = pd.DataFrame({"site": ["sea"] * 10 + ["wood"] * 10})
    >>> labels = pd.Series(["gull"] * 10 + ["wren"] * 10)
    >>> learned = learn(labels, told, ["gull", "wren"])
    >>> {name: float(np.exp(by).round(2)) for name, by in learned["site"]["sea"].items()}
    {'gull': 1.5, 'wren': 0.5}
    """
    held = pd.DataFrame(targets.matrix(labels, classes), columns=list(classes))
    everywhere = (held.sum() + 1 / len(held.columns)) / (len(held) + 1)
    scale = logit if multilabel else np.log
    learned = {}
    for fact in told:
        there = held.groupby(told[fact].to_numpy())
        drawn = there.sum() + TRUST * everywhere
        share = drawn.div(there.size() + TRUST, axis=0)
        by_value = scale(share) - scale(everywhere)
        learned[fact] = by_value.drop(index="", errors="ignore").to_dict("index")
    return learned


def moves(learned: dict, told: pd.DataFrame, classes) -> pd.DataFrame:
    """By how much what is told of recordings moves each class: [n, C], 0 for unknown values."""
    total = pd.DataFrame(0.0, told.index, list(classes))
    for fact in told:
        by_value = pd.DataFrame.from_dict(learned.get(fact, {}), "index", columns=list(classes))
        total += by_value.reindex(told[fact]).fillna(0.0).to_numpy()
    return total


def asked(config: Config) -> bool:
    """Whether a preset wants more to be known than the shares of the classes."""
    return bool(config.submit.prior_pattern or config.submit.prior_columns)


def training(rows: pd.DataFrame) -> pd.DataFrame:
    """The training recordings among rows of waveforms.csv."""
    return rows.query("split == 'train'").drop_duplicates("recording_id")


def learned_by(root, recordings: pd.DataFrame, rows: pd.DataFrame, classes, config) -> dict:
    """What a run's training recordings teach, as of `learn`; {} where no facts are asked for.

    Raises ConfigError for a fact that is told of none of them; of test recordings it may be.
    """
    if not asked(config):
        return {}
    train = training(rows)
    paths = recordings[recordings["recording_id"].isin(train["recording_id"])]
    told = facts(root, paths, config).loc[train["recording_id"]]
    if untold := [fact for fact in told if told[fact].eq("").all()]:
        raise ConfigError(
            f"submit.prior_pattern and submit.prior_columns: {', '.join(untold)} is told of no "
            f"training recording, such as {paths['path'].iloc[0]!r}."
        )
    return learn(train["label"], told, classes, config.data.multilabel)


def of_run(root, recordings: pd.DataFrame, rows: pd.DataFrame, classes, config) -> Prior:
    """What is known of a run's recordings. Args: root data folder; rows of waveforms.csv."""
    everywhere = shares(training(rows)["label"], classes)
    learned = learned_by(root, recordings, rows, classes, config)
    return of_files(root, recordings, everywhere, learned, config)


def of_files(root, files: pd.DataFrame, everywhere: pd.Series, learned: dict, config) -> Prior:
    """What is known of files. Args: files with recording_id and path; everywhere the shares of the
    classes; learned of `learned_by`.
    """
    if not learned:
        return Prior(everywhere)
    return Prior(everywhere, moves(learned, facts(root, files, config), everywhere.index))


def worth(answers: pd.DataFrame, root, recordings: pd.DataFrame, config) -> pd.DataFrame:
    """What knowing each fact does to the answers out of fold: a table for reading.

    Each fold's is learned from the recordings of the others. Args: answers of a model per
        recording; root data folder; recordings; config. Of no rows where no facts are asked for.
    """
    if not asked(config):
        return pd.DataFrame()
    classes = decisions.class_columns(answers)
    told = facts(root, recordings, config).loc[answers["recording_id"]]
    rows = []
    for chosen in [[fact] for fact in told] + [list(told)] * (told.shape[1] > 1):
        toggled = _known(answers, told[chosen], classes, config)
        change = evaluate.paired_change([answers], [toggled], config)
        reached = {"without": change["reference"], "with": change["toggled"]}
        points = evaluate.points(change["change"], change["change_low"], change["change_high"])
        rows.append({"known": " and ".join(chosen), **reached, "change, points": points})
    return pd.DataFrame(rows)


def _known(answers, told, classes, config):
    """The answers with what is told of each fold's recordings, learned from the other folds'."""
    several = config.data.multilabel
    moved = pd.DataFrame(0.0, answers.index, classes)
    for fold in answers["fold"].unique():
        inside = answers["fold"].eq(fold).to_numpy()
        learned = learn(answers["label"][~inside], told[~inside], classes, several)
        moved[inside] = moves(learned, told[inside], classes).to_numpy()
    weight = config.submit.prior_weight
    probabilities = _moved(answers[classes], weight * moved.to_numpy(), several)
    kept = answers.drop(columns=["predicted", *classes])
    return decisions.answered(kept, probabilities, several)
