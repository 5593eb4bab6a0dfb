"""What the notebooks' cells call besides the algorithm: words, tables, files, by small examples."""

import json

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from tables import feature_rows, prediction_rows, small_config, tone, tone_clips, tone_scenes

from helpers.audio import features, images
from helpers.base import artifacts
from helpers.base.errors import StageError
from helpers.compare import rivals
from helpers.data import sources
from helpers.metrics import decisions, evaluate
from helpers.models import networks
from helpers.rounds import train
from helpers.run import presets, stages
from helpers.splits import certificate, duplicates, name_groups, partition, rules
from helpers.submission import priors, submit
from helpers.view import results

matplotlib.use("Agg")


def halves(rows):
    """Out-of-fold probabilities of tone clips: "high" surest where it is right."""
    table = rows[["clip_id", "fold"]].copy()
    table["high"] = np.where(rows["label"].str.contains("high"), 0.8, 0.3)
    return table.assign(low=1 - table["high"])


def predicted(rows, multilabel=False):
    return decisions.of_recordings(
        halves(rows), rows, small_config(data={"multilabel": multilabel})
    )


# --- files of a stage


@pytest.fixture
def stage(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "home", lambda: tmp_path)
    (tmp_path / "data" / "dog").mkdir(parents=True)
    return stages.begin("01_explore", presets.load("folder"), data=tmp_path / "data")


def test_what_a_function_makes_appears_when_it_is_complete(stage):
    assert stage.make("a.txt", lambda text, path: path.write_text(text), "four") == 4
    assert stage.fill("many", lambda folder: (folder / "b.txt").write_text("b")) == 1
    assert (stage / "a.txt").read_text() == "four" and (stage / "many" / "b.txt").is_file()

    def broken(folder):
        (folder / "c.txt").touch()
        raise KeyError("half done")

    with pytest.raises(KeyError):
        stage.fill("many", broken)
    assert [path.name for path in (stage / "many").iterdir()] == ["b.txt"]


def test_the_account_of_the_files_is_shown_and_noted(stage):
    recordings = pd.DataFrame({"status": ["ok", "quarantined", "ignored", "ok"]})
    counts = {"found": 4, "used": 2, "quarantined": 1, "ignored": 1}
    assert stage.account(recordings).to_dict("records") == [counts]
    (stage / "recordings.csv").touch()
    assert stage.finish().iloc[0][list(counts)].to_dict() == counts
    assert json.loads((stage / "run.json").read_text())["counts"] == counts
    with pytest.raises(StageError, match="do not add up"):
        stage.account(pd.DataFrame({"status": ["lost"]}))


# --- in words


def test_names_and_tables_tell_who_was_recorded_together():
    names = ["1-100032-A.ogg", "2-114280-B.ogg"]
    folds = pd.array([1, None], dtype="Int64")
    facts = {"split": "train", "status": "ok", "source": ["x", ""], "official_fold": folds}
    says = sources.in_words(pd.DataFrame({"path": names, **facts}), small_config().data)
    assert says.startswith("File names: ESC-50 (?P<fold>")
    assert "1 sources, with official folds" in says and says.endswith("table: none")


def test_pairs_proposals_and_certificates_are_put_in_words():
    named = pd.DataFrame({"label": ["a", "a"], "label_of_other": ["a", "b"]})
    assert duplicates.in_words(named).endswith("sound: 2, of which with different labels: 1.")
    assert duplicates.in_words(named, looked_for=False).startswith("Not looked for")
    proposals = pd.DataFrame({"part": ["folder 1"], "used": [True]})
    assert name_groups.choice_in_words(proposals) == "Used: folder 1."
    assert name_groups.choice_in_words(proposals.assign(used=False)).startswith("None of these")
    assert name_groups.choice_in_words(proposals.head(0)) == ""
    stated = {"crossings": 0, "n_groups": 4, "how_groups": "by name"}
    assert certificate.in_words(stated | {"groups_also_in_test": []}).count("\n") == 0
    assert certificate.in_words(stated | {"groups_also_in_test": ["x"]}).endswith("test: 1.")


# --- clips, folds, features


