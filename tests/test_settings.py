"""A config is either right or refused by name; later words win; a digest sees its own sections and
no others.
"""

import json

import pytest
from pydantic import ValidationError
from signals import plant

from helpers.base import errors, recipe, settings
from helpers.base.recipe import Train
from helpers.base.settings import Config
from helpers.run import presets


def preset_file(folder, text, encoding="utf-8"):
    path = folder / "mine.yaml"
    path.write_bytes(text.encode(encoding))
    return str(path)


REFUSED = {
    "train.epoch=3": ("train.epoch", "epochs"),
    "trian.epochs=3": ("trian", "train"),
    "train.epochs=many": ("train.epochs", "'many'"),
    "train.epochs=2.5": ("train.epochs", "2.5"),
    "train.epochs=0": ("train.epochs", "0"),
    "train.epochs=[1,2]": ("train.epochs", "[1, 2]"),
    "train=5": ("train", "5"),
    "seed=-1": ("seed", "-1"),
    "model.dropout=1.5": ("model.dropout", "1.5"),
    "model.dropout=.nan": ("model.dropout", "nan"),
    "model.channels=[]": ("model.channels", "[]"),
    "clean.peak=0": ("clean.peak", "0"),
    "clean.denoise=perhaps": ("clean.denoise", "'perhaps'"),
    "split.folds=1": ("split.folds", "1"),
    "audio.clip_seconds=-4": ("audio.clip_seconds", "-4"),
    "data.source=web": ("data.source", "'web'"),
    "features.f_min=9000": ("features.f_min", "9000"),
    "features.f_max=8001": ("features.f_max", "8001"),
    "features.n_fft=64001": ("features.n_fft", "clip"),
    "features.more_n_fft=[64001]": ("more_n_fft", "clip"),
    "features.kind=mfcc": ("features.kind", "'mfcc'"),
    "features.kind=pcen train.filter_db=3": ("train.filter_db", "features.kind=log_mel"),
    "features.more_n_fft=[2048] train.inputs=images": ("train.inputs", "features.more_n_fft=[]"),
    "submit.model=banana": ("submit.model", "'banana'"),
    "submit.model=svm compare.models=[xgboost]": ("submit.model", "'svm'"),
    "model.name=wavenet": ("model.name", "'wavenet'"),
    "model.name=timm:": ("model.name", "timm"),
    "compare.models=[forest]": ("compare.models", "'forest'"),
    "compare.models=[cnn]": ("compare.models", "'cnn'"),  # it is compared anyway
    "compare.models=[svm,svm]": ("compare.models", "each model once"),
    "compare.models=[soft_vote,svm]": ("compare.models", "last"),
    "train.balance=smote": ("train.balance", "'smote'"),
    "train.inputs=pictures": ("train.inputs", "'pictures'"),
    "train.schedule=step": ("train.schedule", "'step'"),
    "train.monitor=accuracy": ("train.monitor", "'accuracy'"),
    "train.plateau_patience=0": ("train.plateau_patience", "0"),
    "train.freeze=1.1": ("train.freeze", "1.1"),
    "train.layer_decay=0": ("train.layer_decay", "0"),
    "train.flip=1.5": ("train.flip", "1.5"),
    "train.rotate=0.6": ("train.rotate", "0.6"),
    "train.zoom=1": ("train.zoom", "1"),
    "split.test_folds=0": ("split.test_folds", "0"),
    "data.multilabel=both": ("data.multilabel", "'both'"),
    "train.select=last train.schedule=plateau": (
        "train.schedule=plateau",
        "train.select=validation",
    ),
    "train.select=last train.monitor=score": ("train.monitor", "train.select=validation"),
    "split.test_folds=1 data.multilabel=true": ("split.test_folds=1", "thresholds"),
    "split.test_folds=1 compare.models=[svm,stacking]": ("split.test_folds=1", "stack"),
    "data.start_column=t_min": ("data.start_column", "clean.trim_db=null"),
    "data.name_pattern=x": ("data.name_pattern", "(?P<label>"),
    "data.name_pattern=(x)": ("data.name_pattern", "'(x)'"),
    "data.label_pattern=x": ("data.label_pattern", "a group"),
    "data.label_separator=": ("data.label_separator", "''"),
    "data.test_value=1": ("data.test_value", "got 1"),
    "data.where={'rating':5.0}": ("data.where", "5.0"),
    "data.rename=[dog]": ("data.rename", "'dog'"),
    "data.classes=dog": ("data.classes", "'dog'"),
    "data.group_columns=author": ("data.group_columns", "'author'"),
    "data.labels_csv=[1]": ("data.labels_csv", "1"),
    "submit.rows_columns=[row_id]": ("submit.rows_columns", "['row_id']"),
    "evaluate.metric=mcc": ("evaluate.metric", "got 'mcc'. There are: auto, accuracy, cmap, "),
    "train.epochs": ("key=value", "'train.epochs'"),
}


