"""Each step and each ingredient changed alone: the paired change, its interval, what is said of it;
the recipe on folds that nothing is reported on, resumed where it stopped.
"""

import numpy as np
import pandas as pd
import pytest
from signals import write_wav
from sklearn.metrics import average_precision_score
from tables import prediction_rows, small_config, tagging_rows, tone_clips

from helpers.audio import features, recording, windowing
from helpers.base import artifacts, errors, targets, work
from helpers.data import sources
from helpers.metrics import evaluate
from helpers.rounds import train
from helpers.run import cli, journal, presets, stages, worth
from helpers.splits import rules
from helpers.tuning import ablation, changes, cleaning, variants

RATE = 8000


# --- what is tried -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rules", [{}, {"high_pass_hz": 80, "trim_db": None, "denoise": True, "normalise": False}]
)
def test_every_step_is_tried_the_other_way_and_alone(rules):
    config = small_config(clean=rules)
    tried = changes.trials(config, changes.STEPS)
    assert {step for step, *_ in tried} == {step for step, *_ in changes.STEPS}
    for step, setting, value, takes_out in tried:
        off = next(off for name, _, off, _ in changes.STEPS if name == step)
        assert (variants.value_of(config, setting) == off) != (value == off) == takes_out
        before, after = config.model_dump(), variants.vary(config, setting, value).model_dump()
        name = setting.removeprefix("clean.")
        assert before["clean"].pop(name) != after["clean"].pop(name)
        assert before == after


def test_of_a_step_that_is_off_every_value_is_tried_and_of_one_that_is_on_none():
    off, on = small_config(), small_config(clean={"high_pass_hz": 80.0})
    for config, values in ((off, [50.0, 100.0]), (on, [None])):
        tried = changes.trials(config, changes.STEPS, ("clean.high_pass_hz",))
        assert [value for _, _, value, _ in tried] == values


def test_what_other_settings_forbid_is_not_tried():
    timed = small_config(
        data={"labels_csv": "labels.csv", "start_column": "start"}, clean={"trim_db": None}
    )
    assert "trim" not in {step for step, *_ in changes.trials(timed, changes.STEPS)}


# --- the change, by hand -----------------------------------------------------------------------


def answers(groups, right):
    """Predictions of recordings of class a, right or not (taken for b)."""
    return prediction_rows(
        ["a"] * len(groups), ["a" if hit else "b" for hit in right], list(groups)
    )


def test_the_interval_is_that_of_a_case_worked_by_hand():
    """Eight groups of two recordings; four gain one half, so the draws' mean has the variance 1/16
    / 8.

    Of so few groups that is too little by 8/7, and 95 % reach 2.365 standard errors: Student's t of
    seven.
    """
    groups, before = np.repeat(list("pqrstuvw"), 2), np.tile((0, 1), 8)
    after = np.where(np.arange(16) < 8, 1, before)
    found = evaluate.paired_change(
        [answers(groups, before)], [answers(groups, after)], small_config()
    )
    reach = 2.365 * np.sqrt(1 / 16 / 7)
    expected = {"reference": 0.5, "toggled": 0.75, "change": 0.25}
    assert found == pytest.approx(
        {**expected, "change_low": 0.25 - reach, "change_high": 0.25 + reach, "seeds_sd": 0},
        abs=0.02,
    )


def test_scores_are_means_over_the_seeds():
    before = [answers("pqrs", right) for right in ((0, 0, 1, 1), (0, 1, 1, 1))]
    after = [answers("pqrs", right) for right in ((1, 1, 1, 1), (0, 1, 1, 1))]
    found = evaluate.paired_change(before, after, small_config())
    assert (found["reference"], found["toggled"], found["change"]) == (0.625, 0.875, 0.25)
    assert found["seeds_sd"] == pytest.approx(np.std([0.5, 0], ddof=1), abs=1e-5)


def test_both_sides_see_the_same_draw():
    """Where each group gains half of its recordings, every draw does, though the groups' scores lie
    far apart.
    """
    groups, before = np.repeat(list("pqrs"), 2), (0, 0, 1, 0, 0, 0, 1, 0)
    after = (0, 1, 1, 1, 1, 0, 1, 1)
    found = evaluate.paired_change(
        [answers(groups, before)], [answers(groups, after)], small_config()
    )
    assert (found["change_low"], found["change"], found["change_high"]) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("several", [False, True])
