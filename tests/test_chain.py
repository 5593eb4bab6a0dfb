"""The real notebooks, run by the real runner on a tiny configuration, and their files read back."""

import base64
import json
import os
import re
import subprocess
import sys
import time

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
from pages import TINY, page
from sklearn.metrics import accuracy_score, f1_score

from helpers.audio import recording
from helpers.base import artifacts, errors
from helpers.delivery import hidden
from helpers.metrics import decisions, evaluate
from helpers.run import cli, pipeline, presets, stages
from helpers.splits import certificate
from helpers.submission import submit
from helpers.view import boards


@pytest.fixture(scope="module")
def demo(home):
    """The finished run folder of the tiny demo."""
    folder, ran = pipeline.run_all(preset="demo", fast=True, settings=TINY)
    assert ran == [spec.name for spec in stages.STAGES]
    return folder


def test_every_promised_file_is_there_and_no_temporary_one(demo):
    config = presets.load("demo", fast=True, settings=TINY)
    assert all((demo / name).exists() for spec in stages.STAGES for name in spec.outputs(config))
    assert (demo / "report.html").is_file()
    assert not list(demo.rglob("*.tmp"))


def test_files_add_up_to_what_lies_in_the_folder(demo, home):
    counts = artifacts.read_json(demo / "run.json")["counts"]
    there = [path for path in (home / "data" / "demo-60").rglob("*") if path.is_file()]
    assert (
        counts["found"] == len(there) == counts["used"] + counts["quarantined"] + counts["ignored"]
    )
    assert counts["quarantined"] == len(artifacts.read_table(demo / "quarantine.csv")) > 5


def test_no_group_crosses_a_fold(demo):
    clips = artifacts.read_table(demo / "waveforms.csv")
    train = clips[clips["split"].eq("train")]
    assert train.groupby("group")["fold"].nunique().max() == 1
    assert train["fold"].nunique() > 1


def test_the_scores_are_those_of_the_predictions(demo):
    metrics = artifacts.read_json(demo / "metrics.json")
    table = artifacts.read_table(demo / "predictions.csv")
    assert metrics["accuracy"]["value"] == pytest.approx(
        accuracy_score(table["label"], table["predicted"]), abs=1e-5
    )
    expected = f1_score(table["label"], table["predicted"], average="macro", zero_division=0)
    assert metrics["macro_f1"]["value"] == pytest.approx(expected, abs=1e-5)
    assert metrics["accuracy"]["low"] <= metrics["accuracy"]["value"] <= metrics["accuracy"]["high"]
    classes = decisions.class_columns(table)
    assert np.allclose(table[classes].sum(axis=1), 1, atol=1e-4)


def test_the_submission_has_a_row_for_every_test_file_also_the_broken_one(demo, home):
    submission = pd.read_csv(demo / "submission.csv", dtype=str)
    names = sorted(path.name for path in (home / "data" / "demo-60" / "test").iterdir())
    assert list(submission) == ["filename", "label"] and sorted(submission["filename"]) == names
    assert len(artifacts.read_json(demo / "submission_check.json")["unheard"]) == 1


def test_in_the_time_it_wants_the_inference_notebook_submits_what_08_does(demo):
    test = hidden.begin(demo, minutes=10)
    asked = test.asked()
    submission = submit.build(asked, test.predict(asked))
    assert submission.equals(pd.read_csv(demo / "submission.csv", dtype=str))


def test_the_report_stands_alone(demo):
    page = (demo / "report.html").read_text(encoding="utf-8")
    assert "Smoke run" in page and "Synthetic data" in page and "still falling" not in page
    assert "http://" not in page and "https://" not in page and str(demo) not in page
    assert page.count("<audio") >= 10


def test_the_quickstart_shows_what_the_series_made(demo, tmp_path):
    """Its own call of the series finds all of it done; a link holds the file that it names."""
    source = artifacts.REPOSITORY / "notebooks" / "00_quickstart.ipynb"
    knobs = {"preset": "demo", "fast": True, "settings": TINY}
    quiet = {"progress_bar": False, "kernel_name": "python3"}
    notebook = papermill.execute_notebook(source, tmp_path / "00.ipynb", knobs, **quiet)
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    said = "".join(output.get("data", {}).get("text/plain", "") for output in shown)
    pages = "".join(output.get("data", {}).get("text/html", "") for output in shown)
    assert said.count("nothing changed") == len(stages.STAGES)
    assert "srcdoc=" in pages and "Smoke run" in pages and pages.count("<audio controls") >= 3
    links = re.findall(r'download="([^"]+)" href="data:[^,]+,([^"]+)"', pages)
    assert [name for name, _ in links] == ["report.html", "submission.csv"]
    assert base64.b64decode(links[1][1]) == (demo / "submission.csv").read_bytes()


