"""All settings of a run: sections with types, ranges and defaults, validated and frozen.

A preset names only what differs. ``config.load`` reads it, and says in words what cannot be used.
The sections ``model`` and ``train`` stand in ``recipe``.
"""

import hashlib
import json
import re
import string
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from helpers.base.recipe import (
    PLAIN,
    WIDTHS,
    Count,
    Model,
    Names,
    NotNegative,
    Pairs,
    Positive,
    Probability,
    Section,
    Share,
    Text,
    Train,
    whole,
)

ENSEMBLES = ("soft_vote", "stacking")  # made of the answers of other models
# YAML reads off as false.
NameGroups = Annotated[
    Literal["auto", "off"], BeforeValidator(lambda word: "off" if word is False else word)
]


def _is_a_pattern(text):
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"it is no regular expression: {error}") from None
    return text


Pattern = Annotated[str, AfterValidator(_is_a_pattern)]
# One folder may stand there as a word.
Folders = Annotated[Names, BeforeValidator(lambda name: (name,) if isinstance(name, str) else name)]
LISTENERS = {  # kinds of pretrained networks, and what stands behind the colon
    "run": "name of a run of Earshot",
    "onnx": "file",
    "torchaudio": "BUNDLE, such as WAV2VEC2_BASE",
    "hf": "name on the Hugging Face hub, or a folder",
    "timm": "name",
}


def _is_a_listener(text):
    kind, _, what = text.partition(":")
    if kind not in LISTENERS or not what:
        forms = (f"{kind}:<{what}>" for kind, what in LISTENERS.items())
        raise ValueError(f"it may be {', '.join(forms)}")
    return text


class Data(Section):
    """Where the recordings come from and how their names are read."""

    # what to do when no folder is given
    source: Literal["folder", "demo", "demo_multilabel", "demo_birds", "esc10", "esc50"] = "folder"
    root: Text = None  # folder of recordings; None: as `source` says
    multilabel: bool = False  # several labels per recording
    # table of labels below the data folder; None: class folders, or the one table that names the
    # recordings of the folder that is given (layouts.by_table). Several tables with the same
    # columns follow each other; others are joined on the columns that they share. It may be JSON,
    # JSON lines, Kaldi's wav.scp, a Raven table, or **/*.txt: the label files beside recordings.
    labels_csv: Text | Names = None
    id_column: Text = None  # its column with the file's name; None: the first one
    label_column: Text = None  # its column of labels; None: the first other, or all where 0 or 1
    # its column of further labels, such as "['a', 'b']", of which those count that are some
    # recording's first label; with several labels only: see train.secondary_weight
    secondary_column: Text = None
    # what a recording is called in which none of the classes is heard; with several labels only
    empty_label: Text = None
    # its column of how much a recording is worth, such as a rating: training draws clips in
    # proportion; 0 or nothing: as much as the others on average
    weight_column: Text = None
    label_separator: Annotated[str, Field(min_length=1)] = ","  # between the labels of a recording
    # labels hold from here (seconds), and only the clips they touch are learned from
    start_column: Text = None
    end_column: Text = None  # to here
    # recordings with the same value there stay together: author, speaker, site
    group_columns: Names = ()
    fold_column: Text = None  # official folds
    # which recordings are the test set: those with test_value there; table: of several tables, the
    # one that a row is from
    split_column: Text = None
    test_value: str = "test"
    # the official validation side, which is tested while all else is only learned from: those with
    # this value in split_column; a table or list that names them; folders that hold them
    validation_value: Text = None
    validation_csv: Text = None
    validation_folders: Names = ()
    where: Pairs = ()  # only the rows of the table that hold these values: {rating: "5.0"}
    # regex on the class folder's name; its group 1 is the label
    label_pattern: Pattern | None = None
    # regex on the file name with groups (?P<group>), (?P<fold>) or (?P<label>), or auto
    name_pattern: Pattern = "auto"
    # only these are learned from, below the data folder; none: all but the test's
    train_folders: Names = ()
    # a table, or the sample submission, that names the test files; None: test_folders say
    test_csv: Text = None
    test_folders: Names = ()  # they hold the test set; none: those with a name such as test
    # they hold recordings without labels, which train.pseudo_labels learns from and nothing else
    # does; each below the data folder or absolute
    unlabelled: Folders = ()
    rename: Pairs = ()  # labels that go by another name
    classes: Names = ()  # the classes; none: all that there are
    other: Text = None  # what all other labels become; None: they are left out
    exclude: Names = ()  # labels that are left out
    # a hidden test set: without a test file the submission holds the sample's rows
    allow_empty_test: bool = False
    max_per_class: Count | None = None  # use at most so many recordings of each class
    max_bad_fraction: Probability = 0.25  # more unusable recordings than this stop the run
    demo_train: Count = 340  # recordings in the demo's train folder
    demo_test: Count = 80  # and in its test folder

    @field_validator("label_pattern")
    @classmethod
    def _has_a_group(cls, pattern):
        if pattern and not re.compile(pattern).groups:
            raise ValueError("it needs a group (…) around the label")
        return pattern

    @field_validator("name_pattern")
    @classmethod
    def _names_a_group(cls, pattern):
        if pattern != "auto" and not re.search(r"\(\?P<(group|fold|label)>", pattern):
            raise ValueError(
                "it needs (?P<group>…) around the source, (?P<fold>…) or (?P<label>…), or be auto"
            )
        return pattern

    @property
    def tables(self):
        """The names of the tables of labels."""
        one = isinstance(self.labels_csv, str)
        return (self.labels_csv,) if one else self.labels_csv or ()


