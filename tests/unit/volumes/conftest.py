"""What is mounted is what the fake units say."""

from pathlib import Path

import pytest

from joblet_agent.volumes import contents, images
from tests.unit.jobs.rig import Host


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    made.quotas.enforced = False
    mounted = made.volume_units.mounted
    monkeypatch.setattr(contents, "is_mounted", lambda mount: mount in mounted)
    monkeypatch.setattr(contents, "is_open_to_group", lambda _contents, _number: True)
    monkeypatch.setattr(contents, "share", lambda _contents: None)
    monkeypatch.setattr(contents, "used_space", lambda _mount: 4096)
    monkeypatch.setattr(contents, "loop_device", lambda _mount: Path("/dev/loop0"))
    monkeypatch.setattr(images, "is_clean", lambda image: image not in made.volume_units.damaged)
    monkeypatch.setattr(images, "attached_to", lambda _image: None)
    monkeypatch.setattr(images, "_SPARE", 0)
    monkeypatch.setattr("joblet_agent.volumes.backing._TOOLS", ())
    return made
