"""Models on the feature table, on the same folds as the networks: scikit-learn, XGBoost and a dense
network.

Nothing is chosen here, so each model is fitted on every fold but the one it is tested on. Scalers,
the medians that missing features are filled with, and calibration see the training side only;
calibration splits by group.
"""

import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import skops.io
import torch
import xgboost
from scipy.special import expit, softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.class_weight import compute_sample_weight

from helpers.audio import features
from helpers.base import artifacts, targets
from helpers.compare import table_network
from helpers.splits import partition
from helpers.training import losses

NAMES = ("mfcc_linear", "svm", "xgboost", "dnn")
# What a calibrated SVM and an imputer hold beside the types that skops trusts by itself.
TRUSTED_TYPES = [
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
]


@dataclass
class Fitted:
    """A fitted model, with what is needed to ask it."""

    name: str
    model: object
    labels: list  # all classes of the run, the columns of its answers
    known: list  # those that its training rows held; the others get probability 0
    columns: list  # the features that it sees
    multilabel: bool


def columns_of(name, table):
    """The feature columns that a model sees: MFCC means for the plain linear baseline, else all."""
    columns = features.feature_columns(table)
    return (
        [c for c in columns if c.startswith("mfcc_") and c.endswith("_mean")]
        if name == "mfcc_linear"
        else columns
    )


def cross_validate(name, table, config, folder=None):
    """Fit one model per round, predict the clips of its test fold, save it below `folder`/fold<k>.

    Args: name of the model; table the feature table; config; folder that the models go to (None:
        they are not kept).
    Returns (out-of-fold clip probabilities: clip_id, fold and a column per class; costs: a dict of
    train_seconds, ms_per_clip and parameters, the means over the rounds).
    """
    tables, costs, labels = [], [], targets.classes(table, config.data.multilabel)
    for turn in partition.rounds(table["fold"].dropna(), "last", config.split.test_folds):
        training = partition.fold_rows(
            table, turn["train"], with_copies=config.compare.augmented_copies
        )
        test = partition.fold_rows(table, [turn["test"]])
        started = time.perf_counter()
        fitted = fit(name, training, labels, config)
        done = time.perf_counter()
        probabilities = predict(fitted, test)
        ms_per_clip = 1000 * (time.perf_counter() - done) / len(test)
        costs.append(
            {
                "train_seconds": done - started,
                "ms_per_clip": ms_per_clip,
                "parameters": size(fitted),
            }
        )
        if folder:
            save(fitted, Path(folder) / f"fold{turn['test']}", turn)
        tables.append(
            pd.concat([test[["clip_id", "fold"]].reset_index(drop=True), probabilities], axis=1)
        )
    return pd.concat(tables, ignore_index=True), pd.DataFrame(costs).mean().round(3).to_dict()


# --- fitting
# -----------------------------------------------------------------------------------------------


def fit(name, training, labels, config):
    """Fit a model by name on rows of the feature table: a Fitted.

    Of rows with the same features and label one is learned from. Rare classes are helped as
    train.balance says; where a model has no focal loss (all but the dnn), it gets class weights
    instead. Raises ValueError for an unknown name.
    """
    if name not in NAMES:
        raise ValueError(
            f"{name!r} is no model on the feature table; there are: {', '.join(NAMES)}"
        )
    several, balance = config.data.multilabel, config.train.balance
    columns = columns_of(name, training)
    training = training.drop_duplicates([*columns, "label"])
    wanted, x, groups = (
        targets.matrix(training["label"], labels),
        values(training, columns),
        training["group"].to_numpy(),
    )
    if balance == "sampling" and name != "dnn":  # which draws for itself, anew in each epoch
        chances = losses.sampling_weights(torch.from_numpy(wanted)).numpy()
        drawn = np.sort(np.random.default_rng(config.seed).choice(len(x), len(x), p=chances))
        wanted, x, groups = wanted[drawn], x[drawn], groups[drawn]
    known = [
        c for c in range(len(labels)) if 0 < wanted[:, c].sum() < len(wanted)
    ]  # both answers are there to learn
    model = MAKERS[name](x, wanted[:, known], groups, balance, several, config.seed)
    return Fitted(name, model, list(labels), [labels[c] for c in known], columns, several)


def values(rows, columns):
    """The features of some rows, float32 [n, columns], NaN where they are missing or infinite."""
    x = rows[columns].to_numpy(np.float32)
    return np.where(np.isfinite(x), x, np.nan)


def pipeline(model):
    """Missing features filled, then standardised, then the model."""
    return make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler(), model
    )


def weighting(balance):
    """scikit-learn's word for a balance."""
    return "balanced" if balance in ("weights", "focal") else None


def fit_linear(x, wanted, groups, balance, several, seed):
    """A logistic regression; with several labels one for each class."""
    machine = pipeline(LogisticRegression(max_iter=2000, class_weight=weighting(balance)))
    return (
        OneVsRestClassifier(machine).fit(x, wanted)
        if several
        else machine.fit(x, wanted.argmax(axis=1))
    )


