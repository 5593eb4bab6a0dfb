"""Runs the notebooks in order with papermill in one process; resumes; summarises.

``python -m helpers run-all --preset demo`` (or ``make run-all``). A stage is skipped when its
inputs, settings, code and outputs are what they were when it last finished, judged by their
digests.
"""

import ast
import contextlib
import fcntl
import logging
import os
import re
import shutil
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import nbformat.sign
import papermill
import psutil
from papermill.exceptions import PapermillExecutionError

from helpers.base import artifacts, errors
from helpers.base.targets import counted
from helpers.data import folders
from helpers.metrics import evaluate
from helpers.run import cautions, journal, presets, report, stages
from helpers.view import boards

MARK = "EARSHOT_KERNEL_OF"  # in the environment of the runner's kernels: the folder of their run


@dataclass
class LiveLine:
    """A file-like object that shows a stage's latest progress in one terminal line.

    Away from a terminal (CI, a log file) nothing is shown but the lines that `say` prints.
    """

    label: str
    stream: object = sys.stdout
    started: float = field(default_factory=time.monotonic)

    def write(self, text):
        if self.stream.isatty() and (
            latest := [part for part in re.split(r"[\r\n]", text) if part.strip()]
        ):
            self.stream.write(
                f"\r\033[K{self.label}  {latest[-1].strip()[: 100 - len(self.label)]}"
            )
            self.stream.flush()

    def flush(self):
        self.stream.flush()

    def say(self, text):
        self.stream.write(("\r\033[K" if self.stream.isatty() else "") + text + "\n")
        self.stream.flush()


def run_all(
    preset=None, data=None, run=None, seed=None, fast=False, settings="", force=False, until=None
):
    """Run every stage that is not up to date, then write the report.

    Args: as of `config.load`; run its name; force runs what is up to date, too; until the name of
        the last stage to run, None: all, and the report.
    Returns (run folder, names of the stages that ran). Raises ConfigError, SourceError, StageError
        or PipelineError.
    """
    started = time.monotonic()
    preset, data = (
        _absolute(preset),
        data and str(Path(data).expanduser().resolve()),
    )  # kernels work elsewhere
    settled = presets.load(preset, data, seed, fast, settings)
    folder = journal.run_folder(settled, run)
    print(f"Earshot · preset {settled.preset} · {_short(folder)}", flush=True)
    if settled.recognised:
        print(f"Recognised as {settled.recognised}", flush=True)
    root = folders.locate(settled)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        clear_leftovers(folder)
        if force:
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # training, too, begins again
        parameters = {"preset": preset, "data": data, "run": folder.name, "seed": seed}
        parameters |= {"fast": fast, "settings": settings}
        last = stages.STAGES.index(stages.spec(until)) if until else len(stages.STAGES)
        wanted = stages.STAGES[: last + 1]
        ran = [
            stage.name
            for stage in wanted
            if run_stage(stage, settled, folder, root, parameters, force)
        ]
        if until:
            print(
                f"Stopped after {until}, as asked for. Executed notebooks: {_short(folder / 'notebooks')}"
            )
            return folder, ran
        if not (folder / "report.html").is_file():
            report.build(folder)
    print(summary(folder, ran, time.monotonic() - started))
    return folder, ran


def _absolute(preset):
    """A preset's path made absolute; a name of a preset that comes with Earshot stays a name."""
    return str(Path(preset).resolve()) if preset and preset.endswith((".yaml", ".yml")) else preset


def run_stage(stage, settled, folder, root, parameters, force=False):
    """Run one stage unless it is up to date. Returns whether it ran."""
    number = f"[{stages.STAGES.index(stage) + 1}/{len(stages.STAGES)}] {stage.name}"
    line, executed = LiveLine(number), folder / "notebooks" / f"{stage.name}.ipynb"
    reason = "FORCE=1" if force else stages.why_stale(stage, settled, folder, root)
    reason = reason or (None if executed.is_file() else "no executed notebook")
    if reason is None:
        line.say(f"{number:<24} nothing changed")
        return False
    line.write(f"{stage.title} …")
    (folder / "report.html").unlink(missing_ok=True)  # it would no longer be true
    execute(stage, executed, parameters, line)
    _check_finished(stage, settled, folder, executed)
    seconds = time.monotonic() - line.started
    line.say(f"{number:<24} {stage.title.lower()} · {seconds:.0f} s ({reason})")
    return True


