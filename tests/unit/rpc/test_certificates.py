"""Callers by certificate: calls, and streams that outlive what let them in."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from joblet_agent.errors import NotAuthenticated
from joblet_agent.model.identity import Identity, Role
from joblet_agent.pki.verdict import Trust, Verdict, judge, read_trust
from joblet_agent.rpc import certificates
from joblet_agent.rpc.certificates import CertificateAuthenticator
from tests.certificates import DAY, Pair, make, make_ca, revocation

CA = make_ca()
EVE = make("eve", "operator", ca=CA)


def calling(pair: Pair | None) -> Any:
    return SimpleNamespace(auth_context=lambda: {"x509_pem_cert": [pair.pem]} if pair else {})


class Clock:
    def __init__(self) -> None:
        self.time = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.time


def refusal(authenticate: Callable[[Any], Identity], pair: Pair | None) -> str:
    with pytest.raises(NotAuthenticated) as caught:
        authenticate(calling(pair))
    return caught.value.reason


def test_a_verdict_is_made_once_and_its_time_looked_at_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(pem: bytes, trust: Trust, now: datetime) -> Verdict:
        made.append(pem)
        return judge(pem, trust, now)

    monkeypatch.setattr(certificates, "judge", counted)
    clock = Clock()
    authenticate = CertificateAuthenticator(read_trust(CA.pem, None), clock)
    for _ in range(3):
        assert authenticate(calling(EVE)) == Identity("eve", Role.OPERATOR)
    assert len(made) == 1
    clock.time += DAY
    assert refusal(authenticate, EVE) == "CERTIFICATE_EXPIRED"
    assert refusal(authenticate, None) == "NO_CERTIFICATE"


def test_r14_a_new_list_counts_from_the_next_call_on() -> None:
    authenticate = CertificateAuthenticator(read_trust(CA.pem, None))
    authenticate(calling(EVE))
    authenticate.trust(read_trust(CA.pem, revocation(CA, EVE)))
    assert refusal(authenticate, EVE) == "CERTIFICATE_REVOKED"


def test_the_verdicts_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "MOST_KNOWN", 2)
    authenticate = CertificateAuthenticator(read_trust(CA.pem, None))
    for number in range(4):
        assert authenticate(calling(make(f"n{number}", "viewer", ca=CA))).name == f"n{number}"
    assert len(authenticate._known) == 2


def test_c2_a_stream_ends_with_its_certificate() -> None:
    async def run() -> list[str]:
        ended: asyncio.Queue[NotAuthenticated] = asyncio.Queue()
        pair = make("eve", "viewer", ca=CA, until=timedelta(seconds=2))
        authenticate = CertificateAuthenticator(read_trust(CA.pem, None))
        with authenticate.attend(calling(pair), ended.put_nowait):
            first = await asyncio.wait_for(ended.get(), 30)
        with authenticate.attend(calling(EVE), ended.put_nowait):
            assert ended.empty()
            authenticate.trust(read_trust(CA.pem, revocation(CA, EVE)))
            second = await asyncio.wait_for(ended.get(), 30)
        authenticate.trust(read_trust(CA.pem, revocation(CA, EVE)))
        assert ended.empty()
        return [first.reason, second.reason]

    assert asyncio.run(run()) == ["CERTIFICATE_EXPIRED", "CERTIFICATE_REVOKED"]
