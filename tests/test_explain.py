"""What an answer rests on: Grad-CAM beside the sums that it must give, embeddings beside the last
layer.
"""

import numpy as np
import pytest
import torch
from tables import noise, small_config, tone

from helpers.audio import features
from helpers.models import explain, networks

CLASSES = 3


def network(name, **model):
    torch.manual_seed(0)
    config = small_config(model={"name": name, "channels": (8, 16, 32), **model})
    return networks.build(config, CLASSES).eval()


@pytest.mark.parametrize("name", ["cnn", "resnet", "lstm", "gru", "cnn1d"])
def test_every_network_says_where_it_heard_a_class_and_is_left_as_it_was(name):
    model = network(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    picture = model.features(torch.from_numpy(tone(440))[None])
    for number in range(CLASSES):
        where = explain.heard_where(model, tone(440), number)
        assert where.shape == picture.shape[2:]
        assert where.min() >= 0 and where.max() in (0, pytest.approx(1))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(value.grad is None for value in model.parameters())


def test_with_mean_pooling_the_weighted_maps_add_up_to_the_logit():
    """There Grad-CAM is the class activation map (Zhou et al. 2016), whose sum is the logit."""
    model = network("resnet", pooling="mean")
    picture = model.features(torch.from_numpy(noise(4000, seed=3))[None])
    maps, logits = explain.last_maps(model.network, picture)
    slope = torch.autograd.grad(logits[0, 1], maps)[0]
    summed = (slope.mean(dim=(2, 3), keepdim=True) * maps).sum()
    bias = model.network.head[-1].bias[1]
    torch.testing.assert_close(summed, logits[0, 1] - bias, rtol=1e-4, atol=1e-5)


def test_a_network_that_hears_only_high_bands_is_seen_to_hear_them():
    model = network("resnet", pooling="mean", channels=(1, 1), coordinate=False, stem_stride=1)
    inner = model.network
    inner.stem.weight.data.zero_()[0, 0, 1, 1] = 1.0  # a pixel is what it is
    inner.blocks = torch.nn.Identity()
    inner.head[-1].weight.data.fill_(1.0)
    where = explain.heard_where(model, tone(3000), 0)
    bands = where.mean(axis=1)
    assert bands.argmax() > len(bands) / 2


@pytest.mark.parametrize("name", ["cnn", "resnet", "gru", "cnn1d"])
def test_embeddings_are_what_the_last_layer_is_given(name):
    model = network(name)
    packed = np.stack([np.round(32767 * tone(440)), np.round(32767 * tone(2000))]).astype(np.int16)
    vectors = explain.embeddings(model, packed)
    last = model.network.head[-1]
    logits = vectors @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    heard = model(torch.from_numpy(features.unpack(packed))).detach().numpy()
    np.testing.assert_allclose(logits, heard, rtol=1e-3, atol=1e-4)
