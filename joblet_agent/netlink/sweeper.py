"""Removes links. The kernel takes 20 ms for one, and as long for hundreds: one thread does it for all."""

import logging
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import closing

from joblet_agent.netlink.links import Links

# Those to be removed are put together in this group (ip-link(8)); nobody else's are in it.
_GROUP = 0x6A6F6265

_log = logging.getLogger(__name__)


class Sweeper:
    """The thread that removes links of jobs that have ended."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._names: dict[str, Future[None]] = {}
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def open(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread when it has done what it has."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def sweep(self, name: str) -> Future[None]:
        """Remove the link; the result comes when it is gone, or was."""
        with self._changed:
            done = self._names.setdefault(name, Future())
            self._changed.notify()
            return done

    def finish(self, names: Iterable[str]) -> None:
        """Wait until none of these is being removed. Raises OSError."""
        with self._changed:
            under_way = [self._names[name] for name in names if name in self._names]
        for done in under_way:
            done.result()

    def _run(self) -> None:
        with closing(Links()) as links:
            while True:
                with self._changed:
                    while not self._names and not self._is_closed:
                        self._changed.wait()
                    if not self._names:
                        return
                    names = list(self._names)
                self._remove(links, names)

    def _remove(self, links: Links, names: list[str]) -> None:
        failure: Exception | None = None
        try:
            found = [link.index for link in map(links.find, names) if link is not None]
            for index in found:
                links.move_to_group(index, _GROUP)
            if found:
                links.remove_group(_GROUP)
        except OSError as error:
            _log.error("cannot remove links: %s", error)
            failure = error
        except Exception as error:  # a bug must not leave everybody waiting who comes later
            _log.exception("links were not removed")
            failure = error
        with self._changed:
            swept = [self._names.pop(name) for name in names]
        for done in swept:
            if failure is None:
                done.set_result(None)
            else:
                done.set_exception(failure)
