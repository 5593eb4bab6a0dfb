"""Training one network: it learns, keeps the epoch it should, repeats itself, and goes on as if it
never stopped.
"""

import functools
import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import assert_same, weights
from sklearn.metrics import average_precision_score
from tables import small_config, tone_scenes

from helpers.audio import images
from helpers.base import targets, work
from helpers.models import checkpoints, networks
from helpers.splits import partition
from helpers.training import batches, fit, losses, optimise, perturb

law = settings(deadline=None, max_examples=60, derandomize=True)
LABELS = ["high", "low"]
pytestmark = pytest.mark.usefixtures("one_thread")
QUIET = {
    "crop": 1.0,
    "polarity": False,
    "shift": 0.0,
    "speed": 0.0,
    "gain_db": 0.0,
    "mix": "none",
    "label_smoothing": 0.0,
}


def classifier(config, seed=0):
    torch.manual_seed(seed)
    return networks.build(config, len(LABELS))


def data(clips, config, folds, shuffled=False, names=LABELS):
    packed, rows = clips
    chosen = partition.fold_rows(rows, folds)
    wanted = torch.from_numpy(targets.matrix(chosen["label"], names))
    chances = (
        losses.sampling_weights(wanted) if shuffled and config.train.balance == "sampling" else None
    )
    generator = torch.Generator() if shuffled else None
    return batches.Batches(
        packed, chosen.index, wanted, config.train.batch_size, "cpu", generator, chances
    )


def trainer(clips, config, **options):
    """A Trainer on folds 1 and 2, its standardisation fitted, and its training batches."""
    model, training = classifier(config), data(clips, config, [1, 2], shuffled=True)
    model.fit_standardisation(training)
    return fit.Trainer(model, training, config.train, **options)


def fitted(clips, config, model=None, seed=0, **options):
    """Train on folds 1 and 2, choose on 3 unless the last epoch is kept: (model, history)."""
    model = model or classifier(config)
    training = data(clips, config, [1, 2], shuffled=True)
    model.fit_standardisation(training)
    validation = data(clips, config, [3]) if config.train.select == "validation" else None
    return model, fit.fit(model, training, validation, config.train, seed, **options)


def without_seconds(history):
    return [{key: value for key, value in record.items() if key != "seconds"} for record in history]


# --- a step ------------------------------------------------------------------------------------


def test_steps_on_one_batch_lower_its_loss(clips):
    config = small_config(train={**QUIET, "warmup_fraction": 0.0, "learning_rate": 1e-3})
    one = fit.Trainer(
        classifier(config).train(), data(clips, config, [1, 2], shuffled=True), config.train
    )
    inputs, wanted = next(iter(data(clips, config, [1, 2])))
    draws = perturb.draw(len(inputs), config.train, torch.Generator())
    steps = [one.step(inputs, wanted, torch.tensor(0.0), *draws).tolist() for _ in range(6)]
    found = [loss for loss, *_ in steps]
    assert all(0 <= right <= 1 for _, right, *_ in steps)
    assert found[1] < found[0] and found[-1] < 0.7 * found[0]


def gradients(clips, config, size=8):
    """Gradients of one step on the first clips, BatchNorm frozen: a dict by name."""
    one = trainer(clips, config)
    one.model.eval()
    inputs, wanted = next(iter(data(clips, config, [1, 2])))
    draws = perturb.draw(size, config.train, torch.Generator().manual_seed(3))
    one.step(inputs[:size], wanted[:size], torch.tensor(0.0), *draws)
    return {name: parameter.grad for name, parameter in one.model.named_parameters()}


def test_gradients_are_scaled_down_to_the_norm_that_is_allowed(clips):
    small = gradients(clips, small_config(train={**QUIET, "clip_norm": 0.01}))
    norm = torch.stack([gradient.square().sum() for gradient in small.values()]).sum().sqrt()
    assert norm.item() == pytest.approx(0.01, rel=1e-3)


