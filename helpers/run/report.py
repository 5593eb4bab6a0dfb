"""One page that a person can send to a colleague: everything worth knowing of a run, pictures and
sounds inside.

``python -m helpers report --run demo`` makes it again from the run's files (or ``make report
RUN=demo``).
"""

from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from helpers.base import artifacts, errors, targets
from helpers.base.settings import Config
from helpers.compare import rivals
from helpers.metrics import decisions, evaluate, suspects
from helpers.run import ablation, cautions, journal, ledger, stages
from helpers.splits import partition
from helpers.view import boards, curves, score_plots

TEMPLATE = Path(__file__).with_name("report.html.j2")


def build(folder):
    """Write <folder>/report.html from the run's files, return its path.

    Raises StageError if a stage is missing, or a file is not what its stage wrote.
    """
    folder = Path(folder)
    run = journal.read_run(folder)
    unfinished = [
        s.name
        for s in stages.STAGES
        if run.get("stages", {}).get(s.name, {}).get("status") != "done"
    ]
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
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        **contents(folder, run)
    )
    artifacts.write_text(folder / "report.html", page)
    return folder / "report.html"


def contents(folder, run):
    """What the template shows, read from the run's files alone."""
    config = Config(**run["config"])
    rows = artifacts.read_table(folder / "waveforms.csv")
    packed = np.load(folder / "waveforms.npy", mmap_mode="r")
    recordings = artifacts.read_table(folder / "recordings.csv")
    quarantine = artifacts.read_table(folder / "quarantine.csv")
    predictions, several = artifacts.read_table(folder / "predictions.csv"), config.data.multilabel
    worst = decisions.worst(predictions, config.evaluate.worst, several)
    each = (
        targets.by_class(predictions, several).groupby("label").sample(1, random_state=config.seed)
    )
    drawn = predictions[predictions["recording_id"].isin(each["recording_id"].head(12))]
    gap = artifacts.read_json(folder / "leak_gap.json")
    board = artifacts.read_table(folder / "leaderboard.csv")
    artifacts.require(
        evaluate.DIFFERENCE in board, "leaderboard.csv is of an older version: `make run-all` again"
    )
    ranked, measured = artifacts.read_table(folder / "suspects.csv"), ledger.read(folder)
    history = pd.DataFrame(artifacts.read_json(folder / "history.json"))
    worth = ablation.read(folder, config, rows)
    submission = pd.read_csv(folder / "submission.csv", dtype=str, keep_default_na=False)
    return {
        "run": run,
        "config": config,
        "name": folder.name,
        "metrics": artifacts.read_json(folder / "metrics.json"),
        "certificate": artifacts.read_json(folder / "split_certificate.json"),
        "check": artifacts.read_json(folder / "submission_check.json"),
        "quarantine": quarantine.to_dict("records"),
        "duplicates": partition.named(
            artifacts.read_table(folder / "duplicates.csv"), recordings
        ).to_dict("records"),
        "shortcuts": artifacts.read_json(folder / "shortcuts.json"),
        "doubted": suspects.in_words(ranked),
        "suspects": boards.doubts(ranked, recordings, packed, rows, config, 6).data,
        "ledger_picture": _changes(measured, "What each cleaning step does"),
        "ledger": [] if measured is None else measured.to_dict("records"),
        "ablation_picture": _changes(worth, "What each ingredient of the recipe does"),
        "ablation": [] if worth is None else worth.to_dict("records"),
        "ignored": recordings.loc[recordings["status"].eq("ignored"), "reason"]
        .value_counts()
        .to_dict(),
        "shown": evaluate.leaderboard_metrics(config),
        "cautions": (found := cautions.of(folder)) and boards.cautions(found).data,
        "leaderboard": board.assign(tied=evaluate.ties(board)).to_dict("records"),
        "balance": artifacts.read_table(folder / "balance.csv").to_dict("records"),
        "gap": rivals.gap_in_words(gap, evaluate.headline(config)[0]),
        "still_falling": curves.still_falling(history, config),
        "can_leak": gap["can_leak"],
        "curves": curves.in_words(history, config.train),
        "columns": submission.shape[1],
        "submission": submission.iloc[:5, :8].to_dict("split"),
        "examples": boards.examples(packed, rows, config).data,
        "predictions": boards.predictions(drawn, recordings, packed, rows, config).data,
        "mistakes": boards.mistakes(worst, recordings, packed, rows, config).data
        if len(worst)
        else "",
        "figures": {
            path.stem: boards.png_uri(path.read_bytes())
            for path in sorted((folder / "figures").glob("*.png"))
        },
        "stages": [
            {"name": s.name, "title": s.title, **run["stages"][s.name]} for s in stages.STAGES
        ],
    }


def _changes(table, title):
    return None if table is None else boards.png_uri(score_plots.changes(table, title))
