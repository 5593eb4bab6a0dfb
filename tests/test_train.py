"""Training: it learns, keeps the epoch it should, repeats itself, and never meets what it is tested on."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import small_config, tone_clips

from helpers import artifacts, batches, models, split, train

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
    losses = [train.step(model, *held, optimiser, config.train, generator()) for _ in range(6)]
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
    assert train.evaluate(model, validation)[0] == min(record["validation_loss"] for record in history)


def test_training_stops_when_patience_ends_and_returns_to_the_best_epoch(clips, monkeypatch):
    losses, after_epoch = iter([1.0, 0.5, 0.7, 0.6, 0.1]), []
    monkeypatch.setattr(train, "evaluate", lambda model, data: (next(losses), 0.5))
    config = small_config(train={"epochs": 5, "patience": 2})
    model = classifier(config)
    history = train.fit(
        model,
        data(clips, config, [1, 2], shuffled=True),
        data(clips, config, [3]),
        config.train,
        generator(),
        on_epoch=lambda record: after_epoch.append(weights(model)),
    )
    assert [record["validation_loss"] for record in history] == [1.0, 0.5, 0.7, 0.6]
    assert_same(weights(model), after_epoch[1])


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
    assert loss == pytest.approx(torch.nn.functional.cross_entropy(logits, held.labels).item(), rel=1e-5)
    assert accuracy == pytest.approx((logits.argmax(1) == held.labels).float().mean().item())


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


def test_the_kept_epoch_of_each_fold_is_its_best_or_its_last():
    history = pd.DataFrame({"fold": [1, 1, 2, 2], "epoch": [1, 2, 1, 2], "validation_loss": [0.3, 0.9, 0.8, 0.2]})
    assert train.kept_epochs(history)["epoch"].tolist() == [1, 2]
    assert train.kept_epochs(history.drop(columns="validation_loss"))["epoch"].tolist() == [2, 2]


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
    assert isinstance(made, batches.WaveformBatches) and len(made.labels) == 2
