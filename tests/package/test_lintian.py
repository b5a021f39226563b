"""What Debian's own checker says about the packages and their source, down to its pedantic remarks."""

import pytest

from tests.testbed import CHECKOUT, DEBIAN, Release
from tests.testbed.clean import CleanSystem
from tests.testbed.install import build_packages

pytestmark = pytest.mark.package

# What is right for Debian 12, where the packages are built, and no longer known or newest in Debian 13.
_OF_THE_NEXT_RELEASE = {"alien-tag", "out-of-date-standards-version"}


@pytest.mark.parametrize("release", DEBIAN, ids=lambda release: release.value)
def test_lintian_has_nothing_to_say_that_is_not_overridden_with_a_reason(release: Release) -> None:
    build_packages()
    system = CleanSystem(release, "lintian", frozenset({"lintian"}))
    command = ["lintian", "--pedantic", "--display-info", "--fail-on=none"]
    if release is not Release.BOOKWORM:
        command.append(f"--suppress-tags={','.join(sorted(_OF_THE_NEXT_RELEASE))}")
    output = system.run(
        ["sh", "-c", f"{' '.join(command)} /dist/*.changes"],
        binds={CHECKOUT / "dist": "/dist"},
        env={"LC_ALL": "C.UTF-8"},
        timeout=900,
    )
    assert output == ""


def test_every_override_has_a_reason() -> None:
    for file in (CHECKOUT / "debian").rglob("*lintian-overrides"):
        before = ""
        for line in filter(str.strip, file.read_text(encoding="utf-8").splitlines()):
            assert line.startswith("#") or before, f"{file.name}: {line}: says no reason"
            before = line
