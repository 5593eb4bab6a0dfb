"""Recordings whose events are known: some one after the other with silence between them, and the
test recordings of a data set that knows when each of its sounds is heard.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers.audio import clean
from helpers.audio.decoder import Decoded
from helpers.base import targets, work
from helpers.base.targets import counted
from helpers.metrics import events

COUNT = 6  # recordings, of different classes as far as there are
WINDOWS = 2  # of each recording, at most


class Medley(NamedTuple):
    """Recordings one after the other, and where each of them lies."""

    decoded: Decoded
    parts: pd.DataFrame  # onset, offset (seconds), label, path
    multilabel: bool
    is_test: bool  # no network has learned the label of any of them

    def judged(self, events: pd.DataFrame) -> pd.DataFrame:
        """The events of `Hearing.events`, with what was put there, and whether they name it."""
        there = [self._classes_at(event) for event in events.itertuples()]
        right = [label in classes for label, classes in zip(events["label"], there, strict=True)]
        put = [", ".join(classes) for classes in there]
        return events.assign(put_there=put, right=np.where(right, "✓", "✗"))

    def _classes_at(self, event):
        parts = self.parts
        met = parts[parts["onset"].lt(event.offset) & parts["offset"].gt(event.onset)]
        return sorted(set(targets.by_class(met, self.multilabel)["label"]))

    def in_words(self, events: pd.DataFrame) -> str:
        """How many of the sounds were found in place, which were not, and what was said wrongly."""
        sounds = targets.by_class(self.parts, self.multilabel)
        missed = []
        for sound in sounds.itertuples():
            met = events["onset"].lt(sound.offset) & events["offset"].gt(sound.onset)
            if sound.label not in set(events.loc[met, "label"]):
                missed.append(f"{sound.label} at {sound.onset:.0f} s")
        wrong = int(self.judged(events)["right"].eq("✗").sum())
        found = f"{len(sounds) - len(missed)} of {counted(len(sounds), 'sound', 'sounds')}"
        names = f" (missed: {', '.join(missed)})" if missed else ""
        other = f"{counted(wrong, 'event names', 'events name')} a class that is not there"
        learned = (
            "No network has learned the labels of these recordings."
            if self.is_test
            else "These are training recordings, which networks have learned from: this shows how "
            "it works, not how well."
        )
        return f"{found} found in place{names}; {other}. {learned}"


def make(
    recordings: pd.DataFrame, rows: pd.DataFrame, truth: pd.Series, root: Path | str, config
) -> Medley:
    """A few recordings one after the other, a window of silence around each.

    They are test recordings where their labels are known, else training recordings: one each of
    different classes, drawn blindly, cleaned as in 02, the first two windows of each at most.
    Args: recordings; rows of waveforms.csv; truth labels of test recordings by recording_id; root
        data folder; config.
    """
    rate = config.audio.sample_rate
    size = round(config.audio.clip_seconds * rate)
    silence = np.zeros(size, np.float32)
    pieces = [silence]
    places = []
    for row in _drawn(recordings, rows, truth, config).itertuples():
        sound = clean.load_clean(Path(root) / row.path, config)[: WINDOWS * size]
        onset = sum(map(len, pieces)) / rate
        places.append((onset, onset + len(sound) / rate, row.label, row.path))
        pieces += [sound, silence]
    waveform = np.concatenate(pieces)[:, None]
    parts = pd.DataFrame(places, columns=["onset", "offset", "label", "path"])
    is_test = parts["path"].isin(recordings.loc[recordings["split"].eq("test"), "path"]).all()
    decoded = Decoded(waveform, rate, "medley", None)
    return Medley(decoded, parts, config.data.multilabel, bool(is_test))


def _drawn(recordings, rows, truth, config):
    """The recordings of a medley, with their labels, in the order in which they are heard."""
    used = recordings[recordings["recording_id"].isin(rows["recording_id"])]
    used = used.set_index("recording_id")
    asked = used.index.intersection(truth.index)
    test = used.loc[asked].assign(label=truth.loc[asked])
    known = test if len(test) else used[used["split"].eq("train")]
    shuffled = known.sample(frac=1, random_state=config.seed)
    each = shuffled.loc[targets.one_each(shuffled, config.data.multilabel)]
    return each.sample(min(COUNT, len(each)), random_state=config.seed)


# --- test recordings whose events are known


def heard_in(known: pd.DataFrame, recordings, rows, bundle, root: Path | str) -> pd.DataFrame:
    """The events that networks hear in the test recordings, where it is `known` when sounds are.

    Args: known table of `folders.hidden_events`; recordings; rows of waveforms.csv; bundle; root
        data folder.
    Returns a table path, filename, onset, offset (seconds), label, probability: a row without label
        for each recording in which nothing is heard. None at all where nothing is known.
    """
    used = recordings["recording_id"].isin(rows["recording_id"])
    paths = recordings.loc[used & recordings["split"].eq("test"), "path"] if len(known) else []

    def hear(path):
        table = bundle.events(Path(root) / path)
        nothing = pd.DataFrame({"label": [""]})
        return (nothing if table.empty else table).assign(path=path, filename=Path(path).name)

    with work.cpu_threads(1):
        tables = list(work.in_threads(hear, list(paths), "hear events"))
    columns = ["path", *known.columns, "probability"]
    return pd.concat([pd.DataFrame(columns=columns), *tables])[columns].reset_index(drop=True)


def found_in_time(known: pd.DataFrame, heard: pd.DataFrame, labels: list, config) -> dict:
    """The scores of what `heard_in` returned, as of `events.scores`, and what they say."""
    files = heard["filename"].unique()
    said = heard[heard["label"].ne("")]
    samples = config.evaluate.bootstrap_samples
    scores = events.scores(known, said, files, labels, samples, config.seed)
    return {**scores, "says": events.in_words(scores)}


def busiest(known: pd.DataFrame, heard: pd.DataFrame, bundle, root: Path | str) -> tuple:
    """The recording with the most known events, first by name: (a Medley of it alone, its events).

    Which it is does not depend on what was heard. Args as of `heard_in`.
    """
    name = known["filename"].mode()[0]
    own = heard[heard["filename"].eq(name)]
    path = own["path"].iloc[0]
    there = known[known["filename"].eq(name)].assign(path=path)
    whole = bundle.hear(Path(root) / path).heard
    waveform = whole.waveform[:, None]
    decoded = Decoded(waveform, whole.settings.sample_rate, path, None)
    medley = Medley(decoded, there, bundle.multilabel, is_test=True)
    return medley, own[own["label"].ne("")]