def test_models_are_compared_with_the_best_on_the_same_recordings(demo):
    """As counted anew from the models' own answers: recordings that only one of the two gets
    right.
    """
    board = artifacts.read_table(demo / "leaderboard.csv").set_index("model")
    clips = artifacts.read_table(demo / "waveforms.csv").set_index("clip_id")
    right = {}
    for name in board.index:
        answers = artifacts.read_table(demo / "models" / name / "out_of_fold.csv").set_index(
            "clip_id"
        )
        means = answers.drop(columns="fold").groupby(clips["recording_id"]).mean()
        labels = clips.groupby("recording_id")["label"].first()[means.index]
        right[name] = means.idxmax(axis=1).eq(labels)
    best, tied = board.index[0], evaluate.ties(board)
    for name, row in board.iterrows():
        lost, won = (right[best] & ~right[name]).sum(), (right[name] & ~right[best]).sum()
        assert row["difference"] == pytest.approx((won - lost) / len(right[best]), abs=1e-4)
        assert row["difference_low"] <= row["difference"] <= min(row["difference_high"], 0)
        assert tied[name] == (row["difference_high"] >= 0)
    page, first = (
        (demo / "report.html").read_text(encoding="utf-8"),
        f">{best}{' =' * bool(tied[best])}</td>",
    )
    assert (
        "behind the best, points" in page
        and first in page
        and "-0.0" not in page
        and "(-0" not in page
    )


def test_a_hopeless_run_says_so_wherever_it_is_read(demo):
    """Trained for one epoch, the network is far below the models on the feature table."""
    board = artifacts.read_table(demo / "leaderboard.csv").set_index("model")
    best = board.index[0]
    assert best != "cnn" and board.loc["cnn", "difference_high"] < 0
    words = f"is clearly below {best}"
    for name in ("report.html", "notebooks/07_evaluate.ipynb", "notebooks/08_submit.ipynb"):
        text = (demo / name).read_text(encoding="utf-8")
        assert words in text and "caution red" in text, name
    lines = pipeline.summary(demo, [], 0).splitlines()
    red = next(number for number, line in enumerate(lines) if "CAUTION" in line)
    assert lines[red - 1].strip() == "Before you trust this" and words in lines[red]
    command = next(line for line in lines[red:] if "make run-all" in line)
    assert "PRESET=demo" in command and "FAST" not in command
    assert all(len(line) <= 100 for line in lines[red:] if "make run-all" not in line)


# --- what the pages say ------------------------------------------------------------------------


def test_a_flag_is_shown_where_it_occurs_and_announced_nowhere_else(demo):
    table = artifacts.read_table(demo / "recordings.csv")
    raised = set(" ".join(table.loc[table["status"].eq("ok"), "flags"]).split())
    shown = {
        flag for flag, meaning in recording.FLAGS.items() if meaning in page(demo, "01_explore")
    }
    assert shown == raised and {"CLIPPED", "DC_OFFSET"} <= raised


def test_pairs_stand_side_by_side_and_the_cleaning_is_shown_where_it_acts(demo):
    text = page(demo, "02_clean")
    pairs = len(artifacts.read_table(demo / "duplicates.csv"))
    assert (
        text.count("<div class='pair'") == min(pairs, 3) + 2
    )  # and two recordings with and without noise
    table = artifacts.read_table(demo / "recordings.csv")
    offset = table.loc[table["dc_offset"].abs().idxmax(), "path"]
    assert f"{offset}: DC removed" in text and "mean +0.300 → 0.000 of full scale" in text


def test_the_plan_that_is_heard_is_the_runs_own_and_it_says_who_learns_from_copies(demo):
    text = page(demo, "03_augment")
    assert (
        "pitch shift -2 semitones" in text
        and "pitch shift 2 semitones" in text
        and not re.search(r"reverb [\d-]", text)  # as a strength; the code that is shown names it
    )
    assert "train.augmented_copies is false" in text and "compare.augmented_copies is true" in text


def test_what_the_network_sees_goes_as_far_as_the_masks_and_the_mixes_differ(demo):
    text = page(demo, "05_train_cnn")
    assert len(re.findall(r"\d · masked<", text)) == len(re.findall(r"1 · clip<", text)) == 4
    assert len(set(re.findall(r"\d+% itself, \d+% \w+", text))) == 4


