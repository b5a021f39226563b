"""Exit statuses of ``rnx``, the errors that carry them, and the one place that prints an error."""

import sys
from collections.abc import Sequence
from enum import IntEnum


class Exit(IntEnum):
    """What the shell gets. An attached job's own status takes the place of DONE and FAILED."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    TIMED_OUT = 124
    """The time that was given to wait is over, as timeout(1) says it."""
    OURS = 125
    """An attached run failed for a reason that is not the command's: agent, network, ``rnx`` itself."""
    CANNOT_INVOKE = 126
    NOT_FOUND = 127
    SIGNAL_BASE = 128
    """Plus the number of the signal that ended the command."""
    INTERRUPTED = 130


class RnxError(Exception):
    """A failure with a text for people, a hint what to do next, and the exit status it causes.

    ``reason`` is the agent's stable word (``JOB_NOT_FOUND``), empty for failures on this side.
    """

    exit: Exit = Exit.FAILED

    def __init__(self, text: str, *, hint: str = "", reason: str = "") -> None:
        super().__init__(text)
        self.hint = hint
        self.reason = reason
        self.more: Sequence[str] = ()
        """What is wrong in detail; one alone stands behind the text, several have lines of their own."""


class UsageError(RnxError):
    """The command line itself is wrong."""

    exit = Exit.USAGE


class NotOffered(RnxError):
    """The agent does not know the call."""


class Unreachable(RnxError):
    """The agent does not answer now; the same call may work later."""


class NoConnection(Unreachable):
    """There is no connection now, for a reason that this side has found out and that may pass."""


class NoTrust(RnxError):
    """TLS fails, and goes on failing until somebody mends certificates, clocks or the configuration."""


class TimedOut(RnxError):
    """What was waited for did not happen within the time given."""


def report(error: RnxError) -> None:
    """Print the error and its hint to standard error, each on a line of its own."""
    from rnx.output import clean  # noqa: PLC0415 - only a failure needs it

    code = f" [{error.reason}]" if isinstance(error, NoConnection | NoTrust) else ""
    lines = [f"rnx: {clean(str(error))}{code}", *map(clean, error.more)]
    if len(error.more) == 1:
        lines = [": ".join(lines)]
    if error.hint:
        lines.append(f"hint: {clean(error.hint)}")
    print("\n".join(lines), file=sys.stderr)


def near(word: str, known: list[str]) -> str:
    """Return a hint naming the known word that looks most like ``word``, or an empty text."""
    from difflib import get_close_matches  # noqa: PLC0415 - only a wrong word needs it

    found = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {found[0]}?" if found else ""