@pytest.mark.parametrize("settings", REFUSED)
def test_what_cannot_be_is_refused_with_its_key_and_what_was_got(settings):
    key, got = REFUSED[settings]
    with pytest.raises(errors.ConfigError) as refusal:
        presets.load("demo", settings=settings)
    assert key in str(refusal.value)
    assert got in str(refusal.value)


def test_every_wrong_key_is_named_at_once_and_nested_ones_too():
    wrong = {"augment.transforms": [{"name": "echo"}], "train.epoch": 1}
    with pytest.raises(
        errors.ConfigError, match=r"(?s)augment\.transforms\.0\.name: got 'echo'.*train\.epoch"
    ):
        presets.load("demo", knobs=wrong)


@pytest.mark.parametrize("settings", ["train.epochs=[1", "train.epochs.x=1"])
def test_settings_that_cannot_be_parsed_are_refused(settings):
    with pytest.raises(errors.ConfigError):
        presets.load("esc10", settings=settings)


@pytest.mark.parametrize(
    "settings",
    [
        "audio.clip_seconds=.inf",
        "clean.silence_db=.nan",
        "train.epochs=true",
        "data.name_pattern=(",
        "data.label_pattern=abc",  # no group 1
    ],
)
def test_impossible_values_are_refused(settings):
    with pytest.raises(errors.ConfigError):
        presets.load("demo", settings=settings)


ALLOWED = {
    "model.name=timm:efficientnet_b0.ra_in1k": ("model", "name", "timm:efficientnet_b0.ra_in1k"),
    "train.select=validation train.schedule=plateau train.monitor=score": (
        "train", "schedule", "plateau",
    ),
    "split.test_folds=1 compare.models=[svm,soft_vote]": ("split", "test_folds", 1),
    "split.test_folds=2 data.multilabel=true": ("data", "multilabel", True),
    "compare.models=[svm,timm:resnet18,soft_vote,stacking]": (
        "compare", "models", ("svm", "timm:resnet18", "soft_vote", "stacking"),
    ),
    "compare.models=[]": ("compare", "models", ()),
    "data.labels_csv=train.csv data.id_column=fname": ("data", "id_column", "fname"),
    "data.labels_csv=[a.csv,b.csv]": ("data", "labels_csv", ("a.csv", "b.csv")),
    "data.rename={'Dog':'dog'}": ("data", "rename", (("Dog", "dog"),)),
    "data.where={'rating':'5.0'}": ("data", "where", (("rating", "5.0"),)),
    "data.classes=['yes','no']": ("data", "classes", ("yes", "no")),
    "data.test_value='1'": ("data", "test_value", "1"),
    "data.name_pattern=.*_(?P<label>[01])": ("data", "name_pattern", ".*_(?P<label>[01])"),
    "data.start_column=t_min clean.trim_db=null": ("data", "start_column", "t_min"),
    "data.label_separator=;": ("data", "label_separator", ";"),
}  # fmt: skip


@pytest.mark.parametrize("settings", ALLOWED)
def test_what_fits_together_is_taken(settings):
    section, key, value = ALLOWED[settings]
    assert getattr(getattr(presets.load("demo", settings=settings), section), key) == value


def test_an_ensembles_members_are_the_networks_and_models_but_not_the_baseline():
    chosen = presets.load(
        "demo", settings="compare.models=[mfcc_linear,svm,gru,soft_vote] submit.model=soft_vote"
    )
    assert chosen.members() == ("cnn", "svm", "gru") and chosen.submitted() == (
        "cnn",
        "svm",
        "gru",
        "soft_vote",
    )
    assert presets.load("demo", settings="submit.model=svm").submitted() == ("svm",)


