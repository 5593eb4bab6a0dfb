"""A hidden test set: every row of the submission is written within a given time, nothing trained.

The networks come as an input: a run of an earlier notebook, or what `kit.weights` wrote. Time is
measured while it passes. Where it will not do, clips are heard in fewer views, then by fewer
networks; what no network can hear in time, or at all, gets the shares of the training classes.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import numpy as np
import pandas as pd
import soundfile
import torch

from helpers.audio import decoder, features, recording, windowing
from helpers.base import artifacts, errors, work
from helpers.base.settings import Config
from helpers.base.targets import counted
from helpers.compare import inference
from helpers.data import folders, sources
from helpers.delivery import sessions
from helpers.splits import rules
from helpers.submission import contract, priors, submit
from helpers.submission.contract import Contract
from helpers.training import processes

SHARES = "shares.json"  # of the training classes, where waveforms.csv does not come along
FACTS = "facts.json"  # and what where and when taught
KEPT_BACK = 0.05  # of the time, for what comes after the last file
CLIPS = 128  # of a batch, which is decoded before networks hear it, at most about
FEWEST = 8  # clips of a batch
BATCHES = 20  # of a small test set: time is shared among them
AT_ONCE = 32  # clips that a network hears at a time
HEARD = "heard"  # what becomes of a file
BROKEN = "broken"
LATE = "no time left"


def find(weights: str | Path | None = None) -> Path:
    """The folder of a trained run: the one given, or the newest among the inputs.

    Raises StageError where there is none, or where several have different names.
    """
    if weights:
        return Path(weights)
    found = {path.parent: path for path in sessions.search("*/run.json")}
    starter = artifacts.STARTER.resolve()
    trained = [one for one in found if (one / "models").is_dir() and one.resolve() != starter]
    names = sorted({one.name for one in trained})
    if len(names) != 1:
        what = "Several trained runs are" if names else "No trained run is"
        raise errors.StageError(
            f"{what} among the inputs ({', '.join(sessions.ROOTS)}): {', '.join(names) or 'none'}. "
            "Attach the output of 05_train_cnn or the data set of weights, or give its folder: "
            "weights = '…'."
        )
    return max(trained, key=lambda one: sessions.progress(artifacts.read_json(one / "run.json")))


@dataclass
class HiddenTest:
    """A test set to be answered until a deadline; `begin` makes one."""

    bundle: inference.Bundle
    model: str
    config: Config
    root: Path
    prior: priors.Prior  # what is known of the files before they are heard
    deadline: float  # in seconds of time.monotonic
    files: pd.DataFrame  # of the test set; `predict` adds what became of each
    sample: pd.DataFrame | None
    started: float = field(default_factory=monotonic)
    seconds_per_clip: np.ndarray = field(default_factory=lambda: np.zeros(2))  # to decode, to hear

    def asked(self) -> Contract:
        """The rows asked for: the sample's, or where submit.rows_from says so the files'.

        Unlike in 08 it is no error where a row of the sample has no file.
        """
        config = self.config.but("submit.rows_from", "files")
        classes = self.bundle.labels
        drawn = contract.draw_up(self.root, self.files, classes, config, self.sample)
        by_files = self.config.submit.rows_from == "files" and len(self.files) > 0
        if self.sample is None or by_files:
            return drawn
        rows = drawn.rows.set_index("id").reindex(self.sample.iloc[:, 0].rename("id"))
        rows = rows.fillna({"recording_id": "", "label": ""}).reset_index()
        return dataclasses.replace(drawn, rows=rows, notes=())

    def predict(self, asked: Contract) -> pd.DataFrame:
        """Probabilities of every row, in the time left: as of `submit.row_probabilities`."""
        wanted = self.files[self.files["recording_id"].isin(asked.rows["recording_id"])]
        clips = [_no_clips(self.bundle.labels)]
        left = wanted["expected_clips"].sum()
        self._warm_up(wanted)
        passes = len(self.bundle.passes())
        done = 0
        with work.progress(None, "hear", max(1, int(left) * passes)) as bar:
            for batch in _batches(wanted):
                count = batch["expected_clips"].sum()
                now = monotonic()
                until = now + (self.deadline - now) * count / left
                if now + self.seconds_per_clip.sum() * count < self.deadline:
                    clips.append(self._hear(batch, until, bar.update))
                left -= count
                done += count
                bar.update(done * passes - bar.n)
        heard = pd.concat(clips, ignore_index=True)
        config = self.config
        return submit.row_probabilities(asked, heard, heard, self.prior, config)

    def _warm_up(self, files):
        """Learn from silence how long a network takes; the very first clips take longer."""
        for file in files[:1].itertuples():
            self._decoded(file)
        size = round(self.config.audio.clip_seconds * self.config.audio.sample_rate)
        silence = np.zeros((1, size), np.int16)
        first = self.bundle.passes()[0]
        self._answer(silence, first)
        begun = monotonic()
        self._answer(silence, first)
        self._note(1, monotonic() - begun, 1)

    def _hear(self, batch, until, advance):
        """Clips of some files with their probabilities; what became of the files is noted."""
        begun = monotonic()
        decoded = list(work.in_threads(self._decoded, list(batch.itertuples())))
        for index, (issue, _, _) in zip(batch.index, decoded, strict=True):
            self.files.loc[index, ["outcome", "reason"]] = [BROKEN if issue else HEARD, issue]
        tables = [table for _, table, _ in decoded]
        waveforms = [clips for _, _, clips in decoded if len(clips)]
        self._note(0, monotonic() - begun, batch["expected_clips"].sum())
        if not waveforms:
            return _no_clips(self.bundle.labels)
        answers, passes = self._answers(np.concatenate(waveforms), until, advance)
        heard = batch.index[self.files.loc[batch.index, "outcome"].eq(HEARD)]
        self.files.loc[heard, "passes"] = passes
        table = pd.concat(tables, ignore_index=True)
        return table.join(pd.DataFrame(answers, columns=self.bundle.labels))

    def _decoded(self, file):
        """A file's clips: (what is wrong with it, a table, int16 [clips, samples])."""
        audio = self.config.audio
        rows = []
        clips = []
        try:
            decoded = decoder.decode(self.root / file.path, audio.max_seconds)
            mono = recording.read(decoded, audio.sample_rate)
            rules.require_usable(mono, self.config.clean)
            for start, valid, clip in windowing.test_clips(decoded, self.config):
                rows.append((f"{file.recording_id}-{len(rows)}", file.recording_id, start, valid))
                clips.append(recording.to_steps(clip))
        except Exception as error:  # whatever a hidden file does, the others' rows are written
            return str(error) or type(error).__name__, _table_of([]), []
        return "", _table_of(rows), np.stack(clips)

    def _answers(self, clips, until, advance):
        """Probabilities of clips by as many passes as there is time for, at least one."""
        total = 0
        count = 0
        for one in self.bundle.passes():
            begun = monotonic()
            if count and begun + self.seconds_per_clip[1] * len(clips) > until:
                break
            parts = range(0, len(clips), AT_ONCE)
            total = total + np.concatenate(
                [self._answer(clips[i : i + AT_ONCE], one) for i in parts]
            )
            count += 1
            advance(len(clips))
            self._note(1, monotonic() - begun, len(clips))
        return total / count, count

    def _answer(self, clips, one):
        waveforms = torch.as_tensor(features.unpack(clips), device=self.bundle.device)
        return self.bundle.answer(waveforms, *one).cpu().numpy()

    def _note(self, step, seconds, count):
        """Learn how long a step takes per clip: mostly what the last batches took."""
        new = seconds / max(count, 1)
        old = self.seconds_per_clip[step]
        self.seconds_per_clip[step] = (old + new) / 2 if old else new

    # --- what a reader is shown

    def used(self) -> pd.DataFrame:
        """What the files were heard with: a table of files, networks and views."""
        models = len(self.bundle.models)
        groups = self.files.groupby(["outcome", "passes"])["path"].size()
        rows = []
        for (outcome, passes), count in groups.items():
            networks = min(passes, models)
            views = passes / max(networks, 1)
            rows.append({"files": count, "outcome": outcome, "networks": networks, "views": views})
        return pd.DataFrame(rows, columns=["files", "outcome", "networks", "views"])

    def in_words(self) -> str:
        """How long it took, of how long it may take."""
        seconds = monotonic() - self.started
        minutes = (self.deadline - self.started) / 60 / (1 - KEPT_BACK)
        networks = counted(len(self.bundle.models), "network", "networks")
        return (
            f"{counted(len(self.files), 'test file', 'test files')}, {networks} of {self.model}, "
            f"{self.config.train.views} views at most: {seconds:.0f} s of {minutes:g} minutes."
        )

    def unheard(self) -> pd.DataFrame:
        """The files that got the shares of the training classes, and why."""
        files = self.files[self.files["outcome"].ne(HEARD)]
        return files[["path", "outcome", "reason"]].reset_index(drop=True)