def watched(clips, monkeypatch, teachers=(), **train):
    """One step with what it heard, saw and wanted noted: (trainer, batch, a dict of lists)."""
    one = trainer(clips, small_config(train={**QUIET, **train}), teachers=teachers)
    one.model.eval()
    noted = {"heard": [], "seen": [], "wanted": []}
    bands, criterion = one.model.bands, one.criterion
    monkeypatch.setattr(
        one.model, "bands", lambda inputs: (noted["heard"].append(inputs), bands(inputs))[1]
    )
    one.model.network.register_forward_pre_hook(
        lambda module, inputs: noted["seen"].append(inputs[0])
    )
    one.criterion = lambda logits, wanted: (
        noted["wanted"].append(wanted),
        criterion(logits, wanted),
    )[1]
    batch = next(iter(data(clips, small_config(), [1, 2])))
    before = [tensor.clone() for tensor in batch]
    draws = perturb.draw(len(batch[0]), one.settings, torch.Generator().manual_seed(1))
    one.step(*batch, torch.tensor(0.0), *draws)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(batch, before, strict=True))
    return one, batch, draws, noted


def test_at_strength_zero_the_network_sees_the_clips_as_they_are_and_wants_their_labels(
    clips, monkeypatch
):
    one, (inputs, wanted), _, noted = watched(clips, monkeypatch)
    assert torch.equal(noted["heard"][0], inputs) and torch.equal(noted["wanted"][0], wanted)
    torch.testing.assert_close(noted["seen"][0], one.model.features(inputs))


def test_a_step_smooths_crops_mixes_filters_and_masks_in_this_order(clips, monkeypatch):
    train = {
        "mix": "between_class",
        "label_smoothing": 0.1,
        "noise_db": 20.0,
        "filter_db": 6.0,
        "masks": 2,
    }
    train |= {"crop": 0.5}
    one, (inputs, wanted), draws, noted = watched(clips, monkeypatch, **train)
    heard, expected = perturb.alter(inputs, wanted, draws, one.settings)
    assert heard.shape == (8, 2000)
    bands = perturb.filter_bands(one.model.front_end(heard), draws.bands_db)
    torch.testing.assert_close(noted["heard"][0], heard)
    torch.testing.assert_close(noted["wanted"][0], expected)
    torch.testing.assert_close(
        noted["seen"][0], perturb.mask(one.model.standardise(bands), draws.masks)
    )


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_a_taught_network_wants_its_teachers_answers_to_what_it_hears(clips, monkeypatch, share):
    config = small_config()
    teachers = [classifier(config, seed).eval() for seed in (5, 6)]
    train = {"distil": share, "mix": "mixup", "shift": 1.0, "masks": 2}
    one, (inputs, wanted), draws, noted = watched(clips, monkeypatch, teachers, **train)
    heard, labels = perturb.alter(inputs, wanted, draws, one.settings)
    with torch.no_grad():
        answers = torch.stack([teacher.probabilities(heard) for teacher in teachers]).mean(0)
    torch.testing.assert_close(noted["wanted"][0], share * answers + (1 - share) * labels)


