"""What is shown of a training step is what the step feeds to the network, for the same random
numbers.
"""

import pickle

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from tables import small_config, tone_clips, tone_scenes

from helpers.audio import images
from helpers.training import fit, losses, perturb
from helpers.view import preview

pytestmark = pytest.mark.usefixtures("one_thread")
EVERYTHING = {
    **{"select": "last", "mix": "between_class", "label_smoothing": 0.1, "crop": 0.5, "speed": 0.2},
    **{
        "shift": 1.0,
        "gain_db": 6.0,
        "polarity": True,
        "noise_db": 10.0,
        "filter_db": 6.0,
        "masks": 2,
    },
}
PITCHES = tuple((name, 300 * (number + 1)) for number, name in enumerate("abcdef"))


def rows_of_many():
    return tone_clips(PITCHES, folds=2, groups_per_fold=1)


def fed(model, training, config):
    """An epoch of training, watched: for each step (inputs, targets, draws, network's input,
    targets of the loss).
    """
    one, noted = fit.Trainer(model, training, config.train, seed=7), []
    step, criterion = one.run_step, one.criterion
    seen, asked = [], []
    one.model.network.register_forward_pre_hook(lambda module, given: seen.append(given[0].clone()))

    def noting(logits, wanted):
        if logits.requires_grad:  # of the network, not of a loss to compare it with
            asked.append(wanted.clone())
        return criterion(logits, wanted)

    one.criterion = noting

    def watched(inputs, wanted, pull, *draws):
        noted.append((inputs.clone(), wanted.clone(), perturb.Draws(*draws)))
        return step(inputs, wanted, pull, *draws)

    one.run_step = watched
    one.epoch()
    return [(*given, x, y) for given, x, y in zip(noted, seen, asked, strict=True)]


@pytest.mark.parametrize("inputs", ["waveforms", "images"])
def test_the_shown_tensor_is_the_one_that_the_step_feeds_to_the_network(inputs):
    packed, rows = rows_of_many()
    options = (
        EVERYTHING
        if inputs == "waveforms"
        else {"mix": "mixup", "flip": 0.5, "rotate": 0.1, "masks": 2, "select": "last"}
    )
    config = small_config(train={**options, "inputs": inputs}, features={"image_size": 16})
    if inputs == "images":
        pictures = images.mel_image(config)(torch.from_numpy(packed).float() / 32768)
        packed = (255 * pictures).round().byte().numpy()
    trainer = preview.rehearsal(packed, rows, config)
    model = trainer.model
    order = trainer.training
    generator = torch.Generator()
    steps = fed(model, order, config)
    generator.manual_seed(fit.derived(7, 1, 1))  # as the epoch's own
    order.generator.manual_seed(fit.derived(7, 1))
    for (clips, labels), (_, _, _, seen, asked) in zip(order, steps, strict=True):
        batch = preview.walk(model, clips, labels, config.train, generator)
        torch.testing.assert_close(batch.steps[-1][1], seen, rtol=0, atol=0)
        torch.testing.assert_close(batch.wanted, asked, rtol=0, atol=0)


def test_clips_of_different_labels_are_shown_and_no_pair_of_them_twice():
    packed, rows = rows_of_many()
    config = small_config(train={**EVERYTHING, "mix_share": 1.0})
    for seed in range(5):
        shown = preview.clips(packed, rows, config, torch.Generator().manual_seed(seed))
        assert len({clip.label for clip in shown}) == len(shown) == 4
        mixes = [what for clip in shown for name, what, _ in clip.steps if name == "mixed"]
        pairs = {frozenset((clip.label, what[-1])) for clip, what in zip(shown, mixes, strict=True)}
        assert len(pairs) == 4 and all(len(pair) == 2 for pair in pairs)


@pytest.mark.parametrize(("share", "mixed"), [(0.0, 0), (0.1, 1), (0.5, 2), (1.0, 4)])
def test_as_many_are_mixed_as_the_share_of_mixed_batches_says(share, mixed):
    packed, rows = rows_of_many()
    config = small_config(train={**EVERYTHING, "mix_share": share})
    shown = preview.clips(packed, rows, config, torch.Generator().manual_seed(0))
    names = [[name for name, *_ in clip.steps] for clip in shown]
    assert len(shown) == 4 and sum("mixed" in steps for steps in names) == mixed
    assert preview.mixed_share(config.train) == share
    assert preview.mixed_share(small_config(train={"mix": "none"}).train) == 0


