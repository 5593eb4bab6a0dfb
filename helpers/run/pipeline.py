"""Runs the notebooks in order with papermill in one process; resumes; summarises.

``python -m helpers run-all --preset demo`` (or ``make run-all``). A stage is skipped when its
inputs, settings, code and outputs are what they were when it last finished, judged by their
digests.
"""

import contextlib
import itertools
import logging
import os
import re
import shutil
import sys
import textwrap
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import filelock
import nbclient
import nbformat
import nbformat.sign
import papermill
import psutil
from IPython.display import display
from jupyter_client.manager import AsyncKernelManager
from nbclient.util import run_sync
from papermill.exceptions import PapermillExecutionError

from helpers.base import artifacts, errors
from helpers.base.settings import Config
from helpers.base.targets import counted
from helpers.data import folders
from helpers.listeners import naming
from helpers.metrics import evaluate
from helpers.run import cautions, journal, presets, report, stages
from helpers.run.stages import STAGES, StageSpec
from helpers.view import boards

FOLDED = {"cellView": "form", "_kg_hide-input": True}  # by Colab, and by Kaggle
SETTLED = {"parameters", "injected-parameters"}  # tags of cells that nobody changes any more
FORGET = """get_ipython().reset(new_session=True)
from helpers.base import work
work.forget()
del work"""
GOES_ON = nbclient.version_info >= (0, 7)  # whether nbclient takes a kernel that is there
MARK = "EARSHOT_KERNEL_OF"  # in the environment of the runner's kernels: the folder of their run


LINE = 100  # characters that progress may take
CLEAR = "\r\033[K"  # a line of a terminal


