"""A planted shortcut is found and named, and it alone; innocent metadata raises no alarm."""

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from tables import small_config

from helpers.audio import recording
from helpers.base import artifacts
from helpers.data import sources
from helpers.metrics import evaluate, intervals
from helpers.splits import audit, metadata, partition
from helpers.view import plots, style

CLASSES = ("bell", "dog", "rain", "wind")


def innocent(n=160, seed=0, classes=CLASSES, takes=2, n_folds=2):
    """Recordings, and their folds, whose metadata is drawn by group without a look at the class."""
    rng = np.random.default_rng(seed)
    n_groups = n // takes
    group = np.repeat(np.arange(n_groups), takes)
    label = np.array(classes)[rng.permutation(np.arange(n_groups) % len(classes))][group]
    shuffled = pd.Series(label[::takes]).sample(frac=1, random_state=seed)
    rank = shuffled.groupby(shuffled).cumcount().sort_index().to_numpy()
    recorder = rng.integers(0, 4, n_groups)[group]
    rows = pd.DataFrame({"recording_id": [f"r{i:03d}" for i in range(n)], "label": label})
    rows["path"] = [
        f"{name}/{1000 + 7 * of}-{i % takes}.wav"
        for i, (name, of) in enumerate(zip(label, group, strict=True))
    ]
    rows = rows.assign(
        split="train", status="ok", flags="", channels=rng.integers(1, 3, n_groups)[group]
    )
    rows["sample_rate"] = np.array([16000, 22050, 44100, 48000])[recorder]
    rows["codec"] = np.array(["WAV/PCM_16", "WAV/PCM_24", "FLAC/PCM_16", "OGG/VORBIS"])[recorder]
    rows["bit_depth"] = np.array([16, 24, 16, np.nan])[recorder]
    rows["duration_seconds"] = rng.uniform(1, 8, n).round(4)
    rows["peak"], rows["rms_db"] = rng.uniform(0.1, 1, n), rng.normal(-25, 6, n)
    rows["silence_fraction"] = rng.beta(0.3, 2, n).round(2)
    rows["dc_offset"] = rng.normal(0, 0.001, n)
    rows["leading_silence_seconds"] = rng.exponential(0.1, n).round(2)
    rows["noise_floor_db"], rows["bandwidth_hz"] = (
        rng.normal(-60, 8, n),
        rng.uniform(6000, 22000, n),
    )
    fold = pd.array(rank[group] % n_folds + 1, dtype="Int64")
    return rows, pd.DataFrame(
        {"recording_id": rows["recording_id"], "group": group.astype(str), "fold": fold}
    )


@pytest.fixture(autouse=True)
def small_forest(monkeypatch):
    monkeypatch.setattr(audit, "TREES", 8)


def flagged(found):
    return [entry["column"] for entry in found["columns"] if entry["flagged"]]


def entry_of(found, column):
    return next(entry for entry in found["columns"] if entry["column"] == column)


def number(rows):
    return rows["label"].map(CLASSES.index)


PLANTED = {
    "sample_rate": lambda rows: number(rows).map([16000, 22050, 44100, 48000].__getitem__),
    "codec": lambda rows: (
        "WAV/" + number(rows).map(["PCM_16", "PCM_24", "PCM_32", "FLOAT"].__getitem__)
    ),
    "bit_depth": lambda rows: number(rows).map([8.0, 16.0, 24.0, np.nan].__getitem__),
    "channels": lambda rows: number(rows) % 2 + 1,
    "dc_offset": lambda rows: 0.01 * number(rows),
    "leading_silence_seconds": lambda rows: (
        0.5 * number(rows) + rows["leading_silence_seconds"].clip(upper=0.4)
    ),
    "noise_floor_db": lambda rows: -90 + 10 * number(rows) + rows["rms_db"] % 5,
    "bandwidth_hz": lambda rows: 4000.0 + 4000 * number(rows),
}


# --- what is found -----------------------------------------------------------------------------


