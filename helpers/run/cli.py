"""The one command line, ``python -m helpers <command>``: a run, its parts, and what comes after."""

import argparse
import sys
from pathlib import Path

import pandas as pd

from helpers.audio import recording, windowing
from helpers.base import artifacts, work
from helpers.base.errors import AudioIssue, ConfigError, Stop
from helpers.base.settings import Config
from helpers.base.targets import counted
from helpers.compare import hearing, inference
from helpers.data import folders, public, sources
from helpers.delivery import blend, export, kit
from helpers.rounds import train
from helpers.run import journal, pipeline, presets, report, stages, worth
from helpers.splits import certificate
from helpers.submission import submit
from helpers.training import processes
from helpers.tuning import changes, search

BAR_AFTER = 2  # seconds that a file takes before it gets a bar
STOPPED = 130  # by hand, as shells say it


def main(arguments: list[str] | None = None) -> int:
    """Do a command; an error that says what to do is shown as it is, without where it came from.

    Returns the exit status: 0 done, 1 not ready or failed, 2 what was given cannot be used, 130
        stopped by hand.
    """
    options = vars(parser().parse_args(arguments))
    command = options.pop("command")
    stopped = options.pop("stopped")
    try:
        status = command(**options)
        return int(status) if isinstance(status, int) else 0  # what else it returns is for Python
    except Stop as error:
        print(error, file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print(f"\nStopped. {stopped}", file=sys.stderr)
        return STOPPED


# --- what may be asked for, and how


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    program = argparse.ArgumentParser(
        prog="python -m helpers",
        description="Earshot: from a folder of recordings to an honest classifier, and beyond.",
        epilog="Example: python -m helpers run-all --preset demo. Each command has its own --help.",
    )
    commands = program.add_subparsers(title="commands", metavar="command", required=True)
    part = _command(
        commands,
        "run-all",
        pipeline.run_all,
        "Run the notebooks in order; resume where needed.",
        "run-all --data my/recordings --run mine",
        [_settings()],
        "The next call starts again at the stage that was running.",
    )
    names = [stage.name for stage in stages.STAGES]
    part.add_argument(
        "--until", choices=names, metavar="STAGE", help="the last stage, such as 02_clean"
    )
    part.add_argument("--force", action="store_true", help="run every stage, changed or not")

    part = _command(
        commands,
        "data",
        get_data,
        "Download a public data set, verified and unpacked; without a name, list them.",
        "data esc50",
        stopped="What came is kept: the next call goes on from there.",
    )
    part.add_argument(
        "name", nargs="?", choices=public.SETS, metavar="SET", help=", ".join(public.SETS)
    )
    part.add_argument("--to", metavar="FOLDER", help="where to put its folder (default: data/)")

    part = _command(
        commands,
        "train",
        train_network,
        "Train a run's network; what was stopped goes on where it was.",
        'train --run mine --set "train.epochs=80"',
        [_settings()],
    )
    part.add_argument(
        "--config", metavar="FILE", help="all settings as JSON, instead of the others"
    )

    part = _command(
        commands,
        "predict",
        predict,
        "Say what a trained run hears in recordings, and when.",
        "predict rain.wav walk.mp3 --run mine --out heard",
    )
    part.add_argument(
        "--run",
        metavar="NAME",
        help="the run below outputs/, or an exported folder (default: demo, or the starter)",
    )
    part.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="recordings, folders of them, or patterns: 'site/**/*.flac'",
    )
    part.add_argument(
        "--top", type=int, default=3, metavar="N", help="classes shown (3); of several labels all"
    )
    part.add_argument(
        "--out",
        metavar="FOLDER",
        help="where to write <stem>.windows.csv, .events.csv, .labels.txt (Audacity) and "
        ".selections.txt (Raven)",
    )
    part.add_argument(
        "--overlap",
        type=_number(windowing.MOST_OVERLAP),
        default=windowing.OVERLAP,
        metavar="SHARE",
        help=f"of a window that lies over the next, 0 to {windowing.MOST_OVERLAP} (0.5)",
    )
    part.add_argument(
        "--threshold",
        type=_number(1),
        metavar="PROBABILITY",
        help="say nothing that is less probable, 0 to 1 (of one label the most probable class is "
        "said, of several each from the run's own threshold on)",
    )

    _command(
        commands,
        "verify",
        verify,
        "Prove from a run's files alone that nothing crosses its folds.",
        "verify --run mine",
        [_run()],
    )
    part = _command(
        commands,
        "export",
        export_run,
        "Write a run's networks as one folder and zip: weights, ONNX, a card, examples.",
        "export --run mine",
        [_run()],
    )
    part.add_argument(
        "--out", metavar="FOLDER", help="the folder (default: export/<run> in the run's own)"
    )
    _command(
        commands,
        "report",
        write_report,
        "Make a run's report.html again from its files.",
        "report --run mine",
        [_run()],
    )
    part = _command(
        commands,
        "blend",
        blend_runs,
        "Join the out-of-fold answers of several runs, models or tables, weighed by the folds.",
        "blend mine mine/svm other.csv:other_test.csv --out both",
        stopped="The next call writes it again.",
    )
    part.add_argument(
        "members",
        nargs="+",
        metavar="MEMBER",
        help="a run (its network), run/model, or a CSV with a row per file; :test.csv adds its "
        "answers to the rows of the test set",
    )
    part.add_argument("--out", default="blend", metavar="NAME", help="below outputs/ (blend)")
    part.add_argument(
        "--by",
        choices=("probability", "rank"),
        default="probability",
        help="what is averaged; ranks are for metrics that rank, such as roc_auc",
    )
    part = _command(
        commands,
        "kaggle",
        write_kit,
        "Write what is uploaded to Kaggle: code, wheels, notebooks, trained networks.",
        "kaggle --run mine --user name --attach birdclef-2025 --out kit",
        [_run()],
        "The next call writes it again.",
    )
    part.add_argument("--user", default=kit.USER, metavar="NAME", help="your name on Kaggle")
    part.add_argument(
        "--attach",
        metavar="NAME",
        help="what holds the recordings there: a competition, or user/name of a data set",
    )
    part.add_argument("--out", default="kaggle", metavar="FOLDER", help="where to (kaggle)")
    _add_worth(commands)
    part = _command(
        commands,
        "search",
        search_settings,
        "Try settings on validation folds; the best are compared with the preset on other folds.",
        "search --run mine --data my/recordings --minutes 60",
        [_settings()],
    )
    part.add_argument(
        "--minutes", type=float, default=60, metavar="N", help="how long, all in all (60)"
    )
    part.add_argument("--force", action="store_true", help="begin again")
    part = _command(
        commands,
        "check",
        check_submission,
        "Check any submission against the sample and the test files.",
        "check submission.csv --data my/recordings",
    )
    part.add_argument("file", help="the submission, a CSV")
    part.add_argument("--preset", help="as of run-all; with --data it is recognised where possible")
    part.add_argument("--data", metavar="FOLDER", help="recordings, with the sample submission")
    part.add_argument("--set", **SET)
    return program