class Audio(Section):
    """The one form in which every clip is stored, trained on and deployed."""

    sample_rate: whole(1000, 192000) = 16000  # Hz
    clip_seconds: Positive = 4.0
    short_clips: Literal["pad", "loop"] = "pad"  # how a clip that is too short is filled
    # a recording's last piece is kept if it fills so much of a clip
    min_last_fraction: Probability = 0.5
    max_seconds: Positive = 900.0  # longer recordings are set aside
    # of a training or unlabelled recording at most so many are kept; None: all
    max_clips: Count | None = None
    # which: the first ones, or those in which most stands out from the recording's background
    choose: Literal["first", "energy"] = "first"
    # each clip of a test recording is a row of the submission: no trimming, none left out
    test_windows: bool = False
    # and so many windows begin in each row's, the others counted by what they share with it
    test_steps: whole(1, 8) = 1


class Clean(Section):
    """What is done to a recording before it is cut."""

    min_seconds: Positive = 0.1  # shorter recordings are set aside
    silence_db: float = -80.0  # dBFS; recordings that never get louder are set aside
    high_pass_hz: Positive | None = None  # what lies below is taken out; None: nothing
    # edges so many dB below the loudest frame are cut; None: no trimming
    trim_db: Positive | None = 50.0
    denoise: bool = False  # spectral gating with noisereduce
    normalise: bool = True  # bring every recording to one peak
    peak: Share = 0.99  # peak of every cleaned recording
    max_gain_db: Positive = 40.0  # quieter recordings are raised by no more


class Split(Section):
    folds: whole(2, 20) = 5  # used where the data brings no official folds
    # so many folds are tested; 1: a single split; None: each fold once
    test_folds: Count | None = None
    # the same sound, re-encoded, resampled, shifted or shortened, stays together
    near_duplicates: bool = True
    # recordings whose names propose that they were recorded together stay so; off: no
    name_groups: NameGroups = "auto"


class Transform(Section):
    """One waveform augmentation: with probability p, parameters drawn uniformly from its range."""

    name: Literal["shift", "pitch_shift", "time_stretch", "gaussian_noise", "reverb"]
    p: Probability = 0.5
    low: float | None = None
    high: float | None = None


