"""Spectrogram images: the picture as a front end, PNG files written, validated, read, zipped.

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


class MelImage(nn.Module):
    """A log-mel spectrogram as a square picture: dB below the clip's maximum, in 256 levels.

    Shape: waveforms [B, N] -> [B, size, size] in [0, 1], low frequencies first; 0 is
    features.RANGE_DB or more below the maximum. The picture of a silent clip is black.
    """

    def __init__(self, log_mel: features.LogMel, size: int):
        super().__init__()
        self.log_mel = log_mel
        self.size = size

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        mel = self.log_mel(waveforms)
        loudest = mel.amax(dim=(1, 2), keepdim=True)
        level = ((mel - loudest) / features.RANGE_DB + 1).clamp(0, 1)
        level = level * (loudest > features.FLOOR_DB + 1)
        size = (self.size, self.size)
        image = F.interpolate(level[:, None], size, mode="bilinear", antialias=True)[:, 0]
        return torch.round(image * 255) / 255


def mel_image(config) -> MelImage:
    """The MelImage that a config describes."""
    return MelImage(features.log_mel(config), config.features.image_size)


def image_path(row) -> str:
    """Where the image of a row of waveforms.csv lies below the images' folder."""
    return f"{targets.folder_name(row['label'])}/{row['clip_id']}.png"


def write_images(packed: np.ndarray, rows: pd.DataFrame, config, folder: str | Path) -> int:
    """One PNG per training clip and copy, <folder>/<label>/<clip_id>.png. Returns how many.

    Args: packed int16 [clips, samples]; rows of waveforms.csv; config; folder.
    """
    front_end = mel_image(config)
    train = rows.query("split == 'train'")
    paths = {index: Path(folder) / image_path(row) for index, row in train.iterrows()}
    for place in {path.parent for path in paths.values()}:
        place.mkdir(parents=True, exist_ok=True)

    @torch.inference_mode()
    def write(index):
        levels = front_end(torch.from_numpy(features.unpack(packed[index])[None]))[0]
        to_png((levels * 255).round().to(torch.uint8).numpy()).save(paths[index])

    with work.cpu_threads(1):
        return len(list(work.in_threads(write, list(paths), "spectrogram images")))


def to_png(levels: np.ndarray) -> Image.Image:
    """Levels uint8 [size, size] as a PIL image, low frequencies at the bottom.

    The colours are only a palette.
    """
    image = Image.frombytes("P", levels.shape[::-1], levels[::-1].tobytes())
    image.putpalette(_palette())
    return image


@functools.cache
def _palette():
    return (matplotlib.colormaps["magma"](range(256))[:, :3] * 255).astype(np.uint8).tobytes()


def read_images(folder: str | Path, rows: pd.DataFrame, size: int) -> np.ndarray:
    """The images of the training clips and copies: uint8 [rows, size, size], low ones first.

    Rows of the test side have no image and stay 0. Raises ValueError for a file of another size or
    mode.
    """
    levels = np.zeros((len(rows), size, size), dtype=np.uint8)
    train = rows.query("split == 'train'")
    for index, row in work.progress(train.iterrows(), "read images", len(train)):
        path = image_path(row)
        with Image.open(Path(folder) / path) as image:
            if image.mode != "P" or image.size != (size, size):
                actual = f"got {image.size} {image.mode}"
                raise ValueError(f"{path}: expected {size} x {size} levels, {actual}")
            levels[index] = np.asarray(image)[::-1]
    return levels


def without_repeats(levels: np.ndarray, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose image no earlier row has, pixel by pixel: a second one teaches nothing new."""
    pixels = pd.Series([levels[index].tobytes() for index in rows.index], rows.index)
    return rows[~pixels.duplicated()]


def zip_folder(folder: str | Path, path: str | Path):
    """Zip a folder's files with fixed dates, so that equal contents give equal archives."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(Path(folder).rglob("*")):
            if file.is_file():
                name = file.relative_to(folder).as_posix()
                archive.writestr(zipfile.ZipInfo(name), file.read_bytes())


def validate(folder: str | Path, rows: pd.DataFrame) -> dict:
    """Look at every image that was written.

    Returns a dict of lists (empty is good): corrupted images, images with equal pixels, names and
    class folders that do not belong; and their number.
    """
    folder = Path(folder)
    train = rows.query("split == 'train'")
    expected = {image_path(row) for _, row in train.iterrows()}
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.png"))]
    pixels = {}
    corrupted = []
    for name in names:
        try:
            with Image.open(folder / name) as image:
                pixels.setdefault(image.tobytes(), []).append(name)
        except (OSError, SyntaxError, ValueError) as error:  # PIL raises all three
            corrupted.append(f"{name}: {error}")
    known = {name.split("/")[0] for name in (*expected, *names)}
    stray = {f"{path.name}/" for path in folder.iterdir() if path.name not in known}
    return {
        "images": len(names),
        "corrupted_images": corrupted,
        "missing_images": sorted(expected.difference(names)),
        "unexpected_names_or_folders": sorted(set(names) - expected | stray),
        "equal_images": [equal for equal in pixels.values() if len(equal) > 1],
    }


def examples(folder, rows: pd.DataFrame, each: int = 4, most: int = 48) -> tuple[list, list]:
    """Images of a few clips of each label: (paths, labels in words); rows of waveforms.csv."""
    train = rows.query("split == 'train' and parent_id == ''")
    some = train.groupby("label").head(each).sort_values("label").head(most)
    paths = [Path(folder) / image_path(row) for _, row in some.iterrows()]
    return paths, [targets.in_words(label) for label in some["label"]]
