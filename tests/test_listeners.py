"""Listeners of each kind, made here, heard through what 04, 06 and 08 call; what is refused."""

import pickle
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from networks import save_folds, tiny_bundle, weights
from safetensors.torch import load_file, save_file
from tables import feature_rows, small_config, tagged_rows, tone_clips
from torch import nn

from benchmarks import listener as benchmark
from helpers.audio import features, recording
from helpers.base import artifacts, errors, recipe, targets
from helpers.compare import classic, inference, rivals
from helpers.delivery import export
from helpers.listeners import embed, naming, runs
from helpers.listeners.listener import Listener
from helpers.models import backbones, networks
from helpers.rounds import train
from helpers.run import presets, stages
from helpers.training import batches, fit
from helpers.view import plots

LABELS = ["high", "low"]
HEADS = recipe.named("embedding", "both")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of a run of two tones, as 04 finds it, below a home of its own."""
    monkeypatch.setattr(artifacts, "home", lambda: tmp_path)
    folder = tmp_path / "outputs" / "own"
    write_run(folder, *tone_clips())
    return folder


def write_run(folder, packed, rows):
    """The files of a run from clips: recordings.csv, clips/, waveforms.npy and the tables."""
    (folder / "clips").mkdir(parents=True)
    np.save(folder / "waveforms.npy", packed)
    rows = rows.assign(path=[f"clips/{name}.flac" for name in rows["clip_id"]])
    for clip, path in zip(packed, rows["path"], strict=True):
        recording.write(folder / path, features.unpack(clip), 8000)
    artifacts.write_table(folder / "waveforms.csv", rows)
    artifacts.write_table(folder / "clips.csv", rows.drop(columns="parent_id"))
    table = features.feature_table(packed, rows, small_config())
    artifacts.write_table(folder / "features.csv", table)
    names = dict.fromkeys(artifacts.SCHEMAS["recordings.csv"], "")
    numbers = [name for name, kind in artifacts.SCHEMAS["recordings.csv"].items() if kind != "str"]
    recordings = pd.DataFrame({**names, "recording_id": rows["recording_id"]})
    recordings[numbers] = 1
    hashes = {"sha256": rows["recording_id"] + folder.name, "pcm_sha256": ""}
    recordings = recordings.assign(**hashes, path=rows["path"], split="train", status="ok")
    artifacts.write_table(folder / "recordings.csv", recordings)


def listening(name, **options):
    settings = {
        f"listener_{key}": str(value) if key == "weights" else value
        for key, value in options.items()
    }
    heads = {"models": ("listener_linear",)}
    return small_config(features={"listener": str(name), **settings}, compare=heads)


def learned(folder, config, accuracy=0.9):
    """Hear a run's clips as 04, fit a head as 06, ask it as 08: embeddings [clips, size]."""
    rows = artifacts.read_table(folder / "waveforms.csv")
    packed = np.load(folder / "waveforms.npy")
    path = folder / "embeddings.npy"
    embed.write(folder, packed, rows, path, config)
    vectors = artifacts.read(path)
    assert vectors.dtype == np.float32 and len(vectors) == len(rows)
    assert np.isfinite(vectors).all()
    table = rivals.table_of(folder, config)
    name = config.compare.models[0]
    found = rivals.fit(name, packed, rows, table, config, {}, folder / "models" / name)[0]
    truth = rows.set_index("clip_id")["label"]
    said = found.set_index("clip_id")[LABELS].idxmax(axis=1)
    assert (said == truth[said.index]).mean() >= accuracy
    again = rivals.test_probabilities(name, folder, config, packed, rows, table)
    assert again["clip_id"].tolist() == rows["clip_id"].tolist()
    np.testing.assert_allclose(again[LABELS].sum(axis=1), 1, rtol=1e-5)
    return vectors


# --- runs of Earshot


@pytest.fixture
def other(run):
    """Another run, of other tones and of random weights, whose networks may listen."""
    folder = run.parent / "other"
    tones = (("whistle", 3100), ("hum", 150), ("beep", 900))
    write_run(folder, *tone_clips(tones, seed=500))
    save_folds(folder, ["beep", "hum", "whistle"], small_config(audio={"clip_seconds": 0.4}))
    return folder


