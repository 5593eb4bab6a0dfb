"""What `features.listener` and `model.weights` name, and the files of it on this disk.

It imports no network, so that a stage can be looked at quickly.
"""

import glob
import hashlib
from pathlib import Path

from helpers.base import artifacts, errors


def parts(config) -> tuple[str, str]:
    """The kind of a config's listener and what stands behind the colon.

    >>> from helpers.base.settings import Config
    >>> parts(Config(features={"listener": "hf:openai/whisper-base"}))
    ('hf', 'openai/whisper-base')
    """
    kind, _, what = config.features.listener.partition(":")
    return kind, what


def path(name: str) -> Path:
    """A path as settings write it: absolute, from ~, or from the folder that holds data/."""
    return artifacts.home() / Path(name).expanduser()


def require_files(config) -> None:
    """Raise ConfigError where a listener's or a network's file that a config names is not there."""
    kind, what = parts(config) if config.features.listener else ("", "")
    weights = None if config.model.begins_from else config.model.weights
    named = {
        "features.listener": what if kind == "onnx" else None,
        "features.listener_weights": config.features.listener_weights,
        "model.weights": weights,
    }
    for key, name in named.items():
        if name and not path(name).is_file():
            raise errors.ConfigError(f"{key}: there is no file {path(name)}")
    if kind == "hf" and what.startswith(("/", "~", ".")) and not path(what).is_dir():
        raise errors.ConfigError(f"features.listener: there is no folder {path(what)}")


def digest(config) -> str:
    """SHA-256 of a config's listener, as far as it lies on this disk."""
    kind, what = parts(config)
    local = _local(kind, what)
    beside = [] if kind != "onnx" else local.parent.glob(f"{glob.escape(local.name)}?*")
    large = sorted(beside)  # tensors that an ONNX file keeps beside it
    return _digest(local, *large, path(config.features.listener_weights or what))


def begins_elsewhere(config) -> bool:
    """Whether a network begins from what lies in no run folder of its own."""
    return bool(config.model.weights or ":" in config.model.name)


def weights_digest(config) -> str:
    """SHA-256 of what a network begins from, as far as it lies on this disk: a file, the networks
    of another run, a folder of transformers.
    """
    run = config.model.begins_from
    _, _, what = config.model.name.partition(":")
    return _digest(_local("run", run) if run else path(config.model.weights or what))


def _local(kind, what):
    if kind == "run":
        return artifacts.existing_run(what) / "models" / "cnn" / artifacts.DIGESTS
    return path(what)


def _digest(*files):
    return hashlib.sha256(str([artifacts.digest(file) for file in files]).encode()).hexdigest()
