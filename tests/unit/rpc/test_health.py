import asyncio

import grpc
import grpc.aio
import pytest

from joblet_agent.rpc.health import CHECK, WATCH
from tests.unit.rpc.serving import FakeJobs, reason_of, serving


def test_who_answers_serves() -> None:
    async def run() -> tuple[list[object], str | None]:
        async with serving(FakeJobs()) as caller:
            check = caller.channel.unary_unary(f"/{CHECK}", None, None)
            found: list[object] = [await check(b""), await check(b"\x0a\x11joblet.JobService")]
            watch = caller.channel.unary_stream(f"/{WATCH}", None, None)(b"\x0a\x01x")
            found.append(await watch.read())
            watch.cancel()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await check(b"\x0a\x01x")
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            return found, reason_of(caught.value)

    assert asyncio.run(run()) == ([b"\x08\x01", b"\x08\x01", b"\x08\x03"], "SERVICE_NOT_FOUND")
