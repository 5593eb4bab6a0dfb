"""Names read as a whole: what tells who was recorded together becomes groups, what merely counts
does not.
"""

import hashlib
import uuid

import numpy as np
import pytest
from signals import recordings_table, write_wav

from helpers.audio import recording
from helpers.base import artifacts, settings
from helpers.data import sources
from helpers.run import pipeline, presets, stages
from helpers.splits import certificate, name_groups, partition

CLASSES = ("dog", "rain", "bell", "saw")
N_EACH = 40  # recordings of a class
SITES = ["creek", "ridge", "meadow", "harbour", "quarry", "orchard", "station", "marsh", "dune"]
PEOPLE = ["Ada_Lark", "Ben_Finch", "Ce_Wren", "Dov_Crane", "Eva_Swift", "Fay_Dove", "Gil_Rook"]
PEOPLE += ["Hal_Kite", "Ivy_Heron", "Jo_Stork"]


def digest(*facts):
    return hashlib.md5("-".join(map(str, facts)).encode()).hexdigest()


def device(source):
    return str(uuid.UUID(digest("device", source))).upper()


def day(source):
    return f"202405{source + 3:02}"


# Each maps (class, number in the class, source) to a path; eleven sources, each of them heard in
# every class.
GROUPING = {
    "a device's UUID, the class at the end": lambda c, n, s: (
        f"{c}/{device(s)}-14307{n:03}{s:02}-1.0-m-{c[:2]}.wav"
    ),
    "speaker": lambda c, n, s: f"{c}/spk{s + 1}_{n:04}.wav",
    "user and take": lambda c, n, s: f"{c}/user-{s}_take{n // 11}.wav",
    "a folder per day": lambda c, n, s: f"2024-05-{s + 3:02}/{c}/{n:03}.wav",
    "a folder per author": lambda c, n, s: f"{PEOPLE[s % 10]}/{c}/XC{hash_number(c, n)}.wav",
    "day in the name": lambda c, n, s: f"{c}/REC_{day(s)}_{n // 11 + 1:02}.wav",
    "Freesound source": lambda c, n, s: (
        f"{c}/{100417 + 7919 * s}-{'AB'[n % 2]}-{CLASSES.index(c)}{n:02}.wav"
    ),
    "serial number": lambda c, n, s: f"{c}/SMM{4421 + s:05}_{n:03}.wav",
    "random suffix": lambda c, n, s: f"{c}/rec{n:04}-{digest('node', s)[:4]}.wav",
    "a folder per site": lambda c, n, s: f"{SITES[s % 9]}/{c}/{n:03}.wav",
    "first names": lambda c, n, s: f"{c}/{PEOPLE[s % 10][:-3]}{n}.wav",
    "small numbers of sources": lambda c, n, s: f"{c}/{s + 1}_{n}.wav",
}
NOT_GROUPING = {
    "running numbers": lambda c, n, s: f"{c}/{CLASSES.index(c) * N_EACH + n:04}.wav",
    "a UUID each": lambda c, n, s: f"{c}/{uuid.UUID(digest(c, n))}.wav",
    "class and number": lambda c, n, s: f"{c}/{c}_{n + 1}.wav",
    "hashes": lambda c, n, s: f"{c}/{digest(c, n)[:10]}.wav",
    "times, all different": lambda c, n, s: f"{c}/{1430700000 + hash_number(c, n)}.wav",
    "takes 1 to 40 in every class": lambda c, n, s: f"{c}/take_{n + 1:02}.wav",
    "versions": lambda c, n, s: f"{c}/{c}{n:03}_v{n % 5 + 1}.wav",
    "sample rates": lambda c, n, s: f"{c}/{n:03}_{c}_{(16000, 22050, 44100)[n % 3]}.wav",
    "train, valid and test": lambda c, n, s: (
        f"{c}/{('train', 'valid', 'test')[n % 3]}_{c}_{n:02}.wav"
    ),
    "a constant prefix": lambda c, n, s: f"{c}/my recordings {CLASSES.index(c)}{n:02}.wav",
    "a folder above each class": lambda c, n, s: f"kind of {c}/{c}/{n}.wav",
    "random numbers": lambda c, n, s: f"{c}/{hash_number(c, n) % 1000}.wav",
}


def hash_number(*facts):
    return int(digest(*facts), 16) % 900000


def heard(scheme, seed=0, loudness=4.0):
    """Recordings named by a scheme, and the source of each: its noise floor, level and band are
    alike.
    """
    rng = np.random.default_rng(seed)
    hiss = rng.normal(0, 1, (11, 3))
    rows, truth = [], []
    for label in CLASSES:
        for number in range(N_EACH):
            source = number % 11
            floor, level, band = loudness * hiss[source] + rng.normal(0, 4, 3)
            facts = {
                "noise_floor_db": -60 + floor,
                "rms_db": -20 + level,
                "bandwidth_hz": 7000 + 100 * band,
            }
            rows.append(
                {
                    "label": label,
                    "path": scheme(label, number, source),
                    "sample_rate": 16000,
                    **facts,
                }
            )
            truth.append(source)
    return recordings_table(*rows), np.array(truth)


def together(labels):
    labels = np.asarray(labels)
    return labels[:, None] == labels[None]


