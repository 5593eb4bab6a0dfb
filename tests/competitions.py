"""Tiny data sets in the layouts of well-known competitions and collections, with their truth.

Folders, file names and headers are those of the real ones; the sounds are calls, one pitch per
class, over a bed of noise. No two calls are alike, and the same seed writes the same files.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

PITCHES_HZ = (330, 700, 1350, 2200, 3200)  # of the first class, the second, …
FORMATS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".mp3": "MP3", ".aif": "AIFF"}
WINDOW_SECONDS = 5
# What is heard in the windows of one scene after the other, as numbers of classes: none, one or
# two.
HEARD = ((0,), (), (1, 2), (3,), (0, 1), (0, 3), (2,), ())


@dataclass(frozen=True)
class Competition:
    """What was written: truth holds the classes, as the training data names them, of each row or
    test recording.
    """

    folder: Path
    classes: tuple
    # {id: (class, …)}: (..) of one where each has one, () where nothing is heard; of the test side
    truth: dict
    sample: Path | None  # the sample submission
    notes: str = ""
    undecodable: tuple = ()  # files, as paths below the folder, that hold no sound


class Studio:
    """Writes sounds and tables below a folder, from a generator of its own."""

    def __init__(self, folder, seed, sample_rate=8000):
        self.folder, self.rng, self.sample_rate = (
            Path(folder),
            np.random.default_rng(seed),
            sample_rate,
        )

    def record(self, path, *kinds, seconds=0.6):
        """A recording in which each of these kinds of call (numbers of PITCHES_HZ) is heard
        throughout.
        """
        return self._write(
            path, self._bed(seconds) + sum(self._call(kind, seconds) for kind in kinds)
        )

    def scene(self, path, windows):
        """A recording of several windows, and what is called in each: three seconds in its
        middle.
        """
        waveform = self._bed(WINDOW_SECONDS * len(windows))
        for number, kinds in enumerate(windows):
            start = int((WINDOW_SECONDS * number + self.rng.uniform(0.5, 1.5)) * self.sample_rate)
            waveform[start : start + 3 * self.sample_rate] += sum(
                self._call(kind, 3.0) for kind in kinds
            )
        return self._write(path, waveform)

    def box(self, path, kinds, seconds=10.0):
        """A recording in which each kind is called once, for a second; returns {kind: (start, end)}
        in seconds.
        """
        waveform, boxes = self._bed(seconds), {}
        for kind, slot in zip(kinds, self.rng.permutation(int(seconds) // 2), strict=False):
            start = round(2 * slot + self.rng.uniform(0.2, 0.8), 4)
            first = int(start * self.sample_rate)
            waveform[first : first + self.sample_rate] += self._call(kind, 1.0)
            boxes[kind] = start, round(start + 1, 4)
        self._write(path, waveform)
        return boxes

    def table(self, path, header, rows):
        """A CSV file; rows are dicts, of which the header's columns are written, or tuples."""
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(
                [row.get(name, "") for name in header] if isinstance(row, dict) else row
                for row in rows
            )
        return path

    def text(self, path, text=""):
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def hex(self, digits=8):
        return "".join(self.rng.choice(list("0123456789abcdef"), digits))

    def _bed(self, seconds):
        return self.rng.uniform(0.01, 0.03) * self.rng.standard_normal(
            int(seconds * self.sample_rate)
        )

    def _call(self, kind, seconds):
        """Pulses of a wavering tone; pitch, rhythm and level vary from call to call."""
        time = np.arange(int(seconds * self.sample_rate)) / self.sample_rate
        phase = self.rng.uniform(0, 6) + 1.5 * np.sin(self.rng.uniform(20, 60) * time)
        tone = np.sin(2 * np.pi * PITCHES_HZ[kind] * self.rng.uniform(0.93, 1.07) * time + phase)
        pulses = np.sin(2 * np.pi * self.rng.uniform(2, 6) * time + self.rng.uniform(0, 6)) > -0.3
        return self.rng.uniform(0.15, 0.3) * tone * pulses

    def _write(self, path, waveform):
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, waveform.clip(-1, 1), self.sample_rate, format=FORMATS[path.suffix])
        return path


