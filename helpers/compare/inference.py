"""The bundle: a recording in, class probabilities out, through the same code that trained.

From the command line: ``python -m helpers predict FILE… --run demo --out folder`` (or ``make
predict FILE=… RUN=demo OUT=folder``). A file is heard from its first sample to its last
(`clean.whole`), by whatever way it comes.
"""

import itertools
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from helpers.audio import decoder, features, windowing
from helpers.audio.decoder import Decoded
from helpers.base import artifacts, errors, work
from helpers.compare import hearing
from helpers.models import checkpoints, networks
from helpers.splits import rules

BATCH = 32  # clips at a time: memory does not grow with a file's length


class Bundle:
    """The networks of a run's folds as one model: their probabilities averaged.

    With several labels per recording (`multilabel`) each class has a probability of its own, and is
    said where it reaches its threshold (`thresholds`, a Series by class; else None).

    Args: folder of the run; name of the network; device. Raises StageError if the run has no such
    network yet, or a file of it is not what training wrote.
    """

    def __init__(self, folder, name="cnn", device="cpu"):
        home = Path(folder) / "models" / name
        paths = sorted(home.glob("fold*"))
        if not paths:
            raise errors.StageError(
                f"There is no trained {name} in {folder}. Run 05_train_cnn.ipynb, or `make run-all`."
            )
        artifacts.check_seal(
            home, "fold*/card.json", "fold*/weights.safetensors", "thresholds.json"
        )
        self.config = checkpoints.read_card(paths[0])["config"]
        loaded = [checkpoints.load(path, self.config, device) for path in paths]
        work.keep_memory()
        self.models, self.labels, self.device = (
            [model for model, _ in loaded],
            loaded[0][1]["labels"],
            device,
        )
        self.multilabel, self.thresholds = self.config.data.multilabel, None
        if self.multilabel:
            with artifacts.readable(home / "thresholds.json"):
                found = artifacts.read_json(home / "thresholds.json")
                self.thresholds = pd.Series(found, dtype=float)[self.labels]

    @torch.no_grad()
    def predict_clips(self, waveforms):
        """Class probabilities [B, C] of clips float32 [B, clip_samples], the mean over folds and
        shifted views.
        """
        waveforms = torch.as_tensor(waveforms, device=self.device)
        views, size = self.config.train.views, waveforms.shape[1]
        shifted = [waveforms.roll(round(view * size / views), dims=1) for view in range(views)]
        return (
            (
                sum(model.probabilities(x) for model in self.models for x in shifted)
                / views
                / len(self.models)
            )
            .cpu()
            .numpy()
        )

    def hear(self, source):
        """What the networks hear in a whole file: a Hearing. Args: source its path, or what
        `audio.decode` made of it.

        Raises AudioIssue for what 02 would set aside, by the same rules.
        """
        return self._heard([self._whole(source)])[0]

    def _whole(self, source):
        decoded = source
        if not isinstance(source, Decoded):
            decoded = decoder.decode(source, self.config.audio.max_seconds)
        rules.require_usable(decoded, self.config.clean)
        whole = windowing.whole(decoded, self.config)
        if whole.pieces.empty:
            raise errors.AudioIssue("SILENT", "what is left after cleaning holds no sound")
        return whole

    def _heard(self, files):
        """A Hearing of each Whole; the clips of all go through the networks together, BATCH at a
        time.
        """
        clips = itertools.chain.from_iterable(whole.clips() for whole in files)
        batches = iter(lambda: list(itertools.islice(clips, BATCH)), [])
        found = np.concatenate([self.predict_clips(np.stack(batch)) for batch in batches])
        ends = np.cumsum([len(whole.pieces) for whole in files])
        tables = [pd.DataFrame(part, columns=self.labels) for part in np.split(found, ends[:-1])]
        how = self.config.model.aggregate
        return [
            hearing.Hearing(whole, table, self.thresholds, how)
            for whole, table in zip(files, tables, strict=True)
        ]

    def predict_file(self, path):
        """Class probabilities of a recording: a Series, highest first. Raises AudioIssue for what
        cannot be used.
        """
        return self.hear(path).overall

    def windows(self, path):
        """What is said of a recording over time: start, end (seconds), label, probability and a
        column per class.

        A row per window, half over the one before, from the first sample to the last; where there
        is no sound, nothing is said. Raises AudioIssue for what cannot be used.
        """
        return self.hear(path).windows()

    def events(self, path):
        """What was heard in a recording from when to when: onset, offset (seconds), label,
        probability. Raises AudioIssue for what cannot be used.
        """
        return self.hear(path).events()

    def predict_files(self, paths, batch_size=4):
        """Class probabilities of many recordings: a table with a row per path, in their order, and
        a column per class.

        Each thread takes some files from their bytes to the networks' answers, `batch_size` at a
        time, so no core waits and memory does not grow with their number. Raises AudioIssue, with
        its path, for the first that cannot be used.
        """

        def answer(first):
            files = [self._named(path) for path in paths[first : first + batch_size]]
            return [heard.overall[self.labels] for heard in self._heard(files)]

        if not len(paths):
            return pd.DataFrame(columns=self.labels)
        with work.cpu_threads(1):
            found = list(work.in_threads(answer, range(0, len(paths), batch_size), "predict files"))
        return pd.DataFrame([row for rows in found for row in rows]).set_axis(list(paths))

    def _named(self, path):
        """The Whole of a path; what is wrong with it says its path."""
        try:
            return self._whole(path)
        except errors.AudioIssue as issue:
            raise errors.AudioIssue(issue.code, f"{path}: {issue.detail}") from None

    def predict_packed(self, packed, rows, batch_size=64):
        """Class probabilities of rows of waveforms.csv: a table clip_id and a column per class."""
        batches = np.array_split(rows.index.to_numpy(), max(1, -(-len(rows) // batch_size)))
        batches = work.progress(batches, "predict", len(batches))
        found = [
            self.predict_clips(features.unpack(packed[batch])) for batch in batches if len(batch)
        ]
        table = pd.DataFrame(
            np.concatenate(found) if found else np.zeros((0, len(self.labels))), columns=self.labels
        )
        return pd.concat([rows[["clip_id"]].reset_index(drop=True), table], axis=1)


def costs(model, packed, history):
    """What the network costs, for the leaderboard: seconds of training per fold, ms per clip,
    parameters.
    """
    return {
        "train_seconds": round(
            float(pd.DataFrame(history).groupby("fold")["seconds"].sum().mean()), 3
        ),
        "ms_per_clip": round(1000 * seconds_per_clip(model, packed), 3),
        "parameters": networks.count_parameters(model),
    }


def seconds_per_clip(model, packed, count=32, repeats=3):
    """Time that one network takes per clip, in batches of `count`: the median of some repeats."""
    waveforms, times = torch.from_numpy(features.unpack(packed[:count])), []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            started = time.perf_counter()
            model(waveforms)
            times.append((time.perf_counter() - started) / len(waveforms))
    return float(np.median(times[1:]))
