"""Answers of several runs as one: matched by file name, weighed by the other folds alone."""

import numpy as np
import pandas as pd
import pytest
from tables import feature_rows, small_config, tagged_rows

from helpers.base import artifacts, targets
from helpers.compare import rivals
from helpers.delivery import blend
from helpers.metrics import decisions
from helpers.run import cli

MODELS = ("mfcc_linear", "svm")


def keep_run(home, name, table, config, test=None):
    """A run of two models on a feature table, each row a recording, as 06 leaves it."""
    folder = home / "outputs" / name
    rows = table.assign(path="", start_seconds=0.0, valid_seconds=1.0)
    facts = rows[["recording_id", "label", "split"]]
    facts = facts.assign(path=rows["split"] + "/" + rows["clip_id"] + ".wav", status="ok")
    columns = [column for column in artifacts.SCHEMAS["recordings.csv"] if column not in facts]
    artifacts.write_table(folder / "recordings.csv", facts.assign(**dict.fromkeys(columns, "")))
    artifacts.write_table(folder / "waveforms.csv", rows)
    artifacts.write_table(folder / "features.csv", table)
    np.save(folder / "waveforms.npy", np.zeros((len(rows), 1), np.int16))
    artifacts.write_json(folder / "run.json", {"config": config.model_dump(mode="json")})
    for model in MODELS:
        (folder / "models" / model).mkdir(parents=True)
        rivals.fit(model, None, rows, table, config, {}, folder / "models" / model)
    return folder


def noisy(table, seed):
    """The feature table with more noise, so that models make mistakes."""
    features = table.loc[:, "mfcc_01_mean":].columns
    spread = 2.5 * np.random.default_rng(seed).standard_normal((len(table), len(features)))
    return table.assign(**dict(zip(features, (table[features] + spread).to_numpy().T, strict=True)))


def both_sides(seed=0):
    """A feature table with a few rows of a test set."""
    table = noisy(feature_rows(groups_per_fold=4), seed)
    test = noisy(feature_rows(folds=1, groups_per_fold=1, seed=9), 9)
    test = test.assign(split="test", label="", fold=None, clip_id="t" + test["clip_id"])
    test = test.assign(recording_id=test["clip_id"], group=test["clip_id"])
    return pd.concat([table, test], ignore_index=True).astype({"fold": "Int64"})


@pytest.fixture(scope="module")
def runs(home):
    """Two runs on the same recordings, "one" and "two", of which "two" hears less noise."""
    (home / "recordings").mkdir()
    config = small_config(data={"root": str(home / "recordings")})
    keep_run(home, "one", both_sides(), config)
    keep_run(home, "two", both_sides(seed=1), config.but("seed", 1))
    return home / "outputs"


@pytest.fixture
def tagged(home, runs):
    """A run with several labels per recording, "tagged"."""
    if not (runs / "tagged").exists():
        table = noisy(tagged_rows(groups_per_fold=4), 2)
        keep_run(home, "tagged", table, small_config(data={"multilabel": True}))
    return runs / "tagged"


def likeliest(likely, steps=20000):
    """The weights by expectation and maximisation, another way than the one under test."""
    weights = np.full(len(likely), 1 / len(likely))
    for _ in range(steps):
        weights = weights * (likely / (weights @ likely)).mean(axis=1)
    return weights


def csv(folder, name, member, **changes):
    """A member's answers as other people keep them, and the path."""
    table = blend.Run(member).answers.reset_index()
    table = table.drop(columns=["recording_id", "group"]).assign(**changes)
    path = folder / name
    table.to_csv(path, index=False)
    return str(path), table


def joined(*names):
    return blend.join([blend.member(name) for name in names])