def test_clips_lie_in_the_group_and_the_fold_of_their_recording():
    clips = pd.DataFrame({"clip_id": ["x1", "x2", "y1"], "recording_id": ["x", "x", "y"]})
    recordings = pd.DataFrame({"recording_id": ["y", "x"], "group": ["g", "h"]}, index=[5, 7])
    dealt = partition.deal(clips, recordings, pd.Series([1, 2], index=[5, 7]))
    assert dealt[["group", "fold"]].to_numpy().tolist() == [["h", 2], ["h", 2], ["g", 1]]
    used = rules.with_clips(
        recordings,
        clips.head(2),
        small_config(data={"start_column": "t"}, clean={"trim_db": None}).data,
    )
    assert used["recording_id"].tolist() == ["x"]
    assert len(rules.with_clips(recordings, clips.head(2), small_config().data)) == 2


def test_the_front_end_agrees_with_librosa_on_a_tone():
    shape, difference = features.agreement(tone(440), small_config())
    assert shape == torch.Size([16, 32]) and difference < 1e-5


def test_means_and_problems_are_picked_out():
    table = feature_rows().assign(mel_01_mean=0.0)
    assert features.means(table) == ["mfcc_01_mean", "mfcc_02_mean", "mfcc_03_mean"]
    found = {"images": 3, "equal_images": [1], "corrupted_images": list("abcdefg"), "missing": []}
    assert features.problems(found) == {"corrupted_images": list("abcde")}


def test_a_few_images_of_each_label_are_shown(tmp_path):
    _, rows = tone_clips()
    paths, labels = images.examples(tmp_path, rows, each=2)
    assert labels == ["high"] * 2 + ["low"] * 2
    assert paths[0] == tmp_path / "high" / f"{rows['clip_id'][0]}.png"


# --- training


def test_the_plan_and_the_balance_of_a_run():
    _, rows = tone_clips(folds=3)
    config = small_config(train={"select": "last"})
    plan = train.plan(rows, config)
    assert plan["test fold"].tolist() == [1, 2, 3]
    assert set(plan["chooses the epoch"]) == {"nothing: the last is kept"}
    rare = rows.drop(rows.index[rows["label"].eq("low")][1:])
    table = train.balance(rare, config)
    assert table["label"].tolist() == ["low", "high"] and table["clips"].tolist() == [1, 12]
    assert table["share_if_sampled"].tolist() == pytest.approx([0.5, 0.5])
    assert networks.untrained(rows, config).n_classes == 2


def test_kept_epochs_stand_beside_what_their_networks_got_right():
    _, rows = tone_clips(folds=2)
    told = {"fold": [1, 1, 2], "epoch": [1, 2, 1], "kept": [False, True, True]}
    history = pd.DataFrame(told).assign(seconds=1.0, learning_rate=0.1)
    table = train.kept_and_tested(history, predicted(rows))
    assert table["epoch"].tolist() == [2, 1]
    assert table["test_recordings_right"].tolist() == [1, 1]


# --- answers


@pytest.mark.parametrize("multilabel", [False, True])
def test_predictions_of_recordings_and_what_is_drawn_of_them(multilabel, tmp_path):
    _, rows = (tone_scenes if multilabel else tone_clips)()
    config = small_config(data={"multilabel": multilabel})
    table = predicted(rows, multilabel)
    assert set(table["recording_id"]) == set(rows["recording_id"])
    assert list(decisions.own_thresholds(table).index) == ["high", "low"]
    drawn = decisions.one_of_each(table, config)
    assert 1 <= len(drawn) <= 2 and drawn["recording_id"].isin(table["recording_id"]).all()
    (tmp_path / "models" / "svm").mkdir(parents=True)
    artifacts.write_table(tmp_path / "models" / "svm" / "out_of_fold.csv", halves(rows))
    again = rivals.answers("svm", tmp_path, rows, config)
    pd.testing.assert_frame_equal(again, table, check_dtype=False)


