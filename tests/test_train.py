"""Cross-validation: it learns, never meets what it is tested on, averages its seeds, and goes on
where it was.
"""

import math
import time

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import assert_same, weights
from tables import small_config, tone_scenes

from helpers.audio import features, images
from helpers.base import artifacts, errors, targets
from helpers.compare import inference
from helpers.models import checkpoints, networks
from helpers.rounds import learner, machine, train
from helpers.run import cli
from helpers.splits import partition
from helpers.training import batches, fit, optimise, processes
from helpers.view import curves

law = settings(deadline=None, max_examples=60, derandomize=True)
LABELS = ["high", "low"]
pytestmark = pytest.mark.usefixtures("one_thread")
TURN = {"test": 1, "validation": 2, "train": (3,)}


class Bar:
    """A bar that counts."""

    done = 0

    def update(self, by=1):
        self.done += by


def one_round(clips, config, turn=TURN, kept_at=None, labels=LABELS):
    return learner.Round(
        *clips, labels, turn, config, "cpu", learner.Clock(math.inf, 1), Bar(), kept_at
    )


def data(clips, config, folds, shuffled=False):
    """Batches of the clips of some folds, as a round makes them."""
    chosen = partition.fold_rows(clips[1], folds)
    wanted = targets.matrix(chosen["label"], LABELS)
    return one_round(clips, config).batches(
        chosen.index, wanted, torch.Generator() if shuffled else None
    )


def without_seconds(history):
    return [{key: value for key, value in record.items() if key != "seconds"} for record in history]


# --- who learns, who is tested -----------------------------------------------------------------


def with_copies(clips):
    """The clips and an augmented copy of each, which follow their parents, and two clips of the
    test set.
    """
    packed, rows = clips
    copies = rows.assign(parent_id=rows["clip_id"], clip_id=rows["clip_id"] + "-a0")
    test = rows.head(2).assign(
        split="test", label="", clip_id=["t1", "t2"], fold=pd.NA, group=["t1", "t2"]
    )
    return np.concatenate([packed, packed, packed[:2]]), pd.concat(
        [rows, copies, test], ignore_index=True
    )


@pytest.mark.parametrize("select", ["validation", "last"])
@pytest.mark.parametrize("copies", [False, True])
def test_no_group_is_trained_on_and_tested_or_chosen_with(
    clips, tmp_path, monkeypatch, select, copies
):
    packed, rows = with_copies(clips)
    config = small_config(train={"epochs": 1, "select": select, "augmented_copies": copies})
    met, standardised = [], []
    standardise = networks.AudioClassifier.fit_standardisation
    monkeypatch.setattr(
        networks.AudioClassifier,
        "fit_standardisation",
        lambda model, d: (standardised.append(d), standardise(model, d)),
    )
    fitted = fit.fit
    monkeypatch.setattr(
        fit, "fit", lambda *args, **more: (met.append(args[1:3]), fitted(*args, **more))[1]
    )
    train.cross_validate(packed, rows, config, tmp_path, device="cpu")
    for turn, (training, validation), fitted_on in zip(
        partition.rounds([1, 2, 3], select), met, standardised, strict=True
    ):
        trained = rows.loc[training.rows]
        chosen = rows.loc[[] if validation is None else validation.rows]
        tested = rows[rows["fold"].eq(turn["test"])]
        assert set(fitted_on.rows) == set(training.rows)
        assert trained["split"].eq("train").all() and trained["parent_id"].ne("").any() == copies
        assert chosen["parent_id"].eq("").all()
        for one, other in ((trained, tested), (trained, chosen), (chosen, tested)):
            assert not set(one["group"]) & set(other["group"])
        if select == "validation":
            assert set(chosen["fold"]) == {turn["validation"]}


def test_cross_validation_predicts_every_training_clip_once_and_saves_each_fold(clips, tmp_path):
    packed, rows = with_copies(clips)
    config = small_config(train={"epochs": 15, "batch_size": 4})
    table, history = train.cross_validate(packed, rows, config, tmp_path, device="cpu")
    originals = rows[rows["split"].eq("train") & rows["parent_id"].eq("")]
    assert sorted(table["clip_id"]) == sorted(originals["clip_id"])
    expected_fold = originals.set_index("clip_id")["fold"]
    assert table["fold"].tolist() == expected_fold[table["clip_id"]].tolist()
    np.testing.assert_allclose(table[LABELS].sum(axis=1), 1, rtol=1e-5)
    truth = originals.set_index("clip_id")["label"][table["clip_id"]]
    assert (table[LABELS].idxmax(axis=1).to_numpy() == truth.to_numpy()).mean() > 0.9
    assert sorted(path.name for path in tmp_path.glob("fold*")) == ["fold1", "fold2", "fold3"]
    assert {record["fold"] for record in history} == {1, 2, 3} and not any(
        "seed" in record for record in history
    )


