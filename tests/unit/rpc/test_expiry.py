"""What the log says of certificates that end, and when."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest

from joblet_agent.model.certificate import AUTHORITY, SERVER, CertificateLife
from joblet_agent.rpc.expiry import ExpiryWatch

START = datetime(2026, 1, 1, tzinfo=UTC)


def life(days: float, kind: str = SERVER, subject: str = "CN=joblet-server") -> CertificateLife:
    return CertificateLife(kind, subject, START - timedelta(days=1), START + timedelta(days=days))


def told(caplog: pytest.LogCaptureFixture, *lives: CertificateLife, days: list[float]) -> list[list[str]]:
    """What is told at each of these days; the watch is woken by new files, as it is by its timer."""

    async def run() -> list[list[str]]:
        now = START
        watch, lines = ExpiryWatch(lambda: now), []
        for day in days:
            now = START + timedelta(days=day)
            caplog.clear()
            watch.follow(lives)
            lines.append([record.getMessage() for record in caplog.records])
        watch.close()
        return lines

    caplog.set_level(logging.INFO)
    return asyncio.run(run())


def test_r14_one_line_at_30_7_1_and_0_days(caplog: pytest.LogCaptureFixture) -> None:
    lines = told(caplog, life(100), days=[0, 69.9, 70, 70.1, 80, 92.9, 93, 94, 99, 99.9, 100, 101])
    assert [len(each) for each in lines] == [0, 0, 1, 0, 0, 0, 1, 0, 1, 0, 1, 0]
    todo = ": renew it: joblet-agent pki renew server, or with the CA of your own"
    assert [each[0] for each in lines if each] == [
        f"the agent's certificate ends at 2026-04-11 00:00 UTC, in 30 days{todo}",
        f"the agent's certificate ends at 2026-04-11 00:00 UTC, in 7 days{todo}",
        f"the agent's certificate ends at 2026-04-11 00:00 UTC, in 1 day{todo}",
        f"the agent's certificate has expired at 2026-04-11 00:00 UTC, every client is refused{todo}",
    ]


def test_what_was_missed_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    lines = told(caplog, life(0.5), life(20, AUTHORITY, "CN=x"), days=[0, 0.1])
    assert lines[0] == [
        "the agent's certificate ends at 2026-01-01 12:00 UTC, in less than a day: "
        "renew it: joblet-agent pki renew server, or with the CA of your own",
        "the CA CN=x ends at 2026-01-21 00:00 UTC, in 20 days: "
        "renew it: joblet-agent pki renew ca, or with the CA of your own",
    ]
    assert lines[1] == []


class _Hearing(logging.Handler):
    """Tells that something was logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.set()


def test_the_timer_wakes_it(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        watch, hearing = ExpiryWatch(), _Hearing()
        logging.getLogger().addHandler(hearing)
        until = datetime.now(UTC) + timedelta(seconds=0.05)
        watch.follow([CertificateLife(SERVER, "CN=x", START, until)])
        await asyncio.wait_for(hearing.heard.wait(), 10)
        logging.getLogger().removeHandler(hearing)
        watch.close()

    asyncio.run(run())
    assert "has expired" in caplog.records[-1].getMessage()
