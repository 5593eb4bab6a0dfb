"""Scores of sound events: counted by hand, and the laws that any such score keeps."""

import doctest

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.metrics import events

FILES, LABELS = ["x.wav", "y.wav", "z.wav"], ["a", "b", "c"]


def table(*rows):
    return pd.DataFrame(rows, columns=["filename", "onset", "offset", "label"])


TRUTH = table(
    ("x.wav", 0.5, 2.5, "a"),
    ("x.wav", 3.0, 3.4, "a"),
    ("x.wav", 0.0, 4.0, "b"),
    ("y.wav", 1.0, 2.0, "a"),
)


def f1_of(heard, truth=TRUTH):
    found = events.scores(truth, heard, FILES, LABELS, n_samples=50)
    return {name: entry["value"] for name, entry in found.items() if name.endswith("f1")}


def test_counts_are_those_made_by_hand():
    heard = table(
        ("x.wav", 0.6, 2.0, "a"),  # begins and ends near enough: 1 s of 2 may be missing
        ("x.wav", 3.25, 3.4, "a"),  # begins 250 ms late, but lies in the right second
        ("x.wav", 0.0, 1.9, "b"),  # ends 2.1 s early, of 4 s
        ("z.wav", 1.0, 2.0, "c"),  # is not there
    )
    by_segment, by_event = events.counts(TRUTH, heard, FILES, LABELS)
    assert by_event.sum(axis=0).tolist() == [[1, 1, 2], [0, 1, 1], [0, 1, 0]]
    # a: seconds 0, 1, 2, 3 of x and 1 of y are active, heard 0, 1, 3 of x; b: 0 to 3, heard 0, 1
    assert by_segment.sum(axis=0).tolist() == [[3, 0, 2], [2, 0, 2], [0, 1, 0]]
    scores = f1_of(heard)
    assert scores["event_micro_f1"] == pytest.approx(2 * 1 / (2 * 1 + 3 + 3), abs=1e-5)
    assert scores["segment_micro_f1"] == pytest.approx(2 * 5 / (2 * 5 + 1 + 4), abs=1e-5)
    # c is nowhere in truth, so the macro mean is over a and b
    assert scores["event_macro_f1"] == pytest.approx((2 / 5 + 0) / 2, abs=1e-5)
    assert scores["segment_macro_f1"] == pytest.approx((6 / 8 + 4 / 6) / 2, abs=1e-5)


def test_what_is_heard_as_it_is_scores_1_and_silence_0():
    assert set(f1_of(TRUTH).values()) == {1.0}
    assert set(f1_of(table()).values()) == {0.0}
    assert set(f1_of(TRUTH, truth=table()).values()) == {0.0}


@settings(max_examples=30, deadline=None)
@given(st.floats(-0.19, 0.19), st.floats(-0.19, 0.19))
def test_to_be_off_by_less_than_the_collar_changes_nothing(early, late):
    heard = TRUTH.assign(onset=TRUTH["onset"] + early, offset=TRUTH["offset"] + late)
    assert f1_of(heard)["event_micro_f1"] == 1


def test_to_be_off_by_more_than_the_collar_is_wrong_and_missed():
    heard = TRUTH.assign(onset=TRUTH["onset"] + 0.25)
    assert f1_of(heard)["event_micro_f1"] == 0


def test_an_event_is_matched_once_and_the_matching_finds_as_many_as_there_are():
    # the first of the heard could take either of those that are there, the second the first only
    there = np.array([[1.0, 2.0], [1.3, 2.3]])
    said = np.array([[1.15, 2.1], [0.9, 2.0]])
    assert events.of_events(there, said) == (2, 0, 0)
    assert events.of_events(there[:1], np.repeat(there[:1], 3, axis=0)) == (1, 2, 0)


def test_rows_in_another_order_score_alike_and_files_without_events_widen_nothing_else():
    heard = TRUTH.iloc[[0, 2]]
    once = events.scores(TRUTH, heard, FILES, LABELS, n_samples=50)
    assert once == events.scores(TRUTH[::-1], heard[::-1], FILES, LABELS, n_samples=50)
    assert once["n_events"] == 4 and once["n_files"] == 3
    entry = once["event_micro_f1"]
    assert 0 <= entry["low"] <= entry["value"] <= entry["high"] <= 1


def test_the_examples_hold():
    assert doctest.testmod(events).attempted == 2 and not doctest.testmod(events).failed