@dataclass
class LiveLine:
    """A file-like object that shows a stage's latest progress in one line, which changes.

    In a notebook it is one output, which stays the only one. Away from both (CI, a log file)
    nothing is shown but the lines that `say` prints.
    """

    label: str
    stream: object = field(default_factory=lambda: sys.stdout)
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self):
        in_notebook = type(self.stream).__module__.startswith("ipykernel")
        self.output = (
            display({"text/plain": ""}, raw=True, display_id=True) if in_notebook else None
        )

    def write(self, text: str):
        """Show the last line of a text."""
        lines = [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
        if lines:
            self._show(f"{self.label}  {lines[-1]}"[:LINE])

    def _show(self, text):
        if self.output:
            self.output.update({"text/plain": text}, raw=True)
        elif self.stream.isatty():
            self.stream.write(CLEAR + text)
            self.stream.flush()

    def flush(self):
        """Let what was written be shown."""
        self.stream.flush()

    def say(self, text: str):
        """Show a line that stays."""
        self._show(text)
        if not self.output:
            self.stream.write("\n" if self.stream.isatty() else f"{text}\n")
            self.stream.flush()


def run_all(
    preset: str | None = None,
    data=None,
    run: str | None = None,
    seed: int | None = None,
    fast: bool = False,
    settings: str = "",
    force: bool = False,
    until: str | None = None,
):
    """Run every stage that is not up to date, then write the report.

    Args: as of `presets.load`; run its name; force runs what is up to date, too; until the name of
        the last stage to run, None: all, and the report.
    Returns (run folder, names of the stages that ran). Raises ConfigError, SourceError, StageError
        or PipelineError.
    """
    started = time.monotonic()
    # The kernels work in another folder.
    preset = str(Path(preset).resolve()) if str(preset).endswith((".yaml", ".yml")) else preset
    data = data and str(Path(data).expanduser().resolve())
    settled = presets.load(preset, data, seed, fast, settings)
    folder = journal.run_folder(settled, run)
    print(f"Earshot · preset {settled.preset} · {_short(folder)}", flush=True)
    if settled.recognised:
        print(f"Recognised as {settled.recognised}", flush=True)
    root = folders.locate(settled)
    naming.require_files(settled)
    parameters = {"preset": preset, "data": data, "run": folder.name, "seed": seed}
    parameters |= {"fast": fast, "settings": settings}
    folder.mkdir(parents=True, exist_ok=True)
    ran = []
    with locked(folder), one_kernel() as kernel:
        clear_leftovers(folder)
        if force:
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # training, too, begins again
        else:
            stages.take_over(folder, settled)
        for stage in STAGES:
            if run_stage(stage, settled, folder, root, parameters, force, kernel):
                ran.append(stage.name)
            if stage.name == until:
                notebooks = _short(folder / "notebooks")
                print(f"Stopped after {until}, as asked for. Executed notebooks: {notebooks}")
                return folder, ran
        if not (folder / "report.html").is_file():
            report.build(folder)
    print(summary(folder, ran, time.monotonic() - started))
    return folder, ran


def run_stage(
    stage: StageSpec,
    settled: Config,
    folder: Path,
    root,
    parameters: dict,
    force: bool = False,
    kernel: AsyncKernelManager | None = None,
) -> bool:
    """Run one stage unless it is up to date, in a kernel or its own. Returns whether it ran."""
    number = f"[{STAGES.index(stage) + 1}/{len(STAGES)}] {stage.name}"
    line = LiveLine(number)
    executed = folder / "notebooks" / f"{stage.name}.ipynb"
    reason = "FORCE=1" if force else stages.why_stale(stage, settled, folder, root)
    reason = reason or (None if executed.is_file() else "no executed notebook")
    if reason is None:
        line.say(f"{number:<24} nothing changed")
        return False
    line.write(f"{stage.title} …")
    (folder / "report.html").unlink(missing_ok=True)  # it would no longer be true
    execute(stage, executed, parameters, line, kernel)
    status = journal.record(folder, stage.name).get("status")
    if status != "done":  # which the last cell says, once all promised files are there
        raise errors.PipelineError(
            f"{stage.name} did not finish: its last cell, `stage.finish()`, left status {status}."
        )
    seconds = time.monotonic() - line.started
    why = "" if reason == stages.NEVER_RUN else f" ({reason})"
    line.say(f"{number:<24} {stage.title.lower()} · {seconds:.0f} s{why}")
    return True


def execute(
    stage: StageSpec,
    executed: Path,
    parameters: dict,
    line: LiveLine,
    kernel: AsyncKernelManager | None = None,
):
    """Execute a stage's notebook, in a kernel or one of its own. Its copy is put in place if it
    succeeds, else beside it as .failed.ipynb. Raises PipelineError.
    """
    source = artifacts.REPOSITORY / "notebooks" / f"{stage.name}.ipynb"
    knobs = dict.fromkeys(papermill.inspect_notebook(source))  # which are for hands only
    folder = executed.parent.parent
    failed = executed.with_suffix(".failed.ipynb")
    executed.parent.mkdir(parents=True, exist_ok=True)
    with quiet_kernel(folder), artifacts.replacing(executed) as temporary:
        working = temporary.with_suffix(".ipynb")
        try:
            papermill.execute_notebook(
                source,
                working,
                {**knobs, **parameters},
                km=cleared(kernel),
                kernel_name="python3",
                progress_bar=False,
                cwd=source.parent,
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
                stdout_file=line,
                stderr_file=line,
            )
            tidy(working, temporary)
        except BaseException as error:
            journal.add_attempt(folder, stage.name, time.time())
            if working.is_file():
                os.replace(working, failed)
            if not isinstance(error, PapermillExecutionError):
                raise
            line.say("")
            raise errors.PipelineError(_explain(stage, error, failed)) from None
        finally:
            working.unlink(missing_ok=True)
    failed.unlink(missing_ok=True)


def _explain(stage, error, failed):
    """A failure in a few lines: the notebook, the cell, the error."""
    first_line = next((line for line in error.source.splitlines() if line.strip()), "")
    shown = "\n    ".join(str(error.evalue).strip().splitlines()[:12])
    return (
        f"{stage.name}.ipynb stopped in cell {error.exec_count}:  {first_line.strip()[:90]}\n"
        f"    {error.ename}: {shown}\n"
        f"  The notebook as far as it got: {_short(failed)}. "
        "The next call starts again at this stage."
    )


# --- what an executed notebook shows


def tidy(source: Path, target: Path):
    """Copy an executed notebook without trails of its progress bars and paths of this machine.

    A cell that only says what is absent from this run is left out, with the text before it. The
    cells that set the notebook up are folded.
    """
    notebook = nbformat.read(source, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _tidied(output)]
    notebook.cells = present(notebook.cells)
    _fold_setup(notebook.cells)
    for key in ("input_path", "output_path"):
        notebook.metadata.get("papermill", {}).pop(key, None)
    nbformat.write(notebook, target)
    # Made here, so Jupyter may show its players without asking.
    notary = nbformat.sign.NotebookNotary()
    with contextlib.suppress(OSError):  # without a home for its key Jupyter does ask
        Path(notary.data_dir).mkdir(parents=True, exist_ok=True)
        notary.sign(notebook)


def _fold_setup(cells):
    """Fold the cells that set a notebook up; nbconvert leaves them and the text before out."""
    for before, cell in itertools.pairwise(cells):
        if SETTLED.intersection(cell.metadata.get("tags", [])):
            cell.metadata.update(FOLDED, jupyter={"source_hidden": True})
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            before.metadata["transient"] = {"remove_source": True}
            cell.metadata["transient"] = {"remove_source": True}


def _tidied(output):
    """Tidy what a cell printed; whether an output has anything left to show."""
    if output.output_type != "stream":
        return True
    output.text = last_shown(output.text).replace(f"{artifacts.REPOSITORY}/", "")
    return bool(output.text.strip())


def present(cells: list) -> list:
    """Cells of an executed notebook without those that have nothing to show, and their texts."""
    absent = [_is_absent(cell) for cell in cells]
    pairs = zip(cells, absent, [*absent[1:], False], strict=True)
    return [
        cell
        for cell, is_absent, next_is in pairs
        if not is_absent and not (next_is and cell.cell_type == "markdown")
    ]


def _is_absent(cell):
    """Whether all that a cell shows is what `boards.absent` says."""
    outputs = cell.get("outputs", [])
    pages = [output.get("data", {}).get("text/html", "") for output in outputs]
    return bool(pages) and all("".join(page).startswith(boards.ABSENT) for page in pages)


def last_shown(text: str) -> str:
    """What a terminal would still show of a stream: no progress bars, lines as last overwritten.

    >>> last_shown("train:  50%|##  | 1/2\\rtrain: 100%|####| 2/2\\r          \\rdone\\n")
    'done\\n'
    >>> last_shown("\\x1b[A")  # what a bar below another one leaves behind
    ''
    """
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    lines = [line.split("\r")[-1] for line in plain.split("\n")]
    kept = [line for line in lines if not re.search(r"\d+%\|.*\|", line)]
    if len(kept) < len(lines) or "\x1b[A" in text:  # bars below each other leave empty lines behind
        kept = [line for line in kept[:-1] if line.strip()] + kept[-1:]
    return "\n".join(kept)


# --- processes, and who may write


@contextlib.contextmanager
def one_kernel():
    """One kernel for all notebooks of a run: to start and to import takes seconds each time.

    The first notebook starts it. With an old nbclient, as on Kaggle, None: one for each notebook.
    """
    kernel = AsyncKernelManager(kernel_name="python3") if GOES_ON else None
    try:
        yield kernel
    finally:
        if kernel and kernel.has_kernel:
            run_sync(kernel.shutdown_kernel)(now=True)


def cleared(kernel: AsyncKernelManager | None) -> AsyncKernelManager | None:
    """The kernel, without what an earlier notebook left in it but for the imports."""
    if kernel and kernel.has_kernel:
        cells = [nbformat.v4.new_code_cell(FORGET)]
        nbclient.NotebookClient(nbformat.v4.new_notebook(cells=cells), km=kernel).execute()
    return kernel


@contextlib.contextmanager
def quiet_kernel(folder: Path):
    """Tell kernels that nobody watches, whose they are and where outputs go; silence Jupyter."""
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


@contextlib.contextmanager
def locked(folder: Path):
    """Hold the run folder for this process: a second run on it is refused.

    The lock dies with its process.
    """
    lock = filelock.FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise errors.PipelineError(f"{_short(folder)} is in use by another run.") from None
    try:
        yield
    finally:
        lock.release()


def clear_leftovers(folder: Path):
    """Clear away what a killed runner left behind in a run that is locked now: its processes, a
    damaged record, its temporary files.
    """
    _end_processes(str(folder))
    if problem := journal.mend_run(folder):
        print(problem, flush=True)
    places = (folder, *folder.glob("*/"), *folder.glob("*/*/"), artifacts.home() / "data")
    for path in artifacts.leftovers(*places):
        if path.suffix == ".ipynb":  # the notebook under way, saved now and then, as checkpoints
            saved = (path, *folder.glob("checkpoints/*.safetensors"))
            ended = max(file.stat().st_mtime for file in saved)
            journal.add_attempt(folder, path.name[1:].partition(".")[0], ended)
        artifacts.remove(path)


def _end_processes(mark):
    """End kernels, and what they started, that carry a run's mark: their runner is gone, for it
    held the lock.
    """
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    left = [process for process in psutil.process_iter() if process.pid not in ours]
    left = [process for process in left if _mark_of(process) == mark]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(left, timeout=5)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _mark_of(process):
    """The run that a process was started for; None for all that are not the runner's, or may not
    be asked.
    """
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None


# --- what the terminal shows at the end

LEVELS = {"red": "CAUTION", "amber": "caution", "green": "in order"}
SENTENCES = textwrap.TextWrapper(width=84, break_on_hyphens=False)  # beside the levels


def summary(folder: Path, ran: list[str], seconds: float) -> str:
    """What the terminal shows at the end: counts, held-out scores, where the outputs are, times."""
    run = journal.read_run(folder)
    metrics = artifacts.read_json(folder / "metrics.json")
    check = artifacts.read_json(folder / "submission_check.json")
    recordings = artifacts.read_table(folder / "recordings.csv")
    ignored = recordings.loc[recordings["status"].eq("ignored"), "reason"].value_counts()
    marks = [name for name in ("synthetic", "fast") if run["config"][name]]
    note = f"   [{', '.join(marks)}: not a real-world score]" if marks else ""
    files = "{found} found = {used} used + {quarantined} set aside + {ignored} ignored"
    rows = counted(check["rows"], "row", "rows")
    times = [f"{name[:2]} {stage['seconds']:.0f}" for name, stage in sorted(run["stages"].items())]
    lines = [("files", files.format(**run["counts"]))]
    lines += [("", f"ignored: {count} {reason}") for reason, count in ignored.items()]
    lines += [("held out", _held_out(cautions.read(folder), metrics) + note)]
    if hidden := check.get("hidden_test"):
        lines += [("hidden test", _scores(hidden, metrics["headline"]))]
    lines += [
        ("submission", f"{_short(folder / 'submission.csv')} ({rows}, {check['kind']})"),
        ("report", _short(folder / "report.html")),
        ("notebooks", _short(folder / "notebooks")),
        ("seconds", " · ".join(times)),
    ]
    lines += [("", ""), ("Before you trust this", "")]
    for caution in cautions.of(folder):
        names = itertools.chain([LEVELS[caution.level]], itertools.repeat(""))
        lines += zip(names, SENTENCES.wrap(caution.says), strict=False)
        lines += [("", f"  {caution.do}")] if caution.do else []
    title = "Done" if ran else "Nothing changed since the last run"
    told = [f"  {name:<11} {says}".rstrip() for name, says in lines]
    return "\n".join(["", f"{title} · {_clock(seconds)}", *told])


def _held_out(facts, metrics):
    """The scores of the model that is submitted, which is named unless it is the network."""
    scores = {name: facts.score(name) or metrics[name] for name in metrics["headline"]}
    whose = "" if facts.model == "cnn" else f"{facts.model}: "
    return whose + _scores(scores, metrics["headline"])


def _scores(metrics, headline):
    return " · ".join(
        f"{evaluate.in_words(name)} {evaluate.percent(metrics[name])}" for name in headline
    )


def _clock(seconds):
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _short(path):
    """A path as seen from the working folder, where that is shorter."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
