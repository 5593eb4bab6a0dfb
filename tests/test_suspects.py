"""Doubtful labels stand at the top, and what a person writes into relabel.csv is never lost."""

import csv
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import prediction_rows, tagging_rows

from helpers.base import targets
from helpers.base.errors import SourceError
from helpers.data import relabel
from helpers.metrics import suspects

law = settings(deadline=None, max_examples=25, derandomize=True)
seeds = st.integers(0, 10_000)
CLASSES = ["a", "b", "c"]


def answers(labels, probabilities, classes=CLASSES):
    """A table of predictions: recordings r1, r2, … with these labels and probabilities."""
    table = prediction_rows(labels, labels, classes=classes).assign(
        recording_id=[f"r{n + 1}" for n in range(len(labels))]
    )
    table[list(classes)] = probabilities
    return table


def guesses(seed, n=12):
    """Random labels of three classes, each there at least once, with random probabilities of one
    model.
    """
    rng = np.random.default_rng(seed)
    return answers([*CLASSES, *rng.choice(CLASSES, n - 3)], rng.dirichlet([1, 1, 1], n))


# --- the ranking -------------------------------------------------------------------------------


def test_a_ranking_worked_out_by_hand():
    # each class is usually given 0.5 where it is the label, so only the ratio of two probabilities
    # counts
    table = answers(
        "aabbc",
        [[0.8, 0.15, 0.05], [0.2, 0.7, 0.1], [0.25, 0.6, 0.15], [0.35, 0.4, 0.25], [0.2, 0.3, 0.5]],
    )
    ranked = suspects.rank({"m": table})
    assert list(ranked) == [
        *("recording_id", "group", "label", "suggested"),
        *("doubt", "confidence_given", "confidence_suggested", "rank"),
    ]
    assert ranked["recording_id"].tolist() == ["r2", "r4", "r5", "r3", "r1"]
    assert ranked["label"].tolist() == list("abcba") and ranked["suggested"].tolist() == list(
        "babab"
    )
    np.testing.assert_allclose(
        ranked["doubt"], [0.7 / 0.9, 0.35 / 0.75, 0.3 / 0.8, 0.25 / 0.85, 0.15 / 0.95]
    )
    np.testing.assert_allclose(ranked["confidence_given"], [0.2, 0.4, 0.5, 0.6, 0.8])
    np.testing.assert_allclose(ranked["confidence_suggested"], [0.7, 0.35, 0.3, 0.25, 0.15])


def test_a_class_that_is_always_hard_is_not_doubted_as_a_whole():
    table = answers("aabb", [[0.4, 0.6], [0.4, 0.6], [0.1, 0.9], [0.3, 0.7]], ["a", "b"])
    ranked = suspects.rank({"m": table}).set_index("recording_id")
    np.testing.assert_allclose(ranked.loc["r1", "doubt"], (0.6 / 0.8) / (0.6 / 0.8 + 0.4 / 0.4))
    np.testing.assert_allclose(ranked.loc["r4", "doubt"], (0.3 / 0.4) / (0.3 / 0.4 + 0.7 / 0.8))
    assert ranked.index[0] == "r4"


def test_of_two_models_the_log_odds_are_averaged_and_the_probabilities_too():
    one = answers("ab", [[0.2, 0.8], [0.2, 0.8]], ["a", "b"])
    other = answers("ab", [[0.5, 0.5], [0.5, 0.5]], ["a", "b"])
    ranked = suspects.rank({"one": one, "other": other}).set_index("recording_id")
    np.testing.assert_allclose(
        ranked["doubt"], 0.5
    )  # each model says of both recordings what it usually does
    third = answers("ab", [[0.1, 0.9], [0.1, 0.9]], ["a", "b"]).assign(a=[0.1, 0.4], b=[0.9, 0.6])
    # log odds against r1's label: 0 of `one`, (0.9 / 0.6) / (0.1 / 0.1) of `third`
    ranked = suspects.rank({"one": one, "third": third}).set_index("recording_id")
    np.testing.assert_allclose(ranked.loc["r1", "doubt"], 1.5**0.5 / (1 + 1.5**0.5))
    np.testing.assert_allclose(
        ranked.loc["r1", ["confidence_given", "confidence_suggested"]].tolist(), [0.15, 0.85]
    )


