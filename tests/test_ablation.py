"""The ablation: one ingredient at a time, on folds that nothing is reported on, resumed where it
stopped.
"""

import numpy as np
import pandas as pd
import pytest
from tables import small_config, tone_clips

from helpers.base import artifacts, work
from helpers.run import ablation, cli
from helpers.training import train


@pytest.fixture
def run(tmp_path):
    packed, rows = tone_clips()
    np.save(tmp_path / "waveforms.npy", packed)
    artifacts.write_table(tmp_path / "waveforms.csv", rows)
    return tmp_path


def recipe(**changes):
    return small_config(train={"epochs": 2, "select": "last", **changes})


def test_what_is_on_is_taken_out_and_what_is_off_is_added():
    tried = {
        setting: value
        for _, setting, value in ablation.trials(
            recipe(mix="between_class", polarity=False, masks=2)
        )
    }
    assert (
        tried["train.mix"] == "mixup"
        and tried["train.polarity"] is True
        and tried["train.masks"] == 0
    )
    both = [
        value
        for _, setting, value in ablation.trials(recipe(mix="between_class"))
        if setting == "train.mix"
    ]
    assert both == ["none", "mixup"]


def test_no_change_is_tried_twice_or_means_nothing():
    for mix in ("none", "mixup", "between_class"):
        tried = [trial[1:] for trial in ablation.trials(recipe(mix=mix))]
        assert len(set(tried)) == len(tried)
        assert all(ablation.value_of(recipe(mix=mix), setting) != value for setting, value in tried)
    assert "model.pooling" not in {
        setting for _, setting, _ in ablation.trials(recipe())
    }  # the plain CNN has none
    for crop, is_tried in (
        (1.0, True),
        (0.5, False),
    ):  # a part of a clip begins anywhere, shifted or not
        assert (
            "train.shift" in {setting for _, setting, _ in ablation.trials(recipe(crop=crop))}
        ) == is_tried


def test_every_fold_is_scored_once_by_networks_that_learned_from_two_others_fewer(run):
    rows = artifacts.read_table(run / "waveforms.csv")
    plan = ablation.plan(rows)
    folds = sorted(rows["fold"].dropna().unique())
    assert sorted(turn["test"] for turn in plan) == folds
    assert all(
        turn["test"] not in turn["train"] and len(turn["train"]) == len(folds) - 2 for turn in plan
    )
    assert all(turn["validation"] is None for turn in plan)


def test_a_change_of_nothing_is_no_change_and_nothing_is_trained_twice(run, monkeypatch):
    with work.cpu_threads(1):
        [table] = ablation.measure(run, recipe(), only=("train.masks",))
        monkeypatch.setattr(train, "cross_validate", None)  # it would raise
        [again] = ablation.measure(run, recipe(), only=("train.masks",))
    pd.testing.assert_frame_equal(table, again)
    row = table.iloc[0]
    assert row["change"] == pytest.approx(row["toggled"] - row["reference"], abs=1e-5)
    assert row["change_low"] <= row["change"] <= row["change_high"]


def test_what_is_taken_out_was_on_also_where_an_ingredient_replaces_another(run):
    with work.cpu_threads(1):
        *_, table = ablation.measure(run, recipe(mix="between_class"), only=("train.mix",))
    assert table["tried"].tolist() == ["none", "mixup"]
    for row in table.itertuples():
        verdicts = (
            {"no difference"}
            if row.change_low <= 0 <= row.change_high
            else {"keep: it helps", "drop: it costs"}
        )
        assert row.verdict in verdicts


def test_short_clips_are_filled_anew_from_what_was_there(run):
    packed, rows = np.load(run / "waveforms.npy"), artifacts.read_table(run / "waveforms.csv")
    rows = rows.assign(valid_seconds=rows["valid_seconds"] / 2)
    settings, half = recipe().audio, packed.shape[1] // 2
    looped = ablation.filled(
        packed, rows, settings.model_copy(update={"short_clips": "loop"}), run / "looped.npy"
    )
    np.testing.assert_array_equal(looped[:, half : 2 * half], looped[:, :half])
    padded = ablation.filled(
        looped, rows, settings.model_copy(update={"short_clips": "pad"}), run / "padded.npy"
    )
    assert not padded[:, half:].any()
    np.testing.assert_array_equal(padded[:, :half], packed[:, :half])


def test_a_run_without_clips_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EARSHOT_HOME", str(tmp_path))
    assert cli.main(["ablation", "--run", "nothing"]) == 1
    assert "waveforms.npy" in capsys.readouterr().err
