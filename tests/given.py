"""Folders as people have them, each given as DATA and nothing more: written small, with what must
be found in them.
"""

from dataclasses import dataclass
from pathlib import Path

from competitions import Studio

CLASSES = ("bark", "meow", "moo")
TAKES = 4  # recordings of each class
TAGS = ((0,), (1,), (2,), (0, 1), (1, 2), (0,), (1,), (2,), (0, 2), (0,), (1,), (2,))
WORDS = ("bed", "cat", "eight", "five")


@dataclass(frozen=True)
class Given:
    """What must be found: recordings to learn from and of the test side, classes, and how it was
    recognised.
    """

    folder: Path
    says: str  # part of what is printed as recognised
    n_train: int = TAKES * len(CLASSES)
    n_test: int = 0
    classes: tuple = CLASSES
    multilabel: bool = False


def _takes(studio, folder, suffix=".wav", start=100):
    """Recordings of all classes in one folder: their names and labels, mixed."""
    rows = []
    for number in range(TAKES * len(CLASSES)):
        kind, name = number % len(CLASSES), f"{start + number}{suffix}"
        studio.record(f"{folder}/{name}", kind)
        rows.append((name, CLASSES[kind]))
    return rows


def _tests(studio, folder="test", start=900):
    """Three recordings of the test side and a sample submission that asks for them."""
    names = [f"{start + number}.wav" for number in range(3)]
    for kind, name in enumerate(names):
        studio.record(f"{folder}/{name}", kind)
    studio.table("sample_submission.csv", ("id", "label"), [(name, CLASSES[0]) for name in names])
    return names


def class_folders(root):
    studio = Studio(root, 0)
    for kind, name in enumerate(CLASSES):
        for take in range(TAKES):
            studio.record(f"{name}/{take}.wav", kind)
    return Given(studio.folder, "")


def table(root):
    """train.csv with class names, a test folder, a sample submission: the commonest of all."""
    studio = Studio(root, 0)
    studio.table("train.csv", ("file", "label"), _takes(studio, "train"))
    _tests(studio)
    return Given(studio.folder, "table train.csv: id column 'file', label column 'label'", n_test=3)


def table_with_speakers(root):
    studio = Studio(root, 0)
    rows = [(*row, f"S{number // 3 % 3}") for number, row in enumerate(_takes(studio, "audio"))]
    studio.table("meta/labels.csv", ("file", "species", "speaker"), rows)
    return Given(studio.folder, "label column 'species', group columns 'speaker'")


def several_labels(root):
    studio, rows = Studio(root, 0), []
    for number, kinds in enumerate(TAGS):
        studio.record(f"audio/{number}.wav", *kinds)
        rows.append((f"{number}.wav", ",".join(CLASSES[kind] for kind in kinds)))
    studio.table("train.csv", ("fname", "labels"), rows)
    return Given(studio.folder, "several labels per recording, between them ','", multilabel=True)


def flags(root):
    """A column of 0 and 1 per class."""
    studio, rows = Studio(root, 0), []
    for number, kinds in enumerate(TAGS):
        studio.record(f"audio/{number}.wav", *kinds)
        rows.append((f"{number}.wav", *(int(kind in kinds) for kind in range(len(CLASSES)))))
    studio.table("train.csv", ("fname", *CLASSES), rows)
    return Given(studio.folder, "a column of 0 and 1 per class, several labels", multilabel=True)


def metadata_per_side(root):
    """Hugging Face's audio folder: a table in train/, one in test/, names that repeat."""
    studio = Studio(root, 0)
    studio.table("train/metadata.csv", ("file_name", "label"), _takes(studio, "train"))
    studio.table("test/metadata.csv", ("file_name", "label"), _takes(studio, "test"))
    return Given(studio.folder, "table train/metadata.csv: id column 'file_name'", n_test=12)


def metadata_with_paths(root):
    """The same with one table of paths, the test side's labels among them."""
    studio = Studio(root, 0)
    rows = []
    for side in ("data/train", "data/test"):
        rows += [(f"{side}/{name}", label) for name, label in _takes(studio, side)]
    studio.table("metadata.csv", ("file_name", "label"), rows)
    return Given(studio.folder, "table metadata.csv: id column 'file_name'", n_test=12)


