"""C9: which requests are the same to a token."""

from typing import Any

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.tokens import token_from_proto, workflow_token_from_proto

BASE: dict[str, Any] = {
    "token": "t",
    "command": "sh",
    "args": ["-c", "true"],
    "environment": {"A": "1", "B": "2"},
    "secret_environment": {"KEY": "s3cr3t"},
    "secret_files": {"key": b"s3cr3t"},
    "uploads": [pb.FileUpload(path="a", content=b"one", mode=0o644)],
}


def digest(**changes: Any) -> str:
    token = token_from_proto(pb.RunJobRequest(**{**BASE, **changes}))
    assert token is not None
    assert token.text == changes.get("token", "t")
    return token.digest


def test_a_request_without_a_token_has_none() -> None:
    assert token_from_proto(pb.RunJobRequest(command="true")) is None


@pytest.mark.parametrize(
    "same",
    [
        {"environment": {"B": "2", "A": "1"}},
        {"token": "other"},
        {"schedule": "2030-01-01T00:00:00Z"},
        {"upload_id": "0123"},
        {"secret_environment": {"KEY": "rotated"}},
        {"secret_files": {"key": b"rotated"}},
        {"uploads": [pb.FileUpload(path="a", content=b"two", mode=0o644)]},
    ],
)
def test_what_a_repetition_may_change(same: dict[str, Any]) -> None:
    assert digest(**same) == digest()


@pytest.mark.parametrize(
    "other",
    [
        {"command": "bash"},
        {"args": ["-c true"]},
        {"args": ["true", "-c"]},
        {"name": "sh"},
        {"environment": {"A": "1"}},
        {"environment": {"A": "2", "B": "1"}},
        {"secret_environment": {"KEYS": "s3cr3t"}},
        {"secret_environment": {}},
        {"secret_files": {}},
        {"max_cpu": 50},
        {"skip_missed": True},
        {"uploads": []},
        {"uploads": [pb.FileUpload(path="b", content=b"one", mode=0o644)]},
        {"uploads": [pb.FileUpload(path="a", content=b"three", mode=0o644)]},
        {"requirements": [pb.JobRequirement(job_uuid="x")]},
    ],
)
def test_what_makes_it_another_request(other: dict[str, Any]) -> None:
    assert digest(**other) != digest()


def test_another_calendar_is_another_request() -> None:
    def recurring(schedule: str) -> str:
        token = token_from_proto(pb.RunJobRequest(**{**BASE, "schedule": schedule}), is_recurring=True)
        assert token is not None
        return token.digest

    assert recurring("daily") == recurring("daily")
    assert len({recurring("daily"), recurring("hourly"), digest()}) == 3


def test_every_field_can_be_compared() -> None:
    digests = set()
    for field in pb.RunJobRequest.DESCRIPTOR.fields:
        if field.message_type is None and field.name not in {"token", "schedule", "upload_id"}:
            value: Any = "x" if field.type == field.TYPE_STRING else 1
            repeated = field.name in {"args", "volumes"}
            digests.add(digest(**{field.name: [value] if repeated else value}))
    assert len(digests) > 15


WORKFLOW: dict[str, Any] = {
    "token": "t",
    "workflow": "nightly.yml",
    "yaml_content": "secret_environment: {KEY: s3cr3t}",
    "workflow_files": [pb.FileUpload(path="a", content=b"one", mode=0o644)],
}


def workflow_digest(shown: str = "", **changes: Any) -> str:
    token = workflow_token_from_proto(pb.RunWorkflowRequest(**{**WORKFLOW, **changes}))
    assert token is not None
    return token.asking_for(shown).digest


def test_a_workflow_is_compared_without_the_text_that_has_its_secrets() -> None:
    assert workflow_token_from_proto(pb.RunWorkflowRequest(yaml_content="x")) is None
    assert workflow_digest(yaml_content="secret_environment: {KEY: rotated}") == workflow_digest()
    assert workflow_digest(upload_id="0123") == workflow_digest()
    others = [
        workflow_digest("secret_environment: {KEYS: '***'}"),
        workflow_digest(name="load"),
        workflow_digest(workflow="daily.yml"),
        workflow_digest(workflow_files=[pb.FileUpload(path="b", content=b"one", mode=0o644)]),
    ]
    assert len({workflow_digest(), *others}) == 5
