"""The one command line, ``python -m helpers <command>``: a run, its parts, and what is done with it
afterwards.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from helpers.audio import recording
from helpers.base import artifacts, work
from helpers.base.errors import AudioIssue, Stop
from helpers.base.settings import Config
from helpers.base.targets import counted
from helpers.compare import hearing, inference
from helpers.data import folders, sources
from helpers.run import ablation, journal, ledger, pipeline, presets, report, stages
from helpers.splits import certificate
from helpers.submission import submit
from helpers.training import processes, train

STOPPED = 130  # by hand, as shells say it


def main(arguments=None):
    """Do a command; an error that says what to do is shown as it is, without where it came from.

    Returns the exit status: 0 done, 1 not ready or failed, 2 what was given cannot be used, 130
        stopped by hand.
    """
    options = vars(parser().parse_args(arguments))
    command, stopped = options.pop("command"), options.pop("stopped")
    try:
        status = command(**options)
        return int(status) if isinstance(status, int) else 0  # what else it returns is for Python
    except Stop as error:
        print(error, file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print(f"\nStopped. {stopped}", file=sys.stderr)
        return STOPPED


def parser():
    """What may be asked for, and how."""
    whole = argparse.ArgumentParser(
        prog="python -m helpers", description="Earshot: from recordings to a submission."
    )
    commands = whole.add_subparsers(metavar="command", required=True)

    def add(name, command, says, stopped="The next call goes on where this one was."):
        part = commands.add_parser(name, help=says, description=says)
        part.set_defaults(command=command, stopped=stopped)
        return part

    part = add(
        "run-all",
        pipeline.run_all,
        "Run the notebooks in order; resume where needed.",
        "The next call starts again at the stage that was running.",
    )
    _add_settings(part)
    part.add_argument(
        "--until", choices=[stage.name for stage in stages.STAGES], help="the last stage to run"
    )
    part.add_argument("--force", action="store_true", help="run every stage, changed or not")

    part = add(
        "train", train_network, "Train a run's network; what was stopped goes on where it was."
    )
    _add_settings(part)
    part.add_argument(
        "--config", help="a whole configuration as JSON, instead of the other settings"
    )

    part = add("predict", predict, "What a trained run hears in recordings, and when.")
    part.add_argument("files", nargs="+", help="recordings: wav, flac, ogg, mp3, m4a, …")
    _add_run(part)
    part.add_argument(
        "--top",
        type=int,
        default=3,
        help="classes shown per file (default: 3); of several labels all",
    )
    part.add_argument(
        "--out",
        help="folder for <stem>.windows.csv, .events.csv and .labels.txt (Audacity) of each",
    )

    part = add("verify", verify, "Prove from a run's files alone that nothing crosses its folds.")
    _add_run(part)

    part = add("report", write_report, "Make a run's report.html again from its files.")
    _add_run(part)

    part = add(
        "ablate",
        ablate,
        "Measure what each cleaning step does to a run's score.",
        "Nothing was written.",
    )
    _add_settings(part)

    part = add(
        "ablation",
        ablate_recipe,
        "Measure what each ingredient of a run's recipe is worth, a training each.",
    )
    _add_settings(part)
    part.add_argument(
        "--seeds",
        type=int,
        default=1,
        help="trainings per row, of which the mean counts (default: 1)",
    )
    part.add_argument("--only", default="", help='only these settings: "train.mix,train.ema"')

    part = add(
        "check", check_submission, "Check any submission against the sample and the test files."
    )
    part.add_argument("file", help="the submission, a CSV")
    part.add_argument(
        "--preset", help="as of make run-all; with --data it is recognised where possible"
    )
    part.add_argument("--data", help="folder of recordings, with the sample submission")
    part.add_argument(
        "--set", dest="settings", default="", help='single settings: "submit.shape=label"'
    )
    return whole


def _add_settings(part):
    """The options by which a command names a run and its settings."""
    known = (
        f"{', '.join(presets.presets())}, or a YAML file (default: demo; folder if --data is given)"
    )
    part.add_argument("--preset", help=known)
    part.add_argument("--data", help="folder of recordings, one sub-folder per class")
    part.add_argument("--run", help="name of the run below outputs/ (default: the preset's name)")
    part.add_argument("--seed", type=int, help="overrides the preset's seed")
    part.add_argument(
        "--fast",
        action="store_true",
        help="a smoke run: everything far too small, seconds for minutes",
    )
    part.add_argument(
        "--set", dest="settings", default="", help='single settings: "train.epochs=20"'
    )


def _add_run(part):
    part.add_argument(
        "--run", default="demo", help="name of the run below outputs/ (default: demo)"
    )


def train_network(run, config=None, **settings):
    """Train the network of 05; under torchrun in as many processes as it started."""
    whole = Config(**artifacts.read_json(config)) if config else presets.load(**settings)
    folder = stages.ready_folder(whole, run)
    with processes.together():
        table, history = train.run(folder, whole, keep=config is None)
        if processes.is_first():
            print(account(table, history, folder))


def account(table, history, folder):
    """What a training made, in a few lines."""
    seconds = sum(record["seconds"] for record in history)
    networks = len({(record["fold"], record.get("seed", 0)) for record in history})
    return (
        f"{networks} networks, {len(history)} epochs, {seconds:.0f} s; {len(table)} clips predicted out of fold.\n"
        f"{folder / 'models' / 'cnn'}; the notebooks (`make run-all`) take it from there."
    )


def predict(files, run, top, out):
    """Say what is heard in files, a line each; 1 if one of them cannot be used."""
    try:
        bundle = inference.Bundle(artifacts.existing_run(run))
        if out:
            Path(out).mkdir(parents=True, exist_ok=True)
    except (ValueError, ImportError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    failed = False

    def answer(file):
        return _answer(bundle, *file, top, out)

    with work.cpu_threads(1):
        for line, usable in work.in_threads(
            answer, list(zip(files, hearing.stems(files), strict=True))
        ):
            print(line, file=sys.stdout if usable else sys.stderr, flush=True)
            failed |= not usable
    return failed


def _answer(bundle, path, stem, top, out):
    """What is said of a file, and whether it could be used; its windows and events are written
    where asked.
    """
    try:
        heard = bundle.hear(path)
        if out:
            heard.write(out, stem)
    except (AudioIssue, OSError) as error:
        return f"{path}: {error}", False
    overall = heard.overall
    best = (
        overall[overall >= bundle.thresholds[overall.index]]
        if bundle.multilabel
        else overall.head(top)
    )
    labels = ", ".join(f"{label} {probability:.1%}" for label, probability in best.items())
    written = f" -> {Path(out) / stem}.*" if out else ""
    return f"{path}: {labels or 'none of the classes'}{written}", True


def verify(run):
    """Verify the split of a run: 1 if something crosses."""
    folder = artifacts.existing_run(run)
    wrong = certificate.verify(folder)
    if wrong:
        print(f"{folder.name}: {counted(len(wrong), 'contradiction', 'contradictions')}", *wrong[:20],
              sep="\n  ", file=sys.stderr)  # fmt: skip
        return 1
    stated = artifacts.read_json(folder / "split_certificate.json")
    print(
        f"{folder.name}: 0 of {stated['n_groups']} groups cross {len(stated['folds'])} folds ({stated['how_folds']})"
    )


def write_report(run):
    """Make a run's report again."""
    print(report.build(artifacts.existing_run(run)))


