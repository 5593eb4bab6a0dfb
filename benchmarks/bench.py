"""How fast is Earshot, beside the plain per-file way, on this machine and in this run?

``make bench`` (or ``python -m benchmarks.bench``) makes a small demo set; ``DATA=path/to/ESC-10``
takes recordings. Both sides do the same work and take turns; the medians are compared, and what
came out of them as well. Beside each stands what the machine could do at best. Writes bench.json,
bench.csv, growth.csv and bench.png to outputs/bench.
"""

import argparse
import copy
import functools
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch

from benchmarks import figure, growth, limits, ours, plain
from benchmarks.harness import Work, cores, side_by_side, timed
from helpers.audio import decoder, features, recording
from helpers.base import artifacts
from helpers.data import folders, sources
from helpers.run import presets

TARGETS = {
    "prepare": 10,
    "prepare_denoise": 4,
    "score_files": 5,
    "train_epoch": 3,
}  # so many times as fast
STEPS = 2  # waveforms of both ways may differ by so many steps of 16 bits
MEDIAN_DB, MOST_DB = (
    0.05,
    0.5,
)  # and log-mels by so much: the median, and 95 % of what a picture shows
PARTS = ("prepare", "prepare_denoise", "score_files", "train_epoch", "growth", "large", "gpu")
SCORES = 0.02  # of the spread of probabilities, by which both ways may differ
SAME_FILES = 0.95  # of the files may not differ more
# that a network is trained before it scores: an untrained one says the same of every file
EPOCHS = 5
BATCHES = 10  # of an epoch that is timed
NOTHING_ALTERED = {
    "shift": 0.0,
    "speed": 0.0,
    "gain_db": 0.0,
    "masks": 0,
    "mixup_alpha": 0.0,
    "mix": "none",
}
DEMO = "data.demo_train={count} data.demo_test=10"


# --- the comparisons ---------------------------------------------------------------------------


def prepare(work, denoise=False):
    """Decode, trim, normalise, cut, log-mel, picture: file by file, and as 02 and 04 do it."""
    config = work.config.but("clean.denoise", denoise)
    record, made, (packed, rows) = side_by_side(
        functools.partial(plain.prepare, work, config),
        lambda: ours.prepare(work.recordings, work.root, work.fresh(), config),
        len(work.recordings),
        work.repeats,
    )
    record["agreement"] = agreement(made, packed, rows, config)
    moved = sum(path.stat().st_size for path in work.paths.values()) + 3 * packed.nbytes
    decoding = timed(lambda: [decoder.decode(path) for path in work.paths.values()])[0]
    record["limit"] = {
        "bytes_per_clip": moved / len(rows),
        "decoding_ms_per_clip": 1000 * decoding / len(rows),
        "limit_ms_per_clip": 1000
        * (moved / len(rows) / limits.copy_bytes() + decoding / len(rows) / cores()),
        "why": "The codec's serial bit reading on all cores is the floor; above it lie "
        "resampling, FLAC, LogMel, PNG.",
    }
    return record


def agreement(made, packed, rows, config):
    """How far both ways' clips lie apart: waveforms, and log-mels over what a picture shows,
    RANGE_DB of each clip.
    """
    seen = rows[rows["clip_id"].isin(made)]
    found = features.unpack(packed[seen.index.to_numpy()])
    waves = [
        np.abs(mine - made[name][0]).max()
        for mine, name in zip(found, seen["clip_id"], strict=True)
    ]
    mels = features.log_mel(config)(torch.from_numpy(found)).numpy()
    pairs = [(mine, made[name][1]) for mine, name in zip(mels, seen["clip_id"], strict=True)]
    apart = np.concatenate(
        [np.abs(mine - two)[two > two.max() - features.RANGE_DB] for mine, two in pairs]
    )
    found = {
        "clips_compared": len(seen),
        "clips_of_one_way_only": len(set(made) ^ set(rows["clip_id"])),
        "waveforms_median_steps": float(np.median(waves)) * recording.STEPS,
        "waveforms_largest_steps": float(np.max(waves)) * recording.STEPS,
        "log_mel_median_db": float(np.median(apart)),
        "log_mel_95_percent_db": float(np.percentile(apart, 95)),
        "log_mel_largest_db": float(apart.max()),
        "tolerance": f"waveforms {STEPS} steps of 16 bits at the median clip's worst sample, "
        f"log-mel median {MEDIAN_DB} dB and 95 % {MOST_DB} dB, 95 % of the clips in both",
    }
    within = found["log_mel_median_db"] <= MEDIAN_DB and found["log_mel_95_percent_db"] <= MOST_DB
    within = within and found["waveforms_median_steps"] <= STEPS
    return found | {"same": bool(within and found["clips_of_one_way_only"] <= 0.05 * len(rows))}


