"""The runtimes of jobs (ports.JobRuntimes): which one a job gets, and whether it can start with it."""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from joblet_agent.errors import LaunchFailed, WrongState
from joblet_agent.model.job import JobRecord
from joblet_agent.model.mount_points import DIRECTORIES, FILES
from joblet_agent.model.runtime import PinnedRuntime
from joblet_agent.runtimes.catalog import RuntimeCatalog
from joblet_agent.runtimes.launch_kit import LaunchKit
from joblet_agent.runtimes.store import RuntimeStore

_MEND = "rnx runtime verify {} tells more; remove it, and build or import it again"


class JobRuntimes:
    """What jobs need of runtimes."""

    def __init__(self, catalog: RuntimeCatalog, store: RuntimeStore, kit: LaunchKit) -> None:
        self._catalog = catalog
        self._store = store
        self._kit = kit

    def admit(self, asked: str) -> PinnedRuntime | None:
        """See ports.JobRuntimes."""
        if not asked:
            return None
        runtime = self._catalog.resolve(asked)
        facts = runtime.facts
        if damage := self._store.damage(runtime.digest):
            raise WrongState(
                f"cannot run job: runtime {facts} is damaged: {damage[0]}",
                reason="RUNTIME_DAMAGED",
                hint=_MEND.format(facts),
            )
        return PinnedRuntime(
            facts.name, facts.version, runtime.digest, facts.environment, needs_gpu=facts.needs_gpu
        )

    @contextmanager
    def hold(self, records: Iterable[JobRecord]) -> Iterator[None]:
        """See ports.JobRuntimes."""
        with ExitStack() as held:
            for digest in {record.runtime.digest for record in records if record.runtime is not None}:
                held.enter_context(self._store.hold(digest))
            yield

    def check(self, runtime: PinnedRuntime) -> None:
        """See ports.JobRuntimes.

        systemd makes what it misses in a root, so it must miss nothing: a tree is what its digest says.
        """
        tree = self._store.tree(runtime.digest)
        try:
            if not stat.S_ISDIR(os.lstat(tree).st_mode):
                raise _damaged(runtime, "its tree is no directory")
            for name in DIRECTORIES:
                if not stat.S_ISDIR(os.lstat(tree / name).st_mode):
                    raise _damaged(runtime, f"/{name} is no directory in it")
            for name in FILES:
                if not stat.S_ISREG(os.lstat(tree / name).st_mode):
                    raise _damaged(runtime, f"/{name} is no file in it")
        except FileNotFoundError as error:
            if not os.path.lexists(tree):
                raise LaunchFailed(
                    f"could not start: the runtime {runtime} is gone: there is no tree {tree} (RUNTIME_GONE)",
                    reason="RUNTIME_GONE",
                    hint="build, import or install it again",
                ) from error
            missing = os.path.relpath(error.filename, tree)
            raise _damaged(runtime, f"/{missing} is missing in it") from error
        except OSError as error:
            raise _damaged(runtime, f"its tree cannot be read: {error.strerror}") from error
        if os.statvfs(tree).f_flag & os.ST_NOEXEC:
            raise LaunchFailed(
                f"could not start: the file system of {tree} is mounted noexec: "
                "no program of a runtime can be executed",
                reason="RUNTIMES_NOT_EXECUTABLE",
                hint="mount it without noexec, or let state_dir be on another file system",
            )
        self._kit.refresh()


def _damaged(runtime: PinnedRuntime, why: str) -> LaunchFailed:
    return LaunchFailed(
        f"could not start: the runtime {runtime} is damaged: {why} (RUNTIME_DAMAGED)",
        reason="RUNTIME_DAMAGED",
        hint=_MEND.format(runtime),
    )
