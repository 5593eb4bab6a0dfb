"""Several runs' answers as one: out-of-fold tables joined by file name, and weighed.

A member is a run (its network), ``run/model`` (another model of it), or a CSV with a row per
recording, its file's name and a probability per class, such as predictions.csv of a run that was
made elsewhere. ``other.csv:test.csv`` brings the rows of the test set too, as a submission with a
probability per class has them. ``python -m helpers blend a a/svm other.csv --out both`` (or ``make
blend RUNS="…" OUT=both``) joins them.

The weights, none below 0 and 1 in sum, are those of the likeliest mixture of the members' answers
(Smyth & Wolpert 1999, doi:10.1023/A:1007511322260). For each fold they are learned on the other
folds alone, so the blend is scored on recordings that chose nothing.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from helpers.base import artifacts, tables, targets
from helpers.base.errors import SourceError, StageError, Stop
from helpers.base.settings import Config
from helpers.base.targets import counted
from helpers.compare import rivals
from helpers.data import folders, label_table
from helpers.metrics import decisions, evaluate, scoring
from helpers.splits import partition
from helpers.submission import contract, priors, submit
from helpers.view import score_plots

FILE_COLUMNS = ("path", "file", "filename")  # of a CSV, else its first column names the files
CSV = r"(.+?\.csv)(?::(.+))?"  # answers out of fold and, where there are any, of the test set
LEAST = 1e-6  # what a member says of the right class counts for no less: one mistake is no ban
FOLDS = 5  # dealt out by group where the first run was tested on one fold only
SUM_SLACK = 0.01
BLEND = "the blend"  # rows beside the members; a run's name is one word
MEAN = "equal mean"


# --- members


class Run:
    """A model of a run, "run" or "run/model", as a member.

    `answers`: what it said out of fold, by path: recording_id, fold, label, group, the classes.
    """

    def __init__(self, name: str):
        run, _, model = name.partition("/")
        self.name = name
        self.model = model or "cnn"
        self.folder = artifacts.existing_run(run)
        if not (self.folder / "models" / self.model / "out_of_fold.csv").is_file():
            kept = sorted(path.parent.name for path in self.folder.glob("models/*/out_of_fold.csv"))
            raise StageError(
                f"The run {run} has no answers of a model {self.model}. It has those of: "
                f"{', '.join(kept) or 'none; run 05_train_cnn'}."
            )
        self.config = Config(**artifacts.read_json(self.folder / "run.json")["config"])
        self.rows = artifacts.read_table(self.folder / "waveforms.csv")
        self.recordings = artifacts.read_table(self.folder / "recordings.csv")
        answers = rivals.answers(self.model, self.folder, self.rows, self.config)
        named = decisions.with_paths(answers, self.recordings)
        self.answers = named.set_index(named["path"].map(tables.spelling)).drop(columns="path")

    def contract(self) -> contract.Contract:
        """What a submission must look like. Raises StageError where there is no test set."""
        root = folders.locate(self.config)
        sample = contract.find_sample(root)
        test = self.recordings.query("split == 'test' and status != 'ignored'")
        if test.empty and sample is None:
            raise StageError(f"{self.name} has no test set.")
        return submit.contract_of(root, test, self.rows, self.config, sample)

    def test_rows(self) -> pd.DataFrame:
        """Probabilities of the rows of the submission, by their ids."""
        asked = self.contract()
        packed = np.load(self.folder / "waveforms.npy", mmap_mode="r")
        table = artifacts.read_table(self.folder / "features.csv")
        clips = self.rows.query("split == 'test'")
        told = (self.config, packed, clips, table)
        heard = rivals.test_probabilities(self.model, self.folder, *told)
        root = folders.locate(self.config)
        told = (self.recordings, self.rows, asked.classes, self.config)
        prior = priors.of_run(root, *told)
        rows = submit.row_probabilities(asked, heard, clips, prior, self.config)
        return rows.set_index(asked.rows["id"])


class Table:
    """A CSV, "oof.csv" or "oof.csv:test.csv", as a member.

    `answers`: by file name: the classes; label, fold and group where it has them.
    """

    def __init__(self, name: str):
        path, test = re.fullmatch(CSV, name, re.IGNORECASE).groups()
        self.name = name
        self.test = test
        table = _numbers(Path(path))
        self.answers = table.set_axis([tables.places(name)[0] for name in table.index])

    def test_rows(self) -> pd.DataFrame:
        """Probabilities of the rows of the submission, by their ids."""
        if not self.test:
            raise StageError(f"{self.name} brings no answers to the test set: {self.name}:test.csv")
        return _numbers(Path(self.test))


def member(name: str) -> Run | Table:
    """A member by name: a CSV, or a run. Raises StageError or SourceError where there is none."""
    is_csv = re.fullmatch(CSV, name, re.IGNORECASE)
    return Table(name) if is_csv else Run(name)


def _numbers(path):
    """A CSV with a row per file, by its name, the classes as numbers. Raises SourceError."""
    table = tables.read(path)
    named = next((name for name in FILE_COLUMNS if name in table), table.columns[0])
    table = table.set_index(named)
    if repeated := table.index[table.index.duplicated()].unique().tolist():
        raise SourceError(f"{path} names twice: {_some(repeated)}.")
    classes = decisions.class_columns(table)
    table[classes] = table[classes].apply(pd.to_numeric, errors="coerce").astype(float)
    wrong = ~table[classes].ge(0) | ~table[classes].le(1)
    if wrong.any(axis=None):
        row = wrong.any(axis=1).idxmax()
        raise SourceError(
            f"{path}: {row}, column {wrong.loc[row].idxmax()!r} holds no probability from 0 to 1. "
            "Beside names, labels, folds and groups a table of answers holds classes only."
        )
    return table


# --- one order for all


@dataclass(frozen=True)
class Joined:
    """The members' answers to the same recordings, in one order.

    facts: recording_id, path, fold, label, group of each; tables: its probabilities by member.
    """

    facts: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    config: Config  # of the first run
    notes: tuple[str, ...]  # what is allowed, and worth knowing


def join(members: list) -> Joined:
    """Join members by file name; the first run's recordings, labels, folds and settings count.

    Raises SourceError where files, classes, labels or groups do not fit, saying on which side.
    """
    runs = [one for one in members if isinstance(one, Run)]
    if len(members) < 2 or not runs:
        raise SourceError(
            "A blend needs two members or more, a run among them: its labels, folds and groups "
            f"count. Given: {', '.join(one.name for one in members)}."
        )
    lead = runs[0]
    own = lead.answers.reset_index()
    aligned = {one.name: _aligned(one, lead) for one in members}
    facts = own[["recording_id", "path", "fold", "label"]]
    facts = facts.assign(group=_groups(aligned, facts["recording_id"]))
    several = lead.config.data.multilabel
    notes = ["The recordings are synthetic."] if lead.config.synthetic else []
    notes += _fold_notes(aligned, facts)
    if facts["fold"].nunique() == 1:
        dealt = facts.assign(official_fold=pd.array([pd.NA] * len(facts), "Int64"))
        facts["fold"], how = partition.folds(dealt, FOLDS, lead.config.seed, several)
        notes.append(f"{lead.name} was tested on one fold; the weights are learned on {how}.")
    classes = decisions.class_columns(lead.answers)
    answers = {name: table[classes] for name, table in aligned.items()}
    return Joined(facts, answers, lead.config, tuple(notes))


def _aligned(one, lead):
    """A member's answers in the order of another's, its labels and classes compared."""
    ids = [label_table.id_of(path, one.answers.index) for path in lead.answers.index]
    answered = set(filter(None, ids))
    unanswered = [path for path, name in zip(lead.answers.index, ids, strict=True) if not name]
    _refuse(one, lead, unanswered, "does not answer", "recording")
    _refuse(lead, one, set(one.answers.index) - answered, "does not answer", "recording")
    classes = decisions.class_columns(lead.answers)
    its_classes = decisions.class_columns(one.answers)
    _refuse(one, lead, set(classes) - set(its_classes), "lacks", "class", "classes")
    _refuse(lead, one, set(its_classes) - set(classes), "lacks", "class", "classes")
    if len(answered) < len(ids):
        shared = [name for name in answered if ids.count(name) > 1]
        raise SourceError(f"{one.name} has one row for several files: {_some(sorted(shared))}.")
    table = one.answers.loc[ids].reset_index(drop=True)
    if "label" in table:
        other = table["label"].to_numpy() != lead.answers["label"].to_numpy()
        _refuse(one, lead, lead.answers.index[other], "has other labels for", "recording")
    off = table[classes].sum(axis=1).sub(1).abs().gt(SUM_SLACK)
    if off.any() and not lead.config.data.multilabel:
        raise SourceError(f"{one.name}: the probabilities of {ids[off.argmax()]} do not sum to 1.")
    return table


def _refuse(one, other, names, does, noun, nouns="recordings"):
    """Raise SourceError where there are names that one member has and the other has not."""
    if len(names):
        number = counted(len(names), noun, nouns)
        raise SourceError(f"{one.name} {does} {number} of {other.name}: {_some(sorted(names))}.")


def _some(names):
    return ", ".join(map(str, names[:5])) + (" …" if len(names) > 5 else "")


def _groups(aligned, names):
    """The group of each recording: what any member keeps together is kept together."""
    parts = []
    for number, table in enumerate(aligned.values()):
        if "group" in table:
            own = table["group"].where(table["group"].ne(""), names)
            parts.append(f"{number}-" + pd.Series(pd.factorize(own)[0].astype(str)))
    together = pd.concat(parts, axis=1).agg(targets.SEPARATOR.join, axis=1)
    told = {"recording_id": names, "source": "", "pcm_sha256": "", "together": together}
    return partition.groups(pd.DataFrame(told))


def _fold_notes(aligned, facts):
    """What to know of the members' folds. Raises SourceError where a group lies in several."""
    for name, table in aligned.items():
        if "fold" not in table:
            yield f"{name} names no folds: whether its answers are out of fold is for you to know."
            continue
        folds = pd.DataFrame({"group": facts["group"], "fold": table["fold"].astype(str)})
        if crossing := partition.crossing(folds):
            paths = facts.loc[facts["group"].eq(crossing[0]), "path"].tolist()
            raise SourceError(
                f"{counted(len(crossing), 'source lies', 'sources lie')} in several folds of "
                f"{name}, which has learned from what it was tested on: {_some(paths)} belong "
                "together. Train it on folds that keep them together (data.group_columns)."
            )
        if folds["fold"].ne(facts["fold"].astype(str)).any():
            yield f"The folds of {name} are others than the first run's; no source crosses them."


