"""The package archives of machines: what a machine gets from its mirror is what this host would get."""

import re
from pathlib import Path

import pytest

from tests.testbed import Machine, Release, boot, mirror
from tests.testbed.upstreams import Upstreams

NAMES = ("debian/dists/trixie/InRelease", "pypi/simple/six/", "npm/is-number")


@pytest.mark.testbed
def test_a_machine_gets_packages_from_all_archives() -> None:
    with boot(Release.TRIXIE) as machine, mirror.serving(machine):
        suite, wheels, package = (_got(machine, f"{mirror.URL}/{name}") for name in NAMES)
        assert "Codename: trixie" in suite
        wheel = re.findall(r'href="(/pypi/files/[^"#]+\.whl)', wheels)[-1]
        assert "six" in _got(machine, mirror.URL + wheel)
        tarball = re.findall(r'"tarball":\s*"([^"]+)"', package)[-1]
        assert tarball.startswith(f"{mirror.URL}/npm/is-number/")
        assert _got(machine, tarball)
        unknown = machine.run("python3", "-c", _STATUS, f"{mirror.URL}/elsewhere/")
        assert unknown.stdout == "404\n"


def test_what_no_archive_has_is_nowhere() -> None:
    places = Upstreams("d", "s", "u", "p", "n")
    assert places.address("/debian/dists/x") == "d/dists/x"
    assert places.address("/debian-security/x") == "s/x"
    assert places.address("/pypi/files/host/x.whl") == "https://host/x.whl"
    assert places.address("/etc/passwd") is None
    assert Upstreams("", "", "", "", "").address("/debian/x") is None


def test_indexes_are_fetched_again_after_their_time_and_packages_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBLET_TEST_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "source"
    for path, is_kept in (("/debian/pool/x.deb", True), ("/debian/dists/InRelease", False)):
        source.write_text("first")
        assert mirror.fetched(path, source.as_uri()).content.read_text() == "first"
        source.write_text("second")
        assert mirror.fetched(path, source.as_uri()).content.read_text() == "first"
        monkeypatch.setattr(mirror, "_INDEX_AGE", -1)
        assert mirror.fetched(path, source.as_uri()).content.read_text() == ("first" if is_kept else "second")
        monkeypatch.undo()
        monkeypatch.setenv("JOBLET_TEST_CACHE", str(tmp_path / "cache"))


_STATUS = """
import sys, urllib.error, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1]).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


def _got(machine: Machine, address: str) -> str:
    get = "import sys, urllib.request as r; sys.stdout.buffer.write(r.urlopen(sys.argv[1]).read())"
    return machine.run("python3", "-c", f"{get}", address).stdout
