"""The benchmark compares equal work: both ways give the same clips, growth is a slope, memory is
the private part.
"""

import functools
import json
import mmap
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from signals import noise, tone
from tables import small_config

from benchmarks import bench, growth, harness, limits, ours, plain
from helpers.data import sources


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Eight short recordings of two classes at 22.05 kHz, and an empty folder."""
    root, scratch = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("scratch")
    for number in range(8):
        label = ("high", "low")[number % 2]
        sound = tone((2000, 400)[number % 2], 0.6, 22050, 0.3) + noise(
            0.6, 22050, 0.02, seed=number
        )
        path = root / label / f"{number}.{('wav', 'ogg', 'flac', 'wav')[number // 2]}"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.concatenate([np.zeros(11025, np.float32), sound]), 22050)
    config = small_config(data={"root": str(root)}, features={"image_size": 32})
    recordings = ours.usable(root, sources.find(root, config.data), config, 8)
    return bench.Work(recordings, root, config, scratch, repeats=1)


@pytest.fixture(scope="module")
def made(work):
    return plain.prepare(work, work.config)


def test_all_recordings_are_measured_on_or_as_many_as_were_asked_for(work):
    assert sorted(work.recordings["label"]) == ["high"] * 4 + ["low"] * 4
    found = sources.find(work.root, work.config.data)
    assert len(ours.usable(work.root, found, work.config, 3)) == 3


def test_both_ways_of_preparing_give_the_same_clips_and_pictures(work, made):
    packed, rows = work.prepared
    assert set(rows["clip_id"]) == set(made)
    found = bench.agreement(made, packed, rows, work.config)
    assert found["same"] and found["clips_compared"] == len(rows)
    assert len(list(work.scratch.rglob("*.png"))) == 2 * len(rows)


@pytest.mark.parametrize("damage", ["shifted", "missing", "louder"])
def test_outputs_that_differ_are_noticed(work, made, damage):
    packed, rows = work.prepared
    if damage == "shifted":
        packed = np.roll(packed, 40, axis=1)
    elif damage == "louder":
        packed = np.round(packed * 0.5).astype(np.int16)
    kept = dict(list(made.items())[: len(made) // 2]) if damage == "missing" else made
    assert not bench.agreement(kept, packed, rows, work.config)["same"]


def test_both_ways_of_scoring_give_the_same_probabilities(work):
    loaded = ours.bundle(
        *work.prepared, bench.with_train(work.config, views=1), work.fresh(), epochs=60
    )
    paths = list(work.paths.values())
    theirs = plain.score(paths, loaded.models[0], work.config)
    assert np.ptp(theirs, axis=0).min() > 0.1  # files differ, so agreement says something
    np.testing.assert_allclose(ours.score(loaded, paths), theirs, atol=1e-3)
    np.testing.assert_allclose(loaded.predict_files(paths, 3)[loaded.labels], theirs, atol=1e-3)
    alone = loaded.predict_file(paths[0])[loaded.labels].to_numpy()
    np.testing.assert_allclose(ours.score(loaded, paths[:1])[0], alone, atol=1e-6)


def test_the_plain_loop_learns_the_same_network_from_what_it_sees(work):
    packed, rows = work.prepared
    model = ours.network(packed, rows, work.config)
    loader = bench.plain_loader(model, packed, rows, work.config, work.fresh())
    seen = torch.cat([loader.dataset[number][0] for number in range(len(rows))])
    with torch.no_grad():
        expected = model.features(torch.from_numpy(packed / np.float32(32768)))[:, 0]
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-3)
    optimiser = torch.optim.AdamW(model.network.parameters(), 0.01)
    losses = [plain.epoch(model.network, loader, optimiser) for _ in range(12)]
    assert losses[-1] < 0.5 * losses[0]


def test_a_ratio_is_the_slower_over_the_faster_and_results_are_handed_back():
    slow, fast = functools.partial(sum, range(400_000)), functools.partial(sum, range(4_000))
    record, one, other = harness.side_by_side(slow, fast, clips=4, repeats=3)
    assert (one, other) == (sum(range(400_000)), sum(range(4_000)))
    assert record["ratio"] > 10 and record["ratio_of_single_turns"][0] <= record["ratio"]
    assert record["ratio"] == pytest.approx(
        record["plain_ms_per_clip"] / record["ours_ms_per_clip"]
    )
    assert record["plain_clips_per_second"] == pytest.approx(1000 / record["plain_ms_per_clip"])


def test_the_plain_way_is_timed_in_a_process_of_its_own_and_the_other_in_this_one():
    _, one, other = harness.side_by_side(os.getpid, os.getpid, clips=1, repeats=2)
    assert one != os.getpid() == other
    _, one, other = harness.side_by_side(os.getpid, os.getpid, clips=1, repeats=2, alone=False)
    assert one == os.getpid() == other


def test_growth_is_the_slope_of_time_over_size():
    sizes = np.array([1, 2, 4, 8, 16])
    table = pd.DataFrame(
        {
            "size": sizes,
            "rows": 10 * sizes,
            "seconds": 0.3 * sizes**1.5,
            "peak": 1e6 + 100.0 * sizes,
        }
    )
    found = growth.growth_of(table.sample(frac=1, random_state=0))
    assert found["exponent"] == pytest.approx(1.5)
    assert found["bytes_per_row"] == pytest.approx(10)
    assert found["memory_ratio"] == pytest.approx((1e6 + 1600) / (1e6 + 100))


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
def test_what_is_allocated_counts_and_what_a_file_backs_does_not(tmp_path):
    np.zeros(40 << 20, np.uint8).tofile(tmp_path / "large")
    mapped = np.memmap(tmp_path / "large", mode="r")
    with growth.Watch() as reading:
        assert int(mapped.sum()) == 0
    with growth.Watch() as filling:
        pages = mmap.mmap(-1, 40 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        np.frombuffer(pages, np.uint8)[:] = 1  # fresh pages: malloc may give out what it kept
    assert pages[-1] == 1  # held until the block ends: the watch looks at moments
    assert reading.peak - reading.before < 20 << 20 < filling.peak - filling.before < 80 << 20


def test_a_stage_in_a_process_of_its_own_says_what_it_took(work, monkeypatch):
    folder = work.fresh()
    growth.spread(work, 2, folder)
    record = growth.started_anew("survey", folder)
    assert (record["stage"], record["rows"]) == ("survey", 16)
    assert record["seconds"] > 0 and record["peak"] >= record["before"]
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(RuntimeError, match="features failed"):
        growth.started_anew("features", folder)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
def test_a_cap_on_private_memory_holds_and_more_data_than_it_is_no_reason_to_fail():
    said = """