# --- one label per recording -------------------------------------------------------------------

URBAN = {
    "dog_bark": 3,
    "drilling": 4,
    "engine_idling": 5,
    "siren": 8,
    "street_music": 9,
}  # UrbanSound8K's classIDs


def frequency_quest(folder, seed=0, header=("ID", "Class")):
    """The Frequency Quest: doubled folders, UrbanSound8K's names in train, an id and a label in the
    sample.
    """
    studio, classes, truth = Studio(folder, seed), tuple(URBAN), {}
    for kind, name in enumerate(classes):
        for take in range(6):  # two slices of each of three sources
            source = f"{100000 + 1000 * kind + take // 2}-{URBAN[name]}-0-{take % 2}"
            studio.record(f"train/train/{name}/{source}.wav", kind)
    for number in range(6):
        name = f"audio_{number:03}.wav"
        studio.record(f"test/test/{name}", number % len(classes))
        truth[name] = (classes[number % len(classes)],)
    sample = studio.table("sample_submission.csv", header, [(name, classes[0]) for name in truth])
    return Competition(
        studio.folder, classes, truth, sample, "group: what is before the first - of a name"
    )


def speech_commands_2017(folder, seed=0):
    """TensorFlow Speech Recognition Challenge: words as folders, the same names in each, noise to
    be cut.
    """
    studio, words, truth = Studio(folder, seed), ("yes", "no", "up", "bed", "cat"), {}
    speakers = [studio.hex() for _ in range(5)]
    for kind, word in enumerate(words):
        for speaker in speakers:
            studio.record(f"train/audio/{word}/{speaker}_nohash_0.wav", kind, seconds=1.0)
    for name in ("doing_the_dishes", "pink_noise", "running_tap"):
        studio.record(f"train/audio/_background_noise_/{name}.wav", seconds=6.0)
    studio.text("train/audio/_background_noise_/README.md", "Noise.\n")
    studio.text(
        "train/validation_list.txt",
        "".join(f"{word}/{speakers[3]}_nohash_0.wav\n" for word in words),
    )
    studio.text(
        "train/testing_list.txt", "".join(f"{word}/{speakers[4]}_nohash_0.wav\n" for word in words)
    )
    studio.text("train/README.md", "Speech commands.\n")
    studio.text("train/LICENSE", "CC BY 4.0\n")
    for kind, label in (
        (0, "yes"),
        (1, "no"),
        (2, "up"),
        (3, "unknown"),
        (4, "unknown"),
        (None, "silence"),
    ):
        name = f"clip_{studio.hex(9)}.wav"
        studio.record(f"test/audio/{name}", *(() if kind is None else (kind,)), seconds=1.0)
        truth[name] = (label,)
    truth = dict(sorted(truth.items()))
    sample = studio.table(
        "sample_submission.csv", ("fname", "label"), [(name, "silence") for name in truth]
    )
    classes = ("yes", "no", "up", "silence", "unknown")
    return Competition(
        studio.folder, classes, truth, sample, "bed, cat: unknown; _background_noise_: silence"
    )


def freesound_2018(folder, seed=0):
    """Freesound General-Purpose Audio Tagging: train.csv with a trust tier, three labels per row,
    best first.
    """
    studio, classes, rows, truth = (
        Studio(folder, seed),
        ("Bark", "Cello", "Hi-hat", "Saxophone"),
        [],
        {},
    )
    for kind, label in enumerate(classes):
        for take in range(7):
            name = f"{studio.hex()}.wav"
            studio.record(f"audio_train/{name}", kind, seconds=studio.rng.uniform(0.5, 1.0))
            rows.append((name, label, take % 2))
    studio.table("train.csv", ("fname", "label", "manually_verified"), sorted(rows))
    for number in range(6):
        name = f"{studio.hex()}.wav"
        studio.record(f"audio_test/{name}", number % 4)
        truth[name] = (classes[number % 4],)
    empty = "audio_test/0b0427e2.wav"  # as in the real test set: a header without samples
    studio.record(empty, seconds=0)
    asked = sorted([*truth, Path(empty).name])
    sample = studio.table(
        "sample_submission.csv", ("fname", "label"), [(name, "Bark Cello Hi-hat") for name in asked]
    )
    return Competition(
        studio.folder, classes, truth, sample, "an empty file's row is asked for", (empty,)
    )