@law
@given(seeds)
def test_a_model_that_knows_has_the_flipped_labels_on_top_with_their_true_class(seed):
    rng = np.random.default_rng(seed)
    truth = np.array([*CLASSES * 8])
    sure = rng.uniform(0.7, 0.95, (len(truth), 1))
    probabilities = np.where(truth[:, None] == CLASSES, sure, (1 - sure) / 2)
    flipped = rng.choice(len(truth), 3, replace=False)
    given = truth.copy()
    given[flipped] = [
        rng.choice([name for name in CLASSES if name != truth[one]]) for one in flipped
    ]
    ranked = suspects.rank({"m": answers(given, probabilities)})
    assert set(ranked["recording_id"][:3]) == {f"r{one + 1}" for one in flipped}
    assert ranked["doubt"][2] > 0.5 > ranked["doubt"][3]
    right = pd.Series(truth, index=[f"r{n + 1}" for n in range(len(truth))])
    assert ranked["suggested"][:3].tolist() == right[ranked["recording_id"][:3]].tolist()


@law
@given(seeds)
def test_a_ranking_holds_every_recording_once_and_the_order_of_its_input_does_not_matter(seed):
    one, other = guesses(seed), guesses(seed).assign(**guesses(seed + 1)[CLASSES])
    ranked = suspects.rank({"one": one, "other": other})
    assert sorted(ranked["recording_id"]) == sorted(one["recording_id"])
    assert ranked["rank"].tolist() == list(range(1, len(one) + 1))
    assert ranked["doubt"].is_monotonic_decreasing and ranked["doubt"].between(0, 1).all()
    assert ranked["suggested"].ne(ranked["label"]).all() and set(ranked["suggested"]) <= set(
        CLASSES
    )
    mixed = other.sample(frac=1, random_state=seed)[[*other.columns[:5], "c", "a", "b"]]
    pd.testing.assert_frame_equal(suspects.rank({"other": mixed, "one": one}), ranked)


def test_models_that_are_certain_leave_numbers_to_rank_by():
    ranked = suspects.rank({"m": answers("abcc", np.eye(3)[[0, 1, 2, 0]])})
    assert ranked["recording_id"][0] == "r4" and np.isfinite(ranked["doubt"]).all()


def test_models_of_different_recordings_labels_or_classes_are_not_mixed():
    one = guesses(0)
    for other in (one.iloc[1:], one.assign(label="a"), one.drop(columns="c")):
        with pytest.raises(ValueError, match="other and one have not predicted the same"):
            suspects.rank({"one": one, "other": other})
    with pytest.raises(ValueError, match="one model at least"):
        suspects.rank({})


def grouped():
    """A ranking in which the three most doubted labels come from one source, and one source is not
    doubted.
    """
    rows = {"recording_id": list("abcdef"), "group": list("xxxyzz"), "label": "p", "suggested": "q"}
    doubt = [0.98, 0.97, 0.9, 0.8, 0.4, 0.3]
    return pd.DataFrame({**rows, "doubt": doubt, "rank": np.arange(1, 7)})


def test_one_unusual_source_is_one_finding_and_does_not_fill_the_list():
    first = suspects.one_per_source(grouped())
    assert first["recording_id"].tolist() == ["a", "d", "e"] and first["more"].tolist() == [2, 0, 0]
    assert suspects.one_per_source(grouped().head(0)).empty
    assert suspects.spread(grouped())["recording_id"].tolist() == ["a", "d", "e", "b", "f", "c"]


def test_what_is_said_of_doubts_is_no_chance_that_a_label_is_wrong():
    says = suspects.in_words(grouped())
    assert says.startswith("The models doubt the label of 4 of 6 recordings, from 2 sources")
    assert "not the chance" in says and "were wrong" in says


# --- several labels per recording --------------------------------------------------------------