def score_files(work):
    """New files to class probabilities with one network, whole and once: file by file, and by the
    bundle.
    """
    config = with_train(work.config, views=1)
    loaded = ours.bundle(*work.prepared, config, work.fresh(), EPOCHS)
    paths = list(work.paths.values())
    record, theirs, found = side_by_side(
        functools.partial(plain.score, paths, loaded.models[0], config),
        lambda: ours.score(loaded, paths),
        len(paths),
        work.repeats,
    )
    record["note"] = (
        "one network and one view of each clip on both sides, however many the config asks for"
    )
    apart = np.abs(theirs - found).max(axis=1)
    spread = float(np.ptp(theirs, axis=0).max())
    within = float((apart <= SCORES * spread).mean())
    record["agreement"] = {
        "largest_difference": float(apart.max()),
        "largest_between_files": spread,
        "files_within_tolerance": within,
        "tolerance": f"{SCORES:.0%} of what a class's probability differs by between files, for "
        f"{SAME_FILES:.0%} of the files: where a frame lies on the edge of silence the ways differ",
        "same": within >= SAME_FILES,
    }
    gflop = limits.gflop(loaded.models[0], work.prepared[0].shape[1])
    decoding = timed(lambda: [recording.load(path, config.audio.sample_rate) for path in paths])[
        0
    ] / len(paths)
    record["limit"] = {
        "gflop_per_clip": gflop,
        "decoding_ms_per_clip": 1000 * decoding,
        "limit_ms_per_clip": 1000 * (gflop / limits.gflop_per_second() + decoding / cores()),
        "why": "Decoding and resampling on all cores, then the network's arithmetic at the speed "
        "of a matrix product.",
    }
    return record


def train_epoch(work):
    """An epoch of the same network on whole clips: spectrograms from a file per clip, and our
    trainer from waveforms.

    The ratio is that of equal work. As configured a step may see a part of each clip (train.crop):
    less work, so its ratio stands apart and meets no target.
    """
    (packed, rows), config = work.prepared, with_train(work.config, crop=1.0)
    rows = rows.loc[
        np.resize(rows.index, BATCHES * config.train.batch_size)
    ]  # whole batches: ours fills up the last
    trainer = ours.trainer(packed, rows, config)
    network = copy.deepcopy(trainer.model.network).to(memory_format=torch.contiguous_format)
    loader = plain_loader(trainer.model, packed, rows, config, work.fresh())
    optimiser = torch.optim.AdamW(network.parameters(), config.train.learning_rate)

    def beside_plain(training):
        epoch = functools.partial(plain.epoch, network, loader, optimiser)
        return side_by_side(epoch, training.epoch, len(rows), work.repeats)[0]

    record = beside_plain(trainer)
    others = {
        "without_alterations": with_train(config, **NOTHING_ALTERED),
        "as_configured": work.config,
    }
    others = {
        name: beside_plain(ours.trainer(packed, rows, other))["ratio"]
        for name, other in others.items()
    }
    whole, front = (
        limits.gflop(part, packed.shape[1]) for part in (trainer.model, trainer.model.front_end)
    )
    gflop = (
        3 * (whole - front) + front
    )  # the network forward, and twice as much backward; the front end forward
    return record | {
        "note": "ours starts from waveforms and alters and mixes them; the plain loop reads "
        "finished spectrograms",
        **{f"ratio_{name}": ratio for name, ratio in others.items()},
        "crop_as_configured": work.config.train.crop,
        "limit": {
            "gflop_per_clip": gflop,
            "limit_ms_per_clip": 1000 * gflop / limits.gflop_per_second(),
            "why": "Convolutions of few channels, BatchNorm and pooling wait for memory, a "
            "matrix product does not.",
        },
    }


