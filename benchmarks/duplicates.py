"""Are planted copies of real recordings found, is nothing else taken for a copy, and how does the
search grow?

``python benchmarks/duplicates.py --data path/to/ESC-10`` copies every recording once per kind of
change, searches originals and copies together, and counts the copies that were paired with their
original and the pairs that are neither. Originals that share samples are listed first: they are no
mistakes. Then it searches ever larger sets of clips that only resemble the originals, one in fifty
with a copy. Writes duplicates.json and duplicates.png.
"""

import argparse
import functools
import io
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import av
import joblib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import soundfile
from scipy.signal import ShortTimeFFT

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers.audio import containers, decoder, recording
from helpers.base import artifacts, errors
from helpers.splits import duplicates
from helpers.view import style

NOTHING_DB = (
    -60.0
)  # dBFS; a copy that holds no more has nothing left to be found: it was cut from a pause
CLIP_SECONDS, CLIP_RATE = 5.0, 16000
COPIED = 50  # of the growing sets, one clip in so many has a copy


# --- kinds of copies: (waveform, sample rate, generator) -> (waveform or [samples, channels],
# sample rate) --------


def resampled(waveform, rate, rng, to_rate):
    return recording.resample(waveform, rate, to_rate), to_rate


def gained(waveform, rate, rng, gain_db):
    return np.clip(waveform * 10 ** (gain_db / 20), -1, 1).astype(np.float32), rate


def driven(waveform, rate, rng):
    """6 dB over full scale, so that the peaks are cut off."""
    return np.clip(2 * waveform / max(np.abs(waveform).max(), 1e-9), -1, 1).astype(np.float32), rate


def inverted(waveform, rate, rng):
    return -waveform, rate


def stereo(waveform, rate, rng):
    return np.stack([waveform, 0.7 * waveform], axis=1), rate


def noisy(waveform, rate, rng):
    """White noise 30 dB below the sound."""
    rms = np.sqrt(np.mean(waveform**2))
    return (waveform + 10 ** (-30 / 20) * rms * rng.standard_normal(len(waveform))).astype(
        np.float32
    ), rate