# --- weights


def likelihoods(joined: Joined) -> np.ndarray:
    """How probable each member found the truth: [members, answers].

    Of one label an answer is a recording's; of several it is whether a class is there, of each.
    """
    classes = list(next(iter(joined.tables.values())))
    truth = targets.matrix(joined.facts["label"], classes) > 0
    said = np.stack([table.to_numpy() for table in joined.tables.values()])
    if joined.config.data.multilabel:
        of_truth = np.where(truth, said, 1 - said)
    else:
        of_truth = said[:, truth][:, :, None]
    return np.clip(of_truth, LEAST, 1)


def weigh(likely: np.ndarray) -> np.ndarray:
    """The weights of the likeliest mixture: float [members], none below 0, sum 1.

    Args: likely [members, ...] of `likelihoods`. The log loss is convex in them.

    >>> weigh(np.array([[0.9, 0.8, 0.9], [0.2, 0.3, 0.1]])).round(3).tolist()
    [1.0, 0.0]
    """
    flat = likely.reshape(len(likely), -1)
    found = minimize(
        lambda weights: -np.log(weights @ flat).mean(),
        np.full(len(flat), 1 / len(flat)),
        jac=lambda weights: -(flat / (weights @ flat)).mean(axis=1),
        method="SLSQP",
        bounds=[(0, 1)] * len(flat),
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
        options={"ftol": 1e-10, "maxiter": 200},
    )
    weights = np.clip(found.x, 0, 1)
    return weights / weights.sum()