@pytest.mark.parametrize("name", GROUPING)
def test_names_that_tell_who_was_recorded_together_form_groups(name):
    recordings, source = heard(GROUPING[name])
    proposals = name_groups.propose(recordings, settings.Data())
    united = name_groups.unite(recordings, name_groups.used(proposals))
    group = partition.groups(united)
    assert name_groups.used(proposals), proposals.to_string()
    assert (together(group) >= together(source)).all() and group.nunique() >= 9
    first = proposals.iloc[0]
    assert (
        first["used"]
        and first["p_value"] <= 0.01
        and first["alike"] > 0.1
        and "(" in first["examples"]
    )


@pytest.mark.parametrize("name", NOT_GROUPING)
def test_names_that_merely_count_form_none(name):
    recordings, _ = heard(NOT_GROUPING[name])
    facts = ["noise_floor_db", "rms_db", "bandwidth_hz"]
    anew = (
        recordings.groupby("label")[facts].sample(frac=1, random_state=0).to_numpy()
    )  # numbers tell no source
    proposals = name_groups.propose(
        recordings.assign(**dict(zip(facts, anew.T, strict=True))), settings.Data()
    )
    assert name_groups.used(proposals) == "", proposals.to_string()
    assert partition.groups(name_groups.unite(recordings, "")).nunique() == len(recordings)


def test_a_part_that_leaves_a_class_too_few_groups_is_shown_and_not_used():
    recordings, _ = heard(
        lambda c, n, s: f"{c}/{device(s % 2 if c == 'saw' else s)}-{hash_number(c, n)}.wav"
    )
    proposals = name_groups.propose(recordings, settings.Data())
    assert (
        name_groups.used(proposals) == ""
        and proposals.iloc[0]["why"] == "it would leave too few groups of saw"
    )
    words = certificate.how_grouped(recordings, None, proposals)
    assert (
        words.startswith("nothing tells")
        and "Not used: the same name part 1 (proposed by the names: 11 values" in words
    )


def test_what_config_tables_official_folds_or_grammars_say_is_kept():
    recordings, source = heard(GROUPING["speaker"])
    sources = np.char.add("s", source.astype(str))
    told = [
        (recordings.assign(**facts), settings.Data())
        for facts in ({"source": sources}, {"together": "a=1"})
    ]
    told.append((recordings.assign(official_fold=1), settings.Data()))
    told.append((recordings, settings.Data(group_columns=["author"])))
    told.append((recordings, settings.Data(name_pattern="(?P<group>.*)")))
    assert all(name_groups.propose(*each).empty for each in told)
    assert len(name_groups.propose(recordings, settings.Data(name_pattern="(?P<label>.*)")))


# --- the notebooks -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Thirty-six recordings of nine devices, each with a hum of its own, in three classes."""
    root, rng = tmp_path_factory.mktemp("devices"), np.random.default_rng(0)
    time = np.arange(4000) / 8000
    for number in range(36):
        label, source = CLASSES[number % 3], number // 4
        hum = 0.05 * (source + 1) * np.sin(2 * np.pi * (60 + 30 * source) * time)
        call = 0.4 * np.sin(2 * np.pi * (500 + 600 * (number % 3) + rng.uniform(0, 99)) * time)
        name = f"{label}/{device(source)}-{1430742197 + 977 * number}-1.0-m-{label[:2]}.wav"
        (root / label).mkdir(exist_ok=True)
        write_wav(root / name, hum + call + rng.normal(0, 0.002 * (source + 1), len(time)), 8000)
    return root


def cleaned(data, name_groups):
    """The run folder after notebook 02, and before it a table of what 01 finds."""
    parameters = {
        "data": str(data),
        "run": "devices",
        "settings": f"split.folds=3 split.name_groups={name_groups}",
    }
    settled = presets.load(data=str(data), settings=parameters["settings"])
    first = stages.begin("01_explore", settled, "devices", data)
    recordings = recording.survey(data, sources.find(data, settled.data))
    first.write("recordings.csv", recordings)
    first.account(recordings)
    first.finish()
    pipeline.run_stage(stages.spec("02_clean"), settled, first.folder, data, parameters)
    return first.folder


def devices_across_folds(run):
    clips = artifacts.read_table(run / "clips.csv")
    paths = artifacts.read_table(run / "recordings.csv").set_index("recording_id")["path"]
    return clips.groupby(clips["recording_id"].map(paths).str.split("/").str[1].str[:36])[
        "fold"
    ].nunique()


def test_the_notebooks_keep_a_device_in_one_fold_and_say_so_until_it_is_switched_off(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("EARSHOT_HOME", str(tmp_path))
    run = cleaned(folder, "auto")
    stated = artifacts.read_json(run / "split_certificate.json")
    assert devices_across_folds(run).tolist() == [1] * 9 and stated["n_groups"] == 9
    assert "the same name part 1 (proposed by the names: 9 values" in stated["how_groups"]
    assert (
        stated["name_groups"][0] | {"used": True, "kind": "code", "values": 9}
        == stated["name_groups"][0]
    )
    assert (
        stated["name_groups"][0]["p_value"] <= 0.01 and certificate.verify(run, ["clips.csv"]) == []
    )
    audited = artifacts.read_json(run / "shortcuts.json")["class"]
    assert "harmless" in audited["says"] and audited["class_in_names"]
    cleaned(folder, "off")
    stated = artifacts.read_json(run / "split_certificate.json")
    assert devices_across_folds(run).max() > 1 and stated["n_groups"] == 36
    assert (
        "nothing tells" in stated["how_groups"]
        and "split.name_groups is off" in stated["how_groups"]
    )
    assert certificate.verify(run, ["clips.csv"]) == []
