"""What the packages ask for: all that is imported, nothing else, and everywhere to be had."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.package.archive import Archive, installed
from tests.testbed import CHECKOUT, DEBIAN, Release, TestbedError, host
from tests.testbed.images import container_image
from tests.testbed.install import build_packages

pytestmark = pytest.mark.package

PACKAGE_OF = {
    "click": "python3-click",
    "cryptography": "python3-cryptography",
    "dbus_next": "python3-dbus-next",
    "google": "python3-protobuf",
    "grpc": "python3-grpcio",
    "nftables": "python3-nftables",
    "pyroute2": "python3-pyroute2",
    "pystemd": "python3-pystemd",
    "regex": "python3-regex",
    "systemd": "python3-systemd",
    "yaml": "python3-yaml",
}
OF_WINDOWS = {"colorama", "msvcrt"}
OF_THE_AGENT = {
    *("dbus", "dnsmasq-base", "e2fsprogs", "joblet-agent", "libnss-systemd", "nftables", "systemd"),
    *("python3-dbus-next", "python3-nftables", "python3-pyroute2", "python3-pystemd", "python3-systemd"),
}


@pytest.mark.parametrize(("package", "folder"), [("joblet-agent", "joblet_agent"), ("rnx", "rnx")])
def test_a_package_depends_on_what_it_imports_and_on_no_other_library(package: str, folder: str) -> None:
    wanted = {PACKAGE_OF[name] for name in _foreign_imports(CHECKOUT / folder) - OF_WINDOWS}
    if package == "rnx":  # the wire messages are in it
        wanted |= {"python3-protobuf", "python3-grpcio"}
    depends = {name for name in _depends(package) if name.startswith("python3-")}
    assert depends == wanted


@pytest.mark.parametrize("release", DEBIAN, ids=lambda release: release.value)
def test_rnx_alone_brings_nothing_that_only_the_agent_needs(release: Release, tmp_path: Path) -> None:
    with container_image(release) as image:
        status = (image / "var/lib/dpkg/status").read_text(encoding="utf-8")
    archive = Archive(tmp_path, installed(status))
    client = archive.solution("rnx").keys()
    assert {"rnx", "python3", "python3-click", "python3-grpcio", "python3-protobuf", "python3-yaml"} <= client
    assert client & OF_THE_AGENT == set()
    assert archive.solution("joblet-agent").keys() >= {*OF_THE_AGENT, "rnx"}


def test_ubuntu_24_04_has_every_package_in_the_version_we_ask_for(tmp_path: Path) -> None:
    noble = _noble()
    recommended = _relations("joblet-agent", "Recommends")
    solution = Archive(tmp_path, noble.values()).solution("joblet-agent", *recommended)
    assert solution.keys() == {*noble, "joblet-agent", "rnx"}


def test_a_system_that_is_too_old_is_refused(tmp_path: Path) -> None:
    noble = _noble()
    noble["systemd"] = noble["systemd"].replace("255.4", "249.11")
    with pytest.raises(TestbedError, match=r"Depends: systemd \(>= 252\)"):
        Archive(tmp_path, noble.values()).solution("joblet-agent")


def _noble() -> dict[str, str]:
    lines = (Path(__file__).parent / "noble.txt").read_text(encoding="ascii").splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    return {
        name: f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMulti-Arch: allowed\n"
        for name, version, *_ in rows
    }


def _depends(package: str) -> set[str]:
    return _relations(package, "Depends")


def _relations(package: str, field: str) -> set[str]:
    (path,) = (path for path in build_packages() if path.name.startswith(f"{package}_"))
    relations = host.call(["dpkg-deb", "--field", str(path), field])
    return {re.split(r"[\s(:]", relation.strip())[0] for relation in relations.split(",")}


def _foreign_imports(folder: Path) -> set[str]:
    return {name for path in folder.rglob("*.py") if "pb" not in path.parts for name in _imports(path)} - {
        *sys.stdlib_module_names,
        *("joblet_agent", "rnx"),
    }


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "import_module"
        ):
            yield from (
                str(word.value).partition(".")[0] for word in node.args if isinstance(word, ast.Constant)
            )