def test_the_networks_of_another_run_are_laid_side_by_side(run, other):
    vectors = learned(run, listening("run:other"))
    assert vectors.shape[1] == 2 * 16  # two folds, the last block of each
    bundle = inference.Bundle(other)
    clip = torch.from_numpy(features.unpack(np.load(run / "waveforms.npy")[:1, :3200]))
    logits = bundle.models[0](clip)
    heard = embed.listener(listening("run:other"), run)
    assert heard.sample_rate == 8000 and heard.window == 3200
    head = bundle.models[0].network.head[-1]
    first = torch.from_numpy(heard.hear(clip.numpy())[:, :16])
    torch.testing.assert_close(head(first), logits)


@pytest.mark.parametrize("column", ["sha256", "pcm_sha256"])
def test_a_run_that_learned_from_the_same_recordings_is_refused(run, other, column):
    for folder, rows in ((run, [3]), (other, [5])):
        table = artifacts.read_table(folder / "recordings.csv")
        table.loc[rows, column] = "the same"
        artifacts.write_table(folder / "recordings.csv", table)
    with pytest.raises(errors.ConfigError, match=r"other have learned from recordings .*\(1, such"):
        embed.listener(listening("run:other"), run)
    table["split"] = "test"  # of which it learned nothing
    artifacts.write_table(other / "recordings.csv", table)
    assert embed.listener(listening("run:other"), run)


def test_a_run_that_learned_from_the_same_sound_as_another_file_is_refused(run, other):
    rng = np.random.default_rng(0)
    steps = np.cumsum(rng.standard_normal(24000)) % 300 - 150
    burst = (steps / 300 + 0.2 * rng.standard_normal(24000)).clip(-1, 1).astype(np.float32)
    mine = artifacts.read_table(run / "clips.csv")["path"][2]
    theirs = artifacts.read_table(other / "clips.csv")["path"][4]
    recording.write(run / mine, 0.3 * burst[2000:22000], 8000)
    recording.write(other / theirs, burst, 8000)
    with pytest.raises(errors.ConfigError, match=r"\(1, such as high110-000"):
        runs.require_strangers(other, run, small_config())
    allowed = small_config(split={"near_duplicates": False})
    runs.require_strangers(other, run, allowed)


def test_a_run_is_refused_that_cannot_be_checked_or_is_not_there(run, other):
    (other / "recordings.csv").unlink()
    with pytest.raises(errors.ConfigError, match=r"no recordings\.csv"):
        embed.listener(listening("run:other"), run)
    with pytest.raises(errors.StageError, match="no run 'nobody'"):
        embed.listener(listening("run:nobody"), run)
    with pytest.raises(errors.ConfigError, match="learned from recordings"):
        embed.listener(listening("run:own"), run)


# --- ONNX


class Filters(nn.Module):
    """What tells tones apart: the loudness of some filters' answers, [B, frames, 12]."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.filters = nn.Conv1d(1, 12, 64, stride=32, bias=False)

    def forward(self, waveforms):
        return self.filters(waveforms).abs().transpose(1, 2)


class Perch(Filters):
    """Five seconds at 32 kHz in; classes and, shorter, an embedding out."""

    def forward(self, waveforms):
        heard = super().forward(waveforms[:, None])
        vector = heard.mean(dim=1)
        return vector.repeat(1, 3), vector, heard


class TimeFirst(Filters):
    """Frames before clips out, [frames, B, 12]."""

    def forward(self, waveforms):
        return super().forward(waveforms).transpose(0, 1)


class ChannelsFirst(Filters):
    """Frames last, [B, 12, frames]."""

    def forward(self, waveforms):
        return super().forward(waveforms).transpose(1, 2)


class Alone(Filters):
    """One waveform without a batch in, an embedding per frame out, as YAMNet."""

    def forward(self, waveform):
        return super().forward(waveform[None, None])[0]


class Picture(nn.Module):
    """A log-mel spectrogram in, its bands' means out."""

    def forward(self, mel):
        return mel.mean(dim=(1, 3))


class Turned(Picture):
    """The same of a spectrogram whose bands come last, as VGGish."""

    def forward(self, mel):
        return mel.mean(dim=(1, 2))


def onnx_file(folder, network, shape, outputs, axes=None):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    path = folder / f"{type(network).__name__.lower()}.onnx"
    names = {"input_names": ["inputs"], "output_names": outputs, "dynamic_axes": axes or {}}
    torch.onnx.export(network, (torch.zeros(shape),), path, dynamo=False, **names)
    return path


