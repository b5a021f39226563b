"""Signals as people write them. Pure."""

import signal

from joblet_agent.errors import InvalidRequest
from joblet_agent.jobs.check import quoted

_LAST = 64
_NUMBERS = {known.name.removeprefix("SIG"): int(known) for known in signal.Signals} | {
    # signal(7): programs count real-time signals from either end.
    f"RTMIN+{number - signal.SIGRTMIN}": number
    for number in range(signal.SIGRTMIN + 1, signal.SIGRTMAX)
}
_HINT = (
    "signals are " + ", ".join(name for name in _NUMBERS if "+" not in name) + f", or numbers 1 to {_LAST}"
)


def signal_number(given: str) -> int:
    """Return the number of a signal given as USR1, SIGUSR1, usr1 or 10; KILL for nothing.

    Raises InvalidRequest for a signal that does not exist, with the names of those that do.
    """
    text = (given or "KILL").strip().upper().removeprefix("SIG")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < len("000") else 0
    number = number or _NUMBERS.get(text, 0)
    if not 1 <= number <= _LAST:
        raise InvalidRequest(
            f"cannot kill job: there is no signal {quoted(given)}", reason="UNKNOWN_SIGNAL", hint=_HINT
        )
    return number
