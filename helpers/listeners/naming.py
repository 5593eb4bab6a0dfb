"""What `features.listener` says: a kind, what stands behind the colon, and the files on this disk.

It imports no network, so that a stage can be looked at quickly.
"""

import hashlib
from pathlib import Path

from helpers.base import artifacts


def parts(config) -> tuple[str, str]:
    """The kind of a config's listener and what stands behind the colon.

    >>> from helpers.base.settings import Config
    >>> parts(Config(features={"listener": "hf:facebook/wavlm-base"}))
    ('hf', 'facebook/wavlm-base')
    """
    kind, _, what = config.features.listener.partition(":")
    return kind, what


def path(name: str) -> Path:
    """A path as settings write it: absolute, from ~, or from the folder that holds data/."""
    return artifacts.home() / Path(name).expanduser()


def digest(config) -> str:
    """SHA-256 of a config's listener, as far as it lies on this disk."""
    kind, what = parts(config)
    if kind == "run":
        local = artifacts.existing_run(what) / "models" / "cnn" / artifacts.DIGESTS
    else:
        local = path(what)
    files = [local, path(config.features.listener_weights or what)]
    return hashlib.sha256(str([artifacts.digest(file) for file in files]).encode()).hexdigest()