def begin(
    weights: str | Path | None = None, data: str | Path | None = None, minutes: float = 90
) -> HiddenTest:
    """Open a hidden test set with the networks of a trained run.

    Args: weights folder of the run, None: the one among the inputs; data folder of the test set,
        None: the run's own, where it lies or is attached; minutes that all of it may take.
    Raises StageError where there is no trained run or no test set.
    """
    started = monotonic()
    folder = find(weights)
    config = Config(**artifacts.read_json(folder / "run.json")["config"])
    own = any((folder / "models" / config.submit.model).glob("fold*/weights.safetensors"))
    model = config.submit.model if own else "cnn"
    bundle = inference.Bundle(folder, model, processes.device())
    if data or config.data.root:
        config = config.but("data.root", str(folders.attached(data or config.data.root)))
    root = folders.locate(config)
    sample = contract.find_sample(root)
    files = _test_files(root, config)
    if files.empty and sample is None:
        raise errors.StageError(f"There are no test files below {root}, and no sample submission.")
    deadline = started + 60 * minutes * (1 - KEPT_BACK)
    shares = class_shares(folder, bundle.labels)
    learned = facts_learned(folder, root, bundle.labels)
    prior = priors.of_files(root, files, shares, learned, config)
    return HiddenTest(bundle, model, config, root, prior, deadline, files, sample, started)


