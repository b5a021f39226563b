import signal

import pytest

from joblet_agent.errors import InvalidRequest
from joblet_agent.jobs.signals import signal_number


@pytest.mark.parametrize(
    ("given", "number"),
    [
        ("", signal.SIGKILL),
        ("USR1", signal.SIGUSR1),
        ("SIGUSR1", signal.SIGUSR1),
        (" sigusr1 ", signal.SIGUSR1),
        ("10", 10),
        ("1", 1),
        ("64", 64),
        ("32", 32),
        ("RTMIN", signal.SIGRTMIN),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("RTMAX", signal.SIGRTMAX),
        ("chld", signal.SIGCHLD),
    ],
)
def test_a_signal_by_name_or_number(given: str, number: int) -> None:
    assert signal_number(given) == number


@pytest.mark.parametrize(
    "given", ["FOO", "SIG", "SIGSIGUSR1", "0", "65", "-9", "9.0", "RTMIN+40", "\u0661", "1" * 5000, "\0"]
)
def test_a_signal_that_does_not_exist(given: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot kill job: there is no signal") as caught:
        signal_number(given)
    assert caught.value.reason == "UNKNOWN_SIGNAL"
    assert "USR1" in str(caught.value.hint)
