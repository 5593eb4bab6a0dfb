"""One page that a person can send to a colleague: everything worth knowing of a run, pictures and
sounds inside.

``python -m helpers report --run demo`` makes it again from the run's files (or ``make report
RUN=demo``).
"""

import datetime
from pathlib import Path

import jinja2
import pandas as pd
import yaml
from matplotlib.ticker import MaxNLocator

from helpers.base import artifacts, errors, targets
from helpers.base.settings import Config
from helpers.base.targets import counted
from helpers.compare import learning_curve, rivals
from helpers.metrics import decisions, evaluate, suspects
from helpers.rounds import train
from helpers.run import cautions, journal, stages, worth
from helpers.splits import partition
from helpers.tuning import search
from helpers.view import boards, curves, score_plots
from helpers.view.style import ends

TEMPLATES = Path(__file__).parent
WHOLE = 20  # classes at most of a confusion matrix that is shown whole
MANY = 0.1  # of all mistakes: a source with so many is named, if there are three


def build(folder: Path) -> Path:
    """Write <folder>/report.html from the run's files, return its path.

    Raises StageError if a stage is missing, or a file is not what its stage wrote.
    """
    records = {stage.name: journal.record(folder, stage.name) for stage in stages.STAGES}
    unfinished = [name for name, record in records.items() if record.get("status") != "done"]
    if unfinished:
        raise errors.StageError(
            f"{folder} is not complete: {', '.join(unfinished)} did not finish. Run `make run-all`."
        )
    journal.check_outputs(folder)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "percent": evaluate.percent,
        "words": evaluate.in_words,
        "points": evaluate.points,
        "counted": counted,
    }
    page = environment.get_template("report.html.j2")
    artifacts.write_text(folder / "report.html", page.render(**contents(folder)))
    return folder / "report.html"


def contents(folder: Path) -> dict:
    """What the template shows, read from the run's files alone."""

    def read(name):
        return artifacts.read(folder / name)

    run = read("run.json")
    config = Config(**run["config"])
    rows = read("waveforms.csv")
    recordings = read("recordings.csv")
    sounds = (recordings, read("waveforms.npy"), rows, config)
    board = read("leaderboard.csv")
    artifacts.require(
        evaluate.DIFFERENCE in board, "leaderboard.csv is of an older version: `make run-all` again"
    )
    predictions = read("predictions.csv")
    metrics = read("metrics.json")
    submission = read("submission.csv")
    found = cautions.of(folder)
    more = read("learning_curve.json")
    by_class = evaluate.per_class(
        predictions, config.evaluate.bootstrap_samples, config.seed, config.data.multilabel
    )
    sources = errors_by_source(predictions, recordings)
    taken = confusions(predictions, recordings, config.data.multilabel)
    return {
        "run": run,
        "config": config,
        "settings": _settings(config),
        "name": folder.name,
        "made": _made(run),
        "command": journal.command(folder),
        "metrics": metrics,
        "certificate": read("split_certificate.json"),
        "check": read("submission_check.json"),
        "quarantine": _records(read("quarantine.csv")),
        "duplicates": _records(partition.named(read("duplicates.csv"), recordings)),
        "ignored": recordings.loc[recordings["status"].eq("ignored"), "reason"].value_counts(),
        "summary": summary(folder, board, metrics, by_class, taken, sources, found),
        "cautions": boards.cautions(found).data,
        "balance": _balance(read("balance.csv"), by_class),
        "submission": submission.iloc[:5, :8].to_dict("split"),
        "columns": submission.shape[1],
        "sources": sources,
        **_classes(by_class, taken, config),
        **_models(folder, board, config),
        "search": _search(folder, config),
        **_audits(read("shortcuts.json"), read("leak_gap.json"), config),
        "more": learning_curve.in_words(more).splitlines(),
        "by_size": _by_size(more),
        **_training(pd.DataFrame(read("history.json")), predictions, config),
        "taught": [
            *train.pseudo_labels_in_words(folder, rows, config).splitlines(),
            rivals.taught_in_words(rivals.taught(folder, rows, config), config),
        ],
        **_heard(predictions, read("suspects.csv"), sounds),
    }