def class_shares(folder: Path, classes: list[str]) -> pd.Series:
    """The shares of the classes among a run's training recordings; folder of it, or its weights."""
    if (folder / SHARES).is_file():
        return pd.Series(artifacts.read_json(folder / SHARES), dtype=float)[classes]
    rows = artifacts.read_table(folder / "waveforms.csv")
    return priors.shares(priors.training(rows)["label"], classes)


def facts_learned(folder: Path, root: Path, classes: list[str]) -> dict:
    """What where and when taught a run, as of `priors.learn`; folder of it, or its weights."""
    if (folder / FACTS).is_file():
        return artifacts.read_json(folder / FACTS)
    config = Config(**artifacts.read_json(folder / "run.json")["config"])
    if not priors.asked(config):
        return {}
    tables = [artifacts.read_table(folder / name) for name in ("recordings.csv", "waveforms.csv")]
    return priors.learned_by(root, *tables, classes, config)


def _test_files(root, config):
    """The test files with their length and how many clips they are expected to give."""
    files = sources.tested(root, config.data)
    seconds = [_duration(Path(root) / path) for path in files["path"]]
    seconds = pd.Series(seconds, files.index, dtype=float)
    typical = seconds.mode().get(0, config.audio.clip_seconds)
    by_files = config.audio.test_windows and config.submit.rows_from == "files"
    known = seconds.fillna(typical) if by_files else seconds
    size = config.audio.clip_seconds
    windowed = config.audio.test_windows
    step = size / config.audio.test_steps if windowed else size * (1 - windowing.OVERLAP)
    clips = 1 + np.ceil((seconds.fillna(typical) - size) / step).clip(lower=0)
    noted = {"outcome": LATE, "reason": "", "passes": 0}
    return files.assign(duration_seconds=known, expected_clips=clips, **noted)


def _duration(path):
    """Seconds of a recording by its header; NaN where soundfile does not read it."""
    try:
        return soundfile.info(path).duration
    except (soundfile.LibsndfileError, OSError, UnicodeEncodeError):
        return np.nan


def _batches(files):
    """Files in batches of about as many clips, which are smaller where there are few."""
    size = min(CLIPS, max(FEWEST, files["expected_clips"].sum() // BATCHES))
    number = (files["expected_clips"].cumsum() - files["expected_clips"]) // size
    return [batch for _, batch in files.groupby(number)]


def _table_of(rows):
    names = ["clip_id", "recording_id", "start_seconds", "valid_seconds"]
    return pd.DataFrame(rows, columns=names).astype(
        {"start_seconds": float, "valid_seconds": float}
    )


def _no_clips(labels):
    return (
        _table_of([])
        .reindex(columns=[*_table_of([]), *labels])
        .astype(dict.fromkeys(labels, float))
    )
