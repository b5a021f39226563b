"""Limits that only a host with cgroup controllers enforces.

B4 and B5 of the attack cases: whatever a job takes too much of, it ends with the right reason or is
held back, and the host and its agent go on.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.testbed.vm import VirtualMachine
from tests.vm.rnx import Rnx

pytestmark = pytest.mark.vm

BUSY = ("sh", "-c", "while :; do :; done")
WRITER = ("dd", "if=/dev/zero", "of=f", "bs=1M", "count=1000", "oflag=direct")

# Prints how much a counter of a job's control group grows in a second; what else it needs is in the guest.
_RATE = """
import re, subprocess, sys, time
unit, file, pattern, seconds = sys.argv[1:]
show = ["systemctl", "show", "-P", "ControlGroup", unit]
group = subprocess.run(show, capture_output=True, text=True).stdout
def read():
    text = open(f"/sys/fs/cgroup{group.strip()}/{file}").read()
    return time.monotonic(), sum(map(int, re.findall(pattern, text)))
started, before = read()
time.sleep(float(seconds))
ended, after = read()
print((after - before) / (ended - started))
"""

# Runs jobs, a few at a time, until there are no more or the time is over, and prints how each ended.
_CROWD = """
import json, sys, time
import grpc
from joblet_agent.pb import joblet_pb2 as pb, joblet_pb2_grpc as stubs
requests = [pb.RunJobRequest(**fields) for fields in json.load(sys.stdin)]
jobs = stubs.JobServiceStub(
    grpc.insecure_channel("unix:/run/joblet/agent.sock", [("grpc.default_authority", "localhost")])
)
ends, deadline = [], time.monotonic() + float(sys.argv[1])
while requests and time.monotonic() < deadline:
    batch, requests = requests[:6], requests[6:]
    for started in [jobs.RunJob.future(request, wait_for_ready=True) for request in batch]:
        uuid = started.result().job_uuid
        for _ in jobs.GetJobLogs(pb.GetJobLogsRequest(uuid=uuid)):
            pass
        status = jobs.GetJobStatus(pb.GetJobStatusRequest(uuid=uuid))
        ends.append([status.status, status.reason, status.message])
