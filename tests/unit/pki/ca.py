"""A CA at whatever time a test wants."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from joblet_agent.model.identity import Identity
from joblet_agent.pki.authority import CertificateAuthority
from joblet_agent.pki.index import pem_of
from joblet_agent.pki.names import HostNames, address
from joblet_agent.pki.signing import Issued
from joblet_agent.pki.verdict import judge
from joblet_agent.rpc.material import read_material

HOST = HostNames(("node7", "node7.example.net"), (address("10.0.0.7"), address("fd00::7")))


@dataclass
class Rig:
    """The CA of a directory, and the listener's view of the same files."""

    directory: Path
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    configured: tuple[str, ...] = ()
    """``tls.names``."""

    @property
    def ca(self) -> CertificateAuthority:
        return CertificateAuthority(self.directory, lambda: HOST.known_as(self.configured), lambda: self.now)

    def pass_days(self, days: float) -> None:
        self.now += timedelta(days=days)

    def judged(self, issued: Issued) -> Identity:
        """Whom the agent sees in this certificate, with the files that are there. Raises NotAuthenticated."""
        trust = read_material(self.directory).trust
        return judge(pem_of(issued.record.certificate).encode(), trust, self.now).identity
