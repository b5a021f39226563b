"""The start of jobs.

The order that makes kill -9 harmless between any two lines::

    launch   what came along: files, secrets → store INITIALIZING (uid, boot id) → its other files
             → StartTransientUnit

A job from the queue stays PENDING in the store until its command runs: a lost start is made again,
which is safe because a unit name is used once and systemd has answered that it does not know it.
What follows is in jobs/tracker.py.
"""

import asyncio
from dataclasses import replace

from joblet_agent.errors import HostUnavailable, LaunchFailed, LimitReached, NotOffered, StoreFailed
from joblet_agent.jobs.belongings import Belongings, NotDelivered
from joblet_agent.jobs.files import Delivery
from joblet_agent.jobs.log_keeper import LogKeeper
from joblet_agent.jobs.outcome import start_failed, stopped_before_start
from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.jobs.plan import launch_plan
from joblet_agent.jobs.profiles import Profiles
from joblet_agent.jobs.registry import ActiveJob, JobRegistry
from joblet_agent.jobs.root import DefaultRoot
from joblet_agent.jobs.saving import save_until_done
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.jobs.tracker import JobTracker
from joblet_agent.jobs.uids import UidPool
from joblet_agent.model.job import JobRecord, JobSpec, JobState
from joblet_agent.model.profile import Profile
from joblet_agent.model.secrets import NO_SECRETS, Secrets
from joblet_agent.ports import JobStore, UnitManager


class JobLauncher:
    """Starts jobs; the tracker takes them over from systemd's first word."""

    def __init__(
        self,
        *,
        registry: JobRegistry,
        store: JobStore,
        units: UnitManager,
        tracker: JobTracker,
        keeper: LogKeeper,
        belongings: Belongings,
        paths: AgentPaths,
        root: DefaultRoot,
        uids: UidPool,
        profiles: Profiles,
        boot_id: str,
        parallelism: int,
        resync: asyncio.Event,
    ) -> None:
        """``resync`` is set when systemd is to be asked again (jobs/recovery.py)."""
        self._registry = registry
        self._store = store
        self._units = units
        self._tracker = tracker
        self._keeper = keeper
        self._belongings = belongings
        self._paths = paths
        self._root = root
        self._uids = uids
        self._profiles = profiles
        self._boot_id = boot_id
        self._starts = asyncio.Semaphore(parallelism)
        self._resync = resync
        self._tasks = Tasks()

    async def close(self) -> None:
        """Start no more; what was under way is found again by the next recovery."""
        await self._tasks.close()

    def launch(
        self, record: JobRecord, delivery: Delivery | None = None, secrets: Secrets = NO_SECRETS
    ) -> asyncio.Task[ActiveJob]:
        """Take a slot and start the job in a task of its own, with the files of ``delivery``.

        ``secrets`` are those of a job that did not wait; one that did has them put away already.
        The caller may go away: the launch goes on. The task raises what refused the launch; the
        job is FAILED then, or unknown if what came with it or the store itself refused.
        """
        job = self._registry.add(record)
        job.is_launching = True
        return self._tasks.start(self._launch(job, delivery, secrets), f"launch-{record.id}")

    async def _launch(self, job: ActiveJob, delivery: Delivery | None, secrets: Secrets) -> ActiveJob:
        record = job.record
        own = self._paths.job(record.id)
        try:
            await self._belongings.bring(record, delivery, secrets, lasting=False)
            job.record = replace(record, uid=self._uid_for(record.spec), boot_id=self._boot_id)
            await self._store_launch(job)
            secrets = await asyncio.to_thread(self._prepare, job.record)
        except (StoreFailed, LimitReached, NotOffered, NotDelivered) as error:
            if record.state is JobState.PENDING:  # the store knows it already
                await self._tracker.conclude(job, start_failed(str(error)))
            else:
                await self._belongings.take_back(record)
                self._tracker.forget(job)
            raise
        except OSError as error:
            text = f"cannot prepare the files of the job: {error.strerror}"
            await self._tracker.conclude(job, start_failed(text))
            raise HostUnavailable(
                text, reason="CANNOT_PREPARE_FILES", hint=f"is the disk of {self._paths.state_dir} full?"
            ) from error
        self._keeper.keep(job.record, own, job.end)
        plan = launch_plan(job.record, self._paths, self._root.path, secrets.environment)
        try:
            async with self._starts:
                if job.record.stop_requested:
                    await self._tracker.conclude(job, stopped_before_start())
                    return job
                await self._units.start(plan)
        except LaunchFailed as error:
            await self._tracker.conclude(job, start_failed(str(error)))
            raise
        except HostUnavailable:
            self._resync.set()  # systemd may have begun: only it knows
            raise
        finally:
            job.is_launching = False
        if job.record.stop_requested:
            await self._units.stop(record.id)
        return job

    def _uid_for(self, spec: JobSpec) -> int:
        profile = Profile(spec.profile or Profile.DEFAULT)
        self._profiles.require_offered(profile)  # it may have waited while the configuration changed
        return 0 if profile is Profile.PRIVILEGED else self._uids.take()

    async def _store_launch(self, job: ActiveJob) -> None:
        if job.record.state is JobState.PENDING:  # accepted long ago: a full disk delays it
            await save_until_done(self._store, job)
        else:
            await self._store.save(job.record)

    def _prepare(self, record: JobRecord) -> Secrets:
        self._root.refresh()
        return self._belongings.prepare(record)