def records(*curves):
    """A history of one network per fold, of what it had learned after each of its epochs."""
    networks = enumerate(curves, 1)
    return [{"fold": fold, "learned": share} for fold, curve in networks for share in curve]


RISING, ENOUGH = np.linspace(0.1, 0.6, 24), np.linspace(0.1, 0.75, 24)
FLAT = np.minimum(np.linspace(0.1, 2, 24), 0.5)
EARLY = [[RISING], [RISING, RISING, FLAT], [RISING, RISING[:9]], [RISING[:2]], [RISING[:1]]]


@pytest.mark.parametrize("learned", EARLY)
def test_a_training_whose_loss_was_still_falling_is_said_with_what_to_set(learned):
    epochs = len(learned[0])
    config = small_config(train={"epochs": epochs})
    said = curves.still_falling(records(*learned), config)
    assert f'SET="train.epochs={2 * epochs}"' in said and f"the last epoch ({epochs})" in said
    assert said == curves.still_falling(pd.DataFrame(records(*learned)), config)


@pytest.mark.parametrize("learned", [[ENOUGH], [FLAT], [RISING, FLAT], [RISING[:9]], []])
def test_a_training_that_learned_enough_or_no_more_or_was_cut_short_is_not(learned):
    """Half of the networks is no majority; nine of 24 epochs: a limit in time, or patience."""
    assert curves.still_falling(records(*learned), small_config(train={"epochs": 24})) == ""


def test_smoke_runs_and_histories_of_before_say_nothing_of_their_length():
    config = small_config(train={"epochs": 24})
    assert curves.still_falling(records(RISING), config.model_copy(update={"fast": True})) == ""
    assert curves.still_falling([{"fold": 1, "train_loss": 2.0}], config) == ""


def test_what_two_tones_teach_is_learned_and_two_epochs_of_it_are_not(clips, tmp_path):
    """Real histories, as the notebook judges them."""
    packed, rows = clips
    for epochs, early in ((2, True), (15, False)):
        config = small_config(train={"epochs": epochs, "select": "last"}, split={"test_folds": 1})
        _, history = train.cross_validate(packed, rows, config, tmp_path / str(epochs), "cpu")
        assert bool(curves.still_falling(history, config)) == early


def test_the_kept_epochs_are_one_record_per_fold():
    kept = [True, False, False, True]
    history = pd.DataFrame({"fold": [1, 1, 2, 2], "epoch": [1, 2, 1, 2], "kept": kept})
    assert train.kept_epochs(history).to_dict("list") == {"fold": [1, 2], "epoch": [1, 2]}


@pytest.mark.parametrize("chosen", [True, False])
def test_the_curves_are_told_as_they_are(chosen):
    history = pd.DataFrame(
        {"epoch": [1], "train_loss": [1.0]} | ({"validation_loss": [1.0]} if chosen else {})
    )
    settings = small_config(
        train={"select": "validation" if chosen else "last", "mix": "none"}
    ).train
    says = curves.in_words(history, settings)
    assert ("alidation" in says) is chosen and ("last one is kept" in says) is not chosen
    assert "mixed" not in says and "moved" in says
    quiet = {
        "shift": 0.0,
        "speed": 0.0,
        "gain_db": 0.0,
        "label_smoothing": 0.0,
        "mix": "none",
        "masks": 0,
    }
    assert "altered" not in curves.in_words(history, small_config(train=quiet).train)
    assert "for show" not in says
    assert "for show" in curves.in_words(history.assign(held_out_loss=1.0), settings)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(clips):
    wanted = torch.from_numpy(targets.matrix(partition.fold_rows(clips[1], [3])["label"], LABELS))
    members = partition.fold_rows(clips[1], [3]).index

    def trained(config_seed, seed=0, generations=()):
        config = small_config(train={"epochs": 2, "masks": 1}).model_copy(
            update={"seed": config_seed}
        )
        worker = one_round(clips, config)
        return weights(worker.network(seed, members, wanted, generations)[0])

    first, again = trained(3), trained(3)
    assert_same(first, again)
    others = (trained(4), trained(3, seed=1), trained(3, generations=[[]]))
    for other in (*others, trained(3, generations=[[], []])):
        assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("select", ["last", "validation"])