def paths_without_extension(root):
    studio = Studio(root, 0)
    rows = [(f"audio/{Path(name).stem}", label) for name, label in _takes(studio, "audio", ".flac")]
    studio.table("labels.csv", ("path", "class"), rows)
    return Given(studio.folder, "id column 'path', label column 'class'")


def paths_from_further_up(root):
    """Paths that begin above the folder that is given, as Windows writes them."""
    studio = Studio(root, 0)
    rows = [(f".\\set\\audio\\{name}", label) for name, label in _takes(studio, "audio")]
    studio.table("labels.csv", ("path", "category"), rows)
    return Given(studio.folder, "id column 'path', label column 'category'")


def lone_audio(root):
    """All recordings in the folder itself; train.csv has the ids of most, the sample submission
    those of the others.
    """
    studio = Studio(root, 0)
    rows = [(name[:-4], label) for name, label in _takes(studio, ".")]
    studio.table("train.csv", ("id", "target"), rows)
    names = _tests(studio, ".")
    studio.table(
        "sample_submission.csv", ("id", "target"), [(name[:-4], CLASSES[0]) for name in names]
    )
    return Given(
        studio.folder, "test set: the recordings that sample_submission.csv names", n_test=3
    )


def train_and_test_tables(root):
    """One folder of audio; test.csv names the test set."""
    studio = Studio(root, 0)
    studio.table("train.csv", ("filename", "category"), _takes(studio, "audio"))
    studio.table("test.csv", ("filename",), [(name,) for name in _tests(studio, "audio")])
    return Given(studio.folder, "table train.csv: id column 'filename'", n_test=3)


def semicolons(root):
    studio = Studio(root, 0)
    rows = [";".join((*row, "0,6")) for row in _takes(studio, "audio")]
    studio.text("labels.csv", "\n".join(["file;class;seconds", *rows]))
    return Given(studio.folder, "id column 'file', label column 'class'")


def tabs(root):
    studio = Studio(root, 0)
    rows = ["\t".join(row) for row in _takes(studio, "audio")]
    studio.text("audio/labels.tsv", "\n".join(["path\tspecies", *rows]))
    return Given(studio.folder, "table audio/labels.tsv: id column 'path', label column 'species'")


def words_of_few_speakers(root):
    """Speech Commands v2: lists, a folder of noise, two words that one speaker alone has said."""
    studio = Studio(root, 0)
    speakers = [studio.hex() for _ in range(3)]
    for kind, word in enumerate(WORDS):
        for speaker in speakers if kind < 2 else speakers[kind - 2 : kind - 1]:
            for take in range(3):
                studio.record(f"{word}/{speaker}_nohash_{take}.wav", kind, seconds=1.0)
    for name in ("pink_noise", "running_tap"):
        studio.record(f"_background_noise_/{name}.wav", seconds=3.0)
    studio.text("validation_list.txt", f"bed/{speakers[0]}_nohash_0.wav\n")
    studio.text("testing_list.txt", f"bed/{speakers[1]}_nohash_0.wav\n")
    studio.text("README.md", "Speech commands.\n")
    return Given(studio.folder, "", n_train=26, classes=("_background_noise_", *WORDS))


def speakers_as_classes(root):
    """Who speaks is what is asked: names such as VCTK's tell the class."""
    studio = Studio(root, 0)
    for kind, name in enumerate(("p225", "p226", "p227")):
        for take in range(TAKES):
            studio.record(f"{name}/{name}_00{take}.wav", kind)
    return Given(studio.folder, "", classes=("p225", "p226", "p227"))


ALL = {
    **{"class_folders": class_folders, "table": table, "table_with_speakers": table_with_speakers},
    **{"several_labels": several_labels, "flags": flags, "metadata_per_side": metadata_per_side},
    **{
        "metadata_with_paths": metadata_with_paths,
        "paths_without_extension": paths_without_extension,
    },
    **{"paths_from_further_up": paths_from_further_up, "lone_audio": lone_audio},
    **{"train_and_test_tables": train_and_test_tables, "semicolons": semicolons, "tabs": tabs},
    **{"words_of_few_speakers": words_of_few_speakers, "speakers_as_classes": speakers_as_classes},
}