def late(waveform, rate, rng, seconds):
    """The start cut off, or silence before it."""
    shift = min(round(abs(seconds) * rate), len(waveform) // 2)
    return (waveform[shift:] if seconds > 0 else np.pad(waveform, (shift, 0))), rate


def excerpt(waveform, rate, rng, share):
    size = round(share * len(waveform))
    start = int(rng.integers(len(waveform) - size + 1))
    return waveform[start : start + size], rate


def both(waveform, rate, rng, changes):
    for change in changes:
        waveform, rate = change(waveform, rate, rng)
    return waveform, rate


part = functools.partial
UNCHANGED = part(gained, gain_db=0)
KINDS = {  # name: (change, file format)
    "MP3 64 kbit/s": (UNCHANGED, "mp3"),
    "Ogg Vorbis": (UNCHANGED, "ogg"),
    "Opus 24 kbit/s": (UNCHANGED, "opus"),
    "22.05 kHz": (part(resampled, to_rate=22050), "PCM_16"),
    "11.025 kHz": (part(resampled, to_rate=11025), "PCM_16"),
    "8 kHz": (part(resampled, to_rate=8000), "PCM_16"),
    "-12 dB": (part(gained, gain_db=-12), "PCM_16"),
    "+6 dB, clipped": (driven, "PCM_16"),
    "inverted": (inverted, "PCM_16"),
    "8 bit": (UNCHANGED, "PCM_U8"),
    "stereo, 24 bit": (stereo, "PCM_24"),
    "noise at 30 dB": (noisy, "PCM_16"),
    "0.7 s cut off": (part(late, seconds=0.7), "PCM_16"),
    "0.7 s of silence before": (part(late, seconds=-0.7), "PCM_16"),
    "2 s cut off": (part(late, seconds=2), "PCM_16"),
    "60 % excerpt": (part(excerpt, share=0.6), "PCM_16"),
    "50 % excerpt, MP3": (part(excerpt, share=0.5), "mp3"),
    "8 kHz, 0.3 s cut off": (
        part(both, changes=(part(late, seconds=0.3), part(resampled, to_rate=8000))),
        "PCM_16",
    ),
    "noise at 30 dB, MP3": (noisy, "mp3"),
    "-12 dB, Ogg, 80 % excerpt": (
        part(both, changes=(part(gained, gain_db=-12), part(excerpt, share=0.8))),
        "ogg",
    ),
}
LOSSY = {"mp3": ("mp3", "libmp3lame", 64000), "opus": ("ogg", "libopus", 24000)}


def save(folder, name, waveform, rate, form):
    """Write a waveform in a format of LOSSY, as ogg, or as a WAV of a subtype; returns the path."""
    path = folder / f"{name}.{form if form in (*LOSSY, 'ogg') else 'wav'}"
    if form in LOSSY:
        path.write_bytes(
            encoded(
                recording.resample(waveform, rate, 48000) if form == "opus" else waveform,
                rate,
                form,
            )
        )
    elif form == "ogg":
        soundfile.write(path, waveform, rate, format="OGG", subtype="VORBIS")
    else:
        soundfile.write(path, waveform, rate, format="WAV", subtype=form)
    return path


def encoded(waveform, rate, form):
    """A mono waveform as the bytes that FFmpeg writes."""
    (container, codec, bit_rate), buffer = LOSSY[form], io.BytesIO()
    rate = 48000 if form == "opus" else rate
    with av.open(buffer, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate, layout="mono", bit_rate=bit_rate)
        frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        convert = av.AudioResampler(format=stream.format.name, layout="mono", rate=rate)
        for ready in convert.resample(frame):
            file.mux(stream.encode(ready))
        file.mux(stream.encode(None))
    return buffer.getvalue()


# --- recall ------------------------------------------------------------------------------------


def table_of(paths):
    names = [str(path) for path in paths]
    return pd.DataFrame(
        {
            "recording_id": names,
            "path": names,
            "status": "ok",
            "pcm_sha256": "",
            "duration_seconds": 0,
        }
    )


def plant(path, number, folder, change, form):
    """Write the copy of one recording: (path, whether it holds sound), or None for what cannot be
    decoded.
    """
    try:
        decoded = decoder.decode(path)
    except errors.AudioIssue:
        return None
    waveform = recording.to_mono(decoded.waveform)[0]
    waveform, rate = change(waveform, decoded.sample_rate, np.random.default_rng(number))
    return save(folder, f"{number:05d}", waveform, rate, form), recording.level_db(
        waveform
    ) > NOTHING_DB


def recall(originals, copied, shared, kind, folder):
    """One row of the table: copies of a kind, found ones, false pairs, and those in which nothing
    is left.

    Args: originals, the files that are searched; copied, those that get a copy; shared, pairs that
        are no mistakes.
    """
    change, form = KINDS[kind]
    folder.mkdir()
    jobs = (
        joblib.delayed(plant)(path, number, folder, change, form)
        for number, path in enumerate(copied)
    )
    planted = joblib.Parallel(n_jobs=-1, prefer="threads")(jobs)
    of = {str(copy[0]): str(path) for path, copy in zip(copied, planted, strict=True) if copy}
    audible = [str(copy[0]) for copy in planted if copy and copy[1]]
    began = time.monotonic()
    pairs = duplicates.find("", table_of([*originals, *of]))
    seconds = time.monotonic() - began
    found = {
        other
        for one, other in zip(pairs["recording_id"], pairs["other_id"], strict=True)
        if of.get(other) == one
    }
    sources = pairs[["recording_id", "other_id"]].map(lambda name: of.get(name, name))
    false = [tuple(sorted(row)) for row in sources.itertuples(index=False) if row[0] != row[1]]
    false = [row for row in false if row not in shared]
    least = pairs.loc[pairs["other_id"].isin(found), "correlation"].min()
    row = {"kind": kind, "copies": len(audible), "found": len(found & set(audible))}
    row |= {
        "recall": row["found"] / max(len(audible), 1),
        "false_pairs": len(false),
        "nothing_left": len(of) - len(audible),
    }
    row |= {"least_correlation": float(least), "seconds": round(seconds, 1)}
    return row | {
        "missed": sorted(of[name] for name in set(audible) - found),
        "false": sorted(set(false)),
    }


# --- growth ------------------------------------------------------------------------------------


def resembling(waveform, rng):
    """Another sound of the same kind: played at another speed, its phases drawn anew: float32
    [samples].
    """
    stretched = recording.resample(
        waveform, CLIP_RATE, round(CLIP_RATE * 2 ** rng.uniform(-0.5, 0.5))
    )
    size = round(CLIP_SECONDS * CLIP_RATE)
    start = int(rng.integers(max(1, len(stretched) - size)))
    piece = np.pad(stretched[start : start + size], (0, max(0, size - len(stretched) + start)))[
        :size
    ]
    transform = ShortTimeFFT(np.hanning(513)[:-1], 128, CLIP_RATE)
    spectrum = transform.stft(piece)
    drawn = transform.istft(
        np.abs(spectrum) * np.exp(2j * np.pi * rng.uniform(size=spectrum.shape)), k1=size
    )
    return (0.5 * drawn / max(np.abs(drawn).max(), 1e-9)).astype(np.float32)


def write_clip(sounds, number, folder):
    """Write clip `number`, and for one in COPIED a copy: quieter, 0.7 s later, with noise 30 dB
    below.
    """
    rng = np.random.default_rng(number)
    clip = resembling(sounds[number % len(sounds)], rng)
    save(folder, f"{number:05d}", clip, CLIP_RATE, "PCM_16")
    if number % COPIED == 0:
        copy, _ = late(0.25 * noisy(clip, CLIP_RATE, rng)[0], CLIP_RATE, rng, -0.7)
        save(folder, f"{number:05d}-copy", copy, CLIP_RATE, "PCM_16")


def peak_mb():
    """Largest resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells of a child begins with its parent's
        return int(status.read_text().split("VmHWM:")[1].split()[0]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (
        2**20 if sys.platform == "darwin" else 1024
    )


def search(folder, size):
    """Find the duplicates among the first `size` clips; run in a process of its own, for its peak
    memory.
    """
    clips = [folder / f"{number:05d}.wav" for number in range(size)]
    copies = [folder / f"{number:05d}-copy.wav" for number in range(0, size, COPIED)]
    before, began = peak_mb(), time.monotonic()
    pairs = duplicates.find("", table_of([*clips, *copies]))
    seconds = time.monotonic() - began
    right = [
        Path(other).stem == f"{Path(one).stem}-copy"
        for one, other in pairs[["recording_id", "other_id"]].values
    ]
    return {
        "clips": len(clips) + len(copies),
        "seconds": round(seconds, 1),
        "peak_mb": peak_mb(),
        "before_mb": before,
        "recall": sum(right) / len(copies),
        "false_pairs": len(right) - sum(right),
    }


def growth(originals, sizes, folder):
    """One row of numbers per size."""
    folder.mkdir()
    sounds = [recording.load(path, CLIP_RATE) for path in originals[:400]]
    jobs = (joblib.delayed(write_clip)(sounds, number, folder) for number in range(max(sizes)))
    joblib.Parallel(n_jobs=-1, prefer="threads")(jobs)
    rows = []
    for size in sizes:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            rows.append(process.submit(search, folder, size).result())
        say(rows[-1])
    return rows


@style.styled
def growth_figure(rows):
    """Seconds and memory over the number of clips."""
    table = pd.DataFrame(rows)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
    for axis, column, title in zip(
        axes, ("seconds", "peak_mb"), ("Time in seconds", "Peak memory in MB"), strict=True
    ):
        axis.plot(table["clips"], table[column], "o-")
        axis.set(title=title, xlabel="five-second clips", xlim=(0, None), ylim=(0, None))
        style.grid(axis, "y")
    return figure


def say(row):
    """Print one row of numbers as a line."""
    shown = [
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in row.items()
    ]
    print("; ".join(shown), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", required=True, type=Path, help="folder with recordings, at any depth"
    )
    parser.add_argument(
        "--out", default=Path("."), type=Path, help="where duplicates.json and .png go"
    )
    parser.add_argument(
        "--count", type=int, help="copy so many recordings only, spread over the folder"
    )
    parser.add_argument(
        "--kinds",
        nargs="*",
        default=list(KINDS),
        choices=list(KINDS),
        metavar="KIND",
        help="of copies",
    )
    parser.add_argument(
        "--clips", type=int, default=10000, help="size of the largest growing set; 0: none"
    )
    chosen = parser.parse_args()
    os.environ.setdefault("EARSHOT_HEADLESS", "1")
    originals = sorted(
        path
        for path in chosen.data.resolve().rglob("*")
        if path.suffix.lower() in containers.SUFFIXES
    )
    if not originals:
        parser.error(f"{chosen.data} holds no recordings")
    copied = (
        originals[:: max(1, len(originals) // chosen.count)][: chosen.count]
        if chosen.count
        else originals
    )
    own = duplicates.find("", table_of(originals))
    shared = {
        tuple(sorted(row)) for row in own[["recording_id", "other_id"]].itertuples(index=False)
    }
    print(f"{len(originals)} originals; {len(shared)} pairs of them share samples")
    print(
        own.assign(**own[["recording_id", "other_id"]].map(lambda name: Path(name).name)).to_string(
            index=False
        )
    )
    Path(chosen.out).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=chosen.out) as scratch:
        rows = []
        for number, kind in enumerate(chosen.kinds):
            rows.append(recall(originals, copied, shared, kind, Path(scratch, f"kind{number}")))
            say(rows[-1])
        sizes = [chosen.clips // 2**halving for halving in (4, 3, 2, 1, 0)] if chosen.clips else []
        curve = growth(originals, sizes, Path(scratch, "growth")) if sizes else []
    found = {
        "data": chosen.data.name,
        "originals": len(originals),
        "shared": own.values.tolist(),
        "kinds": rows,
        "growth": curve,
    }
    artifacts.write_json(chosen.out / "duplicates.json", found)
    if curve:
        growth_figure(curve).savefig(chosen.out / "duplicates.png")


if __name__ == "__main__":
    main()
