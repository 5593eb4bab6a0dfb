"""The certificate says what there is, and whatever in a run's files contradicts it is found and
named.
"""

import pandas as pd
import pytest
from signals import recordings_table

from helpers.base import artifacts
from helpers.base.errors import SplitError, StageError
from helpers.run import cli
from helpers.splits import certificate, partition


def clips_of(rows):
    """Clips from (recording_id, label, group, fold, split), two of each recording."""
    columns = ["recording_id", "label", "group", "fold", "split"]
    table = pd.DataFrame([row for row in rows for _ in range(2)], columns=columns)
    return table.astype({"fold": "Int64"})


SOUND = [
    ("r1", "dog", "g1", 1, "train"),
    ("r2", "dog", "g1", 1, "train"),
    ("r3", "dog", "g2", 2, "train"),
    ("r4", "cat", "g3", 1, "train"),
    ("r5", "cat", "g4", 2, "train"),
    ("r6", "", "g5", None, "test"),
]


# --- what it says ------------------------------------------------------------------------------


def test_a_certificate_counts_what_there_is():
    said = certificate.state(clips_of(SOUND), "dealt", "by source")
    assert (said["crossings"], said["n_groups"], said["largest_group_recordings"]) == (0, 4, 2)
    assert said["groups"] == {"g1": ["r1", "r2"], "g2": ["r3"], "g3": ["r4"], "g4": ["r5"]}
    assert said["folds"]["1"] == {
        "recordings": 3,
        "clips": 6,
        "groups": 2,
        "labels": {"cat": 1, "dog": 2},
    }
    assert sum(fold["recordings"] for fold in said["folds"].values()) == 5
    assert (said["how_folds"], said["how_groups"], said["groups_also_in_test"]) == (
        "dealt",
        "by source",
        [],
    )
    assert said["formed_by"] == {}


def test_a_group_across_folds_gets_no_certificate():
    with pytest.raises(SplitError, match="1 group crosses the folds: g1"):
        certificate.state(clips_of([*SOUND, ("r7", "dog", "g1", 2, "train")]), "dealt", "by source")


def test_a_group_that_is_also_in_test_is_named():
    said = certificate.state(
        clips_of([*SOUND, ("r7", "", "g2", None, "test")]), "dealt", "by source"
    )
    assert said["groups_also_in_test"] == ["g2"]


def test_of_each_group_of_several_recordings_it_says_what_binds_them():
    rows = [
        ("r1", "source a"),
        ("r2", "source a"),
        ("r2", "author=Ann"),
        ("r3", "author=Ben"),
        ("lost", "source a"),
    ]
    formed = pd.DataFrame(rows, columns=["recording_id", "tie"])
    assert certificate.state(clips_of(SOUND), "dealt", "", formed)["formed_by"] == {
        "g1": ["source a"]
    }


@pytest.mark.parametrize(
    ("rows", "pairs", "said", "unsaid"),
    [
        (
            [{"source": "a"}],
            None,
            ["one source (told by the file name)", "the same samples"],
            ["nothing tells", "table"],
        ),
        (
            [{"together": "site=3|author=Ann"}],
            None,
            ["the same author or site (told by the table)"],
            ["nothing tells"],
        ),
        (
            [{"source": "a", "together": "author=Ann"}, {}],
            None,
            ["file name", "the same author"],
            ["nothing tells"],
        ),
        (
            [{}],
            None,
            ["nothing tells who was recorded together", "the same samples", "data.name_pattern"],
            ["sound"],
        ),
        (
            [{}],
            True,
            ["nothing tells who was recorded together", "recordings of the same sound"],
            ["table"],
        ),
        (
            [{"source": "a"}],
            True,
            ["one source", "the same samples, recordings of the same sound, united"],
            ["nothing"],
        ),
    ],
)
def test_how_the_groups_were_formed_is_said_in_words(rows, pairs, said, unsaid):
    words = certificate.how_grouped(recordings_table(*rows), pairs)
    assert all(part in words for part in said) and not any(part in words for part in unsaid)


# --- its proof from the files ------------------------------------------------------------------