def test_a_training_that_is_watched_is_the_one_that_is_not(clips, tmp_path, select):
    config = small_config(train={"select": select, "epochs": 3, "ema": 0.0, "patience": 2})
    seen = []
    for name, watch in (("watched", seen.append), ("alone", None)):
        train.cross_validate(*clips, config, tmp_path / name, "cpu", watch=watch)
    for fold in (1, 2, 3):
        one, other = (tmp_path / name / f"fold{fold}" for name in ("watched", "alone"))
        assert artifacts.file_digest(one / "weights.safetensors") == artifacts.file_digest(
            other / "weights.safetensors"
        )
    assert {records[0]["fold"] for records in seen} == {1, 2, 3}
    assert {"held_out_loss", "unaltered_accuracy"} <= set(seen[-1][-1])


def test_what_is_looked_at_for_show_is_the_tested_fold_and_as_much_that_was_learned_from(clips):
    config = small_config(train={"select": "last", "epochs": 200, "crop": 0.5})
    turn = {"test": 1, "validation": None, "train": (2, 3)}
    glance = one_round(clips, config, turn).glance()
    assert len(glance.epochs) == learner.GLANCES and max(glance.epochs) == 200
    rows = clips[1]
    folds = {name: set(rows["fold"][batch.rows]) for name, batch in glance.clips.items()}
    assert folds == {"held_out": {1}, "unaltered": {2, 3}}
    held_out, unaltered = (len(batch.rows) for batch in glance.clips.values())
    assert held_out == unaltered == 8


def test_a_single_split_trains_one_network_and_predicts_one_fold(clips, tmp_path):
    config = small_config(train={"epochs": 1, "select": "last"}, split={"test_folds": 1})
    table, history = train.cross_validate(*clips, config, tmp_path, device="cpu")
    assert set(table["fold"]) == {1} == {record["fold"] for record in history}
    assert [path.name for path in tmp_path.glob("fold*")] == ["fold1"]


def test_batches_of_test_clips_need_no_label(clips):
    packed, rows = with_copies(clips)
    test = rows[rows["split"].eq("test")]
    made = one_round((packed, rows), small_config()).batches(
        test.index, targets.matrix(test["label"], LABELS)
    )
    assert isinstance(made, batches.Batches) and made.targets.tolist() == [[0, 0], [0, 0]]


# --- class balance, images, several labels -----------------------------------------------------


def unbalanced(clips):
    """The same clips, but of low tones only one per source."""
    packed, rows = clips
    return packed, rows[rows["label"].eq("high") | rows["recording_id"].str.endswith("0")]


def test_only_drawing_for_training_is_balanced_and_there_classes_come_alike(clips):
    config = small_config(train={"balance": "sampling"})
    assert data(unbalanced(clips), config, [1, 2]).chances is None
    assert data(unbalanced(clips), small_config(), [1, 2], shuffled=True).chances is None
    drawing = data(unbalanced(clips), config, [1, 2], shuffled=True)
    assert (drawing.targets.sum(0) == torch.tensor([8, 4])).all()
    drawn = torch.cat([wanted for _ in range(50) for _, wanted in drawing]).mean(0)
    torch.testing.assert_close(drawn, torch.tensor([0.5, 0.5]), atol=0.08, rtol=0)


EASY = {"epochs": 20, "batch_size": 4, "select": "last", "mixup_alpha": 0.0, "speed": 0.0}


def learned(packed, rows, config, folder):
    """Cross-validate; returns (out-of-fold probabilities, targets in the same order, classes,
    history).
    """
    table, history = train.cross_validate(packed, rows, config, folder, device="cpu")
    names = [name for name in table if name not in ("clip_id", "fold")]
    wanted = targets.matrix(rows.set_index("clip_id")["label"][table["clip_id"]], names)
    return table[names].to_numpy(), wanted, names, history


