"""The bundle: a recording in, class probabilities out, through the same code that trained.

From the command line: ``python -m helpers predict FILE… --run demo --out folder`` (or ``make
predict FILE=… RUN=demo OUT=folder``). A file is heard from its first sample to its last
(`windowing.whole`), by whatever way it comes, and whatever its length: it is read block by block.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from helpers.audio import features, recording, windowing
from helpers.audio.decoder import Decoded
from helpers.base import artifacts, errors, work
from helpers.compare.hearing import Frames, Hearing, together
from helpers.models import checkpoints, networks
from helpers.splits import rules

BATCH = 32  # clips at a time: memory does not grow with a file's length


class Ensemble(torch.nn.Module):
    """The networks of a run's folds as one: the mean of their probabilities over shifted views.

    Args: models of one config, so with one front end; views.
    Shape: waveforms [B, N] -> probabilities [B, C].
    """

    def __init__(self, models: Sequence[networks.AudioClassifier], views: int):
        super().__init__()
        self.models = torch.nn.ModuleList(models)
        self.views = views

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        total = 0
        for view in range(self.views):
            bands = self.models[0].bands(self.shifted(waveforms, view))
            total = total + sum(model.probabilities(bands) for model in self.models)
        return total / self.views / len(self.models)

    def frames(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Class probabilities of each frame [B, C, T], of networks whose frames answer."""
        bands = self.models[0].bands(waveforms)
        return sum(model.frame_probabilities(bands) for model in self.models) / len(self.models)

    def shifted(self, waveforms: torch.Tensor, view: int) -> torch.Tensor:
        """Clips [B, N] of one of the views: their last `view` of `views` parts come first."""
        size = waveforms.shape[1]
        end = size - size * view // self.views
        return torch.cat([waveforms[:, end:], waveforms[:, :end]], dim=1)


