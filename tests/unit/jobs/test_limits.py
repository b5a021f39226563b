"""What jobs get: what is refused, with which words, and what fills the gaps."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from joblet_agent.config import DefaultsConfig, LimitsConfig, MaximaConfig, Unenforced
from joblet_agent.errors import InvalidRequest, JobletError, NotOffered
from joblet_agent.jobs.host import Storage
from joblet_agent.jobs.limits import LIMITS, LimitPolicy
from joblet_agent.model.identity import Role
from joblet_agent.model.resources import Resources
from tests.fakes.host import FakeHost

MIB = 1 << 20
HOUR = timedelta(hours=1)


def policy(home: Path, config: LimitsConfig | None = None, host: FakeHost | None = None) -> LimitPolicy:
    return LimitPolicy(config or LimitsConfig(), host or FakeHost(home), disks=())


def refused(of: LimitPolicy, role: Role = Role.ADMIN, **wanted: Any) -> JobletError:
    with pytest.raises(JobletError) as caught:
        of.settle(Resources(**wanted), role)
    return caught.value


def test_a_job_that_asks_for_nothing_gets_the_task_limit_alone(tmp_path: Path) -> None:
    assert policy(tmp_path).settle(Resources(), Role.OPERATOR) == Resources(max_tasks=4096)


def test_a_workspace_has_the_default_size_where_it_can_be_held_to_it(tmp_path: Path) -> None:
    of = policy(tmp_path)
    assert of.settle(Resources(), Role.ADMIN, has_quotas=True).work_size == 20 << 30
    for has_quotas in (True, False):
        asked = of.settle(Resources(work_size=MIB), Role.ADMIN, has_quotas=has_quotas)
        assert asked.work_size == MIB


def test_a_workspace_is_held_to_the_maximum_of_the_role_or_there_is_no_job(tmp_path: Path) -> None:
    config = LimitsConfig(operator=MaximaConfig(work_size=MIB))
    of = policy(tmp_path, config)
    assert of.settle(Resources(), Role.OPERATOR, has_quotas=True).work_size == MIB
    assert of.settle(Resources(work_size=MIB), Role.OPERATOR).work_size == MIB
    assert refused(of, Role.OPERATOR, work_size=2 * MIB).reason == "LIMIT_OVER_MAXIMUM"
    error = refused(of, Role.OPERATOR)
    assert error.reason == "LIMIT_NOT_ENFORCED"
    assert "would not be limited to 1MiB (limits.operator.work_size)" in str(error)
    accepting = policy(tmp_path, replace(config, unenforced=Unenforced.ACCEPT))
    assert accepting.settle(Resources(), Role.OPERATOR).work_size == 0


def test_what_is_possible_is_taken_as_it_is(tmp_path: Path) -> None:
    wanted = Resources(400, 4 * MIB, 1000, "0-3", 3, HOUR, 19, 10_000, 1)
    assert policy(tmp_path).settle(wanted, Role.ADMIN) == wanted


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"max_cpu": 401}, "--max-cpu is 401%, at most 400% are possible: the host has 4 cores, 100% each"),
        ({"max_cpu": -1}, "--max-cpu must be from 1% to 2147483647%, not -1%"),
        ({"max_memory": -MIB}, "--max-memory must be from 4MiB to"),
        ({"max_memory": MIB}, "not 1MiB"),
        ({"max_io_bps": -5}, "--max-iobps must be from 1000 bytes/s to 2147483647 bytes/s, not -5 bytes/s"),
        ({"max_tasks": 2}, "--max-tasks must be from 3 to 4194304, not 2"),
        ({"nice": -1}, "--nice is -1: a job must not come before the host's own processes"),
        ({"nice": 20}, "--nice must be from 1 to 19, not 20"),
        ({"cpu_weight": 10_001}, "--cpu-weight must be from 1 to 10000, not 10001"),
        ({"io_weight": -1}, "--io-weight must be from 1 to 10000, not -1"),
        ({"cpu_cores": "3-5"}, "--cpu-cores names 4-5, which this host does not have online: there are 0-3"),
        ({"cpu_cores": "0-"}, "cannot read --cpu-cores='0-': expected CPUs such as"),
        ({"cpu_cores": "3-1"}, "expected ranges that rise, not 3-1"),
        ({"cpu_cores": "0-9999999"}, "cannot read --cpu-cores="),
        ({"cpu_cores": "0-99999"}, "expected CPUs below 8192"),
        ({"cpu_cores": "٣"}, "cannot read --cpu-cores="),
    ],
)
def test_what_is_impossible_is_refused_with_what_is_possible(
    tmp_path: Path, wanted: dict[str, Any], text: str
) -> None:
    error = refused(policy(tmp_path), **wanted)
    assert isinstance(error, InvalidRequest)
    assert error.reason == "BAD_LIMIT"
    assert str(error).startswith("cannot run job: ")
    assert text in str(error)


def test_cores_are_told_as_the_kernel_tells_them(tmp_path: Path) -> None:
    settled = policy(tmp_path).settle(Resources(cpu_cores="3, 0-1,1"), Role.ADMIN)
    assert settled.cpu_cores == "0-1,3"


OPERATORS = LimitsConfig(
    operator=MaximaConfig(max_cpu=200, max_memory=512 * MIB, max_tasks=100, timeout=HOUR),
    default=DefaultsConfig(max_memory=256 * MIB, timeout=2 * HOUR),
)


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (
            {"max_cpu": 201},
            "--max-cpu is 201%, the maximum of role operator is 200% (limits.operator.max_cpu)",
        ),
        ({"max_memory": 513 * MIB}, "is 513MiB, the maximum of role operator is 512MiB"),
        ({"max_tasks": 101}, "(limits.operator.max_tasks)"),
        (
            {"timeout": 2 * HOUR},
            "--timeout is 2h, the maximum of role operator is 1h (limits.operator.timeout)",
        ),
    ],
)
def test_more_than_the_role_may_have_is_refused_with_the_key(
    tmp_path: Path, wanted: dict[str, Any], text: str
) -> None:
    of = policy(tmp_path, OPERATORS)
    error = refused(of, Role.OPERATOR, **wanted)
    assert error.reason == "LIMIT_OVER_MAXIMUM"
    assert text in str(error)
    of.settle(Resources(**wanted), Role.ADMIN)


def test_who_asks_for_nothing_gets_the_default_within_the_maximum_of_the_role(tmp_path: Path) -> None:
    of = policy(tmp_path, OPERATORS)
    assert of.settle(Resources(), Role.OPERATOR) == Resources(200, 256 * MIB, max_tasks=100, timeout=HOUR)
    assert of.settle(Resources(), Role.ADMIN) == Resources(
        max_memory=256 * MIB, max_tasks=4096, timeout=2 * HOUR
    )


def test_a_default_above_what_the_host_has_is_what_the_host_has(tmp_path: Path) -> None:
    of = policy(tmp_path, LimitsConfig(default=DefaultsConfig(max_cpu=6400)))
    assert of.settle(Resources(), Role.ADMIN).max_cpu == 400


@pytest.mark.parametrize("name", [name for name, limit in LIMITS.items() if limit.controller])
def test_a_limit_without_its_controller_is_refused_unless_that_is_accepted(tmp_path: Path, name: str) -> None:
    host = FakeHost(tmp_path)
    host.write("sys/fs/cgroup/cgroup.controllers", "hugetlb misc")
    wanted: Any = {"max_memory": 64 * MIB, "cpu_cores": "0", "max_io_bps": 2000}.get(name, 100)
    error = refused(policy(tmp_path, host=host), **dict[str, Any]({name: wanted}))
    assert isinstance(error, NotOffered)
    assert error.reason == "LIMIT_NOT_ENFORCED"
    assert f"{LIMITS[name].option} would have no effect: this host has no cgroup controller" in str(error)
    lenient = policy(tmp_path, LimitsConfig(unenforced=Unenforced.ACCEPT), host)
    assert getattr(lenient.settle(Resources(**dict[str, Any]({name: wanted})), Role.ADMIN), name) == wanted
    assert LIMITS[name].option in lenient.unenforced()


def test_the_default_task_limit_needs_no_controller(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.write("sys/fs/cgroup/cgroup.controllers", "")
    assert policy(tmp_path, host=host).settle(Resources(), Role.ADMIN).max_tasks == 4096


class OnStorage(FakeHost):
    """A host on which every path is on this storage."""

    def __init__(self, root: Path, storage: Storage) -> None:
        super().__init__(root)
        self._storage = storage

    def storage(self, path: Path) -> Storage:
        return self._storage


@pytest.mark.parametrize(
    ("storage", "is_limited"),
    [
        (Storage("ext4", "8:1"), True),
        (Storage("btrfs"), True),
        (Storage("tmpfs"), True),
        (Storage("overlay"), False),
        (Storage("nfs4"), False),
    ],
)
def test_io_is_limited_where_the_kernel_can(tmp_path: Path, storage: Storage, is_limited: bool) -> None:
    of = LimitPolicy(LimitsConfig(), OnStorage(tmp_path, storage), disks=(Path("/usr"),))
    if is_limited:
        assert of.settle(Resources(max_io_bps=5000), Role.ADMIN).max_io_bps == 5000
        return
    error = refused(of, max_io_bps=5000)
    assert error.reason == "LIMIT_NOT_ENFORCED"
    assert f"no effect on /usr: {storage.filesystem} has no block device here" in str(error)


@pytest.mark.parametrize(
    ("scheduler", "costs", "is_shared"),
    [
        ("mq-deadline [none]", "", False),
        ("[mq-deadline] none bfq", "", False),
        ("mq-deadline [bfq] none", "", True),
        ("[none]", "8:0 enable=1 ctrl=auto", True),
        ("[none]", "8:0 enable=0 ctrl=auto", False),
    ],
)
def test_a_weight_of_io_is_refused_where_nothing_shares_the_disk_by_weight(
    tmp_path: Path, scheduler: str, costs: str, is_shared: bool
) -> None:
    host = OnStorage(tmp_path, Storage("ext4", "8:1"))
    host.write("sys/devices/pci/block/sda/queue/scheduler", scheduler)
    host.write("sys/devices/pci/block/sda/dev", "8:0")
    host.write("sys/devices/pci/block/sda/sda1/partition", "1")
    host.write("sys/fs/cgroup/io.cost.qos", costs)
    numbers = tmp_path / "sys/dev/block"
    numbers.mkdir(parents=True)
    (numbers / "8:1").symlink_to("../../devices/pci/block/sda/sda1")
    of = LimitPolicy(LimitsConfig(), host, disks=(Path("/usr"),))
    if is_shared:
        assert of.settle(Resources(io_weight=50), Role.ADMIN).io_weight == 50
    else:
        assert "nothing shares its disk by weight" in str(refused(of, io_weight=50))


def test_a_mapping_is_looked_through_to_its_only_disk(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    host.write("sys/devices/virtual/block/dm-0/dev", "253:0")
    host.write("sys/devices/pci/block/sda/queue/scheduler", "[bfq]")
    host.write("sys/devices/pci/block/sda/dev", "8:0")
    host.write("sys/devices/pci/block/sda/sda2/partition", "2")
    (tmp_path / "sys/devices/virtual/block/dm-0/slaves").mkdir()
    (tmp_path / "sys/devices/virtual/block/dm-0/slaves/sda2").symlink_to(
        tmp_path / "sys/devices/pci/block/sda/sda2"
    )
    numbers = tmp_path / "sys/dev/block"
    numbers.mkdir(parents=True)
    (numbers / "253:0").symlink_to("../../devices/virtual/block/dm-0")
    assert host.shares_by_weight(Storage("ext4", "253:0"))


def test_storage_is_what_the_last_and_deepest_mount_says(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    deep = tmp_path / "a b"
    deep.mkdir()
    point = str(deep).replace(" ", "\\040")
    host.write(
        "proc/self/mountinfo",
        "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        f"23 22 0:5 / {point} rw - overlay none rw\n"
        f"24 23 0:6 / {point} rw - tmpfs none rw",
    )
    assert host.storage(deep).filesystem == "tmpfs"
    assert host.storage(tmp_path).filesystem == "ext4"


def test_only_the_limits_that_change_are_looked_at(tmp_path: Path) -> None:
    present = Resources(max_cpu=400, max_memory=1024 * MIB, max_tasks=5000)
    changed = policy(tmp_path, OPERATORS).settle(
        replace(present, max_cpu=100), Role.OPERATOR, act="cannot change job x", names=("max_cpu",)
    )
    assert changed == Resources(max_cpu=100, max_memory=1024 * MIB, max_tasks=5000)