def right_whale_2013(folder, seed=0, sample_rate=4000):
    """The ICML 2013 Whale Challenge: the label is the end of the name, 1 a call; no table of
    labels.
    """
    studio, truth = Studio(folder, seed, sample_rate), {}
    sessions = (
        "20090328_000000",
        "20090328_001500",
        "20090329_063000",
        "20090330_120000",
        "20090331_174500",
    )
    for number in range(20):
        call, start = number % 3 == 0, f"{number * 7 % 900:03}s{number % 10}ms"
        name = f"{sessions[number % 5]}_{start}_TRAIN{number}_{int(call)}.aif"
        studio.record(f"train2/{name}", *([0] if call else []), seconds=2.0)
    for number in range(6):
        name, call = (
            f"20090404_000000_{number * 20 + 12:03}s{number}ms_Test{number}.aif",
            number % 2 == 0,
        )
        studio.record(f"test2/{name}", *([0] if call else []), seconds=2.0)
        truth[name] = (str(int(call)),)
    sample = studio.table(
        "sampleSubmission.csv", ("clip", "probability"), [(name, 0) for name in truth]
    )
    notes = "the real ones have 2000 Hz; group: date and time at the start of a name"
    return Competition(studio.folder, ("0", "1"), truth, sample, notes)


# --- several labels per recording --------------------------------------------------------------


def freesound_2019(folder, seed=0):
    """Freesound Audio Tagging 2019: a curated and a noisy table of comma-joined labels, a column
    per class.
    """
    studio, truth = Studio(folder, seed), {}
    classes = ("Bark", "Child_speech_and_kid_speaking", "Keys_jangling", "Purr")
    tags = [(0,), (1,), (2,), (3,), (0, 2), (1, 3), (0,), (1,), (2, 3), (3,), (2,), (0, 1)]
    for part in ("train_curated", "train_noisy"):
        rows = []
        for kinds in tags:
            name = f"{studio.hex()}.wav"
            studio.record(f"{part}/{name}", *kinds)
            said = (
                kinds
                if part == "train_curated"
                else {(kind + int(studio.rng.random() < 0.3)) % 4 for kind in kinds}
            )
            rows.append((name, ",".join(classes[kind] for kind in sorted(said))))
        studio.table(f"{part}.csv", ("fname", "labels"), sorted(rows))
    for kinds in tags[:6]:
        name = f"{studio.hex()}.wav"
        studio.record(f"test/{name}", *kinds)
        truth[name] = tuple(classes[kind] for kind in kinds)
    truth = dict(sorted(truth.items()))
    sample = studio.table(
        "sample_submission.csv", ("fname", *classes), [(name, *[0] * 4) for name in truth]
    )
    return Competition(
        studio.folder, classes, truth, sample, "a part of train_noisy.csv's labels is wrong"
    )


