"""Each job has GPUs of its own, or is told why not."""

import asyncio
from collections.abc import Callable

import pytest

from joblet_agent.errors import InvalidRequest, LimitReached
from joblet_agent.gpu.host import NoDriver
from joblet_agent.gpu.jobs import JobGpus
from joblet_agent.model.gpu import GpuDriver, GpuNode

CONTROL = GpuNode("/dev/nvidiactl", "/dev/nvidiactl")
LIBRARY = ("/usr/lib/libcuda.so.535", "libcuda.so.1")


def gpu(index: int) -> GpuNode:
    return GpuNode(f"/dev/nvidia{index}", f"/dev/nvidia{index}")


DRIVER = GpuDriver("search", tuple((index, (gpu(index),)) for index in (0, 1, 4)), (CONTROL,), (LIBRARY,))


def none() -> GpuDriver:
    raise NoDriver("the driver's libraries are not there: libcuda.so.1")


def gpus(find: Callable[[], GpuDriver] = lambda: DRIVER) -> JobGpus:
    made = JobGpus(find)
    asyncio.run(made.refresh())
    return made


def test_a_job_has_those_that_nobody_has_with_what_all_need() -> None:
    held = gpus().take(2, {0})
    assert held is not None
    assert held.indices == (1, 4)
    assert held.nodes == (CONTROL, gpu(1), gpu(4))
    assert held.libraries == (LIBRARY,)


def test_a_job_that_asks_for_none_has_none_also_without_a_driver() -> None:
    made = gpus(none)
    made.check(0)
    assert made.take(0, ()) is None


@pytest.mark.parametrize(
    ("count", "needed_by", "reason"),
    [(4, "", "TOO_FEW_GPUS"), (-1, "", "INVALID_GPU_COUNT"), (0, "cuda@1.0.0", "GPU_NEEDED")],
)
def test_what_can_never_be_is_refused(count: int, needed_by: str, reason: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        gpus().check(count, needed_by=needed_by)
    assert caught.value.reason == reason


def test_without_a_driver_the_reason_is_told() -> None:
    with pytest.raises(InvalidRequest, match=r"libcuda\.so\.1") as caught:
        gpus(none).check(1)
    assert caught.value.reason == "NO_GPU_DRIVER"


def test_what_others_have_is_refused_for_now() -> None:
    with pytest.raises(LimitReached, match="and of 3 on this host 1 is free") as caught:
        gpus().take(2, {0, 4})
    assert caught.value.reason == "GPUS_BUSY"


def test_a_driver_that_comes_later_is_found() -> None:
    found: list[GpuDriver] = []
    made = gpus(lambda: found[0] if found else none())
    found.append(DRIVER)
    asyncio.run(made.refresh())
    made.check(3)
