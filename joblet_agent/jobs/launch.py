"""The start of jobs.

The order that makes kill -9 harmless between any two lines::

    launch   what came along: files, secrets → its volumes are ready
             → store INITIALIZING (uid, boot id, place on its network)
             → its other files, and beside them its network in the kernel → StartTransientUnit

A job from the queue stays PENDING in the store until its command runs: a lost start is made again,
which is safe because a unit name is used once and systemd has answered that it does not know it. So is
one that systemd has refused because the host goes down.
What follows is in jobs/tracker.py.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from joblet_agent.errors import HostUnavailable, JobletError, LaunchFailed
from joblet_agent.jobs.belongings import Belongings
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
from joblet_agent.model.volume import HeldVolume
from joblet_agent.networks.jobs import JobNetworks
from joblet_agent.networks.place import Place
from joblet_agent.ports import JobGpus, JobRuntimes, JobStore, JobVolumes, UnitManager

_PREPARED_TOGETHER = 32
"""Jobs whose files and network are made at the same time."""


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
        networks: JobNetworks,
        volumes: JobVolumes,
        runtimes: JobRuntimes,
        gpus: JobGpus,
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
        self._networks = networks
        self._volumes = volumes
        self._runtimes = runtimes
        self._gpus = gpus
        self._boot_id = boot_id
        self._starts = asyncio.Semaphore(parallelism)
        self._preparations = asyncio.Semaphore(_PREPARED_TOGETHER)
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
            # From now on nobody removes them: the job is active.
            held = await self._volumes.hold(record) if record.spec.volumes else ()
            uid = self._uid_for(record.spec, held)
            gpus = self._gpus.take(record.spec.gpus, self._busy_gpus())
            job.record = replace(record, uid=uid, boot_id=self._boot_id, volumes=held, gpus=gpus)
            job.record = replace(job.record, attachment=self._networks.place(job.record))
            await self._store_launch(job)
        except JobletError as error:
            if record.state is JobState.PENDING:  # the store knows it already
                await self._tracker.conclude(job, start_failed(str(error)))
            else:
                await self._belongings.take_back(record)
                self._tracker.forget(job)
            raise
        try:
            await self._until_networked(job.record, has_waited=record.state is JobState.PENDING)
            async with self._preparations:  # or the last of a thousand waits longer than its deadline
                secrets, place = await self._prepared(job.record)
        except JobletError as error:
            await self._tracker.conclude(job, start_failed(str(error)))
            raise
        except OSError as error:
            text = f"cannot prepare the files of the job: {error.strerror}"
            await self._tracker.conclude(job, start_failed(text))
            raise HostUnavailable(
                text, reason="CANNOT_PREPARE_FILES", hint=f"is the disk of {self._paths.state_dir} full?"
            ) from error
        self._keeper.keep(job.record, own, job.end)
        plan = launch_plan(job.record, self._paths, self._root.path, secrets.environment, place)
        try:
            async with self._starts:
                if job.record.stop_requested:
                    await self._tracker.conclude(job, stopped_before_start())
                    return job
                await self._units.start(plan)
        except LaunchFailed as error:
            if record.state is JobState.PENDING and await self._host_goes_down():
                await self._put_back(job, record)
                return job
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

    async def _until_networked(self, record: JobRecord, *, has_waited: bool) -> None:
        """Wait for networks on a host that boots, if nobody waits for the reply; others have a deadline."""
        if has_waited and record.attachment is not None:
            await self._networks.until_applied(has_time=True)

    async def _host_goes_down(self) -> bool:
        try:
            return await self._units.host_is_stopping()
        except JobletError:
            return False

    async def _put_back(self, job: ActiveJob, record: JobRecord) -> None:
        """Let a job wait on that systemd takes no more before the host is off; the next boot starts it."""
        self._registry.close_room()
        await self._networks.leave(record.id)
        self._uids.give_back(job.record.uid)
        job.record = record
        await save_until_done(self._store, job)
        self._tracker.forget(job)

    def _uid_for(self, spec: JobSpec, held: Sequence[HeldVolume]) -> int:
        """Return the user of the job: that of its first volume, if no running job has it.

        So what a program has kept for itself in a volume is its own again the next time.
        """
        profile = Profile(spec.profile or Profile.DEFAULT)
        self._profiles.require_offered(profile)  # it may have waited while the configuration changed
        if profile is Profile.PRIVILEGED:
            return 0
        written = {mount.volume for mount in spec.volumes if not mount.is_read_only}
        first = next((each.number for each in held if each.volume in written), 0)
        return first if first and self._uids.take_this(first) else self._uids.take()

    def _busy_gpus(self) -> set[int]:
        """Return those that the records of active jobs have: also while a unit that has ended is there."""
        held = (job.record.gpus for job in self._registry)
        return {index for gpus in held if gpus is not None for index in gpus.indices}

    async def _store_launch(self, job: ActiveJob) -> None:
        if job.record.state is JobState.PENDING:  # accepted long ago: a full disk delays it
            await save_until_done(self._store, job)
        else:
            await self._store.save(job.record)

    async def _prepared(self, record: JobRecord) -> tuple[Secrets, Place]:
        """Make the job's files and its network at the same time; both are done when one of them fails."""
        made = await asyncio.gather(
            asyncio.to_thread(self._prepare, record), self._networks.attach(record), return_exceptions=True
        )
        for each in made:
            if isinstance(each, BaseException):
                raise each
        secrets, place = made
        assert isinstance(secrets, Secrets)
        assert isinstance(place, Place)
        return secrets, place

    def _prepare(self, record: JobRecord) -> Secrets:
        if record.runtime is None:
            self._root.refresh()
        else:
            self._runtimes.check(record.runtime)
        return self._belongings.prepare(record)