def test_with_several_labels_a_class_is_a_question_of_its_own():
    # where "a" is there it is given 0.6 on average, where it is not, "not there" is given 0.8
    table = answers(
        ["a", "a|b", "b", ""], [[0.9, 0.2], [0.3, 0.8], [0.1, 0.8], [0.3, 0.4]], ["a", "b"]
    )
    ranked = suspects.rank({"m": table}, multilabel=True)
    pairs = ranked.set_index(["recording_id", "suggested"])
    assert len(pairs) == 8 and ranked["rank"].tolist() == list(range(1, 9))
    missing = pairs.loc[("r2", "b")]  # its label says a, too
    np.testing.assert_allclose(missing["doubt"], (0.7 / 0.8) / (0.7 / 0.8 + 0.3 / 0.6))
    np.testing.assert_allclose(
        missing[["confidence_given", "confidence_suggested"]].tolist(), [0.3, 0.7]
    )
    unheard = pairs.loc[("r4", "a")]  # its label says that nothing is there
    np.testing.assert_allclose(unheard["doubt"], (0.3 / 0.6) / (0.3 / 0.6 + 0.7 / 0.8))
    assert ranked["recording_id"][0] == "r2" and ranked["suggested"][0] == "b"


@law
@given(seeds)
def test_with_several_labels_every_pair_is_ranked_once_and_changes_one_class(seed):
    table = tagging_rows(n=15, seed=seed)
    ranked = suspects.rank({"m": table, "n": tagging_rows(n=15, seed=seed)}, multilabel=True)
    changed = [
        set(targets.split(row.label)) ^ set(targets.split(row.suggested))
        for row in ranked.itertuples(index=False)
    ]
    assert all(len(names) == 1 for names in changed)
    pairs = sorted(zip(ranked["recording_id"], map(min, changed), strict=True))
    assert pairs == sorted(
        (identity, name) for identity in table["recording_id"] for name in CLASSES
    )
    assert ranked["doubt"].is_monotonic_decreasing and ranked["doubt"].between(0, 1).all()


def test_a_recording_with_several_suspect_classes_has_one_row_in_the_file(tmp_path):
    table = tagging_rows(n=15)
    ranked = suspects.rank({"m": table}, multilabel=True)
    relabel.write_relabel(tmp_path / "relabel.csv", ranked, recordings(table["recording_id"]))
    found = cells(tmp_path / "relabel.csv")[1:]
    assert [row[0] for row in found] == ranked["recording_id"].drop_duplicates().tolist()
    assert "none" in [row[3] for row in found] and "" not in [
        text for row in found for text in row[3:5]
    ]


# --- relabel.csv: written and read back --------------------------------------------------------

ODD_NAMES = {
    "000000000001": 'dog, big/1 "Rex".wav',
    "12345e678901": "größe/naïve\nname.wav",
    "0a1b2c3d4e5f": "=1+1/x.wav",
    "123456789012": "'@home/-x.wav",
    "deadbeef0000": "犬/a;b\tc\r.wav",
}


def ranking(identities, label="a", suggested="b"):
    """A ranking of recordings in the order given."""
    rows = {"recording_id": list(identities), "group": "g", "label": label, "suggested": suggested}
    ranks = np.arange(1, len(identities) + 1)
    return pd.DataFrame({**rows, "doubt": np.linspace(0.9, 0.1, len(identities)), "rank": ranks})


def recordings(identities):
    """Their paths."""
    return pd.DataFrame(
        {"recording_id": list(identities), "path": [f"a/{name}.wav" for name in identities]}
    )


def written(folder, identities=("r1", "r2", "r3")):
    """A file for these recordings, nothing edited."""
    relabel.write_relabel(folder / "relabel.csv", ranking(identities), recordings(identities))
    return folder / "relabel.csv"


def cells(path):
    """The rows of a file as lists of texts, as a spreadsheet finds them."""
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))


def edit(path, new_labels):
    """Fill new_label for some recordings, the other cells as they are."""
    header, *rows = cells(path)
    for row in rows:
        row[header.index("new_label")] = new_labels.get(
            row[0].removeprefix("'"), row[header.index("new_label")]
        )
    save(path, [header, *rows])


def save(path, rows, encoding="utf-8", delimiter=",", end="\n"):
    """Write rows as some program may."""
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator=end).writerows(rows)
    path.write_bytes(file.getvalue().encode(encoding))


