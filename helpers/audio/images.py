"""Spectrogram images: the picture as a front end, PNG files written, validated and read back,
zipped to share.

The PNG files hold what `MelImage` makes of a clip, level by level, so that a network trained from
the files can be given waveforms later.
"""

import functools
import zipfile
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from helpers.audio import features
from helpers.base import targets, work

SILENCE_DB = (
    -99.0
)  # a clip whose loudest point lies below this, LogMel's floor, is silent: its image is black


class MelImage(nn.Module):
    """A log-mel spectrogram as a square picture: dB relative to the clip's maximum, resized, in 256
    levels of 0 to 1.

    Shape: waveforms [B, N] -> [B, size, size], low frequencies first; 0 is features.RANGE_DB or
    more below the maximum.
    """

    def __init__(self, log_mel, size):
        super().__init__()
        self.log_mel, self.size = log_mel, size

    def forward(self, waveforms):
        mel = self.log_mel(waveforms)
        level = ((mel - mel.amax(dim=(1, 2), keepdim=True)) / features.RANGE_DB + 1).clamp(0, 1)
        level = level * (mel.amax(dim=(1, 2), keepdim=True) > SILENCE_DB)
        image = F.interpolate(
            level[:, None], (self.size, self.size), mode="bilinear", antialias=True
        )[:, 0]
        return torch.round(image * 255) / 255


def mel_image(config):
    """The MelImage that a config describes."""
    return MelImage(features.log_mel(config), config.features.image_size)


def image_path(row):
    """Where the image of a row of waveforms.csv lies below the images' folder:
    <label>/<clip_id>.png.
    """
    return f"{targets.folder_name(row['label'])}/{row['clip_id']}.png"


def write_images(packed, rows, config, folder):
    """One PNG per training clip and copy, <folder>/<label>/<clip_id>.png. Returns how many."""
    front_end, train = mel_image(config), rows[rows["split"].eq("train")]
    for label in train["label"].unique():
        (Path(folder) / targets.folder_name(label)).mkdir(parents=True, exist_ok=True)
    names = train[["label", "clip_id"]].to_dict("index")

    @torch.inference_mode()
    def write(index):
        levels = front_end(torch.from_numpy(features.unpack(packed[index])[None]))[0]
        to_png((levels * 255).round().to(torch.uint8).numpy()).save(
            Path(folder) / image_path(names[index])
        )

    with work.cpu_threads(1):
        return sum(1 for _ in work.in_threads(write, list(names), "spectrogram images"))


def to_png(levels):
    """Levels uint8 [size, size] as a PIL image, low frequencies at the bottom; the colours are only
    a palette.
    """
    flipped = np.ascontiguousarray(levels[::-1])
    image = Image.frombytes("P", flipped.shape[::-1], flipped.tobytes())
    image.putpalette(_palette())
    return image


@functools.cache
def _palette():
    return (matplotlib.colormaps["magma"](range(256))[:, :3] * 255).astype(np.uint8).tobytes()


def read_images(folder, rows, size):
    """The images of the training clips and copies, read back: levels uint8 [rows, size, size], low
    frequencies first.

    Rows of the test side have no image and stay 0. Raises ValueError for a file of another size or
    mode.
    """
    levels = np.zeros((len(rows), size, size), dtype=np.uint8)
    train = rows[rows["split"].eq("train")]
    for index, row in work.progress(train.iterrows(), "read images", len(train)):
        with Image.open(Path(folder) / image_path(row)) as image:
            if image.mode != "P" or image.size != (size, size):
                raise ValueError(
                    f"{image_path(row)}: expected {size} x {size} levels, got {image.size} {image.mode}"
                )
            levels[index] = np.asarray(image)[::-1]
    return levels


def without_repeats(levels, rows):
    """The rows whose image no earlier row has, pixel by pixel: what is learned from twice teaches
    nothing new.
    """
    seen = pd.Series([levels[index].tobytes() for index in rows.index], rows.index)
    return rows[~seen.duplicated()]


def zip_folder(folder, path):
    """Zip a folder's files with fixed dates, so that equal contents give equal archives."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(file for file in Path(folder).rglob("*") if file.is_file()):
            archive.writestr(
                zipfile.ZipInfo(file.relative_to(folder).as_posix()), file.read_bytes()
            )


def validate(folder, rows):
    """Look at every image that was written.

    Returns a dict of lists (empty is good): corrupted images, images with equal pixels, names and
    class folders that do not belong; and their number.
    """
    train = rows[rows["split"].eq("train")]
    expected = {image_path(row) for _, row in train.iterrows()}
    found = {
        path.relative_to(folder).as_posix(): path for path in sorted(Path(folder).rglob("*.png"))
    }
    pixels, corrupted = {}, []
    for name, path in found.items():
        try:
            with Image.open(path) as image:
                pixels.setdefault(image.tobytes(), []).append(name)
        except (
            OSError,
            SyntaxError,
            ValueError,
        ) as error:  # PIL raises all three for broken PNG files
            corrupted.append(f"{name}: {error}")
    known = {name.split("/")[0] for name in (*expected, *found)}
    stray = {path.name + "/" for path in Path(folder).iterdir()} - {name + "/" for name in known}
    return {
        "images": len(found),
        "corrupted_images": corrupted,
        "missing_images": sorted(expected - set(found)),
        "unexpected_names_or_folders": sorted(set(found) - expected | stray),
        "equal_images": [names for names in pixels.values() if len(names) > 1],
    }
