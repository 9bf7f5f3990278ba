"""What several test modules share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real files; tests that use it skip where it is not to be had."""
    folder = os.environ.get("ALGO_SHARED_DATA")
    if not folder:
        pytest.skip("ALGO_SHARED_DATA is not set: no folder of real data")
    return Path(folder)