class Bundle:
    """The networks of a run's folds as one model: their probabilities averaged.

    With several labels per recording (`multilabel`) each class has a probability of its own, and is
    said where it reaches its threshold (`thresholds`, a Series by class; else None).

    Args: folder of the run; name of the network; device. Raises StageError if the run has no such
    network yet, or a file of it is not what training wrote.
    """

    def __init__(
        self,
        folder: Path | str,
        name: str = "cnn",
        device: str = "cpu",
    ):
        home = Path(folder) / "models" / name
        paths = sorted(home.glob("fold*"))
        if not paths:
            raise errors.StageError(
                f"There is no trained {name} in {folder}. Run 05_train_cnn.ipynb, or"
                " `make run-all`."
            )
        artifacts.check_seal(
            home, "fold*/card.json", "fold*/weights.safetensors", "thresholds.json"
        )
        self.config = checkpoints.read_card(paths[0])["config"]
        self.device = device
        loaded = [checkpoints.load(path, self.config, device) for path in paths]
        work.keep_memory()
        self.models = [model for model, _ in loaded]
        self.ensemble = Ensemble(self.models, self.config.train.views)
        self.labels = loaded[0][1]["labels"]
        self.multilabel = self.config.data.multilabel
        self.thresholds = thresholds(home)[self.labels] if self.multilabel else None

    @torch.no_grad()
    def predict_clips(self, waveforms: np.ndarray | torch.Tensor) -> np.ndarray:
        """Class probabilities [B, C] of clips float32 [B, clip_samples].

        They are the mean over folds and shifted views.
        """
        return self.ensemble(torch.as_tensor(waveforms, device=self.device)).cpu().numpy()

    @torch.no_grad()
    def predict_frames(self, waveforms: np.ndarray | torch.Tensor) -> np.ndarray:
        """Class probabilities of each frame of clips [B, C, T], the mean over folds.

        No frames, [B, C, 0], of networks that answer for whole clips.
        """
        if self.frame_seconds is None:
            return np.zeros((len(waveforms), len(self.labels), 0), np.float32)
        return self.ensemble.frames(torch.as_tensor(waveforms, device=self.device)).cpu().numpy()

    @property
    def frame_seconds(self) -> float | None:
        """Seconds from one frame that answers to the next; None: only whole clips do."""
        length = self.models[0].frame_length
        return length and length * self.config.features.hop_length / self.config.audio.sample_rate

    def passes(self) -> list[tuple]:
        """All answers of which `predict_clips` takes the mean: (network, number of the view).

        Every network hears the clip as it is before any hears it shifted.
        """
        return [(model, view) for view in range(self.ensemble.views) for model in self.models]

    @torch.no_grad()
    def answer(self, waveforms: torch.Tensor, model, view: int) -> torch.Tensor:
        """Class probabilities [B, C] of clips [B, samples] on the device by one of `passes`."""
        return model.probabilities(self.ensemble.shifted(waveforms, view))

    def hear(
        self,
        source: Path | str | Decoded,
        overlap: float = windowing.OVERLAP,
        threshold: float | None = None,
        progress: Callable = work.quietly,
    ) -> Hearing:
        """What the networks hear in a whole file.

        Args: source its path, or what `decoder.decode` made of it; overlap share of a window that
            lies over the next; threshold as of Hearing; progress as `work.progress`.
        Raises AudioIssue for what 02 would set aside, by the same rules; but a file may be longer
            than audio.max_seconds. Raises ConfigError for no such overlap or threshold.
        """
        whole = self._whole(source, overlap, progress)
        return self._heard([whole], threshold, progress)[0]

    def _whole(self, source, overlap=windowing.OVERLAP, progress=work.quietly):
        mono = recording.read(source, self.config.audio.sample_rate, progress=progress)
        rules.require_usable(mono, self.config.clean)
        whole = windowing.whole(mono, self.config, overlap)
        if whole.pieces.empty:
            raise errors.AudioIssue("SILENT", "what is left after cleaning holds no sound")
        return whole

    def _heard(self, files, threshold=None, progress=work.quietly):
        """A Hearing of each Whole; the clips of all go through the networks BATCH at a time."""
        clips = itertools.chain.from_iterable(whole.clips() for whole in files)
        batches = iter(lambda: list(itertools.islice(clips, BATCH)), [])
        ends = np.cumsum([len(whole.pieces) for whole in files])
        steps = progress(batches, "hear", -(-ends[-1] // BATCH))
        answers = []
        for batch in steps:
            waveforms = np.stack(batch)
            answers.append((self.predict_clips(waveforms), self.predict_frames(waveforms)))
        parts = zip(*answers, strict=True)
        of_clips, of_frames = (np.split(np.concatenate(part), ends[:-1]) for part in parts)
        how = (self.thresholds, self.config.model.aggregate, threshold)
        return [
            Hearing(whole, pd.DataFrame(clips, columns=self.labels), *how, self._frames(frames))
            for whole, clips, frames in zip(files, of_clips, of_frames, strict=True)
        ]

    def _frames(self, probabilities):
        return self.frame_seconds and Frames(probabilities, self.frame_seconds)

    def predict_file(self, path: Path | str) -> pd.Series:
        """Class probabilities of a recording, highest first. Raises AudioIssue as `hear`."""
        return self.hear(path).overall

    def events(self, path: Path | str, **how) -> pd.DataFrame:
        """What was heard from when to when: onset, offset (seconds), label, probability.

        Args: path; overlap, threshold, progress as of `hear`. Raises AudioIssue as there.
        """
        return self.hear(path, **how).events()

    def predict_files(self, paths: Sequence[Path | str], batch_size: int = 8) -> pd.DataFrame:
        """Class probabilities of many recordings: a row per path, a column per class.

        Each thread takes some files from their bytes to the networks' answers, `batch_size` at a
        time, so no core waits and memory does not grow with their number. Raises AudioIssue, with
        its path, for the first that cannot be used.
        """

        def answer(first):
            files = [self._named(path) for path in paths[first : first + batch_size]]
            heard = self._heard(files)
            return [(one.probabilities, one.heard.valid_seconds) for one in heard]

        firsts = range(0, len(paths), batch_size)
        with work.cpu_threads(1):
            answers = list(work.in_threads(answer, firsts, "predict files"))
        if not answers:
            return pd.DataFrame(columns=self.labels)
        probabilities, seconds = zip(*itertools.chain.from_iterable(answers), strict=True)
        numbers = np.repeat(np.arange(len(paths)), [len(pieces) for pieces in seconds])
        pieces = (pd.concat(probabilities), pd.concat(seconds), pd.Series(numbers))
        how = self.config.model.aggregate
        return together(*pieces, how, self.multilabel).set_axis(list(paths))

    def _named(self, path):
        """The Whole of a path; what is wrong with it says its path."""
        try:
            return self._whole(path)
        except errors.AudioIssue as issue:
            raise errors.AudioIssue(issue.code, f"{path}: {issue.detail}") from None

    def predict_packed(
        self,
        packed: np.ndarray,
        rows: pd.DataFrame,
        batch_size: int = 64,
    ) -> pd.DataFrame:
        """Class probabilities of rows of waveforms.csv: a table clip_id and a column per class."""
        table = pd.DataFrame(0.0, rows.index, self.labels)
        starts = range(0, len(rows), batch_size)
        for start in work.progress(starts, "predict", len(starts)):
            batch = rows.index[start : start + batch_size]
            table.loc[batch] = self.predict_clips(features.unpack(packed[batch]))
        table.insert(0, "clip_id", rows["clip_id"])
        return table.reset_index(drop=True)


def thresholds(home: Path) -> pd.Series:
    """From which probability on a model says each class, by class; for runs with several labels.

    Args: home the model's folder.
    """
    with artifacts.readable(home / "thresholds.json"):
        return pd.Series(artifacts.read_json(home / "thresholds.json"), dtype=float)


def costs(model: torch.nn.Module, packed: np.ndarray, history: list) -> dict:
    """What the network costs: seconds of training per fold, ms per clip, parameters.

    Args: model; packed int16 [clips, samples]; history of its training.
    """
    seconds = pd.DataFrame(history).groupby("fold")["seconds"].sum()
    return {
        "train_seconds": round(float(seconds.mean()), 3),
        "ms_per_clip": round(1000 * seconds_per_clip(model, packed), 3),
        "parameters": networks.count_parameters(model),
    }


def seconds_per_clip(
    model: torch.nn.Module,
    packed: np.ndarray,
    count: int = 32,
    repeats: int = 3,
) -> float:
    """Time that one network takes per clip, in batches of `count`: the median of some repeats."""
    waveforms = torch.from_numpy(features.unpack(packed[:count]))
    times = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            started = time.perf_counter()
            model(waveforms)
            times.append(time.perf_counter() - started)
    return float(np.median(times[1:])) / len(waveforms)