def test_only_what_is_done_is_told_and_the_part_that_is_learned_from_has_its_length():
    packed, rows = rows_of_many()
    plain = {"select": "last", "shift": 0.0, "speed": 0.0, "gain_db": 0.0, "mix": "none"}
    plain |= {"masks": 0, "label_smoothing": 0.0}
    for settings, expected in (
        (plain, ["clip", "front end", "standardised"]),
        ({**plain, "crop": 0.5}, ["clip", "played", "front end", "standardised"]),
        ({**plain, "masks": 1}, ["clip", "front end", "standardised", "masked"]),
        ({**plain, "gain_db": 6.0}, ["clip", "gain", "front end", "standardised"]),
    ):
        config = small_config(train=settings)
        [clip, *_] = preview.clips(packed, rows, config, torch.Generator().manual_seed(0))
        assert [name for name, *_ in clip.steps] == expected
        heard = [x for name, _, x in clip.steps if x.ndim == 1][-1]
        assert len(heard) == round(4000 * config.train.crop)
        assert clip.wanted == {clip.label: 1.0}


def test_several_spectrograms_are_shown_one_above_the_other():
    packed, rows = rows_of_many()
    config = small_config(features={"kind": "pcen", "more_n_fft": (512,)}, train={"masks": 1})
    [clip, *_] = preview.clips(packed, rows, config, torch.Generator().manual_seed(0))
    pictures = {name: x.shape for name, _, x in clip.steps if x.ndim == 2}
    assert pictures == dict.fromkeys(["front end", "standardised", "masked"], (2 * 16, 32))


def test_the_words_give_what_was_drawn():
    settings = small_config(train=EVERYTHING).train
    drawn = perturb.draw(3, settings, torch.Generator().manual_seed(1))
    drawn = drawn._replace(
        weight=torch.tensor([[0.7], [1.0], [0.7]]), gain=torch.tensor([[-0.5], [1.0], [2.0]])
    )
    one, other, _ = (
        perturb.Draws(*(None if part is None else part[n] for part in drawn)) for n in range(3)
    )
    assert preview.describe("mixed", one, "rain|bird", settings) == "70% itself, 30% rain + bird"
    assert preview.describe("mixed", other, "rain", settings) == ""
    assert preview.describe("gain", one, "", settings) == "-6.0 dB, upside down"
    assert preview.describe("played", one, "", settings).startswith("50% of the clip, from ")
    colour, _, level = one.noise.tolist()
    said = preview.describe("noise", one, "", settings)
    assert (said == "") == (level == 0) and (
        not said or said.startswith(("white", "pink", "brown"))
    )
    loud = one._replace(noise=torch.tensor([colour, 0.0, 0.1]))
    assert preview.describe("noise", loud, "", settings).endswith("-20 dB against the clip")


def test_with_two_labels_or_several_per_recording_something_is_shown():
    for pitches in (
        (("high", 2000), ("low", 400)),
        (("high|low", 900), ("low", 400), ("high", 2000)),
    ):
        packed, rows = tone_clips(pitches)
        config = small_config(train=EVERYTHING, data={"multilabel": len(pitches) == 3})
        shown = preview.clips(packed, rows, config, torch.Generator().manual_seed(0))
        assert len(shown) >= 2 and all(
            np.isfinite(x.numpy()).all() for clip in shown for *_, x in clip.steps
        )


def test_the_answers_that_are_shown_end_with_the_one_of_the_loss():
    packed, rows = rows_of_many()
    config = small_config(train={**EVERYTHING, "mix_share": 1.0})
    shown = preview.clips(packed, rows, config, torch.Generator().manual_seed(0))
    for clip in shown:
        assert list(clip.answers.index) == ["as it lies there", "smoothed", "mixed"]
        assert clip.answers.iloc[0].to_dict() == {
            name: float(name == clip.label) for name in "abcdef"
        }
        np.testing.assert_allclose(clip.answers.sum(axis=1), 1, atol=1e-6)
        ends = clip.answers.iloc[-1].nlargest(3).to_dict()
        assert clip.wanted == {
            name: share for name, share in ends.items() if share >= preview.LEAST
        }
    assert preview.mixing(shown).equals(shown[0].answers)


def test_the_curve_of_the_loss_is_the_loss():
    curves = preview.loss_curves().set_index("probability of the right class")
    np.testing.assert_allclose(curves["cross-entropy"], -np.log(curves.index), atol=1e-9)
    focal = (1 - curves.index) ** 2 * -np.log(curves.index)
    np.testing.assert_allclose(curves["focal"], focal, atol=1e-9)