def weights(joined: Joined) -> pd.DataFrame:
    """The weights by member: "all", learned on all recordings, then those that score each fold,
    learned on the other folds.
    """
    likely = likelihoods(joined)
    columns = {"all": weigh(likely)}
    for fold in sorted(joined.facts["fold"].unique()):
        others = joined.facts["fold"].ne(fold).to_numpy()
        columns[f"fold {fold}"] = weigh(likely[:, others])
    return pd.DataFrame(columns, index=list(joined.tables))


def mixed(tables: dict[str, pd.DataFrame], weights: pd.Series, by: str) -> pd.DataFrame:
    """The weighed mean of the members' probabilities, or of the ranks (0 to 1) in each column."""
    if by == "rank":
        tables = {name: table.rank(pct=True) for name, table in tables.items()}
    return sum(weights[name] * table for name, table in tables.items())


def predictions(joined: Joined, weighed: pd.DataFrame, by: str) -> dict[str, pd.DataFrame]:
    """Tables of predictions by name: the members, their equal mean, and the blend, each fold with
    the weights that the other folds chose.

    Args: weighed of `weights`; by "probability" or "rank".
    """
    facts = joined.facts
    several = joined.config.data.multilabel
    equal = pd.Series(1 / len(weighed), weighed.index)
    parts = []
    for fold, rows in facts.groupby("fold").groups.items():
        whole = mixed(joined.tables, weighed[f"fold {fold}"], by)
        parts.append(whole.loc[rows])
    blend = pd.concat(parts).loc[facts.index]
    answers = {**joined.tables, MEAN: mixed(joined.tables, equal, by), BLEND: blend}
    return {name: decisions.answered(facts, table, several) for name, table in answers.items()}