@pytest.mark.parametrize("balance", ["weights", "sampling", "focal"])
def test_every_way_of_helping_rare_classes_learns_two_tones(clips, tmp_path, balance):
    config = small_config(train={**EASY, "balance": balance})
    packed, rows = unbalanced(clips)
    found, wanted, _, _ = learned(packed, rows, config, tmp_path)
    assert (found.argmax(1) == wanted.argmax(1)).mean() > 0.9


def test_a_network_learns_two_tones_from_their_images_and_then_hears_waveforms(clips, tmp_path):
    settings = {**EASY, "inputs": "images", "flip": 0.5, "rotate": 0.02, "zoom": 0.1}
    config = small_config(train=settings, features={"image_size": 16})
    packed, rows = clips
    waveforms = torch.from_numpy(features.unpack(packed))
    pictures = (images.mel_image(config)(waveforms) * 255).round().to(torch.uint8).numpy()
    found, wanted, _, _ = learned(pictures, rows, config, tmp_path)
    assert (found.argmax(1) == wanted.argmax(1)).mean() > 0.9
    model, _ = checkpoints.load(tmp_path / "fold1", config)
    tested = np.flatnonzero(rows["fold"].eq(1))
    with torch.no_grad():
        again = model.probabilities(waveforms[tested]).numpy()
    np.testing.assert_allclose(again, found[: len(tested)], atol=1e-4)


def test_a_network_learns_to_hear_two_tones_one_or_none(tmp_path):
    config = small_config(data={"multilabel": True}, train={**EASY, "select": "validation"})
    found, wanted, names, history = learned(*tone_scenes(), config, tmp_path)
    assert names == ["high", "low"] and wanted.sum(1).tolist().count(0) == 12
    assert ((found > 0.5) == wanted).mean() > 0.9
    assert all("validation_average_precision" in record for record in history)
    assert [
        sum(record["kept"] for record in history if record["fold"] == fold) for fold in (1, 2, 3)
    ] == [1, 1, 1]
    assert (
        artifacts.read_json(tmp_path / "fold1" / "card.json")["config"]["data"]["multilabel"]
        is True
    )


# --- several networks, and what they teach -----------------------------------------------------


def test_several_seeds_are_averaged_written_one_by_one_and_loaded_together(clips, tmp_path):
    packed, rows = clips
    folder = tmp_path / "models" / "cnn"
    config = small_config(train={"epochs": 1, "select": "last", "seeds": 2, "views": 2})
    table, history = train.cross_validate(packed, rows, config, folder, device="cpu")
    seeds = pd.read_csv(folder / "seeds.csv")
    assert (
        list(table) == ["clip_id", "fold", *LABELS]
        and table["clip_id"].is_unique
        and len(table) == len(rows)
    )
    assert set(seeds["seed"]) == {0, 1} and len(seeds) == 2 * len(table)
    mean = seeds.groupby("clip_id")[LABELS].mean().loc[table["clip_id"]]
    np.testing.assert_allclose(table[LABELS], mean, rtol=1e-6)
    one, other = (seeds[seeds["seed"].eq(seed)].set_index("clip_id")[LABELS] for seed in (0, 1))
    assert not np.allclose(one, other)
    names = [f"fold{fold}{seed}" for fold in (1, 2, 3) for seed in ("", "-seed1")]
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == names
    assert [(record["fold"], record["seed"]) for record in history] == [
        (f, s) for f in (1, 2, 3) for s in (0, 1)
    ]
    assert len(inference.Bundle(tmp_path).models) == 6


def test_each_network_of_a_fold_is_the_one_that_predicted_it(clips, tmp_path):
    packed, rows = clips
    config = small_config(train={"epochs": 1, "select": "last", "seeds": 2})
    train.cross_validate(packed, rows, config, tmp_path, device="cpu")
    seeds, tested = pd.read_csv(tmp_path / "seeds.csv"), rows[rows["fold"].eq(2)]
    for seed, name in ((0, "fold2"), (1, "fold2-seed1")):
        model, _ = checkpoints.load(tmp_path / name, config)
        with torch.no_grad():
            again = model.probabilities(torch.from_numpy(features.unpack(packed[tested.index])))
        found = seeds[seeds["fold"].eq(2) & seeds["seed"].eq(seed)].set_index("clip_id")[LABELS]
        np.testing.assert_allclose(found.loc[tested["clip_id"]], again, atol=1e-5)