def test_teachers_learn_nothing(clips):
    config = small_config(train={"epochs": 2, "distil": 1.0})
    teacher = classifier(config, 5).eval()
    before = weights(teacher)
    fitted(clips, config, teachers=[teacher])
    assert_same(weights(teacher), before)
    assert not teacher.training and all(
        parameter.grad is None for parameter in teacher.parameters()
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_two_tones_are_learned_in_every_number_format(clips, precision):
    config = small_config(train={"epochs": 8, "precision": precision, "mix": "between_class"})
    model, history = fitted(clips, config)
    assert max(record["validation_accuracy"] for record in history) == 1
    assert all(value.dtype in (torch.float32, torch.int64) for value in model.state_dict().values())


@pytest.mark.parametrize("mix", ["none", "mixup", "between_class"])
@pytest.mark.parametrize("several", [False, True])
def test_a_losss_scale_goes_from_the_shares_of_classes_to_the_wanted_answer(clips, mix, several):
    """Who answers with the shares has learned 0, who names every mixture has learned 1."""
    settings = {**QUIET, "mix": mix, "label_smoothing": 0.1}
    one = trainer(clips, small_config(train=settings, data={"multilabel": several}))
    wanted = perturb.smooth(one.training.targets[:8], 0.1, several)
    blank, perfect = one.scale(wanted)
    shares = losses.logits(one.class_shares.expand_as(wanted), several)
    assert blank == one.criterion(shares, wanted) and perfect < blank
    nudged = losses.logits(wanted, several) + torch.linspace(-0.5, 0.5, wanted.shape[1])
    assert one.criterion(nudged, wanted) > perfect


# --- an epoch, fit -----------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["cnn", "resnet"])
@pytest.mark.parametrize("mix", ["mixup", "between_class"])
def test_a_few_epochs_tell_two_tones_apart(clips, network, mix):
    config = small_config(train={"epochs": 8, "mix": mix}, model={"name": network})
    _, history = fitted(clips, config)
    assert max(record["validation_accuracy"] for record in history) == 1
    assert [record["epoch"] for record in history] == list(range(1, len(history) + 1))


def test_everything_at_once_still_learns(clips):
    train = {
        "epochs": 10,
        "mix": "between_class",
        "polarity": True,
        "noise_db": 20.0,
        "filter_db": 3.0,
        "masks": 1,
    }
    train |= {"crop": 0.5, "warmup_fraction": 0.1}
    _, history = fitted(clips, small_config(train={**train, "ema": 0.8, "balance": "sampling"}))
    assert max(record["validation_accuracy"] for record in history) == 1


def test_the_first_seen_learning_rates_are_those_of_the_schedule(clips):
    config = small_config(train={"epochs": 5, "learning_rate": 0.02, "warmup_fraction": 0.4})
    _, history = fitted(clips, config)
    expected = [0.02 * optimise.warm_cosine(epoch / 5, 0.4) for epoch in range(5)]
    assert [record["learning_rate"] for record in history] == pytest.approx(expected)


def test_fit_keeps_the_epoch_with_the_best_validation_loss(clips):
    config = small_config(train={"epochs": 5, "learning_rate": 0.05})
    model, history = fitted(clips, config)
    [kept] = [record for record in history if record["kept"]]
    assert fit.evaluate(model, data(clips, config, [3]))[0] == min(
        record["validation_loss"] for record in history
    )
    assert kept["validation_loss"] == min(record["validation_loss"] for record in history)


def fitted_and_watched(clips, config):
    """The same with the weights after each epoch: (model, history, list of weights)."""
    model, after_epoch = classifier(config), []
    _, history = fitted(
        clips, config, model, on_epoch=lambda record: after_epoch.append(weights(model))
    )
    return model, history, after_epoch


def test_training_stops_when_patience_ends_and_returns_to_the_best_epoch(clips, monkeypatch):
    found = iter([1.0, 0.5, 0.7, 0.6, 0.1])
    monkeypatch.setattr(fit, "evaluate", lambda model, data: (next(found), 0.5))
    config = small_config(train={"epochs": 5, "patience": 2})
    model, history, after_epoch = fitted_and_watched(clips, config)
    assert [record["validation_loss"] for record in history] == [1.0, 0.5, 0.7, 0.6]
    assert [record["kept"] for record in history] == [False, True, False, False]
    assert_same(weights(model), after_epoch[1])
    assert fit.why_ended(history, config.train) == "patience"


def test_the_best_epoch_can_be_the_one_with_the_best_score_and_of_equal_scores_the_lower_loss(
    clips, monkeypatch
):
    found = iter([(0.1, 0.5), (0.9, 0.8), (0.7, 0.8), (0.8, 0.8), (0.2, 0.7)])
    monkeypatch.setattr(fit, "evaluate", lambda model, data: next(found))
    config = small_config(train={"epochs": 5, "monitor": "score"})
    model, history, after_epoch = fitted_and_watched(clips, config)
    assert [record["kept"] for record in history] == [False, False, True, False, False]
    assert_same(weights(model), after_epoch[2])


def test_on_a_plateau_the_learning_rate_is_halved_and_not_before(clips, monkeypatch):
    found = iter([1.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.4, 0.3])
    monkeypatch.setattr(fit, "evaluate", lambda model, data: (next(found), 0.5))
    _, history = fitted(
        clips, small_config(train={"epochs": 8, "schedule": "plateau", "plateau_patience": 2})
    )
    # 0.5 is the best of epoch 2; epochs 3 and 4 may stall, epoch 5 is one too many
    assert [record["learning_rate"] for record in history] == pytest.approx(
        [0.01] * 5 + [0.005] * 3
    )


def test_without_validation_nothing_is_chosen_and_the_last_epoch_stays(clips):
    config = small_config(train={"epochs": 3, "patience": 1, "select": "last"})
    model, history, after_epoch = fitted_and_watched(clips, config)
    assert len(history) == 3 and not any("validation_loss" in record for record in history)
    assert [record["kept"] for record in history] == [False, False, True]
    assert_same(weights(model), after_epoch[-1])
    assert fit.why_ended(history, config.train) == "epochs"


@pytest.mark.parametrize("select", ["last", "validation"])
def test_with_an_average_that_is_what_is_judged_and_kept(clips, monkeypatch, select):
    """Here it is followed by hand, step by step."""
    config = small_config(train={"epochs": 3, "ema": 0.6, "select": select, "patience": 9})
    model, judged, evaluate = classifier(config), [], fit.evaluate
    monkeypatch.setattr(
        fit, "evaluate", lambda m, d: (judged.append(weights(m)), evaluate(m, d))[1]
    )
    averages, step = [], fit.Trainer.step

    def followed(one, *arguments):
        average = averages[-1] if averages else weights(one.model)
        found = step(one, *arguments)
        pull = 1 - min(0.6, (1 + len(averages)) / (10 + len(averages)))
        averages.append(
            {
                name: value.clone()
                if not value.is_floating_point()
                else average[name].lerp(value, pull)
                for name, value in one.model.state_dict().items()
            }
        )
        return found

    monkeypatch.setattr(fit.Trainer, "step", followed)
    _, history = fitted(clips, config, model)
    steps = len(averages) // 3
    expected = averages[steps * [record["kept"] for record in history].index(True) + steps - 1]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
    for found, average in zip(judged, averages[steps - 1 :: steps], strict=select == "validation"):
        torch.testing.assert_close(found["network.head.2.weight"], average["network.head.2.weight"])


def test_a_loss_that_is_not_finite_stops_the_training(clips):
    config = small_config(train={"select": "last"})
    model = classifier(config)
    torch.nn.init.constant_(model.network.head[-1].weight, math.nan)
    with pytest.raises(FloatingPointError, match="learning_rate"):
        fitted(clips, config, model)


def test_a_validation_loss_that_is_not_finite_is_refused_in_the_same_words(clips, monkeypatch):
    monkeypatch.setattr(fit, "evaluate", lambda model, data: (math.nan, 0.5))
    with pytest.raises(FloatingPointError, match="learning_rate"):
        fitted(clips, small_config())


def test_images_are_learned_from_as_they_are_mirrored_and_mixed(clips):
    config = small_config(
        train={"inputs": "images", "epochs": 8, "flip": 0.5, "filter_db": 6.0, "noise_db": 10.0},
        features={"image_size": 16},
    )
    packed, rows = clips
    pictures = images.mel_image(config)(torch.from_numpy(packed).float() / 32768)
    levels = (pictures * 255).round().to(torch.uint8).numpy()
    _, history = fitted((levels, rows), config)
    assert max(record["validation_accuracy"] for record in history) == 1


# --- the same again ----------------------------------------------------------------------------


def test_a_training_follows_from_its_seed_and_from_nothing_else(clips):
    config = small_config(train={"epochs": 2, "masks": 1, "noise_db": 20.0}, model={"dropout": 0.3})

    def trained(seed, disturbed):
        model = classifier(config)
        torch.manual_seed(disturbed)
        return weights(fitted(clips, config, model, seed)[0])

    first, again, other = trained(3, 1), trained(3, 2), trained(4, 1)
    assert_same(first, again)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@law
@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4), st.data())
def test_a_derived_seed_repeats_and_changes_with_each_of_its_numbers(numbers, drawn):
    changed = list(numbers)
    position = drawn.draw(st.integers(0, len(numbers) - 1))
    changed[position] += 1
    assert 0 <= fit.derived(*numbers) == fit.derived(*numbers) < 2**63
    assert fit.derived(*numbers) != fit.derived(*changed)