def rainforest_2021(folder, seed=0):
    """Rainforest Connection: boxes where a species is heard (tp), and where it was taken for
    something else (fp).
    """
    studio, truth, boxes = Studio(folder, seed), {}, {"train_tp": [], "train_fp": []}
    classes = ("0", "1", "2", "3")
    for number in range(16):
        name, kinds = studio.hex(9), [(number % 4,), (number % 4, (number + 1) % 4)][number % 2]
        found, mistaken = studio.box(f"train/{name}.flac", kinds), (number + 2) % 4
        for kind, (start, end) in found.items():
            boxes["train_tp"].append(_box(name, kind, start, end))
        boxes["train_fp"].append(_box(name, mistaken, *found[kinds[0]]))
    for number in range(5):
        name, kinds = studio.hex(9), HEARD[(0, 2, 3, 4, 5)[number]]
        studio.box(f"test/{name}.flac", kinds)
        truth[name] = tuple(str(kind) for kind in kinds)
    header = ("recording_id", "species_id", "songtype_id", "t_min", "f_min", "t_max", "f_max")
    for part, rows in boxes.items():
        studio.table(f"{part}.csv", header, sorted(rows))
    truth = dict(sorted(truth.items()))
    columns = [f"s{name}" for name in classes]
    sample = studio.table(
        "sample_submission.csv", ("recording_id", *columns), [(name, *[0] * 4) for name in truth]
    )
    return Competition(
        studio.folder, classes, truth, sample, "class 0 of the tables is the sample's column s0"
    )


def _box(name, kind, start, end):
    return name, kind, 1, start, 0.9 * PITCHES_HZ[kind], end, 1.1 * PITCHES_HZ[kind]


def mlsp_2013(folder, seed=0):
    """MLSP 2013 birds: one folder, tables as .txt, lists of labels of any length, a row per
    recording and species.
    """
    studio, truth, files, labels, folds = Studio(folder, seed), {}, [], [], []
    classes, tags = ("0", "1", "2", "3"), [(0,), (1, 2), (), (3,), (2,), (0, 3), (1,)]
    for number in range(26):
        kinds, tested = tags[number % 7], number % 4 == 3
        site, day, minute = (1, 2, 4, 7, 10)[number % 5], 15 + number % 3, 10 * (number % 6 + 1)
        name = f"PC{site}_201006{day}_0500{number:02}_{minute:04}"
        studio.record(f"essential_data/src_wavs/{name}.wav", *kinds, seconds=2.0)
        files.append((number, name))
        folds.append((number, int(tested)))
        labels.append((number, "?") if tested else (number, *kinds))
        if tested:
            truth[str(number)] = tuple(str(kind) for kind in kinds)
    studio.table("essential_data/rec_id2filename.txt", ("rec_id", "filename"), files)
    studio.table("essential_data/CVfolds_2.txt", ("rec_id", "fold"), folds)
    studio.table("essential_data/rec_labels_test_hidden.txt", ("rec_id", "[labels]"), labels)
    species = [
        (0, "BRCR", "Brown Creeper"),
        (1, "PAWR", "Pacific Wren"),
        (2, "PSFL", "Pacific-slope Flycatcher"),
    ]
    species.append((3, "RBNU", "Red-breasted Nuthatch"))
    studio.table("essential_data/species_list.txt", ("class_id", "code", "species"), species)
    asked = [(100 * int(recording) + kind, 0) for recording in truth for kind in range(4)]
    sample = studio.table("sample_submission.csv", ("Id", "Probability"), asked)
    notes = "fold 1 is the test set; Id = 100 x rec_id + class; group: PC.. at the start of a name"
    return Competition(studio.folder, classes, truth, sample, notes)


# --- birds in soundscapes ----------------------------------------------------------------------

