from pathlib import Path

import pytest

from joblet_agent.errors import HostUnavailable
from joblet_agent.systemd import version
from joblet_agent.systemd.version import require_host


@pytest.fixture(autouse=True)
def _unified_cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "cgroup.controllers"
    mark.touch()
    monkeypatch.setattr(version, "_CGROUP2_MARK", mark)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("252", 252),
        ("252.39-1~deb12u1", 252),
        ("257.13-1~deb13u1", 257),
        ("v255-rc1", 255),
        ("255.4-1ubuntu8", 255),
        ("1000", 1000),
    ],
)
def test_versions(text: str, number: int) -> None:
    assert require_host(text) == number


@pytest.mark.parametrize("text", ["251.9", "v249", "", "unknown", "-257"])
def test_what_is_too_old_or_unknown(text: str) -> None:
    with pytest.raises(HostUnavailable) as caught:
        require_host(text)
    assert caught.value.reason == "SYSTEMD_TOO_OLD"
    assert str(caught.value) == f"cannot run jobs on systemd {text!r}: 252 or newer is needed"


def test_a_host_without_unified_cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "_CGROUP2_MARK", tmp_path / "missing")
    with pytest.raises(HostUnavailable) as caught:
        require_host("257")
    assert caught.value.reason == "NO_CGROUP2"
