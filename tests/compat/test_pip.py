"""pip installs the client alone: from a wheel, and from the source where there is no protobuf compiler."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.testbed import CHECKOUT
from tests.testbed.building import build_for_pip, unpack_sources
from tests.testbed.install import build_packages

pytestmark = pytest.mark.compat


def _run(*command: str, **options: object) -> str:
    done = subprocess.run(  # type: ignore[call-overload]
        command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    assert done.returncode == 0, done.stdout
    return str(done.stdout)


def _copy_of_checkout(to: Path) -> Path:
    """Copy what git knows: a build writes into its tree."""
    names = _run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=CHECKOUT).split(
        "\0"
    )
    for name in filter(None, names):
        if (CHECKOUT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            (to / name).write_bytes((CHECKOUT / name).read_bytes())
    return to


def test_the_wheel_runs_with_the_oldest_libraries_it_says_it_needs(tmp_path: Path) -> None:
    build_packages()
    unpack_sources(CHECKOUT / "dist", tmp_path)
    (wheel,) = (made for made in build_for_pip(tmp_path) if made.suffix == ".whl")
    _run(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    python = str(tmp_path / "venv" / "bin" / "python")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    oldest = re.findall(r"^Requires-Dist: (grpcio|protobuf)>=([\d.]+)$", metadata, re.MULTILINE)
    assert len(oldest) == 2
    exact = [f"{library}=={version}.*" for library, version in oldest]
    _run(python, "-m", "pip", "install", "--quiet", str(wheel), *exact)
    assert "wire messages" in _run(
        python, "-c", "import joblet_agent.pb.joblet_pb2_grpc; print('wire messages')"
    )


def test_pip_installs_the_client_and_what_it_needs_alone(tmp_path: Path) -> None:
    source = _copy_of_checkout(tmp_path / "source")
    _run(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    programs = tmp_path / "venv" / "bin"
    nothing_in_path = {"PATH": "/nonexistent", "HOME": str(tmp_path)}
    _run(
        str(programs / "python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        str(source),
        env=os.environ | nothing_in_path,
    )
    assert _run(str(programs / "rnx"), "--version", env=nothing_in_path).startswith("rnx v")
    installed = _run(str(programs / "python"), "-m", "pip", "list", "--format=freeze", env=nothing_in_path)
    assert not {"dbus-next", "pystemd", "systemd-python"} & {
        line.split("==")[0] for line in installed.splitlines()
    }