BIRDS = {  # eBird code: (scientific name, common name)
    "aldfly": ("Empidonax alnorum", "Alder Flycatcher"),
    "amered": ("Setophaga ruticilla", "American Redstart"),
    "batpig1": ("Patagioenas fasciata", "Band-tailed Pigeon"),
    "wewpew": ("Contopus sordidulus", "Western Wood-Pewee"),
}
AUTHORS = ("Ada Lark", "Ben Finch, Jr.", "Cé Wren", "Dov Crane", "Eva Swift")
CORNELL_HEADER = (
    *(
        "rating",
        "playback_used",
        "ebird_code",
        "channels",
        "date",
        "pitch",
        "duration",
        "filename",
        "speed",
    ),
    *(
        "species",
        "number_of_notes",
        "title",
        "secondary_labels",
        "bird_seen",
        "sci_name",
        "location",
        "latitude",
    ),
    *(
        "sampling_rate",
        "type",
        "elevation",
        "description",
        "bitrate_of_mp3",
        "file_type",
        "volume",
        "background",
    ),
    *(
        "xc_id",
        "url",
        "country",
        "author",
        "primary_label",
        "longitude",
        "length",
        "time",
        "recordist",
        "license",
    ),
)
_BIRD = (
    "primary_label",
    "secondary_labels",
    "type",
    "latitude",
    "longitude",
    "scientific_name",
    "common_name",
)
HEADERS = {
    2021: (*_BIRD, "author", "date", "filename", "license", "rating", "time", "url"),
    2022: (*_BIRD, "author", "license", "rating", "time", "url", "filename"),
    2023: (*_BIRD, "author", "license", "rating", "url", "filename"),
    2024: (*_BIRD, "author", "license", "rating", "url", "filename"),
    2025: (
        *(
            "primary_label",
            "secondary_labels",
            "type",
            "filename",
            "collection",
            "rating",
            "url",
            "latitude",
        ),
        *("longitude", "scientific_name", "common_name", "author", "license"),
    ),
}


def _training_birds(studio, audio, birds, in_folder=True, suffix=".ogg", none="[]"):
    """Six recordings of each bird, by five authors, in two of which another bird is heard; their
    rows as dicts.
    """
    rows, codes = [], list(birds)
    for kind, code in enumerate(codes):
        for take in range(6):
            name, other = f"XC{130000 + 500 * kind + 7 * take}{suffix}", (kind + 1) % len(codes)
            also = take in (2, 5)
            studio.record(
                f"{audio}/{code}/{name}", *((kind, other) if also else (kind,)), seconds=1.0
            )
            row = {
                "primary_label": code,
                "secondary_labels": f"['{codes[other]}']" if also else none,
            }
            row |= {
                "scientific_name": birds[code][0],
                "common_name": birds[code][1],
                "type": "['call']",
            }
            row |= {
                "author": AUTHORS[(take + kind) % 5],
                "rating": 5.0 - take / 2,
                "date": f"2019-0{take + 1}-07",
            }
            row |= {
                "latitude": 40 + take / 10,
                "longitude": -120.5,
                "time": "07:30",
                "license": "CC BY-NC-SA 4.0",
            }
            row |= {"filename": f"{code}/{name}" if in_folder else name, "collection": "XC"}
            rows.append(row | {"url": f"https://www.xeno-canto.org/{name[2:8]}"})
    return rows


def _scenes(studio, paths, codes, window_count=2):
    """A scene per path; returns {(path's stem, end of the window in seconds): (code, …)}."""
    truth = {}
    for number, path in enumerate(paths):
        windows = [
            HEARD[(window_count * number + window) % len(HEARD)] for window in range(window_count)
        ]
        studio.scene(path, windows)
        for window, kinds in enumerate(windows, 1):
            truth[Path(path).stem, WINDOW_SECONDS * window] = tuple(codes[kind] for kind in kinds)
    return truth


def _said(codes):
    return " ".join(codes) or "nocall"