@pytest.mark.parametrize("multilabel", [False, True])
def test_a_submission_is_described_and_scored_against_a_key(multilabel, tmp_path):
    _, rows = (tone_scenes if multilabel else tone_clips)(clips_per_group=1)
    config = small_config(data={"multilabel": multilabel})
    table = predicted(rows, multilabel)
    tests = pd.DataFrame({"recording_id": table["recording_id"], "split": "test", "reason": ""})
    tests["path"] = tests["recording_id"].str.replace("|", "+") + ".wav"
    asked = submit.contract_of(tmp_path, tests, rows, config)
    answers = table.set_index("recording_id").loc[asked.rows["recording_id"], ["high", "low"]]
    answers = answers.reset_index(drop=True).assign(heard=True)
    thresholds = decisions.own_thresholds(table) if multilabel else None
    said = submit.said(asked, answers, thresholds, submit.files(asked, tests))
    prior = priors.of_run(tmp_path, tests, rows, asked.classes, config)
    both = submit.shares_of_both(said, prior.shares)
    assert both["training"].tolist() == pytest.approx([0.5, 0.5])
    unsure = submit.least_sure(said, answers["heard"], count=3)
    assert len(unsure) == 3 and unsure["top"].is_monotonic_increasing
    assert unsure["note"].str.endswith(".wav").all() and unsure["title"].str.endswith("%)").all()
    table_written = submit.build(asked, answers, thresholds)
    check = submit.record(table_written, asked, "test predictions", "cnn", said.head(1))
    assert check["rows"] == len(tests) and "1 file could not be heard" in check["says"]
    truth = table.set_index("recording_id")["label"]
    scores = submit.hidden_scores(asked, answers, said, truth, config)
    assert scores["n_recordings"] == len(tests)
    first = evaluate.headline(config)[0]
    expected = evaluate.scores_of(table.assign(group=table["recording_id"]), config)[first]
    assert scores[first]["value"] == pytest.approx(expected["value"], abs=1e-6)
    assert submit.hidden_in_words(scores).startswith(f"Hidden test: {first.replace('_', ' ')} ")
    assert submit.hidden_scores(asked, answers, said, truth.head(0), config) == {}


def test_the_headline_is_put_in_words_and_its_figures_are_kept(tmp_path):
    table = prediction_rows("abcabc", "abcabb")
    config = small_config()
    metrics = {
        "n_recordings": 6,
        "n_groups": 6,
        "protocol": "Pooled.",
        **evaluate.summary(table, 50),
    }
    says = results.in_words(metrics, table, config).splitlines()
    assert says == [
        "6 recordings, 6 sources",
        "Pooled.",
        "Always answering the largest class: accuracy 33.3%",
    ]
    alone = {"mean": 0.5, "sd": 0.1, "metric": "accuracy", "seeds": 3}
    says = results.in_words({**metrics, "over_seeds": alone}, table, config).splitlines()
    assert says[-1] == "One network alone: 50.0% ± 10.0% accuracy over 3 seeds"
    headline = results.headline(metrics)
    assert list(headline) == ["metric", "value", "low", "high"]
    assert {"accuracy", "macro F1"} <= set(headline["metric"])
    assert results.over_seeds(tmp_path, tone_clips()[1], config) == {}
    results.keep({"redraws": results.redraws(table, metrics, config)}, tmp_path)
    assert (tmp_path / "redraws.png").stat().st_size > 1000


@pytest.mark.parametrize("several", [False, True])
def test_a_map_of_a_run_and_the_places_of_its_mistakes_are_seen_and_heard(tmp_path, several):
    packed, rows = tone_scenes() if several else tone_clips()
    config = small_config(train={"epochs": 1, "select": "last"}, data={"multilabel": several})
    models = tmp_path / "models" / "cnn"
    out_of_fold, _ = train.cross_validate(packed, rows, config, models, "cpu")
    predictions = decisions.of_recordings(out_of_fold, rows, config)
    page = results.embedding_map(tmp_path, predictions, packed, rows).data
    assert page.count("<span title=") == len(rows) and page.count("<script>") == 1
    assert page.count("data-sound=") >= rows["fold"].eq(1).sum()
    mistakes = decisions.worst(predictions, 3, several)
    board = results.reasons(tmp_path, mistakes, out_of_fold, packed, rows).data
    assert board.count("<audio") == board.count("<img") == len(mistakes)
    assert results.reasons(tmp_path, mistakes.head(0), out_of_fold, packed, rows).data


def test_sounds_of_a_map_take_no_more_than_they_may(monkeypatch):
    packed, _ = tone_clips()
    whole = results._sounds(packed, range(len(packed)), 8000)
    assert len(whole) == len(packed)
    monkeypatch.setattr(results, "MOST_SOUND", whole.map(len).iloc[:3].sum())
    assert results._sounds(packed, range(len(packed)), 8000).index.tolist() == [0, 1, 2]


def test_one_redraw_and_unanswered_recordings_are_told_by_their_numbers(capsys):
    table = prediction_rows("abcabc", "abcabb", groups="xxyyzz", confidence=0.8)
    config = small_config()
    metrics = evaluate.summary(table, 50)
    (axis,) = results.one_redraw(table, metrics, config).axes
    assert sum(bar.get_height() for bar in axis.patches) == 3  # as many draws as sources
    assert results.answered(table, 0.5) == "6 of 6 recordings are answered, 83.3% of them rightly."
    assert results.answered(table, 0.9) == "0 of 6 recordings are answered."
