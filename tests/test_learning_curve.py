"""The score by the number of recordings: whole groups, nested parts, the same tested side."""

import functools

import numpy as np
import pandas as pd
import pytest
from tables import feature_rows, small_config, tagged_rows, tone_clips

from helpers.base import targets
from helpers.compare import learning_curve, table_network
from helpers.metrics import evaluate
from helpers.splits import partition
from helpers.view import score_plots


def noisy(table, spread=3.0):
    """The same table with noise in each feature: learning from more of it helps."""
    rng = np.random.default_rng(0)
    columns = list(table.loc[:, "mfcc_01_mean":])
    return table.assign(
        **{name: table[name] + spread * rng.normal(size=len(table)) for name in columns}
    )


def plan(table):
    return partition.rounds(table["fold"].dropna(), "last")


@pytest.mark.parametrize("several", [False, True])
def test_a_part_holds_whole_groups_of_every_class_and_the_smaller_part(several):
    table = tagged_rows(groups_per_fold=4) if several else feature_rows(groups_per_fold=4)
    for turn in plan(table):
        before = None
        for share in (1.0, 0.5, 0.25, 0.01):
            rng = np.random.default_rng(3)
            part = learning_curve.thinned(table, turn, share, rng, several)
            pd.testing.assert_frame_equal(part.drop(columns="fold"), table.drop(columns="fold"))
            tested = table["fold"].eq(turn["test"])
            assert part.loc[tested, "fold"].eq(turn["test"]).all()
            kept = part["fold"].notna() & ~tested
            assert kept.groupby(part["group"]).nunique().eq(1).all()
            held = targets.rarest(part.loc[kept, "label"], several)
            assert set(held) == set(targets.rarest(table["label"], several))
            assert kept.sum() >= share * (~tested).sum()
            assert before is None or not (kept & ~before).any()
            before = kept
        assert kept.sum() == held.nunique() * 3  # one group of three of each class


def test_the_parts_are_halves_down_to_some_two_of_a_class():
    table = feature_rows(groups_per_fold=4)  # 24 of each of 3 classes to learn from in a round
    assert learning_curve.parts(table, plan(table)) == [0.125, 0.25, 0.5, 1.0]
    few = feature_rows(groups_per_fold=1, clips_per_group=1)
    assert learning_curve.parts(few, plan(few)) == [1.0]


def test_the_whole_is_what_the_model_scores_and_the_gain_is_paired():
    config = small_config()
    table = noisy(feature_rows(groups_per_fold=4))
    fit = functools.partial(learning_curve.of_table, "mfcc_linear", config)
    curve = learning_curve.measure(table, config, fit)
    assert [point["recordings"] for point in curve["sizes"]][-1] == 72
    answers = pd.concat([fit(table, turn) for turn in plan(table)])
    right = answers[["a", "b", "c"]].idxmax(axis=1).to_numpy()
    truth = table.set_index("clip_id").loc[answers["clip_id"], "label"]
    half, whole = curve["sizes"][-2:]
    assert whole["value"] == pytest.approx((right == truth).mean(), abs=1e-5)
    assert curve["gain"]["value"] == pytest.approx(whole["value"] - half["value"], abs=2e-5)
    assert curve["gain"]["low"] < curve["gain"]["value"] < curve["gain"]["high"]
    assert curve == learning_curve.measure(table, config, fit)


@pytest.mark.parametrize("several", [False, True])
def test_the_quick_model_has_a_curve_in_words_and_in_a_picture(several, monkeypatch):
    monkeypatch.setattr(table_network, "EPOCHS", 4)
    config = small_config(data={"multilabel": several})
    size = {"groups_per_fold": 2, "clips_per_group": 2}
    table = tagged_rows(**size) if several else noisy(feature_rows(**size))
    more = learning_curve.of_run(table, None, None, config)
    [curve] = learning_curve.drawn(more)
    assert more["metric"] == evaluate.headline(config)[0] and curve["model"] == "dnn"
    says = learning_curve.in_words(more)
    assert "not the network of 05" in says and f"{curve['sizes'][-1]['recordings']:.0f}" in says
    axis = score_plots.more_recordings([curve], more["metric"]).axes[0]
    assert len(axis.get_xticks()) == len(curve["sizes"])


def test_with_a_listener_a_model_that_reads_it_has_a_curve_of_its_own(monkeypatch):
    monkeypatch.setattr(table_network, "EPOCHS", 4)
    models = ["svm", "listener_linear", "listener_knn"]
    config = small_config(compare={"models": models}, features={"listener": "onnx:any.onnx"})
    table = noisy(feature_rows(groups_per_fold=4))
    heard = targets.matrix(table["label"], ["a", "b", "c"])  # a listener that knows the classes
    table = table.assign(**{f"embedding_{place}": heard[:, place] for place in range(3)})
    more = learning_curve.of_run(table, None, None, config)
    quick, listener = more["curves"]
    assert (quick["model"], listener["model"]) == ("dnn", "listener_linear")
    assert [point["value"] for point in listener["sizes"]] == [1.0] * len(quick["sizes"])
    assert (
        "listener_linear, which learns from what the listener hears"
        in (learning_curve.in_words(more).splitlines()[1])
    )
    axis = score_plots.more_recordings(learning_curve.drawn(more), more["metric"]).axes[0]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["dnn", "listener_linear"]


def test_the_network_of_05_learns_from_parts_too():
    packed, rows = tone_clips(groups_per_fold=4, clips_per_group=1)
    config = small_config(compare={"learning_curve": "network"}, train={"epochs": 1})
    [curve] = learning_curve.of_run(None, packed, rows, config)["curves"]
    counts = [point["recordings"] for point in curve["sizes"]]
    assert curve["model"] == "cnn" and counts == [4, 8]  # of three folds one chooses the epoch


def test_what_is_not_asked_for_is_not_measured():
    config = small_config(compare={"learning_curve": "none"})
    assert learning_curve.of_run(None, None, None, config) == {}
    assert learning_curve.in_words({}) == ""


def words(low, high):
    sizes = [{"recordings": count, "value": 0.5, "low": 0.4, "high": 0.6} for count in (10, 20)]
    gain = {"value": (low + high) / 2, "low": low, "high": high}
    return say({"model": "dnn", "sizes": sizes, "gain": gain})


def say(curve):
    return learning_curve.in_words({"metric": "accuracy", "curves": [curve]})


def test_only_a_clear_gain_promises_more():
    assert words(0.01, 0.05).endswith("likely to help.") and "+3.0 (+1.0 to +5.0)" in words(
        0.01, 0.05
    )
    assert "no clear gain" in words(-0.01, 0.05) and "no clear gain" in words(-0.05, -0.01)
    assert say({"model": "dnn", "sizes": [{}]}).startswith("Too few recordings")