def test_no_page_speaks_of_what_this_run_does_not_have(demo):
    pages = {spec.name: page(demo, spec.name) for spec in stages.STAGES}
    assert not [name for name, text in pages.items() if "Not in this run" in text]
    assert "Labels judged anew" not in pages["01_explore"]
    assert (
        "**Thresholds.**" not in pages["05_train_cnn"] and "As images" not in pages["05_train_cnn"]
    )
    for text in (
        pages["05_train_cnn"],
        pages["07_evaluate"],
        (demo / "report.html").read_text(encoding="utf-8"),
    ):
        assert "alidation loss" not in text and "the last one is kept" in text


def test_the_quick_models_score_is_not_called_the_truth_and_a_doubt_is_a_rank(demo):
    for text in (page(demo, "07_evaluate"), (demo / "report.html").read_text(encoding="utf-8")):
        assert "which is not the network of 05" in text and "the truth is" not in text
        assert "doubt rank 1 of " in text and not re.search(r"doubt \d+ ?%", text)
        assert "not the chance that a label is wrong" in text
    header = pd.read_csv(demo / "relabel.csv").columns
    assert "doubt_rank" in header and not {"doubt", "suggested"} & set(header)


def test_a_cell_with_nothing_to_show_is_left_out_with_its_text(tmp_path):
    new = nbformat.v4
    html = {"absent": boards.absent("no <pairs>.").data, "shown": boards.board([]).data}
    cells = []
    for name, data in html.items():
        outputs = [
            new.new_output(
                "execute_result", {"text/html": data, "text/plain": "HTML"}, execution_count=1
            )
        ]
        cells += [
            new.new_markdown_cell(f"## {name}"),
            new.new_code_cell("x", outputs=outputs, execution_count=1),
        ]
    nbformat.write(
        new.new_notebook(cells=[*cells, new.new_code_cell("y = 1")]), tmp_path / "in.ipynb"
    )
    pipeline.tidy(tmp_path / "in.ipynb", tmp_path / "out.ipynb")
    kept = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    assert [cell.source for cell in kept] == ["## shown", "x", "y = 1"]


def test_nothing_runs_when_nothing_changed(demo, home):
    for path in (home / "data").rglob("*"):
        os.utime(path, (1, 1))
    started = time.monotonic()
    _, ran = pipeline.run_all(preset="demo", fast=True, settings=TINY)
    assert ran == [] and time.monotonic() - started < 15


def test_only_what_depends_on_a_training_setting_runs_again(demo):
    _, ran = pipeline.run_all(preset="demo", fast=True, settings=TINY + " train.weight_decay=0.03")
    assert ran == ["05_train_cnn", "06_compare_models", "07_evaluate", "08_submit"]


def test_the_certificate_is_proved_from_the_files_alone(demo, capsys):
    assert certificate.verify(demo) == []
    assert cli.main(["verify", "--run", demo.name]) == 0 and "0 of" in capsys.readouterr().out
    waveforms = demo / "waveforms.csv"
    sound, table = waveforms.read_bytes(), artifacts.read_table(waveforms)
    moved = table["fold"].first_valid_index()
    table.loc[moved, "fold"] = table.loc[moved, "fold"] % 3 + 1
    artifacts.write_table(waveforms, table)
    assert (
        cli.main(["verify", "--run", demo.name]) == 1
        and table["clip_id"][moved] in capsys.readouterr().err
    )
    waveforms.write_bytes(sound)


def test_only_an_edited_label_makes_the_labels_anew(demo, home):
    config, data = presets.load("demo", fast=True, settings=TINY), home / "data" / "demo-60"
    first, edited = stages.spec("01_explore"), demo / "relabel.csv"
    table = pd.read_csv(edited, dtype=str, keep_default_na=False)
    before = edited.read_bytes()
    table.to_csv(edited, index=False)
    assert len(table) and stages.why_stale(first, config, demo, data) is None
    table.loc[0, "new_label"] = table.loc[0, "compare_with"]
    table.to_csv(edited, index=False)
    assert stages.why_stale(first, config, demo, data) == "input relabel.csv changed"
    edited.write_bytes(before)


def test_a_damaged_output_is_made_again_and_the_rest_is_not(demo):
    table = demo / "metrics.json"
    sound = table.read_bytes()
    table.write_text("{}")
    _, ran = pipeline.run_all(preset="demo", fast=True, settings=TINY + " train.weight_decay=0.03")
    assert ran == ["07_evaluate"] and table.read_bytes() == sound