@pytest.mark.parametrize("column", PLANTED)
def test_a_planted_shortcut_is_flagged_and_no_other_column_is(column):
    rows, folds = innocent()
    found = audit.shortcuts(rows.assign(**{column: PLANTED[column](rows)}), folds, n_samples=200)
    assert found["verdict"] == "suspicious" and flagged(found) == [column]
    first = found["columns"][0]
    assert first["column"] == column and first["auc"] > 0.8 and first["low"] > 0.7
    assert column in found["says"] and first["says"].startswith(
        f"{column} alone tells the class with AUC"
    )


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("{source}-{number}-0-{take}", "name part 2"),  # UrbanSound8K's
        ("{source}_{code}_{take}", "name part 2"),
        ("{code}{source}", "name part 1, piece 1"),
        ("a b c d e f g h i {source} j k {code}", "name part 1 from the end"),
        ("take {take} of {source}, {label}", "spelled out"),
    ],
)
def test_a_class_in_the_file_name_is_said_to_be_harmless(name, place):
    rows, folds = innocent()
    facts = zip(folds["group"], number(rows), rows["label"], rows["path"].str[-5], strict=True)
    facts = [
        {"source": 1000 + 7 * int(s), "number": n, "label": label, "take": t}
        for s, n, label, t in facts
    ]
    names = [name.format(**fact, code="wxyz"[fact["number"]] * 2) for fact in facts]
    found = audit.shortcuts(
        rows.assign(path=[f"any/{stem}.wav" for stem in names]), folds, n_samples=200
    )
    assert flagged(found) == [] and found["verdict"] == "ok" and place in found["class_in_names"]
    assert "The class stands in the file names" in found["says"] and "harmless" in found["says"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("{first} {take}", ("SM04421", "SM02387", "SM01201", "SM03010")),
        (
            "x_{source}_a_b_c_d_e_f_g_{first}",
            ("2024-05-01", "2024-05-02", "2024-06-11", "2024-07-01"),
        ),
    ],
)
def test_what_a_class_was_recorded_with_or_when_is_a_shortcut_of_the_name(name, values):
    rows, folds = innocent()
    first = number(rows).map(lambda n: values[n % len(values)])
    facts = zip(first, folds["group"], rows["path"].str[-5], strict=True)
    names = [name.format(first=device, source=source, take=take) for device, source, take in facts]
    found = audit.shortcuts(
        rows.assign(path=[f"any/{stem}.wav" for stem in names]), folds, n_samples=200
    )
    assert found["class_in_names"] == [] and "harmless" not in found["says"]
    assert flagged(found) and all(column.startswith("name part") for column in flagged(found))
    assert "a device, a person, a place, a day" in found["columns"][0]["says"]


def test_names_of_one_class_that_are_built_in_another_way_are_found():
    rows, folds = innocent()
    plain = rows.assign(path=[f"x/{i * 7919 % 9973}-{i % 2}.wav" for i in range(len(rows))])
    built = plain.assign(
        path=plain["path"].where(rows["label"].ne("rain"), "x/rec " + rows["recording_id"] + ".wav")
    )
    found = audit.shortcuts(built, folds, n_samples=200)
    assert "name shape" in flagged(found) and entry_of(found, "name shape")["class"] == "rain"
    assert flagged(audit.shortcuts(plain, folds, n_samples=200)) == []


def test_one_class_given_away_among_many_is_named():
    classes = tuple("abcdefghij")
    rows, folds = innocent(300, classes=classes, takes=1)
    planted = rows.assign(sample_rate=rows["sample_rate"].where(rows["label"].ne("d"), 8000))
    found = audit.shortcuts(planted, folds, n_samples=200)
    assert flagged(found) == ["sample_rate"]
    entry = entry_of(found, "sample_rate")
    assert entry["class"] == "d" and entry["class_auc"] == 1 and entry["auc"] < 0.7
    assert entry["says"].startswith("sample_rate alone tells d from the rest with AUC 1.00")


def test_a_length_that_one_class_is_cut_to_is_found():
    rows, folds = innocent()
    cut = rows.assign(duration_seconds=rows["duration_seconds"].where(rows["label"].ne("dog"), 4.0))
    assert "exact_duration" in flagged(audit.shortcuts(cut, folds, n_samples=200))


def test_only_a_spectrum_that_breaks_off_counts_as_a_format():
    rows, folds = innocent()
    dog = rows["label"].eq("dog")
    cut = rows.assign(
        bandwidth_hz=rows["bandwidth_hz"].where(~dog, 7000 + rows["bandwidth_hz"] / 10)
    )
    assert "cut_off_hz" not in metadata.file_facts(cut)
    found = audit.shortcuts(
        cut.assign(flags=np.where(dog, "LOW_BANDWIDTH", "")), folds, n_samples=200
    )
    assert (
        entry_of(found, "cut_off_hz")["flagged"] and entry_of(found, "cut_off_hz")["class"] == "dog"
    )


