"""All that has to do with runtimes, joined together. core.py makes it once, from ``open`` to ``close``."""

from joblet_agent import __version__
from joblet_agent.config import AgentConfig
from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.ports import Clock
from joblet_agent.runtimes.build.means import Means
from joblet_agent.runtimes.build.service import RuntimeBuilder
from joblet_agent.runtimes.build.step import BuildUnits
from joblet_agent.runtimes.build.steps import Steps
from joblet_agent.runtimes.carrier import RuntimeCarrier
from joblet_agent.runtimes.catalog import RuntimeCatalog
from joblet_agent.runtimes.collector import RuntimeCollector
from joblet_agent.runtimes.dropins import DIRECTORY, RuntimeDropIns
from joblet_agent.runtimes.index.fetching import Fetcher
from joblet_agent.runtimes.index.service import RuntimeIndexes
from joblet_agent.runtimes.installer import RuntimeInstaller
from joblet_agent.runtimes.jobs import JobRuntimes
from joblet_agent.runtimes.launch_kit import LaunchKit
from joblet_agent.runtimes.normalise import normalise
from joblet_agent.runtimes.oci.image import debian_architecture, host_architecture
from joblet_agent.runtimes.service import RuntimeService, UsersOf, nobody
from joblet_agent.runtimes.skopeo import Skopeo
from joblet_agent.runtimes.store import RuntimeStore
from joblet_agent.runtimes.transfer import RuntimeTransfer
from joblet_agent.runtimes.trial import RuntimeTrial, TrialJobs

__all__ = ["Runtimes"]


class Runtimes:
    """The parts, each of which is asked directly."""

    def __init__(
        self, config: AgentConfig, paths: AgentPaths, clock: Clock, units: BuildUnits, boot_id: str
    ) -> None:
        self.store = RuntimeStore(paths.runtimes, clock)
        self.catalog = RuntimeCatalog(self.store)
        self.carrier = RuntimeCarrier(self.store, config.runtimes)
        self.jobs = JobRuntimes(self.catalog, self.store, LaunchKit(paths.launch_kit))
        fetcher = Fetcher(config.runtimes)
        indexes = RuntimeIndexes(config.runtimes, fetcher, clock)
        images = Skopeo(units, config.runtimes)
        self.installer = RuntimeInstaller(config.runtimes, self.store, self.carrier, indexes, fetcher, images)
        self.drop_ins = RuntimeDropIns(DIRECTORY, paths.runtimes / "runtimes.d.json", self.carrier)
        self.builds = RuntimeBuilder(
            Means(
                config=config.runtimes,
                units=units,
                maker=Steps(config.runtimes),
                store=self.store,
                resolve=self.catalog.resolve,
                normalise=normalise,
                images=images,
                clock=clock,
                boot_id=boot_id,
                root=paths.runtimes,
                architecture=debian_architecture(host_architecture()),
                made_with=f"joblet-agent {__version__}",
            )
        )
        self.collector = RuntimeCollector(self.store.gc, config.runtimes, clock, paths.runtimes / "collected")
        self._config = config

    def serve(self, jobs: TrialJobs, users_of: UsersOf = nobody) -> None:
        """Make what callers ask, of jobs that came later. Comes before ``open``."""
        self.trial = RuntimeTrial(jobs)
        self.service = RuntimeService(self.store, self.catalog, self.trial, users_of)
        self.transfer = RuntimeTransfer(
            self.service, self.store, self.carrier, self._config.runtimes, self._config.uploads
        )

    async def open(self) -> None:
        """Read what there is. Comes before jobs are taken over, which use it."""
        await self.store.open()
        await self.builds.open()

    def begin(self) -> None:
        """Begin what nobody waits for; the agent is ready."""
        self.drop_ins.start()
        self.collector.begin()

    def reconsider(self) -> None:
        """Go by changed values of the configuration at once."""
        self.collector.reconsider()

    async def close(self) -> None:
        """End what is under way; jobs never notice."""
        await self.collector.close()
        await self.builds.close()
        await self.drop_ins.close()
        await self.installer.close()
        await self.trial.close()
        await self.store.close()