def test_a_fresh_file_has_the_ranking_in_its_order_and_no_edits(tmp_path):
    path = written(tmp_path)
    assert cells(path) == [
        ["recording_id", "path", "source", "label", "compare_with", "doubt_rank", "new_label"],
        ["r1", "a/r1.wav", "g", "a", "b", "1", ""],
        ["r2", "a/r2.wav", "g", "a", "b", "2", ""],
        ["r3", "a/r3.wav", "g", "a", "b", "3", ""],
    ]
    assert relabel.read_relabel(path) == {} and relabel.edits_digest(path) is None
    assert (
        relabel.read_relabel(tmp_path / "none.csv") == {}
        and relabel.edits_digest(tmp_path / "none.csv") is None
    )


def test_odd_names_come_back_and_no_cell_is_a_formula_or_a_number_that_a_spreadsheet_would_change(
    tmp_path,
):
    path, paths = tmp_path / "relabel.csv", pd.Series(ODD_NAMES)
    table = pd.DataFrame({"recording_id": paths.index, "path": paths.to_numpy()})
    relabel.write_relabel(path, ranking(ODD_NAMES, "+plus", "@at"), table)
    found = cells(path)[1:]
    assert not [cell for row in found for cell in row if cell.startswith(("=", "+", "-", "@"))]
    assert not [row[0] for row in found if row[0].isdigit() or row[0].replace("e", "").isdigit()]
    edit(path, dict.fromkeys(ODD_NAMES, "b"))
    assert list(relabel.read_relabel(path)) == list(ODD_NAMES)
    for _ in range(2):
        relabel.write_relabel(path, ranking([]), table)
    assert [row[0].removeprefix("'") for row in cells(path)[1:]] == list(ODD_NAMES)
    assert [row[1] for row in cells(path)[1:]] == [row[1] for row in found]


@law
@given(st.text(st.sampled_from("'=+-@0129eE\t\rax")))
def test_what_is_guarded_from_spreadsheets_comes_back_exactly(text):
    guarded = relabel._guard(text)
    assert relabel._unguard(guarded) == text and not guarded.startswith(
        ("=", "+", "-", "@", "\t", "\r")
    )


def test_edits_survive_rewriting_on_top_and_as_they_are_also_when_no_longer_ranked(tmp_path):
    path = written(tmp_path)
    edit(path, {"r3": " b ", "r2": "drop"})
    relabel.write_relabel(
        path, ranking(["r4", "r3", "r1"], suggested="c"), recordings(["r1", "r3", "r4"])
    )
    assert cells(path)[1:] == [
        ["r2", "a/r2.wav", "g", "a", "b", "2", "drop"],
        ["r3", "a/r3.wav", "g", "a", "b", "3", " b "],
        ["r4", "a/r4.wav", "g", "a", "c", "1", ""],
        ["r1", "a/r1.wav", "g", "a", "c", "3", ""],
    ]
    assert relabel.read_relabel(path) == {"r2": "drop", "r3": "b"}


@law
@given(
    st.lists(
        st.tuples(
            st.sets(st.sampled_from("pqrstu")), st.sampled_from(["", "b", "drop", "=1", "ü, x"])
        )
    )
)
def test_no_sequence_of_edits_and_rankings_loses_an_edit(tmp_path_factory, rounds):
    path, expected = tmp_path_factory.mktemp("edits") / "relabel.csv", {}
    for identities, new in rounds:
        relabel.write_relabel(path, ranking(sorted(identities)), recordings(sorted(identities)))
        if new and identities:
            edit(path, {min(identities): new})
            expected[min(identities)] = new
        assert relabel.read_relabel(path) == expected


def test_a_column_that_somebody_added_is_kept_with_its_row_and_the_delimiter_too(tmp_path):
    path = written(tmp_path)
    header, first, second, _ = cells(path)
    rows = [[*header, "Note", ""], [*first, "=unsure", ""], [*second, "", ""]]
    save(path, rows, delimiter=";")
    relabel.write_relabel(path, ranking(["r1", "r2"]), recordings(["r1", "r2"]))
    kept = list(
        csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""), delimiter=";")
    )
    assert kept[0][:8] == [*header, "Note"]
    assert [row[7] for row in kept[1:]] == ["'=unsure", ""] and [row[0] for row in kept[1:]] == [
        "r1",
        "r2",
    ]
    assert relabel.read_relabel(path) == {}


