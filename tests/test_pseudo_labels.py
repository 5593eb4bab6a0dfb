"""Recordings without labels: found, packed, learned from by answers that are sure, never scored."""

import contextlib

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from here import no_kernels
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import TINY
from signals import recordings_table
from tables import small_config

from helpers.audio import recording
from helpers.base import artifacts, errors
from helpers.base.settings import Config, Data
from helpers.compare import rivals
from helpers.data import label_table, sources
from helpers.layouts import listing
from helpers.listeners import runs
from helpers.rounds import learner, train
from helpers.run import cli, pipeline, presets, stages
from helpers.splits import certificate, partition
from helpers.tuning import ablation, changes

law = settings(deadline=None, max_examples=60, derandomize=True)
PITCH_HZ = {"low": 300, "high": 1500}


def tone(path, pitch_hz, seed, seconds=0.5):
    """Write a tone over a bed of noise, no two alike."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(8000 * seconds)) / 8000
    sound = 0.3 * np.sin(2 * np.pi * pitch_hz * times * rng.uniform(0.95, 1.05))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound + 0.03 * rng.standard_normal(len(times)), 8000)


def data_set(root, field):
    """Twelve labelled tones; in the folder field five without labels, one of them heard before, and
    a file that holds no sound.
    """
    for number in range(12):
        label = ("low", "high")[number % 2]
        tone(root / label / f"{number}.wav", PITCH_HZ[label], number)
    for number in range(4):
        tone(field / f"day{number}" / "low.wav", (300, 1500)[number % 2], 100 + number)
    (field / "copy.wav").write_bytes((root / "low" / "0.wav").read_bytes())
    (field / "broken.wav").write_bytes(b"RIFF")
    return root


# --- finding them ------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [True, False])
def test_unlabelled_recordings_have_no_label_no_fold_and_are_all_accounted_for(tmp_path, inside):
    field = tmp_path / "data" / "field" if inside else tmp_path / ".far" / "field"
    root = data_set(tmp_path / "data", field)
    name = "field" if inside else str(field)
    found = sources.find(root, presets.load(data=root, settings=f"data.unlabelled={name}").data)
    own = found[found["split"].eq("unlabelled")]
    assert len(own) == 6 and own["label"].eq("").all() and own["official_fold"].isna().all()
    assert own["status"].eq("ok").all()
    assert all((root / path).is_file() for path in own["path"])
    assert len(found) == 18 and found["recording_id"].is_unique
    assert set(found.query("split == 'train'")["label"]) == {"low", "high"}
    without = sources.find(root, Data()) if not inside else None
    assert without is None or len(without) == 12


@pytest.mark.parametrize(("name", "why"), [
    ("nowhere", "nowhere is no folder"),
    ("empty", "empty holds no recording"),
    (".", "holds the data folder"),
])  # fmt: skip
def test_a_folder_that_is_named_must_hold_other_recordings(tmp_path, name, why):
    root = data_set(tmp_path / "data", tmp_path / "field")
    (root / "empty").mkdir()
    with pytest.raises(errors.SourceError, match=f"data.unlabelled: .*{why}"):
        sources.find(root, Data(unlabelled=name))


def test_a_hidden_test_set_needs_no_unlabelled_folder(tmp_path):
    root = data_set(tmp_path / "data", tmp_path / "field")
    tone(root / "test" / "t.wav", 300, 7)
    assert sources.tested(root, Data(unlabelled="nowhere"))["path"].tolist() == ["test/t.wav"]


def test_sizes_and_tables_are_read_from_what_has_labels(tmp_path):
    root = tmp_path / "data"
    names = [f"{number}.wav" for number in range(10)]
    for number, name in enumerate(names):
        tone(root / "audio" / name, 300, number)
    labels = ["low", "high"] * 5
    pd.DataFrame({"file": names, "label": labels}).to_csv(root / "labels.csv", index=False)
    for number in range(20):
        tone(root / "field" / f"f{number}.wav", 300, 50 + number, seconds=2)
    config = presets.load(data=root, settings="data.unlabelled=[field]")
    assert config.data.labels_csv == "labels.csv"
    assert config.audio.clip_seconds == 0.5
    assert len(listing.recordings(root)) == 30 and len(listing.recordings(root, "field")) == 10


def test_a_preset_that_is_recognised_asks_for_no_unlabelled_folder():
    for name in presets.presets():
        assert presets.load(name).data.unlabelled == ()


def test_what_lies_beyond_the_data_folder_makes_a_stage_run_again_when_it_changes(tmp_path):
    root = data_set(tmp_path / "data", tmp_path / "field")
    config = presets.load(data=root, settings=f"data.unlabelled={tmp_path / 'field'}")
    first = stages.stage_key(stages.spec("01_explore"), config, tmp_path, root)
    tone(tmp_path / "field" / "new.wav", 300, 1)
    assert stages.stage_key(stages.spec("01_explore"), config, tmp_path, root) != first


def test_bad_unlabelled_recordings_stop_no_run_and_good_ones_excuse_no_labelled_ones():
    labels = [{"label": label} for label in ("dog", "cat") * 2]
    field = [{"split": "unlabelled", "label": "", "status": "quarantined"}] * 10
    recording.check_enough(recordings_table(*labels, *field), 0.25)
    bad = [{**row, "status": "quarantined"} for row in labels]
    good = [{**row, "status": "ok"} for row in field]
    with pytest.raises(errors.TooManyBad):
        recording.check_enough(recordings_table(*labels, *bad, *good), 0.25)


def test_labels_that_hold_from_a_second_on_leave_unlabelled_clips_alone():
    facts = {"start_seconds": [0.0, 1.0, 0.0], "valid_seconds": [1.0, 1.0, 1.0]}
    clips = pd.DataFrame({"recording_id": ["a", "a", "u"], **facts, "label": ["x", "x", ""]})
    clips["split"] = ["train", "train", "unlabelled"]
    events = {"recording_id": ["a"], "start_seconds": [0.2], "end_seconds": [0.4], "label": ["x"]}
    kept = label_table.label_clips(clips, pd.DataFrame(events))
    assert kept["recording_id"].tolist() == ["a", "u"] and kept["label"].tolist() == ["x", ""]


# --- learning from them ------------------------------------------------------------------------


@law
@given(st.integers(2, 6), st.floats(0.2, 5), st.booleans(), st.integers(0, 99))
def test_a_power_keeps_the_order_of_answers_and_their_sum(classes, power, multilabel, seed):
    answers = np.random.default_rng(seed).dirichlet(np.ones(classes), 5)
    raised = learner.powered(answers, power, multilabel)
    assert (raised.argsort(axis=1) == answers.argsort(axis=1)).all()
    np.testing.assert_allclose(learner.powered(answers, 1.0, multilabel), answers)
    if multilabel:
        np.testing.assert_allclose(raised, answers**power)
    else:
        np.testing.assert_allclose(raised.sum(axis=1), 1)
        surer = raised.max(axis=1) - answers.max(axis=1)
        assert (surer >= -1e-12).all() if power >= 1 else (surer <= 1e-12).all()


@pytest.fixture
def with_unlabelled(clips):
    """Clips of two tones in three folds, and as many without labels, every other one of a group."""
    packed, rows = clips
    more = rows.assign(split="unlabelled", label="", fold=pd.NA, clip_id="u-" + rows["clip_id"])
    shared = rows.index % 2 == 0
    more["group"] = rows["group"].where(shared, more["clip_id"])
    rows = pd.concat([rows, more], ignore_index=True).astype({"fold": "Int64"})
    return np.concatenate([packed, packed]), rows


ROUNDS = {
    "pseudo_labels": 0,
    "pseudo_rounds": 2,
    "pseudo_weight": 0.5,
    "pseudo_power": 2,
    "seeds": 2,
}


def test_rounds_learn_what_shares_no_group_with_a_held_out_fold_and_score_none_of_it(
    with_unlabelled, tmp_path, monkeypatch
):
    packed, rows = with_unlabelled
    config = small_config(train={"epochs": 1, "select": "last", **ROUNDS})
    asked = []
    whole = learner.Round.with_pseudo_labels

    def asking(self, *told):
        members, wanted = whole(self, *told)
        asked.append((self.turn, members))
        return members, wanted

    monkeypatch.setattr(learner.Round, "with_pseudo_labels", asking)
    table, history = train.cross_validate(packed, rows, config, tmp_path, "cpu")
    assert len(asked) == 3 * 2
    for turn, members in asked:
        held_out = rows[rows["fold"].eq(turn["test"])]
        learned = rows.loc[list(members)]
        assert not set(learned["group"]) & set(held_out["group"])
        added = learned[learned["split"].eq("unlabelled")]
        free = rows["split"].eq("unlabelled") & ~rows["group"].isin(held_out["group"])
        assert set(added["clip_id"]) == set(rows.loc[free, "clip_id"])
    labelled = rows.query("split == 'train'")["clip_id"]
    assert sorted(table["clip_id"]) == sorted(labelled) and table["fold"].notna().all()
    assert len(history) == 3  # one kept network per fold
    teachers = artifacts.read_table(tmp_path / "teachers.csv")
    assert sorted(teachers["clip_id"].unique()) == sorted(labelled)
    assert sorted(teachers["seed"].unique()) == [0, 1, 2]  # two, and the first that was taught
    assert len(teachers) == 3 * len(labelled)
    learned = artifacts.read_json(tmp_path / "pseudo_labels.json")
    assert [(one["fold"], one["round"]) for one in learned] == [
        (fold, number) for fold in (1, 2, 3) for number in (1, 2)
    ]
    assert all(one["asked"] == one["learned"] == sum(one["clips"].values()) for one in learned)


def test_a_clip_without_a_label_is_drawn_as_often_as_its_weight_says(with_unlabelled):
    packed, rows = with_unlabelled
    turn = {"test": 1, "validation": None, "train": (2, 3)}
    clock = learner.Clock(1.0, 1)

    def chances(weight, members):
        config = small_config(train={"pseudo_labels": 0, "pseudo_weight": weight})
        worker = learner.Round(
            packed, rows, ["high", "low"], turn, config, "cpu", clock, None, None
        )
        return worker.chances(members, torch.full((len(members), 2), 0.5))

    labelled = partition.fold_rows(rows, [2, 3]).index
    both = [*labelled, *rows.index[rows["split"].eq("unlabelled")]]
    assert chances(0.25, labelled) is None and chances(1.0, both) is None
    drawn = chances(0.25, both)
    assert set(drawn[: len(labelled)].tolist()) == {1.0}
    assert set(drawn[len(labelled) :].tolist()) == {0.25}
    config = small_config(train={"pseudo_weight": 0.25, "batch_size": 4})
    worker = learner.Round(packed, rows, ["high", "low"], turn, config, "cpu", clock, None, None)
    made = worker.batches(both, np.zeros((len(both), 2), np.float32), torch.Generator())
    expected = len(labelled) + 0.25 * (len(both) - len(labelled))
    assert len(made) == len(list(made)) == -(-expected // 4)


def test_rounds_that_are_stopped_go_on_to_the_same_answers(with_unlabelled, tmp_path):
    packed, rows = with_unlabelled
    kept = tmp_path / "checkpoints"
    settings = {"epochs": 2, "select": "last", **ROUNDS}
    short = small_config(train={**settings, "max_minutes": 1e-9})
    config = small_config(train=settings)
    train.cross_validate(packed, rows, short, tmp_path / "short", "cpu", kept)
    assert (kept / "fold1-taught.safetensors").is_file()
    assert (kept / "fold1-taught2.safetensors").is_file()
    table, _ = train.cross_validate(packed, rows, config, tmp_path / "later", "cpu", kept)
    expected, _ = train.cross_validate(packed, rows, config, tmp_path / "whole", "cpu")
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
    for name in ("teachers.csv", "pseudo_labels.json"):
        later = (tmp_path / "later" / name).read_bytes()
        assert later == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("change", [{"pseudo_power": 3}, {"pseudo_weight": 0.3}, {"views": 2}])
def test_another_way_of_teaching_is_another_training(with_unlabelled, change):
    packed, rows = with_unlabelled
    one, other = (small_config(train={**ROUNDS, **more}) for more in ({}, change))
    assert train.digest(packed, rows, one) != train.digest(packed, rows, other)


@pytest.mark.parametrize("way", [{"distil": 0.5}, {"pseudo_labels": 0}])
def test_what_teaching_brought_is_the_change_from_the_first_teacher_and_from_all(
    with_unlabelled, tmp_path, way
):
    packed, rows = with_unlabelled
    config = small_config(train={"epochs": 2, "select": "last", "seeds": 2, **way})
    home = tmp_path / "models" / "cnn"
    home.mkdir(parents=True)
    table, _ = train.cross_validate(packed, rows, config, home, "cpu")
    artifacts.write_table(home / "out_of_fold.csv", table)
    teachers = artifacts.read_table(home / "teachers.csv")
    facts = rows.set_index("clip_id")[["recording_id", "label"]]

    def accuracy(answers):
        means = answers.join(facts, on="clip_id").groupby(["recording_id", "label"])
        means = means[["high", "low"]].mean().reset_index()
        return means[["high", "low"]].idxmax(axis=1).eq(means["label"]).mean()

    changes = rivals.taught(tmp_path, rows, config)
    before = [accuracy(teachers[teachers["seed"].eq(0)]), accuracy(teachers)]
    np.testing.assert_allclose(changes["change"], accuracy(table) - np.array(before), atol=1e-5)
    assert changes["change_low"].le(changes["change_high"]).all()
    says = rivals.taught_in_words(changes, config)
    assert ("distillation" in says) == ("distil" in way)
    assert "the 2 of them together" in says


@pytest.mark.parametrize(("own", "other", "learned", "refused"), [
    ("train", "unlabelled", True, True),
    ("train", "unlabelled", False, False),
    ("unlabelled", "train", True, False),
])  # fmt: skip
def test_networks_that_learned_a_recording_without_its_label_are_no_strangers_to_it(
    tmp_path, own, other, learned, refused
):
    for name, split in (("mine", own), ("theirs", other)):
        row = {"recording_id": "r", "path": "r.wav", "split": split, "sha256": "abc"}
        artifacts.write_table(tmp_path / name / "recordings.csv", recordings_table(row))
    if learned:
        artifacts.write_json(tmp_path / "theirs/models/cnn/pseudo_labels.json", [])
    alone = small_config(split={"near_duplicates": False})
    told = pytest.raises(errors.ConfigError) if refused else contextlib.nullcontext()
    with told:
        runs.require_strangers(tmp_path / "theirs", tmp_path / "mine", alone)


def test_without_such_clips_no_network_is_trained_twice(clips, tmp_path):
    config = small_config(train={"epochs": 1, "select": "last", **ROUNDS})
    _, history = train.cross_validate(*clips, config, tmp_path, "cpu")
    assert len(history) == 3 * 2 and not (tmp_path / "teachers.csv").exists()
    assert rivals.taught(tmp_path, clips[1], config).empty
    assert "No clip" in train.pseudo_labels_in_words(tmp_path, clips[1], config)
    assert train.pseudo_labels_in_words(tmp_path, clips[1], small_config()) == ""


def test_the_ablation_leaves_pseudo_labels_out_where_there_is_nothing_to_learn(
    clips, tmp_path, capsys
):
    packed, rows = clips
    np.save(tmp_path / "waveforms.npy", packed)
    artifacts.write_table(tmp_path / "waveforms.csv", rows)
    measured = ablation.measure_ingredients(tmp_path, small_config(), only=(changes.PSEUDO,))
    assert list(measured) == []
    assert "neither a test set nor data.unlabelled" in capsys.readouterr().out


# --- by the command ----------------------------------------------------------------------------

QUICK = (
    "audio.sample_rate=8000 audio.clip_seconds=0.5 features.n_mels=32 augment.copies=0 "
    "split.folds=3 features.image_size=32 compare.models=[mfcc_linear] compare.learning_curve=none "
    "evaluate.bootstrap_samples=50 train.epochs=2 "
)


def test_a_folder_and_its_unlabelled_one_run_to_a_submission(home, tmp_path):
    field = tmp_path / "field"
    root = data_set(tmp_path / "data", field)
    rounds = " ".join(f"train.{key}={value}" for key, value in ROUNDS.items())
    told = f"{TINY} {QUICK} data.unlabelled={field} {rounds}"
    with no_kernels():
        folder, _ = pipeline.run_all(data=str(root), run="field", settings=told)
    recordings = artifacts.read_table(folder / "recordings.csv")
    own = recordings[recordings["split"].eq("unlabelled")]
    assert len(own) == 6 and own["status"].value_counts().to_dict() == {"ok": 5, "quarantined": 1}
    assert "broken.wav" in "".join(artifacts.read_table(folder / "quarantine.csv")["path"])
    ids = set(own["recording_id"])
    rows = artifacts.read_table(folder / "waveforms.csv")
    assert rows["split"].tail(5).eq("unlabelled").all() and rows["fold"].tail(5).isna().all()
    for name in ("features.csv", "predictions.csv"):
        assert not ids & set(artifacts.read_table(folder / name)["recording_id"]), name
    assert not own["path"].isin(pd.read_csv(folder / "submission.csv")["filename"]).any()
    stated = artifacts.read_json(folder / "split_certificate.json")
    assert stated["unlabelled"]["recordings"] == 5
    assert len(stated["unlabelled"]["groups_also_in_train"]) == 1
    assert certificate.verify(folder) == []
    learned = artifacts.read_json(folder / "models" / "cnn" / "pseudo_labels.json")
    assert {record["learned"] for record in learned} == {4, 5}  # the copy is left out where tested
    heard = recordings[recordings["status"].eq("ok")]
    assert "5 unlabelled recordings" in sources.sides_in_words(heard)
    config = Config(**artifacts.read_json(folder / "run.json")["config"])
    assert "Round 2: of 5 clips" in train.pseudo_labels_in_words(folder, rows, config)
    assert train.pseudo_labelled(folder)["fold 1"].sum() in (4, 5)
    report = (folder / "report.html").read_text()
    for said in ("one network that learned from labels alone", "the 2 of them together"):
        assert f"against {said}" in report and "the network of round 1" in report
    assert cli.main(["verify", "--run", "field"]) == 0