def test_facts_of_the_sound_may_differ_by_class_and_formats_may_not():
    rows, folds = innocent(320)
    many_dogs = rows["label"].eq("dog") & folds["group"].astype(int).mod(5).gt(0)
    for column, value, alarm in (
        ("rms_db", rows["rms_db"] - 40, []),
        ("sample_rate", 8000, ["sample_rate"]),
    ):
        found = audit.shortcuts(
            rows.assign(**{column: rows[column].mask(many_dogs, value)}), folds, n_samples=200
        )
        assert 0.65 < entry_of(found, column)["class_low"] < 0.9
        assert flagged(found) == alarm


def test_several_labels_are_told_one_against_the_rest():
    rows, folds = innocent(classes=("bell|dog", "dog", "rain", ""))
    has_bell = rows["label"].str.contains("bell")
    found = audit.shortcuts(rows, folds, multilabel=True, n_samples=200)
    assert found["verdict"] == "ok"
    planted = rows.assign(sample_rate=np.where(has_bell, 8000, rows["sample_rate"]))
    found = audit.shortcuts(planted, folds, multilabel=True, n_samples=200)
    assert flagged(found) == ["sample_rate"] and entry_of(found, "sample_rate")["class"] == "bell"


# --- what is not -------------------------------------------------------------------------------


def test_innocent_metadata_raises_no_alarm():
    verdicts, scores = [], []
    for seed in range(6):
        rows, folds = innocent(80, seed)
        found = audit.shortcuts(rows, folds, seed, n_samples=100)
        verdicts.append(found["verdict"])
        scores.append(found["score"]["value"])
    assert verdicts.count("suspicious") <= 1
    assert abs(np.mean(scores) - 0.5) < 0.05


def test_shuffled_labels_are_told_no_better_than_by_chance():
    rows, folds = innocent()
    planted = rows.assign(**{column: plant(rows) for column, plant in PLANTED.items()})
    labels = planted.groupby(folds["group"])["label"].first()
    shuffled = pd.Series(labels.sample(frac=1, random_state=0).to_numpy(), labels.index)
    found = audit.shortcuts(
        planted.assign(label=folds["group"].map(shuffled)), folds, n_samples=200
    )
    assert found["verdict"] == "ok" and found["score"]["low"] < 0.5


def test_names_of_sources_are_no_shortcut_where_groups_are_respected_and_one_where_they_are_not():
    rows, folds = innocent(takes=4)
    names = [f"{int(g) * 104729 % 99991:05d}_nohash_{i % 4}" for i, g in enumerate(folds["group"])]
    rows = rows.assign(path=[f"any/{name}.wav" for name in names])
    assert flagged(audit.shortcuts(rows, folds, n_samples=200)) == []
    torn = folds.assign(
        fold=pd.array(np.arange(len(rows)) % 4 + 1, dtype="Int64")
    )  # a take in each fold
    assert flagged(audit.shortcuts(rows, torn, n_samples=200)) == ["name part 1"]


def test_the_class_folder_is_not_read():
    rows, _ = innocent()
    elsewhere = metadata.name_facts(rows["path"].str.replace(r".*/", "x/", regex=True))
    pd.testing.assert_frame_equal(metadata.name_facts(rows["path"]), elsewhere)


# --- test against train ------------------------------------------------------------------------


def with_test_side(rows, folds):
    """The last fold as an unlabelled test side without folds."""
    test = folds["fold"].eq(folds["fold"].max()).to_numpy()
    rows = rows.assign(split=np.where(test, "test", "train"), label=rows["label"].where(~test, ""))
    return rows, folds.assign(fold=folds["fold"].mask(test)), test


def test_a_test_side_like_the_training_side_is_not_told_apart():
    rows, folds, test = with_test_side(*innocent(n_folds=3))
    found = audit.adversarial(rows, folds, n_samples=200)
    assert found["verdict"] == "ok" and found["score"]["low"] < 0.6 and not flagged(found)
    assert audit.shortcuts(rows, folds, n_samples=100) == audit.shortcuts(
        rows[~test], folds[~test], n_samples=100
    )


