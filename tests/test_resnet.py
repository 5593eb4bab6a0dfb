"""The residual network: logits for pictures of any size, every part learns, and it knows where a
shape stands.
"""

import itertools

import pytest
import torch
from tables import noise, small_config

from helpers.models import networks, resnet
from helpers.training import optimise

POOLINGS = ("mean", "mean_max", "gem", "attention")


def built(channels=(4, 4, 8), seed=0, **options):
    torch.manual_seed(seed)
    return resnet.ResNet(3, channels, **options)


def picture(batch=2, height=16, width=20, seed=0):
    return torch.randn(batch, 1, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("stem_stride", [1, 2])
@pytest.mark.parametrize("size", [(16, 20), (17, 31), (1, 9), (5, 1), (1, 1)])
def test_a_picture_of_any_size_has_a_logit_per_class(pooling, stem_stride, size):
    model = built((4, 4, 8, 8), pooling=pooling, stem_stride=stem_stride).eval()
    logits = model(picture(2, *size))
    assert logits.shape == (2, 3) and logits.isfinite().all()


@pytest.mark.parametrize("channels", [(4,), (4, 8), (4, 4, 4), (4, 4, 8, 8, 16)])
@pytest.mark.parametrize("coordinate", [False, True])
def test_any_number_of_blocks_will_do(channels, coordinate):
    model = built(channels, coordinate=coordinate)
    assert model(picture()).shape == (2, 3) and len(model.blocks) == len(channels) - 1


@pytest.mark.parametrize(("stem_stride", "expected"), [(1, (64, 96)), (2, (32, 48))])
def test_the_stem_divides_the_size_by_its_stride_and_a_block_halves_it_where_channels_change(
    stem_stride, expected
):
    sizes, model = [], built((4, 4, 8, 8, 6), stem_stride=stem_stride)
    for part in (model.stem, *model.blocks):
        part.register_forward_hook(
            lambda module, inputs, output: sizes.append(tuple(output.shape[2:]))
        )
    model(picture(2, 64, 96))
    half, quarter = (tuple(size // part for size in expected) for part in (2, 4))
    assert sizes == [expected, expected, half, half, quarter]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("coordinate", [False, True])
def test_the_gradient_reaches_every_parameter(pooling, coordinate):
    model = built(pooling=pooling, coordinate=coordinate, dropout=0.0)
    model(picture()).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_only_with_the_coordinate_a_shape_an_octave_higher_is_something_else():
    """A shape in the middle of a tall picture, moved by a multiple of all strides: no border is
    near.
    """
    shape = picture(1, 4, 16)
    low, high = torch.zeros(1, 1, 128, 16), torch.zeros(1, 1, 128, 16)
    low[:, :, 56:60], high[:, :, 64:68] = shape, shape
    difference = {}
    for coordinate in (False, True):
        model = built(coordinate=coordinate).eval()
        difference[coordinate] = (model(low) - model(high)).abs().max().item()
    assert difference[True] > 1e-4 > 1e-6 > difference[False]


def test_a_picture_does_not_depend_on_its_company():
    model = built().eval()
    together = model(picture(4))
    torch.testing.assert_close(
        torch.cat([model(one[None]) for one in picture(4)]), together, rtol=1e-4, atol=1e-5
    )


def test_a_block_whose_convolutions_are_silent_lets_its_input_through():
    block = resnet.Block(4, 4)
    torch.nn.init.zeros_(block.convolution_2.weight)
    x = picture(2).repeat(1, 4, 1, 1)
    before = x.clone()
    assert torch.equal(block(x), before) and torch.equal(x, before)


def test_pooling_takes_the_mean_over_frequency_then_what_it_says_over_time():
    x = torch.rand(2, 4, 5, 6, generator=torch.Generator().manual_seed(0)) + 0.1
    rows = x.mean(dim=2)
    torch.testing.assert_close(resnet.Pool("mean")(x), x.mean(dim=(2, 3)))
    torch.testing.assert_close(
        resnet.Pool("mean_max")(x), torch.cat([rows.mean(2), rows.amax(2)], dim=1)
    )
    torch.testing.assert_close(resnet.Pool("gem")(x), rows.pow(3).mean(2).pow(1 / 3))


@pytest.mark.parametrize("multilabel", [False, True])
def test_a_clip_answers_with_the_mean_of_its_frames_weighted_with_attention(multilabel):
    head = resnet.Attention(6, 3, 0.0, multilabel)
    x = torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(0))
    weights = head.attention(x).softmax(dim=1)
    if multilabel:
        expected = (weights * head.answer(x).sigmoid()).sum(dim=1)
        torch.testing.assert_close(head(x).sigmoid(), expected)
    else:
        torch.testing.assert_close(head(x), (weights * head.answer(x)).sum(dim=1))
    assert torch.equal(head.frames(x), head.answer(x).transpose(1, 2))


def test_attention_is_finite_and_learns_however_sure_its_frames_are():
    head = resnet.Attention(1, 2, 0.0, multilabel=True)
    x = torch.tensor([[[1e4], [1e4]], [[-1e4], [-1e4]]], requires_grad=True)
    logits = head(x)
    wanted = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted).backward()
    assert logits.isfinite().all() and x.grad.isfinite().all()


@pytest.mark.parametrize("stem_stride", [1, 2])
def test_what_is_heard_later_is_answered_in_later_frames(stem_stride):
    model = built((4, 4, 8, 8), pooling="attention", stem_stride=stem_stride).eval()
    length = model.frame_length
    assert length == 2 * stem_stride
    early, late = torch.zeros(1, 1, 16, 128), torch.zeros(1, 1, 16, 128)
    early[..., 40:48], late[..., 56:64] = 1, 1
    before, after = model.frames(early), model.frames(late)
    assert before.shape == (1, 3, 128 // length)
    shift = 16 // length
    middle = slice(20 // length, 80 // length)
    moved = slice(middle.start + shift, middle.stop + shift)
    torch.testing.assert_close(after[..., moved], before[..., middle], rtol=1e-4, atol=1e-5)


def test_the_generalised_mean_lies_between_the_mean_and_the_maximum():
    x = torch.rand(3, 4, 5, 60, generator=torch.Generator().manual_seed(0)) + 0.01
    pooled, rows = resnet.Pool("gem")(x), x.mean(dim=2)
    assert (pooled >= rows.mean(2) - 1e-6).all() and (pooled <= rows.amax(2) + 1e-6).all()


def test_the_generalised_mean_of_nothing_is_finite_and_so_is_its_gradient():
    x, pool = torch.zeros(2, 4, 5, 6, requires_grad=True), resnet.Pool("gem")
    pool(x).sum().backward()
    assert pool(x).isfinite().all() and x.grad.isfinite().all() and pool.power.grad.isfinite()


def test_steps_on_one_batch_lower_its_loss():
    model, x, wanted = built(dropout=0.0), picture(6), torch.tensor([0, 1, 2, 0, 1, 2])
    optimiser, losses = torch.optim.AdamW(model.parameters(), lr=0.01), []
    for _ in range(8):
        loss = torch.nn.functional.cross_entropy(model(x), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("stem_stride", "coordinate", "pooling"), itertools.product([1, 2], [False, True], POOLINGS)
)
def test_a_config_builds_it_as_it_says_and_its_outline_adds_up(stem_stride, coordinate, pooling):
    settings = {
        "name": "resnet",
        "stem_stride": stem_stride,
        "coordinate": coordinate,
        "pooling": pooling,
    }
    model = networks.build(small_config(model=settings), 3).eval()
    assert (
        model.network.stem.stride == (stem_stride,) * 2 and model.network.coordinate == coordinate
    )
    assert model.network.stem.in_channels == 1 + coordinate and model.network.pool.how == pooling
    table = networks.outline(model, 4000)
    assert table["parameters"].sum() == networks.count_parameters(model)
    assert model(torch.from_numpy(noise(8000)).reshape(2, 4000)).shape == (2, 3)


def test_its_average_is_a_network_of_the_same_kind():
    model = built().eval()
    average = optimise.Average(model, 0.9)
    torch.testing.assert_close(average.model(picture()), model(picture()))
