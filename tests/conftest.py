"""What several test modules share: one CPU thread, clips of two tones."""

import pytest
from tables import tone_clips

from helpers import processes


@pytest.fixture
def one_thread():
    """On one CPU thread sums come out the same, to the last bit."""
    with processes.cpu_threads(1):
        yield


@pytest.fixture(scope="session")
def clips():
    """Packed waveforms of two tones, and their rows."""
    return tone_clips()
