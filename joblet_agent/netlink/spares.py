"""Namespaces that wait for their job, so that the rest takes a few milliseconds.

They have no name. What keeps them is a descriptor of this process, so they go with it: nothing has to be
cleared after a crash. They have no link to the host yet: to give one its final name takes the kernel longer
than to make it (it waits for all processors before a name is free, up to 10 ms).
"""

import logging
import os
import threading
from dataclasses import dataclass

from joblet_agent.netlink import namespaces, settings
from joblet_agent.netlink.links import Links

_KEPT = 8
_KEPT_MOST = 64
_QUIET = 30.0  # seconds without a job: there are as many as at the start again

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Spare:
    """A namespace without a name; whoever has it closes it."""

    namespace: int
    """Descriptor."""
    inside: Links
    """A socket in the namespace."""

    def close(self) -> None:
        """Let it go, unless it was given a name."""
        self.inside.close()
        os.close(self.namespace)


class Spares:
    """A thread that makes namespaces in advance: 8, and for as long as they are not enough, up to 64."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ready: list[Spare] = []
        self._wanted = _KEPT
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="spares", daemon=True)

    def open(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread and let all go."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()
        for spare in self._ready:
            spare.close()

    def take(self) -> Spare:
        """Return one, made on the spot if none waits. Raises OSError."""
        with self._changed:
            if self._ready:
                return self._ready.pop()
            self._wanted = min(2 * self._wanted, _KEPT_MOST)
        return _make()

    def fill(self) -> None:
        """Let as many wait as before, now that the job that took one has what it needs."""
        with self._changed:
            self._changed.notify()

    def _run(self) -> None:
        while self._wait():
            try:
                spare = _make()
            except OSError as error:
                # The next job makes its own, and tells if that fails, too.
                _log.warning("cannot prepare a namespace: %s", error)
                with self._changed:
                    self._wanted = 0
                continue
            with self._changed:
                self._ready.append(spare)

    def _wait(self) -> bool:
        """Return when one more is wanted; False at the end."""
        with self._changed:
            while not self._is_closed and len(self._ready) >= self._wanted:
                if not self._changed.wait(_QUIET):
                    self._wanted = _KEPT
                    for spare in self._ready[_KEPT:]:
                        spare.close()
                    del self._ready[_KEPT:]
            return not self._is_closed


def _make() -> Spare:
    with namespaces.inside_new() as namespace:
        try:
            settings.prepare_job()
            inside = Links()
        except BaseException:
            os.close(namespace)
            raise
    spare = Spare(namespace, inside)
    try:
        inside.raise_loopback()
    except BaseException:
        spare.close()
        raise
    return spare
