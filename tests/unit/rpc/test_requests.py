import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import grpc
import grpc.aio
import pytest

from joblet_agent.config import RpcConfig
from joblet_agent.rpc.requests import Reception
from tests.unit.rpc.serving import FakeJobs, reason_of, serving

LIST = "/joblet.JobService/ListJobs"


async def silence() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def nothing() -> AsyncIterator[bytes]:
    none: list[bytes] = []
    for each in none:
        yield each


@pytest.mark.parametrize(
    ("requests", "reason"), [(silence, "REQUEST_TOO_SLOW"), (nothing, "REQUEST_MISSING")]
)
def test_c4_a_call_whose_request_does_not_come_is_ended(
    requests: Callable[[], AsyncIterator[bytes]], reason: str
) -> None:
    async def run() -> str | None:
        async with serving(FakeJobs(), rpc=RpcConfig(request_timeout=timedelta(seconds=0.2))) as caller:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await caller.channel.stream_unary(LIST, None, None)(requests())
            return reason_of(caught.value)

    assert asyncio.run(asyncio.wait_for(run(), 30)) == reason


def test_c4_who_has_all_his_places_waits_and_the_others_do_not() -> None:
    async def run() -> None:
        reception = Reception(most=4, most_of_client=2)
        await reception.enter("slow")
        await reception.enter("slow")
        waits = asyncio.create_task(reception.enter("slow"))
        gone = asyncio.create_task(reception.enter("slow"))
        await asyncio.sleep(0)
        await reception.enter("other")
        await reception.enter("third")  # the last places are for clients that have none
        full = asyncio.create_task(reception.enter("fourth"))
        await asyncio.sleep(0)
        assert not waits.done()
        assert not full.done()
        gone.cancel()
        reception.leave("slow")
        await full  # has none, so it comes before the one who has one
        assert not waits.done()
        for client in ("other", "third", "fourth"):
            reception.leave(client)
        await waits

    asyncio.run(asyncio.wait_for(run(), 30))