def birdcall_2020(folder, seed=0, hidden=False):
    """Cornell Birdcall Identification: mp3, rows per five seconds at sites 1 and 2, per file at
    site 3.

    hidden: as it was to be downloaded, without test_audio and with three rows asked for.
    """
    studio, codes, truth, rows = Studio(folder, seed, 16000), tuple(BIRDS), {}, []
    called = {
        code: "_".join(names) for code, names in BIRDS.items()
    }  # in other columns than ebird_code
    for row in _training_birds(studio, "train_audio", BIRDS, in_folder=False, suffix=".mp3"):
        code, also = row["primary_label"], row["secondary_labels"].strip("[]'")
        row |= {
            "ebird_code": code,
            "primary_label": called[code],
            "sci_name": BIRDS[code][0],
            "species": BIRDS[code][1],
        }
        row |= {
            "secondary_labels": f"['{called[also]}']" if also else "[]",
            "recordist": row["author"],
        }
        rows.append(
            row | {"xc_id": row["filename"][2:8], "sampling_rate": "16000 (Hz)", "file_type": "mp3"}
        )
    studio.table("train.csv", CORNELL_HEADER, rows)
    example = ("BLKFR-10-CPL_20190611_093000.pt540", "ORANGE-7-CAP_20190606_093000.pt623")
    shown = _scenes(studio, [f"example_test_audio/{name}.mp3" for name in example], codes)
    header, rows = ("filename_seconds", "birds", "filename", "seconds"), []
    for (name, end), birds in shown.items():
        rows.append((f"{name.split('_')[0]}_{end}", " ".join(birds), name.split("_")[0], end))
    studio.table("example_test_audio_summary.csv", header, rows)
    studio.table(
        "example_test_audio_metadata.csv",
        ("filename", "ebird_code", "start_seconds", "end_seconds"),
        [],
    )
    asked = []
    for number, site in enumerate(("site_1", "site_1", "site_2", "site_3")):
        audio_id, first = studio.hex(32), HEARD[2 * number % 8]
        if site == "site_3":
            studio.scene(f"test_audio/{audio_id}.mp3", (first, ()))
            truth[f"{site}_{audio_id}"] = tuple(codes[kind] for kind in first)
            asked.append((site, f"{site}_{audio_id}", "", audio_id))
            continue
        windows = first, HEARD[2 * number % 8 + 1]
        studio.scene(f"test_audio/{audio_id}.mp3", windows)
        for end, kinds in zip((5, 10), windows, strict=True):
            truth[f"{site}_{audio_id}_{end}"] = tuple(codes[kind] for kind in kinds)
            asked.append((site, f"{site}_{audio_id}_{end}", end, audio_id))
    return _with_rows(
        studio, codes, truth, ("site", "row_id", "seconds", "audio_id"), asked, "test_audio", hidden
    )


def birdclef_2021(folder, seed=0, hidden=False):
    """BirdCLEF 2021: short recordings with secondary labels, labelled soundscapes, rows per five
    seconds.
    """
    studio, codes = Studio(folder, seed, 16000), tuple(BIRDS)
    rows = _training_birds(studio, "train_short_audio", BIRDS, in_folder=False)
    studio.table("train_metadata.csv", HEADERS[2021], rows)
    header, labels = ("row_id", "site", "audio_id", "seconds", "birds"), []
    names = ("7019_COR_20190904", "10534_SSW_20170429", "2782_SSW_20170701")
    for (name, end), birds in _scenes(
        studio, [f"train_soundscapes/{name}.ogg" for name in names], codes
    ).items():
        number, site, _ = name.split("_")
        labels.append((f"{number}_{site}_{end}", site, number, end, _said(birds)))
    studio.table("train_soundscape_labels.csv", header, labels)
    paths = [
        f"test_soundscapes/{name}.ogg"
        for name in ("3575_COL_20190611", "4112_SNE_20190502", "57_SSW_20170617")
    ]
    truth, asked = {}, []
    for (name, end), birds in _scenes(studio, paths, codes).items():
        number, site, _ = name.split("_")
        truth[f"{number}_{site}_{end}"] = birds
        asked.append((f"{number}_{site}_{end}", site, number, end))
    return _with_rows(studio, codes, truth, header[:4], asked, "test_soundscapes", hidden)


def _with_rows(studio, codes, truth, header, asked, test, hidden):
    """The table of the rows asked for, and the sample: all of them, or with a hidden test set the
    first three.
    """
    if hidden:
        _hide(studio, test)
        truth, asked = {}, asked[:3]
    studio.table("test.csv", header, asked)
    ids = [row[header.index("row_id")] for row in asked]
    sample = studio.table(
        "sample_submission.csv", ("row_id", "birds"), [(name, "aldfly amered") for name in ids]
    )
    return Competition(studio.folder, codes, truth, sample, "no bird: nocall; group: author")


def _hide(studio, test):
    for path in (studio.folder / test).iterdir():
        path.unlink()