# --- going on from a checkpoint ----------------------------------------------------------------


class Stop(Exception):
    """What a test stops a training with."""


def stop_after(epochs, record):
    if record["epoch"] == epochs:
        raise Stop


def state_of(checkpoint):
    """What a training left: its state, the seconds of its history taken out."""
    state = checkpoint.read()
    return {**state, "history": without_seconds(state["history"])}


def assert_equal_trees(one, other):
    """Equal to the last bit."""
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal_trees(one[key], other[key])
    elif isinstance(one, list):
        for a, b in zip(one, other, strict=True):
            assert_equal_trees(a, b)
    else:
        assert one == other


def assert_goes_on(clips, config, folder, interrupt):
    """A training that `interrupt` left a checkpoint of ends as one that was never stopped."""
    whole, stopped = (
        checkpoints.Checkpoint(folder / name, "digest") for name in ("whole", "stopped")
    )
    expected_model, expected = fitted(clips, config, seed=7, checkpoint=whole)
    interrupt(stopped)
    done = len(stopped.read()["history"])
    seen = []
    model, history = fitted(
        clips, config, classifier(config, 99), 7, checkpoint=stopped, on_epoch=seen.append
    )
    assert_same(weights(model), weights(expected_model))
    assert without_seconds(history) == without_seconds(expected)
    assert [record["epoch"] for record in seen] == list(
        range(1, len(expected) + 1)
    )  # a bar counts the first ones too
    assert_equal_trees(state_of(stopped), state_of(whole))
    return done


