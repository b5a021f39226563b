"""Logs are byte-exact for everybody at all times: attack cases R10 and R11."""

import random
import signal
import subprocess
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import DEADLINE, JOBS, Client, agent_stopped, command, eventually, main_pid
from tests.e2e.host import configured, in_parallel, journal, refusal, rnx, running, unit_of
from tests.sizes import size

pytestmark = pytest.mark.systemd

MIB, GB = 1 << 20, 10**9
FOLLOWERS = size(20, 100)
# Waits until the test lets it go on (see _go).
WAIT = "while [ ! -e go ]; do sleep 0.02; done"
# Bytes that text-minded loggers change: all values, lines without text, ends of lines, no end at the end.
AWKWARD_END = (
    b"\n\n\n  blanks at the end  \n\ttab\t\ncarriage\rreturn\r\n"
    + b"\xc3\x28 \xf0\x28\x8c\x28 \xed\xa0\x80 \xff\xfe\n\0\0\n"
    + "\u2028\u202e\u0007\x1b[2J".encode()
    + b"no end"
)
AWKWARD = bytes(range(256)) * 300 + AWKWARD_END


def _go(job_id: str) -> None:
    (JOBS / job_id / "work" / "go").touch()


def _lines(first: int, last: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(first, last + 1))


def test_r10_a_thousand_short_jobs_lose_neither_code_nor_line(client: Client) -> None:
    numbers = list(range(1000))
    ids = in_parallel(
        lambda number: client.run("sh", "-c", f"printf 'line of {number}'; exit {number % 256}"), numbers
    )
    ends = [client.ended(job_id, within=60) for job_id in ids]
    assert [status.exit_code for status in ends] == [number % 256 for number in numbers]
    assert {status.status for status in ends} == {"COMPLETED", "FAILED"}
    assert {status.reason for status in ends} == {"", "exit-code"}
    assert in_parallel(client.log, ids) == [b"line of %d" % number for number in numbers]


def test_r11_every_byte_comes_back(client: Client) -> None:
    program = f"import os; os.write(1, bytes(range(256)) * 300 + {AWKWARD_END!r})"
    attached = rnx("run", "--attach", "python3", "-c", program)
    assert (attached.returncode, attached.stdout, attached.stderr) == (0, AWKWARD, b"")
    job_id = client.run("python3", "-c", program)
    assert client.follow(job_id) == AWKWARD
    client.ended(job_id)
    assert client.log(job_id) == AWKWARD
    assert rnx("log", job_id).stdout == AWKWARD
    assert client.status(job_id).log_size == len(AWKWARD)
    assert (JOBS / job_id / "output.log").read_bytes() == AWKWARD


def test_r11_both_outputs_are_in_the_order_written(client: Client) -> None:
    job_id = client.run("sh", "-c", "for i in $(seq 1 3000); do echo o$i; echo e$i >&2; done")
    assert client.follow(job_id) == b"".join(b"o%d\ne%d\n" % (number, number) for number in range(1, 3001))


@pytest.mark.soak
@pytest.mark.parametrize(
    ("block", "total"),
    [(b"x" * MIB, size(64 * MIB, GB)), (random.Random(11).randbytes(MIB), size(256 * MIB, 10 * GB))],
    ids=["one-line", "binary"],
)
def test_r11_much_output_does_not_fill_the_agent(client: Client, block: bytes, total: int) -> None:
    """Whatever there is of it, and if all of it is one line; the reader gets every byte of it."""
    writer = f"import os\nblock, done, total = open('block', 'rb').read(), 0, {total}\n"
    writer += "while done < total:\n    done += os.write(1, block[done % len(block) :][: total - done])\n"
    with configured(f"logs:\n  max_size: {2 * total}\n"):
        client.ended(client.run("true"))  # what is needed once is there
        _forget_peak()
        job_id = client.run("python3", "-c", writer, uploads=[pb.FileUpload(path="block", content=block)])
        request = pb.GetJobLogsRequest(uuid=job_id)
        came = 0
        twice = block * 2 + b"x" * MIB
        for chunk in client.jobs.GetJobLogs(request, timeout=3600):
            place = came % len(block)
            assert (chunk.offset, chunk.payload) == (came, twice[place : place + len(chunk.payload)])
            came += len(chunk.payload)
        assert client.ended(job_id).exit_code == 0
        assert came == total
        peak = _peak()
        print(f"{total} bytes of output: the agent's peak {peak / MIB:.0f} MiB")
        assert peak < 160 * MIB
        client.jobs.DeleteJob(pb.DeleteJobRequest(uuid=job_id), timeout=DEADLINE)


