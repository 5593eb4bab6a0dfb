"""A preset becomes a validated, frozen Config.

A preset is a YAML file in ``presets/``. It names only what differs from the defaults in
``settings``; an unknown key, a wrong type or an impossible value is refused with the key, what it
got and what it may be.
"""

import math
import statistics
from pathlib import Path

import soundfile
import yaml
from pydantic import ValidationError

from helpers.base import errors
from helpers.base.artifacts import REPOSITORY
from helpers.base.recipe import Section
from helpers.base.settings import Config
from helpers.data import layouts

AUTO = "auto"
LOOKED_AT = 200  # recordings whose header is read
CLIP_SECONDS = (0.5, 5.0)  # the shortest and the longest clip chosen
HOP_SECONDS = (0.01, 0.032)
FRAMES = 157  # of a clip, about
CLIPS_HEARD = 48_000  # of FRAMES by a network in all its epochs, about; of shorter clips more
EPOCHS = (20, 150)
LARGE = 10_000  # clips; of larger sets the fewest epochs fall with the root of their size
KEYS = ("audio.clip_seconds", "features.hop_length", "train.epochs")


def settle(values, root, sample_rate):
    """Numbers for the keys that are `auto`.

    Clips are as long as nine of ten recordings, so that most fit in one; a hop gives a clip about
    FRAMES frames; epochs are those of `epochs`. Where nothing can be measured the keys are left
    out: the defaults hold.

    Args: values {key: its value, perhaps AUTO} for KEYS; root folder of recordings or None;
        sample_rate in Hz.
    Returns {key: number} for the keys that were AUTO.
    """
    wanted = [key for key, value in values.items() if value == AUTO]
    paths = layouts.recordings(root) if wanted and root and Path(root).is_dir() else []
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


def is_size(value):
    """Whether a value is a number above 0, and not one without end.

    >>> [is_size(value) for value in (16000, 0.5, "16k", None, 0, float("nan"), float("inf"))]
    [True, True, False, False, False, False, False]
    """
    return isinstance(value, (int, float)) and 0 < value < math.inf


def epochs(clips, frames=FRAMES):
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