@pytest.mark.parametrize("column", ["sample_rate", "rms_db"])
def test_a_test_side_recorded_otherwise_is_told_by_what_differs(column):
    rows, folds, test = with_test_side(*innocent(n_folds=3))
    planted = {"sample_rate": 32000, "rms_db": rows["rms_db"] - 25}[column]
    found = audit.adversarial(
        rows.assign(**{column: rows[column].mask(test, planted)}), folds, n_samples=200
    )
    assert flagged(found) == [column] and "test from train" in found["says"]


def test_test_recordings_that_the_folds_lack_are_asked_too():
    rows, folds, test = with_test_side(*innocent(80, takes=1, n_folds=3))
    folds = folds.assign(group=folds["recording_id"])
    whole, part = (audit.adversarial(rows, table, n_samples=100) for table in (folds, folds[~test]))
    assert whole["columns"] and [e["auc"] for e in whole["columns"]] == [
        e["auc"] for e in part["columns"]
    ]
    judged = rows.assign(status=rows["status"].replace("ok", "used"))  # as 02 leaves them
    assert audit.adversarial(judged, folds, n_samples=100) == whole


def test_without_a_test_side_there_is_nothing_to_tell_apart():
    rows, folds = innocent(40)
    assert audit.adversarial(rows, folds) is None
    assert audit.adversarial(rows.assign(split=["test"] + ["train"] * 39), folds) is None


# --- arithmetic --------------------------------------------------------------------------------


def test_the_area_is_scikit_learns_and_its_interval_the_bootstraps():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(100), 3)
    score = (rng.normal(size=100)[group] + rng.normal(size=300)).round(1)
    positive = score + rng.normal(0, 2, 300) > 0
    area, influence = audit.auc_influence(positive, score)
    assert area == pytest.approx(
        roc_auc_score(positive, score)
    ) and influence.sum() == pytest.approx(0)
    label = np.where(positive, "yes", "no")
    table = pd.DataFrame({"label": label, "predicted": "yes", "yes": score, "group": group})
    weights = evaluate.draws(table, 2000, seed=0)
    sizes = np.bincount(group)
    expected = intervals.interval(evaluate.score_samples(table, weights, "roc_auc"), sizes)
    found = intervals.interval(area + (weights - 1) @ np.bincount(group, influence), sizes)
    assert found == pytest.approx(expected, abs=0.005)


def test_only_recordings_of_one_fold_are_ranked_against_each_other():
    rng = np.random.default_rng(1)
    score, positive, fold = (
        rng.normal(size=90).round(1),
        rng.uniform(size=90) < 0.4,
        np.arange(90) % 3,
    )
    area, influence = audit.auc_influence(positive, score, fold)
    parts = [(score[fold == number], positive[fold == number]) for number in range(3)]
    pairs = [truth.sum() * (~truth).sum() for _, truth in parts]
    areas = [roc_auc_score(truth, answers) for answers, truth in parts]
    assert area == pytest.approx(
        np.average(areas, weights=pairs)
    ) and influence.sum() == pytest.approx(0)
    shifted = score + 10 * fold
    assert audit.auc_influence(positive, shifted, fold)[0] == pytest.approx(area)
    assert audit.auc_influence(positive, np.where(positive, 1, 0), positive) == (
        0.5,
        pytest.approx(np.zeros(90)),
    )


def test_what_pure_noise_tells_centres_on_chance():
    """Also where classes are unequally shared out to the folds: pooled over folds it lay below."""
    areas = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        fold = rng.integers(0, 4, 80)
        truth = rng.uniform(size=(80, 1)) < np.array([0.15, 0.3, 0.5, 0.7])[fold][:, None]
        strata, limits = truth[:, 0], audit.SIDE_LIMITS
        rows = pd.DataFrame({"group": np.arange(80), "fold": fold})
        exam = audit._exam("", rows, truth, ["yes"], strata, limits, seed, 2)
        areas.append(
            audit._ask(pd.DataFrame({"noise": rng.normal(size=80)}), exam)["value"].iloc[0]
        )
    assert abs(np.mean(areas) - 0.5) < 2.5 * np.std(areas) / np.sqrt(len(areas))


