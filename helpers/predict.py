"""The bundle: a recording in, class probabilities out, through the same code that trained.

From the command line: ``python -m helpers.predict FILE… --run demo`` (or ``make predict FILE=… RUN=demo``).
"""

import argparse
import functools
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from helpers import artifacts, audio, checkpoints, clean, decisions, features, models, processes


class Bundle:
    """The networks of a run's folds as one model: their probabilities averaged.

    With several labels per recording (`multilabel`) each class has a probability of its own, and is said where it
    reaches its threshold (`thresholds`, a Series by class; else None).

    Args: folder of the run; name of the network; device. Raises StageError if the run has no such network yet, or a
    file of it is not what training wrote.
    """

    def __init__(self, folder, name="cnn", device="cpu"):
        home = Path(folder) / "models" / name
        paths = sorted(home.glob("fold*"))
        if not paths:
            raise artifacts.StageError(
                f"There is no trained {name} in {folder}. Run 05_train_cnn.ipynb, or `make run-all`."
            )
        artifacts.check_seal(home, "fold*/*", "thresholds.json")
        self.config = checkpoints.read_card(paths[0])["config"]
        loaded = [checkpoints.load(path, self.config, device) for path in paths]
        processes.keep_memory()
        self.models, self.labels, self.device = [model for model, _ in loaded], loaded[0][1]["labels"], device
        self.multilabel, self.thresholds = self.config.data.multilabel, None
        if self.multilabel:
            with artifacts.readable(home / "thresholds.json"):
                found = artifacts.read_json(home / "thresholds.json")
                self.thresholds = pd.Series(found, dtype=float)[self.labels]

    @torch.no_grad()
    def predict_clips(self, waveforms):
        """Class probabilities [B, C] of clips float32 [B, clip_samples], the mean over folds and shifted views."""
        waveforms = torch.as_tensor(waveforms, device=self.device)
        views, size = self.config.train.views, waveforms.shape[1]
        shifted = [waveforms.roll(round(view * size / views), dims=1) for view in range(views)]
        return (
            (sum(model.probabilities(x) for model in self.models for x in shifted) / views / len(self.models))
            .cpu()
            .numpy()
        )

    def predict_file(self, path):
        """Class probabilities of a recording: a Series, highest first. Raises AudioIssue for what cannot be used."""
        windows = self.windows(clean.load_clean(path, self.config)).assign(recording_id=str(path))
        how, several = self.config.model.aggregate, self.multilabel
        return (
            decisions.aggregate(windows, "recording_id", self.labels, how, several).iloc[0].sort_values(ascending=False)
        )

    def predict_files(self, paths, batch_size=4):
        """Class probabilities of many recordings: a table with a row per path, in their order, and a column per class.

        Each thread takes some files from their bytes to the networks' answers, `batch_size` at a time, so no core waits
        and memory does not grow with their number. Raises AudioIssue, with its path, for the first that cannot be used.
        """

        def answer(first):
            cut = [_clips(path, self.config) for path in paths[first : first + batch_size]]
            clips, owner = np.concatenate(cut), first + np.repeat(np.arange(len(cut)), [len(clips) for clips in cut])
            found = [self.predict_clips(clips[start : start + 64]) for start in range(0, len(clips), 64)]
            return pd.DataFrame(np.concatenate(found), columns=self.labels).assign(file=owner)

        if not len(paths):
            return pd.DataFrame(columns=self.labels)
        with processes.cpu_threads(1):
            clips = pd.concat(artifacts.in_threads(answer, range(0, len(paths), batch_size), "predict files"))
        table = decisions.aggregate(clips, "file", self.labels, self.config.model.aggregate, self.multilabel)
        return table.set_axis(list(paths))

    def windows(self, waveform):
        """Class probabilities over time: a table start_seconds, end_seconds and a column per class, a row per clip.

        Args: waveform cleaned, float32 [samples] at the config's rate (`clean.load_clean`). It is cut as the training
            recordings were. Raises AudioIssue if it is silent.
        """
        if audio.level_db(waveform) <= audio.FLOOR_DB:
            raise audio.AudioIssue("SILENT", "the recording holds no sound")
        starts, lengths, clips = zip(*clean.cut(waveform, self.config.audio), strict=True)
        times = pd.DataFrame({"start_seconds": starts, "end_seconds": np.add(starts, lengths)})
        batches = [self.predict_clips(np.stack(clips[first : first + 64])) for first in range(0, len(clips), 64)]
        return pd.concat([times, pd.DataFrame(np.concatenate(batches), columns=self.labels)], axis=1)

    def predict_packed(self, packed, rows, batch_size=64):
        """Class probabilities of rows of waveforms.csv: a table clip_id and a column per class."""
        batches = np.array_split(rows.index.to_numpy(), max(1, -(-len(rows) // batch_size)))
        batches = artifacts.progress(batches, "predict", len(batches))
        found = [self.predict_clips(features.unpack(packed[batch])) for batch in batches if len(batch)]
        table = pd.DataFrame(np.concatenate(found) if found else np.zeros((0, len(self.labels))), columns=self.labels)
        return pd.concat([rows[["clip_id"]].reset_index(drop=True), table], axis=1)


def _clips(path, config):
    """The clips of a recording, cleaned and cut as the training recordings were: float32 [clips, clip_samples]."""
    try:
        waveform = clean.load_clean(path, config)
        if audio.level_db(waveform) <= audio.FLOOR_DB:
            raise audio.AudioIssue("SILENT", "the recording holds no sound")
    except audio.AudioIssue as issue:
        raise audio.AudioIssue(issue.code, f"{path}: {issue.detail}") from None
    return np.stack([clip for *_, clip in clean.cut(waveform, config.audio)])


def costs(model, packed, history):
    """What the network costs, for the leaderboard: seconds of training per fold, ms per clip, parameters."""
    return {
        "train_seconds": round(float(pd.DataFrame(history).groupby("fold")["seconds"].sum().mean()), 3),
        "ms_per_clip": round(1000 * seconds_per_clip(model, packed), 3),
        "parameters": models.count_parameters(model),
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


def main(arguments=None):
    """Predict files from the command line: one line each, the most probable classes first. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.predict", description="Classify recordings with a trained run."
    )
    parser.add_argument("files", nargs="+", help="recordings: wav, flac, ogg, mp3, m4a, …")
    parser.add_argument("--run", default="demo", help="name of the run below outputs/ (default: demo)")
    parser.add_argument(
        "--top",
        type=int,
        default=3,
        help="classes shown per file (default: 3); with several labels per recording all that reach their thresholds",
    )
    options = parser.parse_args(arguments)
    try:
        bundle = Bundle(artifacts.existing_run(options.run))
    except (artifacts.StageError, ValueError, ImportError) as error:
        print(error, file=sys.stderr)
        return 1
    failed = 0
    with processes.cpu_threads(1):
        answer = functools.partial(_answer, bundle, options.top)
        for line, usable in artifacts.in_threads(answer, options.files):
            print(line, file=sys.stdout if usable else sys.stderr, flush=True)
            failed |= not usable
    return int(failed)


def _answer(bundle, top, path):
    """What the command line says of a file, and whether it could be used."""
    try:
        found = bundle.predict_file(path)
    except (audio.AudioIssue, OSError) as error:
        return f"{path}: {error}", False
    best = found[found >= bundle.thresholds[found.index]] if bundle.multilabel else found.head(top)
    said = ", ".join(f"{label} {probability:.1%}" for label, probability in best.items())
    return f"{path}: {said or 'none of the classes'}", True


if __name__ == "__main__":
    sys.exit(main())