RESULTS = (
    *(
        "metrics.json",
        "leaderboard.csv",
        "leak_gap.json",
        "learning_curve.json",
        "balance.csv",
        "shortcuts.json",
        "suspects.csv",
    ),
    *(
        "predictions.csv",
        "recordings.csv",
        "split_certificate.json",
        "submission.csv",
        "submission_check.json",
    ),
)
DAMAGES = (
    lambda content: b"",
    lambda content: bytes(len(content)),
    lambda content: content[:-40],
    lambda _: b"{}",
)


def test_the_report_names_a_damaged_result_and_what_to_do(demo, capsys):
    for path in (demo / name for name in RESULTS):
        sound = path.read_bytes()
        for damage in DAMAGES:
            path.write_bytes(damage(sound))
            assert cli.main(["report", "--run", demo.name]) == 1
            said = capsys.readouterr().err
            assert (
                said.count("\n") == 1
                and f"{path} is damaged" in said
                and f"make run-all RUN={demo.name}" in said
            )
        path.write_bytes(sound)


def test_a_damaged_record_is_named_and_put_right_and_nothing_is_made_again(demo, capsys):
    record = demo / "run.json"
    sound = record.read_bytes()
    for damage in DAMAGES:
        record.write_bytes(damage(sound))
        assert cli.main(["report", "--run", demo.name]) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and f"{record} is damaged" in said
    options = ["--preset", "demo", "--fast", "--set", TINY + " train.weight_decay=0.03"]
    assert cli.main(["run-all", *options]) == 0
    said = capsys.readouterr().out
    assert f"{record} is damaged: put right from its copy" in said and "Nothing changed" in said
    assert record.read_bytes() == sound


def test_what_a_killed_runner_left_is_cleared_away_and_its_time_counts(demo):
    run, begun, dead = artifacts.read_json(demo / "run.json"), time.time() - 1000, 2**22 + 1
    key = run["stages"]["08_submit"]["key"]
    run["stages"]["08_submit"] = {"status": "running", "key": key, "begun": begun, "seconds": 5}
    artifacts.write_json(demo / "run.json", run)
    notebook = demo / "notebooks" / f".08_submit.ipynb.{dead}.ipynb"
    notebook.write_text("{}")
    os.utime(notebook, (begun + 300, begun + 300))
    (demo / "models" / f".cnn.{dead}.tmp").mkdir()
    _, ran = pipeline.run_all(preset="demo", fast=True, settings=TINY + " train.weight_decay=0.03")
    assert ran == ["08_submit"] and not list(demo.rglob(f"*{dead}*"))
    assert 305 < artifacts.read_json(demo / "run.json")["stages"]["08_submit"]["seconds"] < 700


def test_a_second_run_on_the_same_folder_is_refused(demo):
    with (
        pipeline.locked(demo),
        pytest.raises(errors.PipelineError, match="in use"),
        pipeline.locked(demo),
    ):
        pytest.fail("two runs hold the same folder")


def test_a_recording_is_classified_from_the_command_line(demo, home, tmp_path):
    recordings = artifacts.read_table(demo / "recordings.csv")
    path = home / "data" / "demo-60" / recordings.loc[recordings["status"].eq("ok"), "path"].iloc[0]
    command = [
        sys.executable,
        "-m",
        "helpers",
        "predict",
        str(path),
        "--run",
        demo.name,
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=artifacts.REPOSITORY)
    assert done.returncode == 0 and "%" in done.stdout, done.stderr
    endings = ("events.csv", "labels.txt", "selections.txt", "windows.csv")
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        f"{path.stem}.{ending}" for ending in endings
    ]


def test_08_shows_a_recording_that_no_network_learned_from(demo):
    said = r"^(.+): a test recording, whose label no network has learned"
    path = re.search(said, page(demo, "08_submit"), re.MULTILINE)[1]
    recordings = artifacts.read_table(demo / "recordings.csv").set_index("path")
    assert recordings.loc[path, "split"] == "test"


def test_a_notebooks_metadata_keeps_no_path_of_this_machine(demo):
    for path in (demo / "notebooks").glob("*.ipynb"):
        papermill = json.loads(path.read_text(encoding="utf-8"))["metadata"]["papermill"]
        assert "input_path" not in papermill and "output_path" not in papermill


def test_settings_that_an_earlier_notebook_did_not_have_are_refused(demo):
    settings = presets.load(settings=TINY + " features.n_mels=40", fast=True)
    with pytest.raises(
        errors.StageError, match=r"04_features was run with features.n_mels=64, but here it is 40"
    ):
        stages.begin("05_train_cnn", settings)