def test_the_change_back_is_the_same_with_the_other_sign(several):
    config = small_config(data={"multilabel": several})
    rng, groups = np.random.default_rng(0), np.arange(60) % 15
    if several:
        before = tagging_rows(groups=groups)
        after = before.assign(
            a=rng.uniform(size=60), b=targets.matrix(before["label"], ["b"])[:, 0]
        )
    else:
        before, after = (answers(groups, rng.uniform(size=60) < share) for share in (0.5, 0.7))
    there, back = (
        evaluate.paired_change([before], [after], config),
        evaluate.paired_change([after], [before], config),
    )
    assert there["change_low"] < there["change"] < there["change_high"]
    turned = [-there[name] for name in ("change", "change_high", "change_low")]
    assert [back[name] for name in ("change", "change_low", "change_high")] == pytest.approx(
        turned, abs=2e-5
    )  # both are rounded to 1e-5


def test_other_recordings_are_refused():
    one, other = answers("pq", (1, 1)), answers("pq", (1, 1)).assign(recording_id=["r0", "r7"])
    with pytest.raises(errors.StageError, match="the same recordings"):
        evaluate.paired_change([one], [other], small_config())


def test_a_group_that_counts_twice_is_there_twice():
    table = tagging_rows(groups=np.arange(60) % 6)
    weights = np.array([[1.0] * 6, [2, 0, 1, 1, 1, 1]])
    twice = pd.concat([table[table["group"] != 1], table[table["group"] == 0]])
    expected = [
        average_precision_score(targets.matrix(rows["label"], list("abc")), rows[list("abc")])
        for rows in (table, twice)
    ]
    np.testing.assert_allclose(
        evaluate.score_samples(table, weights, "macro_average_precision"), expected, rtol=1e-9
    )
    single = answers(np.arange(60) % 6, np.arange(60) % 7 == 0)
    repeated = pd.concat([single[single["group"] != 1], single[single["group"] == 0]])
    shares = [rows["label"].eq(rows["predicted"]).mean() for rows in (single, repeated)]
    np.testing.assert_allclose(evaluate.score_samples(single, weights, "accuracy"), shares)


@pytest.mark.parametrize("on", [True, False])
def test_a_step_is_on_afterwards_only_where_it_helps(on):
    """Off makes a step that is on worse (below 0), or on makes one that is off better."""
    stays_on = {
        sign: changes.verdict(on, *sorted((sign * 0.01, sign * 0.02))).startswith(
            ("keep", "turn on")
        )
        for sign in (1, -1)
    }
    assert stays_on == ({1: False, -1: True} if on else {1: True, -1: False})
    for low, high in ((-0.1, 0.1), (0.0, 0.1), (-0.1, 0.0), (0.0, 0.0)):
        assert changes.verdict(on, low, high).startswith("no difference") and changes.verdict(
            on, low, high
        ).endswith("off")


# --- a run -------------------------------------------------------------------------------------


