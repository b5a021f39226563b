"""Where values that are fine alone do not fit together."""

from collections.abc import Iterator
from dataclasses import dataclass

from joblet_agent.config.values import MOST_VOLUMES, AgentConfig
from joblet_agent.model.profile import Profile

_LARGEST_ID = 2**32 - 2


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Values of which one must change."""

    keys: tuple[str, ...]
    """Whose values they are; ``problem`` speaks of the first one's."""
    problem: str


def find_contradictions(config: AgentConfig) -> Iterator[Contradiction]:
    """Yield all contradictions within the configuration."""
    yield from _ids_of_jobs(config)
    yield from _ids_of_volumes(config)
    jobs, networks = config.jobs, config.networks
    if jobs.default_profile is Profile.PRIVILEGED or not config.profiles.offers(jobs.default_profile):
        yield Contradiction(
            ("jobs.default_profile", f"profiles.{jobs.default_profile}"),
            "expected default or strict, whichever is switched on below profiles, "
            f"not {jobs.default_profile}",
        )
    if networks.bridge.overlaps(networks.isolated):
        yield Contradiction(
            ("networks.isolated", "networks.bridge"),
            f"expected another range than networks.bridge, not {networks.isolated}",
        )


def _ids_of_jobs(config: AgentConfig) -> Iterator[Contradiction]:
    jobs = config.jobs
    if jobs.uid_count < jobs.max_concurrent:
        yield Contradiction(
            ("jobs.uid_count", "jobs.max_concurrent"),
            f"expected at least jobs.max_concurrent, which is {jobs.max_concurrent}, not {jobs.uid_count}",
        )
    for kind, first, count in (
        ("uid", jobs.uid_first, jobs.uid_count),
        ("project", jobs.project_first, jobs.project_count),
    ):
        if first + count - 1 > _LARGEST_ID:
            yield Contradiction(
                (f"jobs.{kind}_first", f"jobs.{kind}_count"),
                f"expected room for {count} ids up to {_LARGEST_ID}, not {first}",
            )


def _ids_of_volumes(config: AgentConfig) -> Iterator[Contradiction]:
    jobs, volumes = config.jobs, config.volumes
    for kind, own, theirs in (
        ("uid", volumes.uid_first, range(jobs.uid_first, jobs.uid_first + jobs.uid_count)),
        (
            "project",
            volumes.project_first,
            range(jobs.project_first, jobs.project_first + jobs.project_count),
        ),
    ):
        last = own + MOST_VOLUMES - 1
        if last > _LARGEST_ID or (own <= theirs[-1] and theirs[0] <= last):
            yield Contradiction(
                (f"volumes.{kind}_first", f"jobs.{kind}_first", f"jobs.{kind}_count"),
                f"expected room for {MOST_VOLUMES} ids up to {_LARGEST_ID}, apart from those of jobs, "
                f"which are {theirs[0]} to {theirs[-1]}, not {own}",
            )
