"""The tiny competitions: laid out as the real ones, heard by the decoder, and asked for what their
truth answers.
"""

import hashlib

import pandas as pd
import pytest
from competitions import (
    ALL,
    FORMATS,
    HEADERS,
    birdcall_2020,
    birdclef_2021,
    birdclef_2024,
    birdclef_2025,
)

from helpers.audio import decoder, recording
from helpers.base import errors
from helpers.data import sources
from helpers.run import presets
from helpers.splits import name_groups

each = pytest.mark.parametrize("name", ALL)
LAYOUTS = {  # a path, or a pattern, of each kind of file
    "frequency_quest": (
        "train/train/dog_bark/100000-3-0-0.wav",
        "test/test/*.wav",
        "sample_submission.csv",
    ),
    "speech_commands_2017": (
        "train/audio/yes/*_nohash_0.wav",
        "train/audio/_background_noise_/pink_noise.wav",
    ),
    "freesound_2018": ("audio_train/*.wav", "audio_test/*.wav", "train.csv"),
    "freesound_2019": ("train_curated/*.wav", "train_noisy/*.wav", "test/*.wav", "train_noisy.csv"),
    "birdcall_2020": (
        "train_audio/aldfly/XC130000.mp3",
        "test_audio/*.mp3",
        "train.csv",
        "test.csv",
    ),
    "birdclef_2021": (
        "train_short_audio/aldfly/XC130000.ogg",
        "train_soundscapes/7019_COR_20190904.ogg",
        "test.csv",
    ),
    "birdclef_2022": (
        "train_audio/aldfly/*.ogg",
        "scored_birds.json",
        "test_soundscapes/soundscape_453028782.ogg",
    ),
    "birdclef_2023": (
        "train_audio/aldfly/*.ogg",
        "train_metadata.csv",
        "test_soundscapes/soundscape_29201.ogg",
    ),
    "birdclef_2024": (
        "train_metadata.csv",
        "unlabeled_soundscapes/*.ogg",
        "test_soundscapes/*.ogg",
    ),
    "birdclef_2025": (
        "train.csv",
        "taxonomy.csv",
        "train_audio/1139490/*.ogg",
        "train_soundscapes/H02_*.ogg",
    ),
    "rainforest_2021": ("train_tp.csv", "train_fp.csv", "train/*.flac", "test/*.flac"),
    "mlsp_2013": ("essential_data/src_wavs/PC1_*.wav", "essential_data/CVfolds_2.txt"),
    "right_whale_2013": (
        "train2/*_TRAIN0_1.aif",
        "train2/*_TRAIN1_0.aif",
        "test2/*_Test0.aif",
        "sampleSubmission.csv",
    ),
    "urbansound8k": ("audio/fold1/*.wav", "audio/fold10/*.wav", "metadata/UrbanSound8K.csv"),
    "esc50": ("audio/1-100100-A-0.wav", "meta/esc50.csv"),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Every competition, by name, written once."""
    return {name: write(tmp_path_factory.mktemp(name)) for name, write in ALL.items()}


def read(competition, name, **options):
    return pd.read_csv(competition.folder / name, dtype=str, keep_default_na=False, **options)


def recordings(folder):
    return sorted(path for path in folder.rglob("*") if path.suffix in FORMATS)


def sounds(competition):
    """A digest of every recording's samples by its path: Ogg files of one sound differ, their
    streams are numbered.
    """
    paths = {
        path.relative_to(competition.folder).as_posix(): path
        for path in recordings(competition.folder)
    }
    heard = {name: path for name, path in paths.items() if name not in competition.undecodable}
    return {
        name: hashlib.sha256(decoder.decode(path).waveform.tobytes()).digest()
        for name, path in heard.items()
    }


@each
def test_the_files_lie_where_the_real_ones_do(written, name):
    for pattern in LAYOUTS[name]:
        assert list(written[name].folder.glob(pattern)), pattern


@each
def test_every_recording_can_be_heard_and_only_the_named_ones_cannot(written, name):
    competition, unheard = written[name], []
    for path in recordings(competition.folder):
        try:
            assert decoder.decode(path).waveform.any()
        except errors.AudioIssue:
            unheard.append(path.relative_to(competition.folder).as_posix())
    assert tuple(unheard) == competition.undecodable


@each
def test_no_two_recordings_are_alike_and_the_same_seed_writes_the_same(written, tmp_path, name):
    first, again = written[name], ALL[name](tmp_path)
    assert first.truth == again.truth and (
        first.sample is None or first.sample.read_bytes() == again.sample.read_bytes()
    )
    heard, repeated = (sounds(competition) for competition in (first, again))
    assert heard == repeated and len(set(heard.values())) == len(heard)


@each
def test_the_truth_names_classes_and_answers_the_rows_of_the_sample(written, name):
    competition = written[name]
    assert len(competition.classes) in range(2, 6)
    assert {label for labels in competition.truth.values() for label in labels} <= set(
        competition.classes
    )
    if competition.sample is None:
        return
    ids = pd.read_csv(competition.sample, dtype=str).iloc[:, 0]
    if name == "birdclef_2022":
        ids = ids.str.replace(r"_[a-z0-9]+_(\d+)$", r"_\1", regex=True)
    if name == "mlsp_2013":
        ids = (ids.astype(int) // 100).astype(str)
    unheard = {path.rsplit("/", 1)[1] for path in competition.undecodable}
    assert set(ids) - unheard == set(competition.truth) and len(competition.truth) >= 5


@pytest.mark.parametrize("year", HEADERS)
def test_the_birds_have_recordings_by_several_authors(written, year):
    competition = written[f"birdclef_{year}"]
    table = read(competition, "train.csv" if year == 2025 else "train_metadata.csv")
    assert tuple(table) == HEADERS[year] and set(table["primary_label"]) == set(competition.classes)
    assert table.groupby("primary_label")["author"].nunique().min() == 5
    folder = {2021: "train_short_audio"}.get(year, "train_audio")
    place = table["primary_label"] + "/" + table["filename"] if year == 2021 else table["filename"]
    assert all((competition.folder / folder / path).is_file() for path in place)


def test_headers_by_hand(written):
    expected = {
        ("freesound_2018", "train.csv"): "fname,label,manually_verified",
        ("freesound_2019", "train_curated.csv"): "fname,labels",
        ("birdcall_2020", "test.csv"): "site,row_id,seconds,audio_id",
        ("birdcall_2020", "sample_submission.csv"): "row_id,birds",
        ("birdclef_2021", "train_soundscape_labels.csv"): "row_id,site,audio_id,seconds,birds",
        ("birdclef_2022", "sample_submission.csv"): "row_id,target",
        (
            "rainforest_2021",
            "train_fp.csv",
        ): "recording_id,species_id,songtype_id,t_min,f_min,t_max,f_max",
        ("rainforest_2021", "sample_submission.csv"): "recording_id,s0,s1,s2,s3",
        ("mlsp_2013", "essential_data/rec_labels_test_hidden.txt"): "rec_id,[labels]",
        ("mlsp_2013", "sample_submission.csv"): "Id,Probability",
        ("right_whale_2013", "sampleSubmission.csv"): "clip,probability",
        (
            "urbansound8k",
            "metadata/UrbanSound8K.csv",
        ): "slice_file_name,fsID,start,end,salience,fold,classID,class",
        ("esc50", "meta/esc50.csv"): "filename,fold,target,category,esc10,src_file,take",
    }
    for (name, table), header in expected.items():
        assert (written[name].folder / table).read_text(encoding="utf-8").splitlines()[0] == header


@pytest.mark.parametrize("write", [birdcall_2020, birdclef_2021, birdclef_2024, birdclef_2025])
def test_a_hidden_test_set_has_no_recording_and_three_rows(tmp_path, write):
    competition = write(tmp_path, hidden=True)
    assert not [
        path
        for path in recordings(competition.folder)
        if path.parent.name in ("test_audio", "test_soundscapes")
    ]
    assert len(pd.read_csv(competition.sample)) == 3 and not competition.truth


@each
def test_names_propose_no_groups_beside_those_of_the_layout(written, name):
    folder = written[name].folder
    data = presets.load(data=str(folder)).data
    found = sources.find(folder, data)
    if name in (
        "freesound_2018",
        "freesound_2019",
        "rainforest_2021",
    ):  # nothing else tells who belongs together
        found = recording.survey(folder, found)
    usable = found[found["status"].eq("ok")].reset_index(drop=True)
    assert name_groups.used(name_groups.propose(usable, data)) == ""