class Augment(Section):
    """Offline copies of the training clips."""

    # every transform by its own p, or exactly one or nothing
    mode: Literal["each", "one_of"] = "each"
    copies: whole(0, 20) = 1  # copies per training clip
    transforms: tuple[Transform, ...] = (
        Transform(name="shift", low=-0.3, high=0.3),
        Transform(name="pitch_shift", low=-2, high=2),
        Transform(name="time_stretch", low=0.8, high=1.25),
        Transform(name="gaussian_noise", low=0.001, high=0.015),
    )


class Features(Section):
    """The log-mel front end."""

    # what networks see of it: itself, or each band divided by its recent past (PCEN)
    kind: Literal["log_mel", "pcen"] = "log_mel"
    n_fft: whole(64) = 1024  # samples
    # networks see further spectrograms of these windows (samples), each in a channel of its own
    more_n_fft: tuple[whole(64), ...] = ()
    hop_length: Count = 320  # samples
    n_mels: whole(8, 512) = 128
    f_min: NotNegative = 20.0  # Hz
    f_max: Positive | None = None  # Hz; None: half the sample rate
    image_size: whole(16, 1024) = 128  # pixels
    # a pretrained network that turns each clip into an embedding; a kind of LISTENERS, its name
    listener: Annotated[str, AfterValidator(_is_a_listener)] | None = None
    listener_weights: Text = None  # torchaudio, timm: a local file of its weights
    # onnx, where the file does not tell: the rate (Hz), the window (seconds; None: a whole clip),
    # and the name of the output that is the embedding
    listener_rate: whole(1000, 192000) | None = None
    listener_seconds: Positive | None = None
    listener_output: Text = None

    @property
    def windows(self):
        """The windows of all spectrograms that networks see, in samples."""
        return (self.n_fft, *self.more_n_fft)


LISTENER = tuple(name for name in Features.model_fields if name.startswith("listener"))


class Compare(Section):
    """Models beside the CNN: on the feature table, other networks, ensembles of all but the linear
    baseline.
    """

    models: tuple[str, ...] = ("mfcc_linear", "svm", "xgboost")
    augmented_copies: bool = True  # fit on 03's offline copies too
    # the score by the number of recordings: of a quick model, or of the network of 05, which takes
    # some three more trainings
    learning_curve: Literal["none", "quick", "network"] = "quick"


class Evaluate(Section):
    bootstrap_samples: whole(50) = 2000
    worst: Count = 8  # mistakes shown and heard
    suspects: Count = 12  # labels most in doubt, shown and heard
    # the competition's, first in every table: a name in metrics.scoring.METRICS, such as macro_f1;
    # auto: accuracy, or macro average precision
    metric: str = "auto"
    k: Count = 3  # labels that count in map_at_k, and in a submission of shape top_k


PLAINLY = (("", None), ("0>2", None))  # how a template may ask for a value: as it is, two digits


