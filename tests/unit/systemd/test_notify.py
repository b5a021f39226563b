import asyncio
import logging

import pytest

from joblet_agent.systemd.notify import Notifier


def test_without_systemd_nothing_happens(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)

    async def case() -> None:
        notifier = Notifier()
        notifier.ready("serving")
        notifier.reloading()
        notifier.status("two jobs")
        notifier.start_watchdog()
        notifier.stopping()
        await notifier.close()

    with caplog.at_level(logging.DEBUG):
        asyncio.run(case())
    assert [record.getMessage() for record in caplog.records if record.name.startswith("joblet")] == []