@pytest.fixture
def perch(tmp_path):
    names = ["label", "embedding", "spatial"]
    return onnx_file(tmp_path, Perch(), (2, 160000), names, {"inputs": {0: "batch"}})


def test_a_file_of_a_fixed_window_is_known_by_its_size_and_its_names(run, perch):
    heard = embed.listener(listening(f"onnx:{perch}"), run)
    assert (heard.sample_rate, heard.window) == (32000, 160000)
    vectors = learned(run, listening(f"onnx:{perch}"))
    assert vectors.shape[1] == 12
    clips = features.unpack(np.load(run / "waveforms.npy")[:2])
    at_its_rate = np.stack([recording.resample(clip, 8000, 32000) for clip in clips])
    filled = torch.from_numpy(np.tile(at_its_rate, 10))
    torch.manual_seed(0)
    expected = Perch()(filled)[1]
    np.testing.assert_allclose(vectors[:2], expected.detach().numpy(), rtol=1e-4)
    longer = listening(f"onnx:{perch}", output="label")
    assert learned(run, longer).shape[1] == 36


def test_a_file_that_hears_one_waveform_of_any_length(run, tmp_path):
    path = onnx_file(tmp_path, Alone(), (4000,), ["scores"], {"inputs": {0: "n"}})
    with pytest.raises(errors.ConfigError, match=r"alone\.onnx does not tell .*listener_rate"):
        embed.listener(listening(f"onnx:{path}"), run)
    config = listening(f"onnx:{path}", rate=16000, seconds=0.25)
    assert embed.listener(config, run).window == 4000
    assert learned(run, config).shape[1] == 12


def test_a_file_that_hears_with_a_channel_and_answers_in_frames(run, tmp_path):
    axes = {"inputs": {0: "batch", 2: "samples"}}
    path = onnx_file(tmp_path, Filters(), (2, 1, 4000), ["last_hidden_state"], axes)
    assert learned(run, listening(f"onnx:{path}", rate=8000)).shape[1] == 12


def test_a_file_that_sees_log_mel(run, tmp_path):
    axes = {"inputs": {0: "batch"}}
    path = onnx_file(tmp_path, Picture(), (2, 1, 20, 32), ["y"], axes)
    config = listening(f"onnx:{path}", rate=8000)
    assert embed.listener(config, run).window == 31 * 128
    assert learned(run, config).shape[1] == 20


def test_mel_bands_are_the_smaller_size_wherever_they_stand(run, tmp_path):
    axes = {"inputs": {0: "batch"}}
    path = onnx_file(tmp_path, Turned(), (2, 1, 32, 20), ["y"], axes)
    turned = listening(f"onnx:{path}", rate=8000)
    assert embed.listener(turned, run).window == 31 * 128
    path = onnx_file(tmp_path, Picture(), (2, 1, 20, 32), ["y"], axes)
    expected = learned(run, listening(f"onnx:{path}", rate=8000))
    np.testing.assert_allclose(learned(run, turned), expected, rtol=1e-5)


def test_frames_may_stand_before_or_after_the_numbers_but_not_before_the_clips(run, tmp_path):
    shape = (2, 1, 4000)
    axes = {"inputs": {0: "batch", 2: "samples"}}
    path = onnx_file(tmp_path, Filters(), shape, ["out"], axes)
    expected = learned(run, listening(f"onnx:{path}", rate=8000))
    path = onnx_file(tmp_path, ChannelsFirst(), shape, ["out"], axes)
    found = learned(run, listening(f"onnx:{path}", rate=8000))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    path = onnx_file(tmp_path, TimeFirst(), shape, ["out"], axes)
    with pytest.raises(errors.ConfigError, match="first axis time"):
        embed.listener(listening(f"onnx:{path}", rate=8000), run)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_file_of_a_fixed_number_of_clips_hears_any_number(run, tmp_path, size):
    path = onnx_file(tmp_path, Filters(), (size, 1, 4000), ["out"])
    fixed = learned(run, listening(f"onnx:{path}", rate=8000))
    path = onnx_file(tmp_path, Filters(), (2, 1, 4000), ["out"], {"inputs": {0: "batch"}})
    free = learned(run, listening(f"onnx:{path}", rate=8000))
    np.testing.assert_allclose(fixed, free, rtol=1e-4)


