"""Values that a job gets and nobody else sees. Their names are in the job's specification."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Secrets:
    """Secret variables and files of one job by name. Its text shows none of them."""

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def __bool__(self) -> bool:
        """Say whether there is any."""
        return bool(self.environment or self.files)


NO_SECRETS = Secrets()
