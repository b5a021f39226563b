"""C9: a submission that is repeated with its token runs once."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import Client, eventually, kill_agent, persist, units, wait_for_agent
from tests.e2e.host import refusal, rnx, rnx_json

pytestmark = pytest.mark.systemd


def fresh() -> str:
    return f"test {uuid.uuid4()}"


def test_c9_a_repeated_submission_returns_the_same_job(client: Client) -> None:
    token = fresh()
    first = client.run("sh", "-c", "echo once", token=token, name=token[:40])
    for _ in range(2):
        assert client.run("sh", "-c", "echo once", token=token, name=token[:40]) == first
        kill_agent()
        wait_for_agent(client)
    client.ended(first)
    assert client.run("sh", "-c", "echo once", token=token, name=token[:40]) == first
    assert [job.uuid for job in client.by_name(token[:40])] == [first]
    assert client.log(first) == b"once\n"


def test_c9_twenty_at_the_same_moment_run_once(client: Client) -> None:
    token = fresh()
    clients = [Client() for _ in range(4)]
    with ThreadPoolExecutor(20) as pool:
        ids = set(pool.map(lambda number: clients[number % 4].run("true", token=token), range(20)))
    assert len(ids) == 1
    client.ended(ids.pop())
    for each in clients:
        each.close()


@pytest.mark.parametrize("other", [{"command": "false"}, {"args": ["x"]}, {"environment": {"A": "1"}}])
def test_c9_a_token_of_another_request_is_refused(client: Client, other: dict[str, Any]) -> None:
    token = fresh()
    client.ended(client.run("true", token=token))
    request = pb.RunJobRequest(**{"command": "true", "token": token, **other})
    assert refusal(lambda: client.jobs.RunJob(request, timeout=30)) == ("INVALID_ARGUMENT", "TOKEN_REUSED")


def test_c9_submissions_that_are_repeated_through_kills_run_once(client: Client, tmp_path: Path) -> None:
    tokens = [fresh() for _ in range(12)]

    def submit(token: str) -> str:
        own = Client()
        try:
            fields: dict[str, Any] = {"token": token, "secret_environment": {"KEY": "s3cr3t"}}
            return persist(lambda: own.run("sh", "-c", 'echo "$KEY"; exit 3', **fields))
        finally:
            own.close()

    with ThreadPoolExecutor(5) as pool:
        calls = [pool.submit(submit, token) for token in tokens]
        while not all(call.done() for call in calls):
            wait_for_agent(client)
            kill_agent()
        ids = [call.result() for call in calls]
    assert len(set(ids)) == len(tokens)
    for job_id in ids:
        status = client.ended(job_id)
        assert (status.status, status.exit_code, client.log(job_id)) == ("FAILED", 3, b"s3cr3t\n"), status
    eventually(units, lambda names: not names)


def test_c9_on_the_command_line(client: Client) -> None:
    token = fresh()
    first = rnx_json("run", f"--token={token}", "sh", "-c", "exit 7")["job_uuid"]
    client.ended(first)
    again = rnx_json("run", f"--token={token}", "sh", "-c", "exit 7")
    assert (again["job_uuid"], again["status"]) == (first, "FAILED")
    assert rnx("run", "--attach", f"--token={token}", "sh", "-c", "exit 7").returncode == 7
    done = rnx("run", f"--token={token}", "sh", "-c", "exit 8")
    assert done.returncode == 1
    assert b"belongs to another request" in done.stderr


def test_a_token_is_forgotten_with_its_job(client: Client) -> None:
    token = fresh()
    first = client.run("true", token=token)
    client.ended(first)
    client.jobs.DeleteJob(pb.DeleteJobRequest(uuid=first), timeout=30)
    second = client.run("true", token=token)
    assert second != first
    client.ended(second)


def test_a_token_that_is_none_is_refused(client: Client) -> None:
    with pytest.raises(grpc.RpcError):
        client.run("true", token="x" * 129)
    assert refusal(lambda: client.run("true", token="a\n")) == ("INVALID_ARGUMENT", "BAD_TOKEN")