print(json.dumps(ends))
"""


@contextmanager
def running(vm: VirtualMachine, rnx: Rnx, *argv: str) -> Iterator[str]:
    """A job that runs as long as the block."""
    job = rnx.run(*argv)
    try:
        yield job
    finally:
        vm.run("rnx", "stop", "--force", job)


def rate(vm: VirtualMachine, job: str, file: str, pattern: str, seconds: float = 4) -> float:
    unit = f"joblet-job-{job}.service"
    return float(vm.run("python3", "-c", _RATE, unit, file, pattern, str(seconds)).stdout)


def cores_used(vm: VirtualMachine, job: str) -> float:
    return rate(vm, job, "cpu.stat", r"usage_usec (\d+)") / 1e6


def ends(vm: VirtualMachine, requests: list[dict[str, object]], seconds: float) -> list[list[str]]:
    """State, reason and message of each job, of those that were run in this time."""
    given = json.dumps(requests).encode()
    found: list[list[str]] = json.loads(vm.run("python3", "-c", _CROWD, str(seconds), stdin=given).stdout)
    return found


def ended(rnx: Rnx, *argv: str) -> tuple[str, str, str]:
    """Run a job to its end; return its state, reason and message."""
    job = rnx.run(*argv)
    rnx.log(job)
    status = rnx.status(job)
    return status["status"], status.get("reason", ""), status.get("message", "")


def test_a_busy_loop_gets_what_it_may_have_and_what_it_is_given_later(vm: VirtualMachine, rnx: Rnx) -> None:
    with running(vm, rnx, "--max-cpu=50", "--", *BUSY) as job:
        assert 0.45 <= cores_used(vm, job) <= 0.55
        vm.run("rnx", "job", "update", job, "--max-cpu=20%")
        assert 0.17 <= cores_used(vm, job) <= 0.23
        assert rnx.status(job)["maxCPU"] == 20


def test_a_job_runs_on_its_cores_and_cannot_leave_them(rnx: Rnx) -> None:
    leave = "nproc; taskset -c 0 true 2>/dev/null || echo stays"
    assert rnx.attach("--cpu-cores=1", "sh", "-c", leave) == (0, "1\nstays\n")


def test_a_writer_stays_within_its_rate(vm: VirtualMachine, rnx: Rnx) -> None:
    with running(vm, rnx, "--max-iobps=4M", "--", *WRITER) as job:
        assert 0.9 <= rate(vm, job, "io.stat", r"wbytes=(\d+)") / (4 << 20) <= 1.1
        vm.run("rnx", "job", "update", job, "--max-iobps=8M")
        assert 0.9 <= rate(vm, job, "io.stat", r"wbytes=(\d+)") / (8 << 20) <= 1.1


def test_limits_that_are_taken_away_are_gone(vm: VirtualMachine, rnx: Rnx) -> None:
    limits = ("--max-cpu=50", "--max-memory=64M", "--max-iobps=1M", "--cpu-cores=1", "--cpu-weight=7")
    with running(vm, rnx, *limits, "--", *BUSY) as job:
        none = [f"{limit.partition('=')[0]}=0" for limit in limits if "cores" not in limit]
        vm.run("rnx", "job", "update", job, *none, "--cpu-cores=", "--max-tasks=9")
        show = ("systemctl", "show", f"joblet-job-{job}.service", "--property")
        assert vm.run(
            *show, "MemoryMax,MemorySwapMax,CPUQuotaPerSecUSec,TasksMax,AllowedCPUs"
        ).stdout.split() == [
            "CPUQuotaPerSecUSec=infinity",
            "AllowedCPUs=",
            "MemoryMax=infinity",
            "MemorySwapMax=infinity",
            "TasksMax=9",
        ]
        vm.run("systemctl", "daemon-reload")
        assert "TasksMax=9" in vm.run(*show, "TasksMax").stdout
    assert vm.run("ls", "/run/systemd/transient").stdout == ""


def test_job_over_the_ceiling_of_all_jobs_is_killed_and_says_so(vm: VirtualMachine, rnx: Rnx) -> None:
    vm.run("systemctl", "set-property", "--runtime", "joblet-jobs.slice", "MemoryMax=64M")
    try:
        node = json.loads(vm.run("rnx", "monitor", "status", "--json").stdout)
        assert (node["ceilings"], node["unenforced"]) == ({"MemoryMax": "64MiB"}, [])
        state, reason, _ = ended(rnx, "sh", "-c", "head -c 300M /dev/zero | tail")
        assert (state, reason) == ("FAILED", "oom-kill")
    finally:
        vm.run("systemctl", "set-property", "--runtime", "joblet-jobs.slice", "MemoryMax=infinity")


BOMBS = {
    "memory": "head -c 300M /dev/zero | tail",
    "memory-of-a-child": "(head -c 300M /dev/zero | tail) & wait; sleep 100",
    "tmp": "dd if=/dev/zero of=/tmp/f bs=1M count=100",
    "shm": "dd if=/dev/zero of=/dev/shm/f bs=1M count=100",
    "inodes": 'perl -e \'open my $f, ">", "/tmp/$_" or die for 1 .. 1e7\'',
    "descriptors": "ulimit -n $(ulimit -Hn); perl -e 'while (open my $f, \"/\") { push @f, $f } sleep 100'",
}


def test_b4_what_takes_more_memory_than_it_may_ends_and_says_so(vm: VirtualMachine) -> None:
    requests = [{"command": "sh", "args": ["-c", bomb], "max_memory": 16} for bomb in BOMBS.values()]
    for name, (state, reason, message) in zip(BOMBS, ends(vm, requests, 300), strict=True):
        assert (name, state, reason) == (name, "FAILED", "oom-kill")
        assert message.startswith("out of memory, limit 16 MiB")


def test_b4_a_fork_bomb_leaves_the_host_usable(vm: VirtualMachine, rnx: Rnx) -> None:
    with running(vm, rnx, "perl", "-e", "while (1) { defined fork or sleep 1 }") as job:
        unit = f"joblet-job-{job}.service"
        vm.run("sh", "-c", f"until [ $(systemctl show -P TasksCurrent {unit}) -gt 4000 ]; do sleep 1; done")
        assert rnx.attach("--timeout=60s", "echo", "still here") == (0, "still here\n")
        assert int(vm.run("systemctl", "show", "-P", "TasksCurrent", unit).stdout) <= 4096
    rnx.log(job)
    assert rnx.status(job)["status"] == "STOPPED"


def test_b5_a_job_that_allocates_at_once_is_always_killed_at_its_limit(vm: VirtualMachine) -> None:
    greedy = {"command": "perl", "args": ["-e", "$x = 'x' x (64 << 20); sleep 100"], "max_memory": 16}
    found = ends(vm, [dict[str, object](greedy)] * 100, 500)
    assert Counter((state, reason) for state, reason, _ in found) == {("FAILED", "oom-kill"): 100}