def test_the_command_writes_a_blend_whose_score_is_nested(runs, capsys):
    assert cli.main(["blend", "one/svm", "one/mfcc_linear", "two/svm", "--out", "both"]) == 0
    said = capsys.readouterr().out
    written = artifacts.read_table(runs / "both" / "predictions.csv")
    classes = decisions.class_columns(written)
    members = [blend.Run(name).answers for name in ("one/svm", "one/mfcc_linear", "two/svm")]
    tables = np.stack([answers.loc[written["path"], classes] for answers in members])
    truth = written["label"].map(classes.index)
    likely = tables[:, np.arange(len(truth)), truth].clip(1e-6)
    for fold in (1, 2, 3):
        mine = written["fold"].eq(fold).to_numpy()
        expected = np.tensordot(likeliest(likely[:, ~mine]), tables[:, mine], 1)
        np.testing.assert_allclose(written.loc[mine, classes], expected, atol=2e-3)
    board = artifacts.read_table(runs / "both" / "leaderboard.csv").set_index("model")
    right = (written["label"] == written["predicted"]).mean()
    assert board.loc["the blend", "accuracy"] == pytest.approx(right, abs=1e-5)
    assert set(board.index) == {"one/svm", "one/mfcc_linear", "two/svm", "equal mean", "the blend"}
    gap = board.loc["one/svm", "accuracy"] - right
    assert board.loc["one/svm", "difference"] == pytest.approx(gap, abs=2e-5)
    assert f"{right:.1%}".replace("%", " %") in said and (runs / "both" / "weights.png").is_file()


def test_the_submission_is_the_mixture_of_the_members_answers_to_the_test_set(runs, tmp_path):
    weights = blend.weights(joined("one/svm", "two/svm"))["all"]
    rows = [blend.Run(name).test_rows()[["a", "b", "c"]] for name in ("one/svm", "two/svm")]
    expected = weights.iloc[0] * rows[0] + weights.iloc[1] * rows[1]
    blend.write(["one/svm", "two/svm"], "sent")
    submission = artifacts.read_table(runs / "sent" / "submission.csv")
    assert submission["label"].tolist() == expected.idxmax(axis=1).tolist()
    path, _ = csv(tmp_path, "other.csv", "two/svm")
    rows[1].to_csv(tmp_path / "test.csv", index_label="file")
    blend.write(["one/svm", f"{path}:{tmp_path}/test.csv"], "sent_too")
    again = artifacts.read_table(runs / "sent_too" / "submission.csv")
    pd.testing.assert_frame_equal(again, submission)


def test_without_test_answers_of_all_there_is_no_submission_and_the_reason_is_said(runs, tmp_path):
    blend.write(["one/svm", "two/svm"], "later")
    path, _ = csv(tmp_path, "other.csv", "two/svm")
    said = "\n".join(blend.write(["one/svm", path], "later"))
    assert "No submission" in said and f"{path}:test.csv" in said
    assert not (runs / "later" / "submission.csv").exists()


def test_a_member_that_knows_nothing_counts_nothing(runs, tmp_path):
    rng = np.random.default_rng(0)
    count = len(blend.Run("one/svm").answers)
    guesses = pd.DataFrame(rng.dirichlet([1, 1, 1], count), columns=["a", "b", "c"])
    path, _ = csv(tmp_path, "guess.csv", "one/svm", **guesses)
    assert blend.weights(joined("one/svm", path)).loc[path].max() < 0.02


def test_the_order_of_rows_and_how_a_file_is_called_change_nothing(runs, tmp_path):
    path, table = csv(tmp_path, "other.csv", "two/svm")
    expected = blend.weights(joined("one/svm", path)).to_numpy()
    shuffled = table.sample(frac=1, random_state=1).drop(columns="label")
    names = shuffled["path"].str.removeprefix("train/").str.removesuffix(".wav")
    shuffled.assign(path="set\\" + names).rename(columns={"path": "clip"}).to_csv(path, index=False)
    with pytest.raises(artifacts.errors.SourceError, match="does not answer 108 recordings"):
        joined("one/svm", path)
    shuffled.assign(path=names).rename(columns={"path": "clip"}).to_csv(path, index=False)
    np.testing.assert_allclose(blend.weights(joined("one/svm", path)), expected, atol=1e-6)


def test_a_folds_labels_do_not_weigh_its_own_answers(runs):
    before = joined("one/svm", "two/svm", "two/mfcc_linear")
    turned = before.facts["label"].where(before.facts["fold"].ne(2), "a")
    after = blend.Joined(before.facts.assign(label=turned), before.tables, before.config, ())
    weights = blend.weights(before), blend.weights(after)
    pd.testing.assert_series_equal(weights[0]["fold 2"], weights[1]["fold 2"])
    assert not np.allclose(weights[0]["fold 1"], weights[1]["fold 1"], atol=1e-3)


