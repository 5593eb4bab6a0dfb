"""Models on the feature table and on embeddings, on the same folds as the networks.

All have scikit-learn's interface. Nothing is chosen here, so each model is fitted on every fold but
the one it is tested on. Scalers, the medians that missing features are filled with, and calibration
see the training side only; calibration splits by group.
"""

import time
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import skops.io
import torch
import xgboost
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.class_weight import compute_sample_weight

from helpers.audio import features
from helpers.base import artifacts, recipe, targets
from helpers.base.settings import Config
from helpers.compare.table_network import DenseClassifier
from helpers.listeners import embed
from helpers.splits import partition
from helpers.training import losses

# What a calibrated SVM and an imputer hold beside the types that skops trusts by itself.
TRUSTED_TYPES = [
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
]


NEIGHBOURS = 5
DENSE = ("dnn", "listener_mlp")
TREES = ("xgboost", "listener_xgboost", "listener_table_xgboost")


@dataclass
class Fitted:
    """A fitted model, with what is needed to ask it."""

    name: str
    model: object
    labels: list  # all classes of the run, the columns of its answers
    known: list  # those that its training rows held; the others get probability 0
    columns: list  # the features that it sees
    multilabel: bool


def columns_of(name: str, table: pd.DataFrame) -> list[str]:
    """The columns that a model sees: features, MFCC means for the plain linear baseline, embeddings
    or both.
    """
    columns = features.feature_columns(table)
    reads = recipe.reads(name)
    if reads in recipe.HEARD:
        return embed.columns(table) + columns * (reads == "both")
    if name != "mfcc_linear":
        return columns
    return [column for column in columns if column.startswith("mfcc_") and column.endswith("_mean")]


def cross_validate(
    name: str,
    table: pd.DataFrame,
    config: Config,
    folder: Path | None = None,
    plan: list[dict] | None = None,
) -> tuple[pd.DataFrame, dict]:
    """Fit one model per round, predict the clips of its test fold, save it below `folder`/fold<k>.

    Args: name of the model; table the feature table; config; folder that the models go to (None:
        they are not kept); plan rounds as of `partition.rounds`, None: all.
    Returns (out-of-fold clip probabilities: clip_id, fold and a column per class; costs: a dict of
    train_seconds, ms_per_clip and parameters, the means over the rounds).
    """
    labels = targets.classes(table, config.data.multilabel)
    copies = config.compare.augmented_copies
    tables = []
    costs = []
    plan = plan or partition.rounds(table["fold"].dropna(), "last", config.split.test_folds)
    for turn in plan:
        training = partition.fold_rows(table, turn["train"], with_copies=copies)
        test = partition.fold_rows(table, [turn["test"]]).reset_index(drop=True)
        started = time.perf_counter()
        fitted = fit(name, training, labels, config)
        done = time.perf_counter()
        probabilities = predict(fitted, test)
        asked = time.perf_counter() - done
        size = FORMATS[name].size(fitted.model)
        costs.append((done - started, 1000 * asked / len(test), size))
        if folder:
            save(fitted, Path(folder) / f"fold{turn['test']}", turn)
        tables.append(pd.concat([test[["clip_id", "fold"]], probabilities], axis=1))
    costs = pd.DataFrame(costs, columns=["train_seconds", "ms_per_clip", "parameters"])
    return pd.concat(tables, ignore_index=True), costs.mean().round(3).to_dict()


# --- fitting -----------------------------------------------------------------------------------


def fit(name: str, training: pd.DataFrame, labels: list[str], config: Config) -> Fitted:
    """Fit a model by name on rows of the feature table.

    Of rows with the same features and label one is learned from. Rare classes are helped as
    train.balance says; where a model has no focal loss (all but the dnn), it gets class weights
    instead. Raises ValueError for an unknown name.
    """
    recipe.require("model", name, recipe.named(*recipe.TABLES))
    columns = columns_of(name, training)
    training = training.drop_duplicates([*columns, "label"])
    wanted = targets.matrix(training["label"], labels)
    if config.train.balance == "sampling" and name not in DENSE:  # which draw anew in each epoch
        rng = np.random.default_rng(config.seed)
        rows = np.sort(rng.choice(len(wanted), len(wanted), p=chances(wanted)))
        training = training.iloc[rows]
        wanted = wanted[rows]
    share = wanted.mean(axis=0)
    learned = np.flatnonzero((share > 0) & (share < 1))  # both answers are there to learn
    x = values(training, columns)
    model = recipe.MAKERS[name](x, wanted[:, learned], training["group"].to_numpy(), config)
    known = [labels[number] for number in learned]
    return Fitted(name, model, list(labels), known, columns, config.data.multilabel)