# --- the submission


def test_rows(members: list, weights: pd.Series, by: str):
    """The blend of the members' answers to the test set, in the order of the first run's contract.

    Returns (the Contract, probabilities of its rows). Raises StageError where a member has none,
    SourceError where ids or classes do not fit.
    """
    lead = next(one for one in members if isinstance(one, Run))
    asked = lead.contract()
    ids = asked.rows["id"]
    columns = {asked.settings.column.format(label=name): name for name in asked.classes}
    answers = {}
    for one in members:
        table = one.test_rows().rename(columns=columns)
        missing = [name for name in ids if name not in table.index]
        _refuse(one, lead, missing, "does not answer", "row", "test rows")
        missing = [name for name in asked.classes if name not in table]
        _refuse(one, lead, missing, "lacks", "class", "classes")
        answers[one.name] = table.loc[ids, list(asked.classes)].reset_index(drop=True)
    return asked, mixed(answers, weights, by)


# --- files


def write(names: list[str], out: str, by: str = "probability") -> list[str]:
    """Blend members and write outputs/<out>: predictions.csv, leaderboard.csv, weights.csv and
    .png and, where all of them answer the test set, submission.csv.

    Args: names of members; out a word; by "probability", or "rank" for metrics that rank.
    Returns what to say of it, in lines.
    """
    folder = artifacts.home() / "outputs" / out
    if (folder / "run.json").exists() or not re.fullmatch(r"\w[\w.-]*", out):
        raise StageError(f"{out!r} is a run, or no word: --out names the blend's own folder.")
    members = [member(name) for name in dict.fromkeys(names)]
    joined = join(members)
    metric = evaluate.headline(joined.config)[0]
    ranks = metric in scoring.METRICS and scoring.METRICS[metric].judges == "scores"
    if by == "rank" and not ranks:
        raise StageError(f"Ranks are for metrics that rank; {evaluate.in_words(metric)} does not.")
    weighed = weights(joined)
    scored = predictions(joined, weighed, by)
    board = evaluate.leaderboard(scored, {}, joined.config, against=BLEND)
    artifacts.write_table(folder / "predictions.csv", scored[BLEND])
    artifacts.write_table(folder / "leaderboard.csv", board)
    artifacts.write_table(folder / "weights.csv", weighed.rename_axis("member").reset_index())
    with artifacts.replacing(folder / "weights.png") as path:
        score_plots.weights(weighed).savefig(path, dpi=150, format="png")
    several = joined.config.data.multilabel
    thresholds = decisions.own_thresholds(scored[BLEND]) if several else None
    (folder / "submission.csv").unlink(missing_ok=True)
    try:
        asked, rows = test_rows(members, weighed["all"], by)
        submission = submit.build(asked, rows, thresholds)
        submit.write(submission, folder / "submission.csv", asked)
        sent = f"submission.csv: {len(submission)} rows of shape {asked.shape}, checked."
    except Stop as reason:
        sent = f"No submission: {reason}"
    said = in_words(board, weighed, metric)
    return [*joined.notes, *said, sent, f"All of it is in {folder}."]


def in_words(board: pd.DataFrame, weighed: pd.DataFrame, metric: str) -> list[str]:
    """The table of scores and weights, and what the blend is worth, in lines.

    Args: board of `evaluate.leaderboard` against the blend; weighed of `weights`; metric the first.
    """
    read = evaluate.with_intervals(board).set_index("model")
    spread = weighed.drop(columns="all").agg(["min", "max"], axis=1)
    columns = {
        evaluate.in_words(metric): read[metric],
        "minus the blend, points": read.iloc[:, -1].drop(BLEND),
        "weight": weighed["all"].map("{:.2f}".format),
        "by fold": spread.apply("{0[min]:.2f} to {0[max]:.2f}".format, axis=1),
    }
    shown = pd.DataFrame(columns).reindex(read.index).rename_axis(None)
    best = board[board["model"].isin(weighed.index)].iloc[0]
    gain = -best[evaluate.DIFFERENCE], -best["difference_high"], -best["difference_low"]
    clear = "" if gain[1] > 0 else ": no clear gain"
    against = f"The blend against its best member, {best['model']}, in points"
    return [shown.fillna("").to_string(), f"{against}: {evaluate.points(*gain)}{clear}."]