endings = st.sampled_from(
    [
        {"select": "last"},
        {"select": "validation"},
        {"select": "validation", "monitor": "score", "patience": 1},
        {"select": "validation", "schedule": "plateau", "plateau_patience": 1},
    ]
)


@settings(deadline=None, max_examples=24, derandomize=True)
@given(
    stop=st.integers(1, 3),
    ending=endings,
    ema=st.sampled_from([0.0, 0.8]),
    mix=st.sampled_from(["none", "mixup", "between_class"]),
    balance=st.sampled_from(["none", "sampling"]),
    network=st.sampled_from(["cnn", "resnet"]),
    precision=st.sampled_from(["fp32", "fp16"]),
)
def test_a_training_stopped_after_any_epoch_ends_as_if_it_had_not_been(
    clips, tmp_path_factory, stop, ending, ema, mix, balance, network, precision
):
    train = {
        "epochs": 4,
        "ema": ema,
        "mix": mix,
        "balance": balance,
        **ending,
    }
    train |= {
        "masks": 1,
        "noise_db": 20.0,
        "filter_db": 3.0,
        "polarity": True,
        "precision": precision,
    }
    config = small_config(train=train, model={"dropout": 0.3, "name": network})

    def interrupt(checkpoint):
        one, validation = trainer(clips, config, seed=7), data(clips, config, [3])
        for _ in range(stop):
            if not fit.finished(one):
                fit.one_epoch(one, validation if config.train.select == "validation" else None)
        checkpoint.write(one.state())

    assert_goes_on(clips, config, tmp_path_factory.mktemp("kept"), interrupt)