class Submit(Section):
    """The submission. A sample submission decides the header, the ids and their order."""

    model: str = "cnn"
    # auto: as the sample's
    shape: Literal["auto", "label", "top_k", "set", "wide", "binary", "long"] = "auto"
    # a row's id as {name}, {stem}, {path}, {end} (seconds), {label}, or a column of data.labels_csv
    id: str = "auto"
    # regex on a test file's name; its named groups may stand in `id`
    id_pattern: Pattern | None = None
    # the table of the rows asked for; None: the sample, or a row per test file or window
    rows_csv: Text = None
    rows_columns: Annotated[Names, Field(min_length=2, max_length=3)] = (
        "row_id",
        "audio_id",
        "seconds",
    )
    # its columns of ids, of file names, and of the seconds at which a window ends (empty: the whole
    # recording)
    column: str = "{label}"  # shape wide: how the column of a class is called
    header: Names = ()  # of a submission without a sample: the id's column and the label's
    # between the labels of a row; None: as the sample's, or data.label_separator
    separator: Text = None
    empty: str = ""  # what a row without any label says, such as nocall
    positive: Text = None  # shape binary: the class whose probability is given; None: the last
    boolean: bool = False  # shape long: True or False instead of a probability
    # from where on a class is said; None: chosen on the other folds
    threshold: Probability | None = None
    # What is done to the windows of a test recording; 08 says what each is worth out of fold.
    smooth: Probability = 0.0  # share of a window's answer that its two neighbours give
    file_mean: Probability = 0.0  # how far a window's answer is drawn to all of its recording
    file_by: Literal["mean", "max"] = "mean"  # to their mean, or the highest of each class
    # Where or when a recording was made, and so which classes are likely, as training recordings
    # have it: a regex sought in its path, whose named groups are such facts, as in
    # (?P<site>[A-Z]{3})_\d{8}_(?P<hour>\d\d); columns of the tables of labels and of the test set
    prior_pattern: Pattern | None = None
    prior_columns: Names = ()
    prior_weight: Probability = 1.0  # how far that counts
    # files: the sample is out of date, the files on disk count
    rows_from: Literal["sample", "files"] = "sample"

    @field_validator("prior_pattern")
    @classmethod
    def _names_facts(cls, pattern):
        if pattern and not re.compile(pattern).groupindex:
            raise ValueError("it needs named groups, such as (?P<site>[A-Z]+)")
        return pattern

    @field_validator("id", "column")
    @classmethod
    def _is_a_template(cls, template, info):
        try:
            parts = [part[1:] for part in string.Formatter().parse(template)]
        except ValueError as error:
            raise ValueError(f"it is no template: {error}") from None
        fields = [part for part in parts if part[0] is not None]
        if not all(name and (spec, conversion) in PLAINLY for name, spec, conversion in fields):
            raise ValueError("braces hold a name, such as {stem}, or {label:0>2} for two digits")
        if info.field_name == "column" and {name for name, *_ in fields} != {"label"}:
            raise ValueError("it needs {label}, and knows no other name")
        return template


