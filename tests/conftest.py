"""What several test modules share: one CPU thread, clips of two tones, a home for whole runs."""

import os

import pytest
from tables import tone_clips

from helpers.base import work


@pytest.fixture
def one_thread():
    """On one CPU thread sums come out the same, to the last bit."""
    with work.cpu_threads(1):
        yield


@pytest.fixture(scope="session")
def clips():
    """Packed waveforms of two tones, and their rows."""
    return tone_clips()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """An empty folder that holds data/ and outputs/ of everything in this module."""
    folder = tmp_path_factory.mktemp("home")
    before = os.environ.get("EARSHOT_HOME")
    os.environ["EARSHOT_HOME"] = str(folder)
    yield folder
    os.environ.pop("EARSHOT_HOME")
    if before:
        os.environ["EARSHOT_HOME"] = before
