"""The same source installs with pip: the client alone, where there is no protobuf compiler."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.testbed import CHECKOUT

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