def fit_svm(x, wanted, groups, balance, several, seed):
    """A support vector machine with an RBF kernel, its probabilities calibrated by group on the
    training side.
    """
    machine = pipeline(SVC(C=5.0, class_weight=weighting(balance), random_state=seed))
    folds, answers = calibration_folds(wanted.argmax(axis=1), groups, seed), wanted.argmax(axis=1)
    if all(0 < n < len(part) for part, _ in folds for n in wanted[part].sum(axis=0)):
        machine = CalibratedClassifierCV(machine, method="sigmoid", cv=folds, ensemble=False)
    # Classes of so few sources that a part lacks one cannot be calibrated by group: the distances
    # must do.
    if several:
        return OneVsRestClassifier(machine).fit(x, wanted)
    if not weighting(balance) or not isinstance(machine, CalibratedClassifierCV):
        return machine.fit(x, answers)
    with (
        warnings.catch_warnings()
    ):  # the machine has its class weights; without these the calibration would undo them
        warnings.filterwarnings(
            "ignore", message="Since Pipeline does not appear to accept sample_weight"
        )
        return machine.fit(x, answers, sample_weight=compute_sample_weight("balanced", answers))


def calibration_folds(answers, groups, seed):
    """Three splits of the training rows by group, as a list of (train, test) indices."""
    splitter = StratifiedGroupKFold(n_splits=3, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        return list(splitter.split(np.zeros(len(answers)), answers, groups))


def fit_xgboost(x, wanted, groups, balance, several, seed):
    """Gradient-boosted trees, 200 of depth 4 per class (Chen & Guestrin 2016, arXiv:1603.02754)."""
    options = {
        "n_estimators": 200,
        "max_depth": 4,
        "learning_rate": 0.1,
        "subsample": 0.8,
        "colsample_bytree": 0.5,
    }
    model = xgboost.XGBClassifier(**options, n_jobs=-1, random_state=seed)
    chances = losses.sampling_weights(torch.from_numpy(wanted)).numpy()
    weights = len(x) * chances if weighting(balance) else None
    return model.fit(x, wanted if several else wanted.argmax(axis=1), sample_weight=weights)


def fit_dnn(x, wanted, groups, balance, several, seed):
    """The dense network of `table_network`."""
    return table_network.fit(x, wanted, balance, several, seed)


MAKERS = dict(zip(NAMES, (fit_linear, fit_svm, fit_xgboost, fit_dnn), strict=True))

# --- predicting
# --------------------------------------------------------------------------------------------


def predict(fitted, rows):
    """Class probabilities of rows of the feature table: a table with a column per label."""
    x = values(rows, fitted.columns)
    if fitted.name == "dnn":
        found = table_network.probabilities(fitted.model, x, fitted.multilabel)
    elif hasattr(fitted.model, "predict_proba"):
        found = fitted.model.predict_proba(x)
    else:
        found = from_decision(fitted.model, x, fitted.multilabel)
    found = found.reshape(len(x), -1)[
        :, -len(fitted.known) :
    ]  # of a single class among several labels, its own column
    return pd.DataFrame(found, columns=fitted.known).reindex(columns=fitted.labels, fill_value=0.0)


def from_decision(model, x, multilabel):
    """Uncalibrated probabilities [rows, C] of a model that only has a decision function."""
    decision = model.decision_function(x)
    if multilabel:
        return expit(decision)
    return softmax(
        np.stack([-decision, decision], axis=1) if decision.ndim == 1 else decision, axis=1
    )


# --- files
# -------------------------------------------------------------------------------------------------


def save(fitted, folder, turn):
    """Write a fitted model (skops, safetensors, or XGBoost's own format: nothing is pickled) with
    its card.
    """
    with artifacts.replacing(folder) as temporary:
        temporary.mkdir()
        if fitted.name == "xgboost":
            fitted.model.save_model(temporary / "model.ubj")
        elif fitted.name == "dnn":
            table_network.save(fitted.model, temporary / "model.safetensors")
        else:
            skops.io.dump(fitted.model, temporary / "model.skops")
        card = {
            name: getattr(fitted, name)
            for name in ("name", "labels", "known", "columns", "multilabel")
        }
        artifacts.write_json(
            temporary / "card.json", {**card, "folds": {**turn, "train": list(turn["train"])}}
        )


def load(folder):
    """A saved model: a Fitted. skops loads only the types that scikit-learn and NumPy need."""
    card, folder = artifacts.read_json(Path(folder) / "card.json"), Path(folder)
    card.pop("folds")
    if card["name"] == "xgboost":
        model = xgboost.XGBClassifier()
        model.load_model(folder / "model.ubj")
    elif card["name"] == "dnn":
        model = table_network.load(folder / "model.safetensors")
    else:
        model = skops.io.load(folder / "model.skops", trusted=TRUSTED_TYPES)
    return Fitted(model=model, **card)


def size(fitted):
    """How many numbers a fitted model holds: weights, support vectors times features, or tree
    nodes.
    """
    model = fitted.model
    if fitted.name == "xgboost":
        return len(model.get_booster().trees_to_dataframe())
    if fitted.name == "dnn":
        return sum(parameter.numel() for parameter in model.parameters())
    parts = model.estimators_ if isinstance(model, OneVsRestClassifier) else [model]
    parts = [
        p.calibrated_classifiers_[0].estimator if isinstance(p, CalibratedClassifierCV) else p
        for p in parts
    ]
    last = [part[-1] for part in parts]
    return int(
        sum(
            p.support_vectors_.size if isinstance(p, SVC) else p.coef_.size + p.intercept_.size
            for p in last
        )
    )