def chances(wanted: np.ndarray) -> np.ndarray:
    """How likely each row of target vectors [n, C] is to be drawn so that classes come alike."""
    return losses.sampling_weights(torch.from_numpy(wanted)).numpy()


def values(rows: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """The features of some rows, float32 [n, columns], NaN where they are missing or infinite."""
    x = rows[columns].to_numpy(np.float32)
    return np.where(np.isfinite(x), x, np.nan)


def pipeline(model: BaseEstimator) -> BaseEstimator:
    """Missing features filled, then standardised, then the model."""
    return make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler(), model
    )


def weighting(config: Config) -> str | None:
    """scikit-learn's word for train.balance."""
    return "balanced" if config.train.balance in ("weights", "focal") else None


def by_class(machine: BaseEstimator, config: Config) -> BaseEstimator:
    """Where a recording may have several labels: one machine for each class."""
    return OneVsRestClassifier(machine) if config.data.multilabel else machine


def answers(wanted: np.ndarray, config: Config) -> np.ndarray:
    """What scikit-learn is told: class numbers [n], or of several labels target vectors [n, C]."""
    return wanted if config.data.multilabel else wanted.argmax(axis=1)


@recipe.model("mfcc_linear", reads="table")
@recipe.model("listener_linear", reads="embedding")
def fit_linear(x, wanted, groups, config: Config) -> BaseEstimator:
    """A logistic regression; with several labels one for each class."""
    machine = pipeline(LogisticRegression(max_iter=2000, class_weight=weighting(config)))
    return by_class(machine, config).fit(x, answers(wanted, config))


@recipe.model("listener_knn", reads="embedding")
def fit_neighbours(x, wanted, groups, config: Config) -> BaseEstimator:
    """The nearest neighbours by cosine: NEIGHBOURS, or as many as the rarest class has clips."""
    rarest = int(wanted.sum(axis=0).min())
    count = max(1, min(NEIGHBOURS, rarest))
    machine = pipeline(KNeighborsClassifier(count, metric="cosine"))
    return by_class(machine, config).fit(x, answers(wanted, config))


@recipe.model("svm", reads="table")
def fit_svm(x, wanted, groups, config: Config) -> BaseEstimator:
    """A support vector machine (RBF), its probabilities calibrated by group on the training side.

    Classes of so few sources that a part lacks one cannot be calibrated by group: the distances
    must do.
    """
    balance = weighting(config)
    machine = pipeline(SVC(C=5.0, class_weight=balance, random_state=config.seed))
    largest = wanted.argmax(axis=1)
    folds = calibration_folds(largest, groups, config.seed)
    shares = np.array([wanted[part].mean(axis=0) for part, _ in folds])
    weights = {}
    if ((shares > 0) & (shares < 1)).all():
        machine = CalibratedClassifierCV(machine, method="sigmoid", cv=folds, ensemble=False)
        if balance and not config.data.multilabel:  # else the calibration would undo its weights
            weights = {"sample_weight": compute_sample_weight(balance, largest)}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Since Pipeline does not appear to accept")
        return by_class(machine, config).fit(x, answers(wanted, config), **weights)


