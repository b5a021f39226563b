"""Throw-away Debian machines with a real systemd, for tests.

Knows nothing of Joblet except which packages its ``.deb`` depends on and how it
is built (``packages``, ``install``). Standard library only, so that it runs on a
fresh machine before anything else is installed.
"""

from tests.testbed.errors import TestbedError
from tests.testbed.machine import Machine, attach, boot, unwind_on_sigterm
from tests.testbed.packages import CHECKOUT
from tests.testbed.releases import DEBIAN, Release

__all__ = ["CHECKOUT", "DEBIAN", "Machine", "Release", "TestbedError", "attach", "boot", "unwind_on_sigterm"]
