"""What tests of the CA share."""

from pathlib import Path

import pytest

from tests.unit.pki.ca import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A CA that has just been made."""
    made = Rig(tmp_path / "pki")
    made.ca.init()
    return made
