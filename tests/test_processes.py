"""Several processes that train: each whole folds, as one process would; or together one network."""

import os
import platform
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tables import small_config, tone_clips

from helpers.base import artifacts, errors
from helpers.compare import inference
from helpers.rounds import train
from helpers.training import processes

LABELS = ["high", "low"]
WATCHED = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from helpers.rounds import machine
from helpers.run import cli
from helpers.training import fit, processes

def seconds(network, x, kind):  # the first process finds bfloat16 the faster one, the other float32
    return 1.0 if (kind is None) == (processes.place()[0] > 0) else 2.0

machine.pass_seconds = seconds
folder, made, fitted = Path(sys.argv[1]), [], fit.fit

def watched(model, *arguments, **more):
    history = fitted(model, *arguments, **more)
    rank, count = processes.place()
    made.append(rank)
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / f"rank{rank}of{count}-{len(made)}.safetensors")
    return history

fit.fit = watched
sys.exit(cli.main(["train", *sys.argv[2:]]))
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
    """The folder of a run of two tones, and a test set of the same, done up to stage 04."""
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
    truth = rows["label"][table["clip_id"]].to_numpy()
    return (table[LABELS].idxmax(axis=1).to_numpy() == truth).mean()


def weights(run_folder):
    """The weights of a run's networks, by fold."""
    paths = run_folder.glob("models/cnn/fold*/*.safetensors")
    return {path.parent.name: load_file(path) for path in paths}


def assert_same(one, other):
    assert one.keys() == other.keys() and len(one) == 3
    for fold, tensors in one.items():
        assert all(torch.equal(value, other[fold][name]) for name, value in tensors.items())


# --- each whole folds


