"""A preset becomes a validated, frozen Config.

A preset is a YAML file in ``presets/``. It names only what differs from the defaults in
``settings``; an unknown key, a wrong type or an impossible value is refused with the key, what it
got and what it may be. On the way all values stand side by side, by key: "train.epochs".
"""

import contextlib
import math
import statistics
from pathlib import Path

import soundfile
import yaml
from pydantic import ValidationError

from helpers.base import recipe
from helpers.base.artifacts import REPOSITORY
from helpers.base.errors import ConfigError
from helpers.base.settings import ENSEMBLES, Audio, Compare, Config
from helpers.data import folders
from helpers.layouts import by_place, by_table, listing
from helpers.metrics import scoring

PRESETS = REPOSITORY / "presets"
# Marks that YAML would take apart.
AS_TEXT = {"data.label_separator", "submit.separator", "submit.id", "submit.column"}
AS_TEXT |= {"features.listener_output"}
HEAD = "listener_linear"  # compared where a listener is set and no model that reads it
# What `fast` makes of any preset: every stage runs, nothing is worth reading off it.
FAST = {
    "data.max_per_class": 8,
    "data.demo_train": 60,
    "data.demo_test": 12,
    "split.folds": 3,
    "train.epochs": 2,
    "train.views": 1,
    "model.channels": [8, 16, 16, 16],
    "evaluate.bootstrap_samples": 100,
    "evaluate.worst": 3,
}


def load(
    preset: str | None = None,
    data=None,
    seed: int | None = None,
    fast: bool = False,
    settings: str = "",
    knobs: dict | None = None,
) -> Config:
    """Read a preset, apply what the caller changed, validate.

    Where neither preset nor settings say where the labels stand, they are read from the table that
    names the recordings of the data folder, if there is one (`by_table.keys_of`).

    Args: preset name in ``presets/`` or path of a YAML file (None: what the data folder is
        recognised as, by `by_place.preset_of`, else ``folder``; without data ``demo``); data folder
        of recordings or None; seed int or None (the preset's); fast bool; settings as text,
        ``"train.epochs=20 clean.denoise=true"``; knobs ``{"train.epochs": 20}``, a notebook's own
        parameters, where None leaves what the preset has.
    Returns a frozen Config. Raises ConfigError naming the key, what it got and what it may be.

    >>> load("demo", settings="train.epochs=3").train.epochs
    3
    """
    turned = {key: value for key, value in (knobs or {}).items() if value is not None}
    given = {**turned, **_flat(_parse_settings(settings))}
    data = data or given.pop("data.root", None)
    data = data and folders.attached(str(data))
    values = _begin(preset, data)
    fast = bool(fast or given.pop("fast", False) or values.get("fast"))
    values |= {**(FAST if fast else {}), **given, "fast": fast}
    if data:
        values["data.root"] = str(data)
    if seed is not None:
        values["seed"] = seed
    values = _with_head(_settled(_read_by_place(_read_by_table(values))))
    try:
        config = Config.model_validate(_nested(values))
    except ValidationError as error:
        raise ConfigError(_explain(error, values["preset"])) from None
    _require_names(config)
    return config


def presets() -> list[str]:
    """Names of the presets that come with Earshot."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


# --- what is given


def _begin(preset, data):
    """The preset that is named, else the one that a data folder is recognised as, or `folder`."""
    if preset or not data:
        return _read_preset(preset or "demo")
    try:
        str(data).encode()  # notebooks and run.json are UTF-8
    except UnicodeEncodeError:
        raise ConfigError(
            f"The name of the data folder is not valid UTF-8: {str(data)!a}. Rename it."
        ) from None
    marks = {name: tuple(_read_preset(name).get("layout", ())) for name in presets()}
    name, says = by_place.preset_of(data, marks)
    return {**_read_preset(name or "folder"), "recognised": says}


def _read_preset(preset):
    path = Path(preset) if str(preset).endswith((".yaml", ".yml")) else PRESETS / f"{preset}.yaml"
    if not path.is_file():
        names = ", ".join(presets())
        raise ConfigError(
            f"There is no preset {str(preset)!r}. Presets: {names}; or a path to a .yaml file."
        )
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML in UTF-8: {error}") from None
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise ConfigError(f"{path} should hold sections such as `train:`, got {tree!r:.80}")
    return {"preset": path.stem, **_flat(tree)}


class _Loader(yaml.SafeLoader):
    """Safe YAML; a key that stands twice is refused, since one of its values would be lost."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        if twice := sorted({str(key) for key in keys if keys.count(key) > 1}):
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {twice[0]} stands twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def _parse_settings(settings):
    pairs = {}
    for word in (settings or "").split():
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(
                f"Settings are written key=value with no spaces inside; got {word!r}. A value that "
                "holds spaces goes into a preset of your own."
            )
        try:
            pairs[key] = value if key in AS_TEXT else yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"The value of {key} cannot be read: got {value!r}") from None
    return pairs


