import json

from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import UUID, FakeAgent

LIMITS = pb.Limits(max_cpu=150, max_memory=2048, max_tasks=4096)


def test_update_sends_what_was_given_and_nothing_else(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["UpdateJob"] = pb.UpdateJobResponse(uuid=UUID, status="RUNNING", limits=LIMITS)
    done = rnx("job", "update", "1111", "--max-cpu=1.5", "--max-memory", "2G", "--cpu-weight=0")
    assert done.out == (
        f"Job updated successfully:\nID: {UUID}\nStatus: RUNNING\n"
        "Max CPU: 150%\nMax Memory: 2048 MB\nMax Tasks: 4096\n"
    )
    (request,) = agent.asked("UpdateJob")
    assert request == pb.UpdateJobRequest(uuid="1111", max_cpu=150, max_memory=2048, cpu_weight=0)
    assert request.HasField("cpu_weight")


def test_update_as_json(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["UpdateJob"] = pb.UpdateJobResponse(uuid=UUID, status="PENDING", limits=LIMITS)
    data = json.loads(rnx("job", "update", "1111", "--timeout=5m", "--json").out)
    assert data == {"uuid": UUID, "status": "PENDING", "maxCPU": 150, "maxMemory": 2048, "maxTasks": 4096}


def test_update_wants_a_limit_that_can_be_read(agent: FakeAgent, rnx: Rnx) -> None:
    nothing = rnx("job", "update", "1111")
    assert (nothing.status, "rnx: no limit is given" in nothing.err) == (2, True)
    wrong = rnx("job", "update", "1111", "--max-memory=much")
    assert wrong.status == 2
    assert wrong.err.startswith("rnx: cannot read --max-memory=much: not a size\n")
    assert agent.asked("UpdateJob") == []


NODE = pb.GetNodeResponse(
    host_name="host\x1b",
    online_cpus="0-2,6",
    memory=8 << 30,
    running_jobs=2,
    waiting_jobs=1,
    max_concurrent=1000,
    max_waiting=100_000,
    slice="joblet-jobs.slice",
    ceilings=[pb.UnitProperty(name="MemoryMax", value="6GiB")],
    defaults=pb.Limits(max_tasks=4096),
    maxima={"operator": pb.Limits(max_memory=1024, timeout="1h"), "admin": pb.Limits()},
    unenforced=["--io-weight"],
    certificates=[
        pb.CertificateStatus(
            kind="server", subject="CN=x", not_after="2026-12-01T00:00:00Z", days_left=2, state="due"
        ),
        pb.CertificateStatus(
            kind="ca", subject="CN=y\n", not_after="2026-11-01T00:00:00Z", days_left=-9, state="expired"
        ),
    ],
)


def test_monitor_status_tells_the_limits_of_all_and_of_each(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetNode"] = NODE
    assert rnx("monitor", "status").out == (
        "Host:\n  Hostname: host\\x1b\n  CPUs: 4 (0-2,6)\n  Memory: 8.0 GiB\n\n"
        "Jobs:\n  Running: 2 of at most 1000\n  Waiting: 1 of at most 100000\n\n"
        "All jobs together (joblet-jobs.slice):\n  MemoryMax: 6GiB\n\n"
        "A job that asks for nothing:\n  Max Tasks: 4096\n\n"
        "Maxima of role admin:\n  none\n\n"
        "Maxima of role operator:\n  Max Memory: 1024 MB\n  Time Limit: 1h\n\n"
        "Workspaces (/work):\n  no limit on disk: the file system has no project quotas "
        "(docs/operations.md, Workspaces); with --work-size they are memory\n\n"
        "Not enforced by this host:\n  --io-weight\n\n"
        "Certificates:\n"
        "  server CN=x: due, until 2026-12-01T00:00:00Z (2 days left)\n"
        "  ca CN=y\\n: expired, until 2026-11-01T00:00:00Z\n"
    )


def test_monitor_status_tells_of_workspaces_with_quotas(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetNode"] = pb.GetNodeResponse(
        workspace_quotas=True, defaults=pb.Limits(work_size=20 << 30)
    )
    text = rnx("monitor", "status").out
    assert "A job that asks for nothing:\n  Work Size: 21474836480 bytes\n" in text
    assert "Workspaces (/work):\n  held to their size by project quotas\n" in text


def test_monitor_status_as_json(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetNode"] = NODE
    data = json.loads(rnx("monitor", "status", "--json").out)
    assert data["cpuInfo"] == {"cores": 4, "online": "0-2,6"}
    assert data["jobs"] == {"running": 2, "waiting": 1, "maxConcurrent": 1000, "maxWaiting": 100_000}
    assert data["ceilings"] == {"MemoryMax": "6GiB"}
    assert data["certificates"][0] == {
        "kind": "server",
        "subject": "CN=x",
        "notAfter": "2026-12-01T00:00:00Z",
        "daysLeft": 2,
        "state": "due",
    }
    assert data["maxima"] == {"admin": {}, "operator": {"maxMemory": 1024, "timeout": "1h"}}