def plain_loader(model, packed, rows, config, folder):
    """A DataLoader over a .npy file per clip of what the network sees, in its usual layout."""
    folder.mkdir(parents=True)
    names, paths = ours.labels(rows, config), []
    with torch.no_grad():
        for number, index in enumerate(rows.index):
            bands = model.features(torch.from_numpy(features.unpack(packed[index])[None]))[0, 0]
            paths.append(folder / f"{number}.npy")
            np.save(paths[-1], np.ascontiguousarray(bands.numpy()))
    stored = plain.Spectrograms(paths, [names.index(label) for label in rows["label"]])
    return torch.utils.data.DataLoader(
        stored, min(config.train.batch_size, len(rows)), shuffle=True
    )


def with_train(config, **changes):
    """The same config with other settings of training."""
    return config.but("train", {**dict(config.train), **changes})


def gpu_step(work):
    """On a GPU: an epoch with every step as one CUDA graph, beside the eager one; and how long the
    GPU computes.
    """
    packed, rows = work.prepared
    rows, trainers = rows.loc[np.resize(rows.index, 20 * work.config.train.batch_size)], {}
    for name, capture in (("plain", False), ("ours", True)):
        config = with_train(work.config, capture=capture)
        trainers[name] = ours.trainer(packed, rows, config, "cuda")
    record, _, _ = side_by_side(
        trainers["plain"].epoch, trainers["ours"].epoch, len(rows), work.repeats, alone=False
    )
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        wall, _, _ = timed(trainers["ours"].epoch)
    busy = sum(event.self_device_time_total for event in seen.key_averages()) / 1e6
    return record | {"gpu_works_share": busy / wall, "gpu": torch.cuda.get_device_name()}


MEASURED = {
    "prepare": prepare,
    "prepare_denoise": functools.partial(prepare, denoise=True),
    "score_files": score_files,
    "train_epoch": train_epoch,
}


# --- the run -----------------------------------------------------------------------------------


def machine():
    """What was measured on, how busy it was, and what it can do at best."""
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cores": cores(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "gflop_per_second": limits.gflop_per_second(),
        "copy_gigabytes_per_second": limits.copy_bytes() / 1e9,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def run(work, parts, sizes, folder, everything=False, say=print):
    """Measure the parts that are asked for and write the results to `folder`; returns them.

    Args: work; parts some of PARTS; sizes of growth; folder; everything: train and score on all of
        `large`; say is called with a line per result.
    """
    config = work.config.model_dump(
        mode="json", include={"preset", "audio", "clean", "features", "model", "train"}
    )
    results = {
        "machine": machine(),
        "recordings": len(work.recordings),
        "config": config,
        "details": {},
    }
    for name in [name for name in MEASURED if name in parts]:
        record = MEASURED[name](work)
        record |= {"target": TARGETS[name], "met": record["ratio"] >= TARGETS[name]}
        record["limit"]["times_the_limit"] = (
            record["ours_ms_per_clip"] / record["limit"]["limit_ms_per_clip"]
        )
        results[f"{name}_ratio"], results["details"][name] = round(record["ratio"], 3), record
        say(sentence(name, record))
    if "gpu" in parts and torch.cuda.is_available():
        record = gpu_step(work)
        results["gpu_step_ratio"], results["details"]["gpu_step"] = (
            round(record["ratio"], 3),
            record,
        )
    if "growth" in parts:
        results["growth"] = growth.measure(work, sizes)
        for stage, found in results["growth"]["stages"].items():
            say(
                f"growth of {stage}: time ~ size^{found['exponent']:.2f}, memory x "
                f"{found['memory_ratio']:.2f}"
            )
    if "large" in parts:
        results["large"] = growth.large(work, everything)
        say(f"more data than memory: {results['large']['says']}")
    results["machine_after"] = {
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    }
    write(results, folder)
    return results


