import asyncio

import grpc
import grpc.aio
import pytest

from joblet_agent.errors import NotAuthenticated
from joblet_agent.model.identity import Identity, Permission, Role
from joblet_agent.rpc import auth
from joblet_agent.rpc.auth import ACCESS, Authenticator, local_caller
from joblet_agent.rpc.handlers import Context
from joblet_agent.rpc.health import CHECK, WATCH
from joblet_agent.rpc.reflection import METHOD, SERVICES
from tests.unit.rpc.serving import METHODS, RECORD, FakeJobs, hint_of, reason_of, serving

GARBAGE = b"\xff\xff\xff"

GRANTED = {
    Role.ADMIN: {Permission.READ, Permission.FILES, Permission.RUN, Permission.MANAGE, Permission.INSPECT},
    Role.OPERATOR: {Permission.READ, Permission.FILES, Permission.RUN},
    Role.VIEWER: {Permission.READ},
}


def always(identity: Identity) -> Authenticator:
    return lambda _context: identity


def nobody(_context: Context) -> Identity:
    raise NotAuthenticated("cannot authenticate the caller: no client certificate", reason="NO_CERTIFICATE")


async def refusals(authenticate: Authenticator) -> dict[str, grpc.aio.AioRpcError]:
    """Call every method with garbage, which is looked at only after the access check."""
    found = {}
    jobs = FakeJobs()
    async with serving(jobs, authenticate=authenticate) as caller:
        for method in METHODS:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await caller.unary(method, GARBAGE)
            found[method] = caught.value
    assert jobs.calls == []
    return found


def test_c1_the_table_has_exactly_the_methods_of_the_definition() -> None:
    assert set(ACCESS) == set(METHODS) | {CHECK, WATCH} | {f"{service}/{METHOD}" for service in SERVICES}


@pytest.mark.parametrize("role", list(Role))
def test_c1_every_method_by_every_role(role: Role) -> None:
    for method, error in asyncio.run(refusals(always(Identity("somebody", role)))).items():
        if ACCESS[method] in GRANTED[role]:
            assert (error.code(), reason_of(error)) == (
                grpc.StatusCode.INVALID_ARGUMENT,
                "MALFORMED_REQUEST",
            ), method
        else:
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED, method
            assert reason_of(error) == "ROLE_NOT_PERMITTED"
            assert (
                error.details() == f"cannot call {method}: role {role} has no permission to {ACCESS[method]}"
            )


def test_c1_nobody_may_call_anything() -> None:
    for error in asyncio.run(refusals(nobody)).values():
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert reason_of(error) == "NO_CERTIFICATE"


@pytest.mark.parametrize("method", ["JobService/RunJob", "JobService/GetJobLogs"])
def test_a_method_that_is_not_in_the_table_is_denied_even_to_admins(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(auth.ACCESS, method)
    error = asyncio.run(refusals(local_caller))[method]
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.PERMISSION_DENIED, "METHOD_NOT_LISTED")


def test_c3_a_refusal_does_not_tell_whether_the_job_exists() -> None:
    async def run() -> grpc.aio.AioRpcError:
        jobs = FakeJobs(record=RECORD)
        async with serving(jobs, authenticate=always(Identity("v", Role.VIEWER))) as caller:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await caller.unary("JobService/StopJob")
        assert jobs.calls == []
        return caught.value

    error = asyncio.run(run())
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert hint_of(error) == "use an identity whose role has the permission to run"


def test_the_local_socket_is_admin_and_the_servicer_learns_who_called() -> None:
    async def run(authenticate: Authenticator) -> Identity:
        jobs = FakeJobs()
        async with serving(jobs, authenticate=authenticate) as caller:
            await caller.unary("JobService/RunJob")
        identity = jobs.calls[0][2]
        assert isinstance(identity, Identity)
        return identity

    assert asyncio.run(run(local_caller)) == Identity("local", Role.ADMIN)
    operator = Identity("ops", Role.OPERATOR)
    assert asyncio.run(run(always(operator))) == operator


def test_another_listener_than_the_local_socket_is_not_authenticated() -> None:
    class Remote:
        def peer(self) -> str:
            return "ipv4:127.0.0.1:4711"

    with pytest.raises(NotAuthenticated):
        local_caller(Remote())  # type: ignore[arg-type]