def rumbling(pitch_hz, rng, seconds=0.5):
    """A faint tone in faint hiss, below a rumble of 8 to 30 Hz that is thousands of times as
    strong.
    """
    time = np.arange(round(seconds * RATE)) / RATE
    waves = [
        np.sin(2 * np.pi * hz * time + rng.uniform(0, 6))
        for hz in (*rng.uniform(8, 30, 3), pitch_hz)
    ]
    levels = (*rng.uniform(0.1, 0.3, 3), 1e-4)
    return np.dot(levels, waves) + 1e-4 * rng.standard_normal(len(time))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that has finished 02_clean: two classes below rumble, three folds, a test file; no
    augmented copies.
    """
    home, rng = tmp_path_factory.mktemp("home"), np.random.default_rng(0)
    for label, pitch_hz in (("low", 300), ("high", 600)):
        for number in range(18):
            write_wav(
                home / "data" / "train" / label / f"{number}.wav", rumbling(pitch_hz, rng), RATE
            )
    write_wav(home / "data" / "test" / "unknown.wav", rumbling(300, rng), RATE)
    config = small_config(
        data={"root": str(home / "data")}, split={"folds": 3}, clean={"trim_db": None},
        features={"n_fft": 64, "hop_length": 64, "n_mels": 8},
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EARSHOT_HOME", str(home))
        patch.setenv("EARSHOT_HEADLESS", "1")
        patch.setattr(cleaning, "SEEDS", 2)
        patch.setattr(changes, "STEPS", changes.STEPS[1:3])  # a high-pass at 100 Hz, and trimming
        yield config, explore_and_clean(config, home / "data")


def explore_and_clean(config, root):
    """What 01 and 02 do, as far as the ledger sees it; returns the run folder."""
    stage = stages.begin("01_explore", config, "small", root)
    stage.write("recordings.csv", recording.survey(root, sources.find(root, config.data)))
    finish(stage)
    stage = stages.begin("02_clean", config, "small", root)
    clips = windowing.write_clips(
        rules.judge(stage.read("recordings.csv"), config), root, config, stage / "clips"
    )
    fold = clips.groupby("label").cumcount() % config.split.folds + 1
    fold = fold.where(clips["split"].eq("train")).astype("Int64")
    stage.write("clips.csv", clips.assign(group=clips["recording_id"], fold=fold))
    finish(stage)
    return stage.folder


def finish(stage):
    """Finish a stage, its other files empty."""
    for name in stage.spec.outputs(stage.config):
        if not (stage / name).exists():
            (stage / name).touch()
    stage.finish()


@pytest.fixture(scope="module")
def measured(run):
    config, folder = run
    return worth.write_ledger(config, folder.name).set_index("step")


def test_a_high_pass_below_which_there_is_only_rumble_is_turned_on(measured):
    row = measured.loc["high-pass"]
    assert row["verdict"] == "turn on: it helps" and row["change_low"] > 0
    assert (row["setting"], row["tried"], row["metric"]) == ("off", "100 Hz", "accuracy")
    assert (
        row["toggled"] - row["reference"] == pytest.approx(row["change"], abs=2e-5)
        and row["change"] > 0.1
    )


def test_a_step_that_changes_no_sample_makes_no_difference(measured):
    row = measured.loc["trim"]  # nothing is 50 dB below the rumble
    assert row["verdict"].startswith("no difference")
    assert not row[["change", "change_low", "change_high", "seeds_sd"]].any()


def test_what_is_on_and_helps_is_kept(run, measured):
    config, folder = run
    clips = artifacts.read_table(folder / "clips.csv")
    clips, recordings = (
        clips[clips["split"].eq("train")],
        artifacts.read_table(folder / "recordings.csv"),
    )
    used, root = recordings[recordings["split"].eq("train")], config.data.root
    on = cleaning.measure_steps(
        used, clips, root, variants.vary(config, "clean.high_pass_hz", 100.0)
    ).set_index("step")
    assert on.loc["high-pass", "verdict"] == "keep: it helps"
    off = measured.loc["high-pass"]
    turned = {
        "change": -off["change"],
        "change_low": -off["change_high"],
        "change_high": -off["change_low"],
    }
    assert on.loc["high-pass", list(turned)].to_dict() == pytest.approx(
        turned, abs=2e-5
    )  # both are rounded to 1e-5


def test_the_same_run_gives_the_same_ledger(run, measured):
    config, folder = run
    again = worth.write_ledger(config, folder.name).set_index("step")
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), measured.drop(columns="seconds"))


def test_what_is_heard_is_what_02_and_04_would_make(run, tmp_path):
    config, folder = run
    config = variants.vary(config, "clean.high_pass_hz", 100.0)
    recordings, clips = (
        artifacts.read_table(folder / name) for name in ("recordings.csv", "clips.csv")
    )
    used = recordings[recordings["split"].eq("train")].assign(status="used")
    table = cleaning.feature_table(
        used, clips[clips["split"].eq("train")], config.data.root, config
    )
    written = windowing.write_clips(used, config.data.root, config, tmp_path / "clips").assign(
        parent_id=""
    )
    written = written.merge(clips[["clip_id", "group", "fold"]], on="clip_id")
    packed = np.stack([recording.read_steps(tmp_path / path) for path in written["path"]])
    expected = features.feature_table(packed, written, config)
    identity = ["clip_id", "parent_id", "recording_id", "label", "split", "group", "fold"]
    pd.testing.assert_frame_equal(table[identity], expected[identity])
    columns = features.feature_columns(expected)
    assert features.feature_columns(table) == columns
    np.testing.assert_allclose(table[columns], expected[columns], rtol=1e-3, atol=1e-3)


def test_where_labels_hold_for_a_time_each_clip_has_its_own(run):
    config, folder = run
    config = config.but("data.start_column", "start")
    recordings, clips = (
        artifacts.read_table(folder / name) for name in ("recordings.csv", "clips.csv")
    )
    touched = (
        clips[clips["split"].eq("train")]
        .iloc[::2]
        .assign(label=lambda rows: rows["clip_id"].str[:1])
    )
    table = cleaning.feature_table(
        recordings[recordings["split"].eq("train")], touched, config.data.root, config
    )
    assert dict(zip(table["clip_id"], table["label"], strict=True)) == dict(
        zip(touched["clip_id"], touched["label"], strict=True)
    )


def test_only_the_ledger_is_left_behind(run, measured):
    _, folder = run
    before = {name for stage in stages.STAGES[:2] for name in stage.writes}
    assert {path.name for path in folder.iterdir()} == {
        *before,
        "run.json",
        journal.COPY,
        worth.LEDGER,
    }


def test_a_ledger_is_read_only_beside_the_clips_that_it_was_measured_on(run, measured):
    _, folder = run
    assert worth.read_ledger(folder)["step"].tolist() == ["high-pass", "trim"]
    record = journal.read_run(folder)
    try:
        changed = {**record["stages"]["02_clean"], "outputs": {"clips": "another"}}
        artifacts.write_json(
            folder / "run.json", {**record, "stages": {**record["stages"], "02_clean": changed}}
        )
        assert worth.read_ledger(folder) is None
    finally:
        artifacts.write_json(folder / "run.json", record)
    assert worth.read_ledger(folder.parent) is None


def test_what_is_shown_are_percent_and_points(measured):
    table = changes.shown(
        measured.reset_index().assign(
            change=0.0312, change_low=-0.01, change_high=0.07, seeds_sd=0.004
        )
    )
    assert table["change in points"].tolist() == ["+3.1 (-1.0 to +7.0)"] * 2
    assert table["between seeds"].tolist() == ["±0.4"] * 2 and "accuracy" in table


# --- the command -------------------------------------------------------------------------------


def test_a_run_without_clips_is_told_which_notebook_comes_first(run, capsys):
    config, _ = run
    assert cli.main(["worth", "cleaning", "--data", config.data.root, "--run", "nothing"]) == 1
    said = capsys.readouterr().err
    assert "from 01_explore to 02_clean first" in said and "clips.csv" in said


def test_settings_that_are_not_the_runs_are_refused(run):
    config, folder = run
    with pytest.raises(errors.StageError, match=r"its settings changed.*Run 02_clean\.ipynb first"):
        worth.write_ledger(variants.vary(config, "clean.denoise", True), folder.name)


def test_an_interrupted_ledger_leaves_what_was_there(run, measured, monkeypatch, capsys):
    config, folder = run
    before = {path.name: artifacts.digest(path) for path in folder.iterdir()}

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(features, "describe", stop)
    monkeypatch.setattr(presets, "load", lambda **_: config)
    assert cli.main(["worth", "cleaning", "--run", folder.name]) == 130
    assert "Nothing was written" in capsys.readouterr().err
    assert {path.name: artifacts.digest(path) for path in folder.iterdir()} == before


# --- the recipe


@pytest.fixture
def packed_run(tmp_path):
    packed, rows = tone_clips()
    np.save(tmp_path / "waveforms.npy", packed)
    artifacts.write_table(tmp_path / "waveforms.csv", rows)
    return tmp_path


def recipe(**changes):
    return small_config(train={"epochs": 2, "select": "last", **changes})


def tried(**settings):
    """The settings that are tried of a recipe, and their values."""
    return [trial[1:3] for trial in changes.trials(recipe(**settings), changes.INGREDIENTS)]


def test_what_is_on_is_taken_out_and_what_is_off_is_added():
    values = tried(mix="between_class", polarity=False, masks=2)
    assert {("train.polarity", True), ("train.masks", 0)} <= set(values)
    assert [value for setting, value in values if setting == "train.mix"] == ["none", "mixup"]


def test_no_change_is_tried_twice_or_means_nothing():
    for mix in ("none", "mixup", "between_class"):
        values = tried(mix=mix)
        assert len(set(values)) == len(values)
        assert all(
            variants.value_of(recipe(mix=mix), setting) != value for setting, value in values
        )
    assert "model.pooling" not in dict(tried())  # the plain CNN has none
    # A part of a clip begins anywhere, shifted or not.
    assert "train.shift" in dict(tried(crop=1.0)) and "train.shift" not in dict(tried(crop=0.5))


def test_a_network_is_tried_with_its_own_width():
    varied = variants.vary(recipe(), "model.name", "resnet")
    assert (varied.model.name, varied.model.channels) == ("resnet", (24, 24, 48, 96))


def test_every_fold_is_scored_once_by_networks_that_learned_from_two_others_fewer(packed_run):
    rows = artifacts.read_table(packed_run / "waveforms.csv")
    plan = ablation.plan(rows)
    folds = sorted(rows["fold"].dropna().unique())
    assert sorted(turn["test"] for turn in plan) == folds
    assert all(
        turn["test"] not in turn["train"] and len(turn["train"]) == len(folds) - 2 for turn in plan
    )
    assert all(turn["validation"] is None for turn in plan)


def test_a_change_of_nothing_is_no_change_and_nothing_is_trained_twice(packed_run, monkeypatch):
    with work.cpu_threads(1):
        [table] = ablation.measure_ingredients(packed_run, recipe(), only=("train.masks",))
        monkeypatch.setattr(train, "cross_validate", None)  # it would raise
        [again] = ablation.measure_ingredients(packed_run, recipe(), only=("train.masks",))
    pd.testing.assert_frame_equal(table, again)
    row = table.iloc[0]
    assert row["change"] == pytest.approx(row["toggled"] - row["reference"], abs=1e-5)
    assert row["change_low"] <= row["change"] <= row["change_high"]


def test_what_is_taken_out_was_on_also_where_an_ingredient_replaces_another(packed_run):
    with work.cpu_threads(1):
        *_, table = ablation.measure_ingredients(
            packed_run, recipe(mix="between_class"), only=("train.mix",)
        )
    assert table["tried"].tolist() == ["none", "mixup"]
    for row in table.itertuples():
        verdicts = (
            {"no difference"}
            if row.change_low <= 0 <= row.change_high
            else {"keep: it helps", "drop: it costs"}
        )
        assert row.verdict in verdicts


def test_short_clips_are_filled_anew_from_what_was_there(packed_run):
    packed, rows = (
        np.load(packed_run / "waveforms.npy"),
        artifacts.read_table(packed_run / "waveforms.csv"),
    )
    rows = rows.assign(valid_seconds=rows["valid_seconds"] / 2)
    settings, half = recipe().audio, packed.shape[1] // 2
    looped = ablation.filled(
        packed, rows, settings.model_copy(update={"short_clips": "loop"}), packed_run / "looped.npy"
    )
    np.testing.assert_array_equal(looped[:, half : 2 * half], looped[:, :half])
    padded = ablation.filled(
        looped, rows, settings.model_copy(update={"short_clips": "pad"}), packed_run / "padded.npy"
    )
    assert not padded[:, half:].any()
    np.testing.assert_array_equal(padded[:, :half], packed[:, :half])


def test_a_run_without_clips_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EARSHOT_HOME", str(tmp_path))
    assert cli.main(["worth", "recipe", "--run", "nothing"]) == 1
    assert "waveforms.npy" in capsys.readouterr().err
