"""Sources that must not become packages are refused before anything is built."""

import shutil
from pathlib import Path

import pytest

from tests.testbed import CHECKOUT, TestbedError, host

pytestmark = pytest.mark.package

CHANGELOG = "joblet ({}) unstable; urgency=medium\n\n  * A change.\n\n -- Somebody <s@example.org>  {}\n"
LONG_AGO = "Sun, 23 Nov 2025 12:00:00 +0000"


@pytest.mark.parametrize(
    ("changelog", "why"),
    [
        (CHANGELOG.format("1.2.4", LONG_AGO), r"has version 1\.2\.3, debian/changelog 1\.2\.4"),
        (CHANGELOG.format("1.2.3", "Thu, 01 Jan 2099 00:00:00 +0000"), "dated in the future"),
    ],
    ids=["another version", "a date in the future"],
)
def test_a_changelog_that_does_not_fit_is_refused(changelog: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "joblet_agent").mkdir()
    (tmp_path / "joblet_agent" / "__init__.py").write_text('__version__ = "1.2.3"\n')
    (tmp_path / "debian").mkdir()
    (tmp_path / "debian" / "changelog").write_text(changelog)
    program = shutil.copy(CHECKOUT / "debian" / "build-packages", tmp_path / "debian")
    with pytest.raises(TestbedError, match=why):
        host.call([str(program)])
    assert not (tmp_path / "dist").exists()