def test_the_learning_rate_is_shown_as_the_schedule_moves_it():
    settings = small_config(train={"warmup_fraction": 0.1, "learning_rate": 0.01}).train
    rates = preview.learning_rates(settings, steps=100).set_index("share of all steps")[
        "learning rate"
    ]
    assert rates.iloc[0] == 0 and rates.loc[0.1] == pytest.approx(0.01)
    assert rates.loc[0.55] == pytest.approx(0.005) and rates.iloc[-1] < 1e-4


# --- one step, on a copy


def test_a_rehearsal_draws_nothing_from_anybody_elses_random_numbers():
    packed, rows = tone_clips()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    trainer = preview.rehearsal(packed, rows, small_config(train=EVERYTHING))
    assert torch.equal(torch.get_rng_state(), before)
    assert set(rows["fold"][trainer.training.rows]) == {2, 3}  # fold 1 is tested
    assert trainer.optimiser.param_groups[0]["lr"] == small_config().train.learning_rate


@pytest.mark.parametrize("balance", ["none", "weights", "focal"])
@pytest.mark.parametrize("several", [False, True])
def test_the_loss_by_hand_is_the_loss_of_the_code(balance, several):
    packed, rows = tone_scenes() if several else rows_of_many()
    train = {"balance": balance, "label_smoothing": 0.1, "select": "last"}
    config = small_config(train=train, data={"multilabel": several})
    trainer = preview.rehearsal(packed, rows, config)
    clips, wanted = next(iter(trainer.training))
    draws = perturb.draw(len(clips), config.train, torch.Generator().manual_seed(0))
    altered, asked = perturb.alter(clips, wanted, draws, config.train, several)
    logits = trainer.model(altered, draws).detach()
    worked = preview.by_hand(trainer, logits[0], asked[0], rows)
    expected = losses.loss(
        *(logits[:1], asked[:1], balance, trainer.criterion.keywords["weights"], several)
    )
    total = worked["cost"].mean() if several else worked["cost"].sum()
    assert total == pytest.approx(float(expected), rel=1e-5)
    said = preview.both_ways(worked, trainer, logits[0], asked[0])
    numbers = [word for word in said.split() if word[0].isdigit()]
    assert len(numbers) == 2 and numbers[0] == numbers[1]
    shorter = preview.longest(worked, 1)
    assert len(shorter) == 2 and shorter["cost"].sum() == pytest.approx(worked["cost"].sum())


def test_one_batch_is_learned_by_heart_and_never_below_what_is_possible():
    packed, rows = rows_of_many()
    config = small_config(train={**EVERYTHING, "masks": 0})
    trainer = preview.rehearsal(packed, rows, config)
    clips, wanted = next(iter(trainer.training))
    draws = perturb.draw(len(clips), config.train, torch.Generator().manual_seed(0))
    loss = preview.one_batch(trainer, clips, wanted, draws, 30)
    assert loss["loss"].iloc[-1] < loss["loss"].iloc[0]
    assert loss["loss"].gt(loss["least possible"] - 1e-4).all()
    says = preview.before_and_after(torch.tensor(2.0), torch.tensor(1.5))
    assert says.endswith("before the step 2.0000, after it 1.5000: it fell.")


# --- while it trains


RECORDS = [
    {"fold": 1, "seed": 0, "epoch": epoch, "train_loss": 1 / epoch, "held_out_loss": 2 / epoch}
    for epoch in (1, 2, 3)
]


@pytest.mark.parametrize("headless", [True, False])
def test_curves_are_drawn_while_somebody_watches_and_once_at_the_end(monkeypatch, headless):
    if headless:
        monkeypatch.setenv("EARSHOT_HEADLESS", "1")
    else:
        monkeypatch.delenv("EARSHOT_HEADLESS", raising=False)
    drawn = []
    monkeypatch.setattr(preview, "display", lambda figure, **options: drawn.append(figure))
    live = pickle.loads(pickle.dumps(preview.Live()))  # for processes that train
    live.watch(RECORDS[:2])
    live.watch(RECORDS)  # too soon after the last
    assert len(drawn) == (0 if headless else 1)
    live.show(RECORDS)
    assert len(drawn) == (1 if headless else 2)
    assert not plt.get_fignums()
