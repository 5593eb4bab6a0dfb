"""Place and hour move an answer as Bayes' rule has it, as far as the other folds know of them."""

import json

import numpy as np
import pandas as pd
import pytest
import soundfile
from here import no_kernels
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import TINY, page
from pydantic import ValidationError
from tables import prediction_rows, small_config, tone

from helpers.base import artifacts
from helpers.base.errors import ConfigError
from helpers.delivery import hidden, kit
from helpers.run import pipeline
from helpers.submission import priors

law = settings(deadline=None, max_examples=30, derandomize=True)
CLASSES = ["gull", "wren"]
BY_SITE = {"prior_pattern": r"(?P<site>sea|wood)"}


def asking(multilabel=False, **submit):
    return small_config(data={"multilabel": multilabel}, submit={**BY_SITE, **submit})


def known(labels, sites, multilabel=False):
    told = pd.DataFrame({"site": sites})
    return priors.learn(pd.Series(labels), told, CLASSES, multilabel)


def applied(learned, probabilities, sites, config):
    told = pd.DataFrame({"site": sites}, index=[f"r{n}" for n in range(len(sites))])
    prior = priors.Prior(pd.Series(0.5, CLASSES), priors.moves(learned, told, CLASSES))
    table = pd.DataFrame(probabilities, columns=CLASSES)
    return prior.applied(table, list(told.index), config).to_numpy()


# --- Bayes' rule -------------------------------------------------------------------------------


@law
@given(st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_who_hears_nothing_but_the_usual_answers_with_the_shares_of_the_place(by_sea, inland):
    counts = [round(2000 * share) for share in (by_sea, inland)]
    labels, sites = [], []
    for site, gulls in zip(("sea", "wood"), counts, strict=True):
        labels += ["gull"] * gulls + ["wren"] * (2000 - gulls)
        sites += [site] * 2000
    everywhere = sum(counts) / 4000
    usual = [[everywhere, 1 - everywhere]] * 2
    for several in (False, True):
        learned = known(labels, sites, several)
        found = applied(learned, usual, ["sea", "wood"], asking(several))
        np.testing.assert_allclose(found[:, 0], [counts[0] / 2000, counts[1] / 2000], atol=6e-3)


@law
@given(
    st.lists(st.tuples(st.sampled_from(CLASSES), st.sampled_from(["sea", "wood"])), min_size=2),
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.booleans(),
)
def test_an_answer_stays_one_and_nothing_known_moves_nothing(rows, gulls, several):
    learned = known(*zip(*rows, strict=True), several)
    said = np.array([[share, 1 - share] for share in gulls])
    found = applied(learned, said, ["sea", "wood", "moon"], asking(several))
    assert ((found >= 0) & (found <= 1)).all()
    if not several:
        np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found[2], said[2], atol=1e-9)  # nobody was on the moon
    unmoved = applied(learned, said, ["sea", "wood", "sea"], asking(several, prior_weight=0))
    np.testing.assert_allclose(unmoved, said, atol=1e-9)


def test_few_recordings_of_a_place_move_little():
    moved = [
        known(["gull"] * count + ["wren"] * 100, ["sea"] * count + ["wood"] * 100)["site"]["sea"]
        for count in (1, 10, 100)
    ]
    ratios = [np.exp(by_class["wren"]) for by_class in moved]
    assert 1 > ratios[0] > 0.9 > ratios[1] > 0.5 > ratios[2]


def test_a_place_without_a_name_is_none():
    assert known(["gull", "wren"], ["", "wood"])["site"].keys() == {"wood"}


# --- what is told ------------------------------------------------------------------------------


def named(*paths):
    return pd.DataFrame({"recording_id": [f"r{n}" for n in range(len(paths))], "path": paths})


def test_names_tell_by_their_named_groups(tmp_path):
    config = asking(prior_pattern=r"(?P<site>[A-Z]{3})_(20|19)\d{6}_(?P<hour>\d\d)")
    recordings = named("a/SSW_20170429_053000.ogg", "b/COL_20190101_230000.ogg", "c/x.ogg")
    told = priors.facts(tmp_path, recordings, config)
    assert told.loc["r0"].to_dict() == {"site": "SSW", "hour": "05"}
    assert told.loc["r2"].to_dict() == {"site": "", "hour": ""}
    rows = pd.DataFrame({"recording_id": ["r0"], "split": "train", "label": "gull"})
    with pytest.raises(ConfigError, match=r"site, hour is told of no .* such as 'c/x.ogg'"):
        priors.learned_by(tmp_path, named("c/x.ogg"), rows, CLASSES, config)
    learned = {"site": {"SSW": {"gull": 1.0, "wren": 0.0}}}
    everywhere = pd.Series(0.5, CLASSES)  # a hidden test set may tell nothing: no row is lost
    silent = priors.of_files(tmp_path, named("c/x.ogg"), everywhere, learned, config)
    assert silent.moved.eq(0).all(axis=None)
    with pytest.raises(ValidationError, match=r"named groups"):
        asking(prior_pattern="[A-Z]+")