@pytest.mark.parametrize("stop", [2, 3])
def test_a_training_that_breaks_off_goes_on_from_the_last_state_that_was_written(
    clips, tmp_path, monkeypatch, stop
):
    """Broken off in epoch `stop`, it was written after the one before."""
    monkeypatch.setattr(fit, "SAVE_EVERY", -1)
    config = small_config(train={"epochs": 4, "ema": 0.5, "masks": 1}, model={"dropout": 0.3})

    def interrupt(checkpoint):
        with pytest.raises(Stop):
            fitted(
                clips,
                config,
                seed=7,
                checkpoint=checkpoint,
                on_epoch=functools.partial(stop_after, stop),
            )

    assert assert_goes_on(clips, config, tmp_path, interrupt) == stop - 1


def test_the_scale_of_half_precision_and_the_epochs_that_stall_are_gone_on_from_too(
    clips, tmp_path
):
    config = small_config(
        train={"schedule": "plateau", "plateau_patience": 3, "precision": "fp16", "epochs": 2}
    )
    one, kept = trainer(clips, config), checkpoints.Checkpoint(tmp_path / "kept", "digest")
    fit.one_epoch(one, data(clips, config, [3]))
    one.scaler.update(8.0)
    for _ in range(2):
        one.plateau.step(math.inf)
    kept.write(one.state())
    other = trainer(clips, config)
    other.restore(kept.read())
    assert other.scaler.get_scale() == 8.0
    assert (other.plateau.num_bad_epochs, other.plateau.best) == (2, one.plateau.best)


def test_a_finished_training_is_not_trained_again(clips, tmp_path, monkeypatch):
    config, kept = (
        small_config(train={"epochs": 2}),
        checkpoints.Checkpoint(tmp_path / "kept", "digest"),
    )
    model, history = fitted(clips, config, checkpoint=kept)
    monkeypatch.setattr(fit.Trainer, "epoch", lambda self: pytest.fail("it trains"))
    again, found = fitted(clips, config, classifier(config, 9), checkpoint=kept)
    assert found == history
    assert_same(weights(again), weights(model))


def test_what_is_not_taken_up_is_trained_from_the_start(clips, tmp_path):
    config, path = small_config(train={"epochs": 2, "select": "last"}), tmp_path / "kept"
    fitted(
        clips,
        config,
        classifier(config, 5),
        seed=9,
        checkpoint=checkpoints.Checkpoint(path, "another"),
    )
    expected, history = fitted(clips, config)
    model, found = fitted(clips, config, checkpoint=checkpoints.Checkpoint(path, "digest"))
    assert_same(weights(model), weights(expected))
    assert without_seconds(found) == without_seconds(history)


# --- a limit in time ---------------------------------------------------------------------------


@pytest.mark.parametrize("select", ["last", "validation"])
def test_out_of_time_one_epoch_is_trained_and_without_a_limit_the_rest(clips, tmp_path, select):
    config = small_config(train={"epochs": 4, "select": select})
    short = []

    def interrupt(checkpoint):
        _, history = fitted(
            clips, config, seed=7, checkpoint=checkpoint, deadline=time.monotonic() - 1
        )
        short.extend(history)

    assert assert_goes_on(clips, config, tmp_path, interrupt) == 1
    assert [record["kept"] for record in short] == [True] and fit.why_ended(
        short, config.train
    ) == "time"


def test_a_limit_that_is_not_reached_changes_nothing(clips):
    config = small_config(train={"epochs": 2})
    model, history = fitted(clips, config, deadline=time.monotonic() + 3600)
    expected, whole = fitted(clips, config)
    assert without_seconds(history) == without_seconds(whole)
    assert_same(weights(model), weights(expected))