@pytest.mark.parametrize(
    ("outputs", "chosen"),
    [
        (["label", "audio_embeds", "spatial"], "audio_embeds"),
        (["PREDICTIONS", "GLOBAL_AVG_POOL", "spatial"], "GLOBAL_AVG_POOL"),
        (["mel_features", "output", "spectrogram"], "output"),
        (["output_0", "output_1", "output_2"], "output_0"),  # nothing says so: the longest
    ],
)
def test_what_was_chosen_and_guessed_is_said(run, tmp_path, outputs, chosen):
    path = onnx_file(tmp_path, Perch(), (2, 160000), outputs, {"inputs": {0: "batch"}})
    heard = embed.listener(listening(f"onnx:{path}"), run)
    assert heard.hear.output.name == chosen
    guessed, named = heard.notes
    assert "a guess, by its 160000 samples" in guessed
    rest = [name for name in outputs if name != chosen]
    assert f"its output {chosen}, not" in named and all(name in named for name in rest)
    rows = artifacts.read_table(run / "waveforms.csv")
    packed = np.load(run / "waveforms.npy")
    config = listening(f"onnx:{path}")
    told = embed.write(run, packed, rows, run / "embeddings.npy", config)
    assert "end at 4 kHz" in told and "audio.sample_rate=32000" in told and named in told
    told = embed.write(
        run, packed, rows, run / "embeddings.npy", listening(f"onnx:{path}", rate=8000)
    )
    assert "guess" not in told and "end at" not in told


class Deaf(Filters):
    """The same for every sound."""

    def forward(self, waveforms):
        return 0 * super().forward(waveforms) + 1


class OneNumber(Filters):
    def forward(self, waveforms):
        return super().forward(waveforms).mean(dim=(1, 2))[:, None]


@pytest.mark.parametrize(
    ("network", "says"), [(Deaf(), "every clip alike"), (OneNumber(), "one number only")]
)
def test_embeddings_that_tell_nothing_are_refused(run, tmp_path, network, says):
    path = onnx_file(tmp_path, network, (2, 1, 4000), ["out"], {"inputs": {0: "batch"}})
    with pytest.raises(errors.ConfigError, match=says):
        learned(run, listening(f"onnx:{path}", rate=8000))


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((2, 50, 20), "should take one input of floats"),  # frames of a filterbank, no waveform
        ((2, 3, 20, 32), "should take one input of floats"),
    ],
)
def test_an_input_that_is_no_sound_is_refused(run, tmp_path, shape, says):
    class Mean(nn.Module):
        def forward(self, x):
            return x.flatten(1)

    axes = {"inputs": {0: "batch", 1: "frames"}}
    path = onnx_file(tmp_path, Mean(), shape, ["y"], axes)
    with pytest.raises(errors.ConfigError, match=says):
        embed.listener(listening(f"onnx:{path}", rate=8000), run)


@pytest.mark.parametrize("told", ["32 kHz", "nan", "inf", "0", "-16000", "16"])
def test_a_rate_that_is_none_is_refused_in_words(run, tmp_path, told):
    onnx = pytest.importorskip("onnx")
    path = onnx_file(tmp_path, Filters(), (2, 1, 4000), ["out"], {"inputs": {0: "batch"}})
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"sample_rate": told})
    onnx.save(model, path)
    with pytest.raises(errors.ConfigError, match=r"features\.listener_rate"):
        embed.listener(listening(f"onnx:{path}"), run)
    assert embed.listener(listening(f"onnx:{path}", rate=8000), run).sample_rate == 8000


def test_large_tensors_may_lie_in_a_cache_of_links_and_their_change_is_noticed(
    run, perch, tmp_path
):
    onnx = pytest.importorskip("onnx")
    blobs = tmp_path / "blobs"
    snapshot = tmp_path / "snapshot"
    for folder in (blobs, snapshot):
        folder.mkdir()
    options = {"save_as_external_data": True, "size_threshold": 0, "location": "perch.onnx.data"}
    onnx.save(onnx.load(perch), blobs / "perch.onnx", **options)
    for name in ("perch.onnx", "perch.onnx.data"):
        (snapshot / name).symlink_to(blobs / name)
    config = listening(f"onnx:{snapshot / 'perch.onnx'}")
    assert embed.listener(config, run).window == 160000
    before = naming.digest(config)
    data = blobs / "perch.onnx.data"
    data.write_bytes(data.read_bytes()[::-1])
    assert naming.digest(config) != before


