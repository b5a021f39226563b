"""For tests of runtimes."""

from tests.unit.runtimes.store_rig import _hasty_disk, _own_files  # noqa: F401 - fixtures for all of them
