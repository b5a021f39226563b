"""Takes samples of every running job, and adds them to the jobs' histories.

One task for all jobs, which exists only while there are any. What it reads and writes is done in a
thread, some jobs at a time, so that others who want a thread have their turn in between::

    keep ──► every interval: control group, link ──► sample ──► history ──► wake followers
    conclude ──► the final figures as the last sample

A sample that cannot be taken or stored is left out; the job does not notice.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from joblet_agent.config import MetricsConfig
from joblet_agent.jobs.metrics import history
from joblet_agent.jobs.metrics.cgroup import ControlGroup, GroupGone
from joblet_agent.jobs.metrics.link import Links, Traffic
from joblet_agent.jobs.paths import JobPaths
from joblet_agent.model.job import JobId, JobRecord
from joblet_agent.model.metrics import Reading, Sample, Usage

_AT_ONCE = 64
_NS_PER_SECOND = 1_000_000_000
_FRESH_NS = _NS_PER_SECOND

_log = logging.getLogger(__name__)


class MetricsSampler:
    """Samples running jobs. Owned by one who calls ``close``."""

    def __init__(
        self, control_group: Callable[[JobId, str], Path], links: Links, config: MetricsConfig
    ) -> None:
        """``control_group`` finds that of a job by its id and its workflow's."""
        self._control_group = control_group
        self._links = links
        self._config = config
        self._jobs: dict[JobId, _SampledJob] = {}
        self._listeners: dict[JobId, set[Callable[[], None]]] = {}
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False
        self._woken = asyncio.Event()

    @property
    def enabled(self) -> bool:
        """True when jobs are sampled."""
        return self._config.enabled

    def reconsider(self) -> None:
        """Go by another interval from now on."""
        self._woken.set()

    def keep(self, record: JobRecord, paths: JobPaths) -> None:
        """Sample the job, whose command runs, until ``conclude``; again for the same job does nothing."""
        if not self.enabled or record.id in self._jobs or self._is_closing:
            return
        started_ns = unix_ns(record.started_at) if record.started_at else time.time_ns()
        traffic = partial(self._links.traffic, record.id)
        group = self._control_group(record.id, record.workflow_id)
        self._jobs[record.id] = _SampledJob(paths.metrics, group, traffic, started_ns)
        if self._task is None:
            self._start()

    async def conclude(self, job_id: JobId, usage: Usage | None, ended_at: datetime) -> None:
        """Sample the job no more; its final figures become the last sample, if there was one before."""
        job = self._jobs.pop(job_id, None)
        if job is None:
            return
        async with self._lock:  # not while it is being sampled
            job.close()
            if job.latest is not None and usage is not None:
                await asyncio.to_thread(job.add_final, usage, unix_ns(ended_at), self._config.history)

    def latest(self, job_id: JobId) -> Reading | None:
        """Return the newest reading of a running job."""
        job = self._jobs.get(job_id)
        return None if job is None else job.latest

    async def now(self, record: JobRecord) -> Reading | None:
        """Return what a job used within the last second, sampled or not; None unless its command runs."""
        if record.started_at is None or record.has_ended:
            return None
        latest = self.latest(record.id)
        now_ns = time.time_ns()
        if latest is not None and 0 <= now_ns - latest.sample.taken_ns < _FRESH_NS:
            return latest
        try:
            group = self._control_group(record.id, record.workflow_id)
            traffic = partial(self._links.traffic, record.id)
            sample = await asyncio.to_thread(_sample_once, group, traffic, now_ns)
        except (GroupGone, OSError) as error:
            _log.debug("job %s cannot be asked what it uses: %s", record.id, error)
            return None
        before = Sample(taken_ns=unix_ns(record.started_at)) if latest is None else latest.sample
        return Reading.between(before, sample)

    def listen(self, job_id: JobId, listener: Callable[[], None]) -> None:
        """Call ``listener`` after each sample of the job."""
        self._listeners.setdefault(job_id, set()).add(listener)

    def forget(self, job_id: JobId, listener: Callable[[], None]) -> None:
        """Do not call the listener any more."""
        listeners = self._listeners.get(job_id, set())
        listeners.discard(listener)
        if not listeners:
            self._listeners.pop(job_id, None)

    async def close(self) -> None:
        """Sample no more. Jobs that run are sampled again after the next start."""
        self._is_closing = True
        self._woken.set()
        if self._task is not None:
            await asyncio.wait([self._task])  # a thread may be reading
        for job in self._jobs.values():
            job.close()
        self._jobs.clear()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._interval
        while self._jobs and not self._is_closing:
            try:
                async with asyncio.timeout_at(due):
                    await self._woken.wait()
            except TimeoutError:
                await self._round()
                due = max(due + self._interval, loop.time())
            else:
                self._woken.clear()
                due = loop.time() + self._interval

    @property
    def _interval(self) -> float:
        return self._config.interval.total_seconds()

    async def _round(self) -> None:
        ids = list(self._jobs)
        for start in range(0, len(ids), _AT_ONCE):
            async with self._lock:
                some = {
                    job_id: self._jobs[job_id]
                    for job_id in ids[start : start + _AT_ONCE]
                    if job_id in self._jobs
                }
                await asyncio.to_thread(_sample, list(some.values()), self._config.history)
            for listener in [each for job_id in some for each in self._listeners.get(job_id, ())]:
                listener()

    def _start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="metrics")
        self._task.add_done_callback(self._reap)

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("sampling jobs failed", exc_info=error)
        if self._jobs and not self._is_closing:  # one came when the task had just found none
            self._start()


