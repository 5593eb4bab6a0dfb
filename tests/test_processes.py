"""Several processes that train a network together: they share every batch, agree, and end with one
network.
"""

import contextlib
import io
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tables import small_config, tone_clips

from helpers.base import artifacts, errors, work
from helpers.compare import inference
from helpers.training import processes, train

LABELS = ["high", "low"]
WATCHED = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from helpers.run import cli
from helpers.training import fit, optimise, processes

def seconds(network, x, kind):  # the first process finds bfloat16 the faster one, the other float32
    return 1.0 if (kind is None) == (processes.place()[0] > 0) else 2.0

optimise.pass_seconds = seconds
folder, made, fitted = Path(sys.argv[1]), [], fit.fit

def watched(model, *arguments, **more):
    history = fitted(model, *arguments, **more)
    rank, count = processes.place()
    made.append(rank)
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / f"rank{rank}of{count}-{len(made)}.safetensors")
    return history

fit.fit = watched
sys.exit(cli.main(sys.argv[2:]))
"""


FAULTS = """
import resource
import numpy as np
from helpers.base import work

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(16 << 20, np.uint8), np.ones(24 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
work.keep_memory()
faults()
print(before, faults())
"""


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    """The folder of a run of two tones, and of a test set of the same, that stages 01 to 04 are
    done for.
    """
    monkeypatch.setenv("EARSHOT_HOME", str(tmp_path))
    folder = tmp_path / "outputs" / "tiny"
    folder.mkdir(parents=True)
    packed, rows = tone_clips()
    test = rows.assign(
        split="test",
        label="",
        fold=pd.NA,
        clip_id="t-" + rows["clip_id"],
        group="t-" + rows["group"],
    )
    np.save(folder / "waveforms.npy", np.concatenate([packed, packed]))
    artifacts.write_table(folder / "waveforms.csv", pd.concat([rows, test], ignore_index=True))
    return folder


def accuracy(table, folder):
    rows = artifacts.read_table(folder / "waveforms.csv").set_index("clip_id")
    return (
        table[LABELS].idxmax(axis=1).to_numpy() == rows["label"][table["clip_id"]].to_numpy()
    ).mean()


def test_two_processes_train_one_network_as_well_as_one_process(run_folder, tmp_path, monkeypatch):
    """Through torchrun, with gloo; the module that is started notes the weights that each process
    ends with.
    """
    (tmp_path / "watched.py").write_text(WATCHED)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(artifacts.REPOSITORY)]))
    start = processes.start
    monkeypatch.setattr(
        processes,
        "start",
        lambda count, module, command, *options: start(
            count, "watched", str(tmp_path), command, *options
        ),
    )
    settings = {"epochs": 20, "batch_size": 16, "masks": 0, "ema": 0.5, "pseudo_labels": 0.7}
    together, history = train.run(
        run_folder, small_config(train={**settings, "processes": 2, "precision": "auto"})
    )
    cards = [artifacts.read_json(path) for path in run_folder.glob("models/cnn/fold*/card.json")]
    assert [card["config"]["train"]["precision"] for card in cards] == ["bf16"] * 3
    assert len(inference.Bundle(run_folder).models) == 3
    alone, expected = train.cross_validate(
        np.load(run_folder / "waveforms.npy"),
        artifacts.read_table(run_folder / "waveforms.csv"),
        small_config(train=settings),
        tmp_path / "alone",
    )
    assert accuracy(alone, run_folder) > 0.9 and accuracy(together, run_folder) > 0.9
    assert together["clip_id"].tolist() == alone["clip_id"].tolist()
    assert (
        {record["fold"] for record in history}
        == {record["fold"] for record in expected}
        == {1, 2, 3}
    )
    for number in range(1, 7):  # a teacher and the one that it teaches, in each of three rounds
        first, second = (
            load_file(tmp_path / f"rank{rank}of2-{number}.safetensors") for rank in (0, 1)
        )
        assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_what_two_processes_were_stopped_at_goes_on_to_the_same_weights(run_folder):
    settings = {"epochs": 3, "batch_size": 16, "ema": 0.5, "processes": 2, "threads": 1}
    train.run(run_folder, small_config(train=settings))
    whole = {
        path.parent.name: load_file(path)
        for path in run_folder.glob("models/cnn/fold*/*.safetensors")
    }
    train.run(run_folder, small_config(train={**settings, "max_minutes": 1e-6}))
    assert set(train.ended(run_folder / "models" / "cnn").values()) == {"time"}
    train.run(run_folder, small_config(train=settings))
    assert (
        set(train.ended(run_folder / "models" / "cnn").values()) == {"epochs"} and len(whole) == 3
    )
    for fold, weights in whole.items():
        [path] = run_folder.glob(f"models/cnn/{fold}/*.safetensors")
        assert all(torch.equal(value, weights[name]) for name, value in load_file(path).items())


def test_alone_a_process_is_the_first_of_one_and_agrees_with_itself():
    value = {"weights": torch.ones(2)}
    assert processes.place() == (0, 1) and processes.is_first() and processes.agreed(value) is value


@pytest.mark.parametrize("size", [None, "1"])
def test_alone_no_process_looks_for_others(monkeypatch, size):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if size:
        monkeypatch.setenv("WORLD_SIZE", size)
    with processes.together():
        assert not torch.distributed.is_initialized() and processes.place() == (0, 1)


def test_without_a_gpu_a_process_computes_on_the_cpu_and_with_some_on_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert processes.device() == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert processes.device() == "cuda:3"
    monkeypatch.delenv("LOCAL_RANK")
    assert processes.device() == "cuda:0"


@pytest.fixture
def started(monkeypatch):
    """What would be started, a list of (command, options), and what it would answer."""
    calls, answer = [], SimpleNamespace(returncode=0, stderr=io.BytesIO())

    @contextlib.contextmanager
    def popen(command, **options):
        calls.append((command, options))
        yield answer

    monkeypatch.setattr(subprocess, "Popen", popen)
    return calls, answer


def test_processes_are_started_by_torchrun_and_find_the_same_home(started, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EARSHOT_HOME", "here")  # relative to a folder in which they do not begin
    processes.start(3, "helpers.training.train", "--run", "tiny")
    [(command, options)] = started[0]
    assert command[:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert command[command.index("--nproc-per-node") + 1] == "3"
    assert command[-5:] == ["-m", "--", "helpers.training.train", "--run", "tiny"]
    assert options["cwd"] == artifacts.REPOSITORY and options["env"]["EARSHOT_HOME"] == str(
        tmp_path / "here"
    )


def test_a_process_that_fails_is_an_error_with_its_last_words_and_all_were_shown(started, capsys):
    said = "x" * 5000 + "RuntimeError: no memory"
    started[1].returncode, started[1].stderr = 1, io.BytesIO(said.encode())
    with pytest.raises(errors.TrainingError, match="no memory") as error:
        processes.start(2, "helpers.training.train")
    assert len(str(error.value)) < 2500 and capsys.readouterr().err == said


def test_a_run_in_several_processes_hands_them_its_whole_configuration(run_folder, monkeypatch):
    config, seen = small_config(train={"processes": 2, "epochs": 1}), []

    def runs(count, module, command, *options):
        named = dict(zip(options[::2], options[1::2], strict=True))
        seen.append((count, module, artifacts.read_json(Path(named["--config"])), named["--run"]))
        train.run(run_folder, small_config(train={"epochs": 1}))

    monkeypatch.setattr(processes, "start", runs)
    with work.cpu_threads(1):
        table, history = train.run(run_folder, config)
    assert seen == [(2, "helpers.training.train", config.model_dump(mode="json"), "tiny")]
    assert len(table) == 24 and len(history) == 3


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do as they like")
def test_memory_that_is_kept_is_not_asked_for_again():
    said = subprocess.run(
        [sys.executable, "-c", FAULTS],
        cwd=artifacts.REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    before, after = map(int, said.split())
    assert before > 1000 > 20 * after
