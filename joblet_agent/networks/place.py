"""A job's place on its network, as its unit is told of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Place:
    """See ports.LaunchPlan."""

    namespace: Path | None = None
    resolver: Path | None = None


NO_PLACE: Final = Place()