def _add_worth(commands):
    says = "Measure what the cleaning steps, or the recipe's ingredients, are worth."
    example = "Example: python -m helpers worth cleaning --run mine"
    part = commands.add_parser("worth", help=says, description=says, epilog=example)
    kinds = part.add_subparsers(title="what", metavar="what", required=True)
    _command(
        kinds,
        "cleaning",
        cleaning_worth,
        "Toggle each cleaning step of a run alone; needs 01 and 02.",
        "worth cleaning --run mine",
        [_settings()],
        "Nothing was written.",
    )
    part = _command(
        kinds,
        "recipe",
        recipe_worth,
        "Change each ingredient of a run's recipe alone, a training each; needs 01 to 04.",
        "worth recipe --run mine --only train.mix,train.ema",
        [_settings()],
    )
    part.add_argument("--seeds", type=int, default=1, metavar="N", help="trainings per row (1)")
    part.add_argument("--only", default="", metavar="KEYS", help="these settings: train.mix,…")


def _command(
    commands, name, function, says, example, parents=(), stopped="The next call goes on from here."
):
    part = commands.add_parser(
        name,
        help=says,
        description=says,
        epilog=f"Example: python -m helpers {example}",
        parents=parents,
    )
    part.set_defaults(command=function, stopped=stopped)
    return part