def execute(stage, executed, parameters, line):
    """Execute a stage's notebook. Its copy is put in place if it succeeds, else beside it as
    .failed.ipynb.
    """
    source = artifacts.REPOSITORY / "notebooks" / f"{stage.name}.ipynb"
    parameters = {
        **dict.fromkeys(parameter_names(source)),
        **parameters,
    }  # a notebook's own knobs are for hands only
    failed = executed.with_suffix(".failed.ipynb")
    executed.parent.mkdir(parents=True, exist_ok=True)
    try:
        with quiet_kernel(executed.parent.parent), artifacts.replacing(executed) as temporary:
            working = temporary.with_suffix(".ipynb")
            try:
                papermill.execute_notebook(
                    source, working, parameters, kernel_name="python3", progress_bar=False, cwd=source.parent,
                    extra_arguments=["--IPKernelApp.log_level=CRITICAL"], stdout_file=line, stderr_file=line,
                )  # fmt: skip
                tidy(working, temporary)
            except BaseException:
                journal.add_attempt(executed.parent.parent, stage.name, time.time())
                if working.is_file():
                    os.replace(working, failed)
                raise
            finally:
                working.unlink(missing_ok=True)
    except PapermillExecutionError as error:
        line.say("")
        raise errors.PipelineError(_explain(stage, error, failed)) from None
    failed.unlink(missing_ok=True)


def parameter_names(path):
    """Names assigned in a notebook's cell tagged `parameters`."""
    cells = nbformat.read(path, as_version=4).cells
    tagged = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    return [
        node.targets[0].id
        for source in tagged
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
    ]


def tidy(source, target):
    """Copy an executed notebook without trails of its progress bars and paths of this machine.

    A cell that only says what is absent from this run is left out, with the text before it.
    """
    notebook = nbformat.read(source, as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = last_shown(output.text).replace(f"{artifacts.REPOSITORY}/", "")
        if cell.cell_type == "code":
            cell.outputs = [
                output
                for output in cell.outputs
                if output.output_type != "stream" or output.text.strip()
            ]
    notebook.cells = present(notebook.cells)
    for key in ("input_path", "output_path"):
        notebook.metadata.get("papermill", {}).pop(key, None)
    nbformat.write(notebook, target)
    nbformat.sign.NotebookNotary().sign(
        notebook
    )  # made here, so Jupyter may show its players without asking


def present(cells: list) -> list:
    """Cells of an executed notebook without those that have nothing to show, and their texts."""
    gone = set()
    for number, cell in enumerate(cells):
        if _is_absent(cell):
            introduced = number > 0 and cells[number - 1].cell_type == "markdown"
            gone |= {number - 1, number} if introduced else {number}
    return [cell for number, cell in enumerate(cells) if number not in gone]


def _is_absent(cell):
    """Whether all that a cell shows is what `boards.absent` says."""
    outputs = cell.get("outputs", [])
    pages = [output.get("data", {}).get("text/html", "") for output in outputs]
    return bool(pages) and all("".join(page).startswith(boards.ABSENT) for page in pages)


def last_shown(text):
    """What a terminal would still show of a stream: progress bars gone, each line as last
    overwritten.

    >>> last_shown("train:  50%|#####     | 1/2\\rtrain: 100%|##########| 2/2\\r          \\rdone\\n")
    'done\\n'
    >>> last_shown("\\x1b[A")  # what a bar below another one leaves behind
    ''
    """
    lines = [
        line.split("\r")[-1] for line in re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text).split("\n")
    ]
    kept = [line for line in lines if not re.search(r"\d+%\|.*\|", line)]
    if len(kept) < len(lines) or "\x1b[A" in text:  # bars below each other leave empty lines behind
        kept = [line for line in kept[:-1] if line.strip()] + kept[-1:]
    return "\n".join(kept)