def calibration_folds(answers: np.ndarray, groups: np.ndarray, seed: int) -> list:
    """Three splits of the training rows by group, as a list of (train, test) indices."""
    splitter = StratifiedGroupKFold(n_splits=3, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        return list(splitter.split(np.zeros(len(answers)), answers, groups))


@recipe.model("xgboost", reads="table")
@recipe.model("listener_xgboost", reads="embedding")
@recipe.model("listener_table_xgboost", reads="both")
def fit_xgboost(x, wanted, groups, config: Config) -> BaseEstimator:
    """Gradient-boosted trees, 200 of depth 4 per class (Chen & Guestrin 2016, arXiv:1603.02754)."""
    model = xgboost.XGBClassifier(
        n_estimators=200,
        max_depth=4,
        learning_rate=0.1,
        subsample=0.8,
        colsample_bytree=0.5,
        n_jobs=-1,
        random_state=config.seed,
    )
    weights = len(x) * chances(wanted) if weighting(config) else None
    return model.fit(x, answers(wanted, config), sample_weight=weights)


@recipe.model("dnn", reads="table")
@recipe.model("listener_mlp", reads="embedding")
def fit_dnn(x, wanted, groups, config: Config) -> BaseEstimator:
    """The dense network of `table_network`."""
    model = DenseClassifier(config.train.balance, config.data.multilabel, config.seed)
    return model.fit(x, wanted)


# --- predicting ---------------------------------------------------------------------------------


def predict(fitted: Fitted, rows: pd.DataFrame) -> pd.DataFrame:
    """Class probabilities of rows of the feature table: a table with a column per label."""
    x = values(rows, fitted.columns)
    if hasattr(fitted.model, "predict_proba"):
        probabilities = fitted.model.predict_proba(x)
    else:
        probabilities = from_decision(fitted.model, x, fitted.multilabel)
    # of a single class among several labels there may be two columns: no and yes
    yes = probabilities.reshape(len(x), -1)[:, -len(fitted.known) :]
    return pd.DataFrame(yes, columns=fitted.known).reindex(columns=fitted.labels, fill_value=0.0)


def from_decision(model: BaseEstimator, x: np.ndarray, multilabel: bool) -> np.ndarray:
    """Uncalibrated probabilities [rows, C] of a model that only has a decision function."""
    decision = model.decision_function(x)
    if multilabel:
        return expit(decision)
    if decision.ndim == 1:
        decision = np.stack([-decision, decision], axis=1)
    return softmax(decision, axis=1)


# --- files: nothing is pickled -----------------------------------------------------------------


class Skops:
    """Pipelines of scikit-learn; only types that it and NumPy need are loaded."""

    file = "model.skops"

    def save(self, model, path):
        skops.io.dump(model, path)

    def load(self, path, multilabel):
        return skops.io.load(path, trusted=TRUSTED_TYPES)

    def size(self, model):
        """Weights and intercepts, or vectors kept times features, summed over the classes."""
        if isinstance(model, OneVsRestClassifier):
            return sum(self.size(part) for part in model.estimators_)
        if isinstance(model, CalibratedClassifierCV):
            return self.size(model.calibrated_classifiers_[0].estimator)
        last = model[-1]
        if isinstance(last, SVC):
            return last.support_vectors_.size
        if isinstance(last, KNeighborsClassifier):
            return last.n_samples_fit_ * last.n_features_in_
        numbers = [getattr(last, name, ()) for name in ("coef_", "intercept_")]
        return sum(np.size(values) for values in numbers)


class Trees:
    """XGBoost's own format."""

    file = "model.ubj"

    def save(self, model, path):
        model.save_model(path)

    def load(self, path, multilabel):
        model = xgboost.XGBClassifier()
        model.load_model(path)
        return model

    def size(self, model):
        """Nodes of all trees."""
        return len(model.get_booster().trees_to_dataframe())


class Weights:
    """The numbers of a network, as safetensors."""

    file = "model.safetensors"

    def save(self, model, path):
        model.save_model(path)

    def load(self, path, multilabel):
        model = DenseClassifier(multilabel=multilabel)
        model.load_model(path)
        return model

    def size(self, model):
        """Numbers that are learned."""
        return sum(parameter.numel() for parameter in model.network_.parameters())


FORMATS = defaultdict(Skops)  # by name of the model
FORMATS |= dict.fromkeys(TREES, Trees()) | dict.fromkeys(DENSE, Weights())


def save(fitted: Fitted, folder: Path, turn: dict) -> None:
    """Write a fitted model in its format (see FORMATS), with its card."""
    facts = ("name", "labels", "known", "columns", "multilabel")
    card = {name: getattr(fitted, name) for name in facts}
    card["folds"] = {**turn, "train": list(turn["train"])}
    with artifacts.replacing(folder) as temporary:
        temporary.mkdir()
        kind = FORMATS[fitted.name]
        kind.save(fitted.model, temporary / kind.file)
        artifacts.write_json(temporary / "card.json", card)


def load(folder: Path) -> Fitted:
    """A saved model, ready to predict."""
    card = artifacts.read_json(Path(folder) / "card.json")
    card.pop("folds")
    kind = FORMATS[card["name"]]
    return Fitted(model=kind.load(Path(folder) / kind.file, card["multilabel"]), **card)
