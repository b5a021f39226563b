"""The volume service on fakes."""

import asyncio
import os
from dataclasses import replace

import pytest

from joblet_agent.config import FilesystemBacking, VolumesConfig
from joblet_agent.errors import (
    HostUnavailable,
    InvalidRequest,
    LimitReached,
    NotOffered,
    StoreFailed,
    WrongState,
)
from joblet_agent.model.volume import Backing, VolumeState
from joblet_agent.volumes import images
from tests.unit.jobs.rig import CALLER, Core, Host
from tests.unit.volumes.rig import FIRST, MIB, homes, own, refused, run, settled, spec


def test_a_memory_volume_from_its_creation_to_its_end(host: Host) -> None:
    async def case(core: Core) -> None:
        view = await core.volumes.create("cache", "10MB", "memory")
        assert (view.volume.backing, view.volume.size, view.volume.state) == (
            Backing.TMPFS,
            10 * MIB,
            VolumeState.READY,
        )
        (plan,) = host.volume_units.mounted.values()
        assert (plan.type, plan.where) == ("tmpfs", host.paths.volume("cache").mount)
        assert {"size=10485760", "nosuid", "nodev"} <= set(plan.options)
        assert view.path == str(plan.where / "data")
        assert (view.unit, view.used, view.warning, view.jobs) == ("cache.mount", 4096, "", ())
        assert [each.state for each in host.volumes.history] == [VolumeState.CREATING, VolumeState.READY]
        await core.volumes.remove("cache")
        assert (host.volume_units.mounted, homes(host), host.volumes.volumes) == ({}, [], {})
        assert await core.volumes.all() == []

    run(host, case)


def test_an_image_has_all_its_blocks_and_a_file_system(host: Host) -> None:
    async def case(core: Core) -> None:
        view = await core.volumes.create("data", "2MB", "")
        assert view.volume.backing is Backing.IMAGE
        image = own(host, "data").image
        status = image.stat()
        assert (status.st_size, status.st_mode & 0o777) == (2 * MIB, 0o600)
        assert status.st_blocks * 512 >= 2 * MIB
        assert not own(host, "data").new_image.exists()
        assert [call.split()[0] for call in host.volume_units.calls[1:]] == [
            "make_file_system",
            "mount",
            "make_directory",
        ]
        (plan,) = host.volume_units.mounted.values()
        assert (plan.what, plan.type) == (str(image), "ext4")
        assert {"loop", "nosuid", "nodev"} <= set(plan.options)

    run(host, case)


def test_with_quotas_a_volume_is_a_directory_with_a_project_of_its_own(host: Host) -> None:
    host.quotas.enforced = True

    async def case(core: Core) -> None:
        first = (await core.volumes.create("a", "1MB", "filesystem")).volume
        second = (await core.volumes.create("b", "2MB", "filesystem")).volume
        assert {first.backing, second.backing} == {Backing.QUOTA}
        config = VolumesConfig()
        assert [first.project, second.project] == [config.project_first, config.project_first + 1]
        assert host.quotas.usage(second.project).most_size == 2 * MIB
        assert host.volume_units.mounted == {}
        await core.volumes.grow("b", "3MB")
        assert host.quotas.usage(second.project).most_size == 3 * MIB
        await refused(core.volume_snapshots.make("b", ""), NotOffered, "SNAPSHOT_NOT_OFFERED")
        await core.volumes.remove("b")
        assert host.quotas.usage(second.project).most_size == 0

    run(host, case)


def test_no_volume_is_made_that_nothing_would_hold_to_its_size(host: Host) -> None:
    async def case(core: Core) -> None:
        text = await refused(core.volumes.create("a", "1MB", ""), HostUnavailable, "NO_VOLUME_BACKING")
        assert "no project quotas" in text
        assert (homes(host), host.volumes.volumes) == ([], {})

    run(host, case, config=VolumesConfig(filesystem=FilesystemBacking.QUOTA))