@pytest.fixture
def taught(monkeypatch):
    """The teachers and the members that each fit of a test was given: a list of pairs."""
    met, fitted = [], fit.fit
    monkeypatch.setattr(
        fit,
        "fit",
        lambda *a, **more: (met.append((list(more["teachers"]), a[1].rows)), fitted(*a, **more))[1],
    )
    return met


def test_with_distil_a_last_network_learns_from_all_others_and_alone_is_kept(
    clips, tmp_path, taught
):
    config = small_config(
        train={"epochs": 1, "select": "last", "seeds": 2, "distil": 0.5}, split={"test_folds": 1}
    )
    table, history = train.cross_validate(*clips, config, tmp_path, device="cpu")
    assert [len(teachers) for teachers, _ in taught] == [0, 0, 2]
    assert all(not teacher.training for teacher in taught[-1][0])
    assert [path.name for path in tmp_path.glob("fold*")] == ["fold1"]
    assert len(history) == 1 and "seed" not in history[0]
    assert len(table) == clips[1]["fold"].eq(1).sum()


def with_a_test_set(clips):
    """The clips, and a test set: clips like each of those in the training folds, one in a group of
    each fold.
    """
    packed, rows = clips
    test = rows.assign(split="test", label="", fold=pd.NA, clip_id="t-" + rows["clip_id"])
    test["group"] = rows["group"].where(rows["recording_id"].str.endswith("00"), test["clip_id"])
    return np.concatenate([packed, packed]), pd.concat([rows, test], ignore_index=True).astype(
        {"fold": "Int64"}
    )


@pytest.mark.parametrize("select", ["last", "validation"])
def test_pseudo_labels_are_answers_to_test_clips_that_are_sure_and_in_no_group_that_is_held_out(
    clips, tmp_path, taught, select
):
    packed, rows = with_a_test_set(clips)
    config = small_config(train={**EASY, "batch_size": 8, "select": select, "pseudo_labels": 0.6})
    train.cross_validate(packed, rows, config, tmp_path, device="cpu")
    assert len(taught) == 6
    for turn, (_, before), (teachers, after) in zip(
        partition.rounds([1, 2, 3], select), taught[::2], taught[1::2], strict=True
    ):
        added = rows.loc[list(after[len(before) :])]
        held_out = rows[rows["fold"].isin([turn["test"], turn["validation"]])]
        assert list(after[: len(before)]) == list(before) and teachers == []
        assert len(added) and added["split"].eq("test").all() and added.index.is_unique
        assert not set(added["group"]) & set(held_out["group"])
        assert set(added["group"]) & set(
            rows.loc[before, "group"]
        )  # those of the training folds may


@pytest.mark.parametrize(("answers", "multilabel", "sure"), [
    ([[0.95, 0.05], [0.6, 0.4], [0.1, 0.9]], False, [0, 2]),
    ([[0.95, 0.02], [0.95, 0.6], [0.05, 0.03]], True, [0, 2]),
])  # fmt: skip
def test_only_clips_of_whose_label_the_networks_are_sure_are_learned(
    clips, monkeypatch, answers, multilabel, sure
):
    packed, rows = clips
    test = rows.head(3).assign(split="test", label="", fold=pd.NA, group=["x", "y", "z"])
    rows = pd.concat([rows, test], ignore_index=True)
    config = small_config(train={"pseudo_labels": 0.9}, data={"multilabel": multilabel})
    networks = iter(
        [np.array(answers) + 0.04, np.array(answers) - 0.04]
    )  # it is their mean that counts
    monkeypatch.setattr(fit, "predict", lambda model, held, views: next(networks))
    worker = one_round((np.concatenate([packed, packed[:3]]), rows), config)
    members, wanted = worker.with_pseudo_labels([0, 1], torch.eye(2), [(None, []), (None, [])])
    assert members == [0, 1, *(24 + number for number in sure)]
    torch.testing.assert_close(wanted, torch.cat([torch.eye(2), torch.tensor(answers)[sure]]))


def test_without_a_test_set_there_are_no_pseudo_labels(clips):
    config = small_config(train={"pseudo_labels": 0.5})
    members, wanted = one_round(clips, config).with_pseudo_labels([0, 1], torch.eye(2), [])
    assert members == [0, 1] and torch.equal(wanted, torch.eye(2))