def _records(table):
    return table.to_dict("records")


def _made(run):
    """When a run was made, how long it took, and of which data, in words."""
    done = [run["stages"][stage.name] for stage in stages.STAGES]
    ended = max(record.get("ended", 0) for record in done)
    date = datetime.date.fromtimestamp(ended).strftime("%-d %B %Y") if ended else ""
    seconds = sum(record["seconds"] for record in done)
    minutes = f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"
    digest = (run["digests"].get("data") or "")[:12]
    return {
        "date": date,
        "duration": minutes,
        "digest": digest,
        "stages": [{"name": stage.name, "title": stage.title} for stage in stages.STAGES],
    }


def _settings(config):
    """The whole configuration as YAML, without the place of the data on this machine."""
    tree = config.model_dump(mode="json", exclude={"data": {"root"}})
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


# --- the summary


def summary(folder, board, metrics, by_class, taken, sources, found) -> dict:
    """Five sentences: how good, against what, what is hard, can it be trusted, what comes next."""
    facts = cautions.read(folder)
    score = facts.score(facts.metric)
    good = (
        f"The submitted model, {facts.model}, reaches {evaluate.in_words(facts.metric)} "
        f"{evaluate.percent(score)} on {metrics['n_recordings']} recordings from "
        f"{counted(metrics['n_groups'], 'source', 'sources')} that it had not learned from."
    )
    several = facts.config.data.multilabel
    chance = metrics["chance_average_precision" if several else "majority_class_accuracy"]
    nothing = "Random scores give" if several else "Always predicting the largest class gives"
    of = evaluate.in_words(evaluate.HEADLINE[several][0])
    against = f"{nothing} {of} {100 * chance:.1f} %{_others(facts)}."
    bad = [one for one in found if one.level == "red"]
    warned = [one for one in found if one.level == "amber"]
    trust = "Nothing that was checked speaks against these scores."
    if warned:
        amber = counted(len(warned), "amber point", "amber points")
        trust = f"Before you use these results, read the {amber} below."
    if bad:
        red = counted(len(bad), "red point", "red points")
        trust = f"Do not use these results as they are: {red} below."
    following = next((one.do for one in found if one.do), "")
    says = [good, against, _hardest(by_class, taken, sources), trust]
    return {"says": says, "do": following}


def _others(facts):
    """What the other models reach, beside the one that is submitted."""
    others = facts.board[facts.board["model"].ne(facts.model)]
    if others.empty:
        return ""
    best = others.iloc[0]
    told = f"; the best other model, {best['model']}, reaches "
    told += f"{evaluate.in_words(facts.metric)} {100 * best[facts.metric]:.1f} %"
    if best.name == 0:
        tie = facts.row["difference_high"] >= 0
        return told + (", too close to tell" if tie else ", which is clearly better")
    return told + (", too close to tell" if best["difference_high"] >= 0 else ", clearly less")


def _hardest(by_class, taken, sources):
    """The CNN's hardest class, what it is taken for, and whether one source explains it."""
    worst = by_class.iloc[0]
    metric = "average_precision" if "average_precision" in by_class else "recall"
    if worst[metric] == 1:
        return f"No class is hard: the CNN's {evaluate.in_words(metric)} is 100 % for each."
    score = f"{evaluate.in_words(metric)} {100 * worst[metric]:.0f} %"
    says = f"The CNN's hardest class is {worst['label']} ({score}"
    wrong = taken[taken["true"].eq(worst["label"]) & taken["said"].ne(worst["label"])]
    if len(wrong):
        most = wrong.loc[wrong["count"].idxmax()]
        times = counted(most["count"], "time", "times")
        instead = "wrongly adds" if metric == "average_precision" else "predicts instead"
        says += f"; what it {instead} most often is {most['said']}, {times}"
    if sources:
        first = sources[0]
        says += f"); one source alone makes {first['wrong']} of all {first['all']} mistakes"
        return f"{says}."
    return f"{says})."


