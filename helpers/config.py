"""A preset becomes a validated, frozen Config.

A preset is a YAML file in ``presets/``. It names only what differs from the defaults in ``settings``; an unknown
key, a wrong type or an impossible value is refused with the key, what it got and what it may be.
"""

import sys
from pathlib import Path

import yaml
from pydantic import ValidationError

from helpers import artifacts, layouts, sizes
from helpers.settings import BACKBONE, Config, Section
from helpers.tables import SourceError

PRESETS = Path(__file__).resolve().parent.parent / "presets"


class _Loader(yaml.SafeLoader):
    """YAML as it is, but a key that stands twice in a section is refused: one of its values would be lost."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        if twice := sorted({str(key) for key in keys if keys.count(key) > 1}):
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


class ConfigError(ValueError):
    """A preset or a setting that cannot be used; the message says what it may be."""


AS_TEXT = {"data.label_separator", "submit.separator", "submit.id", "submit.column"}  # marks that YAML would take apart
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

    Where neither preset nor settings say where the labels stand, they are read from the table that names the
    recordings of the data folder, if there is one (`layouts.by_table`).

    Args: preset name in ``presets/`` or path of a YAML file (None: what the data folder is recognised as, by
        `layouts.recognise`, else ``folder``; without data ``demo``); data folder of recordings or None; seed int or
        None (the preset's); fast bool; settings as text, ``"train.epochs=20 clean.denoise=true"``; knobs
        ``{"train.epochs": 20}``, a notebook's own parameters, where None leaves what the preset has.
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
        raise ConfigError(_explain(error, preset)) from None


def _begin(preset, data):
    """The preset that is named, else the one that a data folder is recognised as, `folder` or `demo`."""
    if preset or not data:
        return _read_preset(preset or "demo")
    marks = {name: tuple(_read_preset(name).get("layout", ())) for name in presets()}
    name, says = layouts.recognise(Path(data).expanduser(), marks)
    return {**_read_preset(name or "folder"), "recognised": says}


def _read_by_table(tree):
    """Where nothing is said of where the labels stand, let the table say it that names the recordings.

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
        raise ConfigError(f"The name of the data folder is not valid UTF-8: {name!a}. Rename it.") from None


def _settle(tree):
    """Put numbers where the tree says `auto`; without recordings to look at, the defaults."""
    values = {key: _get(tree, key) for key in sizes.KEYS}
    rate = _get(tree, "audio.sample_rate")
    if not sizes.is_size(rate):  # the default; what cannot be used is refused below
        rate = Config().audio.sample_rate
    chosen = sizes.settle(values, _get(tree, "data.root"), rate) if sizes.AUTO in values.values() else {}
    for key, value in values.items():
        if value == sizes.AUTO:
            section, name = key.split(".")
            _set(tree, key, chosen.get(key, getattr(getattr(Config(), section), name)))


def _get(tree, dotted_key):
    section, key = dotted_key.split(".")
    below = tree.get(section)
    return below.get(key) if isinstance(below, dict) else None


def add_options(parser):
    """The options by which a command names a run and its settings: preset, data, run, seed, fast, settings."""
    known = f"{', '.join(presets())}, or a YAML file (default: demo; folder if --data is given)"
    parser.add_argument("--preset", help=known)
    parser.add_argument("--data", help="folder of recordings, one sub-folder per class")
    parser.add_argument("--run", help="name of the run below outputs/ (default: the preset's name)")
    parser.add_argument("--seed", type=int, help="overrides the preset's seed")
    parser.add_argument(
        "--fast", action="store_true", help="a smoke run: everything far too small, minutes become seconds"
    )
    parser.add_argument(
        "--set", dest="settings", default="", help='single settings: "train.epochs=20 clean.denoise=true"'
    )


def from_options(options):
    """The Config that the options of `add_options` describe. Raises ConfigError."""
    return load(options.preset, options.data, options.seed, options.fast, options.settings)


def exit_status(work, stopped="The next call goes on where this one was."):
    """Do a command's work; an error that says what to do is shown as it is, without where it came from.

    Args: work a function; stopped what is said when it is stopped by hand. Returns the exit status: 0 done, 1 not ready
    or failed, 2 settings or data that cannot be used, 130 stopped.
    """
    try:
        work()
    except (ConfigError, SourceError) as error:
        print(error, file=sys.stderr)
        return 2
    except artifacts.StageError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nStopped. {stopped}", file=sys.stderr)
        return 130
    return 0


def presets():
    """Names of the presets that come with Earshot."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def _read_preset(preset):
    path = Path(preset) if str(preset).endswith((".yaml", ".yml")) else PRESETS / f"{preset}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"There is no preset {str(preset)!r}. Presets: {', '.join(presets())}; or a path to a .yaml file."
        )
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader) or {}  # a safe loader: it makes plain values
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML in UTF-8: {error}") from None
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise ConfigError(f"{path} should hold sections such as `train:`, got {tree!r:.80}")
    return {"preset": path.stem, **tree}


def _merge(base, change):
    """A copy of the nested dict `base` with the values of `change`."""
    merged = dict(base)
    for key, value in change.items():
        below = merged.get(key) or {}
        if not isinstance(value, dict):
            merged[key] = value
        elif isinstance(below, dict):  # what should be a section and is none is left for the validation to refuse
            merged[key] = _merge(below, value)
    return merged


def _parse_settings(settings):
    pairs = {}
    for word in (settings or "").split():
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"Settings are written key=value with no spaces inside; got {word!r}")
        try:
            pairs[key] = value if key in AS_TEXT else yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"The value of {key} cannot be read: got {value!r}") from None
    return pairs


def _set(tree, dotted_key, value):
    """Set a dotted key in a nested dict, copying the sections on the way."""
    *sections, key = dotted_key.split(".")
    for section in sections:
        below = tree.get(section) or {}
        if not isinstance(below, dict):
            raise ConfigError(f"{dotted_key}: {section} is a setting, not a section with settings of its own")
        tree[section] = dict(below)
        tree = tree[section]
    tree[key] = value


def _explain(error, preset):
    lines = [f"Preset {preset!r} cannot be used:"]
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {key}: no such key. {_legal_keys(problem['loc'])}")
        elif problem["type"] == "string_pattern_mismatch":
            names = problem["ctx"]["pattern"].strip("^$()").replace(BACKBONE, "timm:<name>").split("|")
            lines.append(f"  {key}: got {problem['input']!r}. There are: {', '.join(names)}")
        elif key:
            lines.append(f"  {key}: got {problem['input']!r}. {problem['msg']}")
        else:
            lines.append(f"  {problem['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)


def _legal_keys(location):
    section = Config
    for part in location[:-1]:
        annotation = section.model_fields[part].annotation if part in section.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            return "See helpers/settings.py for the keys there are."
        section = annotation
    return f"Keys there: {', '.join(section.model_fields)}"