def test_a_file_that_is_not_there_is_said_before_anything_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "home", lambda: tmp_path)
    for key in ("features.listener_weights", "model.weights"):
        section, _, name = key.partition(".")
        config = small_config(**{section: {name: "gone.pt"}})
        with pytest.raises(errors.ConfigError, match=f"{key}: there is no file .*gone.pt"):
            naming.require_files(config)
    for name, says in {"onnx:gone.onnx": "no file", "hf:./gone": "no folder"}.items():
        with pytest.raises(errors.ConfigError, match=f"features.listener: there is {says}"):
            naming.require_files(listening(name))
    naming.require_files(small_config())
    naming.require_files(listening("hf:openai/whisper-base"))


def test_a_folder_beside_the_listeners_own_is_not_part_of_it(run, tmp_path):
    (tmp_path / "whisper").mkdir()
    config = listening(f"hf:{tmp_path / 'whisper'}")
    before = naming.digest(config)
    (tmp_path / "whisper-large").mkdir()
    (tmp_path / "whisper-large" / "model.safetensors").write_bytes(b"another")
    assert naming.digest(config) == before


def test_what_earshot_exports_hears_as_the_run_itself(run, other):
    pytest.importorskip("onnxruntime")
    folder, lacking = export.write(other)
    assert not lacking
    away = listening(f"onnx:{folder / 'networks.onnx'}")
    heard = embed.listener(away, run)
    assert (heard.sample_rate, heard.window) == (8000, 3200)
    vectors = learned(run, listening("run:other"))
    np.testing.assert_allclose(learned(run, away), vectors, atol=1e-3)


def test_a_file_that_cannot_be_used_is_refused_in_words(run, perch, tmp_path):
    onnx = pytest.importorskip("onnx")
    rubbish = tmp_path / "rubbish.onnx"
    rubbish.write_bytes(pickle.dumps({"a": 1}))
    model = onnx.load(perch)
    (tmp_path / "in").mkdir()
    outside = tmp_path / "in" / "outside.onnx"
    options = {"save_as_external_data": True, "size_threshold": 0, "location": "data.bin"}
    onnx.save(model, outside, **options)
    beside = f"onnx:{outside}"
    assert embed.listener(listening(beside), run).window == 160000
    model = onnx.load(outside, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "../data.bin" if entry.key == "location" else entry.value
    (tmp_path / "data.bin").write_bytes((tmp_path / "in" / "data.bin").read_bytes())
    outside.write_bytes(model.SerializeToString())
    cases = {
        f"onnx:{tmp_path / 'nothing.onnx'}": "is not there",
        f"onnx:{rubbish}": "is no ONNX",
        beside: "not in its folder",
    }
    for name, says in cases.items():
        with pytest.raises(errors.ConfigError, match=says):
            embed.listener(listening(name), run)
    with pytest.raises(errors.ConfigError, match=r"no vector 'logits'.* but label, embedding"):
        embed.listener(listening(f"onnx:{perch}", output="logits"), run)


# --- published networks


@pytest.fixture
def bundle(monkeypatch, tmp_path):
    """A bundle of torchaudio with a tiny network, and a file of its weights."""
    return tiny_bundle(monkeypatch, tmp_path)


def test_a_bundle_of_torchaudio_with_weights_from_a_file(run, bundle):
    config = listening("torchaudio:TINY", weights=str(bundle))
    assert embed.listener(config, run).sample_rate == 16000
    assert learned(run, config).shape[1] == 24


def test_a_bundle_without_weights_is_refused_quickly(run, bundle, monkeypatch, tmp_path):
    def no_network(*args, **options):
        raise OSError("no network")

    monkeypatch.setattr("socket.getaddrinfo", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    with pytest.raises(errors.ConfigError, match=r"TINY could not be had.*listener_weights"):
        embed.listener(listening("torchaudio:TINY"), run)
    with pytest.raises(errors.ConfigError, match="no bundle 'TINI'"):
        embed.listener(listening("torchaudio:TINI"), run)
    spoiled = tmp_path / "spoiled.pth"
    torch.save({"x": Filters}, spoiled)  # a class, which only a pickle can name
    with pytest.raises(errors.ConfigError, match="could not be had"):
        embed.listener(listening("torchaudio:TINY", weights=str(spoiled)), run)


def transformers_folder(folder, kind):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    if kind == "wavlm":
        convolutions = {"conv_dim": (16, 16), "conv_stride": (5, 4), "conv_kernel": (10, 8)}
        positions = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4}
        sizes |= {"intermediate_size": 32, **convolutions, **positions}
        model = transformers.WavLMModel(transformers.WavLMConfig(**sizes))
        extractor = transformers.Wav2Vec2FeatureExtractor()
    elif kind == "ast":
        sizes |= {"intermediate_size": 32, "max_length": 64, "num_mel_bins": 32}
        model = transformers.ASTModel(transformers.ASTConfig(**sizes))
        extractor = transformers.ASTFeatureExtractor(max_length=64, num_mel_bins=32)
    else:
        layers = {"encoder_layers": 2, "decoder_layers": 1, "d_model": 24}
        heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
        sizes = {"num_mel_bins": 16, "max_source_positions": 50, "vocab_size": 60}
        tokens = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 1)
        sizes |= {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "decoder_start_token_id": 1}
        config = transformers.WhisperConfig(**layers, **heads, **sizes, **tokens)
        model = transformers.WhisperModel(config)
        extractor = transformers.WhisperFeatureExtractor(feature_size=16, chunk_length=1)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "window"), [("wavlm", None), ("ast", 64 * 160), ("whisper", 16000)]
)
def test_a_network_of_transformers_from_a_folder(run, tmp_path, kind, window):
    config = listening(f"hf:{transformers_folder(tmp_path / kind, kind)}")
    heard = embed.listener(config, run)
    assert (heard.sample_rate, heard.window) == (16000, window)
    assert learned(run, config).shape[1] == 24


