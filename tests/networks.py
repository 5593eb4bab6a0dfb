"""Networks of random weights, saved as a run's; weights, taken and compared."""

import torch
import torchaudio
from safetensors.torch import save_file

from helpers.base import artifacts
from helpers.models import checkpoints, networks

WAV2VEC2 = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [(16, 10, 5), (16, 8, 4), (16, 8, 4), (16, 4, 4)],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 24,
    "encoder_projection_dropout": 0.0,
    "encoder_pos_conv_kernel": 7,
    "encoder_pos_conv_groups": 4,
    "encoder_num_layers": 2,
    "encoder_num_heads": 2,
    "encoder_attention_dropout": 0.0,
    "encoder_ff_interm_features": 32,
    "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.0,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.5,
    "aux_num_out": None,
}


def save_folds(folder, labels, config, folds=(1, 2)):
    """A network of random weights for each fold, saved and sealed as a run's `models/cnn`."""
    home = folder / "models" / "cnn"
    for fold in folds:
        torch.manual_seed(fold)
        turn = {"test": fold, "validation": None, "train": (3 - fold,)}
        network = networks.build(config, len(labels))
        checkpoints.save(network, home / f"fold{fold}", labels, config, turn)
    if config.data.multilabel:
        artifacts.write_json(home / "thresholds.json", dict.fromkeys(labels, 0.5))
    artifacts.seal(home)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def tiny_bundle(monkeypatch, folder, normalised=True):
    """torchaudio.pipelines.TINY, and the path of a file of its weights."""
    bundle = torchaudio.pipelines.Wav2Vec2Bundle("-", WAV2VEC2, 16000, normalised, "Wav2Vec2")
    monkeypatch.setattr(torchaudio.pipelines, "TINY", bundle, raising=False)
    torch.manual_seed(0)
    network = torchaudio.models.wav2vec2_model(**WAV2VEC2)
    save_file(network.state_dict(), folder / "tiny.safetensors")
    return folder / "tiny.safetensors"