def _flat(tree):
    """Sections laid side by side; one that is empty says nothing.

    >>> _flat({"seed": 1, "train": {"epochs": 3}, "audio": None})
    {'seed': 1, 'train.epochs': 3}
    """
    flat = {}
    for name, below in tree.items():
        if "." in name:
            flat[name] = below
        elif isinstance(below, dict):
            flat |= {f"{name}.{key}": value for key, value in below.items()}
        elif below is not None:
            flat[name] = below
    return flat


def _nested(values):
    """Values by key, put into their sections."""
    tree = {}
    for key, value in values.items():
        section, _, name = key.partition(".")
        if not name:
            tree[section] = value
        elif isinstance(tree.setdefault(section, {}), dict):
            tree[section][name] = value
        else:
            raise ConfigError(
                f"{key}: {section} is a setting, not a section with settings of its own"
            )
    return tree


def _explain(error, preset):
    lines = [f"Preset {preset!r} cannot be used:"]
    for problem in error.errors():
        location = problem["loc"]
        key = ".".join(str(part) for part in location)
        says = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {key}: no such key. {_legal_keys(location)}")
        else:
            lines.append(f"  {key}: got {problem['input']!r}. {says}" if key else f"  {says}")
    return "\n".join(lines)


def _require_names(config):
    """Models and metrics are registered where they are made, which the settings do not know."""
    networks = recipe.named(*recipe.NETWORKS)
    others = [recipe.PLAIN if name == "cnn" else name for name in networks]
    compared = (*recipe.named(*recipe.TABLES), *others, *ENSEMBLES)
    model = config.model.name
    try:
        recipe.require("evaluate.metric", config.evaluate.metric, (AUTO, *sorted(scoring.METRICS)))
        recipe.require("model.name", model, networks, (*recipe.CALLED,))
        for name in config.compare.models:
            recipe.require("compare.models", name, compared, ("picture",))
        if config.train.inputs == "images":
            pictures = recipe.named("picture")
            recipe.require("train.inputs=images: model.name", model, pictures, ("picture",))
    except ValueError as error:
        raise ConfigError(f"Preset {config.preset!r} cannot be used:\n  {error}") from None


def _with_head(values):
    """Values with a model that reads what the listener hears, where there is a listener alone."""
    models = values.get("compare.models", Compare().models)
    named = isinstance(models, (list, tuple)) and not any("listener" in str(m) for m in models)
    if not values.get("features.listener") or not named:
        return values
    ensembles = [name for name in models if name in ENSEMBLES]
    alone = [name for name in models if name not in ENSEMBLES]
    return {**values, "compare.models": [*alone, HEAD, *ensembles]}


def _legal_keys(location):
    if len(location) > 2:
        return "See helpers/base/settings.py for the keys there are."
    section = Config.model_fields[location[0]].annotation if len(location) == 2 else Config
    return f"Keys there: {', '.join(section.model_fields)}"


# --- what the recordings say


def _read_by_table(values):
    """Values with those of the table that names the recordings, where nothing says where labels
    stand. What is set stays.

    So a folder is read the same way whether its preset was named or not.
    """
    own = _of_data(values)
    by_name = "(?P<label>" in str(own.get("name_pattern"))
    told = by_name or own.get("labels_csv") or own.get("label_pattern") or values.get("layout")
    elsewhere = own.get("source", "folder") != "folder"
    if told or elsewhere or not isinstance(own.get("root"), str):
        return values
    keys, says = by_table.keys_of(Path(own["root"]).expanduser(), own)
    recognised = "; ".join(filter(None, (says, values.get("recognised"))))
    return {**keys, **values, "recognised": recognised}


def _of_data(values):
    """What is set of the section data, by its keys there."""
    own = [key for key in values if key.startswith("data.")]
    return {key.removeprefix("data."): values[key] for key in own}


ROWS = {"audio.test_windows", "submit.id", "submit.rows_csv"}  # what says itself what rows are


def _read_by_place(values):
    """Values with those that lists, folders, file names and the sample submission tell.

    An official validation side is one fold that is tested: where thresholds, an ensemble's weights
    or the epoch are learned on other folds, it is dealt into folds with the rest.
    """
    own = _of_data(values)
    if own.get("source", "folder") != "folder" or not isinstance(own.get("root"), str):
        return values
    rows_are_told = not ROWS.isdisjoint(values)
    keys, says = by_place.keys_of(Path(own["root"]).expanduser(), own, rows_are_told)
    given = {key: value for key, value in values.items() if value != AUTO or key not in keys}
    words = [values.get("recognised"), says]
    recognised = "; ".join(filter(None, words))
    return _without_side_alone({**keys, **given, "recognised": recognised})