def test_without_the_programs_no_image_is_made(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("joblet_agent.volumes.backing._TOOLS", ("/nonexistent/mke2fs",))

    async def case(core: Core) -> None:
        text = await refused(core.volumes.create("a", "1MB", ""), HostUnavailable, "NO_VOLUME_BACKING")
        assert "/nonexistent/mke2fs" in text

    run(host, case)


@pytest.mark.parametrize("method", ["make_file_system", "mount", "make_directory"])
def test_a_creation_that_fails_leaves_nothing(host: Host, method: str) -> None:
    host.volume_units.failures[method] = "the words of the program"

    async def case(core: Core) -> None:
        text = await refused(core.volumes.create("a", "1MB", ""), HostUnavailable, "FAKE_FAILURE")
        assert text == "cannot create volume a: the words of the program" or "cannot use volume a" in text
        assert (homes(host), host.volumes.volumes, host.volume_units.mounted) == ([], {}, {})
        host.volume_units.failures.clear()
        assert (await core.volumes.create("a", "1MB", "")).volume.number == FIRST

    run(host, case)


def test_a_full_disk_is_found_before_anything_is_made(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_SPARE", 2**60)

    async def case(core: Core) -> None:
        await refused(core.volumes.create("a", "1MB", ""), HostUnavailable, "DISK_FULL")
        assert (homes(host), host.volumes.volumes) == ([], {})

    run(host, case)


def test_a_store_that_refuses_leaves_nothing(host: Host) -> None:
    async def case(core: Core) -> None:
        host.volumes.failure = StoreFailed("cannot write", reason="STORE_FULL")
        with pytest.raises(StoreFailed):
            await core.volumes.create("a", "1MB", "memory")
        assert (homes(host), host.volume_units.mounted) == ([], {})
        host.volumes.failure = None
        # What could not be forgotten is known until it can be.
        assert [view.warning for view in await core.volumes.all()] in ([], ["it is creating"])

    run(host, case)


def test_names_are_given_once_and_files_of_nobody_are_not_touched(host: Host) -> None:
    left = host.paths.volumes / "old" / "mount" / "data"
    left.mkdir(parents=True)

    async def case(core: Core) -> None:
        await core.volumes.create("a", "1MB", "memory")
        await refused(core.volumes.create("a", "2MB", "memory"), WrongState, "VOLUME_EXISTS")
        await refused(core.volumes.create("old", "1MB", "memory"), WrongState, "VOLUME_FILES_LEFT")
        assert left.is_dir()

    run(host, case)


def test_ten_creations_of_one_name_make_one_volume(host: Host) -> None:
    async def case(core: Core) -> None:
        made = await asyncio.gather(
            *(core.volumes.create("a", "1MB", "memory") for _ in range(10)), return_exceptions=True
        )
        assert sum(not isinstance(each, BaseException) for each in made) == 1
        assert {each.reason for each in made if isinstance(each, WrongState)} == {"VOLUME_EXISTS"}

    run(host, case)


def test_limits_of_the_configuration(host: Host) -> None:
    async def case(core: Core) -> None:
        with pytest.raises(LimitReached, match=r"volumes\.max_size"):
            await core.volumes.create("a", "3MB", "memory")
        await core.volumes.create("a", "1MB", "memory")
        with pytest.raises(LimitReached, match=r"volumes\.most"):
            await core.volumes.create("b", "1MB", "memory")

    run(host, case, config=VolumesConfig(most=1, max_size=2 * MIB))


def test_a_crash_is_completed_by_the_next_agent(host: Host) -> None:
    async def before(core: Core) -> None:
        for name in ("made", "half", "going"):
            await core.volumes.create(name, "1MB", "")

    run(host, before)
    stored = host.volumes.volumes
    stored["half"] = replace(stored["half"], state=VolumeState.CREATING)
    stored["going"] = replace(stored["going"], state=VolumeState.REMOVING)
    its = own(host, "made")
    its.new_image.touch()
    its.snapshots.mkdir()
    (its.snapshots / "nobody").touch()

    async def case(core: Core) -> None:
        await settled(core)
        assert (homes(host), list(stored)) == (["made"], ["made"])
        assert not its.new_image.exists()
        assert os.listdir(its.snapshots) == []
        assert [plan.where for plan in host.volume_units.mounted.values()] == [its.mount]

    run(host, case)


def test_after_a_reboot_images_are_checked_and_memory_is_empty_and_says_so(host: Host) -> None:
    async def before(core: Core) -> None:
        for name, kind in (("good", ""), ("torn", ""), ("memory", "memory")):
            await core.volumes.create(name, "1MB", kind)

    run(host, before)
    host.volume_units.mounted.clear()
    host.volume_units.calls.clear()
    host.volume_units.damaged.add(own(host, "torn").image)

    async def case(core: Core) -> None:
        await settled(core)
        assert host.volume_units.calls.index("check_file_system torn") < host.volume_units.calls.index(
            "mount torn"
        )
        warnings = {view.volume.name: view.warning for view in await core.volumes.all()}
        assert warnings["good"] == ""
        assert "repaired" in warnings["torn"]
        assert "empty again" in warnings["memory"]
        await core.service.run(spec("memory"), CALLER)
        assert (await core.volumes.get("memory")).warning == ""

    run(host, case)
    assert host.volumes.volumes["memory"].warning == ""


def test_a_file_system_that_cannot_be_repaired_is_not_mounted(host: Host) -> None:
    async def before(core: Core) -> None:
        await core.volumes.create("a", "1MB", "")

    run(host, before)
    host.volume_units.mounted.clear()
    host.volume_units.failures["check_file_system"] = "UNEXPECTED INCONSISTENCY"

    async def case(core: Core) -> None:
        await settled(core)
        assert host.volume_units.mounted == {}
        text = await refused(core.service.run(spec("a"), CALLER), WrongState, "VOLUME_DAMAGED")
        assert "UNEXPECTED INCONSISTENCY" in text
        assert "damaged" in (await core.volumes.get("a")).warning
        host.volume_units.failures.clear()
        await core.service.run(spec("a"), CALLER)
        assert (await core.volumes.get("a")).warning == ""

    run(host, case)


def test_an_image_that_was_removed_is_found_at_the_next_use(host: Host) -> None:
    async def case(core: Core) -> None:
        await core.volumes.create("a", "1MB", "")
        its = own(host, "a")
        its.image.unlink()
        await refused(core.service.run(spec("a"), CALLER), WrongState, "VOLUME_IMAGE_GONE")
        pieces = await core.volume_copies.download("a", "")  # what is there can be saved
        await pieces.aclose()
        host.volume_units.mounted.clear()
        await refused(core.service.run(spec("a"), CALLER), WrongState, "VOLUME_GONE")
        assert "not there any more" in (await core.volumes.get("a")).warning
        await core.volumes.remove("a")
        assert homes(host) == []

    run(host, case)


def test_a_volume_that_the_host_uses_is_not_removed_by_half(host: Host) -> None:
    async def case(core: Core) -> None:
        await core.volumes.create("a", "1MB", "")
        host.volume_units.failures["unmount"] = "somebody uses it"
        await refused(core.volumes.remove("a"), HostUnavailable, "FAKE_FAILURE")
        assert host.volumes.volumes["a"].state is VolumeState.READY
        await core.service.run(spec("a"), CALLER)

    run(host, case)


def test_growing(host: Host) -> None:
    async def case(core: Core) -> None:
        for name, kind in (("image", ""), ("memory", "memory")):
            await core.volumes.create(name, "1MB", kind)
            with pytest.raises(InvalidRequest, match="is not more"):
                await core.volumes.grow(name, "1MB")
            view = await core.volumes.grow(name, "2MB")
            assert (view.volume.size, host.volumes.volumes[name].size_text) == (2 * MIB, "2MB")
        assert own(host, "image").image.stat().st_size == 2 * MIB
        assert "grow_file_system image" in host.volume_units.calls
        assert "remount memory" in host.volume_units.calls
        host.volume_units.failures["grow_file_system"] = "Permission denied"
        await core.volumes.grow("image", "3MB")  # nobody uses it: while it is not mounted
        assert "grow_unmounted image" in host.volume_units.calls
        await core.service.run(spec("image"), CALLER)
        await refused(core.volumes.grow("image", "4MB"), HostUnavailable, "FAKE_FAILURE")
        assert (await core.volumes.get("image")).volume.size == 3 * MIB

    run(host, case)
