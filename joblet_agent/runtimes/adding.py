"""Gives a tree its place in the store, and a name. Blocking; raises OSError. Who may, decides store.py."""

import logging
import os
import secrets
import threading
from contextlib import suppress
from pathlib import Path

from joblet_agent.durable import sync_directory
from joblet_agent.errors import InvalidRequest
from joblet_agent.model.runtime import Runtime, RuntimeFacts
from joblet_agent.runtimes import gc
from joblet_agent.runtimes.digest import list_of
from joblet_agent.runtimes.disk import publish, sync_file_system, write_new
from joblet_agent.runtimes.layout import Layout
from joblet_agent.runtimes.names import is_name, is_version
from joblet_agent.runtimes.normalise import normalise
from joblet_agent.runtimes.records import runtime_text
from joblet_agent.runtimes.trees import MadeTree, TreeMaker

__all__ = ["Adder", "check_digest", "check_facts"]

_PRIVATE = 0o700

_log = logging.getLogger(__name__)


class Adder:
    """Adds one tree, from a directory of its own in staging."""

    def __init__(self, layout: Layout, ending: threading.Event) -> None:
        self._layout = layout
        self._place = layout.staging / f"add.{secrets.token_hex(8)}"
        self._tree = self._place / "tree"
        self._made: str | None = None
        self._maker = TreeMaker(layout, self._tree, ending)

    def make(self, source: Path) -> MadeTree:
        """Make a tree of the store out of another one, still in staging. Raises InvalidRequest, Ended."""
        normalise(source)
        os.mkdir(self._place, _PRIVATE)
        return self._maker.make(source)

    def activate(self, made: MadeTree) -> None:
        """Let the tree be the one of its digest, in place of a damaged one, also after a loss of power."""
        digest, layout = made.digest, self._layout
        self._made = digest
        new_list = self._place / "list"
        write_new(new_list, list_of(made.entries))
        sync_file_system(layout.root)
        publish(new_list, layout.list(digest))
        if os.path.lexists(layout.tree(digest)):
            os.rename(layout.tree(digest), self._place / "damaged")
        publish(self._tree, layout.tree(digest))
        gc.forget_damage(layout, digest)

    def name(self, runtime: Runtime) -> None:
        """Let the runtime's name and version lead to its tree, also after a loss of power.

        The last thing that can fail is the rename: a name either leads to the tree, or this raises.
        """
        path = self._layout.name(runtime.facts.name, runtime.facts.version)
        new = self._place / "name"
        write_new(new, runtime_text(runtime))
        try:
            path.parent.mkdir(mode=_PRIVATE, exist_ok=True)
            sync_directory(self._layout.names)
            os.rename(new, path)
        except OSError:
            with suppress(OSError):  # it has other versions
                path.parent.rmdir()
            raise
        try:
            sync_directory(path.parent)
        except OSError as error:
            _log.warning("a loss of power may take the name of runtime %s: %s", runtime.facts, error.strerror)

    def clean(self) -> None:
        """Leave nothing in staging, and no object without a tree; a damaged tree stays if none came."""
        aside = self._place / "damaged"
        if self._made is not None and aside.exists() and not self._layout.tree(self._made).exists():
            os.rename(aside, self._layout.tree(self._made))
        gc.delete([self._place])
        self._maker.undo()


def check_digest(facts: RuntimeFacts, digest: str, expected: str) -> None:
    """Raise InvalidRequest unless the tree is the one that was expected; empty: any is."""
    if expected not in {"", digest}:
        raise InvalidRequest(
            f"cannot add runtime {facts}: its digest is to be {expected[:12]}, and is {digest[:12]}",
            reason="RUNTIME_DIGEST_MISMATCH",
            hint="somebody or something has changed it; get it anew from where it was made",
        )


def check_facts(facts: RuntimeFacts) -> None:
    """Raise InvalidRequest unless name and version can be those of a runtime."""
    if not is_name(facts.name):
        raise InvalidRequest(
            f"cannot add runtime: {facts.name[:64]!r} is no name of one",
            reason="RUNTIME_SPEC_INVALID",
            hint="64 characters of a-z, 0-9, '.' and '-' at most, of which the first is a letter or digit",
        )
    if not is_version(facts.version):
        raise InvalidRequest(
            f"cannot add runtime {facts.name}: its version {facts.version[:64]!r} is not X.Y.Z",
            reason="RUNTIME_SPEC_INVALID",
            hint="versions are those of semver.org: 1.0.0, 2.1.0-rc.1",
        )