class Config(Section):
    """Everything that shapes a run. Frozen; saved in ``run.json`` and beside each model."""

    preset: str = "default"
    about: str = ""
    # paths, and columns of tables, by which a data folder is recognised as this preset's
    layout: Names = ()
    recognised: str = ""  # how it was recognised, in words
    synthetic: bool = False  # scores of synthetic data are labelled so on every page
    seed: whole(0) = 0
    fast: bool = False  # a smoke run: the same chain, far too small to mean anything
    data: Data = Data()
    audio: Audio = Audio()
    clean: Clean = Clean()
    split: Split = Split()
    augment: Augment = Augment()
    features: Features = Features()
    model: Model = Model()
    train: Train = Train()
    compare: Compare = Compare()
    evaluate: Evaluate = Evaluate()
    submit: Submit = Submit()

    @model_validator(mode="after")
    def _sounds_fit_together(self):
        clip_samples = self.train.crop * self.audio.clip_seconds * self.audio.sample_rate
        nyquist = self.audio.sample_rate / 2
        f_min = self.features.f_min
        f_max = self.features.f_max
        if not f_min < (f_max or nyquist) <= nyquist:
            raise ValueError(
                f"features.f_min < features.f_max <= audio.sample_rate / 2 = {nyquist:g} Hz "
                f"does not hold: f_min is {f_min:g}, f_max is {f_max}"
            )
        if max(self.features.windows) > clip_samples:
            raise ValueError(
                "features.n_fft or more_n_fft is longer than a clip "
                "(audio.clip_seconds x audio.sample_rate x train.crop)"
            )
        if (self.clean.high_pass_hz or 0) >= nyquist:
            raise ValueError(
                f"clean.high_pass_hz is not below audio.sample_rate / 2 = {nyquist:g} Hz"
            )
        if self.data.start_column and self.clean.trim_db is not None:
            raise ValueError(
                "data.start_column counts from the beginning of the file: set clean.trim_db=null"
            )
        return self

    @model_validator(mode="after")
    def _spectrograms_fit_together(self):
        is_plain = self.features.kind == "log_mel" and not self.features.more_n_fft
        needs_plain = self.train.inputs == "images" or self.train.filter_db
        if needs_plain and not is_plain:
            raise ValueError(
                "train.inputs=images and train.filter_db work on one log-mel spectrogram: "
                "features.kind=log_mel, features.more_n_fft=[]"
            )
        return self

    @model_validator(mode="after")
    def _models_fit_together(self):
        compared = self.compare.models
        ordered = sorted(set(compared), key=lambda name: (name in ENSEMBLES, compared.index(name)))
        if list(compared) != ordered:
            raise ValueError(
                "compare.models names each model once, the ensembles soft_vote and stacking last"
            )
        if self.split.test_folds == 1 and (self.data.multilabel or "stacking" in compared):
            raise ValueError(
                "split.test_folds=1 leaves no other fold to learn a stack's weights or "
                "thresholds on: test two folds or more"
            )
        heads = [name for name in compared if name.startswith("listener_")]
        if heads and not self.features.listener:
            raise ValueError(
                f"compare.models names {', '.join(heads)}, which needs a pretrained network: set "
                "features.listener"
            )
        if self.submit.model not in ("cnn", *compared):
            raise ValueError(
                f"submit.model is {self.submit.model!r}: it may be cnn or one of compare.models"
            )
        if self.model.pooling == "attention" and self.model.name != "resnet":
            raise ValueError(
                f"model.pooling=attention is of model.name=resnet, not of {self.model.name}, whose "
                "frames are too long or not there"
            )
        return self

    def but(self, key: str, value) -> "Config":
        """The same settings but one, checked like any other.

        Args: key such as "train.epochs" or "seed", or a whole section; its value.
        Raises ValueError where the value, or the others beside it, do not allow it.

        >>> Config().but("train.epochs", 3).train.epochs
        3
        """
        section, _, name = key.partition(".")
        changed = {**dict(getattr(self, section)), name: value} if name else value
        return type(self).model_validate({**dict(self), section: changed})

    def members(self) -> Names:
        """The models that an ensemble joins: the CNN and all compared ones but the linear baseline
        and the ensembles.
        """
        alone = (*ENSEMBLES, "mfcc_linear")
        return ("cnn", *(name for name in self.compare.models if name not in alone))

    def submitted(self) -> Names:
        """The models that the submission needs: the one named, an ensemble's members before it."""
        members = self.members() if self.submit.model in ENSEMBLES else ()
        return (*members, self.submit.model)

    def with_network(self, name: str) -> "Config":
        """The same config with another network, which learns from waveforms.

        Width, pooling and weights stay only where it is the same network.
        """
        network = "cnn" if name == PLAIN else name
        config = self.but("train.inputs", "waveforms")
        if network == self.model.name:
            return config
        channels = WIDTHS.get(network, self.model.channels)
        own = {"name": network, "channels": channels, "weights": None, "pooling": "mean_max"}
        return config.but("model", {**dict(self.model), **own})

    def digest(self, sections: Names) -> str:
        """SHA-256 of the named sections, or keys of them ("train.epochs"), with seed and `fast`.

        Equal digests mean equal settings. The keys of the listener are a section of their own,
        "listener": no network of 05 depends on them.
        """
        whole = self.model_dump(mode="json")
        whole["data"].pop("root")  # the recordings count, not where they lie
        whole["listener"] = {key: whole["features"].pop(key) for key in LISTENER}
        part = {}
        for name in (*sections, "seed", "fast"):
            section, _, key = name.partition(".")
            part[name] = whole[section][key] if key else whole[section]
        return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()