def birdclef_2022(folder, seed=0):
    """BirdCLEF 2022: only the scored birds count, and each has a row of its own in each window:
    true or false.
    """
    studio, codes = Studio(folder, seed, 16000), tuple(BIRDS)
    studio.table("train_metadata.csv", HEADERS[2022], _training_birds(studio, "train_audio", BIRDS))
    scored = [codes[0], codes[2]]
    studio.text("scored_birds.json", json.dumps(scored))
    _taxonomy(studio)
    paths = [
        f"test_soundscapes/{name}.ogg"
        for name in ("soundscape_453028782", "soundscape_1000170626", "soundscape_7")
    ]
    found, asked = _scenes(studio, paths, codes), []
    for name, end in found:
        asked += [(f"{name}_{bird}_{end}", name, bird, end) for bird in scored]
    studio.table("test.csv", ("row_id", "file_id", "bird", "end_time"), asked)
    sample = studio.table(
        "sample_submission.csv", ("row_id", "target"), [(row[0], False) for row in asked]
    )
    truth = {
        f"{name}_{end}": tuple(bird for bird in birds if bird in scored)
        for (name, end), birds in found.items()
    }
    notes = (
        "classes: also birds that are not scored; truth: the scored ones by {stem}_{end}, "
        "rows {stem}_{bird}_{end}"
    )
    return Competition(studio.folder, codes, truth, sample, notes)


def _taxonomy(studio):
    header = (
        "TAXON_ORDER",
        "CATEGORY",
        "SPECIES_CODE",
        "PRIMARY_COM_NAME",
        "SCI_NAME",
        "ORDER1",
        "FAMILY",
    )
    rows = [
        (n, "species", code, common, name, "", "")
        for n, (code, (name, common)) in enumerate(BIRDS.items())
    ]
    studio.table("eBird_Taxonomy_v2021.csv", header, rows)


def birdclef_2023(folder, seed=0):
    """BirdCLEF 2023: one soundscape is public, a column per bird."""
    studio = Studio(folder, seed, 16000)
    studio.table("train_metadata.csv", HEADERS[2023], _training_birds(studio, "train_audio", BIRDS))
    _taxonomy(studio)
    return _wide(
        studio, tuple(BIRDS), ["soundscape_29201", "soundscape_29202", "soundscape_7"], hidden=False
    )


def birdclef_2024(folder, seed=0, hidden=False):
    """BirdCLEF 2024: soundscapes without labels, a hidden test set, a column per bird."""
    studio, codes = Studio(folder, seed, 16000), tuple(BIRDS)
    studio.table("train_metadata.csv", HEADERS[2024], _training_birds(studio, "train_audio", BIRDS))
    _taxonomy(studio)
    _scenes(
        studio, ["unlabeled_soundscapes/460830.ogg", "unlabeled_soundscapes/1044211.ogg"], codes
    )
    return _wide(studio, codes, ["soundscape_1446779", "soundscape_460831", "soundscape_7"], hidden)


def birdclef_2025(folder, seed=0, hidden=False):
    """BirdCLEF+ 2025: also frogs and insects, some classes named by a number; a hidden test set, a
    column per class.
    """
    studio = Studio(folder, seed, 16000)
    animals = {
        "1139490": ("Ragoniella pulchella", "Ragoniella pulchella"),
        "65448": ("Lithobates palmipes", "River Frog"),
    }
    animals |= {code: BIRDS[code] for code in ("aldfly", "amered")}
    rows = _training_birds(studio, "train_audio", animals, none="['']")
    studio.table("train.csv", HEADERS[2025], rows)
    header = ("primary_label", "inat_taxon_id", "scientific_name", "common_name", "class_name")
    kinds = ("Insecta", "Amphibia", "Aves", "Aves")
    taxa = [
        (code, 1000 + n, *animals[code], kind)
        for n, (code, kind) in enumerate(zip(animals, kinds, strict=True))
    ]
    studio.table("taxonomy.csv", header, taxa)
    studio.text("recording_location.txt", "Country: Colombia\n")
    _scenes(
        studio,
        ["train_soundscapes/H02_20230420_074000.ogg", "train_soundscapes/H27_20230518_160500.ogg"],
        [*animals],
    )
    return _wide(
        studio, tuple(animals), ["soundscape_8358733", "soundscape_8358734", "soundscape_7"], hidden
    )