SET = {
    "dest": "settings",
    "default": "",
    "metavar": "SETTINGS",
    "help": 'single settings: "train.epochs=20 clean.denoise=true"',
}


def _number(most):
    """What reads a number from 0 to `most`, for argparse."""

    def number(text):
        value = float(text)
        if not 0 <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not from 0 to {most}")
        return value

    return number


def _settings():
    """The options by which a command names a run and its settings."""
    options = argparse.ArgumentParser(add_help=False)
    names = ", ".join(presets.presets())
    options.add_argument(
        "--preset",
        help=f"{names}, or a YAML file (default: demo; where --data is given, what it looks like)",
    )
    options.add_argument("--data", metavar="FOLDER", help="recordings, a sub-folder per class")
    options.add_argument("--run", metavar="NAME", help="below outputs/ (default: the preset's)")
    options.add_argument("--seed", type=int, metavar="N", help="overrides the preset's seed")
    options.add_argument("--fast", action="store_true", help="a smoke run, seconds for minutes")
    options.add_argument("--set", **SET)
    return options


def _run():
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--run", default="demo", metavar="NAME", help="the run below outputs/ (default: demo)"
    )
    return options


# --- the commands


def get_data(name: str | None, to: str | None):
    """Download a public data set, its size and licence said before; or list them all."""
    folder = Path(to or artifacts.home() / "data").expanduser()
    if not name:
        print("\n".join(public.in_words(each, folder) for each in public.SETS))
        return
    print(public.in_words(name, folder), flush=True)
    root = public.fetch(name, folder)
    command = public.SETS[name].command.replace(f"data/{root.name}", str(root))
    print(f"{root} is complete. Next: python -m helpers {command}")


def train_network(run, config=None, **settings):
    """Train the network of 05; under torchrun in as many processes as it started."""
    whole = Config(**artifacts.read_json(config)) if config else presets.load(**settings)
    folder = stages.ready_folder(whole, run)
    with processes.together():
        table, history = train.run(folder, whole, keep=config is None)
        if processes.is_first():
            print(account(table, history, folder))


def account(table: pd.DataFrame, history: list[dict], folder: Path) -> str:
    """What a training made, in a few lines."""
    seconds = sum(record["seconds"] for record in history)
    networks = len({(record["fold"], record.get("seed", 0)) for record in history})
    return (
        f"{networks} networks, {len(history)} epochs, {seconds:.0f} s; "
        f"{len(table)} clips predicted out of fold.\n"
        f"{folder / 'models' / 'cnn'}; the notebooks (`make run-all`) take it from there."
    )


def predict(files: list[str], run: str | None, top: int, out: str | None, **how) -> bool:
    """Say what is heard in files, a line each. Returns whether one of them cannot be used.

    Args: files, folders or patterns; run, None: the demo or the starter; top classes shown; out
        folder; overlap and threshold as of `Bundle.hear`.
    """
    paths = hearing.recordings(files)
    bundle = inference.Bundle(_trained(run))
    if out and Path(out).is_file():
        raise ConfigError(f"--out {out} is a file; it names the folder of the answers.")

    def answer(item):
        return _answer(bundle, *item, top, out, how)

    failed = False
    named = list(zip(paths, hearing.stems(paths), strict=True))
    with work.cpu_threads(1 if len(named) > 1 else 0):
        for line, usable in work.in_threads(answer, named):
            work.say(line, sys.stdout if usable else sys.stderr)
            failed |= not usable
    return failed


def _trained(run):
    """Folder of the run that is asked for, or else of the demo; the starter until it is trained."""
    demo = artifacts.home() / "outputs" / "demo"
    if run or any(demo.glob("models/cnn/fold*/card.json")):
        return artifacts.existing_run(run or demo.name)
    print(
        "No demo run is trained yet: the starter answers, a small network of ten synthetic sounds "
        "that comes with Earshot.",
        file=sys.stderr,
    )
    return artifacts.STARTER