class _SampledJob:
    """One job's control group, link, history and newest reading. Used by one thread at a time."""

    __slots__ = ("_complained", "_group", "_group_path", "_path", "_started_ns", "_traffic", "latest")

    def __init__(self, path: Path, group_path: Path, traffic: Callable[[], Traffic], started_ns: int) -> None:
        self._path = path
        self._group_path = group_path
        self._traffic = traffic
        self._started_ns = started_ns
        self._group: ControlGroup | None = None
        self._complained = False
        self.latest: Reading | None = None

    def close(self) -> None:
        if self._group is not None:
            self._group.close()
            self._group = None

    def take(self, most_samples: int) -> None:
        """Add a sample of now. Blocking; a job that has ended is left alone."""
        try:
            before = self._before()
            if self._group is None:
                self._group = ControlGroup(self._group_path)
            sample = self._group.sample(max(time.time_ns(), before.taken_ns + 1))  # the clock may step back
            self._add(before, _with_traffic(sample, self._traffic(), before), most_samples)
        except GroupGone:
            _log.debug("%s has ended", self._group_path)
        except OSError as error:
            self._complain(error)

    def add_final(self, usage: Usage, ended_ns: int, most_samples: int) -> None:
        """Add what the job used in all; nothing is in use any more."""
        try:
            before = self._before()
            sample = Sample(
                taken_ns=max(ended_ns, before.taken_ns + 1),
                cpu_usec=max(usage.cpu_usec, before.cpu_usec),
                memory_peak=max(usage.memory_peak, before.memory_peak),
                memory_limit=before.memory_limit,
                read_bytes=max(usage.read_bytes, before.read_bytes),
                write_bytes=max(usage.write_bytes, before.write_bytes),
                read_ops=max(usage.read_ops, before.read_ops),
                write_ops=max(usage.write_ops, before.write_ops),
                recv_bytes=max(usage.recv_bytes, before.recv_bytes),
                sent_bytes=max(usage.sent_bytes, before.sent_bytes),
            )
            self._add(before, sample, most_samples)
        except OSError as error:
            self._complain(error)

    def _before(self) -> Sample:
        """Return the sample before the next one; after a restart of the agent it is in the history."""
        if self.latest is not None:
            return self.latest.sample
        return history.last(self._path) or Sample(taken_ns=self._started_ns)

    def _add(self, before: Sample, sample: Sample, most_samples: int) -> None:
        history.append(self._path, sample, started_ns=self._started_ns, most=most_samples)
        self.latest = Reading.between(before, sample)

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            _log.warning("cannot sample %s: %s", self._path.parent.name, error)


def unix_ns(moment: datetime) -> int:
    """Return the Unix nanoseconds of an aware time, exact to the microsecond."""
    return int(moment.timestamp()) * _NS_PER_SECOND + moment.microsecond * 1000


def _sample_once(path: Path, traffic: Callable[[], Traffic], now_ns: int) -> Sample:
    group = ControlGroup(path)
    try:
        return _with_traffic(group.sample(now_ns), traffic())
    finally:
        group.close()


def _with_traffic(sample: Sample, traffic: Traffic, before: Sample | None = None) -> Sample:
    """Return the sample with what went over the link; one that was repaired counts from 0 again."""
    received, sent = (before.recv_bytes, before.sent_bytes) if before else (0, 0)
    return replace(sample, recv_bytes=max(traffic.received, received), sent_bytes=max(traffic.sent, sent))


def _sample(jobs: Sequence[_SampledJob], most_samples: int) -> None:
    for job in jobs:
        job.take(most_samples)