def durations(paths):
    """Seconds of up to LOOKED_AT recordings, evenly spaced in the list; what soundfile cannot read
    is left out.
    """
    found = []
    for path in paths[:: -(-len(paths) // LOOKED_AT) or 1]:
        try:
            found.append(soundfile.info(path).duration)
        except (
            soundfile.LibsndfileError,
            OSError,
            UnicodeEncodeError,
        ):  # the last: a name that is not UTF-8
            continue
    return found


def _between(limits, value):
    return min(max(value, limits[0]), limits[1])


PRESETS = REPOSITORY / "presets"


class _Loader(yaml.SafeLoader):
    """YAML as it is, but a key that stands twice in a section is refused: one of its values would
    be lost.
    """

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        if twice := sorted({str(key) for key in keys if keys.count(key) > 1}):
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {twice[0]} stands twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


AS_TEXT = {
    "data.label_separator",
    "submit.separator",
    "submit.id",
    "submit.column",
}  # marks that YAML would take apart
# What `fast` makes of any preset: every stage runs, nothing is worth reading off it.
FAST = {
    "data": {"max_per_class": 8, "demo_train": 60, "demo_test": 12},
    "split": {"folds": 3},
    "train": {"epochs": 2, "views": 1},
    "model": {"channels": [8, 16, 16, 16]},
    "evaluate": {"bootstrap_samples": 100, "worst": 3},
}


def load(preset=None, data=None, seed=None, fast=False, settings="", knobs=None):
    """Read a preset, apply what the caller changed, validate.

    Where neither preset nor settings say where the labels stand, they are read from the table that
    names the recordings of the data folder, if there is one (`layouts.by_table`).

    Args: preset name in ``presets/`` or path of a YAML file (None: what the data folder is
        recognised as, by `layouts.recognise`, else ``folder``; without data ``demo``); data folder
        of recordings or None; seed int or None (the preset's); fast bool; settings as text,
        ``"train.epochs=20 clean.denoise=true"``; knobs ``{"train.epochs": 20}``, a notebook's own
        parameters, where None leaves what the preset has.
    Returns a frozen Config. Raises ConfigError naming the key, what it got and what it may be.

    >>> load("demo", settings="train.epochs=3").train.epochs
    3
    """
    pairs = _parse_settings(settings)
    turned = {key: value for key, value in (knobs or {}).items() if value is not None}
    given = {**turned, **pairs}
    named = given.get("data.root")
    data = data or (named if isinstance(named, str) else None)
    _refuse_odd_bytes(str(data))
    fast = given.pop("fast", False) or fast
    tree = _begin(preset, data)
    preset = tree["preset"]
    fast = bool(fast or tree.get("fast"))
    if fast:
        tree = _merge(tree, FAST)
    for key, value in given.items():
        _set(tree, key, value)
    if data:
        _set(tree, "data.root", str(Path(data).expanduser()))
    if seed is not None:
        tree["seed"] = seed
    _read_by_table(tree)
    _settle(tree)
    try:
        return Config.model_validate({**tree, "fast": fast})
    except ValidationError as error:
        raise errors.ConfigError(_explain(error, preset)) from None


def _begin(preset, data):
    """The preset that is named, else the one that a data folder is recognised as, `folder` or
    `demo`.
    """
    if preset or not data:
        return _read_preset(preset or "demo")
    marks = {name: tuple(_read_preset(name).get("layout", ())) for name in presets()}
    name, says = layouts.recognise(Path(data).expanduser(), marks)
    return {**_read_preset(name or "folder"), "recognised": says}


def _read_by_table(tree):
    """Where nothing is said of where the labels stand, let the table say it that names the
    recordings.

    So a folder is read the same way whether its preset was named or not. Keys that are set stay.
    """
    data = tree.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("root"), str) or _says_labels(tree):
        return
    keys, says = layouts.by_table(Path(data["root"]).expanduser(), data)
    for key, value in keys.items():
        if key.removeprefix("data.") not in data:
            _set(tree, key, value)
    if says:
        tree["recognised"] = "; ".join(filter(None, (says, tree.get("recognised"))))


def _says_labels(tree):
    """Whether a preset says itself where the labels stand: a table, the names, a known layout."""
    data = tree["data"]
    by_name = "(?P<label>" in str(data.get("name_pattern"))
    told = by_name or data.get("labels_csv") or data.get("label_pattern") or tree.get("layout")
    return bool(told or data.get("source", "folder") != "folder")


def _refuse_odd_bytes(name):
    """Stop at a folder whose name cannot be written down: notebooks and run.json are UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise errors.ConfigError(
            f"The name of the data folder is not valid UTF-8: {name!a}. Rename it."
        ) from None


def _settle(tree):
    """Put numbers where the tree says `auto`; without recordings to look at, the defaults."""
    values = {key: _get(tree, key) for key in KEYS}
    rate = _get(tree, "audio.sample_rate")
    if not is_size(rate):  # the default; what cannot be used is refused below
        rate = Config().audio.sample_rate
    chosen = settle(values, _get(tree, "data.root"), rate) if AUTO in values.values() else {}
    for key, value in values.items():
        if value == AUTO:
            section, name = key.split(".")
            _set(tree, key, chosen.get(key, getattr(getattr(Config(), section), name)))


def _get(tree, dotted_key):
    section, key = dotted_key.split(".")
    below = tree.get(section)
    return below.get(key) if isinstance(below, dict) else None


def presets():
    """Names of the presets that come with Earshot."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def _read_preset(preset):
    path = Path(preset) if str(preset).endswith((".yaml", ".yml")) else PRESETS / f"{preset}.yaml"
    if not path.is_file():
        raise errors.ConfigError(
            f"There is no preset {str(preset)!r}. Presets: {', '.join(presets())}; or a path to a .yaml file."
        )
    try:
        tree = (
            yaml.load(path.read_text(encoding="utf-8"), _Loader) or {}
        )  # a safe loader: it makes plain values
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise errors.ConfigError(f"{path} is not valid YAML in UTF-8: {error}") from None
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise errors.ConfigError(f"{path} should hold sections such as `train:`, got {tree!r:.80}")
    return {"preset": path.stem, **tree}


def _merge(base, change):
    """A copy of the nested dict `base` with the values of `change`."""
    merged = dict(base)
    for key, value in change.items():
        below = merged.get(key) or {}
        if not isinstance(value, dict):
            merged[key] = value
        elif isinstance(
            below, dict
        ):  # what should be a section and is none is left for the validation to refuse
            merged[key] = _merge(below, value)
    return merged


def _parse_settings(settings):
    pairs = {}
    for word in (settings or "").split():
        key, equals, value = word.partition("=")
        if not equals:
            raise errors.ConfigError(
                f"Settings are written key=value with no spaces inside; got {word!r}"
            )
        try:
            pairs[key] = value if key in AS_TEXT else yaml.safe_load(value)
        except yaml.YAMLError:
            raise errors.ConfigError(f"The value of {key} cannot be read: got {value!r}") from None
    return pairs


def _set(tree, dotted_key, value):
    """Set a dotted key in a nested dict, copying the sections on the way."""
    *sections, key = dotted_key.split(".")
    for section in sections:
        below = tree.get(section) or {}
        if not isinstance(below, dict):
            raise errors.ConfigError(
                f"{dotted_key}: {section} is a setting, not a section with settings of its own"
            )
        tree[section] = dict(below)
        tree = tree[section]
    tree[key] = value


def _explain(error, preset):
    lines = [f"Preset {preset!r} cannot be used:"]
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        says = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {key}: no such key. {_legal_keys(problem['loc'])}")
        elif key:
            lines.append(f"  {key}: got {problem['input']!r}. {says}")
        else:
            lines.append(f"  {says}")
    return "\n".join(lines)


def _legal_keys(location):
    section = Config
    for part in location[:-1]:
        annotation = section.model_fields[part].annotation if part in section.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            return "See helpers/base/settings.py for the keys there are."
        section = annotation
    return f"Keys there: {', '.join(section.model_fields)}"