def ablate(run, **settings):
    """Measure a run's ledger."""
    config = presets.load(**settings)
    print(ledger.shown(ledger.write(config, run)).to_string(index=False))
    print("\nA step stays on only if it helps; an interval that holds 0 shows no difference.")
    print(
        "One or two intervals in twenty miss 0 by chance: confirm a change on a run with another seed."
    )
    folder = journal.run_folder(config, run)
    print(f"{folder / ledger.FILE}; `make report RUN={folder.name}` puts it into the report.")


def ablate_recipe(run, seeds, only, **settings):
    """Measure a run's ablation, keeping each row as it is measured."""
    config = presets.load(**settings)
    folder = stages.ready_folder(config, run)
    for table in ablation.measure(folder, config, seeds, tuple(filter(None, only.split(",")))):
        artifacts.write_table(folder / ablation.FILE, table)
        print(ledger.shown(table.tail(1)).to_string(index=False), flush=True)
    print(f"\n{folder / ablation.FILE}; an interval that holds 0 shows no difference.")


def check_submission(file, **settings):
    """Check any submission: 1 if it would be refused."""
    config = presets.load(**settings)
    root = folders.locate(config)
    recordings = sources.find(root, config.data)
    if config.audio.test_windows:
        test = recordings["split"].eq("test")
        surveyed = recording.survey(root, recordings[test], config.audio.max_seconds)
        recordings = pd.concat([recordings[~test], surveyed])
    wrong, notes, asked = submit.check_file(file, config, root, recordings)
    for line in notes:
        print(f"note: {line}")
    if wrong:
        print(f"{file} would be refused:\n- " + "\n- ".join(wrong), file=sys.stderr)
        return 1
    print(f"{Path(file).name}: {len(asked.rows)} rows of shape {asked.shape}, as asked for.")