def test_another_network_of_the_same_config_learns_from_waveforms():
    images = presets.load("demo", settings="train.inputs=images model.dropout=0.4")
    other = images.with_network("gru")
    assert (other.model.name, other.train.inputs, other.model.dropout) == ("gru", "waveforms", 0.4)
    assert images.model.name == "resnet" and images.train.inputs == "images"


def test_another_network_does_not_start_from_the_weights_of_the_first():
    first = presets.load("demo", settings="model.name=timm:resnet18 model.weights=resnet18.pth")
    assert first.with_network("timm:mobilenetv3_small_050").model.weights is None
    assert first.with_network("timm:resnet18").model.weights == "resnet18.pth"


def test_attention_is_of_the_residual_network_and_leaves_the_others_alone():
    heard = presets.load("demo", settings="model.pooling=attention")
    assert heard.with_network("resnet").model.pooling == "attention"
    assert heard.with_network("gru").model.pooling == "mean_max"
    with pytest.raises(errors.ConfigError, match=r"is of model\.name=resnet, not of cnn"):
        presets.load("esc10", settings="model.pooling=attention")


# --- presets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("preset", presets.presets())
def test_every_preset_loads_and_survives_its_own_json(preset, fast):
    loaded = presets.load(preset, fast=fast)
    assert (loaded.preset, loaded.fast) == (preset, fast)
    assert settings.Config(**loaded.model_dump(mode="json")) == loaded


def test_a_preset_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(errors.ConfigError) as refusal:
        presets.load("dmeo")
    assert all(name in str(refusal.value) for name in ("dmeo", *presets.presets()))


def test_a_preset_by_path_is_named_after_its_file_and_keeps_the_defaults(tmp_path):
    loaded = presets.load(preset_file(tmp_path, "train: {epochs: 7}"))
    assert (loaded.preset, loaded.train.epochs) == ("mine", 7)
    assert loaded.model_copy(update={"preset": "default", "train": Train()}) == Config()


@pytest.mark.parametrize("text", ["train: {epoch: 3}", "a: [", "- a", "data: 5"])
def test_a_broken_preset_is_refused(tmp_path, text):
    with pytest.raises(errors.ConfigError):
        presets.load(preset_file(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "encoding", "fast"),
    [("1: 2", "utf-8", False), ("about: café", "latin-1", False), ("data: 5", "utf-8", True)],
)
def test_every_broken_preset_is_a_config_error(tmp_path, text, encoding, fast):
    with pytest.raises(errors.ConfigError):
        presets.load(preset_file(tmp_path, text, encoding), fast=fast)


# --- precedence --------------------------------------------------------------------------------


def test_later_words_win(tmp_path):
    preset = preset_file(tmp_path, "train: {epochs: 7}\nseed: 3\ndata: {root: a}")
    epochs, knobs = "train.epochs=9", {"train.epochs": 8}
    assert presets.load(preset).train.epochs == 7
    assert presets.load(preset, fast=True).train.epochs == presets.FAST["train.epochs"]
    assert presets.load(preset, fast=True, knobs=knobs).train.epochs == 8
    assert presets.load(preset, fast=True, knobs=knobs, settings=epochs).train.epochs == 9
    assert presets.load(preset, knobs={"train.epochs": None}).train.epochs == 7
    assert presets.load(preset, settings="seed=4").seed == 4
    assert presets.load(preset, settings="seed=4", seed=0).seed == 0
    assert presets.load(preset, settings="data.root=b").data.root == "b"
    assert presets.load(preset, settings="data.root=b", data="c").data.root == "c"


def test_without_a_preset_data_decides():
    assert presets.load().preset == "demo"
    assert presets.load(data="somewhere").preset == "folder"


def test_settings_are_typed_as_in_yaml():
    loaded = presets.load(
        "demo", settings=" clean.denoise=true  train.learning_rate=1e-3 model.channels=[8,16] "
    )
    assert loaded.clean.denoise is True
    assert loaded.train.learning_rate == 0.001
    assert loaded.model.channels == (8, 16)


def test_settings_can_say_null():
    assert presets.load("demo", settings="clean.trim_db=null").clean.trim_db is None


def test_fast_in_settings_is_not_dropped_silently():
    assert presets.load("demo", settings="fast=true").fast


def test_fast_changes_what_it_says_and_nothing_else():
    slow, fast = (presets.load("demo", fast=fast).model_dump(mode="json") for fast in (False, True))
    for key, value in presets.FAST.items():
        section, name = key.split(".")
        slow[section][name] = value
    assert fast == {**slow, "fast": True}


