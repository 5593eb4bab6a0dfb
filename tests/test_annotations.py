"""Every form of labels becomes the same table; a broken one says what is wrong with it."""

import json

import competitions
import pytest

from helpers.base import errors
from helpers.data import sources
from helpers.layouts import annotations, by_table
from helpers.run import presets
from helpers.splits import partition

ROWS = [("a.wav", "dog"), ("b.wav", "cat")]


def read(root, name, text):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")
    return annotations.read(root, name).to_dict("records")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.json", json.dumps(dict(ROWS))),
        ("x.json", json.dumps({"dog": ["a.wav"], "cat": ["b.wav"]})),
        ("x.json", json.dumps([{"file": file, "label": label} for file, label in ROWS])),
        ("x.json", json.dumps({file: {"label": label} for file, label in ROWS})),
        ("x.json", json.dumps({"info": {}, "rows": [{"file": f, "label": k} for f, k in ROWS]})),
        ("x.jsonl", "\n".join(json.dumps({"file": f, "label": k}) for f, k in ROWS) + "\n\n"),
        ("x.csv", "file,label\na.wav,dog\nb.wav,cat\n"),
        ("x.txt", "Begin File\tSpecies\na.wav\tdog\na.wav\tdog\nb.wav\tcat\n"),
    ],
)
def test_forms_of_one_table_are_read_alike(tmp_path, name, text):
    assert read(tmp_path, name, text) == [{"file": f, "label": k} for f, k in ROWS]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("x.json", "{", "x.json is not valid JSON"),
        ("x.json", "[1, 2]", "holds no map of files"),
        ("x.jsonl", '{"file": "a.wav"}\n{', "line 2"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_name(tmp_path, name, text, says):
    with pytest.raises(errors.SourceError, match=says):
        read(tmp_path, name, text)


def test_several_labels_missing_ones_and_numbers_are_texts(tmp_path):
    rows = [
        {"file": "a.wav", "labels": ["dog", "cat"], "n": 1},
        {"file": "b.wav", "more": {"x": 1}},
    ]
    assert read(tmp_path, "x.json", json.dumps(rows)) == [
        {"file": "a.wav", "labels": "['dog', 'cat']", "n": "1", "more": ""},
        {"file": "b.wav", "labels": "", "n": "", "more": ""},
    ]


def test_kaldi_without_labels_asks_who_speaks(tmp_path):
    competitions.Studio(tmp_path, 0).record("wav/a.wav", seconds=0.1)
    (tmp_path / "utt2spk").write_text("u1 ann\nu2 bo\n")
    rows = read(tmp_path, "wav.scp", "u1 /elsewhere/wav/a.wav\nu2 sox in.wav -t wav - |\n")
    assert rows == [{"file": "wav/a.wav", "label": "ann"}, {"file": "in.wav", "label": "bo"}]


def test_audacitys_ranges_of_frequency_and_empty_files_say_nothing():
    assert annotations._labels("1\t2\tdog\n\\\t100\t200\n3\t4\tcat\n3\t4\tdog\n") == ["dog", "cat"]
    assert annotations._labels("\n") == []


# --- sides -------------------------------------------------------------------------------------


def sided(root, validated=("bark", "meow"), n=4):
    studio = competitions.Studio(root, 0)
    for side, classes in (("train", ("bark", "meow")), ("val", validated)):
        for kind, name in enumerate(classes):
            for take in range(n):
                studio.record(f"{side}/{name}/{side}{take}.wav", kind, seconds=0.2)
    return presets.load(data=root)


def test_a_validation_side_is_tested_and_all_else_only_learned_from(tmp_path):
    config = sided(tmp_path)
    found = sources.find(tmp_path, config.data)
    assert "an official validation side of 8 recordings" in sources.in_words(found, config.data)
    fold, how = partition.folds(found.assign(group=found["recording_id"]), 5, seed=0)
    tested = found["path"].str.startswith("val/")
    assert fold.eq(sources.VALIDATION).tolist() == tested.tolist()
    assert how.startswith("the official validation side is tested")
    assert partition.rounds(fold, "last") == [{"test": 1, "validation": None, "train": (-1,)}]


def test_a_validation_side_that_lacks_a_class_is_dealt_into_folds_and_it_is_said(tmp_path):
    config = sided(tmp_path, validated=("bark",))
    with pytest.warns(UserWarning, match=r"4 recordings and lacks classes \(meow\)"):
        found = sources.find(tmp_path, config.data)
    assert found["official_fold"].isna().all() and len(found) == 12


def test_sides_that_share_their_sources_are_not_kept_and_it_is_said(tmp_path):
    found = sources.find(tmp_path, sided(tmp_path).data)
    groups = found["path"].str.extract(r"(\d)\.wav")[0]  # the same on both sides
    fold, how = partition.folds(found.assign(group=groups), 3, seed=0)
    assert "the official validation side is not kept: 4 groups cross" in how
    assert set(fold) == {1, 2, 3}


def test_where_more_folds_are_needed_the_side_is_dealt_out_and_it_is_said(tmp_path):
    sided(tmp_path)
    for settings in ("train.select=validation", "compare.models=[svm,stacking]"):
        config = presets.load(data=tmp_path, settings=settings)
        assert config.data.validation_folders == ()
        assert config.recognised.endswith("the validation side is dealt into folds with the rest")


def test_a_smoke_run_keeps_recordings_of_both_sides(tmp_path):
    data = sided(tmp_path, n=9).data.model_copy(update={"max_per_class": 4})
    ok = sources.find(tmp_path, data).query("status == 'ok'")
    assert ok.groupby(["label", "official_fold"]).size().gt(0).sum() == 4


# --- what is not known -------------------------------------------------------------------------


def test_what_was_seen_is_said_with_lines_that_read_it(tmp_path):
    studio = competitions.Studio(tmp_path, 0)
    for number in range(20):
        studio.record(f"audio/{number % 2}_{number:03}.wav", seconds=0.1)
    with pytest.raises(errors.SourceError) as error:
        sources.find(tmp_path, presets.load(data=tmp_path).data)
    said = str(error.value)
    assert "20 .wav" in said and "part 1 of the names has 2 values (0, 1, …)" in said
    lines = said[said.index("data:\n") :]
    (tmp_path / "my.yaml").write_text(lines)
    data = presets.load(str(tmp_path / "my.yaml"), data=tmp_path).data
    assert set(sources.find(tmp_path, data).query("status == 'ok'")["label"]) == {"0", "1"}


def test_labels_beside_class_folders_are_named_and_not_read(tmp_path):
    studio = competitions.Studio(tmp_path, 0)
    for name in ("site1", "site2"):
        for take in range(2):
            studio.record(f"{name}/{take}.wav", seconds=0.1)
            studio.text(f"{name}/{take}.txt", "bark\n")
    keys, says = by_table.keys_of(tmp_path)
    assert keys == {} and says.endswith("data.labels_csv=**/*.txt")