def test_processes_that_take_whole_folds_make_what_one_process_makes(run_folder):
    settings = {"epochs": 2, "ema": 0.5, "seeds": 2, "threads": 1}
    expected, history = train.run(run_folder, small_config(train=settings))
    alone = weights(run_folder)
    config = small_config(train={**settings, "processes": 2})
    table, again = train.run(run_folder, config)
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
    for one, other in zip(history, again, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    several = weights(run_folder)
    for fold, tensors in alone.items():
        assert all(torch.equal(value, several[fold][name]) for name, value in tensors.items())
    assert len(inference.Bundle(run_folder).models) == len(several) == 6


def test_what_whole_folds_were_stopped_at_goes_on_to_the_same_weights(run_folder):
    settings = {"epochs": 3, "ema": 0.5, "processes": 3, "threads": 1}
    train.run(run_folder, small_config(train=settings))
    whole = weights(run_folder)
    train.run(run_folder, small_config(train={**settings, "max_minutes": 1e-6}))
    assert set(train.ended(run_folder / "models" / "cnn").values()) == {"time"}
    train.run(run_folder, small_config(train=settings))
    assert set(train.ended(run_folder / "models" / "cnn").values()) == {"epochs"}
    assert_same(weights(run_folder), whole)


def kept_or_ended(number, share):
    """What a process does with its share; the second one is killed."""
    if number == 1:
        os.kill(os.getpid(), 9)
    return number, share


def numbered(number, share):
    return number, share, os.getpid()


def test_the_first_share_is_this_processs_own_and_all_come_back_in_order():
    found = processes.side_by_side(numbered, ["a", "b", "c"])
    assert [(number, share) for number, share, _ in found] == [(0, "a"), (1, "b"), (2, "c")]
    assert found[0][2] == os.getpid() and os.getpid() not in (found[1][2], found[2][2])
    assert processes.side_by_side(numbered, ["a"]) == [(0, "a", os.getpid())]


def test_a_process_that_is_killed_is_an_error_that_says_what_to_do():
    with pytest.raises(errors.TrainingError, match=r"One of 2 processes .*train\.processes lower"):
        processes.side_by_side(kept_or_ended, ["a", "b"])


def test_each_process_has_a_gpu_of_its_own_as_far_as_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert processes.device() == processes.device(1) == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert [processes.device(number) for number in (0, 1, 5)] == ["cuda:0", "cuda:1", "cuda:1"]
    monkeypatch.setenv("LOCAL_RANK", "3")  # as torchrun says
    assert processes.device() == "cuda:3"


# --- all one network together


def torchrun(*command):
    """Two processes that train a network together; from the repository, as `make train` does."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*start, "-m", "--", *command], cwd=artifacts.REPOSITORY, check=True)


def options(tmp_path, **settings):
    """The command line of a tiny run."""
    config = small_config(train=settings).model_dump(mode="json")
    artifacts.write_json(tmp_path / "config.json", config)
    return "--config", str(tmp_path / "config.json"), "--run", "tiny"


def test_two_processes_train_one_network_as_well_as_one_process(run_folder, tmp_path, monkeypatch):
    """Through torchrun, with gloo; what is started notes the weights of each process."""
    (tmp_path / "watched.py").write_text(WATCHED)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(artifacts.REPOSITORY)]))
    settings = {"epochs": 20, "batch_size": 16, "masks": 0, "ema": 0.5, "pseudo_labels": 0.7}
    torchrun("watched", str(tmp_path), *options(tmp_path, **settings, precision="auto"))
    cards = [artifacts.read_json(path) for path in run_folder.glob("models/cnn/fold*/card.json")]
    assert [card["config"]["train"]["precision"] for card in cards] == ["bf16"] * 3
    assert len(inference.Bundle(run_folder).models) == 3
    together = artifacts.read_table(run_folder / "models" / "cnn" / "out_of_fold.csv")
    history = artifacts.read_json(run_folder / "history.json")
    alone, expected = train.cross_validate(
        np.load(run_folder / "waveforms.npy"),
        artifacts.read_table(run_folder / "waveforms.csv"),
        small_config(train=settings),
        tmp_path / "alone",
    )
    assert accuracy(alone, run_folder) > 0.9 and accuracy(together, run_folder) > 0.9
    assert together["clip_id"].tolist() == alone["clip_id"].tolist()
    assert {one["fold"] for one in history} == {one["fold"] for one in expected} == {1, 2, 3}
    for number in range(1, 7):  # a teacher and the one that it teaches, in each of three rounds
        names = [tmp_path / f"rank{rank}of2-{number}.safetensors" for rank in (0, 1)]
        first, second = (load_file(name) for name in names)
        assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_what_two_processes_were_stopped_at_goes_on_to_the_same_weights(run_folder, tmp_path):
    settings = {"epochs": 3, "batch_size": 16, "ema": 0.5, "threads": 1}
    for limit, reason in ((None, "epochs"), (1e-6, "time"), (None, "epochs")):
        artifacts.write_json(run_folder / "run.json", {})
        torchrun("helpers", "train", *options(tmp_path, **settings, max_minutes=limit))
        reasons = train.ended(run_folder / "models" / "cnn").values()
        assert set(reasons) == {reason}
        if limit is None and not (tmp_path / "whole").exists():
            whole = weights(run_folder)
            (tmp_path / "whole").mkdir()
            for path in run_folder.glob("checkpoints/*"):
                path.unlink()
    assert_same(weights(run_folder), whole)


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


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_first_process_writes_a_folder(tmp_path, monkeypatch, rank):
    monkeypatch.setattr(processes, "place", lambda: (rank, 2))
    with processes.replacing(tmp_path / "models") as temporary:
        (temporary / "weights").write_text("weights")
    assert (tmp_path / "models" / "weights").is_file() == (rank == 0)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do as they like")
def test_memory_that_is_kept_is_not_asked_for_again():
    printed = subprocess.run(
        [sys.executable, "-c", FAULTS],
        cwd=artifacts.REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    before, after = map(int, printed.split())
    assert before > 1000 > 20 * after