def test_a_network_of_transformers_in_half_precision_or_as_tensors_of_torch(run, tmp_path):
    folder = transformers_folder(tmp_path / "wavlm", "wavlm")
    expected = learned(run, listening(f"hf:{folder}"))
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    np.testing.assert_array_equal(learned(run, listening(f"hf:{folder}")), expected)
    transformers = pytest.importorskip("transformers")
    transformers.AutoModel.from_pretrained(folder).half().save_pretrained(folder)
    (folder / "pytorch_model.bin").unlink()
    np.testing.assert_allclose(learned(run, listening(f"hf:{folder}")), expected, atol=0.02)


def test_a_network_of_transformers_that_is_not_to_be_had(run, tmp_path, monkeypatch):
    folder = transformers_folder(tmp_path / "ast", "ast")
    monkeypatch.setattr(backbones, "hub_answers", lambda: False)
    with pytest.raises(errors.ConfigError, match=r"hf:nobody/nothing could not be had"):
        embed.listener(listening("hf:nobody/nothing"), run)
    (folder / "model.safetensors").rename(folder / "kept")
    torch.save({"x": Filters}, folder / "pytorch_model.bin")  # a class, which is no tensor
    with pytest.raises(errors.ConfigError, match="could not be had"):
        embed.listener(listening(f"hf:{folder}"), run)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(errors.MissingLibrary, match="requirements-extras"):
        embed.listener(listening(f"hf:{folder}"), run)