def test_a_file_of_an_earlier_version_keeps_its_edits_and_loses_its_proposals(tmp_path):
    path = tmp_path / "relabel.csv"
    old = ["recording_id", "path", "label", "suggested", "doubt", "new_label"]
    rows = [["r1", "a/r1.wav", "a", "b", "0.980", ""], ["r2", "a/r2.wav", "a", "b", "0.900", "c"]]
    save(path, [old, *rows])
    relabel.write_relabel(path, ranking(["r1", "r2"]), recordings(["r1", "r2"]))
    assert relabel.read_relabel(path) == {"r2": "c"}
    header, edited, fresh = cells(path)
    assert edited[:6] == rows[1]
    found = dict(zip(header, fresh, strict=True))
    assert (found["suggested"], found["doubt"], found["compare_with"], found["doubt_rank"]) == (
        "",
        "",
        "b",
        "1",
    )


def test_of_a_file_of_an_earlier_version_without_edits_nothing_stays(tmp_path):
    path = tmp_path / "relabel.csv"
    old = ["recording_id", "path", "label", "suggested", "doubt", "new_label"]
    save(path, [old, ["r1", "a/r1.wav", "a", "b", "0.980", ""]])
    relabel.write_relabel(path, ranking(["r1"]), recordings(["r1"]))
    assert set(cells(path)[0]) == set(relabel.COLUMNS)


def test_a_file_that_cannot_be_read_is_not_written_over(tmp_path):
    path = tmp_path / "relabel.csv"
    for content in (
        b"",
        b"name,new_label\nr1,b\n",
        b'recording_id,new_label\nr1,"b\nr2,c\n',
        b"\x81\xff\x8d",
    ):
        path.write_bytes(content)
        with pytest.raises(SourceError, match=r"relabel\.csv"):
            relabel.write_relabel(path, ranking(["r1"]), recordings(["r1"]))
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("encoding", "delimiter", "end"),
    [
        ("utf-8-sig", ";", "\r\n"),
        ("cp1252", ";", "\r\n"),
        ("utf-8", ",", "\n"),
        ("utf-16", "\t", "\r\n"),
        ("cp1252", ",", "\r"),
    ],
)
def test_a_file_comes_back_from_a_spreadsheet(tmp_path, encoding, delimiter, end):
    rows = [
        ["new_label ", "Recording_ID", "my note", "path", ""],
        [" Möwe, jung ", "r2", "x", "größe.wav", ""],
        ["", "r1", "", "", ""],
        ["", "", "", "", ""],
        ["Drop", " r3", "", "", ""],
    ]
    save(tmp_path / "relabel.csv", rows, encoding, delimiter, end)
    assert relabel.read_relabel(tmp_path / "relabel.csv") == {"r2": "Möwe, jung", "r3": "Drop"}


def test_a_line_that_tells_excel_the_delimiter_is_no_header(tmp_path):
    (tmp_path / "relabel.csv").write_text("sep=;\r\nrecording_id;new_label\r\nr1;b\r\n", newline="")
    assert relabel.read_relabel(tmp_path / "relabel.csv") == {"r1": "b"}