# --- data folders ------------------------------------------------------------------------------

TABLE = "file,label,speaker\n" + "".join(
    f"{n}.wav,{'cat' if n % 2 else 'dog'},S{n // 2}\n" for n in range(8)
)


@pytest.fixture
def tabled(tmp_path):
    """A folder of recordings with a table of their labels and speakers."""
    plant(tmp_path, *(f"audio/{n}.wav" for n in range(8)))
    plant(tmp_path, "labels.csv", content=TABLE.encode())
    return tmp_path


@pytest.fixture
def freesound(tmp_path):
    """A folder with the marks of a preset."""
    plant(tmp_path, "audio_train/1.wav", "audio_train/2.wav", "audio_test/3.wav")
    plant(
        tmp_path,
        "train.csv",
        content=b"fname,label,manually_verified\n1.wav,Bark,0\n2.wav,Cello,1\n",
    )
    return tmp_path


def test_a_data_folder_is_recognised_where_no_preset_is_named(freesound):
    loaded = presets.load(data=freesound)
    same = presets.load("freesound_2018", data=freesound)
    assert loaded.recognised == "preset freesound_2018: train.csv: fname, label, audio_train/*.wav"
    assert loaded.model_copy(update={"recognised": ""}) == same and same.recognised == ""
    assert settings.Config(**loaded.model_dump(mode="json")) == loaded


def test_a_preset_that_is_named_is_taken_whatever_lies_in_the_folder(freesound):
    for preset in ("folder", "demo", "birdclef_2024"):
        loaded = presets.load(preset, data=freesound)
        assert loaded == presets.load(preset, settings=f"data.root={freesound}")
        assert loaded.preset == preset
    assert presets.load("demo", data=freesound).data.labels_csv is None


@pytest.mark.parametrize("preset", [None, "folder", "many_models", "own.yaml"])
def test_a_table_is_read_whether_the_preset_is_named_or_not(tabled, preset):
    (tabled / "own.yaml").write_text("train: {epochs: 3}\n")
    named = str(tabled / preset) if preset == "own.yaml" else preset
    loaded = presets.load(named, data=tabled)
    assert (loaded.data.labels_csv, loaded.data.id_column) == ("labels.csv", "file")
    assert loaded.recognised.startswith("table labels.csv: ")
    assert loaded == presets.load(named, settings=f"data.root={tabled}")


def test_a_table_that_is_named_is_taken_alone(tabled):
    (tabled / "other.csv").write_text("x,y\n0.wav,a\n1.wav,b\n")
    for preset in (None, "folder"):
        loaded = presets.load(preset, tabled, settings="data.labels_csv=other.csv")
        assert (loaded.data.labels_csv, loaded.data.id_column, loaded.recognised) == (
            "other.csv",
            None,
            "",
        )


def test_what_a_table_says_are_the_keys_of_a_folder(tabled):
    loaded = presets.load(data=tabled)
    assert (loaded.preset, loaded.data.labels_csv, loaded.data.id_column) == (
        "folder",
        "labels.csv",
        "file",
    )
    assert (loaded.data.label_column, loaded.data.group_columns) == ("label", ("speaker",))
    assert loaded.recognised.startswith("table labels.csv: ")
    assert loaded.data.root == str(tabled)


def test_settings_and_knobs_come_before_what_was_recognised(tabled, freesound):
    assert (
        presets.load(data=tabled, settings="data.label_column=speaker").data.label_column
        == "speaker"
    )
    assert (
        presets.load(
            data=freesound, knobs={"data.label_column": "manually_verified"}
        ).data.id_column
        == "fname"
    )
    fast = presets.load(data=freesound, fast=True, settings="evaluate.k=2")
    assert (fast.preset, fast.fast, fast.evaluate.k) == ("freesound_2018", True, 2)
    assert fast.data.max_per_class == presets.FAST["data.max_per_class"]


def test_a_folder_of_nothing_special_is_a_folder(tmp_path):
    for place in (plant(tmp_path, "dog/1.wav", "cat/2.wav"), tmp_path / "nowhere"):
        loaded = presets.load(data=place)
        assert (loaded.preset, loaded.recognised) == ("folder", "")


