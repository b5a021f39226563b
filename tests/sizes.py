"""How large attacks are: as ``make test`` can afford them, or in full (``make soak``)."""

import os

FULL = "JOBLET_TEST_FULL"
"""Environment variable: attacks have their full size."""

IS_FULL = os.environ.get(FULL, "") not in {"", "0"}
"""Attacks have their full size in this run."""


def size(usual: int, full: int) -> int:
    """Return the size of an attack for this run. Tests that call it are marked ``soak``."""
    return full if IS_FULL else usual
