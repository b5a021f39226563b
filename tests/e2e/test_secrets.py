"""C3: secrets of a job are where the job needs them, and nowhere else: the whole machine is searched."""

import json
import os
import secrets as randomness
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import JOBS, Client, command, eventually, kill_agent, wait_for_agent
from tests.e2e.host import AGENT, STATE, configured, journal, rnx, rnx_json, running, shown, unit_of

pytestmark = pytest.mark.systemd

RUN = Path("/run/joblet")
WAITING = STATE / "secrets"
PLACES = (RUN / "secrets", RUN / "credentials", RUN / "env", WAITING)
VOLATILE = ("/run/", "/var/")
NOT_FILES = ("/proc", "/sys", "/dev")
PIECE = 1 << 20
TELL = 'printf %s "$KEY" | sha256sum; sha256sum < $CREDENTIALS_DIRECTORY/key.pem'


class Secret:
    """A value that nobody has seen before; it is not in this file, nor in any argument."""

    def __init__(self) -> None:
        self._born = time.time() - 10
        self.text = randomness.token_hex(20)
        self.fields: dict[str, Any] = {
            "secret_environment": {"KEY": self.text},
            "secret_files": {"key.pem": b"\xff" + self.text.encode()},
        }

    @property
    def told(self) -> bytes:
        """What TELL prints of it."""
        values = (self.text.encode(), b"\xff" + self.text.encode())
        return b"".join(f"{sha256(value).hexdigest()}  -\n".encode() for value in values)

    def files(self) -> list[str]:
        """Every file of the machine that has it."""
        return sorted(path for path in _all_files("/", self._born) if _contains(path, self.text.encode()))

    def assert_hidden(self, text: object) -> None:
        assert self.text not in str(text)


def _all_files(top: str, since: float) -> Iterator[str]:
    """Yield all files but those that were last changed before; mapped ones do not tell when they are."""
    for directory, directories, names in os.walk(top):
        directories[:] = [name for name in directories if os.path.join(directory, name) not in NOT_FILES]
        for name in names:
            path = os.path.join(directory, name)
            with suppress(FileNotFoundError):  # gone meanwhile
                status = os.lstat(path)
                is_new = status.st_ctime > since or path.startswith(VOLATILE)
                if stat.S_ISREG(status.st_mode) and is_new:
                    yield path


