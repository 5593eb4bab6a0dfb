"""Networks: logits of the right shape, standardised inputs, and an outline that adds up."""

import pytest
import torch
from tables import noise, small_config, tone_clips

from helpers.base import recipe
from helpers.compare import classic
from helpers.models import networks
from helpers.training.batches import Batches


def built(n_classes=3, multilabel=False, **model):
    torch.manual_seed(0)
    return networks.build(small_config(model=model, data={"multilabel": multilabel}), n_classes)


@pytest.mark.parametrize("channels", [(4,), (8, 16), (4, 8, 8, 8), (2, 4, 4, 4)])
@pytest.mark.parametrize("n_samples", [4000, 4567])
def test_a_classifier_gives_a_logit_per_class(channels, n_samples):
    model = networks.build(
        small_config(model={"channels": channels}, features={"n_mels": 32, "n_fft": 512}), 5
    ).eval()
    logits = model(torch.zeros(2, n_samples))
    assert logits.shape == (2, 5) and logits.isfinite().all()


def test_an_unknown_network_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match=r"There are: .*cnn.*timm:"):
        networks.build(small_config().with_network("wavenet"), 3)


@pytest.mark.parametrize("name", recipe.named(*recipe.NETWORKS))
def test_every_network_that_may_be_named_is_made_and_shown_part_by_part(name):
    model = built(name=name).eval()
    table = networks.outline(model, 4000)
    assert model(torch.zeros(2, 4000)).shape == (2, 3)
    assert table["parameters"].sum() == networks.count_parameters(model)
    assert table["part"].iloc[0] == "front end" and table["output_shape"].iloc[-1] == "3"


def test_a_batch_equals_its_clips():
    model, waveforms = built().eval(), torch.from_numpy(noise(12000)).reshape(3, 4000)
    singles = torch.cat([model(waveform[None]) for waveform in waveforms])
    torch.testing.assert_close(model(waveforms), singles, rtol=1e-4, atol=1e-4)


def test_probabilities_sum_to_1_or_each_class_has_its_own():
    waveforms = torch.from_numpy(noise(12000)).reshape(3, 4000)
    one, several = built().eval(), built(multilabel=True).eval()
    several.load_state_dict(one.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(one.probabilities(waveforms), one(waveforms).softmax(dim=1))
        torch.testing.assert_close(several.probabilities(waveforms), one(waveforms).sigmoid())


@pytest.mark.parametrize("name", ["resnet", "cnn", "gru", "cnn1d"])
def test_with_several_labels_a_training_begins_at_the_shares_of_the_classes(name):
    waveforms = torch.from_numpy(noise(12000)).reshape(3, 4000)
    shares = torch.tensor([0.5, 0.02, 0.0])
    several, one = (built(name=name, multilabel=many).eval() for many in (True, False))
    for model in (several, one):
        before = model(waveforms)
        model.begin_at(shares)
        moved = model(waveforms) - before
        assert bool(moved.abs().max() == 0) == (model is one)
    last = [layer for layer in several.network.modules() if isinstance(layer, torch.nn.Linear)][-1]
    expected = torch.tensor([0.0, -3.892, -6.907])  # log odds; of nothing, of RAREST
    torch.testing.assert_close(last.bias.data, expected, atol=1e-3, rtol=0)
    several.network.origin = "file"  # what it answers was learned
    several.begin_at(1 - shares)
    torch.testing.assert_close(last.bias.data, expected, atol=1e-3, rtol=0)


def test_a_classifier_of_images_takes_waveforms_and_finished_images_alike():
    config = small_config(train={"inputs": "images"}, features={"image_size": 32})
    torch.manual_seed(0)
    model, waveforms = (
        networks.build(config, 3).eval(),
        torch.from_numpy(noise(12000)).reshape(3, 4000),
    )
    images = model.front_end(waveforms)
    assert images.shape == (3, 32, 32) and model.mean.shape == (32, 1)
    torch.testing.assert_close(model(images), model(waveforms))
    assert networks.outline(model, 4000)["output_shape"].iloc[0] == "32 x 32"


def test_standardised_features_have_mean_0_and_deviation_1_in_every_band():
    packed, rows = tone_clips()
    data = Batches(packed, rows.index, [0] * len(rows), 5)
    model = built()
    model.fit_standardisation(data)
    bands = (
        torch.cat([model.features(waveforms) for waveforms, _ in data])[:, 0]
        .transpose(0, 1)
        .flatten(1)
    )
    torch.testing.assert_close(bands.mean(1), torch.zeros(16), atol=1e-3, rtol=0)
    torch.testing.assert_close(bands.std(1, correction=0), torch.ones(16), atol=1e-3, rtol=0)


def test_standardisation_does_not_depend_on_how_the_clips_are_batched():
    packed, rows = tone_clips()
    fitted = {}
    for batch_size in (2, 7, 100):
        model = built()
        model.fit_standardisation(Batches(packed, rows.index, [0] * len(rows), batch_size))
        fitted[batch_size] = torch.cat([model.mean, model.deviation])
    torch.testing.assert_close(fitted[2], fitted[7])
    torch.testing.assert_close(fitted[2], fitted[100])


def test_standardisation_of_silence_stays_finite():
    model = built()
    model.fit_standardisation([(torch.zeros(4, 4000), None)])
    assert model.features(torch.zeros(1, 4000)).isfinite().all()
    assert model.eval()(torch.from_numpy(noise(4000))[None]).isfinite().all()


def test_training_and_prediction_share_what_was_fitted():
    model = built()
    names = set(model.state_dict())
    assert {"mean", "deviation"} <= names
    assert not any(
        name.startswith("front_end") for name in names
    )  # it follows from the config alone


@pytest.mark.parametrize("channels", [(4,), (8, 16), (4, 8, 8, 8)])
def test_the_outline_adds_up_to_the_whole_model(channels):
    model = networks.build(
        small_config(model={"channels": channels}, features={"n_mels": 32, "n_fft": 512}), 3
    ).eval()
    table = networks.outline(model, 4000)
    assert table["parameters"].sum() == networks.count_parameters(model)
    assert table["output_shape"].iloc[0] == "32 x 32" and table["output_shape"].iloc[-1] == "3"
    assert table["part"].str.startswith("block").sum() == len(channels)


def test_the_outline_shows_every_block_that_a_config_may_ask_for():
    channels = (4, 4, 4, 4, 8)
    model = networks.build(
        small_config(model={"channels": channels}, features={"n_mels": 64, "n_fft": 1024}), 3
    ).eval()
    assert networks.outline(model, 8000)["parameters"].sum() == networks.count_parameters(model)


def test_parameters_are_counted_by_hand():
    layer = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    assert networks.count_parameters(layer) == 3 * 4 + 4 + 2 * 4


def test_the_models_that_are_named_are_those_that_are_made():
    assert classic.__name__.split(".")[1:] in [name[:-3].split("/") for name in recipe.MADE_IN]
    assert set(recipe.kinds()) == set(recipe.MAKERS)
