"""File names tell source and fold where nearly all follow one grammar, and nothing where they do
not.
"""

import re

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.base.errors import SourceError
from helpers.layouts import filenames

LAW = settings(deadline=None, derandomize=True, max_examples=60)
# Real-looking names of each set, with the source and the official fold that they tell.
SPOKEN = {
    "ESC-50": {
        "1-100032-A-0.wav": ("100032", 1),
        "5-9032-B.ogg": ("9032", 5),
        "3-155642-A-11.wav": ("155642", 3),
    },
    "UrbanSound8K": {"100032-3-0-0.wav": ("100032", None), "7061-6-0-12.wav": ("7061", None)},
    "Speech Commands": {
        "0a7c2a8d_nohash_0.wav": ("0a7c2a8d", None),
        "fffcabd1_nohash_14.wav": ("fffcabd1", None),
    },
    "xeno-canto": {
        "XC12345.mp3": ("XC12345", None),
        "XC9 - Song Thrush - Turdus philomelos.mp3": ("XC9", None),
        "XC134874_2.ogg": ("XC134874", None),
    },
    "Free Spoken Digits": {
        "0_jackson_0.wav": ("jackson", None),
        "9_yweweler_49.wav": ("yweweler", None),
    },
    "AudioMNIST": {"0_01_0.wav": ("01", None), "9_60_49.wav": ("60", None)},
    "RAVDESS": {"03-01-06-01-02-01-12.wav": ("12", None), "03-02-01-01-01-02-24.wav": ("24", None)},
    "CREMA-D": {"1001_DFA_ANG_XX.wav": ("1001", None), "1091_WSI_SAD_HI.wav": ("1091", None)},
    "EMO-DB": {
        "03a01Fa.wav": ("03", None),
        "16b10Wb.wav": ("16", None),
        "08a05N.wav": ("08", None),
    },
    "VCTK": {"p225_001.wav": ("p225", None), "p376_295_mic1.flac": ("p376", None)},
    "LibriSpeech": {"1089-134686-0000.flac": ("1089", None), "84-121123-0027.flac": ("84", None)},
}
NAMES = [(title, name) for title, names in SPOKEN.items() for name in names]
ODD = ("rex", "2019-10-04", "recording (2)", "1", "final_FINAL", "IMG_0001")


def test_every_grammar_is_spoken_here():
    assert list(SPOKEN) == list(filenames.NAME_GRAMMARS)


@pytest.mark.parametrize("title", SPOKEN)
def test_a_grammar_is_known_by_its_names_and_tells_their_sources_and_folds(title):
    names = [f"some class/{name}" for name in SPOKEN[title]]
    found, pattern = filenames.grammar_of(names)
    assert found == title
    facts = filenames.facts(names, pattern)
    assert facts["group"].tolist() == [source for source, _ in SPOKEN[title].values()]
    assert [None if fold is pd.NA else fold for fold in filenames.folds(facts["fold"])] == [
        fold for _, fold in SPOKEN[title].values()
    ]
    assert facts["label"].ne("").all() == ("(?P<label>" in pattern.pattern)


@pytest.mark.parametrize(("title", "name"), NAMES)
def test_names_of_one_grammar_are_not_taken_for_another(title, name):
    stem = name.rpartition(".")[0]
    assert [
        known for known, grammar in filenames.NAME_GRAMMARS.items() if re.fullmatch(grammar, stem)
    ] == [title]


@LAW
@given(st.sampled_from(list(SPOKEN)), st.integers(0, 40), st.integers(0, 10), st.randoms())
def test_a_grammar_is_used_exactly_where_nine_of_ten_names_fit_it(title, fitting, odd, random):
    known = list(SPOKEN[title])
    names = [f"{n}/{known[n % len(known)]}" for n in range(fitting)] + [
        f"x/{ODD[n % len(ODD)]}" for n in range(odd)
    ]
    random.shuffle(names)
    found, pattern = filenames.grammar_of(names)
    used = fitting > 0 and fitting >= 9 * odd
    assert (found, pattern is None) == ((title, False) if used else (None, True))


@pytest.mark.parametrize(
    ("fitting", "odd", "used"), [(9, 1, True), (8, 1, False), (18, 2, True), (17, 2, False)]
)
def test_at_nine_of_ten_it_is_used_below_it_is_not(fitting, odd, used):
    names = ["1-100-A-0.wav"] * fitting + ["rex.wav"] * odd
    assert filenames.grammar_of(names)[0] == ("ESC-50" if used else None)


def test_an_odd_name_among_many_is_a_source_of_its_own():
    names = [f"{n}/1-{n:06}-A-0.wav" for n in range(19)] + ["x/my own (copy).wav"]
    facts = filenames.facts(names, filenames.grammar_of(names)[1])
    assert facts["group"].tolist() == [f"{n:06}" for n in range(19)] + [""]


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["rex.wav"],
        ["6-100032-A-0.wav"],  # there is no sixth fold
        ["1-100032-A-0.wav", "100032-3-0-0.wav"],
        ["0001.wav", "0002.wav"],
        ["20190904_063000.wav"],
        ["XCITED.wav"],
        ["0A7C2A8D_nohash_0.wav"],
    ],
)
def test_names_that_follow_no_grammar_tell_nothing(names):
    assert filenames.grammar_of(names) == (None, None)
    facts = filenames.facts(names, None)
    assert len(facts) == len(names) and not facts.any(axis=None)


@pytest.mark.parametrize("names", [["rex.wav"], ["1-100032-A-0.wav"], []])
def test_a_given_pattern_comes_before_all_grammars(names):
    title, pattern = filenames.grammar_of(names, r"(?P<label>\w+)-?.*")
    assert (title, pattern.pattern) == ("given pattern", r"(?P<label>\w+)-?.*")


def test_a_given_pattern_may_tell_the_label_the_source_and_the_fold_in_part():
    pattern = re.compile(r"(?P<group>[a-z]+)_(?P<label>[01])(?:_f(?P<fold>\d+))?")
    facts = filenames.facts(["a/x_1.wav", "b/y_0_f12.aif", "c/odd.wav"], pattern)
    assert facts.to_dict("list") == {
        "group": ["x", "y", ""],
        "fold": ["", "12", ""],
        "label": ["1", "0", ""],
    }
    assert filenames.folds(facts["fold"]).tolist() == [pd.NA, 12, pd.NA]


def test_a_given_pattern_has_to_fit_one_name_at_least():
    filenames.check_fits(r"(?P<group>\d)-.*", ["x/odd.wav", "x/1-a.wav"])
    filenames.check_fits(r"(?P<group>\d)-.*", [])
    with pytest.raises(
        SourceError, match=r"data\.name_pattern .* fits none of the file names, such as 'odd'"
    ):
        filenames.check_fits(r"(?P<group>\d)-.*", ["x/odd.wav", "x/1.wav"])