def test_tables_of_labels_and_of_the_test_set_tell_by_their_columns(tmp_path):
    table = pd.DataFrame({"file": ["a.wav", "b.wav"], "kind": CLASSES, "site": ["sea", "wood"]})
    table.to_csv(tmp_path / "train.csv", index=False)
    asked = pd.DataFrame({"file": ["test/c"], "site": ["wood"]})
    asked.to_csv(tmp_path / "test.csv", index=False)
    data = {"labels_csv": "train.csv", "id_column": "file", "test_csv": "test.csv"}
    config = small_config(data=data, submit={"prior_columns": ["site"]})
    told = priors.facts(tmp_path, named("a.wav", "x/b.wav", "test/c.wav", "d.wav"), config)
    assert told["site"].tolist() == ["sea", "wood", "wood", ""]
    elsewhere = config.but("submit.prior_columns", ("moon",))
    rows = pd.DataFrame({"recording_id": ["r0"], "split": "train", "label": "gull"})
    with pytest.raises(ConfigError, match=r"moon is told of no training recording"):
        priors.learned_by(tmp_path, named("a.wav"), rows, CLASSES, elsewhere)


# --- what it is worth --------------------------------------------------------------------------


def answers_of(labels, folds):
    table = prediction_rows(labels, ["gull"] * len(labels), classes=CLASSES, confidence=0.5)
    return table.assign(fold=folds)


def test_what_a_place_is_worth_is_learned_from_the_other_folds(tmp_path):
    labels = ["gull", "wren"] * 40
    config = asking()
    sites = ["sea", "wood"] * 40  # the place gives the class away
    paths = named(*[f"{site}/{n}.wav" for n, site in enumerate(sites)])
    table = priors.worth(answers_of(labels, np.resize([1, 1, 2, 2], 80)), tmp_path, paths, config)
    assert table["known"].tolist() == ["site"] and table["with"].item() == 1
    assert table["without"].item() == 0.5 and table["change, points"].item().startswith("+50.0 (")
    alone = answers_of(labels, np.resize([1, 2], 80))  # each place in a fold of its own
    assert priors.worth(alone, tmp_path, paths, config)["with"].item() == 0.5
    assert priors.worth(alone, tmp_path, paths, small_config()).empty


# --- the user's way ----------------------------------------------------------------------------


def test_the_series_counts_the_place_and_so_does_the_kernel_with_a_hidden_test_set(home):
    data = home / "recordings"
    rng = np.random.default_rng(0)
    for number in range(24):
        kind, place = (("gull", "sea"), ("wren", "wood"))[number % 2]
        for folder, count in ((kind, 2), ("test", 1)):
            (data / folder).mkdir(parents=True, exist_ok=True)
            for take in range(count):
                sound = tone(440) + 0.1 * rng.standard_normal(4000).astype(np.float32)
                path = data / folder / f"{place}-{number:02}{take}.wav"
                soundfile.write(path, sound, 8000)  # all sound alike
    options = (
        f"{TINY} clean.trim_db=null split.name_groups=off split.near_duplicates=false "
        f"submit.prior_pattern={BY_SITE['prior_pattern']}"
    )
    with no_kernels():
        folder, _ = pipeline.run_all(data=str(data), run="coast", fast=True, settings=options)
    said = pd.read_csv(folder / "submission.csv").set_index("filename")["label"]
    at_sea = said.index.str.contains("sea")
    assert said[at_sea].eq("gull").mean() > 0.8 and said[~at_sea].eq("wren").mean() > 0.8
    assert "Where and when" in page(folder, "08_submit")
    target = home / "weights" / "coast"
    kit.weights(folder, target)
    assert json.loads((target / hidden.FACTS).read_text())["site"].keys() == {"sea", "wood"}
    test = hidden.begin(target, data, minutes=5)
    moved = test.prior.moved.set_axis(test.files["path"])
    assert (moved["gull"] > moved["wren"]).tolist() == ["sea" in path for path in moved.index]
    assert artifacts.read_json(folder / "submission_check.json")["passed"]