def test_out_of_time_a_training_that_goes_on_does_no_further_epoch(clips, tmp_path):
    config, kept = (
        small_config(train={"epochs": 4}),
        checkpoints.Checkpoint(tmp_path / "kept", "digest"),
    )
    for _ in range(2):
        assert len(fitted(clips, config, checkpoint=kept, deadline=time.monotonic() - 1)[1]) == 1


# --- looking, not learning ---------------------------------------------------------------------


def test_evaluation_is_plain_cross_entropy_and_accuracy(clips):
    config = small_config()
    model, held = classifier(config).eval(), data(clips, config, [3])
    with torch.no_grad():
        logits = torch.cat([model(waveforms) for waveforms, _ in held])
    loss, accuracy = fit.evaluate(model, held)
    answers = held.targets.argmax(1)
    assert loss == pytest.approx(
        torch.nn.functional.cross_entropy(logits, answers).item(), rel=1e-5
    )
    assert accuracy == pytest.approx((logits.argmax(1) == answers).float().mean().item())


def test_with_several_labels_the_score_is_the_average_precision_of_the_classes_that_are_there():
    config, names = small_config(data={"multilabel": True}), ["absent", *LABELS]
    torch.manual_seed(0)
    model, held = (
        networks.build(config, 3).eval(),
        data(tone_scenes(groups_per_fold=1), config, [1, 2, 3], names=names),
    )
    with torch.no_grad():
        logits = torch.cat([model(waveforms) for waveforms, _ in held])
    loss, score = fit.evaluate(model, held)
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, held.targets)
    assert loss == pytest.approx(cross_entropy.item(), rel=1e-5)
    areas = [average_precision_score(held.targets[:, c], logits[:, c].sigmoid()) for c in (1, 2)]
    assert score == pytest.approx(np.mean(areas))


def test_views_are_the_mean_over_rolled_clips(clips):
    config = small_config()
    model, held = classifier(config).eval(), data(clips, config, [1])
    waveforms = torch.cat([waveforms for waveforms, _ in held])
    with torch.no_grad():
        rolled = [
            model(waveforms.roll(shift, dims=1)).softmax(1) for shift in (0, 1000, 2000, 3000)
        ]
    np.testing.assert_allclose(
        fit.predict(model, held, views=4), torch.stack(rolled).mean(0), rtol=1e-4, atol=1e-6
    )


def test_predictions_are_distributions_and_leave_the_model_alone(clips):
    config = small_config(model={"dropout": 0.5})
    model, held = classifier(config), data(clips, config, [1, 2, 3])
    before = weights(model)
    probabilities = fit.predict(model, held)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(probabilities, fit.predict(model, held))
    assert_same(weights(model), before)


def test_cpu_threads_are_given_back_even_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), work.cpu_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise RuntimeError
    assert torch.get_num_threads() == before


# --- class balance -----------------------------------------------------------------------------


def test_the_criterion_weighs_classes_by_the_training_batches_alone(clips):
    packed, rows = clips
    rare = packed, rows[rows["label"].eq("high") | rows["recording_id"].str.endswith("0")]
    config = small_config()
    model, training = classifier(config), data(rare, config, [1, 2])
    logits, wanted = torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    plain = -logits.log_softmax(1)[[0, 1], [0, 1]]
    found = {
        balance: fit.make_criterion(model, training, balance)
        for balance in ("none", "sampling", "weights")
    }
    assert found["none"](logits, wanted) == found["sampling"](logits, wanted)
    assert found["none"](logits, wanted).item() == pytest.approx(plain.mean().item())
    weighted = (plain * torch.tensor([12 / (2 * 8), 12 / (2 * 4)])).mean()
    assert found["weights"](logits, wanted).item() == pytest.approx(weighted.item())