def test_several_labels_are_weighed_by_all_their_answers(tagged):
    both = joined("tagged/svm", "tagged/mfcc_linear")
    truth = targets.matrix(both.facts["label"], ["p", "q"]) > 0
    said = np.stack([table.to_numpy() for table in both.tables.values()])
    likely = np.where(truth, said, 1 - said).clip(1e-6, 1).reshape(2, -1)
    np.testing.assert_allclose(blend.weights(both)["all"], likeliest(likely), atol=2e-3)
    said = "\n".join(blend.write(["tagged/svm", "tagged/mfcc_linear"], "tags", "rank"))
    written = artifacts.read_table(tagged.parent / "tags" / "predictions.csv")
    weights = blend.weights(both)["fold 1"].to_numpy()
    ranks = [table.rank(pct=True).to_numpy() for table in both.tables.values()]
    mine = written["fold"].eq(1)
    expected = np.tensordot(weights, np.stack(ranks), 1)[mine]
    np.testing.assert_allclose(written.loc[mine, ["p", "q"]], expected)
    assert "No submission" in said


def test_ranks_are_refused_for_a_metric_of_answers(runs):
    assert cli.main(["blend", "one/svm", "two/svm", "--by", "rank"]) == 1


def test_one_tested_fold_is_dealt_out_by_source(runs, tmp_path):
    members = [blend.member(name) for name in ("one/svm", "two/svm")]
    for one in members:
        one.answers["fold"] = 1
    both = blend.join(members)
    assert both.facts["fold"].nunique() == 5 and "tested on one fold" in both.notes[0]
    assert both.facts.groupby("group")["fold"].nunique().max() == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda table: table.iloc[2:], "other.csv does not answer 2 recordings of one/svm: train/"),
        (lambda table: pd.concat([table, table.iloc[:1].assign(path="new.wav")]), "new.wav"),
        (lambda table: pd.concat([table, table.iloc[:1]]), "names twice: train/"),
        (lambda table: table.drop(columns="b"), "other.csv lacks 1 class of one/svm: b"),
        (lambda table: table.assign(d=0.0), "one/svm lacks 1 class of .*other.csv: d"),
        (lambda table: table.assign(b=2.0), "column 'b' holds no probability"),
        (lambda table: table.assign(b=""), "column 'b' holds no probability"),
        (lambda table: table.assign(b=table["b"] / 2), "do not sum to 1"),
        (lambda table: table.assign(label="c"), "has other labels for"),
        (lambda table: table.assign(fold=np.arange(len(table)) % 3), "belong together"),
    ],
)
def test_what_does_not_fit_is_refused_and_named(runs, tmp_path, change, says):
    path, table = csv(tmp_path, "other.csv", "two/svm")
    change(table).to_csv(path, index=False)
    with pytest.raises(artifacts.errors.SourceError, match=says):
        joined("one/svm", path)


def test_a_source_that_only_one_member_knows_is_kept_together_for_all(runs, tmp_path):
    path, _ = csv(tmp_path, "other.csv", "two/svm", fold=[*range(54)] * 2, group=[*range(54)] * 2)
    with pytest.raises(artifacts.errors.SourceError, match="belong together"):
        joined("one/svm", path)


@pytest.mark.parametrize(
    ("names", "status", "says"),
    [
        (["one/svm"], 2, "two members or more"),
        (["one/cnn", "two/svm"], 1, "those of: mfcc_linear, svm"),
        (["nowhere", "two/svm"], 1, "no run 'nowhere'"),
        (["one/svm", "nowhere.csv"], 2, "no nowhere.csv"),
        (["one/svm", "two/svm", "--out", "two"], 1, "is a run"),
    ],
)
def test_what_cannot_be_blended_is_said(runs, capsys, names, status, says):
    assert cli.main(["blend", *names]) == status
    assert says in capsys.readouterr().err
