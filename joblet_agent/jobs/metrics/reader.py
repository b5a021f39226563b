"""A job's samples for those who ask: what is stored, then what comes.

The history is a file and the samples in it ascend, so a reader needs nothing but the time it has reached:
no gap, no duplicate, no buffer, also while the file is being thinned out. A slow one holds one page.
"""

import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise

from joblet_agent.errors import HostUnavailable, InvalidRequest, WrongState
from joblet_agent.jobs.logs import JobEnd
from joblet_agent.jobs.metrics import history
from joblet_agent.jobs.metrics.sampler import MetricsSampler
from joblet_agent.jobs.paths import JobPaths
from joblet_agent.model.job import JobId
from joblet_agent.model.metrics import MetricsQuery, Reading

_PAGE = 256


class MetricsReader:
    """Reads histories, for any number of readers."""

    def __init__(self, sampler: MetricsSampler) -> None:
        self._sampler = sampler

    def require_samples(self) -> None:
        """Raise WrongState if this agent takes no samples."""
        if not self._sampler.enabled:
            raise WrongState(
                "cannot show what jobs use now: this agent takes no samples (metrics.enabled is false)",
                reason="METRICS_DISABLED",
                hint="the final figures are in the status of the job when it has ended",
            )

    def read(
        self, job_id: JobId, paths: JobPaths, query: MetricsQuery, end: JobEnd
    ) -> AsyncGenerator[Reading, None]:
        """Return the readings that the query wants, ascending.

        Raises InvalidRequest with reason METRICS_QUERY_INVALID, WrongState if it follows and nothing is
        sampled, HostUnavailable.
        """
        _check(query)
        if query.follow and not end.ended:
            self.require_samples()
        return self._readings(job_id, paths, query, end)

    async def _readings(
        self, job_id: JobId, paths: JobPaths, query: MetricsQuery, end: JobEnd
    ) -> AsyncGenerator[Reading, None]:
        news = asyncio.Event()
        self._sampler.listen(job_id, news.set)
        end.listen(news.set)
        try:
            after_ns, left = query.start_ns - 1, query.limit
            while True:
                news.clear()
                has_ended = end.ended  # before reading: then the last sample is there
                page = await _page(paths, after_ns)
                for reading in page:
                    after_ns = reading.sample.taken_ns
                    if query.end_ns and after_ns > query.end_ns:
                        return
                    yield reading
                    left -= 1
                    if left == 0:
                        return
                if page:
                    continue
                if has_ended or not query.follow:
                    return
                await news.wait()
        finally:
            end.forget(news.set)
            self._sampler.forget(job_id, news.set)


async def _page(paths: JobPaths, after_ns: int) -> list[Reading]:
    try:
        before, samples = await asyncio.to_thread(history.read, paths.metrics, after_ns=after_ns, most=_PAGE)
    except OSError as error:
        raise HostUnavailable(
            f"cannot read the metrics {paths.metrics}: {error.strerror}", reason="METRICS_UNREADABLE"
        ) from error
    return [Reading.between(*pair) for pair in pairwise([before, *samples])]


def _check(query: MetricsQuery) -> None:
    if min(query.start_ns, query.end_ns, query.limit) < 0:
        problem = "start time, end time and limit must not be negative"
    elif query.end_ns and query.end_ns < query.start_ns:
        problem = "the end time is before the start time"
    else:
        return
    raise InvalidRequest(f"cannot read metrics: {problem}", reason="METRICS_QUERY_INVALID")
