"""Removes the files of LogExtraFields= that systemd leaves behind: memory for each job that there ever was.

systemd tells journald by ``log-extra-fields:UNIT`` what to add to a unit's records. When it forgets the unit
it removes a file of another name (seen with 252 and 257; where it does not, there is nothing to do).
"""

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Final

FIELD_FILES: Final = Path("/run/systemd/units")
_PREFIX: Final = "log-extra-fields:"
_UNITS: Final = ("joblet-job-", "joblet-exec-")

_log = logging.getLogger(__name__)


def remove_field_file(unit: str, directory: Path = FIELD_FILES) -> None:
    """Remove the file of a unit that systemd has forgotten; nothing for units of others."""
    if not unit.startswith(_UNITS):
        return
    try:
        (directory / f"{_PREFIX}{unit}").unlink(missing_ok=True)
    except OSError as error:
        _log.warning("a file of the journal fields of %s stays: %s", unit, error)


def keep_field_files(units: Collection[str], directory: Path = FIELD_FILES) -> None:
    """Remove the files of all our units but these, which systemd has: of what ended without an agent."""
    for file in directory.glob(f"{_PREFIX}*"):
        unit = file.name.removeprefix(_PREFIX)
        if unit not in units:
            remove_field_file(unit, directory)