# --- time --------------------------------------------------------------------------------------


@law
@given(st.integers(1, 6), st.floats(0.1, 10), st.data())
def test_a_clock_shares_what_is_left_among_the_networks_that_are_left(networks, minutes, drawn):
    now = 1000.0
    clock = learner.Clock(minutes, networks, now)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: now)
        for left in range(networks, 0, -1):
            deadline = clock.deadline()
            remaining = max(0, 1000 + 60 * minutes - now)
            assert deadline == pytest.approx(now + remaining / left)
            now = drawn.draw(
                st.floats(now, deadline + 60)
            )  # a network may be done sooner, or its last epoch later


def test_a_clock_without_a_limit_has_no_deadline():
    assert learner.Clock(math.inf, 3).deadline() == math.inf


@pytest.mark.parametrize("teaching", [{}, {"distil": 0.5}, {"pseudo_labels": 0.6}])
def test_out_of_time_each_network_has_one_epoch_says_so_and_is_trained_on_later(
    clips, tmp_path, teaching
):
    clips, kept = with_a_test_set(clips), tmp_path / "checkpoints"
    whole = small_config(train={"epochs": 3, **teaching})
    short = small_config(train={"epochs": 3, "max_minutes": 1e-9, **teaching})
    _, history = train.cross_validate(*clips, short, tmp_path / "short", "cpu", kept)
    assert [record["epoch"] for record in history] == [1, 1, 1]
    cards = [
        artifacts.read_json(tmp_path / "short" / f"fold{fold}" / "card.json") for fold in (1, 2, 3)
    ]
    assert [card["ended"] for card in cards] == ["time"] * 3
    table, history = train.cross_validate(*clips, whole, tmp_path / "later", "cpu", kept)
    expected, unstopped = train.cross_validate(*clips, whole, tmp_path / "whole", "cpu")
    assert without_seconds(history) == without_seconds(unstopped)
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
    for fold in (1, 2, 3):
        one, other = (
            checkpoints.load(tmp_path / name / f"fold{fold}", whole)[0]
            for name in ("later", "whole")
        )
        assert_same(weights(one), weights(other))


# --- what a checkpoint is of -------------------------------------------------------------------


OTHERWISE = {
    "learning rate": lambda c, r, s: (c, r, small_config(train={"learning_rate": 0.02})),
    "mixing": lambda c, r, s: (c, r, small_config(train={"mix": "between_class"})),
    "network": lambda c, r, s: (c, r, small_config(model={"dropout": 0.1})),
    "front end": lambda c, r, s: (c, r, small_config(features={"n_mels": 20})),
    "seed": lambda c, r, s: (c, r, s.model_copy(update={"seed": 1})),
    "several labels": lambda c, r, s: (c, r, small_config(data={"multilabel": True})),
    "a clip's sound": lambda c, r, s: (np.where(np.arange(len(c))[:, None] == 3, c + 1, c), r, s),
    "a clip's label": lambda c, r, s: (c, r.assign(label=r["label"].where(r.index != 3, "low")), s),
    "a clip's fold": lambda c, r, s: (c, r.assign(fold=r["fold"].where(r.index != 3, 3)), s),
    "a clip's group": lambda c, r, s: (
        c,
        r.assign(group=r["group"].where(r.index != 3, "other")),
        s,
    ),
    "which clips": lambda c, r, s: (c[1:], r.iloc[1:].reset_index(drop=True), s),
}


@pytest.mark.parametrize("what", OTHERWISE)
def test_another_training_has_another_digest(clips, what):
    packed, rows = clips
    assert train.digest(*OTHERWISE[what](packed, rows, small_config())) != train.digest(
        packed, rows, small_config()
    )


@pytest.mark.parametrize("setting", [
    {"max_minutes": 3.0}, {"threads": 2}, {"processes": 2}, {"capture": False}, {"views": 3},
])  # fmt: skip
def test_how_it_is_carried_out_does_not_make_it_another_training(clips, setting):
    packed, rows = clips
    expected = train.digest(packed, rows, small_config())
    assert train.digest(packed.copy(), rows.copy(), small_config(train=setting)) == expected


