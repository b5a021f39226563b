"""Ids and names that are not what they should be, to every method: attack cases A1, A6."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, takewhile
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.methods import Method, defined_methods
from tests.e2e.agent import JOBS, SOCKET, Client, units
from tests.e2e.host import in_parallel, refusal, rnx, unit_of
from tests.e2e.inside import running

pytestmark = pytest.mark.systemd

HOSTILE = {
    "up": "../x",
    "up-later": "a/../../x",
    "absolute": "/etc/x",
    "current": ".",
    "slash": "none/",
    "nul": "a\0b",
    "long": "a/" * 2048,
    "encoded": "%2e%2e",
    "unit": "joblet-agent.service",
    "specifier": "%i@%n",
    "escape": "\\x2d",
    "line": "a\nb",
    "dash": "-x",
    "pattern": "*",
    "like": "%",
    "unicode": "\u0661\u0662",
    "empty": "",
}
PATHS = {
    ("FileUpload", "path"),
    ("UploadEntry", "path"),
    ("ListJobFilesRequest", "path"),
    ("DownloadJobFileRequest", "path"),
}
"""Fields that name a file in a workspace: nearly any text can."""
NO_PATHS = ("up", "up-later", "absolute", "current", "slash", "nul", "long", "encoded", "empty")
FREE_TEXT = {
    ("RunJobRequest", "command"),
    ("RunJobRequest", "args"),
    ("RunJobRequest", "name"),
    ("RunJobRequest", "token"),
    ("RunJobRequest", "environment"),
    ("GetJobLogsRequest", "grep"),
    ("QueryJobsRequest", "name"),
    ("WatchJobsRequest", "name"),
    ("RunWorkflowRequest", "workflow"),
    ("RunWorkflowRequest", "job_order"),
    ("RunWorkflowRequest", "yaml_content"),
    ("RunWorkflowRequest", "token"),
    ("CheckWorkflowRequest", "yaml_content"),
    ("CheckWorkflowRequest", "name"),
    ("CheckWorkflowRequest", "file_paths"),
}
"""Fields that are neither ids nor paths; tests of their own send odd texts in them."""
OPTIONAL = {
    "RunJobRequest",
    "QueryJobsRequest",
    "GetNetworksRequest",
    "GetVolumesRequest",
    "RunWorkflowRequest",
}
"""Requests in which an empty text means that it is not given."""
ANSWERS = {"RemoveVolume"}
"""Methods that refuse what is not there by their answer, as published."""


@dataclass(frozen=True)
class Place:
    """A text of a request that names something: where a hostile one goes."""

    method: Method
    field: Any
    inner: Any | None = None

    def __str__(self) -> str:
        name = f"{self.method.name}.{self.field.name}"
        return name if self.inner is None else f"{name}.{self.inner.name}"

    @property
    def is_path(self) -> bool:
        """Say whether it names a file in a workspace."""
        field = self.inner or self.field
        return (field.containing_type.name, field.name) in PATHS

    @property
    def is_optional(self) -> bool:
        """Say whether an empty text means that it is not given."""
        return self.inner is None and (self.is_path or self.method.request.DESCRIPTOR.name in OPTIONAL)

    def request(self, text: str) -> Message:
        """Return a request that is right but for this text."""
        request = self.method.request(**_rest(self.method.request.DESCRIPTOR))
        target = request
        if self.inner is not None:
            inner = getattr(request, self.field.name)
            target = inner.add() if hasattr(inner, "add") else inner
        field = self.inner or self.field
        if _is_repeated(field):
            getattr(target, field.name).append(text)
        else:
            setattr(target, field.name, text)
        return request


def _common_start(one: str, other: str) -> str:
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=True))
    return "".join(letter for letter, _ in pairs)


def _rest(request: Any) -> Mapping[str, object]:
    return {
        "RunJobRequest": {"command": "true"},
        "RunWorkflowRequest": {"yaml_content": "jobs: {a: {command: 'true'}}"},
    }.get(request.name, {})


def _is_repeated(field: Any) -> bool:
    # protobuf warns of "label" since 7, and has "is_repeated" only since 6.31
    return isinstance(getattr(field.containing_type._concrete_class(), field.name), str) is False


def _is_map(field: Any) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _places() -> Iterator[Place]:
    for method in defined_methods():
        fields: Any = method.request.DESCRIPTOR.fields  # the stubs of protobuf do not fit its descriptors
        for field in fields:
            if (method.request.DESCRIPTOR.name, field.name) in FREE_TEXT or _is_map(field):
                continue
            if field.type == FieldDescriptor.TYPE_STRING:
                yield Place(method, field)
            elif field.type == FieldDescriptor.TYPE_MESSAGE and _is_repeated(field):
                texts = [
                    each for each in field.message_type.fields if each.type == FieldDescriptor.TYPE_STRING
                ]
                yield from (Place(method, field, inner) for inner in texts)


def _call(channel: grpc.Channel, method: Method) -> Callable[[Message], object]:
    make: Any = channel.unary_unary
    if method.takes_stream:
        make = channel.stream_unary
    elif method.gives_stream:
        make = channel.unary_stream
    stub = make(f"/joblet.{method.path}", method.request.SerializeToString, method.answer.FromString)

    def call(request: Message) -> object:
        answer: Any = stub(iter([request]) if method.takes_stream else request, timeout=30)
        return list(answer) if method.gives_stream else answer

    return call


def _is_of_runtimes(place: Place) -> bool:
    return "Runtime" in place.method.name


PLACES = [place for place in _places() if not _is_of_runtimes(place)]
RUNTIME_PLACES = [place for place in _places() if _is_of_runtimes(place)]


def test_a1_every_method_with_input_has_a_place() -> None:
    """A new method is covered the day it is defined; one without a text must be known to have none."""
    covered = {place.method.name for place in (*PLACES, *RUNTIME_PLACES)}
    without = {each.name for each in defined_methods() if each.request.DESCRIPTOR.fields} - covered
    assert without == {"ListWorkflows", "CheckWorkflow"}  # that answers with what is wrong


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_a1_a_hostile_text_is_refused_by_every_method(client: Client, place: Place) -> None:
    before = _seen()
    with grpc.insecure_channel(SOCKET, [("grpc.default_authority", "localhost")]) as channel:
        call = _call(channel, place.method)
        verdicts: dict[str, tuple[str, object]] = {}
        for name, text in HOSTILE.items():
            if (str(place), name) == ("RunJob.work_dir", "absolute"):  # a directory of the job's own root
                continue
            if (text == "" and place.is_optional) or (place.is_path and name not in NO_PATHS):
                continue
            if place.method.name in ANSWERS:
                answer: Any = call(place.request(text))
                verdicts[name] = ("OK" if answer.success else "NOT_FOUND", bool(answer.message))
            else:
                verdicts[name] = refusal(lambda text=text: call(place.request(text)))  # type: ignore[misc]
    assert len(set(verdicts.values())) <= 2, verdicts  # a NUL byte has a reason of its own
    codes = {code for code, _ in verdicts.values()}
    # Networks and volumes are known by their names, so one that cannot be is simply not there.
    may_be_unknown = "Network" in place.method.name or "Volume" in place.method.name
    assert codes in ({"INVALID_ARGUMENT"}, {"UNIMPLEMENTED"}) or (
        may_be_unknown and codes <= {"INVALID_ARGUMENT", "NOT_FOUND"}
    ), verdicts
    assert all(reason for _, reason in verdicts.values())
    assert _seen() == before
    assert units() == []


@pytest.mark.parametrize("place", RUNTIME_PLACES, ids=str)
def test_a1_a_hostile_text_is_refused_by_every_method_of_runtimes(client: Client, place: Place) -> None:
    """As published, most of them refuse by their answers, and streams by the last of them."""
    before = _seen()
    with grpc.insecure_channel(SOCKET, [("grpc.default_authority", "localhost")]) as channel:
        call = _call(channel, place.method)
        for name, text in HOSTILE.items():
            # All of them; and a name that a runtime might have.
            if (str(place), name) in {
                ("VerifyRuntime.runtime", "empty"),
                ("ValidateRuntimeSpec.runtime_spec", "unit"),
            }:
                continue
            try:
                answer: Any = call(place.request(text))
            except grpc.RpcError as error:
                code: Any = error
                assert code.code().name in {"INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED"}, name
                continue
            told = answer[-1].result if isinstance(answer, list) else answer
            assert not any(getattr(told, each, False) for each in ("success", "valid", "found")), name
    assert _seen() == before
    assert units() == []


def _seen() -> list[str]:
    """Return what a name could have become: files where a text could have led."""
    state = [str(path) for path in JOBS.parent.rglob("*") if not path.name.startswith("state.db")]
    strange = [str(path) for path in (Path("/x"), Path("/etc/x"), JOBS.parent.parent / "x") if path.exists()]
    return sorted(state) + strange


WITH_ID: dict[str, Callable[[Client, str], object]] = {
    "status": lambda client, text: client.jobs.GetJobStatus(pb.GetJobStatusRequest(uuid=text), timeout=30),
    "stop": lambda client, text: client.jobs.StopJob(pb.StopJobRequest(uuid=text, force=True), timeout=30),
    "cancel": lambda client, text: client.jobs.CancelJob(pb.CancelJobRequest(uuid=text), timeout=30),
    "delete": lambda client, text: client.jobs.DeleteJob(pb.DeleteJobRequest(uuid=text), timeout=30),
    "explain": lambda client, text: client.agent.ExplainJob(pb.ExplainJobRequest(uuid=text), timeout=30),
    "logs": lambda client, text: list(client.jobs.GetJobLogs(pb.GetJobLogsRequest(uuid=text), timeout=30)),
}


@pytest.mark.parametrize("call", WITH_ID.values(), ids=WITH_ID)
def test_an_unknown_id_is_not_found(client: Client, call: Callable[[Client, str], object]) -> None:
    known = client.run("true")
    client.ended(known)
    other = known[:-1] + ("0" if known[-1] != "0" else "1")
    for text in (str(uuid.uuid4()), str(uuid.uuid4())[:13], other):
        assert refusal(lambda text=text: call(client, text)) == ("NOT_FOUND", "JOB_NOT_FOUND")  # type: ignore[misc]


@pytest.mark.parametrize("call", WITH_ID.values(), ids=WITH_ID)
def test_an_id_of_another_kind_is_refused(client: Client, call: Callable[[Client, str], object]) -> None:
    with running(client, "sh", "-c", "echo ready; exec sleep 1000") as job_id:
        plain, unit = job_id.replace("-", ""), unit_of(job_id)
        for text in (
            "none",
            unit,
            unit.removesuffix(".service"),
            str(JOBS / job_id),
            f"{job_id}/",
            f"{job_id}0",
        ):
            assert refusal(lambda text=text: call(client, text)) == ("INVALID_ARGUMENT", "INVALID_JOB_ID")  # type: ignore[misc]
        assert refusal(lambda: call(client, plain)) == ("NOT_FOUND", "JOB_NOT_FOUND")
        assert client.status(job_id).status == "RUNNING"


@pytest.mark.parametrize("call", WITH_ID.values(), ids=WITH_ID)
def test_a6_an_ambiguous_id_touches_no_job(client: Client, call: Callable[[Client, str], object]) -> None:
    ids = in_parallel(lambda _: client.run("sleep", "1000"), list(range(17)))  # 17 ids, 16 first digits
    try:
        prefix = max((_common_start(*pair) for pair in combinations(ids, 2)), key=len)
        assert prefix
        assert refusal(lambda: call(client, prefix)) == ("INVALID_ARGUMENT", "JOB_ID_AMBIGUOUS")
        assert {client.status(job_id).status for job_id in ids} == {"RUNNING"}
    finally:
        in_parallel(lambda job_id: WITH_ID["stop"](client, job_id), ids)
    assert refusal(lambda: call(client, prefix)) == ("INVALID_ARGUMENT", "JOB_ID_AMBIGUOUS")
    assert {client.status(job_id).status for job_id in ids} == {"STOPPED"}


def test_a_prefix_that_fits_one_job_is_enough(client: Client) -> None:
    job_id = client.run("echo", "found")
    client.ended(job_id)
    for text in (job_id[:13], job_id.upper(), f" {job_id} "):
        assert client.status(text).uuid == job_id
    assert rnx("log", job_id[:13]).stdout == b"found\n"


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("verb", ["status", "stop", "delete", "log"])
def test_a1_the_command_line_refuses_the_same(verb: str) -> None:
    for text in ("../x", "/etc/x", "%2e%2e", "joblet-agent.service", "*"):
        done = rnx(verb, text)
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"not a job id" in done.stderr
