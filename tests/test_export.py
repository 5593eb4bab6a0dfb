"""An exported folder: the same answers from the command, the folder, the graph of ONNX and its
loader, which needs neither torch nor Earshot.
"""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
from networks import save_folds
from tables import noise, small_config, tone

from app import earshot_onnx
from helpers.audio import features, recording
from helpers.base import artifacts
from helpers.compare import inference
from helpers.delivery import export, onnx_graph
from helpers.models import explain, networks
from helpers.run import cli

LABELS = ["bell", "dog", "rain"]
# Runs where nothing of what an exported folder does without can be imported.
ALONE = """
import sys
class Guard:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] in {"torch", "librosa", "pandas", "helpers", "scipy", "soxr"}:
            raise ImportError(f"{name} is not to be had here")
sys.meta_path.insert(0, Guard())
sys.path.insert(0, sys.argv[1])
import json, earshot_onnx
ear = earshot_onnx.Ear()
print(json.dumps({name: ear.hear(name) for name in sys.argv[2:]}))
"""


def made(folder, monkeypatch, config=None, labels=LABELS):
    """The folder of a run named "tiny", its networks of random weights that tell labels apart."""
    monkeypatch.setattr(artifacts, "home", lambda: folder)
    run = folder / "outputs" / "tiny"
    config = config or small_config(train={"views": 2})
    save_folds(run, labels, config)
    if config.data.multilabel:
        values = dict.fromkeys(labels, 0.5)
        artifacts.write_json(run / "models" / "cnn" / "thresholds.json", values)
        artifacts.seal(run / "models" / "cnn")
    return run