WRONG = {
    "row 3, column new_label: recording r1 has two": "recording_id,new_label\nr1,b\nr1,c\n",
    "row 2: new_label is 'b', but column recording_id": "recording_id,new_label\n ,b\n",
    r"row 4, column new_label: '\|' names no class": (
        'recording_id,path,new_label\nr1,"a\nb",\n\nr1,x,|\n'
    ),
    "row 2: 3 values under 2 columns": "recording_id,new_label\nr1,b,c\n",
    "near line 2": 'recording_id,new_label\nr1,"b" c\n',
    "needs the columns recording_id and new_label, each once; its first line holds id, label": (
        "id,label\nr1,b\n"
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_cannot_be_understood_is_named_with_row_and_column(tmp_path, message):
    (tmp_path / "relabel.csv").write_text(WRONG[message])
    with pytest.raises(SourceError, match=message):
        relabel.read_relabel(tmp_path / "relabel.csv")


def test_an_unknown_recording_is_ignored_with_a_warning_and_equal_edits_are_one(tmp_path):
    (tmp_path / "relabel.csv").write_text("recording_id,new_label\nr1,b\n1.23E+11,c\nr1, b\n")
    with pytest.warns(
        UserWarning, match=r"row 3, column recording_id: there is no recording '1.23E\+11'.*'c'"
    ):
        assert relabel.read_relabel(tmp_path / "relabel.csv", known=["r1", "r2"]) == {"r1": "b"}


def test_the_digest_follows_the_edits_and_nothing_else(tmp_path):
    path = written(tmp_path)
    edit(path, {"r1": "b", "r3": "c"})
    before = relabel.edits_digest(path)
    save(path, [row[:1] + row[-1:] for row in [cells(path)[0], *cells(path)[:0:-1]]], delimiter=";")
    assert relabel.edits_digest(path) == before
    (tmp_path / "relabel.csv").write_text("recording_id,new_label\nr1,b\nr3,b\n")
    assert relabel.edits_digest(path) not in (None, before)


# --- relabel.csv: applied ----------------------------------------------------------------------


def found(*rows):
    """A table as of sources.find: recording_id r1, r2, …; rows are (label, split, status)."""
    table = pd.DataFrame(rows, columns=["label", "split", "status"]).assign(reason="")
    table.insert(0, "recording_id", [f"r{n}" for n in range(1, len(rows) + 1)])
    return table.assign(path=table["recording_id"] + ".wav")


SOUNDS = found(
    ("dog", "train", "ok"),
    ("cat", "train", "ok"),
    ("gr\u00fcn", "train", "ok"),
    ("dog", "test", "ok"),
    ("", "train", "quarantined"),
)


def test_edits_are_applied_and_told_and_the_table_handed_in_stays_as_it_is():
    before = SOUNDS.copy()
    table, report = relabel.apply(SOUNDS, {"r1": "cat", "r2": "DROP", "r3": "Dogg"})
    pd.testing.assert_frame_equal(SOUNDS, before)
    assert table["label"].tolist() == ["cat", "cat", "Dogg", "dog", ""]
    assert table["status"].tolist() == ["ok", "ignored", "ok", "ok", "quarantined"]
    assert table["reason"].tolist() == ["", "left out: relabel.csv", "", "", ""]
    assert report.to_numpy().tolist() == [
        ["r1", "r1.wav", "dog", "cat", ""],
        ["r2", "r2.wav", "cat", "drop", "left out"],
        ["r3", "r3.wav", "grün", "Dogg", "a new class: Dogg; is 'dog' meant?"],
    ]


def test_only_training_recordings_in_use_are_edited_and_the_others_are_named():
    with pytest.warns(
        UserWarning, match="3 edits of relabel.csv have no training recording in use: r4, r5, zz"
    ):
        table, report = relabel.apply(SOUNDS, {"r4": "cat", "r5": "cat", "zz": "cat"})
    pd.testing.assert_frame_equal(table, SOUNDS)
    assert report.empty and list(report) == ["recording_id", "path", "old", "new", "note"]


def test_a_label_that_was_confirmed_changes_nothing_and_accents_are_the_classes_own():
    table, report = relabel.apply(SOUNDS, {"r1": "dog", "r3": "gru\u0308n"})
    pd.testing.assert_frame_equal(table, SOUNDS)
    assert report.empty


def test_a_class_may_be_called_drop_or_none():
    table, _ = relabel.apply(
        found(("drop", "train", "ok"), ("none", "train", "ok")), {"r1": "none", "r2": "drop"}
    )
    assert table["label"].tolist() == ["none", "drop"] and table["status"].eq("ok").all()
    table, _ = relabel.apply(
        found(("a|none", "train", "ok"), ("b", "train", "ok")), {"r2": "none"}, multilabel=True
    )
    assert table["label"].tolist() == ["a|none", "none"]


def test_several_labels_are_sorted_none_is_the_empty_label_and_drop_leaves_out():
    scenes = found(
        ("a|b", "train", "ok"), ("c", "train", "ok"), ("a", "train", "ok"), ("b", "train", "ok")
    )
    edits = {"r1": "none", "r2": "c | a||c", "r3": "drop", "r4": "b|hum"}
    table, report = relabel.apply(scenes, edits, multilabel=True)
    assert table["label"].tolist() == ["", "a|c", "a", "b|hum"]
    assert table["status"].tolist() == ["ok", "ok", "ignored", "ok"]
    assert report["note"].tolist() == ["", "", "left out", "a new class: hum"]