def _contains(path: str, wanted: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            last = b""
            while piece := file.read(PIECE):
                if wanted in last + piece:
                    return True
                last = piece[-len(wanted) :]
    except OSError:  # gone meanwhile
        return False
    return False


@contextmanager
def nothing_left() -> Iterator[None]:
    """See that no secret stays where secrets are on their way."""
    yield
    for place in PLACES:
        assert list(place.iterdir()) == []


@nothing_left()
def test_c3_a_running_job_shows_its_secrets_to_nobody(client: Client) -> None:
    secret = Secret()
    with running(client, f"{TELL}; echo ready; exec sleep 1000", name="keeper", **secret.fields) as job_id:
        assert client.log(job_id) == secret.told + b"ready\n"
        unit = unit_of(job_id)
        secret.assert_hidden(shown(unit))
        secret.assert_hidden(command("systemctl", "cat", unit).stdout)
        path = command("busctl", "call", *MANAGER, "GetUnit", "s", unit).stdout.split('"')[1]
        for interface in ("Unit", "Service"):
            name = f"org.freedesktop.systemd1.{interface}"
            words = ("org.freedesktop.systemd1", path, "org.freedesktop.DBus.Properties", "GetAll", "s", name)
            secret.assert_hidden(command("busctl", "call", *words).stdout)
        secret.assert_hidden(command("ps", "-eww", "-o", "args").stdout)
        secret.assert_hidden(command("setpriv", *NOBODY, "sh", "-c", READ_PROC, check=False).stdout)
        secret.assert_hidden(journal())
        _assert_masked(client, job_id, secret)
        assert secret.files() == [str(RUN / "credentials" / job_id / "key.pem")]
    secret.assert_hidden(journal())
    _assert_masked(client, job_id, secret)
    assert secret.files() == []


MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
NOBODY = ("--reuid=65534", "--regid=65534", "--clear-groups")
READ_PROC = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' '"


def _assert_masked(client: Client, job_id: str, secret: Secret) -> None:
    status = client.status(job_id)
    assert dict(status.secret_environment) == {"KEY": "***"}
    assert list(status.secret_files) == ["key.pem"]
    (row,) = client.by_name("keeper")[:1]
    assert dict(row.secret_environment) == {"KEY": "***"}
    for told in (status, client.by_name("keeper"), client.jobs.ListJobs(pb.EmptyRequest(), timeout=30)):
        secret.assert_hidden(told)
    text = rnx("job", "status", job_id).stdout.decode()
    assert "KEY=*** (secret)" in text
    assert "- key.pem" in text
    explained = rnx("job", "explain", job_id).stdout.decode()
    assert "JOBLET_ENV_KEY=***" in explained
    for told in (
        text,
        explained,
        json.dumps(rnx_json("list")),
        json.dumps(rnx_json("job", "status", job_id)),
    ):
        secret.assert_hidden(told)


@nothing_left()
def test_c3_the_job_alone_reads_its_files_and_cannot_change_them(client: Client) -> None:
    script = """
        stat -c '%a %u' $CREDENTIALS_DIRECTORY $CREDENTIALS_DIRECTORY/key.pem | sed "s/ $(id -u)$/ own/"
        key=$CREDENTIALS_DIRECTORY/key.pem
        for act in 'rm -f' 'chmod 666'; do $act $key 2>&1 | grep -o 'Read-only.*'; done
        { : >$key; } 2>&1 | grep -o 'Read-only.*\\|Permission denied'
        cat /proc/1/environ 2>&1 | grep -o 'Permission denied'
        ls /run/secrets
        grep -o 'Max core file size *0 *0' /proc/self/limits
        echo ready; exec sleep 1000"""
    with running(client, script, **Secret().fields) as job_id:
        lines = client.log(job_id).decode().splitlines()
        assert lines[:2] == ["500 own", "400 own"]
        assert set(lines[2:-4]) == {"Read-only file system"}
        assert lines[-4:-2] == ["Permission denied", "key.pem"]
        assert " ".join(lines[-2].split()) == "Max core file size 0 0"
        other = client.ended(client.run("sh", "-c", "ls /run/secrets; echo $CREDENTIALS_DIRECTORY"))
        assert b"No such file" in client.log(other.uuid)
        for directory in PLACES:
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert shown(AGENT)["LimitCORE"] == "0"


@nothing_left()
def test_c3_a_waiting_job_keeps_its_secrets_for_root_alone_until_it_starts(client: Client) -> None:
    secret = Secret()
    with configured("jobs:\n  max_concurrent: 1\n"):
        with running(client, "echo ready; exec sleep 1000"):
            job_id = client.run("sh", "-c", f"{TELL}; echo ready; exec sleep 1000", **secret.fields)
            kept = WAITING / job_id
            assert client.status(job_id).status == "PENDING"
            assert secret.files() == [str(kept)]
            assert (stat.S_IMODE(kept.stat().st_mode), kept.stat().st_uid) == (0o600, 0)
            kill_agent()
            wait_for_agent(client)
        eventually(lambda: client.log(job_id), lambda log: log == secret.told + b"ready\n")
        assert secret.files() == [str(RUN / "credentials" / job_id / "key.pem")]
        kill_agent()
        wait_for_agent(client)
        assert secret.files() == [str(RUN / "credentials" / job_id / "key.pem")]
        client.jobs.StopJob(pb.StopJobRequest(uuid=job_id), timeout=60)
        client.ended(job_id)
    assert secret.files() == []


@nothing_left()
def test_c3_secrets_of_a_withdrawn_job_are_gone(client: Client) -> None:
    secret = Secret()
    due = datetime.now(UTC) + timedelta(hours=1)
    job_id = client.run("true", schedule=due.isoformat(), **secret.fields)
    assert secret.files() == [str(WAITING / job_id)]
    kill_agent()
    wait_for_agent(client)
    assert secret.files() == [str(WAITING / job_id)]
    client.jobs.CancelJob(pb.CancelJobRequest(uuid=job_id), timeout=30)
    assert secret.files() == []


def test_c3_a_scheduled_job_gets_its_secrets(client: Client) -> None:
    secret = Secret()
    due = datetime.now(UTC) + timedelta(seconds=2)
    job_id = client.run("sh", "-c", TELL, schedule=due.isoformat(), **secret.fields)
    client.ended(job_id)
    assert client.log(job_id) == secret.told
    eventually(secret.files, lambda files: files == [])


def test_c3_a_refused_request_does_not_tell_its_secrets(client: Client) -> None:
    secret = Secret()
    homes = set(JOBS.iterdir())
    for fields in (
        {"secret_environment": {"KEY": f"{secret.text}\0"}},
        {"secret_environment": {"KEY": secret.text * 1000}},
        {"secret_environment": {"A-B": secret.text}},
        {"secret_files": {"../key": secret.text.encode()}},
        {"secret_files": {"key": secret.text.encode() * 30_000}},
        {"command": "", **secret.fields},
        {"volumes": ["x"], **secret.fields},
        {"schedule": "*-02-30", **secret.fields},
    ):
        with pytest.raises(grpc.RpcError) as caught:
            client.jobs.RunJob(pb.RunJobRequest(**{"command": "true", **fields}), timeout=30)
        secret.assert_hidden(caught.value)
        secret.assert_hidden(caught.value.details())
    secret.assert_hidden(journal())
    assert secret.files() == []
    assert set(JOBS.iterdir()) == homes


@nothing_left()
def test_c3_jobs_that_cannot_start_leave_no_secrets(client: Client) -> None:
    secret = Secret()
    for words in (("/no/such/program",), ("sh", "-c", "exit 7")):
        client.ended(client.run(*words, **secret.fields))
    client.ended(client.run("true", work_dir="/no/such/directory", **secret.fields))
    eventually(secret.files, lambda files: files == [])


@pytest.mark.usefixtures("client")
def test_rnx_takes_secrets_from_its_environment_and_from_files(tmp_path: Path) -> None:
    secret = Secret()
    (tmp_path / "key.pem").write_text(secret.text)
    (tmp_path / "vars").write_text(f"# those of the test\nOTHER={secret.text}\n")
    flags = (
        "--secret-env=KEY",
        f"--secret-env-file={tmp_path}/vars",
        f"--secret-file=pem={tmp_path}/key.pem",
    )
    script = (
        'for it in "$KEY" "$OTHER" "$(cat $CREDENTIALS_DIRECTORY/pem)"; do printf %s "$it" | sha256sum; done'
    )
    done = command(
        "rnx", "run", "--attach", *flags, "sh", "-c", script, env={**os.environ, "KEY": secret.text}
    )
    assert done.stdout.split() == [sha256(secret.text.encode()).hexdigest(), "-"] * 3


@nothing_left()
def test_many_secret_files_arrive(client: Client) -> None:
    files = {f"f{number}": randomness.token_bytes(1 << 20) for number in range(8)}
    script = "cd $CREDENTIALS_DIRECTORY && sha256sum f*"
    job_id = client.run("sh", "-c", script, secret_files=files)
    client.ended(job_id)
    wanted = "".join(f"{sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    assert client.log(job_id).decode() == wanted
