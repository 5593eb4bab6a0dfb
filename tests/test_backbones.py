"""timm networks: logits for any spectrogram, weights from where they are said to come, and what
fine-tuning trains.
"""

import socket
import sys
import time

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from helpers.audio import features
from helpers.models import backbones, networks

timm = pytest.importorskip("timm")
SMALL = "timm:test_efficientnet"  # 0.4 million parameters, with BatchNorm


def built(name=SMALL, n_classes=3, **options):
    torch.manual_seed(0)
    return backbones.build(name, n_classes, **{"pretrained": False, **options})


def three_channels(n_classes, name=SMALL):
    torch.manual_seed(1)
    return timm.create_model(name.removeprefix("timm:"), num_classes=n_classes).state_dict()


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    """No network, and a Hugging Face cache with nothing in it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(backbones, "hub_answers", lambda: False)
    return tmp_path / "hub"


ARCHITECTURES = [
    "mobilenetv3_small_050",
    "convnext_atto",
    "vit_tiny_patch16_224",
    "test_resnet",
    "test_vit",
]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_backbone_gives_a_logit_per_class_for_any_spectrogram(architecture):
    backbone = built(f"timm:{architecture}", 5, dropout=0.2).eval()
    for shape in [(128, 200), (64, 100)]:
        logits = backbone(torch.randn(2, 1, *shape))
        assert logits.shape == (2, 5) and logits.isfinite().all()
    assert backbone.origin == "random"


def test_a_network_that_fails_on_odd_sizes_gets_its_own_size():
    assert built("timm:dla34").size == (224, 224)
    assert built().size is None


@pytest.mark.parametrize("architecture", ["test_efficientnet", "test_vit", "test_resnet"])
def test_the_outline_shows_its_parts_and_ends_in_the_classes(architecture):
    backbone = built(f"timm:{architecture}")
    model = networks.AudioClassifier(features.LogMel(8000, 256, 100, 64), 64, backbone, 3)
    table = networks.outline(model.eval(), 10000)
    assert len(table) > 3 and table["output_shape"].iloc[0] == "64 x 101"
    assert table["output_shape"].iloc[-1] == "3" and not backbone.training
    assert len(networks.outline(model.train(), 10000)) == len(table) and backbone.training


def test_an_unknown_architecture_is_refused_with_close_ones():
    with pytest.raises(ValueError, match=r"'timm:eficientnet_b0'.*close are: .*efficientnet_b0"):
        built("timm:eficientnet_b0")
    with pytest.raises(ValueError, match=r"close are: .*efficientnet_b0\.ra_in1k"):
        built("timm:efficientnet_b0.ra_in2k")


def test_without_timm_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install -r requirements-extras\.txt"):
        built()


# --- weights -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_a_file_gives_its_weights_and_its_first_convolution_summed(tmp_path, ending):
    theirs, path = three_channels(1000), tmp_path / f"weights.{ending}"
    save_file(theirs, path) if ending == "safetensors" else torch.save({"state_dict": theirs}, path)
    backbone = built(weights=path)
    ours = backbone.network.state_dict()
    torch.testing.assert_close(
        ours["conv_stem.weight"], theirs["conv_stem.weight"].sum(1, keepdim=True)
    )
    for key in theirs.keys() - {"conv_stem.weight", "classifier.weight", "classifier.bias"}:
        assert ours[key].equal(theirs[key])
    assert ours["classifier.weight"].equal(
        built().network.state_dict()["classifier.weight"]
    )  # random, as without
    assert backbone.origin == "file"


def test_a_file_of_the_same_classes_gives_its_classifier_too(tmp_path):
    save_file(three_channels(3), tmp_path / "weights.safetensors")
    ours = built(weights=tmp_path / "weights.safetensors").network.state_dict()
    assert ours["classifier.weight"].equal(three_channels(3)["classifier.weight"])


def test_weights_that_earshot_saved_can_be_built_upon(tmp_path):
    theirs = networks.AudioClassifier(nn.Identity(), 128, built(n_classes=7), 7).state_dict()
    save_file(theirs, tmp_path / "weights.safetensors")
    ours = built(weights=tmp_path / "weights.safetensors").state_dict()
    assert ours["network.conv_stem.weight"].equal(theirs["network.network.conv_stem.weight"])


def test_a_file_that_is_missing_damaged_or_of_another_network_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        built(weights=tmp_path / "none.safetensors")
    for name in ("damaged.safetensors", "damaged.pth"):
        (tmp_path / name).write_bytes(b"not weights at all")
        with pytest.raises(ValueError, match="holds no weights of this network"):
            built(weights=tmp_path / name)
    save_file(three_channels(3, "timm:test_resnet"), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no weights of this network"):
        built(weights=tmp_path / "other.safetensors")
    torch.save({**three_channels(3), "blocks.9.weight": torch.zeros(2)}, tmp_path / "longer.pth")
    with pytest.raises(ValueError, match=r"do not fit: 1 tensors differ, such as blocks\.9"):
        built(weights=tmp_path / "longer.pth")


def test_without_network_it_warns_and_starts_from_random_weights_at_once(empty_cache):
    started = time.perf_counter()
    with pytest.warns(
        UserWarning, match=r"could not be fetched .*random weights; give a file with model\.weights"
    ):
        backbone = built(pretrained=True)
    assert backbone.origin == "random" and time.perf_counter() - started < 15  # not the hub's 46
    assert backbone(torch.zeros(2, 1, 64, 100)).shape == (2, 3)


def test_without_network_weights_in_the_cache_are_used(empty_cache):
    theirs, repository = (
        three_channels(1000),
        empty_cache / "models--timm--test_efficientnet.r160_in1k",
    )
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(theirs, repository / "snapshots" / ("0" * 40) / "model.safetensors")
    backbone = built(pretrained=True)
    first = backbone.network.conv_stem.weight
    torch.testing.assert_close(
        first, theirs["conv_stem.weight"].sum(1, keepdim=True), check_stride=False
    )
    assert backbone.origin == "pretrained"


def test_an_architecture_without_pretrained_weights_says_so(empty_cache):
    with pytest.warns(UserWarning, match="timm has no pretrained weights of lcnet_035"):
        assert built("timm:lcnet_035", pretrained=True).origin == "random"


def test_a_hub_that_never_answers_is_given_up(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(
            "huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}"
        )
        monkeypatch.setattr(backbones, "PATIENCE", 0.3)
        started = time.perf_counter()
        assert not backbones.hub_answers() and time.perf_counter() - started < 5


def test_the_hub_is_offline_only_while_weights_are_looked_for(empty_cache, monkeypatch):
    from huggingface_hub import constants

    seen, before = [], constants.HF_HUB_OFFLINE
    create = timm.create_model
    monkeypatch.setattr(
        timm,
        "create_model",
        lambda *a, **o: (seen.append(constants.HF_HUB_OFFLINE), create(*a, **o))[1],
    )
    with pytest.warns(UserWarning, match="could not be fetched"):
        built(pretrained=True)
    assert seen == [True, before] and before == constants.HF_HUB_OFFLINE


def test_loading_saved_weights_gives_equal_outputs():
    x = torch.randn(2, 1, 64, 100)
    first, second = built().eval(), backbones.build(SMALL, 3, pretrained=False).eval()
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(first(x), second(x), rtol=0, atol=0)


# --- fine-tuning -------------------------------------------------------------------------------


def trained(backbone, layer_decay=1.0):
    """The weights before and after three steps, and the names of what has a gradient."""
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    optimiser = torch.optim.AdamW(backbones.parameter_groups(backbone, 1e-2, 0.01, layer_decay))
    backbone.train()
    for _ in range(3):
        backbone(torch.randn(4, 1, 64, 64)).square().mean().backward()
        optimiser.step()
    graded = {name for name, parameter in backbone.named_parameters() if parameter.grad is not None}
    return before, backbone.state_dict(), graded


@pytest.mark.parametrize("architecture", ["test_efficientnet", "test_vit", "test_resnet"])
def test_all_but_the_classifier_can_be_frozen(architecture):
    backbone = built(f"timm:{architecture}")
    frozen = backbones.freeze(backbone, 1)
    before, after, graded = trained(backbone)
    moved = {key for key in before if not before[key].equal(after[key])}
    classifier = {f"network.{name}" for name in backbones._classifier(backbone.network)}
    assert moved == graded == classifier  # no BatchNorm statistic moved either
    assert frozen == networks.count_parameters(backbone) - sum(
        before[key].numel() for key in classifier
    )


def test_half_frozen_means_the_first_half():
    backbone = built()
    backbones.freeze(backbone, 0.5)
    before, after, _ = trained(backbone)
    moved = {key for key in before if not before[key].equal(after[key])}
    assert {
        "network.conv_head.weight",
        "network.bn2.running_mean",
        "network.classifier.weight",
    } <= moved
    assert not {
        key
        for key in moved
        if key.startswith(("network.conv_stem", "network.bn1", "network.blocks.0"))
    }
    assert backbones.freeze(backbone, 0) == 0 and backbone.network.bn1.training


@pytest.mark.parametrize(
    "architecture", ["test_efficientnet", "test_vit", "test_convnext", "caformer_s18"]
)
@pytest.mark.parametrize("share", [0, 0.5])
@pytest.mark.parametrize("layer_decay", [1.0, 0.7])
def test_groups_hold_every_trainable_parameter_once(architecture, share, layer_decay):
    with torch.device("meta"):  # the law is about the parameters alone: no memory
        backbone = backbones.Backbone(timm.create_model(architecture, in_chans=1, num_classes=3))
    backbones.freeze(backbone, share)
    groups = backbones.parameter_groups(nn.Sequential(backbone), 0.1, 0.05, layer_decay)
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(
        id(parameter) for parameter in backbone.parameters() if parameter.requires_grad
    )
    rates = [group["lr"] for group in groups]
    assert rates[0] == 0.1 and rates == sorted(rates, reverse=True)
    assert (len(set(rates)) == 1) == (layer_decay == 1)


def test_later_layers_learn_faster():
    backbone = built()
    groups = backbones.parameter_groups(backbone, 1.0, 0.05, 0.5)
    rate = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    network = backbone.network
    chain = [
        network.conv_stem,
        network.blocks[0],
        network.blocks[2],
        network.blocks[4],
        network.classifier,
    ]
    rates = [rate[id(next(part.parameters()))] for part in chain]
    assert rates == sorted(set(rates)) and rates[-1] == 1


def test_biases_norms_and_embeddings_do_not_decay():
    backbone = built("timm:test_vit")
    groups = backbones.parameter_groups(backbone, 0.1, 0.05, 0.8)
    decaying = {
        id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]
    }
    for name, parameter in backbone.network.named_parameters():
        spared = (
            parameter.ndim < 2
            or name.endswith(".bias")
            or name in ("pos_embed", "cls_token", "reg_token")
        )
        assert (id(parameter) in decaying) != spared, name


def test_any_other_network_is_one_group_and_needs_no_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    model = networks.Cnn(3, (4, 8))
    model.head.requires_grad_(False)
    (group,) = backbones.parameter_groups(model, 0.1, 0.05, 0.5)
    assert group["lr"] == 0.1 and group["weight_decay"] == 0.05
    assert [id(parameter) for parameter in group["params"]] == [
        id(parameter) for parameter in model.blocks.parameters()
    ]