def test_a_stopped_cross_validation_goes_on_and_ends_as_one_that_was_not(
    clips, tmp_path, monkeypatch
):
    config = small_config(train={"epochs": 2, "seeds": 2, "distil": 0.5, "ema": 0.5})
    expected, unstopped = train.cross_validate(*clips, config, tmp_path / "whole", "cpu")
    epoch, trained = fit.Trainer.epoch, []

    def breaks(one):
        if len(trained) == 8:
            raise KeyboardInterrupt
        trained.append(one)
        return epoch(one)

    with monkeypatch.context() as patch:
        patch.setattr(fit.Trainer, "epoch", breaks)
        patch.setattr(fit, "SAVE_EVERY", -1)
        with pytest.raises(KeyboardInterrupt):
            train.cross_validate(*clips, config, tmp_path / "stopped", "cpu", tmp_path / "kept")
    monkeypatch.setattr(fit.Trainer, "epoch", lambda one: (trained.append(one), epoch(one))[1])
    table, history = train.cross_validate(
        *clips, config, tmp_path / "stopped", "cpu", tmp_path / "kept"
    )
    assert len(trained) == 3 * 3 * 2  # no epoch twice
    assert without_seconds(history) == without_seconds(unstopped)
    pd.testing.assert_frame_equal(table, expected, check_exact=True)


def test_the_bar_counts_every_epoch_once_whether_trained_or_taken_up(clips, tmp_path):
    config = small_config(train={"epochs": 3, "select": "last"})

    def kept_at(name, teachers):
        return checkpoints.Checkpoint(tmp_path / name, "digest")

    for _ in range(2):
        worker = one_round(clips, config, {**TURN, "validation": None}, kept_at)
        worker.run(tmp_path / "models")
        assert worker.bar.done == 3


# --- the number format -------------------------------------------------------------------------


@pytest.fixture
def cpu_prefers(monkeypatch):
    """Make every trial from now on find a number format the faster one, on a torch that says
    nothing of its CPU.
    """
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)

    def prefer(name):
        monkeypatch.setattr(machine, "CHOSEN", {})
        faster = optimise.FORMATS[name]
        monkeypatch.setattr(
            machine, "pass_seconds", lambda network, x, kind: 1.0 if kind == faster else 2.0
        )

    return prefer


def precisions(folder):
    """What the cards of the networks below a folder say that they were calculated in."""
    cards = [artifacts.read_json(path) for path in sorted(folder.glob("fold*/card.json"))]
    return [card["config"]["train"]["precision"] for card in cards]


def test_a_training_that_goes_on_keeps_the_number_format_that_it_began_with(
    clips, tmp_path, cpu_prefers
):
    whole = small_config(train={"epochs": 3, "precision": "auto"})
    short = small_config(train={"epochs": 3, "precision": "auto", "max_minutes": 1e-9})
    cpu_prefers("bf16")
    train.cross_validate(*clips, short, tmp_path / "short", "cpu", tmp_path / "kept")
    cpu_prefers("fp32")
    table, history = train.cross_validate(
        *clips, whole, tmp_path / "later", "cpu", tmp_path / "kept"
    )
    asked = small_config(train={"epochs": 3, "precision": "bf16"})
    expected, unstopped = train.cross_validate(*clips, asked, tmp_path / "asked", "cpu")
    assert precisions(tmp_path / "later") == precisions(tmp_path / "asked") == ["bf16"] * 3
    assert without_seconds(history) == without_seconds(unstopped)
    pd.testing.assert_frame_equal(table, expected, check_exact=True)


@pytest.mark.parametrize("inputs", ["waveforms", "images"])
def test_a_new_training_tries_again_and_the_card_says_what_was_chosen(
    clips, tmp_path, cpu_prefers, inputs
):
    packed, rows = clips
    if inputs == "images":
        packed = np.random.default_rng(0).integers(0, 256, (len(rows), 16, 16), np.uint8)
    for name in ("bf16", "fp32"):
        cpu_prefers(name)
        settings = {"epochs": 1, "precision": "auto", "inputs": inputs}
        config = small_config(train=settings, features={"image_size": 16})
        train.cross_validate(packed, rows, config, tmp_path / name, "cpu")
        assert precisions(tmp_path / name) == [name] * 3


def test_a_number_format_that_is_asked_for_is_not_tried(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "pass_seconds", lambda *arguments: pytest.fail("it tries"))
    config = small_config(train={"epochs": 1, "precision": "fp32", "threads": 1})
    train.cross_validate(*clips, config, tmp_path / "models", "cpu", tmp_path / "kept")
    assert precisions(tmp_path / "models") == ["fp32"] * 3
    assert sorted(path.stem for path in (tmp_path / "kept").iterdir()) == [
        "fold1",
        "fold2",
        "fold3",
    ]


