"""How ``joblet-agent`` ends when it cannot do what it was told to."""

import sys

from joblet_agent.errors import JobletError

EXIT_FAILED, EXIT_USAGE = 1, 2
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h: systemd shows it by name


def complain(error: JobletError) -> None:
    """Tell people what is wrong and what to do, once, on standard error."""
    sys.stderr.write(f"joblet-agent: {error}\n")
    if error.hint:
        sys.stderr.write(f"hint: {error.hint}\n")
