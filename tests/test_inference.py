"""The bundle: a file in, probabilities out, the same as in training; and a command line that
explains itself.
"""

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from networks import save_folds
from tables import noise, small_config, tone, tone_clips

from helpers.audio import decoder, features, recording, windowing
from helpers.base import artifacts, errors
from helpers.compare import inference
from helpers.models import checkpoints, networks
from helpers.run import cli

LABELS = ["bell", "dog", "rain"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of a run named "tiny", below a home of its own."""
    monkeypatch.setattr(artifacts, "home", lambda: tmp_path)
    save_folds(tmp_path / "outputs" / "tiny", LABELS, small_config(train={"views": 2}))
    return tmp_path / "outputs" / "tiny"


@pytest.fixture
def stereo(tmp_path):
    """A stereo recording at another rate than the clips': 1.2 seconds."""
    sound = tone(440, 22050, 1.2) + noise(26460)
    soundfile.write(tmp_path / "recording.wav", np.stack([sound, 0.5 * sound], axis=1), 22050)
    return tmp_path / "recording.wav"


# --- the bundle --------------------------------------------------------------------------------


def test_a_files_probabilities_sum_to_1_highest_first(run, stereo):
    found = inference.Bundle(run).predict_file(stereo)
    assert set(found.index) == set(LABELS) and found.is_monotonic_decreasing
    assert found.sum() == pytest.approx(1, abs=1e-5) and (found >= 0).all()


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_many_files_are_what_each_is_alone_in_their_order(run, stereo, tmp_path, batch_size):
    other = tmp_path / "other.wav"
    recording.write(other, 0.5 * recording.load(stereo, 8000)[::-1][:3000], 8000)
    bundle = inference.Bundle(run)
    found = bundle.predict_files([stereo, other, stereo], batch_size)
    assert found.index.tolist() == [stereo, other, stereo]
    for row, path in zip(found.to_numpy(), found.index, strict=True):
        np.testing.assert_allclose(
            row, bundle.predict_file(path)[found.columns], rtol=1e-5, atol=1e-6
        )
    assert bundle.predict_files([]).empty


def test_of_many_files_the_one_that_cannot_be_used_is_named(run, stereo, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    with pytest.raises(errors.AudioIssue, match=r"broken\.wav"):
        inference.Bundle(run).predict_files([stereo, tmp_path / "broken.wav"])


def test_a_file_is_the_mean_of_its_windows_over_folds_and_views(run, stereo):
    config = small_config()
    whole = windowing.whole(decoder.decode(stereo), config)
    clips = np.stack(list(whole.clips()))
    assert clips.shape == (4, 4000) and whole.windows["end_seconds"].iloc[-1] == pytest.approx(
        1.2, abs=1e-3
    )
    rows = []
    for fold in (1, 2):
        model, _ = checkpoints.load(run / "models" / "cnn" / f"fold{fold}", config)
        with torch.no_grad():
            rows += [
                model(torch.from_numpy(np.roll(clips, shift, axis=1))).softmax(1)
                for shift in (0, 2000)
            ]
    expected = pd.Series(torch.stack(rows).mean((0, 1)), index=LABELS)
    found = inference.Bundle(run).predict_file(stereo)[LABELS]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_quieter_copy_of_a_recording_is_the_same_to_the_bundle(run, stereo):
    sound, rate = soundfile.read(stereo)
    soundfile.write(stereo.with_name("quiet.wav"), sound / 8, rate, subtype="FLOAT")
    bundle = inference.Bundle(run)
    loud, quiet = (
        bundle.predict_file(stereo.with_name(name)) for name in ("recording.wav", "quiet.wav")
    )
    np.testing.assert_allclose(quiet[LABELS], loud[LABELS], atol=2e-3)


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_packed_clips_are_predicted_as_the_clips_themselves(run, batch_size):
    packed, rows = tone_clips(folds=1)
    some, bundle = rows.iloc[[6, 1, 3]], inference.Bundle(run)
    table = bundle.predict_packed(packed, some, batch_size)
    assert table["clip_id"].tolist() == some["clip_id"].tolist()
    alone = bundle.predict_clips(features.unpack(packed[[6, 1, 3]]))
    np.testing.assert_allclose(table[LABELS], alone, rtol=1e-4)


def test_no_clips_give_an_empty_table(run):
    packed, rows = tone_clips(folds=1)
    table = inference.Bundle(run).predict_packed(packed, rows.iloc[:0])
    assert table.empty and list(table) == ["clip_id", *LABELS]


def test_a_run_without_a_network_says_what_to_do(tmp_path):
    with pytest.raises(errors.StageError, match="05_train_cnn"):
        inference.Bundle(tmp_path)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("n_samples", [1, 2, 300, 5000])
def test_however_short_a_recording_is_it_is_predicted_or_refused_with_a_reason(
    run, tmp_path, n_samples
):
    soundfile.write(tmp_path / "short.wav", noise(n_samples), 44100)
    try:
        found = inference.Bundle(run).predict_file(tmp_path / "short.wav")
    except errors.AudioIssue as issue:
        assert issue.code
    else:
        assert found.sum() == pytest.approx(1, abs=1e-5)


def test_silence_is_refused(run, tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 8000)
    with pytest.raises(errors.AudioIssue, match="SILENT"):
        inference.Bundle(run).predict_file(tmp_path / "silent.wav")


# --- several labels, images --------------------------------------------------------------------


def test_a_bundle_of_several_labels_gives_each_class_its_own_probability_and_knows_its_thresholds(
    run, stereo
):
    config = small_config(train={"views": 2}, data={"multilabel": True})
    save_folds(run, LABELS, config)
    artifacts.write_json(
        run / "models" / "cnn" / "thresholds.json", {"rain": 0.3, "bell": 0.1, "dog": 0.2}
    )
    artifacts.seal(run / "models" / "cnn")
    bundle = inference.Bundle(run)
    assert bundle.multilabel and list(bundle.thresholds.items()) == [
        ("bell", 0.1),
        ("dog", 0.2),
        ("rain", 0.3),
    ]
    clips = torch.from_numpy(features.unpack(tone_clips(folds=1)[0][:3]))
    with torch.no_grad():
        expected = [
            model(clips.roll(shift, dims=1)).sigmoid()
            for model in bundle.models
            for shift in (0, 2000)
        ]  # views x folds
    np.testing.assert_allclose(
        bundle.predict_clips(clips), torch.stack(expected).mean(0), rtol=1e-4
    )
    found = bundle.predict_file(stereo)
    assert found.between(0, 1).all() and found.sum() != pytest.approx(1, abs=1e-3)


def test_a_bundle_of_one_label_has_no_thresholds(run):
    assert inference.Bundle(run).thresholds is None


def test_a_bundle_that_learned_from_images_hears_recordings(run, stereo):
    save_folds(run, LABELS, small_config(train={"inputs": "images"}, features={"image_size": 16}))
    bundle = inference.Bundle(run)
    assert bundle.models[0].mean.shape == (16, 1)
    assert bundle.predict_file(stereo).sum() == pytest.approx(1, abs=1e-5)


def test_windows_cover_a_recording_and_average_to_what_is_said_of_it(run, stereo):
    bundle = inference.Bundle(run)
    table = bundle.hear(stereo).windows()
    assert list(table) == ["start", "end", "label", "probability", *LABELS]
    np.testing.assert_allclose(table["start"], [0, 0.25, 0.5, 0.7], atol=1e-3)
    np.testing.assert_allclose(table["end"], [0.5, 0.75, 1.0, 1.2], atol=1e-3)
    found = bundle.predict_file(stereo)
    np.testing.assert_allclose(table[LABELS].mean(), found[LABELS], rtol=1e-4)
    assert table["label"].tolist() == table[LABELS].idxmax(axis=1).tolist()


# --- costs -------------------------------------------------------------------------------------


def test_costs_are_the_mean_fold_time_and_the_size_of_one_network(run):
    packed, _ = tone_clips(folds=1)
    bundle = inference.Bundle(run)
    history = [
        {"fold": 1, "seconds": 1.0},
        {"fold": 1, "seconds": 2.0},
        {"fold": 2, "seconds": 5.0},
    ]
    found = inference.costs(bundle.models[0], packed, history)
    assert found["train_seconds"] == 4.0 and found["ms_per_clip"] > 0
    assert found["parameters"] == networks.count_parameters(bundle.models[1])


# --- the command line --------------------------------------------------------------------------


def test_the_command_prints_a_line_per_file(run, stereo, capsys):
    assert cli.main(["predict", str(stereo), str(stereo), "--run", "tiny", "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith(f"{stereo}: ") and lines[0].count("%") == 2


def test_a_missing_run_is_explained(run, stereo, capsys):
    assert cli.main(["predict", str(stereo), "--run", "absent"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and "absent" in printed.err and "make run-all" in printed.err


def test_a_file_that_is_no_recording_is_explained_and_the_others_are_predicted(
    run, stereo, tmp_path, capsys
):
    (tmp_path / "notes.wav").write_text("these are notes, not sound")
    assert (
        cli.main(
            [
                "predict",
                str(tmp_path / "notes.wav"),
                str(stereo),
                str(tmp_path / "none.wav"),
                "--run",
                "tiny",
            ]
        )
        == 1
    )
    printed = capsys.readouterr()
    assert "notes.wav: NOT_AUDIO" in printed.err and "none.wav: UNREADABLE" in printed.err
    assert "Traceback" not in printed.err and printed.out.startswith(str(stereo))


def test_a_damaged_network_is_explained(run, stereo, capsys):
    weights = run / "models" / "cnn" / "fold1" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert cli.main(["predict", str(stereo), "--run", "tiny"]) == 1
    assert "damaged" in capsys.readouterr().err
