"""Whole chains on other data than the demo: several labels, a competition, folders of one's own,
and what stops one.
"""

import html
import os
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pandas as pd
import pytest
import soundfile
from competitions import ALL
from here import no_kernels
from pages import TINY, page
from sklearn.metrics import accuracy_score, average_precision_score, f1_score

from helpers.base import artifacts, errors, targets
from helpers.data import sources
from helpers.run import cli, pipeline, presets, stages
from helpers.splits import certificate

# --- several labels per recording ---------------------------------------------------------------


def test_the_multilabel_demo_runs_to_a_submission_of_probabilities(home):
    with no_kernels():
        folder, _ = pipeline.run_all(preset="demo_multilabel", fast=True, settings=TINY)
    data = home / "data" / "demo-multilabel-60"
    sample, submission = (
        pd.read_csv(path) for path in (data / "sample_submission.csv", folder / "submission.csv")
    )
    assert (
        list(submission) == list(sample)
        and submission["fname"].tolist() == sample["fname"].tolist()
    )
    assert (
        submission.drop(columns="fname").to_numpy().min() >= 0
        and submission.drop(columns="fname").max().max() <= 1
    )
    table, metrics = (
        artifacts.read_table(folder / "predictions.csv"),
        artifacts.read_json(folder / "metrics.json"),
    )
    classes = list(sample)[1:]
    truth, said = (
        np.array([[c in text.split("|") for c in classes] for text in table[k]])
        for k in ("label", "predicted")
    )
    expected = average_precision_score(truth, table[classes], average="macro")
    assert metrics["macro_average_precision"]["value"] == pytest.approx(expected, abs=1e-4)
    assert metrics["micro_f1"]["value"] == pytest.approx(
        f1_score(truth, said, average="micro"), abs=1e-4
    )
    assert metrics["exact_match"]["value"] == pytest.approx(accuracy_score(truth, said), abs=1e-4)
    rows = artifacts.read_table(folder / "waveforms.csv").dropna(subset="fold")
    assert rows.groupby("group")["fold"].nunique().max() == 1
    given = pd.read_csv(data / "train.csv", keep_default_na=False).set_index("fname")["labels"]
    read = artifacts.read_table(folder / "recordings.csv").query(
        "split == 'train' and status == 'ok'"
    )
    assert (
        all(row.label.replace("|", ",") == given[Path(row.path).name] for row in read.itertuples())
        and len(read) > 50
    )


# --- competitions ------------------------------------------------------------------------------

QUICK = (
    "train.epochs=1 train.views=1 model.channels=[4,4] features.n_mels=24 features.image_size=32 "
    "augment.copies=0"
    " split.folds=3 compare.models=[mfcc_linear] evaluate.bootstrap_samples=50 evaluate.worst=2 "
    "evaluate.suspects=2"
)


def test_a_competitions_folder_is_all_that_is_needed(home, tmp_path):
    competition = ALL["birdcall_2020"](tmp_path / "birds")
    with no_kernels():
        folder, _ = pipeline.run_all(data=str(competition.folder), run="birds", settings=QUICK)
    sample, written = (
        pd.read_csv(path, dtype=str) for path in (competition.sample, folder / "submission.csv")
    )
    assert (
        list(written) == list(sample) and written.iloc[:, 0].tolist() == sample.iloc[:, 0].tolist()
    )
    assert (
        cli.main(["check", str(folder / "submission.csv"), "--data", str(competition.folder)]) == 0
    )
    said = written.set_index("row_id")["birds"].fillna("")
    assert all(set(text.split()) <= {*competition.classes, "nocall"} and text for text in said)
    metrics, table = (
        artifacts.read_json(folder / "metrics.json"),
        artifacts.read_table(folder / "predictions.csv"),
    )
    assert metrics["headline"][0] == "row_f1"
    scores = []
    for row in table.itertuples():
        truth = set(targets.split(row.label))
        said = set(targets.split(row.predicted))
        scores.append(2 * len(truth & said) / len([*truth, *said]) if truth or said else 1)
    assert metrics["row_f1"]["value"] == pytest.approx(np.mean(scores), abs=1e-4)
    assert certificate.verify(folder) == []


