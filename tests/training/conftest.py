"""What the tests of a run share."""

from pathlib import Path

import pytest
from running import run


@pytest.fixture(scope="package")
def whole(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a run of five steps that was never killed. Read only."""
    home = tmp_path_factory.mktemp("whole")
    run(home, cache)
    return home