def _wide(studio, codes, names, hidden):
    """Test soundscapes and the sample: a row per window, a column per class; three rows where they
    are hidden.
    """
    found = _scenes(studio, [f"test_soundscapes/{name}.ogg" for name in names], codes)
    truth = {f"{name}_{end}": birds for (name, end), birds in found.items()}
    ids = list(truth)
    if hidden:
        _hide(studio, "test_soundscapes")
        studio.text("test_soundscapes/readme.txt", "The test soundscapes are not public.\n")
        truth, ids = {}, [f"{names[0]}_{end}" for end in (5, 10, 15)]
    rows = [(name, *[round(1 / len(codes), 6)] * len(codes)) for name in ids]
    sample = studio.table("sample_submission.csv", ("row_id", *codes), rows)
    return Competition(studio.folder, codes, truth, sample, "group: author")


# --- collections with official folds -----------------------------------------------------------


def urbansound8k(folder, seed=0):
    """UrbanSound8K as it is downloaded: ten folders, which are the folds, and a table."""
    studio, rows = Studio(folder, seed), []
    for fold in range(1, 11):
        for kind, (name, number) in enumerate(URBAN.items()):
            source = 100000 + 100 * fold + kind
            for part in range(1 + (fold + kind) % 2):  # of some sources two slices, in one fold
                file = f"{source}-{number}-0-{part}.wav"
                studio.record(f"audio/fold{fold}/{file}", kind, seconds=0.5)
                rows.append((file, source, part * 0.5, part * 0.5 + 0.5, 1, fold, number, name))
    header = ("slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class")
    studio.table("metadata/UrbanSound8K.csv", header, sorted(rows))
    studio.text("UrbanSound8K_README.txt", "Ten folds: do not reshuffle.\n")
    studio.text("FREESOUNDCREDITS.txt", "")
    return Competition(studio.folder, tuple(URBAN), {}, None, "folds: column fold; group: fsID")


def esc50(folder, seed=0):
    """ESC-50 as it is downloaded: one folder of recordings, five folds in a table and in the
    names.
    """
    studio, rows = Studio(folder, seed), []
    targets = {"dog": 0, "rooster": 1, "rain": 10, "chirping_birds": 14, "keyboard_typing": 32}
    for fold in range(1, 6):
        for kind, (name, target) in enumerate(targets.items()):
            source = 100000 + 100 * fold + kind
            for take in "AB" if kind % 2 else "A":
                file = f"{fold}-{source}-{take}-{target}.wav"
                studio.record(f"audio/{file}", kind)
                rows.append(
                    (file, fold, target, name, name in ("dog", "rooster", "rain"), source, take)
                )
    header = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
    studio.table("meta/esc50.csv", header, sorted(rows))
    classes = tuple(name.replace("_", " ") for name in targets)
    return Competition(
        studio.folder,
        classes,
        {},
        None,
        "folds: column fold; group: src_file; esc10: three of the five",
    )


ALL = {
    **{"frequency_quest": frequency_quest, "speech_commands_2017": speech_commands_2017},
    **{
        "freesound_2018": freesound_2018,
        "freesound_2019": freesound_2019,
        "birdcall_2020": birdcall_2020,
    },
    **{
        "birdclef_2021": birdclef_2021,
        "birdclef_2022": birdclef_2022,
        "birdclef_2023": birdclef_2023,
    },
    **{
        "birdclef_2024": birdclef_2024,
        "birdclef_2025": birdclef_2025,
        "rainforest_2021": rainforest_2021,
    },
    **{
        "mlsp_2013": mlsp_2013,
        "right_whale_2013": right_whale_2013,
        "urbansound8k": urbansound8k,
        "esc50": esc50,
    },
}
