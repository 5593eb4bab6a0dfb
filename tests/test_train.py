"""Training: it learns, keeps the epoch it should, repeats itself, and never meets what it is tested on."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from tables import small_config, tone_clips, tone_scenes

from helpers import artifacts, batches, features, images, models, split, targets, train

law = settings(deadline=None, max_examples=60, derandomize=True)
LABELS = ["high", "low"]


@pytest.fixture(autouse=True)
def one_thread():
    with train.cpu_threads(1):
        yield


@pytest.fixture(scope="module")
def clips():
    return tone_clips()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def classifier(config, seed=0):
    torch.manual_seed(seed)
    return models.build(config, len(LABELS))


def data(clips, config, folds, shuffled=False):
    packed, rows = clips
    chosen = train.fold_rows(rows, folds)
    return train.make_batches(packed, chosen, LABELS, config, "cpu", generator() if shuffled else None)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


# --- a step, an epoch, fit ---------------------------------------------------------------------------------


@law
@given(st.floats(0, 1), st.floats(0, 1))
def test_the_learning_rate_rises_then_falls_between_0_and_1(progress, warmup):
    factor = train.warm_cosine(progress, warmup)
    assert 0 <= factor <= 1
    if progress + 0.01 <= warmup:
        assert train.warm_cosine(progress + 0.01, warmup) >= factor
    elif warmup <= progress <= 0.99:
        assert train.warm_cosine(progress + 0.01, warmup) <= factor


def test_the_learning_rate_peaks_where_the_warm_up_ends_and_ends_at_zero():
    assert train.warm_cosine(0.2, 0.2) == 1 and train.warm_cosine(0.1, 0.2) == pytest.approx(0.5)
    assert train.warm_cosine(1.0, 0.2) == pytest.approx(0, abs=1e-12)
    assert train.warm_cosine(0.0, 0.0) == 1


def test_steps_on_one_batch_lower_its_loss(clips):
    config = small_config(
        train={"mixup_alpha": 0.0, "label_smoothing": 0.0, "shift": 0.0, "speed": 0.0, "gain_db": 0.0}
    )
    model, held = classifier(config).train(), next(iter(data(clips, config, [1, 2])))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    criterion = train.make_criterion(model, data(clips, config, [1, 2]), "none")
    steps = [train.step(model, *held, criterion, optimiser, config.train, generator()) for _ in range(6)]
    losses = [loss for loss, _ in steps]
    assert all(0 <= right <= 1 for _, right in steps)
    assert losses[1] < losses[0] and losses[-1] < 0.7 * losses[0]


def test_a_few_epochs_tell_two_tones_apart(clips):
    config = small_config(train={"epochs": 6})
    model = classifier(config)
    training, validation = data(clips, config, [1, 2], shuffled=True), data(clips, config, [3])
    model.fit_standardisation(training)
    history = train.fit(model, training, validation, config.train, generator())
    assert max(record["validation_accuracy"] for record in history) == 1
    assert [record["epoch"] for record in history] == list(range(1, len(history) + 1))


def test_fit_keeps_the_epoch_with_the_best_validation_loss(clips):
    config = small_config(train={"epochs": 5, "learning_rate": 0.05})
    model, validation = classifier(config), data(clips, config, [3])
    history = train.fit(model, data(clips, config, [1, 2], shuffled=True), validation, config.train, generator())
    [kept] = [record for record in history if record["kept"]]
    assert train.evaluate(model, validation)[0] == min(record["validation_loss"] for record in history)
    assert kept["validation_loss"] == min(record["validation_loss"] for record in history)


def fitted_and_watched(clips, config):
    """Train on folds 1 and 2, choose on 3: (model, history, its weights after each epoch)."""
    model, after_epoch = classifier(config), []
    training, validation = data(clips, config, [1, 2], shuffled=True), data(clips, config, [3])
    watch = {"on_epoch": lambda record: after_epoch.append(weights(model))}
    return model, train.fit(model, training, validation, config.train, generator(), **watch), after_epoch


def test_training_stops_when_patience_ends_and_returns_to_the_best_epoch(clips, monkeypatch):
    losses = iter([1.0, 0.5, 0.7, 0.6, 0.1])
    monkeypatch.setattr(train, "evaluate", lambda model, data: (next(losses), 0.5))
    config = small_config(train={"epochs": 5, "patience": 2})
    model, history, after_epoch = fitted_and_watched(clips, config)
    assert [record["validation_loss"] for record in history] == [1.0, 0.5, 0.7, 0.6]
    assert [record["kept"] for record in history] == [False, True, False, False]
    assert_same(weights(model), after_epoch[1])


def test_the_best_epoch_can_be_the_one_with_the_best_score_and_of_equal_scores_the_lower_loss(clips, monkeypatch):
    found = iter([(0.1, 0.5), (0.9, 0.8), (0.7, 0.8), (0.8, 0.8), (0.2, 0.7)])
    monkeypatch.setattr(train, "evaluate", lambda model, data: next(found))
    config = small_config(train={"epochs": 5, "monitor": "score"})
    model, history, after_epoch = fitted_and_watched(clips, config)
    assert [record["kept"] for record in history] == [False, False, True, False, False]
    assert_same(weights(model), after_epoch[2])


def test_on_a_plateau_the_learning_rate_is_halved_and_not_before(clips, monkeypatch):
    found = iter([1.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.4, 0.3])
    monkeypatch.setattr(train, "evaluate", lambda model, data: (next(found), 0.5))
    config = small_config(train={"epochs": 8, "schedule": "plateau", "plateau_patience": 2})
    training, validation = data(clips, config, [1, 2], shuffled=True), data(clips, config, [3])
    history = train.fit(classifier(config), training, validation, config.train, generator())
    # 0.5 is the best of epoch 2; epochs 3 and 4 may stall, epoch 5 is one too many
    assert [record["learning_rate"] for record in history] == pytest.approx([0.01] * 5 + [0.005] * 3)


def test_without_validation_nothing_is_chosen_and_the_last_epoch_stays(clips):
    config, after_epoch = small_config(train={"epochs": 3, "patience": 1}), []
    model = classifier(config)
    history = train.fit(
        model,
        data(clips, config, [1, 2], shuffled=True),
        None,
        config.train,
        generator(),
        on_epoch=lambda record: after_epoch.append(weights(model)),
    )
    assert len(history) == 3 and not any("validation_loss" in record for record in history)
    assert [record["kept"] for record in history] == [False, False, True]
    assert_same(weights(model), after_epoch[-1])


def test_a_loss_that_is_not_finite_stops_the_training(clips):
    config = small_config()
    model = classifier(config)
    torch.nn.init.constant_(model.network.head[-1].weight, math.nan)
    with pytest.raises(FloatingPointError, match="learning_rate"):
        train.fit(model, data(clips, config, [1, 2], shuffled=True), None, config.train, generator())


def test_a_validation_loss_that_is_not_finite_is_refused_in_the_same_words(clips, monkeypatch):
    monkeypatch.setattr(train, "evaluate", lambda model, data: (math.nan, 0.5))
    config = small_config()
    with pytest.raises(FloatingPointError):
        train.fit(
            classifier(config),
            data(clips, config, [1], shuffled=True),
            data(clips, config, [3]),
            config.train,
            generator(),
        )


def test_evaluation_is_plain_cross_entropy_and_accuracy(clips):
    config = small_config()
    model, held = classifier(config).eval(), data(clips, config, [3])
    with torch.no_grad():
        logits = torch.cat([model(waveforms) for waveforms, _ in held])
    loss, accuracy = train.evaluate(model, held)
    answers = held.targets.argmax(1)
    assert loss == pytest.approx(torch.nn.functional.cross_entropy(logits, answers).item(), rel=1e-5)
    assert accuracy == pytest.approx((logits.argmax(1) == answers).float().mean().item())


def test_with_several_labels_the_score_is_the_average_precision_of_the_classes_that_are_there(clips):
    config = small_config(data={"multilabel": True})
    (packed, rows), names = tone_scenes(groups_per_fold=1), ["absent", *LABELS]
    torch.manual_seed(0)
    model, held = models.build(config, 3).eval(), train.make_batches(packed, rows, names, config, "cpu")
    with torch.no_grad():
        logits = torch.cat([model(waveforms) for waveforms, _ in held])
    loss, score = train.evaluate(model, held)
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, held.targets)
    assert loss == pytest.approx(cross_entropy.item(), rel=1e-5)
    areas = [average_precision_score(held.targets[:, c], logits[:, c].sigmoid()) for c in (1, 2)]
    assert score == pytest.approx(np.mean(areas))


def test_views_are_the_mean_over_rolled_clips(clips):
    config = small_config()
    model, held = classifier(config).eval(), data(clips, config, [1])
    waveforms = torch.cat([waveforms for waveforms, _ in held])
    with torch.no_grad():
        rolled = [model(waveforms.roll(shift, dims=1)).softmax(1) for shift in (0, 1000, 2000, 3000)]
    np.testing.assert_allclose(train.predict(model, held, views=4), torch.stack(rolled).mean(0), rtol=1e-4, atol=1e-6)


def test_predictions_are_distributions_and_leave_the_model_alone(clips):
    config = small_config(model={"dropout": 0.5})
    model, held = classifier(config), data(clips, config, [1, 2, 3])
    before = weights(model)
    probabilities = train.predict(model, held)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(probabilities, train.predict(model, held))
    assert_same(weights(model), before)


# --- cross-validation --------------------------------------------------------------------------------------


def with_copies(clips):
    """The clips and an augmented copy of each, which follow their parents."""
    packed, rows = clips
    copies = rows.assign(parent_id=rows["clip_id"], clip_id=rows["clip_id"] + "-a0")
    test = rows.head(2).assign(split="test", label="", clip_id=["t1", "t2"], fold=pd.NA, group=["t1", "t2"])
    return np.concatenate([packed, packed, packed[:2]]), pd.concat([rows, copies, test], ignore_index=True)


@pytest.mark.parametrize("select", ["validation", "last"])
@pytest.mark.parametrize("copies", [False, True])
def test_no_group_is_trained_on_and_tested_or_chosen_with(clips, tmp_path, monkeypatch, select, copies):
    packed, rows = with_copies(clips)
    config = small_config(train={"epochs": 1, "select": select, "augmented_copies": copies})
    met, standardised = [], []
    standardise = models.AudioClassifier.fit_standardisation
    monkeypatch.setattr(
        models.AudioClassifier, "fit_standardisation", lambda model, d: (standardised.append(d), standardise(model, d))
    )
    fit = train.fit
    monkeypatch.setattr(train, "fit", lambda *args: (met.append(args[1:3]), fit(*args))[1])
    train.cross_validate(packed, rows, config, tmp_path, device="cpu")
    for turn, (training, validation), fitted_on in zip(split.rounds([1, 2, 3], select), met, standardised, strict=True):
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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fold1", "fold2", "fold3"]
    assert {record["fold"] for record in history} == {1, 2, 3}


def test_the_kept_epochs_are_one_record_per_fold():
    kept = [True, False, False, True]
    history = pd.DataFrame({"fold": [1, 1, 2, 2], "epoch": [1, 2, 1, 2], "kept": kept})
    assert train.kept_epochs(history).to_dict("list") == {"fold": [1, 2], "epoch": [1, 2]}


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(clips):
    turn = {"test": 1, "validation": 2, "train": (3,)}

    def trained(seed):
        config = small_config(train={"epochs": 2, "masks": 1}).model_copy(update={"seed": seed})
        return weights(train.train_round(*clips, LABELS, turn, config, "cpu")[0])

    first, again, other = (trained(seed) for seed in (3, 3, 4))
    assert_same(first, again)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_cpu_threads_are_given_back_even_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), train.cpu_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise RuntimeError
    assert torch.get_num_threads() == before


# --- class balance, images, several labels -----------------------------------------------------------------


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


def test_the_criterion_weighs_classes_by_the_training_batches_alone(clips):
    config = small_config()
    model, training = classifier(config), data(unbalanced(clips), config, [1, 2])
    logits, wanted = torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    plain = -logits.log_softmax(1)[[0, 1], [0, 1]]
    found = {balance: train.make_criterion(model, training, balance) for balance in ("none", "sampling", "weights")}
    assert found["none"](logits, wanted) == found["sampling"](logits, wanted)
    assert found["none"](logits, wanted).item() == pytest.approx(plain.mean().item())
    weighted = (plain * torch.tensor([12 / (2 * 8), 12 / (2 * 4)])).mean()
    assert found["weights"](logits, wanted).item() == pytest.approx(weighted.item())


EASY = {"epochs": 20, "batch_size": 4, "select": "last", "mixup_alpha": 0.0, "speed": 0.0}


def learned(packed, rows, config, folder):
    """Cross-validate; returns (out-of-fold probabilities, targets in the same order, classes, history)."""
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
    model, _ = train.load(tmp_path / "fold1", config)
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
    assert [sum(record["kept"] for record in history if record["fold"] == fold) for fold in (1, 2, 3)] == [1, 1, 1]
    assert artifacts.read_json(tmp_path / "fold1" / "card.json")["config"]["data"]["multilabel"] is True


def test_a_single_split_trains_one_network_and_predicts_one_fold(clips, tmp_path):
    config = small_config(train={"epochs": 1, "select": "last"}, split={"test_folds": 1})
    table, history = train.cross_validate(*clips, config, tmp_path, device="cpu")
    assert set(table["fold"]) == {1} == {record["fold"] for record in history}
    assert [path.name for path in tmp_path.iterdir()] == ["fold1"]


# --- weights -----------------------------------------------------------------------------------------------


@pytest.fixture
def saved(clips, tmp_path):
    """A fitted classifier and the folder it was saved to: (model, folder, config)."""
    config = small_config(train={"epochs": 1})
    model = classifier(config)
    training = data(clips, config, [1, 2], shuffled=True)
    model.fit_standardisation(training)
    train.fit(model, training, None, config.train, generator())
    train.save(model, tmp_path / "fold3", LABELS, config, {"test": 3, "validation": None, "train": (1, 2)})
    return model.eval(), tmp_path / "fold3", config


def test_a_loaded_model_gives_the_logits_of_the_saved_one(saved, clips):
    model, folder, config = saved
    loaded, card = train.load(folder, config)
    waveforms, _ = next(iter(data(clips, config, [3])))
    with torch.no_grad():
        torch.testing.assert_close(loaded(waveforms), model(waveforms), rtol=1e-6, atol=1e-6)
    assert not loaded.training
    assert card["labels"] == LABELS and card["folds"] == {"test": 3, "validation": None, "train": [1, 2]}
    assert card["parameters"] == models.count_parameters(model)


@pytest.mark.parametrize("position", [0, 0.5, 0.999])
def test_a_flipped_byte_in_the_weights_is_refused(saved, position):
    _, folder, config = saved
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        train.load(folder, config)


def test_saving_again_replaces_the_model_as_a_whole(saved):
    model, folder, config = saved
    train.save(model, folder, LABELS, config, {"test": 1, "validation": None, "train": (2, 3)})
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "weights.safetensors"]
    assert artifacts.read_json(folder / "card.json")["folds"]["test"] == 1
    assert [path.name for path in folder.parent.iterdir()] == ["fold3"]


def test_batches_of_test_clips_need_no_label(clips):
    packed, rows = with_copies(clips)
    made = train.make_batches(packed, rows[rows["split"].eq("test")], LABELS, small_config(), "cpu")
    assert isinstance(made, batches.Batches) and made.targets.tolist() == [[0, 0], [0, 0]]