def test_an_image_network_of_timm_with_weights_from_a_file(run, tmp_path, monkeypatch):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    path = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_efficientnet", num_classes=7).state_dict(), path)
    config = listening("timm:test_efficientnet", weights=str(path))
    vectors = learned(run, config)
    assert vectors.shape[1] == timm.create_model("test_efficientnet").num_features
    monkeypatch.setattr(backbones, "hub_answers", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(errors.ConfigError, match=r"timm:test_efficientnet could not be had"):
        embed.listener(listening("timm:test_efficientnet"), run)


# --- what is heard once


def constant(identity="one", hear=lambda clips: clips[:, :3]):
    return Listener("test", 8000, None, identity, hear)


def test_what_was_heard_is_not_heard_again(run):
    packed = np.load(run / "waveforms.npy")
    first = embed.embeddings(constant(), packed, 8000)

    def never(clips):
        raise AssertionError("it is heard again")

    again = embed.embeddings(constant(hear=never), packed, 8000)
    np.testing.assert_array_equal(again, first)
    for other in (constant("two", never), constant(hear=never)):
        changed = packed if other.identity == "two" else packed[::-1]
        with pytest.raises(AssertionError):
            embed.embeddings(other, changed, 8000)


def test_what_was_interrupted_goes_on(run, monkeypatch):
    monkeypatch.setattr(embed, "CHUNK", 8)
    packed = np.load(run / "waveforms.npy")
    heard = []

    def breaks(clips):
        heard.append(len(clips))
        if len(heard) == 2:
            raise KeyboardInterrupt
        return clips[:, :3]

    with pytest.raises(KeyboardInterrupt):
        embed.embeddings(constant(hear=breaks), packed, 8000)
    vectors = embed.embeddings(constant(hear=breaks), packed, 8000)
    assert len(vectors) == len(packed) and sum(heard) == len(packed) + 8


def test_an_answer_that_is_no_number_is_refused(run):
    silent = constant(hear=lambda clips: np.full((len(clips), 2), np.nan))
    with pytest.raises(errors.ConfigError, match="no number"):
        embed.embeddings(silent, np.load(run / "waveforms.npy"), 8000)


# --- models on embeddings


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("several", [False, True])
def test_a_head_learns_from_embeddings_and_answers_again_from_its_folder(tmp_path, name, several):
    table = tagged_rows() if several else feature_rows()
    columns = features.feature_columns(table)
    table = table.rename(columns=dict(zip(columns, ["a_mean", *embed_names(3)], strict=True)))
    config = small_config(data={"multilabel": several}, features={"listener": "run:other"})
    home = tmp_path / "models" / name
    found, costs = rivals.cross_validate(name, None, None, table, config, home, {})
    classes = [column for column in found if column not in ("clip_id", "fold")]
    assert classes == (["p", "q"] if several else ["a", "b", "c"]) and costs["parameters"] > 0
    assert (classic.load(home / "fold1").columns[0]) == "embedding_0"
    seen = set(classic.load(home / "fold1").columns)
    assert ("a_mean" in seen) == (recipe.reads(name) == "both")
    again = rivals.test_probabilities(name, tmp_path, config, None, table[:5], table)
    folds = [classic.predict(classic.load(path), table[:5]) for path in sorted(home.glob("fold*"))]
    np.testing.assert_allclose(again[classes], np.mean(folds, axis=0), rtol=1e-6)


def embed_names(count):
    return list(embed.table(np.zeros((1, count))))


def test_with_a_listener_the_linear_head_joins_unless_another_is_named():
    heard = "features.listener=run:other"
    assert presets.load("demo", settings=heard).compare.models[-1] == "listener_linear"
    named = presets.load("demo", settings=f"{heard} compare.models=[svm,listener_knn,stacking]")
    assert named.compare.models == ("svm", "listener_knn", "stacking")
    stacked = presets.load("demo", settings=f"{heard} compare.models=[svm,soft_vote]")
    assert stacked.compare.models == ("svm", "listener_linear", "soft_vote")
    assert "listener_linear" in stacked.members()
    submitted = presets.load("demo", settings=f"{heard} submit.model=listener_linear")
    assert submitted.submitted() == ("listener_linear",)


def test_a_head_without_a_listener_and_a_listener_of_no_kind_are_refused():
    with pytest.raises(errors.ConfigError, match=r"listener_knn.* set features\.listener"):
        presets.load("demo", settings="compare.models=[listener_knn]")
    with pytest.raises(errors.ConfigError, match=r"features\.listener: got 'perch'.*onnx:<file>"):
        presets.load("demo", settings="features.listener=perch")


def test_a_listener_makes_04_and_06_run_again_but_not_the_network():
    plain, heard = small_config(), listening("run:other")
    for name, changes in (("04_features", True), ("05_train_cnn", False), ("07_evaluate", False)):
        sections = stages.spec(name).sections
        assert (plain.digest(sections) != heard.digest(sections)) == changes or name[1] == "7"
    assert "embeddings.npy" in stages.spec("04_features").outputs(heard)
    assert "embeddings.npy" not in stages.spec("04_features").outputs(plain)
    assert "embeddings.npy" in stages.spec("08_submit").inputs(heard)


def test_a_map_of_few_clips_or_of_several_labels_can_be_drawn():
    table = tagged_rows().assign(parent_id="")
    vectors = np.random.default_rng(0).standard_normal((len(table), 6))
    figure = plots.listener_map(vectors, table, multilabel=True)
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert sorted(names) == ["none", "p", "q"]
    assert plots.listener_map(vectors, table[:4], multilabel=True)


# --- measured


def test_the_benchmark_compares_on_the_same_draws(run, other, monkeypatch, capsys):
    config = small_config(train={"epochs": 1, "select": "last"}, evaluate={"bootstrap_samples": 50})
    artifacts.write_json(run / "run.json", {"config": config.model_dump(mode="json")})
    asked = ["--run", "own", "--listener", "run:other", "--sweeps", "1", "--folds", "2"]
    benchmark.main([*asked, "--counts", "1", "all"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| 1", "| all"]
    assert all(line.count("%") == 2 for line in lines[2:])
    rows = artifacts.read_table(run / "waveforms.csv")
    drawn = benchmark.draw(rows, 3, False, np.random.default_rng(0))
    labels = rows.set_index("recording_id").loc[drawn, "label"]
    assert labels.value_counts().to_dict() == {"high": 3, "low": 3}
    rows["label"] = ["high|low", "low", "", "high"] * 6
    few = benchmark.draw(rows, 1, True, np.random.default_rng(0))
    assert 2 <= len(few) <= 3


# --- a network that begins from another run's


def begun(config, n_classes=2):
    torch.manual_seed(5)
    return networks.build(config, n_classes)


def test_a_network_begins_from_another_runs_but_for_its_last_layer(run, other):
    config = small_config(model={"weights": "run:other"})
    model = begun(config)
    theirs = inference.Bundle(other).models[0].network.state_dict()
    for name, tensor in model.network.state_dict().items():
        assert (name.startswith("head.2")) != torch.equal(tensor, theirs.get(name))
    assert model.network.origin == "run"
    with pytest.raises(errors.ConfigError, match=r"of another network .*model\.name"):
        begun(small_config(model={"weights": "run:other", "channels": (8, 8)}))
    assert networks.build(config, 2, fresh=False).network.head[-1].out_features == 2


def test_a_network_is_trained_again_where_the_one_that_it_begins_from_was(run, other):
    stage, config = stages.spec("05_train_cnn"), small_config(model={"weights": "run:other"})
    before = stages.stage_key(stage, config, run, run)["inputs"]
    artifacts.write_text(other / "models" / "cnn" / artifacts.DIGESTS, "{}")
    after = stages.stage_key(stage, config, run, run)["inputs"]
    assert [name for name in before if before[name] != after[name]] == ["{weights}"]
    assert "{weights}" not in stage.inputs(small_config())


def test_training_refuses_to_begin_from_a_run_that_heard_the_same_recordings(run, other):
    config = small_config(model={"weights": "run:own"})
    with pytest.raises(errors.ConfigError, match=r"model\.weights: the networks of own"):
        train.run(run, config)
    train.require_strangers(run, small_config(model={"weights": "run:other"}))


@pytest.mark.parametrize("unfreeze", [1.0, 0.5])
def test_frozen_layers_learn_only_after_they_are_thawed(run, other, unfreeze):
    settings = {"epochs": 2, "freeze": 1.0, "unfreeze": unfreeze, "select": "last", "ema": 0.0}
    config = small_config(train=settings, model={"weights": "run:other"})
    packed, rows = tone_clips()
    model = begun(config)
    wanted = torch.from_numpy(targets.matrix(rows["label"], LABELS))
    data = batches.Batches(
        packed, rows.index, wanted, 8, torch.device("cpu"), torch.Generator(), None, (0, 1)
    )
    model.fit_standardisation(data)
    trainer = fit.Trainer(model, data, config.train)
    before = weights(model.network)
    fit.one_epoch(trainer, None)
    now = weights(model.network)
    moved = {name for name, tensor in now.items() if not tensor.equal(before[name])}
    assert moved == {"head.2.weight", "head.2.bias"}
    fit.one_epoch(trainer, None)
    after = weights(model.network)
    assert (after["blocks.0.0.weight"].equal(before["blocks.0.0.weight"])) == (unfreeze == 1)


def test_early_layers_of_a_network_that_was_begun_learn_slower(run, other):
    model = begun(small_config(model={"weights": "run:other"}))
    groups = backbones.parameter_groups(model, 1.0, 0.1, 0.5)
    assert [group["lr"] for group in groups] == [1.0, 0.5, 0.25]
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())
    assert backbones.freeze(model.network, 0.5) == sum(
        parameter.numel() for parameter in model.network.blocks[0].parameters()
    )