# --- mistakes


def confusions(predictions: pd.DataFrame, recordings: pd.DataFrame, several: bool) -> pd.DataFrame:
    """Which class is taken for which: a row true, said, count, paths for every pair that occurs.

    With several labels per recording, what is wrongly said counts against every class that is
    there, as in `decisions.confusion`.
    """
    paths = recordings.set_index("recording_id")["path"]
    pairs = []
    for row in predictions.itertuples():
        true = targets.split(row.label, several)
        said = targets.split(row.predicted, several)
        path = paths[row.recording_id]
        pairs += [(a, b, path) for a in true for b in said if a == b or b not in true]
    table = pd.DataFrame(pairs, columns=["true", "said", "path"])
    cells = table.groupby(["true", "said"])["path"].agg(["size", list]).reset_index()
    return cells.rename(columns={"size": "count", "list": "paths"})


def errors_by_source(predictions: pd.DataFrame, recordings: pd.DataFrame) -> list[dict]:
    """The sources that make many of the mistakes, most first: wrong, recordings, all, label, path.

    Many are three at least, and MANY of all.
    """
    wrong = predictions["label"].ne(predictions["predicted"])
    by_source = predictions.assign(wrong=wrong).groupby("group")
    facts = by_source.agg(
        wrong=("wrong", "sum"),
        recordings=("wrong", "size"),
        label=("label", "first"),
        recording_id=("recording_id", "first"),
    )
    facts["path"] = facts["recording_id"].map(recordings.set_index("recording_id")["path"])
    many = facts[facts["wrong"].ge(max(3, MANY * wrong.sum()))]
    most_first = many.sort_values("wrong", ascending=False)
    return _records(
        most_first.assign(all=wrong.sum(), label=most_first["label"].map(targets.in_words))
    )


def _classes(by_class, taken, config):
    """The score of each class, and the confusion matrix, or of many classes its largest cells."""
    metric = evaluate.OF_CLASS[config.data.multilabel]
    counts = by_class["recordings"].map(lambda count: counted(count, "recording", "recordings"))
    notes = counts + ", " + by_class["sources"].map(lambda n: counted(n, "source", "sources"))
    totals = by_class.set_index("label")["recordings"]
    taken = taken.assign(share=taken["count"] / taken["true"].map(totals))
    wrong = taken[taken["true"].ne(taken["said"])]
    small = len(by_class) <= WHOLE
    cells = {(row["true"], row["said"]): row for row in _records(taken)} if small else {}
    return {
        "of_class": metric,
        "by_class": forest(by_class["label"], by_class[ends(metric)], note=notes),
        "labels": sorted(by_class["label"]),
        "cells": cells,
        "exchanged": _records(wrong.nlargest(15, "count")),
    }


def _heard(predictions, ranked, sounds):
    """Cards: a clip of each class, predictions, mistakes, doubted labels."""
    recordings, packed, rows, config = sounds
    worst = decisions.worst(predictions, config.evaluate.worst, config.data.multilabel)
    drawn = decisions.one_of_each(predictions, config)
    return {
        "examples": boards.examples(packed, rows, config).data,
        "predictions": boards.predictions(drawn, *sounds).data,
        "mistakes": boards.predictions(worst, *sounds).data if len(worst) else "",
        "doubted": suspects.in_words(ranked),
        "suspects": boards.doubts(ranked, recordings, packed, rows, config, 6).data,
    }


# --- models and training


def _models(folder, board, config):
    """The leaderboard, and what steps and ingredients are worth where that was measured."""
    shown = evaluate.leaderboard_metrics(config)
    behind = 100 * board[ends(evaluate.DIFFERENCE)]
    rows = artifacts.read(folder / "waveforms.csv")
    return {
        "shown": shown,
        "leaderboard": _records(board.assign(tied=evaluate.ties(board))),
        "board": forest(board["model"], board[ends(shown[0])], hollow=~evaluate.ties(board)),
        "behind": forest(board["model"].iloc[1:], behind.iloc[1:]) if len(board) > 1 else None,
        "ledger": _changes(worth.read_ledger(folder)),
        "ablation": _changes(worth.read_ablation(folder, config, rows)),
    }


