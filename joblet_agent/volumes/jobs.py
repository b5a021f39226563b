"""The volumes of jobs (ports.JobVolumes)."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from joblet_agent.errors import NotPermitted
from joblet_agent.model.job import JobRecord
from joblet_agent.model.profile import Profile
from joblet_agent.model.volume import Backing, HeldVolume, Volume, VolumeMount, names_of
from joblet_agent.volumes.catalog import VolumeCatalog


class JobVolumes:
    """What jobs need of volumes."""

    def __init__(self, catalog: VolumeCatalog) -> None:
        self._catalog = catalog

    def check(self, mounts: Sequence[VolumeMount], profile: Profile) -> None:
        """See ports.JobVolumes."""
        if mounts:
            self._catalog.require_enabled("run job")
        for name in names_of(mounts):
            _check_use(self._catalog.settled(name, "run job"), mounts, profile)

    async def hold(self, record: JobRecord) -> tuple[HeldVolume, ...]:
        """See ports.JobVolumes."""
        mounts, profile = record.spec.volumes, Profile(record.spec.profile or Profile.DEFAULT)
        self._catalog.require_enabled("run job")
        held = []
        for name in names_of(mounts):
            await self._catalog.let_go(name)  # for the next job its user is free then (LaunchService)
            async with self._catalog.locked(name):
                volume = self._catalog.settled(name, "run job")
                _check_use(volume, mounts, profile)
                was_warned = bool(volume.warning)
                volume = await self._catalog.ready(volume)
                if was_warned:  # and used again all the same
                    volume = replace(volume, warning="")
                    await self._catalog.save(volume)
                held.append(volume.held)
        return tuple(held)


def _check_use(volume: Volume, mounts: Iterable[VolumeMount], profile: Profile) -> None:
    is_written = any(not each.is_read_only for each in mounts if each.volume == volume.name)
    if profile is Profile.PRIVILEGED and volume.backing is Backing.QUOTA and is_written:
        raise NotPermitted(
            f"cannot run job: volume {volume.name} is held to its size by a project quota, "
            "which does not bind a privileged job",
            reason="VOLUME_NEEDS_LIMITS",
            hint=f"mount it read-only: --volume {volume.name}:ro, or run the job without privileges",
        )
