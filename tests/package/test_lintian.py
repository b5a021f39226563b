"""What Debian's own checker says about the packages and their source, down to its pedantic remarks."""

import pytest

from tests.testbed import CHECKOUT, Release
from tests.testbed.clean import CleanSystem
from tests.testbed.install import build_packages

pytestmark = pytest.mark.package


def test_lintian_has_nothing_to_say_that_is_not_overridden_with_a_reason() -> None:
    build_packages()
    # Of Debian 12, where the packages are built and whose policy they declare.
    system = CleanSystem(Release.BOOKWORM, "lintian", frozenset({"lintian"}))
    command = "lintian --pedantic --display-info --fail-on=none"
    output = system.run(
        ["sh", "-c", f"{command} /dist/*.changes"],
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