@contextlib.contextmanager
def quiet_kernel(folder):
    """Tell the kernels that nobody watches, whose they are and where outputs go; keep Jupyter's own
    warnings off the terminal.
    """
    before = dict(os.environ)
    os.environ |= {
        "EARSHOT_HEADLESS": "1",
        MARK: str(folder),
        "EARSHOT_HOME": str(artifacts.home()),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    for name in ("papermill", "traitlets", "asyncio"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.environ.clear()
        os.environ |= before


def _check_finished(stage, settled, folder, executed):
    """A notebook is done only if every code cell ran without error and its promised files exist."""
    notebook = nbformat.read(executed, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    skipped = [cell for cell in cells if cell.execution_count is None]
    wrong = [
        cell for cell in cells if any(output.output_type == "error" for output in cell.outputs)
    ]
    missing = [name for name in stage.outputs(settled) if not (folder / name).exists()]
    status = journal.read_run(folder).get("stages", {}).get(stage.name, {}).get("status")
    if skipped or wrong or missing or status != "done":
        raise errors.PipelineError(
            f"{stage.name} did not finish: {counted(len(skipped), 'cell', 'cells')} did not run, {len(wrong)} failed, "
            f"missing files: {', '.join(missing) or 'none'}, status {status}."
        )


def _explain(stage, error, failed):
    """A failure in a few lines: the notebook, the cell, the error."""
    first_line = next((line for line in error.source.splitlines() if line.strip()), "")
    message = str(error.evalue).strip().splitlines() or [""]
    shown = "\n    ".join(message[:12])
    return (
        f"{stage.name}.ipynb stopped in cell {error.exec_count}:  {first_line.strip()[:90]}\n"
        f"    {error.ename}: {shown}\n"
        f"  The notebook as far as it got: {_short(failed)}. The next call starts again at this stage."
    )


@contextlib.contextmanager
def locked(folder):
    """Hold the run folder for this process; a second run on it is refused. The lock dies with its
    process.
    """
    with open(folder / ".lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise errors.PipelineError(
                f"{_short(folder)} is in use by another run ({file.read().strip()})."
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield


def clear_leftovers(folder):
    """Clear away what a killed runner left behind in a run that is locked now: its processes, a
    damaged record, its temporary files.
    """
    _end_processes(str(folder))
    if problem := journal.mend_run(folder):
        print(problem, flush=True)
    places = (folder, *folder.glob("*/"), *folder.glob("*/*/"), artifacts.home() / "data")
    for path in list(artifacts.leftovers(*places)):
        if (
            path.suffix == ".ipynb"
        ):  # the notebook that was under way; it was saved, as checkpoints are, now and then
            saved = (path, *folder.glob("checkpoints/*.safetensors"))
            journal.add_attempt(
                folder, path.name[1:].partition(".")[0], max(file.stat().st_mtime for file in saved)
            )
        artifacts.remove(path)


def _end_processes(mark):
    """End kernels, and what they started, that carry a run's mark: their runner is gone, for it
    held the lock.
    """
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    left = [
        process
        for process in psutil.process_iter()
        if process.pid not in ours and _mark_of(process) == mark
    ]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(left, timeout=5)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _mark_of(process):
    """The run that a process was started for; None for all that are not the runner's, or may not be
    asked.
    """
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None


def summary(folder, ran, seconds):
    """What the terminal shows at the end: counts, held-out scores, where the outputs are, times."""
    run, metrics = journal.read_run(folder), artifacts.read_json(folder / "metrics.json")
    check, counts = artifacts.read_json(folder / "submission_check.json"), run["counts"]
    found = artifacts.read_table(folder / "recordings.csv")
    ignored = found.loc[found["status"].eq("ignored"), "reason"].value_counts()
    marks = [name for name in ("synthetic", "fast") if run["config"][name]]
    headline = metrics["headline"]
    note = f"   [{', '.join(marks)}: not a real-world score]" if marks else ""
    lines = [
        "",
        f"{'Done' if ran else 'Nothing changed since the last run'} · {_clock(seconds)}",
        f"  files       {counts['found']} found = {counts['used']} used + {counts['quarantined']} set aside"
        f" + {counts['ignored']} ignored",
        *(f"              ignored: {count} {reason}" for reason, count in ignored.items()),
        f"  held out    {_scores(metrics, headline)}{note}",
    ]
    if check.get("hidden_test"):
        lines.append(f"  hidden test {_scores(check['hidden_test'], headline)}")
    times = " · ".join(
        f"{name[:2]} {stage['seconds']:.0f}" for name, stage in sorted(run["stages"].items())
    )
    lines += [
        f"  submission  {_short(folder / 'submission.csv')} ({counted(check['rows'], 'row', 'rows')}, {check['kind']})",
        f"  report      {_short(folder / 'report.html')}",
        f"  notebooks   {_short(folder / 'notebooks')}",
        f"  seconds     {times}",
        *(
            f"  {'CAUTION' if caution.level == 'red' else 'caution'}     {caution.says}"
            for caution in cautions.of(folder)
        ),
    ]
    return "\n".join(lines)


def _scores(metrics, headline):
    return " · ".join(
        f"{evaluate.in_words(name)} {evaluate.percent(metrics[name])}" for name in headline
    )


def _clock(seconds):
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _short(path):
    """A path as seen from the working folder, where that is shorter."""
    path = Path(path)
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
