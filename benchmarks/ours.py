"""Our way, as the stages call it: the product's own functions and nothing else."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from helpers.audio import features, images, recording, windowing
from helpers.base import artifacts, targets, work
from helpers.compare import inference
from helpers.models import checkpoints, networks
from helpers.rounds import machine
from helpers.splits import rules
from helpers.training import batches, fit

PLAIN_READS = (
    ".wav",
    ".flac",
    ".ogg",
    ".mp3",
    ".aif",
    ".aiff",
)  # what librosa opens without another decoder
NO_COPIES = pd.DataFrame(columns=list(artifacts.SCHEMAS["augmented.csv"]), dtype=object)


def usable(root, recordings, config, count):
    """So many recordings that both ways can use, spread evenly over the surveyed table, all on the
    training side.
    """
    surveyed = recording.survey(root, recordings, config.audio.max_seconds)
    forgiving = config.but("data.max_bad_fraction", 1.0)
    judged = rules.judge(surveyed, forgiving)
    readable = judged["path"].str.lower().str.endswith(PLAIN_READS)
    table = judged[judged["status"].eq("used") & judged["split"].eq("train") & readable]
    return table.iloc[np.unique(np.linspace(0, len(table) - 1, count).astype(int))].reset_index(
        drop=True
    )


def prepare(recordings, root, folder, config):
    """What 02 and 04 do: clips, packed waveforms, pictures, below a new folder; returns (packed,
    rows).
    """
    rows = pack(clips(recordings, root, folder, config), folder, config, folder)
    packed = np.load(Path(folder) / "waveforms.npy", mmap_mode="r")
    images.write_images(packed, rows, config, Path(folder) / "spectrograms")
    return packed, rows


def clips(recordings, root, folder, config):
    """Recordings to cleaned clips: the rows of clips.csv, all in one fold."""
    found = windowing.write_clips(recordings, root, config, Path(folder) / "clips")
    return found.assign(group=found["recording_id"], fold=1)


def pack(table, folder, config, out):
    """The clips of a table, whose paths begin at `folder`, packed to `out`/waveforms.npy: the rows
    of waveforms.csv.
    """
    return features.pack(table, NO_COPIES, folder, Path(out) / "waveforms.npy", config)


def batch(packed, rows, config, device="cpu"):
    """Shuffled batches of rows, as training makes them."""
    wanted = torch.from_numpy(targets.matrix(rows["label"], labels(rows, config)))
    generator, size = torch.Generator().manual_seed(config.seed), config.train.batch_size
    return batches.Batches(packed, rows.index.to_numpy(), wanted, size, device, generator)


def labels(rows, config):
    return targets.classes(rows, config.data.multilabel)


def network(packed, rows, config, device="cpu"):
    """The config's network with random weights, its standardisation fitted."""
    torch.manual_seed(config.seed)
    model = networks.build(config, len(labels(rows, config))).to(device)
    model.fit_standardisation(batch(packed, rows, config, device))
    return model


def trainer(packed, rows, config, device="cpu"):
    """A training under way, ready for its first epoch."""
    config = machine.on_this_machine(
        packed, config, len(labels(rows, config)), torch.device(device)
    )
    model = network(packed, rows, config, device)
    work.keep_memory()
    return fit.Trainer(model, batch(packed, rows, config, device), config.train, config.seed)


def bundle(packed, rows, config, folder, epochs=0):
    """The bundle of one network, trained for so many epochs, in a new run folder."""
    training = trainer(packed, rows, config)
    for _ in range(epochs):
        training.epoch()
    model = training.model.eval()
    place = Path(folder) / "models" / config.model.name / "fold1"
    checkpoints.save(
        model, place, labels(rows, config), config, {"train": [2], "validation": None, "test": 1}
    )
    artifacts.seal(place.parent)
    return inference.Bundle(folder, config.model.name)


def score(loaded, paths):
    """Class probabilities [files, C] of recordings, by the bundle."""
    return loaded.predict_files(paths)[loaded.labels].to_numpy()