def sentence(name, record):
    """One line on a comparison."""
    same = record.get("agreement", {}).get("same")
    agree = {True: ", same outputs", False: ", OUTPUTS DIFFER", None: ""}[same]
    times = f"{record['plain_ms_per_clip']:.1f} -> {record['ours_ms_per_clip']:.1f} ms per clip"
    limit = f"limit {record['limit']['limit_ms_per_clip']:.1f} ms"
    return (
        f"{name}: {record['ratio']:.1f} times as fast (target {record['target']}), {times}, "
        f"{limit}{agree}"
    )


def write(results, folder):
    """bench.json, bench.csv, growth.csv, bench.png."""
    folder = Path(folder)
    artifacts.write_json(folder / "bench.json", results)
    columns = ("ratio", "target", "met", "plain_ms_per_clip", "ours_ms_per_clip", "clips")
    compared = {name: record for name, record in results["details"].items() if "target" in record}
    rows = [
        {"name": name, **{column: record[column] for column in columns}}
        for name, record in compared.items()
    ]
    artifacts.write_table(folder / "bench.csv", pd.DataFrame(rows, columns=["name", *columns]))
    if "growth" in results:
        artifacts.write_table(folder / "growth.csv", pd.DataFrame(results["growth"]["measured"]))
    figure.draw(results).savefig(folder / "bench.png", dpi=150)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--data", help="folder of recordings; without it a demo set is made")
    parser.add_argument(
        "--preset",
        help="preset to read and to learn with (default: what the folder is recognised as)",
    )
    parser.add_argument(
        "--settings", default="", help='single settings, such as "model.name=resnet"'
    )
    parser.add_argument(
        "--files",
        type=int,
        default=100,
        help="recordings that are compared on (default: %(default)s)",
    )
    parser.add_argument(
        "--repeats", type=int, default=3, help="turns of each side (default: %(default)s)"
    )
    parser.add_argument(
        "--draw", choices=("specshow", "imshow"), default="specshow", help="how the plain way draws"
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="some of %(default)s")
    parser.add_argument(
        "--sizes", default="1,4,16", help="times the data of growth (default: %(default)s)"
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="growth at 1,2,4,8,16; training and scoring on all of large",
    )
    parser.add_argument("--out", help="folder that is written to (default: outputs/bench)")
    options = parser.parse_args(arguments)
    os.environ["EARSHOT_HEADLESS"] = "1"
    matplotlib.use("Agg")
    parts = options.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--parts: {', '.join(sorted(unknown))} is none of {', '.join(PARTS)}")
    started, data = (
        time.perf_counter(),
        options.data and str(Path(options.data).expanduser().resolve()),
    )
    demo = "" if data else DEMO.format(count=max(60, round(1.5 * options.files)))
    config = presets.load(options.preset, data, settings=f"{demo} {options.settings}".strip())
    root, out = folders.locate(config), Path(options.out or artifacts.home() / "outputs" / "bench")
    recordings = ours.usable(root, sources.find(root, config.data), config, options.files)
    sizes = [1, 2, 4, 8, 16] if options.full else [int(size) for size in options.sizes.split(",")]
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        work = Work(recordings, root, config, Path(scratch), options.repeats, options.draw)
        run(work, parts, sizes, out, options.full)
    print(f"{out / 'bench.json'}, bench.csv, bench.png: {time.perf_counter() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
