"""What the networks hear in a whole file: its answer, its windows, its events, their files."""

import itertools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.audio import windowing
from helpers.base import artifacts
from helpers.metrics import decisions

WINDOW = ("start", "end", "label", "probability")  # columns of windows, before the classes
EVENT = ("onset", "offset", "label", "probability")
KEY = "recording_id"  # cannot be a class


@dataclass(frozen=True)
class Hearing:
    """What was heard in a whole file, in its own time.

    heard: the clean.Whole.
    probabilities: a row per piece of it, a column per class.
    thresholds: from which on a class is said, a Series by class; None: the most probable one is.
    how: model.aggregate.
    """

    heard: windowing.Whole
    probabilities: pd.DataFrame
    thresholds: pd.Series | None
    how: str = "mean"

    @property
    def overall(self):
        """The class probabilities of the file, highest first: windows count by what they hold."""
        table = self._together(pd.Series(0, self.probabilities.index), self.how)
        return table.iloc[0].sort_values(ascending=False, kind="stable")

    def by_window(self):
        """Class probabilities over time: a row per window, NaN where it holds no sound."""
        found = self._together(self.heard.pieces["window"], "mean")
        return found.reindex(self.heard.windows.index)

    def windows(self):
        """A row per window: start, end (seconds), label, probability, the classes (`columns`).

        Of a window without sound nothing is said: its label is empty, its numbers are missing.
        """
        found = self.by_window()
        heard = found.dropna()
        said = decisions.say(heard, self.thresholds).reindex(found.index, fill_value="")
        times = self.heard.windows.set_axis(WINDOW[:2], axis=1).round(4)
        surest = found.where(self._said(found)).max(axis=1)
        table = times.assign(label=said, probability=surest.round(6))
        return pd.concat([table, found.round(6).set_axis(columns(found), axis=1)], axis=1)

    def events(self):
        """What was heard from when to when: onset, offset (seconds), label, probability.

        Where windows overlap they are averaged. Neighbours of one label are joined, up to a pause
        that divides the file into takes, and an event begins and ends with its sound. Where a
        recording may have several labels, each class has events of its own.
        """
        takes = self.heard.pieces["take"].unique()
        rows = [row for take in takes for row in self._events_of(take)]
        table = pd.DataFrame(rows, columns=list(EVENT))
        table = table.sort_values(["onset", "offset", "label"], ignore_index=True)
        return table.round({"onset": 4, "offset": 4, "probability": 6})

    def _events_of(self, take):
        """The events of one take, as rows."""
        spans, found = self.spans(take)
        said, seconds, rows = self._said(found), spans["offset"] - spans["onset"], []
        for name in found:
            for run in _runs(said[name].to_numpy()):
                probability = np.average(found[name].iloc[run], weights=seconds.iloc[run])
                onset, offset = spans["onset"].iloc[run[0]], spans["offset"].iloc[run[-1]]
                rows.append((onset, offset, name, probability))
        return rows

    def course(self):
        """What was heard over time, in two tables of a row per span with sound.

        Returns (its onset and offset in seconds; its class probabilities).
        """
        takes = [self.spans(take) for take in self.heard.pieces["take"].unique()]
        spans = pd.concat([spans for spans, _ in takes], ignore_index=True)
        return spans, pd.concat([found for _, found in takes], ignore_index=True)

    def said(self):
        """Which classes are said of each window: a table of bool, False where there is no sound."""
        found = self.by_window()
        return self._said(found) & found.notna()

    def spans(self, take):
        """A take in spans of half a window, and what the windows that cover each say together.

        Returns (onset, offset of the sound in each span; class probabilities), two tables of a row
        per span with sound.
        """
        rows = self.heard.pieces["take"].eq(take).to_numpy()
        pieces, probabilities = self.heard.pieces[rows], self.probabilities.to_numpy()[rows]
        starts, ends = self._half_windows(pieces["sound_start"].min(), pieces["sound_end"].max())
        places, covers = self._covering(pieces, starts, ends)
        sound_start = np.where(covers, pieces["sound_start"].to_numpy()[places], -np.inf)
        sound_end = np.where(covers, pieces["sound_end"].to_numpy()[places], np.inf)
        onset = np.maximum(starts, sound_start.max(axis=1))
        offset = np.minimum(ends, sound_end.min(axis=1))
        weights = covers * self.heard.valid_seconds.to_numpy()[rows][places]
        heard = covers.any(axis=1) & (onset < offset)
        total = np.einsum("sk,skc->sc", weights, probabilities[places])[heard]
        found = total / weights[heard].sum(axis=1, keepdims=True)
        spans = pd.DataFrame({"onset": onset[heard], "offset": offset[heard]})
        return spans, pd.DataFrame(found, columns=list(self.probabilities))

    def _covering(self, pieces, starts, ends):
        """The pieces whose windows cover each span: places [spans, most], and which of them do."""
        windows = self.heard.windows.loc[pieces["window"]].to_numpy()
        first = np.searchsorted(windows[:, 1], ends)
        last = np.searchsorted(windows[:, 0], starts, side="right")
        most = max(1, (last - first).max())  # three at most, as windows lie half over each other
        places = first[:, None] + np.arange(most)
        return np.minimum(places, len(pieces) - 1), places < last[:, None]

    def _half_windows(self, begin, end):
        """Starts and ends (seconds) of the half windows of a take.

        What is very short belongs to the one beside it.
        """
        edges, least = self.heard.edges, self.heard.shortest
        inner = edges[(edges > begin + least) & (edges < end - least)]
        return np.append(begin, inner), np.append(inner, end)

    def _said(self, found):
        """Which classes are said of each row of a table of probabilities: a table of bool."""
        if self.thresholds is not None:
            return found.ge(self.thresholds[list(found)])
        best = found.fillna(-1).to_numpy().argmax(axis=1)
        return pd.DataFrame(np.eye(found.shape[1], dtype=bool)[best], found.index, found.columns)

    def _together(self, key, how):
        """The pieces' probabilities joined by a key, each counted by what it holds."""
        classes, several = list(self.probabilities), self.thresholds is not None
        weights = decisions.weigh(self.heard.valid_seconds, key)
        table = self.probabilities.assign(**{KEY: key})
        return decisions.aggregate(table, KEY, classes, how, several, weights)

    def write(self, folder, stem):
        """Write <stem>.windows.csv, <stem>.events.csv and Audacity's <stem>.labels.txt.

        Each is put in place whole.
        """
        for name, text in self.files().items():
            artifacts.write_text(Path(folder) / f"{stem}.{name}", text)

    def files(self):
        """What `write` writes: text by the end of the file's name."""
        windows, events = self.windows(), self.events()
        labels = [
            f"{row.onset:.6f}\t{row.offset:.6f}\t{' '.join(str(row.label).split())}\n"
            for row in events.itertuples()
        ]
        return {
            "windows.csv": windows.to_csv(index=False, lineterminator="\n"),
            "events.csv": events.to_csv(index=False, lineterminator="\n"),
            "labels.txt": "".join(labels),
        }


def columns(classes):
    """The classes as columns of a table of windows: one that is called as another column is marked.

    >>> columns(["dog", "start"])
    ['dog', 'class start']
    """
    return [f"class {name}" if name in WINDOW else name for name in classes]


def stems(paths):
    """A name for the answers of each file: its stem; its whole name where several share that, or
    that and a number.

    >>> stems(["a/x.wav", "b/x.wav", "x.mp3", "y.wav"])
    ['x.wav', 'x.wav-2', 'x.mp3', 'y']
    """
    places = [Path(path).absolute() for path in paths]
    once = list(dict.fromkeys(places))
    sharing = Counter(place.stem.casefold() for place in once)
    names, taken = {}, set()
    for place in once:
        name = place.name if sharing[place.stem.casefold()] > 1 else place.stem
        numbered = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        names[place] = next(name for name in numbered if name.casefold() not in taken)
        taken.add(names[place].casefold())
    return [names[place] for place in places]


def _runs(flags):
    """Places of flags that are set, neighbours together: a list of arrays."""
    places = np.flatnonzero(flags)
    return np.split(places, np.flatnonzero(np.diff(places) > 1) + 1) if len(places) else []