def test_the_home_folder_may_be_written_short(tabled, monkeypatch):
    monkeypatch.setenv("HOME", str(tabled.parent))
    loaded = presets.load(data=f"~/{tabled.name}")
    assert loaded.data.root == str(tabled) and loaded.data.labels_csv == "labels.csv"


@pytest.mark.parametrize(
    "preset", [name for name in presets.presets() if presets.load(name).layout]
)
def test_no_two_presets_have_the_same_marks(preset):
    others = [presets.load(name).layout for name in presets.presets() if name != preset]
    assert set(presets.load(preset).layout) not in [set(other) for other in others]


def test_the_tables_are_one_several_or_none():
    assert presets.load("folder").data.tables == ()
    assert presets.load("folder", settings="data.labels_csv=a.csv").data.tables == ("a.csv",)
    assert presets.load("folder", settings="data.labels_csv=[a.csv,b.csv]").data.tables == (
        "a.csv",
        "b.csv",
    )


# --- frozen, digests ---------------------------------------------------------------------------


def test_a_config_and_its_sections_are_frozen():
    loaded = presets.load("demo")
    for target, name in (
        (loaded, "seed"),
        (loaded.train, "epochs"),
        (loaded.augment.transforms[0], "p"),
    ):
        with pytest.raises(ValidationError):
            setattr(target, name, 1)


def test_a_changed_setting_is_checked_like_any_other_and_the_first_config_stays():
    before = Config()
    after = before.but("train.epochs", 3).but("seed", 7)
    assert (after.train.epochs, after.seed, before.seed) == (3, 7, 0)
    assert after == Config(seed=7, train={"epochs": 3})
    assert before.but("train", {"epochs": 3}).train == after.train
    for key, value in (("train.epochs", 0), ("train.epoch", 3), ("submit.model", "banana")):
        with pytest.raises(ValueError):
            before.but(key, value)


def test_a_config_with_mappings_can_be_hashed_and_survives_its_own_json(tmp_path):
    text = (
        "data: {rename: {Dog: dog, cat: Katze}, where: {rating: '5.0'}, labels_csv: [a.csv, b.csv]}"
    )
    loaded = presets.load(preset_file(tmp_path, text))
    again = Config(**json.loads(json.dumps(loaded.model_dump(mode="json"))))
    assert (
        again == loaded
        and hash(again) == hash(loaded)
        and again.digest(("data",)) == loaded.digest(("data",))
    )
    assert dict(loaded.data.rename) == {"Dog": "dog", "cat": "Katze"} and dict(
        loaded.data.where
    ) == {"rating": "5.0"}


CHANGES = {
    "data": "data.max_bad_fraction=0.5",
    "audio": "audio.max_seconds=10",
    "clean": "clean.denoise=true",
    "split": "split.folds=4",
    "augment": "augment.copies=2",
    "features": "features.n_mels=96",
    "model": "model.dropout=0.3",
    "train": "train.epochs=3",
    "compare": "compare.augmented_copies=false",
    "evaluate": "evaluate.worst=5",
    "submit": "submit.model=svm",
}


@pytest.mark.parametrize("changed", CHANGES)
def test_a_digest_changes_with_its_own_section_only(changed):
    assert set(CHANGES) == {
        name for name, value in settings.Config() if isinstance(value, recipe.Section)
    }
    before, after = presets.load("demo"), presets.load("demo", settings=CHANGES[changed])
    assert [name for name in CHANGES if before.digest((name,)) != after.digest((name,))] == [
        changed
    ]


def test_seed_and_fast_change_every_digest_and_the_folder_changes_none():
    before = presets.load("demo", data="here")
    moved, other = presets.load("demo", data="there"), presets.load("demo", data="here", seed=1)
    smoke = before.model_copy(update={"fast": True})
    for section in CHANGES:
        assert before.digest((section,)) == moved.digest((section,))
        assert len({one.digest((section,)) for one in (before, other, smoke)}) == 3


@pytest.mark.parametrize(
    "text", ["seed: 1\nseed: 2", "train: {epochs: 3, epochs: 4}", "audio: {}\nseed: 1\naudio: {}"]
)
def test_a_key_that_stands_twice_is_refused_by_name(tmp_path, text):
    (tmp_path / "mine.yaml").write_text(text)
    key = "epochs" if "epochs" in text else text.partition(":")[0]
    with pytest.raises(errors.ConfigError, match=f"the key {key} stands twice"):
        presets.load(str(tmp_path / "mine.yaml"))
