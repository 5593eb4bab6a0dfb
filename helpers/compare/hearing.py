"""What the networks hear in a whole file: its answer, its windows, its events, their files."""

import glob
import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.ndimage import median_filter

from helpers.audio import containers, windowing
from helpers.base import artifacts, errors, targets
from helpers.metrics import decisions

WINDOW = ("start", "end", "label", "probability")  # columns of windows, before the classes
EVENT = ("onset", "offset", "label", "probability")
RAVEN = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)")
RAVEN += ("Low Freq (Hz)", "High Freq (Hz)", "Label", "Probability")
KEY = "recording_id"  # cannot be a class
STEPS = 4  # in a frame of a network whose frames answer: an event begins and ends with one
SMOOTHED = 0.25  # of a window, over which frames' probabilities are filtered by their median
FINE_SECONDS = 60  # the course of a longer file is told in half windows


class Frames(NamedTuple):
    """What a network whose frames answer says of each frame of each piece."""

    probabilities: np.ndarray  # [pieces, classes, frames]
    seconds: float  # from one frame to the next; the first lies where its piece begins


@dataclass(frozen=True)
class Hearing:
    """What was heard in a whole file, in its own time.

    heard: the windowing.Whole.
    probabilities: a row per piece of it, a column per class.
    thresholds: from which on a class is said, a Series by class; None: the most probable one is.
    how: model.aggregate.
    threshold: from which probability on anything is said: of several labels instead of
        `thresholds`, of one label only then. None: no such limit.
    frames: of a network whose frames answer: events come from them, else from half windows.
    """

    heard: windowing.Whole
    probabilities: pd.DataFrame
    thresholds: pd.Series | None
    how: str = "mean"
    threshold: float | None = None
    frames: Frames | None = None

    def __post_init__(self):
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise errors.ConfigError(
                f"a threshold of {self.threshold:g}: it is a probability, 0 to 1"
            )

    @property
    def overall(self) -> pd.Series:
        """The class probabilities of the file, highest first: windows count by what they hold."""
        everything = pd.Series(0, self.probabilities.index)
        return (
            self._together(everything, self.how).loc[0].sort_values(ascending=False, kind="stable")
        )

    def answer(self) -> pd.Series:
        """What of `overall` may be said: all that reaches a threshold, where there is one."""
        limits = 0 if self.thresholds is None else self.thresholds[self.overall.index]
        return self.overall[self.overall >= (limits if self.threshold is None else self.threshold)]

    def by_window(self) -> pd.DataFrame:
        """Class probabilities over time: a row per window, NaN where it holds no sound."""
        sounding = self._together(self.heard.pieces["window"], "mean")
        return sounding.reindex(self.heard.windows.index)

    def windows(self) -> pd.DataFrame:
        """A row per window: start, end (seconds), label, probability, the classes (`columns`).

        Of a window without sound nothing is said: its label is empty, its numbers are missing.
        """
        probabilities = self.by_window()
        said = self.said()
        table = self.heard.windows.set_axis(WINDOW[:2], axis=1).round(4)
        table["label"] = [targets.join(said.columns[row]) for row in said.to_numpy()]
        table["probability"] = probabilities.where(said).max(axis=1).round(6)
        return table.join(probabilities.round(6).set_axis(columns(probabilities), axis=1))

    def events(self) -> pd.DataFrame:
        """What was heard from when to when: onset, offset (seconds), label, probability.

        Where windows overlap they are averaged. Neighbours of one label are joined, up to a pause
        that divides the file into takes, and an event begins and ends with its sound. Where a
        recording may have several labels, each class has events of its own, and in frames only
        where the windows' own answers say it too: without attention a frame is not to be trusted.
        """
        rows = []
        for take in self.heard.pieces["take"].unique():
            spans, probabilities = self.spans(take)
            said = self._said(probabilities)
            if self.frames is not None and self.thresholds is not None:
                said &= self._said_of_windows(take, spans)
            for name in probabilities:
                for run in _runs(said[name].to_numpy()):
                    rows.append(_event(spans.iloc[run], probabilities[name].iloc[run]))
        table = pd.DataFrame(rows, columns=EVENT)
        table = table.sort_values(["onset", "offset", "label"], ignore_index=True)
        return table.round({"onset": 4, "offset": 4, "probability": 6})

    def course(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """What was heard over time, in two tables of a row per span with sound.

        Returns (its onset and offset in seconds; its class probabilities).
        """
        is_long = self.heard.edges[-1] > FINE_SECONDS
        parts = self.half_windows if is_long else self.spans
        numbers = self.heard.pieces["take"].unique()
        takes = [parts(take) for take in numbers]
        spans, probabilities = zip(*takes, strict=True)
        return pd.concat(spans, ignore_index=True), pd.concat(probabilities, ignore_index=True)

    def said(self) -> pd.DataFrame:
        """Which classes are said of each window: a table of bool, False where there is no sound."""
        probabilities = self.by_window()
        return self._said(probabilities)

    def spans(self, take: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """A take in spans as fine as the networks answer: parts of frames, or half windows.

        Returns (onset, offset of the sound in each span; class probabilities), two tables of a row
        per span with sound.
        """
        return self.half_windows(take) if self.frames is None else self.fine(take)

    def fine(self, take: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """A take in parts of frames, those of overlapping windows averaged. Returns as `spans`."""
        pieces = self.heard.pieces.query("take == @take")
        begin = pieces["sound_start"].min()
        end = pieces["sound_end"].max()
        step = self.frames.seconds / STEPS
        edges = np.linspace(begin, end, 1 + max(1, round((end - begin) / step)))
        spans = pd.DataFrame({"onset": edges[:-1], "offset": edges[1:]})
        mean = self._mean_of_frames(pieces, spans.mean(axis=1).to_numpy())
        covered = np.isfinite(mean).all(axis=1)
        smoothed = SMOOTHED * self.heard.settings.clip_seconds
        width = 1 + 2 * round(smoothed / step / 2)
        smooth = median_filter(mean[covered], (width, 1), mode="nearest")
        table = pd.DataFrame(smooth, columns=self.probabilities.columns)
        heard = spans[covered].reset_index(drop=True)
        return heard, table

    def _said_of_windows(self, take, spans):
        """Which classes are said of the half windows in which spans of a take begin: bool array."""
        halves, probabilities = self.half_windows(take)
        place = np.searchsorted(halves["onset"], spans["onset"], side="right") - 1
        return self._said(probabilities).to_numpy()[place.clip(min=0)]

    def _mean_of_frames(self, pieces, times):
        """What pieces say at some times (seconds) on average: [times, C], NaN where none does."""
        heard = np.zeros((len(times), self.probabilities.shape[1]), np.float32)
        count = np.zeros((len(times), 1), np.float32)
        rate = self.heard.settings.sample_rate
        for piece in pieces.itertuples():
            ends = [piece.start / rate, piece.stop / rate]
            within = slice(*np.searchsorted(times, ends))
            places = (times[within] - ends[0]) / self.frames.seconds
            heard[within] += _between(self.frames.probabilities[piece.Index], places)
            count[within] += 1
        return np.divide(heard, count, out=np.full_like(heard, np.nan), where=count > 0)

    def half_windows(self, take: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """A take in spans of half a window, and what the windows that cover each say together.

        Returns as `spans`.
        """
        pieces = self.heard.pieces.query("take == @take")
        begin = pieces["sound_start"].min()
        end = pieces["sound_end"].max()
        starts, ends = self._half_windows(begin, end)
        span = self._covered(pieces["window"], starts, ends)
        sounding = pieces.loc[span.index].groupby(span.to_numpy())
        spans = sounding.agg(onset=("sound_start", "max"), offset=("sound_end", "min"))
        spans["onset"] = spans["onset"].clip(lower=starts[spans.index])
        spans["offset"] = spans["offset"].clip(upper=ends[spans.index])
        heard = spans[spans["onset"] < spans["offset"]]
        probabilities = self._together(span, "mean").loc[heard.index]
        return heard.reset_index(drop=True), probabilities.reset_index(drop=True)

    def _covered(self, window, starts, ends):
        """The spans that each piece's window covers: their numbers, by piece."""
        windows = self.heard.windows.loc[window]
        first = np.searchsorted(starts, windows["start_seconds"])
        last = np.searchsorted(ends, windows["end_seconds"], side="right")
        covered = [range(*both) for both in zip(first, last, strict=True)]
        return pd.Series(covered, window.index).explode().dropna().astype(int)

    def _half_windows(self, begin, end):
        """Starts and ends (seconds) of the half windows of a take.

        What is very short belongs to the one beside it.
        """
        edges = self.heard.edges
        edges = edges[(edges > begin) & (edges < end)]
        least = self.heard.shortest if self.heard.overlap >= 0.5 else 0  # else no window holds both
        inner = edges[(edges > begin + least) & (edges < end - least)]
        if len(inner) == 0 and len(edges) > 1:  # nor does one hold all of it here
            inner = edges
        return np.append(begin, inner), np.append(inner, end)

    def _said(self, probabilities):
        """Which classes are said of each row of a table of probabilities: a table of bool."""
        if self.thresholds is not None:
            limits = self.thresholds[list(probabilities)]
            return probabilities.ge(limits if self.threshold is None else self.threshold)
        best = probabilities.fillna(-1).to_numpy().argmax(axis=1)
        said = np.eye(len(probabilities.columns), dtype=bool)[best]
        return probabilities.ge(self.threshold or 0) & said

    def _together(self, key, how):
        """The pieces' probabilities joined by a key, each counted by what it holds.

        Args: key a Series by piece, which may stand there several times; how to join.
        """
        table = self.probabilities.loc[key.index]
        seconds = self.heard.valid_seconds.loc[key.index]
        several = self.thresholds is not None
        return together(table, seconds, key, how, several, self.heard.overlap)

    def write(self, folder: Path, stem: str) -> None:
        """Write <stem>.windows.csv, .events.csv, .labels.txt (Audacity), .selections.txt (Raven).

        Each is put in place whole.
        """
        for name, text in self.files().items():
            artifacts.write_text(Path(folder) / f"{stem}.{name}", text)

    def files(self) -> dict:
        """What `write` writes: text by the end of the file's name."""
        events = self.events()
        named = events.assign(label=[" ".join(str(label).split()) for label in events["label"]])
        return {
            "windows.csv": self.windows().to_csv(index=False, lineterminator="\n"),
            "events.csv": events.to_csv(index=False, lineterminator="\n"),
            "labels.txt": _lines("{onset:.6f}\t{offset:.6f}\t{label}", named),
            "selections.txt": "\t".join(RAVEN) + "\n" + _lines(self._raven(), named),
        }

    def _raven(self):
        """A row of Raven's selection table: a box from 0 Hz to the highest that was heard."""
        box = f"0\t{self.heard.nyquist_hz:g}"
        times = "{onset:.6f}\t{offset:.6f}"
        return f"{{number}}\tSpectrogram 1\t1\t{times}\t{box}\t{{label}}\t{{probability:.6f}}"


def together(
    probabilities: pd.DataFrame,
    seconds: pd.Series,
    key: pd.Series,
    how: str,
    multilabel: bool,
    overlap: float = windowing.OVERLAP,
) -> pd.DataFrame:
    """The probabilities of pieces joined by a key, each counted by what it holds.

    Args: probabilities, seconds of sound and key, a row per piece; how as of
        `decisions.aggregate`; multilabel; overlap of the windows.
    """
    table = probabilities.reset_index(drop=True)
    key = key.reset_index(drop=True).rename(KEY)
    weights = decisions.weigh(seconds.reset_index(drop=True), key, overlap)
    return decisions.aggregate(table.join(key), KEY, list(table), how, multilabel, weights)


def columns(classes: Iterable[str]) -> list[str]:
    """The classes as columns of a table of windows: one that is called as another column is marked.

    >>> columns(["dog", "start"])
    ['dog', 'class start']
    """
    return [f"class {name}" if name in WINDOW else name for name in classes]


def recordings(names: Iterable[str]) -> list[str]:
    """The files that are meant by names of files, folders and patterns such as site/**/*.flac.

    Of a folder, all that lies below it, and of a pattern, all that it matches, if they are called
    as recordings are. Raises SourceError where that is nothing.
    """
    files = []
    for name in names:
        is_folder = Path(name).is_dir()
        if Path(name).exists() != is_folder or not (is_folder or glob.has_magic(name)):
            files.append(name)  # a file, or what will be said not to be there
            continue
        met = Path(name).rglob("*") if is_folder else map(Path, glob.iglob(name, recursive=True))
        hits = sorted(str(path) for path in met if _sounds(path))
        if not hits:
            nothing = f"{name} holds no" if is_folder else f"{name} matches no"
            suffixes = " ".join(containers.SUFFIXES)
            raise errors.SourceError(f"{nothing} recording; their names end in {suffixes}")
        files += hits
    return files


def _sounds(path):
    named = path.suffix.casefold() in containers.SUFFIXES and not path.name.startswith(".")
    return named and path.is_file()


def stems(paths: Iterable[Path | str]) -> list[str]:
    """A name for the answers of each file: its stem, or where several share that its whole name.

    Where they share that too, a number is added.

    >>> stems(["a/x.wav", "b/x.wav", "x.mp3", "y.wav"])
    ['x.wav', 'x.wav-2', 'x.mp3', 'y']
    """
    places = [Path(path).absolute() for path in paths]
    sharing = Counter(place.stem.casefold() for place in set(places))
    names = {}
    taken = set()
    for place in dict.fromkeys(places):
        name = place.name if sharing[place.stem.casefold()] > 1 else place.stem
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        free = (one for one in itertools.chain([name], numbered) if one.casefold() not in taken)
        names[place] = next(free)
        taken.add(names[place].casefold())
    return [names[place] for place in places]


def _lines(form, events):
    """A line per event."""
    return "".join(
        form.format(number=number, **row._asdict()) + "\n"
        for number, row in enumerate(events.itertuples(index=False), 1)
    )


def _between(probabilities, places):
    """Probabilities [classes, frames] at places counted in frames, linear between: [places, …]."""
    last = probabilities.shape[1] - 1
    first = np.clip(places.astype(int), 0, last)
    share = np.clip(places - first, 0, 1)
    after = probabilities[:, np.minimum(first + 1, last)]
    return (probabilities[:, first] * (1 - share) + after * share).T


def _event(spans, probabilities):
    """An event as a row: spans beside each other, and how probable its class is in each."""
    seconds = spans["offset"] - spans["onset"]
    probability = np.average(probabilities, weights=seconds)
    return spans["onset"].iloc[0], spans["offset"].iloc[-1], probabilities.name, probability


def _runs(flags):
    """Places of flags that are set, neighbours together: a list of arrays."""
    places = np.flatnonzero(flags)
    return np.split(places, np.flatnonzero(np.diff(places) > 1) + 1) if len(places) else []
