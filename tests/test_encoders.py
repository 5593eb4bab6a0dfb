"""Published networks of waveforms are trained on, layer by layer: torchaudio's, transformers'."""

import numpy as np
import onnxruntime
import pytest
import torch
from here import no_kernels
from networks import tiny_bundle
from pages import TINY, page
from safetensors.torch import load_file, save_file
from tables import small_config, tone

from helpers.audio import features
from helpers.base import errors
from helpers.compare import inference
from helpers.delivery import onnx_graph
from helpers.listeners import naming
from helpers.models import backbones, checkpoints, networks
from helpers.run import pipeline
from helpers.training import batches, fit

TRAIN = {"train": {"epochs": 3, "select": "last", "precision": "fp32"}}


@pytest.fixture(params=["torchaudio", "hf"])
def published(request, monkeypatch, tmp_path):
    """A tiny network of either kind: (what model.name and model.weights say, its first weights)."""
    torch.manual_seed(0)
    if request.param == "torchaudio":
        path = tiny_bundle(monkeypatch, tmp_path, normalised=False)
        return {"name": "torchaudio:TINY", "weights": str(path)}, load_file(path)
    transformers = pytest.importorskip("transformers")
    described = transformers.WavLMConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(16,) * 4,
        conv_stride=(5, 4, 4, 4),
        conv_kernel=(10, 8, 8, 4),
        num_feat_extract_layers=4,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
    )
    network = transformers.WavLMModel(described)
    network.save_pretrained(tmp_path / "tiny")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "tiny")
    return {"name": f"hf:{tmp_path / 'tiny'}"}, network.state_dict()


def config_of(model, **train):
    audio = {"sample_rate": 16000}
    return small_config(model=model, audio=audio, train={**TRAIN["train"], **train})


def tones(count=16):
    """Two classes that differ in pitch: packed int16 [clips, samples], targets."""
    pitches = np.resize([300, 2000], count)
    clips = [tone(pitch, 16000) * (1 + number / count) for number, pitch in enumerate(pitches)]
    targets = np.eye(2, dtype=np.float32)[np.resize([0, 1], count)]
    return (np.stack(clips) * 10000).astype(np.int16), torch.from_numpy(targets)


def trainer(config):
    packed, targets = tones()
    rows = np.arange(len(packed))
    clips = batches.Batches(packed, rows, targets, 8, generator=torch.Generator())
    torch.manual_seed(0)  # of the classifier
    model = networks.build(config, 2)
    model.fit_standardisation(clips)
    return fit.Trainer(model, clips, config.train, seed=0)


def test_it_begins_from_its_published_weights_and_all_of_it_is_trained(published):
    options, first = published
    model = networks.build(config_of(options), 2)
    begun = model.network.network.state_dict()
    assert begun.keys() == first.keys()
    assert all(torch.equal(begun[name], first[name]) for name in first)
    assert model.network.origin == ("file" if "weights" in options else "pretrained")
    own = trainer(config_of(options))
    losses = [own.epoch()["train_loss"] for _ in range(3)]
    assert losses[-1] < losses[0]
    moved = own.model.network.network.state_dict()
    assert not any(torch.equal(moved[name], first[name]) for name in first if ".layers.1." in name)


def test_the_page_lists_its_layers(published):
    options, _ = published
    table = networks.outline(networks.build(config_of(options), 2, fresh=False), 8000)
    assert table["part"].tolist() == ["front end", "convolutions", "layer 1", "layer 2", "head"]


def test_layers_are_frozen_from_the_waveform_on_and_learn_the_slower_the_nearer(published):
    options, first = published
    config = config_of(options, freeze=0.67, layer_decay=0.5)
    own = trainer(config)
    rates = [group["initial_lr"] for group in own.optimiser.param_groups]
    assert rates[0] == max(rates) and len(set(rates)) == 2  # the classifier, and the last layer
    own.epoch()
    moved = own.model.network.network.state_dict()
    held = [name for name in first if torch.equal(moved[name], first[name])]
    assert set(first) - set(held) == {name for name in first if ".layers.1." in name}
    whole = backbones.parameter_groups(networks.build(config, 2), 0.1, 0.0, 0.5)
    counted = sum(parameter.numel() for group in whole for parameter in group["params"])
    assert counted == networks.count_parameters(own.model) and len(whole) == 4


def test_training_is_the_same_each_time_and_a_saved_network_answers_alike(published, tmp_path):
    options, _ = published
    config = config_of(options)
    runs = [trainer(config) for _ in range(2)]
    for own in runs:
        own.epoch()
    weights = [own.model.state_dict().values() for own in runs]
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
    model = runs[0].kept.eval()
    turn = {"test": 1, "validation": None, "train": [2]}
    checkpoints.save(model, tmp_path / "fold1", ["high", "low"], config, turn)
    loaded, _ = checkpoints.load(tmp_path / "fold1", config)
    waveforms = torch.randn(2, 8000)
    torch.testing.assert_close(loaded(waveforms), model(waveforms))


def test_what_does_not_fit_is_said_at_once(published, tmp_path):
    options, _ = published
    with pytest.raises(errors.ConfigError, match=r"hears 16000 Hz: set audio.sample_rate=16000"):
        networks.build(small_config(model=options), 2)
    with pytest.raises(errors.ConfigError, match=r"no bundle 'TINI'"):
        networks.build(config_of({"name": "torchaudio:TINI"}), 2)
    if options["name"].startswith("hf:"):
        own = tmp_path / "own.safetensors"
        save_file({"x": torch.zeros(1)}, own)
        with pytest.raises(errors.ConfigError, match=r"hf:<folder> brings its own"):
            networks.build(config_of({**options, "weights": str(own)}), 2)
    missing = {"name": "torchaudio:TINY", "weights": str(tmp_path / "gone.pth")}
    if options["name"].startswith("torchaudio"):
        with pytest.raises(errors.ConfigError, match=r"model.name: torchaudio:TINY could not be"):
            networks.build(config_of(missing), 2)


@pytest.mark.parametrize("published", ["torchaudio"], indirect=True)
def test_a_run_trains_one_shows_its_layers_and_exports_it(home, published):
    options, _ = published
    changed = " ".join(f"model.{name}={value}" for name, value in options.items())
    small = f"{TINY} audio.clip_seconds=1 augment.copies=0 train.freeze=0.3 train.unfreeze=0.5"
    small = small.replace(" model.channels=[4,4,8,8]", "")
    with no_kernels():
        folder, _ = pipeline.run_all(
            preset="demo", fast=True, until="05_train_cnn", settings=f"{small} {changed}"
        )
    assert "convolutions" in page(folder, "05_train_cnn")
    bundle = inference.Bundle(folder)
    onnx_graph.write(bundle, folder / "networks.onnx")
    clips = np.load(folder / "waveforms.npy")[:3]
    session = onnxruntime.InferenceSession(folder / "networks.onnx")
    [answers] = session.run(["probabilities"], {"waveforms": features.unpack(clips)})
    expected = bundle.predict_clips(features.unpack(clips))
    np.testing.assert_allclose(answers, expected, atol=1e-4)


def test_other_weights_in_the_same_place_make_a_training_out_of_date(published, tmp_path):
    options, _ = published
    config = config_of(options)
    before = naming.weights_digest(config)
    for place in (tmp_path / "tiny" / "config.json", tmp_path / "tiny.safetensors"):
        if place.is_file():
            place.write_bytes(b"another")
    assert naming.begins_elsewhere(config) and naming.weights_digest(config) != before
