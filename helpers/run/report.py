"""One page that a person can send to a colleague: everything worth knowing of a run, pictures and
sounds inside.

``python -m helpers report --run demo`` makes it again from the run's files (or ``make report
RUN=demo``).
"""

from pathlib import Path

import jinja2
import pandas as pd

from helpers.base import artifacts, errors
from helpers.base.settings import Config
from helpers.compare import rivals
from helpers.metrics import decisions, evaluate, suspects
from helpers.run import cautions, journal, stages, worth
from helpers.splits import partition
from helpers.view import boards, curves, score_plots

TEMPLATE = Path(__file__).with_name("report.html.j2")


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
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "percent": evaluate.percent,
        "words": evaluate.in_words,
        "points": evaluate.points,
    }
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    artifacts.write_text(folder / "report.html", page.render(**contents(folder)))
    return folder / "report.html"


def contents(folder: Path) -> dict:
    """What the template shows, read from the run's files alone."""

    def read(name):
        return artifacts.read(folder / name)

    def records(table):
        return table.to_dict("records")

    run = read("run.json")
    config = Config(**run["config"])
    rows = read("waveforms.csv")
    packed = read("waveforms.npy")
    recordings = read("recordings.csv")
    predictions = read("predictions.csv")
    worst = decisions.worst(predictions, config.evaluate.worst, config.data.multilabel)
    gap = read("leak_gap.json")
    board = read("leaderboard.csv")
    artifacts.require(
        evaluate.DIFFERENCE in board, "leaderboard.csv is of an older version: `make run-all` again"
    )
    ranked = read("suspects.csv")
    history = pd.DataFrame(read("history.json"))
    ablation = worth.read_ablation(folder, config, rows)
    submission = read("submission.csv")
    ignored = recordings.loc[recordings["status"].eq("ignored"), "reason"]
    clips = (recordings, packed, rows, config)
    return {
        "run": run,
        "config": config,
        "name": folder.name,
        "metrics": read("metrics.json"),
        "certificate": read("split_certificate.json"),
        "check": read("submission_check.json"),
        "quarantine": records(read("quarantine.csv")),
        "duplicates": records(partition.named(read("duplicates.csv"), recordings)),
        "shortcuts": read("shortcuts.json"),
        "doubted": suspects.in_words(ranked),
        "suspects": boards.doubts(ranked, *clips, 6).data,
        "ledger": _measured(worth.read_ledger(folder), "What each cleaning step does"),
        "ablation": _measured(ablation, "What each ingredient of the recipe does"),
        "ignored": ignored.value_counts().to_dict(),
        "shown": evaluate.leaderboard_metrics(config),
        "cautions": (found := cautions.of(folder)) and boards.cautions(found).data,
        "leaderboard": records(board.assign(tied=evaluate.ties(board))),
        "balance": records(read("balance.csv")),
        "gap": rivals.gap_in_words(gap, evaluate.headline(config)[0]),
        "still_falling": curves.still_falling(history, config),
        "can_leak": gap["can_leak"],
        "curves": curves.in_words(history, config.train),
        "columns": submission.shape[1],
        "submission": submission.iloc[:5, :8].to_dict("split"),
        "examples": boards.examples(packed, rows, config).data,
        "predictions": boards.predictions(decisions.one_of_each(predictions, config), *clips).data,
        "mistakes": boards.predictions(worst, *clips).data if len(worst) else "",
        "figures": {
            path.stem: boards.png_uri(path.read_bytes())
            for path in sorted((folder / "figures").glob("*.png"))
        },
        "stages": [
            {"name": stage.name, "title": stage.title, **run["stages"][stage.name]}
            for stage in stages.STAGES
        ],
    }


def _measured(table, title):
    """A table of `worth` and its picture, or nothing where nothing was measured."""
    if table is None:
        return {}
    picture = boards.png_uri(score_plots.changes(table, title))
    return {"rows": table.to_dict("records"), "picture": picture}