RECORDINGS = recordings_table(
    {"source": "s"},
    {"source": "s"},
    {"source": "other"},  # 2 and 3 hold the same sound
    {"label": "dog"},
    {"label": "cat", "together": "author=Ann|site=1"},
    {"label": "cat", "together": "author=Ann"},
    {"label": "cat", "pcm_sha256": "f" * 64},
    {"label": "cat", "pcm_sha256": "f" * 64},
    {"label": "", "split": "test", "source": "t"},
    {"label": "", "status": "quarantined", "reason": "NOT_AUDIO", "source": "s"},
)
PAIRS = pd.DataFrame(
    [("r2", "r3", 0.1, 0.9, 0.99)], columns=list(artifacts.SCHEMAS["duplicates.csv"])
)
FOLDS = {"r0": 1, "r2": 2, "r4": 2, "r6": 1}  # of the groups


def clip_table():
    """Two clips of each recording in use."""
    used = RECORDINGS[RECORDINGS["status"].eq("ok")]
    used = used.assign(group=partition.groups(used, PAIRS), start_seconds=0.0, valid_seconds=1.0)
    used["fold"] = used["group"].map(FOLDS).where(used["split"].eq("train")).astype("Int64")
    clips = used.loc[used.index.repeat(2)].reset_index(drop=True)
    clips["clip_id"] = [f"{name}-{n % 2:03}" for n, name in enumerate(clips["recording_id"])]
    return clips.assign(path="clips/" + clips["clip_id"] + ".wav")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of a run whose files agree: clips, and an augmented copy of each training clip."""
    monkeypatch.setattr(artifacts, "home", lambda: tmp_path)
    folder, clips = tmp_path / "outputs" / "mine", clip_table()
    copies = clips[clips["split"].eq("train")]
    copies = copies.assign(
        parent_id=copies["clip_id"], clip_id=copies["clip_id"] + "+1", transforms="shift"
    )
    packed = pd.concat([clips.assign(parent_id=""), copies], ignore_index=True)
    written = {
        "recordings.csv": RECORDINGS,
        "duplicates.csv": PAIRS,
        "clips.csv": clips,
        "augmented.csv": copies,
    }
    written |= {
        "waveforms.csv": packed,
        "features.csv": packed[list(artifacts.SCHEMAS["features.csv"])[:-1]],
    }
    for name, table in written.items():
        artifacts.write_table(folder / name, table)
    formed = partition.ties(RECORDINGS, PAIRS)
    artifacts.write_json(
        folder / "split_certificate.json", certificate.state(clips, "dealt", "by source", formed)
    )
    artifacts.write_json(folder / "run.json", {})
    return folder


def rewrite(folder, name, where, **values):
    """Change cells of a table of the run: in the rows where {column: value} holds."""
    table = artifacts.read_table(folder / name)
    rows = pd.Series(True, table.index)
    for column, value in where.items():
        rows &= table[column].eq(value)
    assert rows.any()
    for column, value in values.items():
        table.loc[rows, column] = value
    artifacts.write_table(folder / name, table)


def restate(folder, change):
    """Edit the certificate by hand."""
    stated = artifacts.read_json(folder / "split_certificate.json")
    change(stated)
    artifacts.write_json(folder / "split_certificate.json", stated)


def test_where_all_agrees_nothing_is_found(run):
    assert certificate.verify(run) == []
    assert artifacts.read_json(run / "split_certificate.json")["formed_by"] == {
        "r0": ["source s"],
        "r2": ["the same sound as r3"],
        "r4": ["author=Ann"],
        "r6": ["samples ffffffffffffffff"],
    }


@pytest.mark.parametrize(
    "names", [["features.csv"], ["augmented.csv", "waveforms.csv", "features.csv"]]
)
def test_what_is_not_there_yet_is_not_looked_at(run, names):
    for name in names:
        (run / name).unlink()
    assert certificate.verify(run) == []


def another_pair(run, *pair):
    more = pd.DataFrame([(*pair, 0.0, 1.0, 1.0)], columns=list(PAIRS))
    artifacts.write_table(run / "duplicates.csv", pd.concat([PAIRS, more]))


PLANTED = {
    "a recording in another fold": (
        lambda run: rewrite(run, "clips.csv", {"recording_id": "r1"}, fold=2),
        ["source s lies in folds 1, 2", "clips.csv: group r0 crosses the folds"],
    ),
    "a recording in another fold in all files": (
        lambda run: [
            rewrite(run, name, {"recording_id": "r5"}, fold=1)
            for name in ("clips.csv", "waveforms.csv", "features.csv")
        ],
        [
            "author=Ann lies in folds 1, 2",
            *(
                f"{name}: group r4 crosses the folds"
                for name in ("clips.csv", "waveforms.csv", "features.csv")
            ),
        ],
    ),
    "a clip in another fold": (
        lambda run: rewrite(run, "clips.csv", {"clip_id": "r3-001"}, fold=1),
        [
            "clips.csv: r3-001 is not in the fold of its recording",
            "clips.csv: group r2 crosses the folds",
        ],
    ),
    "a packed clip in another fold": (
        lambda run: rewrite(run, "waveforms.csv", {"clip_id": "r3-001"}, fold=1),
        [
            "waveforms.csv: r3-001 is not in the fold of its recording",
            "waveforms.csv: group r2 crosses the folds",
        ],
    ),
    "a copy in another fold": (
        lambda run: rewrite(run, "waveforms.csv", {"clip_id": "r3-001+1"}, fold=1),
        [
            "waveforms.csv: r3-001+1 is not in its parent's fold",
            "waveforms.csv: group r2 crosses the folds",
        ],
    ),
    "a copy in another fold and group": (
        lambda run: rewrite(run, "features.csv", {"clip_id": "r3-001+1"}, fold=1, group="r0"),
        ["features.csv: r3-001+1 is not in its parent's fold"],
    ),
    "a copy in the fold and recording of another": (
        lambda run: rewrite(
            run, "waveforms.csv", {"clip_id": "r3-001+1"}, fold=1, recording_id="r0", group="r0"
        ),
        ["waveforms.csv: r3-001+1 is not in its parent's fold"],
    ),
    "a duplicate in another fold": (
        lambda run: another_pair(run, "r0", "r4"),
        ["the same sound as r4 lies in folds 1, 2"],
    ),
    "the same samples in another fold": (
        lambda run: rewrite(run, "recordings.csv", {"recording_id": "r4"}, pcm_sha256="f" * 64),
        ["samples ffffffffffffffff lies in folds 1, 2"],
    ),
    "the same source in another fold": (
        lambda run: rewrite(run, "recordings.csv", {"recording_id": "r4"}, source="s"),
        ["source s lies in folds 1, 2"],
    ),
    "the same author in another fold": (
        lambda run: rewrite(run, "recordings.csv", {"recording_id": "r0"}, together="site=1"),
        ["site=1 lies in folds 1, 2"],
    ),
    "a group renamed": (
        lambda run: rewrite(run, "clips.csv", {"recording_id": "r7"}, group="r7"),
        ["group r6: the certificate names other recordings", "group r7 is not in the certificate"],
    ),
    "recordings taken out": (
        lambda run: rewrite(run, "clips.csv", {"group": "r4"}, split="test"),
        ["group r4: the certificate names other recordings"],
    ),
    "a crossing stated": (
        lambda run: restate(run, lambda stated: stated.update(crossings=1)),
        ["the certificate states 1 crossings"],
    ),
    "a group left unsaid": (
        lambda run: restate(run, lambda stated: stated["groups"].pop("r2")),
        ["group r2 is not in the certificate"],
    ),
    "a group made up": (
        lambda run: restate(run, lambda stated: stated["groups"].update(r9=["r9"])),
        ["group r9: the certificate names other recordings"],
    ),
    "a recording left unsaid": (
        lambda run: restate(run, lambda stated: stated["groups"]["r2"].remove("r3")),
        ["group r2: the certificate names other recordings"],
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_contradiction_is_found_and_named(run, planted):
    plant, named = PLANTED[planted]
    plant(run)
    assert set(named) <= set(certificate.verify(run))


def test_only_the_files_that_are_named_are_followed(run):
    rewrite(run, "waveforms.csv", {"clip_id": "r3-001+1"}, fold=1)
    assert certificate.verify(run, files=("clips.csv", "features.csv")) == []
    assert certificate.verify(run, files=("waveforms.csv",)) == certificate.verify(run) != []


STRANGERS = {
    "an orphan copy": (
        lambda run: rewrite(run, "waveforms.csv", {"clip_id": "r3-001+1"}, parent_id="gone-000"),
        "waveforms.csv: r3-001+1 is a copy of no training clip",
    ),
    "a clip of no recording": (
        lambda run: rewrite(run, "waveforms.csv", {"clip_id": "r3-001"}, recording_id="gone"),
        "waveforms.csv: r3-001 is not in the fold of its recording",
    ),
    "a test clip among those to learn from": (
        lambda run: rewrite(run, "waveforms.csv", {"clip_id": "r8-000"}, split="train", fold=1),
        "waveforms.csv: r8-000 is not in the fold of its recording",
    ),
    "a clip without a fold": (
        lambda run: rewrite(run, "waveforms.csv", {"clip_id": "r3-001"}, fold=pd.NA),
        "waveforms.csv: r3-001 is not in the fold of its recording",
    ),
}


@pytest.mark.parametrize("planted", STRANGERS)
def test_what_belongs_to_no_training_clip_is_found_and_named(run, planted):
    plant, named = STRANGERS[planted]
    plant(run)
    assert named in certificate.verify(run)


def test_a_copy_of_a_test_clip_is_a_copy_of_no_training_clip(run):
    rewrite(run, "waveforms.csv", {"clip_id": "r3-001+1"}, parent_id="r8-000")
    assert "waveforms.csv: r3-001+1 is a copy of no training clip" in certificate.verify(run)


def test_a_copy_is_found_in_augmented_csv_before_it_is_packed(run):
    for name in ("waveforms.csv", "features.csv"):
        (run / name).unlink()
    rewrite(run, "augmented.csv", {"clip_id": "r3-001+1"}, fold=1)
    assert "augmented.csv: r3-001+1 is not in its parent's fold" in certificate.verify(run)


EDITS = {
    "n_groups": lambda stated: stated.update(n_groups=40),
    "largest_group_recordings": lambda stated: stated.update(largest_group_recordings=1),
    "a fold more": lambda stated: stated["folds"].update({"3": stated["folds"]["1"]}),
    "a fold's recordings": lambda stated: stated["folds"]["1"].update(recordings=40),
    "a fold's labels": lambda stated: stated["folds"]["1"].update(labels={"dog": 1, "cat": 3}),
    "formed_by": lambda stated: stated["formed_by"].pop("r0"),
    "groups_also_in_test": lambda stated: stated.update(groups_also_in_test=["r0"]),
}


@pytest.mark.parametrize("edited", EDITS)
def test_a_number_edited_by_hand_is_found(run, edited):
    restate(run, EDITS[edited])
    assert certificate.verify(run)


def test_without_a_certificate_it_says_which_notebook_writes_it(run):
    (run / "split_certificate.json").unlink()
    with pytest.raises(StageError, match=r"no split_certificate\.json yet: run 02_clean\.ipynb"):
        certificate.verify(run)


@pytest.mark.parametrize("name", ["recordings.csv", "duplicates.csv", "clips.csv"])
def test_a_file_that_the_proof_needs_is_asked_for_by_name(run, name):
    (run / name).unlink()
    with pytest.raises(StageError, match=name.replace(".", r"\.")):
        certificate.verify(run)


# --- from the command line ---------------------------------------------------------------------


def test_the_command_says_that_nothing_crosses(run, capsys):
    assert cli.main(["verify", "--run", "mine"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("mine: 0 of 4 groups cross 2 folds (dealt)\n", "")


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        (
            "mine",
            PLANTED["a duplicate in another fold"][0],
            "mine: 1 contradiction\n  the same sound as r4 lies in folds 1, 2",
        ),
        ("mine", lambda run: (run / "split_certificate.json").unlink(), "run 02_clean.ipynb"),
        ("other", lambda run: None, "There is no run 'other' yet. Runs: mine"),
    ],
    ids=["contradiction", "no certificate", "no run"],
)
def test_the_command_fails_with_what_it_found(run, capsys, name, spoil, said):
    spoil(run)
    assert cli.main(["verify", "--run", name]) == 1
    heard = capsys.readouterr()
    assert said in heard.err and heard.out == ""


def test_a_long_list_of_contradictions_is_cut_but_counted(run, capsys):
    rewrite(run, "waveforms.csv", {"split": "train"}, fold=9)
    n = len(certificate.verify(run))
    assert cli.main(["verify", "--run", "mine"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"mine: {n} contradictions" and len(lines) == 21 < n