# --- a user's own folder -----------------------------------------------------------------------


def own_folder(root):
    """Three classes of tones in doubled folders, names with spaces and accents, a sample
    submission.
    """
    rng = np.random.default_rng(0)
    for number, label in enumerate(["Katze", "vélo à main", "Zug 3"]):
        for take in range(6):
            path = (
                root
                / "Train"
                / "train"
                / label
                / f"Aufnahme {take} é.{'WAV' if take % 2 else 'flac'}"
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            seconds = np.arange(int(8000 * rng.uniform(0.6, 2.2))) / 8000
            tone = 0.4 * np.sin(2 * np.pi * 300 * 2**number * seconds) + 0.05 * rng.standard_normal(
                len(seconds)
            )
            soundfile.write(path, tone, 8000, format="WAV" if take % 2 else "FLAC")
    for number in range(4):
        (root / "Test" / "test").mkdir(parents=True, exist_ok=True)
        soundfile.write(
            root / "Test" / "test" / f"clip {number}.wav", 0.1 * rng.standard_normal(8000), 8000
        )
    sample = pd.DataFrame({"ID": [f"clip {number}" for number in (2, 0, 3, 1)], "Class": "Katze"})
    sample.to_csv(root / "sample_submission.csv", index=False)
    return root


def test_a_users_folder_works_the_same_way(home, tmp_path, monkeypatch, capsys):
    own_folder(tmp_path / "my data")
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text("audio: {sample_rate: 8000, clip_seconds: 1}\nsplit: {folds: 3}\n")
    settings = TINY + " features.n_mels=32 submit.model=svm evaluate.bootstrap_samples=100"
    settings += " train.epochs=2"  # too few, which is said
    folder, _ = pipeline.run_all(preset="my.yaml", data="my data", run="mine", settings=settings)
    submission = pd.read_csv(folder / "submission.csv", dtype=str)
    assert list(submission) == ["ID", "Class"]
    assert submission["ID"].tolist() == ["clip 2", "clip 0", "clip 3", "clip 1"]
    assert set(submission["Class"]) <= {"Katze", "vélo à main", "Zug 3"}
    assert artifacts.read_json(folder / "metrics.json")["n_recordings"] == 18
    report = (folder / "report.html").read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    board = artifacts.read_table(folder / "leaderboard.csv").set_index("model")
    assert f"held out    svm: accuracy {100 * board.loc['svm', 'accuracy']:.1f} %" in printed
    for text in (printed, page(folder, "05_train_cnn"), report):
        assert "still falling in the last epoch (2)" in text
        assert "train.epochs=4" in html.unescape(text)


def test_a_failure_names_the_notebook_the_cell_and_the_error(home, tmp_path, capsys):
    for name in ("a/1.wav", "a/2.wav", "b/3.wav", "b/4.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("this is no sound")
    status = cli.main(["run-all", "--data", str(tmp_path), "--run", "broken"])
    said = capsys.readouterr().err
    assert status == 1
    assert (
        "01_explore.ipynb stopped in cell" in said and "TooManyBad" in said and "NOT_AUDIO" in said
    )
    statuses = {
        k: v["status"]
        for k, v in artifacts.read_json(home / "outputs" / "broken" / "run.json")["stages"].items()
    }
    assert statuses == {"01_explore": "running"}
    assert (home / "outputs" / "broken" / "notebooks" / "01_explore.failed.ipynb").is_file()


def test_a_notebook_finds_nothing_of_the_one_before_in_their_kernel():
    def told(code):
        cells = [nbformat.v4.new_code_cell(code)]
        notebook = nbformat.v4.new_notebook(cells=cells)
        nbclient.NotebookClient(notebook, km=pipeline.cleared(kernel)).execute()
        return "".join(output.text for output in notebook.cells[0].outputs)

    if not pipeline.GOES_ON:
        pytest.skip("this nbclient starts a kernel of its own for each notebook")
    with pipeline.one_kernel() as kernel:
        first = told("import os, colorsys\nrows = [1]\nprint(os.getpid())")
        again = told(
            "import os, sys\nprint(os.getpid(), 'rows' in dir(), 'colorsys' in sys.modules)"
        )
    assert again.split() == [first.strip(), "False", "True"]
    assert not kernel.has_kernel


def test_a_notebook_opened_too_early_says_which_one_to_run_first(home, tmp_path):
    line = pipeline.LiveLine("05")
    with pytest.raises(
        errors.PipelineError, match=r"needs waveforms.npy.*[\s\S]*Run 01_explore.ipynb first"
    ):
        pipeline.execute(
            stages.spec("05_train_cnn"),
            tmp_path / "05.ipynb",
            {"preset": "demo", "run": "empty"},
            line,
        )


def test_wrong_settings_end_with_status_2_and_the_key(capsys):
    assert cli.main(["run-all", "--set", "train.epoch=3"]) == 2
    assert "train.epoch" in capsys.readouterr().err
    assert cli.main(["run-all", "--data", "/no/such/folder"]) == 2
    assert "/no/such/folder" in capsys.readouterr().err


# --- real data ---------------------------------------------------------------------------------


def test_esc10_is_read_with_its_official_folds_and_sources():
    root = Path(os.environ.get("ESC10", artifacts.REPOSITORY.parent / "shared" / "data" / "ESC-10"))
    if not root.is_dir():
        pytest.skip(f"ESC-10 is not at {root} (set ESC10 to its folder)")
    found = sources.find(root, presets.load("esc10").data)
    ok = found[found["status"].eq("ok")]
    assert (
        len(ok) == 400
        and ok["label"].value_counts().eq(40).all()
        and "Dog bark" in set(ok["label"])
    )
    assert ok["official_fold"].value_counts().eq(80).all()
    assert ok.groupby("source")["official_fold"].nunique().max() == 1


def test_recordings_of_a_fifth_of_a_second_and_no_test_folder_work_too(home, tmp_path):
    rng = np.random.default_rng(0)
    for name in [f"{label}/{take}.wav" for label in ("low", "high") for take in range(4)]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pitch = 300 if name.startswith("low") else 1500
        tone = 0.3 * np.sin(
            2 * np.pi * pitch * np.arange(1600) / 8000
        ) + 0.01 * rng.standard_normal(1600)
        soundfile.write(tmp_path / name, tone, 8000)
    settings = (
        TINY + " audio.sample_rate=8000 audio.clip_seconds=1 features.n_mels=32 augment.copies=0 "
        "submit.model=svm"
        " train.inputs=images features.image_size=32 train.flip=0.5 train.schedule=plateau "
        "train.select=validation"
    )
    with no_kernels():
        folder, _ = pipeline.run_all(data=str(tmp_path), run="short", settings=settings)
    assert (
        artifacts.read_json(folder / "submission_check.json")["kind"] == "out-of-fold predictions"
    )
    own = artifacts.read_table(folder / "models" / "svm" / "out_of_fold.csv").set_index("clip_id")
    submission = pd.read_csv(folder / "submission.csv", dtype=str)
    clips = artifacts.read_table(folder / "waveforms.csv").set_index("clip_id")["recording_id"]
    said = own[["high", "low"]].idxmax(axis=1).rename(clips)
    paths = artifacts.read_table(folder / "recordings.csv").set_index("recording_id")["path"]
    assert submission.set_index("filename")["label"].to_dict() == {
        paths[identity]: said[identity] for identity in said.index
    }