def _forget_peak() -> None:
    Path(f"/proc/{main_pid()}/clear_refs").write_text("5", encoding="ascii")


def _peak() -> int:
    """Return the agent's largest resident size since _forget_peak, bytes."""
    status = Path(f"/proc/{main_pid()}/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.soak
def test_r11_followers_from_any_moment_get_the_same_bytes(client: Client) -> None:
    """One more is stopped meanwhile and another one killed: neither is noticed by the others."""
    wanted = _lines(1_000_001, 2_000_000)
    script = "for i in $(seq 1 50); do seq $((980001 + i * 20000)) $((1000000 + i * 20000)); sleep 0.03; done"
    with (
        running(client, f"echo ready; {WAIT}; {script}") as job_id,
        _reader([], job_id, b"ready\n") as stopped,
        _reader([], job_id, b"ready\n") as killed,
    ):
        stopped.send_signal(signal.SIGSTOP)
        followers = _Followers(client, job_id)
        _go(job_id)
        followers.start(FOLLOWERS)
        killed.kill()
        assert client.ended(job_id, within=60).status == "COMPLETED"
        assert followers.results() == [b"ready\n" + wanted] * FOLLOWERS
        stopped.send_signal(signal.SIGCONT)
        assert stopped.communicate(timeout=60)[0] == wanted
        assert stopped.returncode == 0


def _reader(flags: list[str], job_id: str, first: bytes) -> subprocess.Popen[bytes]:
    """Return a client that has read the first bytes of what it asked for."""
    process = subprocess.Popen(["rnx", "log", *flags, job_id], stdout=subprocess.PIPE, bufsize=0)
    assert process.stdout is not None
    got = b""
    while len(got) < len(first) and (piece := process.stdout.read(len(first) - len(got))):
        got += piece
    assert got == first
    return process


class _Followers:
    """Threads that follow one job, each from a moment of its own."""

    def __init__(self, client: Client, job_id: str) -> None:
        self._client = client
        self._job_id = job_id
        self._got: list[bytes] = []
        self._threads: list[threading.Thread] = []

    def start(self, count: int) -> None:
        for _ in range(count):
            thread = threading.Thread(target=self._follow)
            thread.start()
            self._threads.append(thread)
            time.sleep(random.random() * 3 / count)

    def _follow(self) -> None:
        self._got.append(self._client.follow(self._job_id))

    def results(self) -> list[bytes]:
        for thread in self._threads:
            thread.join(timeout=60)
        return self._got


def test_r11_followers_may_come_in_the_middle_and_ask_for_a_part(client: Client) -> None:
    with running(client, f"seq 1 1000; echo ready; {WAIT}; seq 2001 2010") as job_id:
        whole = _lines(1, 1000) + b"ready\n"
        assert rnx("log", "--no-follow", job_id).stdout == whole
        assert rnx("log", "--no-follow", "--tail=3", job_id[:8]).stdout == b"999\n1000\nready\n"
        assert rnx("log", "--no-follow", "--tail=0", job_id).stdout == b""
        assert (
            rnx("log", "--no-follow", "--grep=^99[0-9]$|dy", job_id).stdout == _lines(990, 999) + b"ready\n"
        )
        with (
            _reader(["--tail=2"], job_id, b"1000\nready\n") as last_two,
            _reader(["--grep=0$", "--tail=12"], job_id, b"990\n1000\n") as tens,
            _reader(["--follow", "--grep=^[12]00[12]"], job_id, b"") as found,
        ):
            request = pb.GetJobLogsRequest(uuid=job_id, offset=len(whole) - 3)
            stream = client.jobs.GetJobLogs(request, timeout=DEADLINE)
            assert next(stream).payload == b"dy\n"
            _go(job_id)
            rest = _lines(2001, 2010)
            assert b"".join(chunk.payload for chunk in stream) == rest
            assert last_two.communicate(timeout=30)[0] == rest
            assert tens.communicate(timeout=30)[0] == b"2010\n"
            assert found.communicate(timeout=30)[0] == b"2001\n2002\n"


def test_r11_since_begins_where_the_time_says(client: Client) -> None:
    with running(client, f"echo old; echo ready; {WAIT}; echo new") as job_id:
        written = (JOBS / job_id / "output.log").stat().st_mtime
        moment = eventually(time.time, lambda now: now > written + 1.5)  # what the index resolves is a second
        _go(job_id)
        client.ended(job_id)
        since = datetime.fromtimestamp(moment, UTC).isoformat()
        # The index follows the end of the job by a moment.
        eventually(lambda: rnx("log", f"--since={since}", job_id).stdout, lambda log: log == b"new\n")
        assert rnx("log", "--since=1h", job_id).stdout == b"old\nready\nnew\n"


def test_r11_each_line_can_have_its_time(client: Client) -> None:
    """Exact while somebody follows; a second late at most for who comes later."""
    script = "import time\nfor n in range(5):\n print(n, time.time(), flush=True)\n time.sleep(0.4)"
    job_id = client.run("python3", "-c", script)
    live = rnx("log", "--timestamps", job_id).stdout.decode().splitlines()
    later = rnx("log", "-t", job_id).stdout.decode().splitlines()
    grepped = rnx("log", "-t", "--grep=^[13]", job_id).stdout.decode().splitlines()
    assert [line.split()[1] for line in live] == [line.split()[1] for line in later] == list("01234")
    assert grepped == [later[1], later[3]]
    for line in (*live, *later):
        told, _, written = line.split()
        late = datetime.fromisoformat(told).timestamp() - float(written)
        assert -0.01 < late < 1.5  # the millisecond is cut; the machine may be busy


def test_r11_a_pattern_that_is_none_is_refused(client: Client) -> None:
    job_id = client.run("true")
    client.ended(job_id)
    request = pb.GetJobLogsRequest(uuid=job_id, grep="(")
    assert refusal(lambda: list(client.jobs.GetJobLogs(request))) == ("INVALID_ARGUMENT", "PATTERN_INVALID")
    assert rnx("log", "--grep=(", job_id).returncode == 1


def test_r11_a_log_that_is_too_large_is_cut_and_marked(client: Client) -> None:
    limit = 64 * 1024
    line = b"0123456789abcdef\n"
    head = (line * (limit // len(line) + 1))[:limit]
    with (
        configured("logs:\n  max_size: 64KiB\n"),
        running(client, "printf 'ready\n'; exec yes 0123456789abcdef") as job_id,
    ):
        eventually(lambda: client.status(job_id).log_truncated, bool)
        log = JOBS / job_id / "output.log"
        largest = max(_disk_use(log) for _ in range(200))
        assert largest < 256 * MIB
        assert client.status(job_id).status == "RUNNING"
        assert client.log(job_id) == (b"ready\n" + head)[:limit]
        command("systemctl", "stop", unit_of(job_id))
        status = client.ended(job_id)
        assert (status.status, status.log_truncated, status.log_size) == ("STOPPED", True, limit)
        assert eventually(log.read_bytes, lambda content: len(content) == limit) == client.log(job_id)
    assert rnx("log", job_id).stdout == (b"ready\n" + head)[:limit]


def _disk_use(log: Path) -> int:
    time.sleep(0.005)
    return log.stat().st_blocks * 512


def test_logs_are_readable_after_the_end_and_after_a_restart(client: Client) -> None:
    job_id = client.run("sh", "-c", "seq 1 5000; printf end")
    client.ended(job_id)
    assert rnx("log", job_id).stdout == _lines(1, 5000) + b"end"
    with agent_stopped():
        pass
    assert rnx("log", job_id).stdout == _lines(1, 5000) + b"end"
    assert rnx("log", "--tail=1", job_id).stdout == b"end"


def test_the_journal_has_the_lines_and_cannot_be_forged(client: Client) -> None:
    forged = "before\nMESSAGE=forged\nJOBLET_JOB_ID=other\nPRIORITY=0\n\x1b[2Jcleared\nlast"
    job_id = client.run("printf", "%s", forged, name="copied")
    client.ended(job_id)
    records = eventually(lambda: _copied(job_id), lambda records: len(records) == 6)
    lines = [record["MESSAGE"] for record in records]
    assert lines == [
        "before",
        "MESSAGE=forged",
        "JOBLET_JOB_ID=other",
        "PRIORITY=0",
        "\\x1b[2Jcleared",
        "last",
    ]
    assert {record["JOBLET_JOB_ID"] for record in records} == {job_id}
    assert {record["PRIORITY"] for record in records} == {"6"}
    assert {record["SYSLOG_IDENTIFIER"] for record in records} == {"copied"}
    assert {record["_SYSTEMD_UNIT"] for record in records} == {"joblet-agent.service"}
    assert "[2Jcleared" in command("journalctl", "--no-pager", "-u", unit_of(job_id)).stdout


# What the protocols of the journal and of syslog would take for fields, for lengths, and for an importance.
FORGED = (
    b"MESSAGE\n\x06\0\0\0\0\0\0\0forged\nJOBLET_EVENT=audit\nJOBLET_JOB_ID=other\n"
    b"\nPRIORITY=0\n_SYSTEMD_UNIT=sshd.service\n<0>panic\n<165>1 2026-01-31T12:00:00Z host sshd 1 - - text\n"
    b"nul\0JOBLET_EVENT=audit\r\n\xff\xfe\x80 no utf-8\n\x1b]0;title\x07\x9b2J\xe2\x80\xae turned\n"
    + b"x" * 40_000
    + b"\nlast"
)


def test_no_output_of_a_job_becomes_a_field(client: Client) -> None:
    begun = int(time.time())
    job_id = client.run("cat", "forged", uploads=[pb.FileUpload(path="forged", content=FORGED)])
    client.ended(job_id)
    assert client.log(job_id) == FORGED
    records = eventually(
        lambda: _copied(job_id), lambda records: bool(records) and records[-1]["MESSAGE"] == "last"
    )
    assert len(records) == len(FORGED.split(b"\n"))
    for record in records:
        assert {name: record[name] for name in record if name.startswith("JOBLET_")} == {
            "JOBLET_JOB_ID": job_id
        }
        assert (record["PRIORITY"], record["_SYSTEMD_UNIT"]) == ("6", "joblet-agent.service")
        assert str(record["MESSAGE"]).isprintable()
    told = [str(record["MESSAGE"])[:48] for record in records]
    assert told[7:11] == [
        "<0>panic",
        "<165>1 2026-01-31T12:00:00Z host sshd 1 - - text",
        "nul\\x00JOBLET_EVENT=audit",
        "\\xff\\xfe\\x80 no utf-8",
    ]
    assert told[11] == "\\x1b]0;title\\x07\\x9b2J\\u202e turned"
    for forged in ("JOBLET_JOB_ID=other", "PRIORITY=0"):
        assert journal(f"--since=@{begun}", "_SYSTEMD_UNIT=joblet-agent.service", forged) == []


def test_the_journal_says_how_much_it_does_not_have(client: Client) -> None:
    limits = "logs:\n  journal_lines_per_second: 10\n  journal_burst: 20\n"
    with configured(limits):
        job_id = client.run("seq", "1", "5000")
        client.ended(job_id)
        told = eventually(lambda: _copied(job_id), lambda records: "not copied" in str(records[-1:]))
    lines = [str(record["MESSAGE"]) for record in told]
    copied = [line for line in lines if line.isdigit()]
    assert copied[:20] == [str(number) for number in range(1, 21)]
    missing = sum(int(line.split()[0]) for line in lines if "lines not copied" in line)
    assert len(copied) + missing == 5000
    assert lines[-1].endswith(f"lines not copied, see: rnx log {job_id}")
    assert client.log(job_id) == _lines(1, 5000)


def _copied(job_id: str) -> list[dict[str, object]]:
    """Return the records of a job's unit that are copies of its output."""
    records = journal("-u", unit_of(job_id))
    return [
        record
        for record in records
        if "JOBLET_JOB_ID" in record
        and record.get("PRIORITY") == "6"
        and "JOBLET_EVENT" not in record
        and record.get("_PID") != "1"
    ]