# --- a run's network ---------------------------------------------------------------------------


@pytest.fixture
def run_folder(clips, tmp_path, monkeypatch):
    """The folder of a run named "tiny" that stages 01 to 04 are done for."""
    monkeypatch.setenv("EARSHOT_HOME", str(tmp_path))
    folder = tmp_path / "outputs" / "tiny"
    folder.mkdir(parents=True)
    np.save(folder / "waveforms.npy", clips[0])
    artifacts.write_table(folder / "waveforms.csv", clips[1])
    return folder


def options(tmp_path, **settings):
    """The command line of a tiny run."""
    artifacts.write_json(
        tmp_path / "config.json", small_config(train=settings).model_dump(mode="json")
    )
    return ["--config", str(tmp_path / "config.json"), "--run", "tiny"]


def test_a_run_leaves_its_networks_their_answers_and_their_history(clips, run_folder):
    config = small_config(train={"epochs": 2})
    table, history = train.run(run_folder, config)
    assert artifacts.read_json(run_folder / "history.json") == history
    written = artifacts.read_table(run_folder / "models" / "cnn" / "out_of_fold.csv")
    pd.testing.assert_frame_equal(written, table, check_dtype=False, rtol=1e-6)
    expected, _ = train.cross_validate(*clips, config, run_folder / "again")
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
    assert inference.Bundle(run_folder).labels == LABELS


@pytest.mark.parametrize(("keep", "limit"), [(False, None), (True, None), (False, 1e-6)])
def test_checkpoints_go_when_all_is_trained_unless_they_are_asked_for(run_folder, keep, limit):
    train.run(run_folder, small_config(train={"epochs": 2, "max_minutes": limit}), keep)
    kept = sorted(path.name for path in run_folder.glob("checkpoints/*"))
    assert kept == (
        ["fold1.safetensors", "fold2.safetensors", "fold3.safetensors"] if keep or limit else []
    )
    reasons = set(train.ended(run_folder / "models" / "cnn").values())
    assert reasons == ({"time"} if limit else {"epochs"})


def test_a_run_that_fails_leaves_the_networks_that_were_there(run_folder, monkeypatch):
    train.run(run_folder, small_config(train={"epochs": 1}))
    before = artifacts.digest(run_folder / "models")
    monkeypatch.setattr(fit.Trainer, "epoch", lambda one: fit.require_finite(math.nan, "training"))
    with pytest.raises(FloatingPointError):
        train.run(run_folder, small_config(train={"epochs": 2}))
    assert artifacts.digest(run_folder / "models") == before


def test_the_command_trains_and_says_what_it_made(run_folder, tmp_path, capsys):
    assert cli.main(["train", *options(tmp_path, epochs=1)]) == 0
    assert "3 networks, 3 epochs" in capsys.readouterr().out
    assert len(artifacts.read_json(run_folder / "history.json")) == 3


def test_the_command_explains_what_is_missing_or_wrong(run_folder, tmp_path, capsys):
    assert cli.main(["train", *options(tmp_path)[:2], "--run", "absent"]) == 1
    assert "make run-all" in capsys.readouterr().err
    assert cli.main(["train", "--preset", "demo", "--set", "train.epoch=3"]) == 2
    assert "train.epoch" in capsys.readouterr().err


def test_the_command_says_that_what_was_stopped_goes_on(run_folder, tmp_path, monkeypatch, capsys):
    def stopped(one):
        raise KeyboardInterrupt

    monkeypatch.setattr(fit.Trainer, "epoch", stopped)
    assert cli.main(["train", *options(tmp_path)]) == 130
    assert "goes on" in capsys.readouterr().err


def test_the_command_says_that_a_process_was_ended(run_folder, tmp_path, monkeypatch, capsys):
    def fails(function, shares):
        raise errors.TrainingError(f"one of {len(shares)} processes was ended: out of memory")

    monkeypatch.setattr(processes, "side_by_side", fails)
    assert cli.main(["train", *options(tmp_path, processes=2)]) == 1
    assert "one of 2 processes was ended: out of memory" in capsys.readouterr().err
