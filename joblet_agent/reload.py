"""Reading the configuration again while the agent serves: what can change does, the rest is named."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from joblet_agent.complaint import EXIT_CONFIG, EXIT_FAILED
from joblet_agent.config import AgentConfig, Loaded, load_files
from joblet_agent.config.live import Difference, adopt
from joblet_agent.errors import InvalidConfig
from joblet_agent.systemd.notify import Notifier

_READ_WITHIN_SECONDS = 30.0

_log = logging.getLogger(__name__)


class Reloads:
    """Reloads, one after the other. Between two of them, ``config`` stays as it is."""

    def __init__(
        self,
        config: AgentConfig,
        path: Path | None,
        notifier: Notifier,
        on_change: Callable[[Sequence[str]], Awaitable[None]],
    ) -> None:
        """``path`` is what the agent was started with. ``on_change`` is told the keys that have changed."""
        self._config = config
        self._path = path
        self._notifier = notifier
        self._on_change = on_change
        self._serving = f"serving on {config.socket.path}"
        self._lock = asyncio.Lock()

    def ready(self, note: str = "") -> None:
        """Tell systemd that the agent serves, and what people should know."""
        self._notifier.ready(f"{self._serving}; {note}" if note else self._serving)

    async def reload(self) -> int:
        """Use what the files say now, and return an exit status: 0, or 78 if all stays as it was.

        Whoever asks has the answer when the new values count. What is wrong is in the log.
        """
        async with self._lock:
            self._notifier.reloading()
            note = "the last reload failed"
            try:
                async with asyncio.timeout(_READ_WITHIN_SECONDS):
                    loaded = await asyncio.to_thread(load_files, self._path)
                note = await self._use(loaded)
            except InvalidConfig as error:
                note = "the configuration cannot be used, the one before it counts"
                _log.error("%s\n%s", error, note)
                return EXIT_CONFIG
            except TimeoutError:
                _log.error("cannot read the configuration within %g s", _READ_WITHIN_SECONDS)
                return EXIT_FAILED
            finally:
                self.ready(note)
        return 0

    async def _use(self, loaded: Loaded) -> str:
        """Use what can be used now; return what remains to be done."""
        for warning in loaded.warnings:
            _log.warning(warning)
        adopted = adopt(self._config, loaded.config)
        _log.info("configuration read again: %s", _words(adopted.changed) or "nothing has changed")
        await self._on_change([each.key.name for each in adopted.changed])
        if not adopted.needs_restart:
            return ""
        _log.warning("needs a restart (systemctl restart joblet-agent): %s", _words(adopted.needs_restart))
        return f"needs a restart: {', '.join(each.key.name for each in adopted.needs_restart)}"

    async def follow(self, hangup: asyncio.Event) -> None:
        """Reload whenever the event is set, until cancelled."""
        while True:
            await hangup.wait()
            hangup.clear()
            await self.reload()


def _words(differences: Sequence[Difference]) -> str:
    return ", ".join(map(str, differences))