def test_no_recording_is_asked_by_a_forest_that_has_seen_its_group():
    rows, folds = innocent(80, takes=4)
    truth = (rows["label"].to_numpy()[:, None] == np.array(CLASSES)).astype(bool)
    asked = rows.assign(group=folds["group"], fold=folds["fold"])
    exam = audit._exam("", asked, truth, list(CLASSES), rows["label"], {}, 0, 2)
    values = folds["group"].astype(float).to_numpy()[:, None]
    answers, changed = audit.out_of_fold(values, exam), truth.copy()
    first = folds["fold"].eq(1).to_numpy()
    changed[first] = ~changed[first]
    again = audit.out_of_fold(values, audit.Exam(**{**vars(exam), "truth": changed}))
    np.testing.assert_array_equal(answers[first], again[first])
    assert (answers[~first] != again[~first]).any()


def test_the_same_seed_gives_the_same_audit_ready_for_json():
    rows, folds = innocent(60)
    found = audit.shortcuts(rows, folds, seed=3, n_samples=100)
    assert json.loads(json.dumps(found, allow_nan=False)) == audit.shortcuts(
        rows, folds, seed=3, n_samples=100
    )
    assert (
        found["chance"] == 0.5
        and found["score"]["low"] <= found["score"]["value"] <= found["score"]["high"]
    )
    assert {entry["column"] for entry in found["kinds"]} == {
        f"all {kind} facts" for kind in ("format", "name", "sound")
    }


def test_missing_values_missing_columns_and_rare_classes_do_not_stop_it():
    rows, folds = innocent(60)
    rows = rows.drop(columns=["noise_floor_db", "bandwidth_hz", "flags"])
    rows.loc[:2, ["bit_depth", "rms_db", "duration_seconds"]] = np.nan
    rows.loc[0, ["label", "codec"]] = ["alone", ""]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = audit.shortcuts(rows.assign(channels=1), folds, n_samples=100)
    assert found["verdict"] == "ok" and "channels" not in {
        entry["column"] for entry in found["columns"]
    }
    alike = rows[["recording_id", "label", "split", "status"]].assign(
        path="x/a.wav", sample_rate=8000
    )
    found = audit.shortcuts(alike, folds, n_samples=100)
    assert found["columns"] == [] and found["score"]["value"] == 0.5 and found["verdict"] == "ok"


def test_less_than_two_classes_or_folds_are_refused():
    rows, folds = innocent(40)
    for table, dealt in ((rows.assign(label="rain"), folds), (rows, folds.assign(fold=1))):
        with pytest.raises(ValueError, match="needs two of each"):
            audit.shortcuts(table, dealt)


def test_the_figure_has_a_row_per_fact_and_shows_the_flagged_in_red():
    rows, folds, test = with_test_side(*innocent(80, n_folds=3))
    planted = rows.assign(sample_rate=rows["sample_rate"].mask(test, 8000))
    for found in (
        audit.shortcuts(planted, folds, n_samples=100),
        audit.adversarial(planted, folds, n_samples=100),
    ):
        axis = plots.shortcut_scores(found).axes[0]
        ticks = {tick.get_text(): tick.get_color() for tick in axis.get_yticklabels()}
        assert set(ticks) == {
            entry["column"].replace("_", " ") for entry in found["columns"] + found["kinds"]
        }
        red = {name for name, colour in ticks.items() if colour == style.RED}
        assert red == {
            entry["column"].replace("_", " ")
            for entry in found["columns"] + found["kinds"]
            if entry["flagged"]
        }
        assert found["asks"] in axis.get_title(loc="left")


# --- real data ---------------------------------------------------------------------------------


def test_esc10_has_no_shortcut_in_its_formats_and_names():
    root = Path(os.environ.get("ESC10", artifacts.REPOSITORY.parent / "shared" / "data" / "ESC-10"))
    if not root.is_dir():
        pytest.skip(f"ESC-10 is not at {root} (set ESC10 to its folder)")
    pattern = r"\d+ - (.*)"
    found = sources.find(
        root, small_config(data={"root": str(root), "label_pattern": pattern}).data
    )
    rows = recording.survey(root, found)
    rows = rows[rows["status"].eq("ok")]
    folds = rows.assign(group=partition.groups(rows), fold=rows["official_fold"].astype("Int64"))
    found = audit.shortcuts(rows, folds, n_samples=500)
    assert found["verdict"] == "ok" and flagged(found) == []
    by_kind = {entry["kind"]: entry for entry in found["kinds"]}
    assert by_kind["format"]["low"] < 0.5 and by_kind["name"]["auc"] < 0.6
    assert by_kind["sound"]["auc"] > 0.8  # rain is steady, a dog barks and is silent