def scene(rate=8000):
    """Sounds of several levels between silences: several windows and takes."""
    silence = np.zeros(round(0.6 * rate), np.float32)
    sounds = [tone(440, rate, 1.3), 0.01 * tone(1900, rate, 0.3), noise(rate // 4, amplitude=0.3)]
    parts = [part for sound in sounds for part in (silence, sound)]
    return np.concatenate([*parts, silence, tone(700, rate, 0.9)])


def assert_alike(answer, expected, tolerance=export.TOLERANCE):
    assert answer.keys() == expected.keys()
    assert max(abs(answer[label] - expected[label]) for label in answer) <= tolerance


def told(folder, *files):
    """What the loader of a folder says of files, in a process that has little else."""
    run = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, folder, *files],
        capture_output=True,
        text=True,
        cwd=folder.parent,
        env={"PATH": os.environ["PATH"]},
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


# --- through the command


@pytest.mark.parametrize("several", [False, True])
def test_bundle_command_and_onnx_say_the_same_of_the_golden_examples(
    tmp_path, monkeypatch, capsys, several
):
    config = small_config(train={"views": 2}, data={"multilabel": several})
    run = made(tmp_path, monkeypatch, config)
    for name, waveform in {"a": scene(), "b": tone(900)}.items():
        (run / "clips" / "test" / name).mkdir(parents=True)
        recording.write(run / "clips" / "test" / name / f"{name}.flac", waveform, 8000)
    folder = tmp_path / "given" / "away"
    assert cli.main(["export", "--run", "tiny", "--out", str(folder)]) == 0
    assert "Traceback" not in capsys.readouterr().err
    golden = artifacts.read_json(folder / "golden" / "golden.json")
    files = [folder / "golden" / example["file"] for example in golden["examples"]]
    assert [file.name for file in files] == ["a.wav", "b.wav"] and golden["tolerance"] == 1e-4
    alone = told(folder, *map(str, files))
    graph = onnxruntime.InferenceSession(folder / "networks.onnx")
    first, second = inference.Bundle(run), inference.Bundle(folder)
    for file, example in zip(files, golden["examples"], strict=True):
        for answer in (first.predict_file(file), second.predict_file(file), alone[str(file)]):
            assert_alike(dict(answer), dict.fromkeys(answer.keys(), 0) | example["heard"])
        clip = np.pad(soundfile.read(file, dtype="float32")[0], (0, 4000))[None, :4000]
        row = graph.run(None, {"waveforms": clip})[0][0].tolist()
        assert_alike(dict(zip(LABELS, row, strict=True)), example["clip"])
    capsys.readouterr()
    assert cli.main(["predict", str(files[0]), "--run", str(folder)]) == 0
    printed = capsys.readouterr().out
    script = [sys.executable, "-I", folder / "earshot_onnx.py", files[0]]
    assert subprocess.run(script, capture_output=True, text=True, check=True).stdout == printed


def test_the_folder_and_its_zip_hold_the_same_and_nothing_of_the_machine(tmp_path, monkeypatch):
    run = made(tmp_path, monkeypatch)
    folder, lacking = export.write(run)
    assert folder == run / "export" / "tiny" and lacking == ""
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    with zipfile.ZipFile(f"{folder}.zip") as archive:
        assert sorted(archive.namelist()) == sorted(path.as_posix() for path in files)
    texts = [folder / name for name in files if name.suffix in (".json", ".md", ".py")]
    assert not any(str(tmp_path) in path.read_text(encoding="utf-8") for path in texts)
    artifacts.check_seal(folder, "README.md", "*.onnx", "*.py", "golden/*")
    assert len((folder / "earshot_onnx.py").read_text(encoding="utf-8").splitlines()) < 100


def test_the_card_says_what_was_measured_and_how_sure_that_is(tmp_path, monkeypatch):
    run = made(tmp_path, monkeypatch, small_config(preset="mine", seed=3))
    assert "Nothing was measured" in page(run)
    metrics = {"protocol": "Pooled.", "n_recordings": 40, "n_groups": 9, "headline": ["accuracy"]}
    metrics["accuracy"] = {"value": 0.9, "low": 0.8, "high": 0.95}
    artifacts.write_json(run / "metrics.json", metrics)
    artifacts.write_json(run / "run.json", {"config": {"synthetic": True, "fast": False}})
    words = page(run)
    assert "| held-out recordings | 40 | accuracy | 90.0 % (80.0–95.0) |" in words
    assert "Preset mine, seed 3" in words and "synthetic" in words and "smoke" not in words
    check = {"model": "svm", "hidden_test": {"n_recordings": 7, "accuracy": metrics["accuracy"]}}
    artifacts.write_json(run / "submission_check.json", check)
    assert "hidden test" not in page(run)  # it is another model's
    artifacts.write_json(run / "submission_check.json", check | {"model": "cnn"})
    assert "| the hidden test set | 7 | accuracy | 90.0 % (80.0–95.0) |" in page(run)


def page(run):
    folder, _ = export.write(run)
    return (folder / "README.md").read_text(encoding="utf-8")


def test_without_onnx_all_else_is_written_and_one_sentence_says_so(tmp_path, monkeypatch, capsys):
    run = made(tmp_path, monkeypatch)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert cli.main(["export", "--run", "tiny"]) == 1
    error = capsys.readouterr().err
    assert "pip install -r requirements-extras.txt" in error and len(error.splitlines()) == 1
    folder = run / "export" / "tiny"
    assert inference.Bundle(folder).labels == LABELS
    assert not (folder / "networks.onnx").exists() and not (folder / "earshot_onnx.py").exists()
    assert "There is no ONNX" in (folder / "README.md").read_text(encoding="utf-8")


def test_a_folder_of_something_else_is_not_replaced(tmp_path, monkeypatch, capsys):
    made(tmp_path, monkeypatch)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear", encoding="utf-8")
    assert cli.main(["export", "--run", "tiny", "--out", str(tmp_path / "mine")]) == 2
    assert "no export" in capsys.readouterr().err
    assert (tmp_path / "mine" / "letter.txt").read_text(encoding="utf-8") == "dear"


def test_where_only_earshot_can_clean_there_is_no_loader(tmp_path, monkeypatch):
    run = made(tmp_path, monkeypatch, small_config(clean={"denoise": True}))
    assert "noise reduction, which only Earshot does" in page(run)
    assert (run / "export" / "tiny" / "networks.onnx").is_file()
    assert not (run / "export" / "tiny" / "earshot_onnx.py").exists()


# --- the graph


FRAMES = [(1024, 320), (1024, 512), (2048, 512), (1000, 250), (2048, 689), (256, 32), (257, 64)]


@pytest.mark.parametrize(("n_fft", "hop_length"), FRAMES)
@pytest.mark.parametrize("rate", [8000, 44100])
def test_the_spectrum_in_products_of_matrices_is_the_log_mel(n_fft, hop_length, rate):
    log_mel = features.LogMel(rate, n_fft, hop_length, n_mels=16, f_min=20.0)
    sounds = torch.tensor(np.stack([tone(rate / 8, rate, 0.7), noise(round(0.7 * rate))]))
    ours = onnx_graph.Spectrum(log_mel)(sounds)
    assert ours.shape == log_mel(sounds).shape
    loud = log_mel(sounds) > log_mel(sounds).amax() - 80
    torch.testing.assert_close(ours[loud], log_mel(sounds)[loud], atol=2e-3, rtol=0)
    silence = onnx_graph.Spectrum(log_mel)(torch.zeros(1, rate))
    torch.testing.assert_close(silence, torch.full_like(silence, features.FLOOR_DB))


KINDS = {
    "resnet": {"model": {"name": "resnet", "channels": (8, 8, 16), "pooling": "gem"}},
    "resnet in full": {"model": {"name": "resnet", "channels": (8, 16), "stem_stride": 1}},
    "cnn": {},
    "cnn1d": {"model": {"name": "cnn1d"}},
    "lstm": {"model": {"name": "lstm"}},
    "gru": {"model": {"name": "gru"}},
    "images": {"train": {"inputs": "images", "views": 1}, "features": {"image_size": 32}},
    "attention": {
        "model": {"name": "resnet", "channels": (4, 8), "pooling": "attention"},
        "data": {"multilabel": True},
    },
    "pcen": {"features": {"kind": "pcen", "more_n_fft": (512, 1000)}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_network_answers_the_same_as_onnx_in_any_batch_and_length(
    tmp_path, monkeypatch, kind
):
    run = made(tmp_path, monkeypatch, small_config(**{"train": {"views": 3}, **KINDS[kind]}))
    bundle = inference.Bundle(run)
    onnx_graph.write(bundle, tmp_path / "networks.onnx")
    graph = onnxruntime.InferenceSession(tmp_path / "networks.onnx")
    lengths = (4000,) if onnx_graph.is_resized(bundle) else (4000, 3001, 9875)
    for count, length in ((count, length) for count in (1, 3) for length in lengths):
        clips = np.stack([noise(length, seed) for seed in range(count)])
        answer, embedding = graph.run(None, {"waveforms": clips})
        np.testing.assert_allclose(answer, bundle.predict_clips(clips), atol=export.TOLERANCE)
        heard = [explain.decided_by(model, torch.from_numpy(clips)) for model in bundle.models]
        np.testing.assert_allclose(embedding, torch.cat(heard, dim=1), atol=1e-3)


def test_resizing_by_matrices_is_what_the_pictures_do():
    picture = torch.rand(2, 1, 37, 53)
    options = {"mode": "bilinear", "antialias": True}
    expected = torch.nn.functional.interpolate(picture, (16, 64), **options)
    torch.testing.assert_close(onnx_graph._resize(picture, (16, 64), **options), expected)


def test_the_ensemble_is_the_mean_over_networks_and_shifts(tmp_path, monkeypatch):
    bundle = inference.Bundle(made(tmp_path, monkeypatch))
    clips = torch.tensor(np.stack([noise(4000), tone(500)]))
    with torch.no_grad():
        each = [
            model.probabilities(clips.roll(shift, dims=1))
            for model in bundle.models
            for shift in (0, 2000)
        ]
    np.testing.assert_allclose(bundle.predict_clips(clips), torch.stack(each).mean(0), atol=1e-6)
    assert all(isinstance(model, networks.AudioClassifier) for model in bundle.models)


# --- the loader


@pytest.mark.parametrize("how", ["mean", "max", "top", "noisy_or"])
@pytest.mark.parametrize("short_clips", ["pad", "loop"])
def test_the_loader_hears_a_long_file_as_the_bundle_does(tmp_path, monkeypatch, how, short_clips):
    config = small_config(model={"aggregate": how}, audio={"short_clips": short_clips})
    run = made(tmp_path, monkeypatch, config)
    folder, _ = export.write(run)
    ear = earshot_onnx.Ear(folder)
    sound = scene()
    sounds = {"long": sound, "short": sound[4800:6000], "stereo": np.stack([sound, 0.3 * sound], 1)}
    for name, waveform in (sounds | {"opposite": np.stack([sound, -sound], 1)}).items():
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, waveform, 8000, subtype="FLOAT")
        assert_alike(ear.hear(path), bundle_says(run, path, ear))


def bundle_says(run, path, ear):
    answer = inference.Bundle(run).predict_file(path)
    return {label: answer[label] for label in ear.hear(path)}


@pytest.mark.parametrize("waveform", [np.zeros(8000), np.zeros(0), tone(440)[:300]])
def test_the_loader_refuses_what_holds_no_sound(tmp_path, monkeypatch, waveform):
    folder, _ = export.write(made(tmp_path, monkeypatch))
    soundfile.write(tmp_path / "nothing.wav", waveform, 8000)
    with pytest.raises(ValueError, match="silent, or too short"):
        earshot_onnx.Ear(folder).hear(tmp_path / "nothing.wav")


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_resampling_agrees_with_soxr_to_60_db(rate):
    """Of tones up to 0.85 of the narrower band, in a sound longer than a minute."""
    wanted = 16000
    shares = np.linspace(0.01, 0.85, 12)
    sound = sum(tone(share * min(rate, wanted) / 2, rate, 63, 0.05) for share in shares)
    theirs = recording.resample(sound, rate, wanted)
    ours = earshot_onnx.resample(sound, rate, wanted)
    assert abs(len(ours) - len(theirs)) <= 1
    inner = slice(wanted // 10, 62 * wanted)
    error = np.sqrt(np.mean(np.square(ours[inner] - theirs[inner])))
    assert error < 1e-3 * np.sqrt(np.mean(np.square(theirs[inner])))


def test_the_starter_is_exported_as_it_answers(tmp_path):
    folder, _ = export.write(artifacts.STARTER, tmp_path / "starter")
    ear = earshot_onnx.Ear(folder)
    for example in artifacts.read_json(folder / "golden" / "golden.json")["examples"]:
        assert_alike(
            ear.hear(folder / "golden" / example["file"]),
            dict.fromkeys(ear.hear(folder / "golden" / example["file"])) | example["heard"],
        )
        assert max(example["heard"], key=example["heard"].get) == Path(example["file"]).stem
