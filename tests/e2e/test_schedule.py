"""Scheduled jobs and recurring schedules on a real systemd: each start once, and to be seen."""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import (
    DEADLINE,
    Client,
    agent_stopped,
    command,
    eventually,
    kill_agent,
    persist,
    timers,
    wait_for_agent,
)
from tests.e2e.host import changed_record, refusal, rnx, rnx_json

pytestmark = pytest.mark.systemd

EVERY_TWO_SECONDS = "*:*:0/2"
SECRET = f"geheim-{uuid.uuid4()}"
TOKYO = "TZ=Asia/Tokyo"


def at(seconds: float) -> str:
    """Return the time so many seconds from now as RFC 3339."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def shown(client: Client, schedule_id: str) -> pb.GetScheduleResponse:
    request = pb.GetScheduleRequest(uuid=schedule_id, most_jobs=1000)
    reply: pb.GetScheduleResponse = persist(
        lambda: client.agent.GetSchedule(request, timeout=DEADLINE, wait_for_ready=True)
    )
    return reply


@contextmanager
def scheduled(client: Client, calendar: str, *argv: str, **fields: object) -> Iterator[str]:
    """Make a recurring schedule for the block, and end with its jobs ended and itself removed."""
    request = pb.RunJobRequest(command=argv[0], args=argv[1:], schedule=calendar, **fields)  # type: ignore[arg-type]
    schedule_id = client.jobs.RunJob(request, timeout=DEADLINE).schedule_uuid
    try:
        yield schedule_id
    finally:
        jobs = shown(client, schedule_id).jobs
        client.agent.RemoveSchedule(pb.RemoveScheduleRequest(uuid=schedule_id), timeout=DEADLINE)
        for job in jobs:
            client.ended(job.uuid)
        eventually(timers, lambda names: not names)


def starts(client: Client, schedule_id: str, least: int) -> list[pb.Job]:
    """Wait for so many starts; return the jobs, the oldest first, each with a time of its own."""
    reply = eventually(lambda: shown(client, schedule_id), lambda reply: len(reply.jobs) >= least)
    jobs = list(reversed(reply.jobs))
    times = [job.scheduled_time for job in jobs]
    assert times == sorted(set(times))
    return jobs


def test_a_job_starts_once_at_its_time_and_list_timers_shows_it(client: Client) -> None:
    due = at(2)
    job_id = client.run("echo", "due", name="later", schedule=due)
    status = client.status(job_id)
    assert (status.status, status.start_time, status.schedule) == ("SCHEDULED", "", due)
    assert timers() == [f"joblet-job@{job_id}.timer"]
    listed = command("systemctl", "list-timers", "--all", "joblet-*").stdout
    assert f"joblet-job@{job_id}.timer" in listed
    description = command("systemctl", "show", "-P", "Description", f"joblet-job@{job_id}.timer").stdout
    assert description == "Start of Joblet job later\n"
    ended = client.ended(job_id)
    assert (ended.status, client.log(job_id)) == ("COMPLETED", b"due\n")
    assert ended.start_time >= ended.scheduled_time == status.scheduled_time
    eventually(timers, lambda names: not names)


def test_a_time_in_the_past_starts_at_once(client: Client) -> None:
    for past in ("1970-01-01T00:00:00Z", at(-5)):
        assert client.ended(client.run("true", schedule=past)).status == "COMPLETED"
    assert timers() == []


@pytest.mark.parametrize("verb", ["stop", "cancel"])
def test_a_withdrawn_job_never_starts(client: Client, verb: str) -> None:
    when = at(6)  # a busy machine takes some seconds to withdraw it
    job_id = client.run("true", schedule=when)
    assert refusal(lambda: client.jobs.DeleteJob(pb.DeleteJobRequest(uuid=job_id), timeout=DEADLINE)) == (
        "FAILED_PRECONDITION",
        "JOB_NOT_ENDED",
    )
    reply = client.jobs.DeleteAllJobs(pb.DeleteAllJobsRequest(), timeout=DEADLINE)
    assert reply.skipped_count >= 1  # units of other tests may not be released yet
    assert client.status(job_id).status == "SCHEDULED"
    assert rnx(verb, job_id).returncode == 0
    assert timers() == [] or eventually(timers, lambda names: not names) == []
    # Nothing tells that something does not happen.
    over = datetime.fromisoformat(when) + timedelta(seconds=1)
    eventually(lambda: datetime.now(UTC), lambda now: now > over)
    status = client.status(job_id)
    assert (status.status, status.reason, status.start_time) == ("CANCELED", "canceled", "")
    assert rnx("delete", job_id).returncode == 0


def test_each_start_of_a_schedule_is_a_job_of_its_own(client: Client) -> None:
    with scheduled(client, EVERY_TWO_SECONDS, "echo", "tick", name="tick") as schedule_id:
        assert timers() == [f"joblet-schedule@{schedule_id}.timer"]
        jobs = starts(client, schedule_id, 3)
        first, second = (datetime.fromisoformat(job.scheduled_time) for job in jobs[:2])
        assert (first.second % 2, second - first) == (0, timedelta(seconds=2))
        for job in jobs:
            assert client.ended(job.uuid).status == "COMPLETED"
            assert client.log(job.uuid) == b"tick\n"
            assert (job.name, job.schedule_uuid) == ("tick", schedule_id)
        status = client.status(jobs[0].uuid)
        assert (status.schedule_uuid, status.schedule) == (schedule_id, EVERY_TWO_SECONDS)
        data = rnx_json("schedule", "show", schedule_id[:8], "--json")
        assert data["started_count"] >= 3
        assert {job["schedule_uuid"] for job in data["jobs"]} == {schedule_id}
        assert schedule_id in rnx("schedule", "list").stdout.decode()
        listed = set(rnx("list", "-q", f"--schedule={schedule_id[:13]}").stdout.decode().split())
        assert {job.uuid for job in jobs} <= listed <= {job.uuid for job in shown(client, schedule_id).jobs}
        found = rnx_json("list", f"--schedule={schedule_id}", f"--since={jobs[1].created_time}", "--json")
        later = {each["id"] for each in found}
        assert {job.uuid for job in jobs[1:]} <= later
        assert jobs[0].uuid not in later


def test_a_start_is_left_out_while_the_job_before_runs(client: Client) -> None:
    with scheduled(client, EVERY_TWO_SECONDS, "sleep", "1000") as schedule_id:
        (job,) = starts(client, schedule_id, 1)
        reply = eventually(
            lambda: shown(client, schedule_id), lambda reply: reply.schedule.skipped_count >= 2
        )
        assert len(reply.jobs) == 1
        assert reply.schedule.skipped_reason == f"job {job.uuid} of the start before had not ended"
        client.agent.PauseSchedule(pb.PauseScheduleRequest(uuid=schedule_id), timeout=DEADLINE)
        for each in shown(client, schedule_id).jobs:
            client.jobs.StopJob(pb.StopJobRequest(uuid=each.uuid, force=True), timeout=DEADLINE)


def test_pause_resume_remove(client: Client) -> None:
    with scheduled(client, EVERY_TWO_SECONDS, "true") as schedule_id:
        starts(client, schedule_id, 1)
        assert b"Status: PAUSED" in rnx("schedule", "pause", schedule_id).stdout
        assert timers() == []
        before = len(shown(client, schedule_id).jobs)
        time.sleep(4)
        assert len(shown(client, schedule_id).jobs) == before
        with agent_stopped():
            pass
        wait_for_agent(client)
        assert shown(client, schedule_id).schedule.status == "PAUSED"
        assert b"Status: ACTIVE" in rnx("schedule", "resume", schedule_id).stdout
        starts(client, schedule_id, before + 1)
    assert rnx("schedule", "show", schedule_id).returncode == 1


def test_r7_what_was_due_while_the_agent_was_stopped_starts_once(client: Client) -> None:
    job_id = client.run("echo", "late", schedule=at(2))
    with scheduled(client, EVERY_TWO_SECONDS, "true") as schedule_id:
        (first, *_) = starts(client, schedule_id, 1)
        client.ended(first.uuid)  # else the next start is left out
        with agent_stopped():
            time.sleep(7)
            back = datetime.now(UTC)
        wait_for_agent(client)
        assert client.ended(job_id).status == "COMPLETED"
        assert client.log(job_id) == b"late\n"
        made_up, after, *_ = eventually(
            lambda: sorted(
                datetime.fromisoformat(job.scheduled_time)
                for job in shown(client, schedule_id).jobs
                if datetime.fromisoformat(job.created_time) > back
            ),
            lambda times: len(times) >= 2,
        )
        assert after - made_up > timedelta(seconds=4)  # one for all that were missed, then the next


def test_a_missed_start_is_left_out_if_that_is_wanted(client: Client) -> None:
    job_id = client.run("true", schedule=at(3600), skip_missed=True)
    with agent_stopped():
        past = datetime.now(UTC) - timedelta(minutes=2)
        changed_record(job_id, scheduled_at=int(past.timestamp() * 1_000_000))
    wait_for_agent(client)
    status = client.ended(job_id)
    assert (status.status, status.reason) == ("CANCELED", "missed")
    assert "its start was missed by 12" in status.message
    eventually(timers, lambda names: not names)


def test_r3_kills_neither_lose_nor_repeat_a_start(client: Client) -> None:
    with scheduled(client, "*:*:*", "echo", "tick") as schedule_id:
        for _ in range(20):
            kill_agent()
            time.sleep(0.37)
        wait_for_agent(client)
        for job in starts(client, schedule_id, 6):
            assert client.ended(job.uuid).status == "COMPLETED"
            assert client.log(job.uuid) == b"tick\n"


@pytest.mark.parametrize("act", ["stop-timer", "daemon-reload", "daemon-reexec"])
def test_r8_schedules_go_on_whatever_happens_to_systemd(client: Client, act: str) -> None:
    job_id = client.run("true", schedule=at(4))
    with scheduled(client, EVERY_TWO_SECONDS, "true") as schedule_id:
        jobs = starts(client, schedule_id, 1)
        words = {"stop-timer": ("stop", f"joblet-schedule@{schedule_id}.timer", f"joblet-job@{job_id}.timer")}
        command("systemctl", *words.get(act, (act,)))
        starts(client, schedule_id, len(jobs) + 2)
        assert client.ended(job_id).status == "COMPLETED"


def test_files_of_a_scheduled_job_wait_with_it(client: Client) -> None:
    upload = pb.FileUpload(path="in/data", content=b"kept", mode=0o600)
    job_id = client.run("cat", "in/data", schedule=at(2), uploads=[upload])
    kill_agent()
    assert client.ended(job_id).status == "COMPLETED"
    assert client.log(job_id) == b"kept"
    client.jobs.DeleteJob(pb.DeleteJobRequest(uuid=job_id), timeout=DEADLINE)


def test_files_and_secrets_of_a_schedule_come_to_each_of_its_jobs(client: Client) -> None:
    fields = {
        "uploads": [pb.FileUpload(path="in/data", content=b"kept\n", mode=0o600)],
        "secret_environment": {"KEY": SECRET},
        "secret_files": {"key": SECRET.encode()},
    }
    # Each job finds what was sent, whatever the one before did to its own copy.
    script = (
        'cat in/data; [ "$KEY" = "$(cat /run/secrets/key)" ] && echo same; echo changed >in/data; rm -r in'
    )
    begin = int(time.time())
    with scheduled(client, EVERY_TWO_SECONDS, "sh", "-c", script, **fields) as schedule_id:
        own = Path("/var/lib/joblet/schedules", schedule_id)
        assert (oct(own.stat().st_mode)[-3:], own.owner()) == ("700", "root")
        assert oct((own / "secrets").stat().st_mode)[-3:] == "600"
        starts(client, schedule_id, 1)
        kill_agent()
        wait_for_agent(client)
        for job in starts(client, schedule_id, 3):
            assert client.ended(job.uuid).status == "COMPLETED"
            assert client.log(job.uuid) == b"kept\nsame\n"
            assert client.status(job.uuid).secret_environment == {"KEY": "***"}
        data = rnx_json("schedule", "show", schedule_id, "--json")
        assert (data["uploads"], data["secret_files"]) == (["in/data"], ["key"])
        listed = rnx("schedule", "list", "--json").stdout + rnx("schedule", "show", schedule_id).stdout
        assert SECRET.encode() not in listed
        for place in ("/var/lib/joblet/state.db", "/var/lib/joblet/state.db-wal"):
            assert SECRET.encode() not in Path(place).read_bytes()
        assert SECRET not in command("systemctl", "show", f"joblet-schedule@{schedule_id}.timer").stdout
        assert SECRET not in command("journalctl", "-o", "export", f"--since=@{begin}").stdout
    assert not own.exists()
    assert command("grep", "-rl", SECRET, "/var/lib/joblet", check=False).stdout == ""


def test_c9_a_schedule_is_made_once_for_a_token(client: Client) -> None:
    with scheduled(client, "daily", "true", token="nightly") as schedule_id:
        again = {"command": "true", "schedule": "daily", "token": "nightly"}

        def repeated(**changes: str) -> str:
            request = pb.RunJobRequest(**(again | changes))  # type: ignore[arg-type]
            return str(client.jobs.RunJob(request, timeout=DEADLINE).schedule_uuid)

        assert repeated() == schedule_id
        kill_agent()
        wait_for_agent(client)
        assert repeated() == schedule_id
        for change in ({"schedule": "weekly"}, {"schedule": ""}, {"command": "false"}):
            assert refusal(lambda: repeated(**change)) == ("INVALID_ARGUMENT", "TOKEN_REUSED")  # noqa: B023


def test_rnx_sends_files_and_secrets_with_a_schedule(client: Client, tmp_path: Path) -> None:
    (tmp_path / "script").write_text('echo "${#KEY}"')
    made = rnx_json(
        "run",
        "--schedule=*:*:0/2",
        f"--upload={tmp_path}/script",
        f"--secret-env=KEY={SECRET}",
        "sh",
        "script",
    )
    (job, *_) = starts(client, made["schedule_uuid"], 1)
    assert rnx("schedule", "remove", made["schedule_uuid"]).returncode == 0
    assert client.ended(job.uuid).status == "COMPLETED"
    assert client.log(job.uuid) == f"{len(SECRET)}\n".encode()
    eventually(timers, lambda names: not names)


@pytest.mark.parametrize(
    "calendar", ["daily", "Mon..Fri 02:00", "*-*-1 00:00", "*-03-28..30 02:30 Europe/Berlin", "*:0/15"]
)
def test_c7_the_next_start_is_what_systemd_says(client: Client, calendar: str) -> None:
    """Also where daylight saving time begins: there is no 02:30 in Europe/Berlin on 2027-03-28."""
    said = command("env", "TZ=UTC", "systemd-analyze", "calendar", calendar).stdout
    (line,) = [
        line for line in said.splitlines() if "(in UTC)" in line or ("Next elapse" in line and "UTC" in line)
    ]
    expected = datetime.strptime(" ".join(line.split()[-3:-1]), "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    with scheduled(client, calendar, "true") as schedule_id:
        assert datetime.fromisoformat(shown(client, schedule_id).schedule.next_time) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("9999-12-31T23:59:59Z", "SCHEDULE_TOO_FAR"),
        ("2026-02-30T00:00:00Z", "BAD_SCHEDULE"),
        ("9999-12-31", "BAD_SCHEDULE"),
        ("1970-01-01", "NEVER_DUE"),
        ("*-02-30", "NEVER_DUE"),
        ("Sun *-03-25..31 02:30 Europe/Berlin", "NEVER_DUE"),  # always in the gap
        ("nonsense", "BAD_SCHEDULE"),
        ("Mon..Foo 02:00", "BAD_SCHEDULE"),
        ("*:0/0", "BAD_SCHEDULE"),
        ("*:*:0/0.000001", "BAD_SCHEDULE"),
        ("daily\nOnBootSec=1", "BAD_SCHEDULE"),
        ("%n", "BAD_SCHEDULE"),
        ("daily Europe/Nowhere", "BAD_SCHEDULE"),
        ("*," * 120 + "*:0", "BAD_SCHEDULE"),
        ("x" * 100_000, "BAD_SCHEDULE"),
    ],
)
def test_c7_bad_texts_are_refused_and_leave_nothing(client: Client, text: str, reason: str) -> None:
    assert refusal(lambda: client.run("true", schedule=text)) == ("INVALID_ARGUMENT", reason)
    assert eventually(timers, lambda names: not names) == []


def test_skip_missed_needs_a_schedule(client: Client) -> None:
    assert refusal(lambda: client.run("true", skip_missed=True)) == (
        "INVALID_ARGUMENT",
        "SKIP_WITHOUT_SCHEDULE",
    )


def test_rnx_takes_local_times_relative_times_and_calendar_expressions(client: Client) -> None:
    local = command("env", TOKYO, "date", "-d", "+2 hours", "+%Y-%m-%d %H:%M").stdout.strip()
    cases = {
        "2h30m": timedelta(minutes=150),
        local: timedelta(hours=2),
        "1h 15min 30s": timedelta(seconds=4530),
    }
    for text, after in cases.items():
        data = json.loads(command("env", TOKYO, "rnx", "run", "--json", f"--schedule={text}", "true").stdout)
        due = datetime.fromisoformat(data["scheduled_time"])
        assert abs(due - datetime.now(UTC) - after) < timedelta(minutes=2)
        assert rnx("job", "cancel", data["job_uuid"]).returncode == 0
    data = rnx_json("run", "--schedule=Mon..Fri 02:00", "true")
    assert data["job_uuid"] == ""
    assert rnx("schedule", "remove", data["schedule_uuid"]).returncode == 0
    eventually(timers, lambda names: not names)
