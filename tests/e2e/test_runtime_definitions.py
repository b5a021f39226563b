"""The definitions that ship with the package build as they are, each by the agent of this host."""

from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.e2e.agent import Client, eventually
from tests.e2e.host import said
from tests.e2e.runtime_builds import MIRROR, Builder, builder, has_mirror, left_of_builds, removed
from tests.e2e.runtimes import staged
from tests.shares import OPTION

pytestmark = pytest.mark.systemd

DIRECTORY = Path("/usr/share/joblet/definitions")
NAMES = (
    *("go-1.24", "node-18", "node-20", "openjdk-17", "openjdk-21"),
    *("python-3.11", "python-3.11-ml", "python-3.12", "python-3.13"),
)
UBUNTU_KEYS = Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg")


@pytest.fixture(scope="module")
def builds() -> Iterator[Builder]:
    with builder() as made:
        yield made


def test_nine_definitions_ship() -> None:
    assert sorted(path.stem for path in DIRECTORY.glob("*.yaml")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_definition_that_ships_builds_as_it_is(
    name: str, client: Client, builds: Builder, request: pytest.FixtureRequest
) -> None:
    if reason := _why_not_here(name, request.config):
        pytest.skip(f"{name} is not built: {reason}")
    try:
        built = builds.build((DIRECTORY / f"{name}.yaml").read_text(encoding="utf-8"))
        assert built.result.success, (built.result.message, built.log[-3000:])
        assert builds.info(name).digest == built.result.digest
        said(0, "runtime", "test", name)
    finally:
        removed(name)
    eventually(lambda: left_of_builds() + staged(), lambda left: left == [])


def _why_not_here(name: str, config: pytest.Config) -> str:
    if str(config.getoption(OPTION)) != "0/1":
        return "together they take ten minutes, so make test-all and make runtimes build them"
    if not has_mirror():
        return "there are no package archives at the mirror's address (python3 -m tests.testbed mirror)"
    return _why_no_ubuntu() if name == "python-3.12" else ""


def _why_no_ubuntu() -> str:
    if not UBUNTU_KEYS.exists():
        return "this host has no keys of Ubuntu's archive (package ubuntu-archive-keyring)"
    try:
        with urlopen(f"{MIRROR}/ubuntu/dists/noble/InRelease", timeout=20):
            return ""
    except URLError as error:
        return f"the archive of Ubuntu cannot be reached: {error.reason}"