import numpy as np
from benchmarks import growth
growth.refuse_more_than(growth.private_bytes() + (64 << 20))
mapped = np.lib.format.open_memmap(PATH, mode="w+", dtype=np.int8, shape=(256 << 20,))
mapped[:: 1 << 12] = 1
try:
    np.ones(100 << 20, np.uint8)
except MemoryError:
    print("refused", int(mapped[:: 1 << 12].sum(dtype=int)))
"""
    with tempfile.TemporaryDirectory() as folder:
        code = said.replace("PATH", repr(str(Path(folder, "large.npy"))))
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=growth.REPOSITORY, capture_output=True, text=True
        )
    assert done.stdout.split() == ["refused", str(256 << 8)], done.stderr


def test_arithmetic_is_counted_as_multiplications_and_additions():
    assert limits.gflop(torch.nn.Linear(1000, 500), 1000) == pytest.approx(2 * 1000 * 500 / 1e9)


def test_a_run_writes_what_it_says(work, tmp_path):
    said = []
    results = bench.run(work, ["prepare"], [1], tmp_path, say=said.append)
    written = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    table = pd.read_csv(tmp_path / "bench.csv")
    assert (
        written["prepare_ratio"]
        == results["prepare_ratio"]
        == pytest.approx(table["ratio"][0], abs=0.001)
    )
    assert written["details"]["prepare"]["agreement"]["same"] is True
    assert (tmp_path / "bench.png").stat().st_size > 10_000
    assert len(said) == 1 and said[0].startswith("prepare: ") and "same outputs" in said[0]