def _without_side_alone(values):
    """Values without an official validation side where what is learned needs further folds."""
    sides = [key for key in values if key.startswith("data.validation_") and values[key]]
    stacked = "stacking" in values.get("compare.models", ())
    chosen = values.get("train.select") == "validation"
    if not sides or not (stacked or chosen or values.get("data.multilabel")):
        return values
    says = f"{values['recognised']}; the validation side is dealt into folds with the rest"
    kept = {key: value for key, value in values.items() if key not in sides}
    return {**kept, "recognised": says}


# --- sizes that are `auto`

AUTO = "auto"
LOOKED_AT = 200  # recordings whose header is read
CLIP_SECONDS = (0.5, 5.0)  # the shortest and the longest clip chosen
HOP_SECONDS = (0.01, 0.032)
FRAMES = 157  # of a clip, about
CLIPS_HEARD = 48_000  # of FRAMES by a network in all its epochs, about; of shorter clips more
EPOCHS = (20, 150)
LARGE = 10_000  # clips; of larger sets the fewest epochs fall with the root of their size
KEYS = ("audio.clip_seconds", "features.hop_length", "train.epochs")


def _settled(values):
    """Values with numbers where they say `auto`; without recordings to look at, the defaults."""
    sizes = {key: values.get(key) for key in KEYS}
    if AUTO not in sizes.values():
        return values
    rate = values.get("audio.sample_rate")
    if not is_size(rate):  # the default; what cannot be used is refused later
        rate = Audio().sample_rate
    others = {key: value for key, value in values.items() if sizes.get(key) != AUTO}
    unlabelled = values.get("data.unlabelled", ())
    return {**others, **settle(sizes, values.get("data.root"), rate, unlabelled)}


def settle(values: dict, root, sample_rate: float, unlabelled=()) -> dict:
    """Numbers for the keys that are `auto`.

    Clips are as long as nine of ten recordings, so that most fit in one; a hop gives a clip about
    FRAMES frames; epochs are those of `epochs`. Where nothing can be measured the keys are left
    out: the defaults hold.

    Args: values {key: its value, perhaps AUTO} for KEYS; root folder of recordings or None;
        sample_rate in Hz; unlabelled folders that are not looked at.
    Returns {key: number} for the keys that were AUTO.
    """
    wanted = [key for key, value in values.items() if value == AUTO]
    paths = listing.recordings(root, unlabelled) if wanted and root and Path(root).is_dir() else []
    seconds = durations([Path(root) / path for path in paths])
    if len(seconds) < 2:
        return {}
    longest = statistics.quantiles(seconds, n=10, method="inclusive")[-1]
    given = values["audio.clip_seconds"]
    clip = given if is_size(given) else _between(CLIP_SECONDS, -(-longest // 0.1) * 0.1)
    hop = _between(HOP_SECONDS, clip / FRAMES)
    clips = len(paths) * max(1.0, statistics.mean(seconds) / clip)
    chosen = {
        "audio.clip_seconds": round(clip, 1),
        "features.hop_length": 16 * round(hop * sample_rate / 16),
        "train.epochs": epochs(clips, frames=clip / hop),
    }
    return {key: chosen[key] for key in wanted}


def is_size(value) -> bool:
    """Whether a value is a number above 0, and not one without end.

    >>> [is_size(value) for value in (16000, 0.5, "16k", None, 0, float("nan"), float("inf"))]
    [True, True, False, False, False, False, False]
    """
    return isinstance(value, (int, float)) and 0 < value < math.inf


def epochs(clips: float, frames: float = FRAMES) -> int:
    """How often a network hears a set of so many clips of so many frames.

    All sets cost about the same work, but for the smallest, which are heard EPOCHS[1] times, and
    the largest, which are heard EPOCHS[0] times or, above LARGE clips, fewer.

    >>> [epochs(clips) for clips in (100, 400, 2000, 10_000, 100_000)]
    [150, 120, 24, 20, 6]
    >>> [epochs(clips, frames=60) for clips in (500, 2000, 10_000)]  # of 0.6 s
    [150, 63, 20]
    """
    fewest = EPOCHS[0] * min(1.0, (LARGE / clips) ** 0.5)
    return max(1, round(_between((fewest, EPOCHS[1]), CLIPS_HEARD * FRAMES / frames / clips)))


def durations(paths: list[Path]) -> list[float]:
    """Seconds of up to LOOKED_AT recordings, evenly spaced; what soundfile cannot read is left
    out, and what has a name that is not UTF-8.
    """
    seconds = []
    for path in paths[:: math.ceil(len(paths) / LOOKED_AT) or 1]:
        with contextlib.suppress(soundfile.LibsndfileError, OSError, UnicodeEncodeError):
            seconds.append(soundfile.info(path).duration)
    return seconds


def _between(limits, value):
    return min(max(value, limits[0]), limits[1])
