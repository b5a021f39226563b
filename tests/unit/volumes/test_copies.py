"""Copies into and out of volumes, on fakes."""

import hashlib
import os
from collections.abc import AsyncIterator

import pytest

from joblet_agent.config import VolumesConfig
from joblet_agent.errors import NotFound, WrongState
from joblet_agent.model.files import NewFile, UploadPart
from tests.unit.jobs.rig import CALLER, Core, Host
from tests.unit.volumes.rig import refused, run


def test_copies_hold_a_volume(host: Host) -> None:
    async def case(core: Core) -> None:
        await core.volumes.create("a", "1MB", "")
        file = host.paths.volume("a").contents / "file"
        file.write_text("content")
        pieces = await core.volume_copies.download("a", "file")
        await refused(core.volumes.remove("a"), WrongState, "VOLUME_IN_USE")
        await refused(core.volume_snapshots.make("a", ""), WrongState, "VOLUME_IN_USE")
        assert b"".join([piece.content async for piece in pieces]) == b"content"
        await pieces.aclose()
        await pieces.aclose()
        with pytest.raises(NotFound):
            await core.volume_copies.put("a", "", "no-upload", CALLER)
        await core.volumes.remove("a")

    run(host, case)


def test_an_upload_is_put_into_a_volume_once(host: Host) -> None:
    async def sent() -> AsyncIterator[UploadPart]:
        digest = hashlib.sha256(b"content").digest()
        yield UploadPart(NewFile("dir/file", size=7), content=b"content", sha256=digest)

    async def case(core: Core) -> None:
        await core.volumes.create("a", "1MB", "")
        upload = (await core.staging.receive(sent(), CALLER.name)).id
        assert await core.volume_copies.put("a", "below", upload, CALLER) == (1, 7)
        put = host.paths.volume("a").contents / "below" / "dir" / "file"
        assert put.read_bytes() == b"content"
        assert os.listdir(host.paths.uploads) == []
        with pytest.raises(NotFound):
            await core.volume_copies.put("a", "below", upload, CALLER)
        await core.volumes.remove("a")

    run(host, case, config=VolumesConfig(uid_first=os.getuid()))