def _changes(table):
    """What changes of `worth` do, in points; None where nothing was measured."""
    if table is None:
        return None
    names = table["step"] + ": " + table["setting"] + " → " + table["tried"]
    unclear = table["change_low"].le(0) & table["change_high"].ge(0)
    changes = 100 * table[ends("change")]
    drawn = forest(names, changes, note=table["verdict"], hollow=unclear)
    return {**drawn, "metric": table["metric"].iloc[0]}


def _search(folder, config):
    """What a search said, and its pictures, the settings in two columns; None without one."""
    found = search.read_result(folder, config)
    if not found:
        return None
    result, trials = found
    shares = list(result["importance"].items())
    half = -(-len(shares) // 2)
    columns = {"more": dict(shares[:half]), "less": dict(shares[half:])}
    figures = {
        f"settings that matter {name}": score_plots.tried_settings(trials, part)
        for name, part in columns.items()
        if part
    }
    return {
        "says": result["says"],
        "figures": [boards.svg(figure, name) for name, figure in figures.items()],
    }


def _balance(table, by_class):
    """What helping rare classes does; nothing where no class is rare."""
    counts = by_class["recordings"]
    return _records(table) if counts.max() > cautions.UNEQUAL * counts.mean() else []


def _audits(shortcuts, gap, config):
    """What tells the class without listening, and what a random split would have said."""
    audit = shortcuts["class"]
    facts = pd.DataFrame([*audit["columns"], *audit["kinds"]])
    names = facts["column"].str.replace("_", " ")
    metric = evaluate.headline(config)[0]
    sides = pd.DataFrame([gap[name][metric] for name in ("honest", "leaking")])
    return {
        "shortcuts": shortcuts,
        "facts": forest(names, facts[["auc", "low", "high"]], flagged=facts["flagged"]),
        "gap": rivals.gap_in_words(gap, metric),
        "can_leak": gap["can_leak"],
        "sides": forest(["certified folds", "copies and clips at random"], sides),
    }


def _by_size(found):
    """The learning curves as one picture; None where there were too few recordings to halve."""
    curves = learning_curve.drawn(found)
    if not curves:
        return None
    tables = [pd.DataFrame(curve["sizes"]).assign(model=curve["model"]) for curve in curves]
    points = pd.concat(tables)
    names = points["recordings"].map("{:.0f} recordings".format)
    if len(curves) > 1:
        names = points["model"] + ", " + names
    return forest(names, points[["value", "low", "high"]])


def _training(history, predictions, config):
    """Learning curves, rankings and confidence, as pictures."""
    several = config.data.multilabel
    labels = decisions.class_columns(predictions)
    calibration = decisions.calibration(predictions, multilabel=several)
    figures = {
        "learning curves": score_plots.learning_curves(history, stacked=True),
        "rankings": score_plots.roc_curves(predictions, labels),
        "confidence": score_plots.reliability(*calibration),
    }
    return {
        "curves": curves.in_words(history, config.train),
        "still_falling": curves.still_falling(history, config),
        "figures": {name: boards.svg(figure, name) for name, figure in figures.items()},
    }


# --- pictures that are HTML


def forest(names, scores, **more) -> dict:
    """Scores with their intervals, to be drawn by the template: rows, and the ticks of their axis.

    Args: names [n]; scores table value, low, high [n]; more columns of the rows [n].
    """
    table = pd.DataFrame(scores.to_numpy(float), columns=["value", "low", "high"])
    table["name"] = list(names)
    for key, column in more.items():
        table[key] = list(column)
    locator = MaxNLocator(5, steps=[1, 2, 5, 10])
    lowest = table[["low", "value"]].min().min()
    highest = table[["high", "value"]].max().max()
    ticks = locator.tick_values(lowest, highest)
    return {"rows": _records(table), "ticks": [round(float(tick), 6) for tick in ticks + 0.0]}
