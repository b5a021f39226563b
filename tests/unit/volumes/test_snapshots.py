"""Snapshots of volumes, on fakes."""

import os

from joblet_agent.errors import InvalidRequest, NotFound, WrongState
from tests.unit.jobs.rig import CALLER, Core, Host
from tests.unit.volumes.rig import own, refused, run, spec


def test_snapshots_are_taken_and_put_back_while_nobody_uses_the_volume(host: Host) -> None:
    async def case(core: Core) -> None:
        await core.volumes.create("a", "1MB", "")
        image = own(host, "a").image
        image.write_bytes(b"before" * 1000)
        made = await core.volume_snapshots.make("a", "")
        assert made.name == f"{host.clock.now():%Y%m%d-%H%M%S}"
        await refused(core.volume_snapshots.make("a", made.name), WrongState, "SNAPSHOT_EXISTS")
        await refused(core.volume_snapshots.make("a", "../x"), InvalidRequest, "BAD_SNAPSHOT_NAME")
        image.write_bytes(b"after")
        job = await core.service.run(spec("a"), CALLER)
        await refused(core.volume_snapshots.make("a", "x"), WrongState, "VOLUME_IN_USE")
        await refused(core.volume_snapshots.restore("a", made.name), WrongState, "VOLUME_IN_USE")
        await core.service.stop(job.id, force=True)
        await core.ended(job.id)
        await core.volume_snapshots.restore("a", made.name)
        assert image.read_bytes().startswith(b"before" * 1000)
        assert "grow_unmounted a" in host.volume_units.calls  # the snapshot was smaller
        assert host.paths.volume("a").mount in host.volume_units.mounted
        await refused(core.volume_snapshots.restore("a", "none"), NotFound, "SNAPSHOT_NOT_FOUND")
        await core.volume_snapshots.remove("a", made.name)
        assert os.listdir(host.paths.volume("a").snapshots) == []
        assert host.volumes.volumes["a"].snapshots == ()

    run(host, case)