def _answer(bundle, path, stem, top, out, how):
    """What is said of a file, and whether it could be used; written to `out` where asked."""

    def progress(items, description, total):
        return work.progress(items, f"{stem}: {description}", total, delay=BAR_AFTER)

    try:
        heard = bundle.hear(path, **how, progress=progress)
        if out:
            heard.write(out, stem)
    except (AudioIssue, OSError) as error:
        return f"{path}: {error}", False
    said = heard.answer() if bundle.multilabel else heard.answer().head(top)
    labels = ", ".join(f"{label} {probability:.1%}" for label, probability in said.items())
    written = f" -> {Path(out) / stem}.*" if out else ""
    return f"{path}: {labels or 'none of the classes'}{written}", True


def verify(run: str) -> bool:
    """Verify the split of a run. Returns whether something crosses."""
    folder = artifacts.existing_run(run)
    wrong = certificate.verify(folder)
    if wrong:
        told = counted(len(wrong), "contradiction", "contradictions")
        print(f"{folder.name}: {told}", *wrong[:20], sep="\n  ", file=sys.stderr)
        return True
    stated = artifacts.read_json(folder / "split_certificate.json")
    print(
        f"{folder.name}: 0 of {stated['n_groups']} groups cross {len(stated['folds'])} folds "
        f"({stated['how_folds']})"
    )
    return False


def export_run(run: str, out: str | None) -> bool:
    """Write a run's networks as a folder and a zip. Returns whether they lack ONNX."""
    folder, lacking = export.write(artifacts.existing_run(run), out)
    print(f"{folder}\n{folder}.zip")
    if lacking:
        print(f"Without ONNX: {lacking}", file=sys.stderr)
    return bool(lacking)


def write_report(run: str):
    """Make a run's report again."""
    print(report.build(artifacts.existing_run(run)))


def blend_runs(members: list[str], out: str, by: str):
    """Blend runs, models and tables."""
    print(*blend.write(members, out, by), sep="\n")


def write_kit(run: str, user: str, attach: str | None, out: str):
    """Write what is uploaded to Kaggle; a run need not be there yet."""
    made = kit.Kit(artifacts.home() / "outputs" / run, Path(out), user, attach)
    problem = made.write([stage.name for stage in stages.STAGES])
    networks = "with" if made.has_networks else "without"
    print(f"{out}: the kit of run {run}, {networks} trained networks. {out}/README.md says how.")
    if problem:
        print(problem, file=sys.stderr)


def cleaning_worth(run, **settings):
    """Measure what the cleaning steps of a run are worth."""
    config = presets.load(**settings)
    print(changes.shown(worth.write_ledger(config, run)).to_string(index=False))
    print("\nA step stays on only if it helps; an interval that holds 0 shows no difference.")
    print("One or two intervals in twenty miss 0 by chance: confirm a change with another seed.")
    folder = journal.run_folder(config, run)
    print(f"{folder / worth.LEDGER}; `make report RUN={folder.name}` puts it into the report.")


def recipe_worth(run, seeds, only, **settings):
    """Measure what the ingredients of a run's recipe are worth, keeping each row as it comes."""
    config = presets.load(**settings)
    chosen = tuple(filter(None, only.split(",")))
    for table in worth.write_ablation(config, run, seeds, chosen):
        print(changes.shown(table.tail(1)).to_string(index=False), flush=True)
    path = journal.run_folder(config, run) / worth.ABLATION
    print(f"\n{path}; an interval that holds 0 shows no difference.")


def search_settings(run, minutes, force, **settings):
    """Search for better settings of a run; 01 and 02 run first where they must.

    A run that is there already keeps its preset and data where none is given.
    """
    if run and not settings["preset"] and not settings["data"]:
        before = journal.asked(artifacts.home() / "outputs" / run)
        words = f"{before.get('settings', '')} {settings['settings']}".strip()
        changed = {name: value for name, value in settings.items() if value}
        settings = {**settings, **before, **changed, "settings": words}
    config = presets.load(**settings)
    folder, _ = pipeline.run_all(run=run, until="02_clean", **settings)
    with pipeline.locked(folder):
        begun = search.begin(folder, config, folders.locate(config))
        for line in search.run(begun, minutes, force):
            print(line, flush=True)
    print(f"{begun.folder} holds search.yaml (the choice as a preset), trials.csv and search.png.")


def check_submission(file: str, **settings) -> bool:
    """Check any submission. Returns whether it would be refused."""
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
        return True
    print(f"{Path(file).name}: {len(asked.rows)} rows of shape {asked.shape}, as asked for.")
    return False
