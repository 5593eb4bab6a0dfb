"""scikit-learn and XGBoost models on the feature table, on the same folds as the network.

Nothing is chosen here, so each model is fitted on every fold but the one it is tested on. Scalers and calibration
see the training side only; calibration splits by group.
"""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import skops.io
import xgboost
from scipy.special import softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, StandardScaler
from sklearn.svm import SVC

from helpers import artifacts, features, split, train

# What a calibrated SVM and a trained DNN hold beside the types that skops trusts by itself.
TRUSTED_TYPES = [
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
]


def columns_of(name, table):
    """The feature columns that a model sees: MFCC means for the plain linear baseline, else all."""
    columns = features.feature_columns(table)
    return [c for c in columns if c.startswith("mfcc_") and c.endswith("_mean")] if name == "mfcc_linear" else columns


def make(name, labels, groups, seed):
    """An unfitted classifier by name; labels and groups of the training rows shape the SVM's calibration folds."""
    if name == "mfcc_linear":
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    if name == "dnn":
        layers = {"hidden_layer_sizes": (256, 128), "alpha": 1e-3, "max_iter": 60, "random_state": seed}
        return make_pipeline(StandardScaler(), MLPClassifier(**layers))
    if name == "svm":
        machine = make_pipeline(StandardScaler(), SVC(C=5.0, class_weight="balanced", random_state=seed))
        folds = calibration_folds(labels, groups, seed)
        if any(len(set(labels[learned])) < len(set(labels)) for learned, _ in folds):
            return machine  # a class of so few sources cannot be calibrated by group: softmax must do
        return CalibratedClassifierCV(machine, method="sigmoid", cv=folds, ensemble=False)
    return xgboost.XGBClassifier(
        n_estimators=200,
        max_depth=4,
        learning_rate=0.1,
        subsample=0.8,
        colsample_bytree=0.5,
        n_jobs=-1,
        random_state=seed,
    )


def calibration_folds(labels, groups, seed):
    """Three splits of the training rows by group, as a list of (train, test) indices."""
    splitter = StratifiedGroupKFold(n_splits=3, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(labels)), labels, groups))


def cross_validate(name, table, config, folder):
    """Fit one model per round, predict the clips of its test fold, save it below `folder`/fold<k>.

    Args: name of the model; table the feature table; config; folder that the models go to.
    Returns (out-of-fold clip probabilities: clip_id, fold and a column per class; costs: a dict of train_seconds,
    ms_per_clip and parameters, the means over the rounds).
    """
    labels = sorted(table.loc[table["split"].eq("train"), "label"].unique())
    encoder, tables, costs = LabelEncoder().fit(labels), [], []
    for turn in split.rounds(table["fold"].dropna(), "last"):
        training = train.fold_rows(table, turn["train"], with_copies=config.compare.augmented_copies)
        test = train.fold_rows(table, [turn["test"]])
        started = time.perf_counter()
        model = fit(name, training, encoder, config.seed)
        fitted = time.perf_counter()
        probabilities = predict(model, name, test, labels)
        ms_per_clip = 1000 * (time.perf_counter() - fitted) / len(test)
        costs.append({"train_seconds": fitted - started, "ms_per_clip": ms_per_clip, "parameters": size(model)})
        save(model, Path(folder) / f"fold{turn['test']}", name, labels, columns_of(name, table), turn)
        tables.append(pd.concat([test[["clip_id", "fold"]].reset_index(drop=True), probabilities], axis=1))
    return pd.concat(tables, ignore_index=True), pd.DataFrame(costs).mean().round(3).to_dict()


def fit(name, training, encoder, seed):
    """Fit a model on rows of the feature table. Classes that its training folds lack get probability 0 later."""
    targets = encoder.transform(training["label"])
    present = np.unique(targets)
    model = make(name, targets, training["group"], seed)
    model.fit(training[columns_of(name, training)].to_numpy(np.float32), np.searchsorted(present, targets))
    return model, encoder.classes_[present]


def predict(fitted, name, rows, labels):
    """Class probabilities of rows of the feature table: a table with a column per label."""
    model, present = fitted
    x = rows[columns_of(name, rows)].to_numpy(np.float32)
    probabilities = model.predict_proba(x) if hasattr(model, "predict_proba") else softmax_decision(model, x)
    return pd.DataFrame(probabilities, columns=present).reindex(columns=labels, fill_value=0.0)


def softmax_decision(model, x):
    """Uncalibrated probabilities [rows, C] of a model that only has a decision function."""
    decision = model.decision_function(x)
    return softmax(np.stack([-decision, decision], axis=1) if decision.ndim == 1 else decision, axis=1)


def save(fitted, folder, name, labels, columns, turn):
    """Write a fitted model (skops, or XGBoost's own JSON: nothing is pickled) with its card."""
    model, present = fitted
    with artifacts.replacing(folder) as temporary:
        temporary.mkdir()
        if name == "xgboost":
            model.save_model(temporary / "model.ubj")
        else:
            skops.io.dump(model, temporary / "model.skops")
        card = {"name": name, "labels": labels, "present": list(present), "columns": columns}
        artifacts.write_json(temporary / "card.json", {**card, "folds": {**turn, "train": list(turn["train"])}})


def load(folder):
    """A saved model: ((model, labels it knows), card). skops loads only the types that scikit-learn and NumPy need."""
    card = artifacts.read_json(Path(folder) / "card.json")
    if card["name"] == "xgboost":
        model = xgboost.XGBClassifier()
        model.load_model(Path(folder) / "model.ubj")
    else:
        model = skops.io.load(Path(folder) / "model.skops", trusted=TRUSTED_TYPES)
    return (model, np.array(card["present"])), card


def size(fitted):
    """How many numbers a fitted model holds: weights, support vectors times features, or tree nodes."""
    model = fitted[0]
    if isinstance(model, xgboost.XGBClassifier):
        return len(model.get_booster().trees_to_dataframe())
    last = (model.calibrated_classifiers_[0].estimator if isinstance(model, CalibratedClassifierCV) else model)[-1]
    if isinstance(last, MLPClassifier):
        return int(sum(weights.size for weights in (*last.coefs_, *last.intercepts_)))
    return int(last.support_vectors_.size if isinstance(last, SVC) else last.coef_.size + last.intercept_.size)
