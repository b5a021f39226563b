"""The clock: schedules, certificates and the order of logs go by it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from joblet_agent.fitness.finding import Probe, Subject, Verdict, failed, ok, warning
from joblet_agent.fitness.scene import Scene

_MADE = Path(__file__)
"""A file of the package: the clock cannot be before it was made."""
_RTC = "/sys/class/rtc/rtc0/since_epoch"
_OFF = timedelta(hours=15)
"""More than a real time clock that has local time is off."""
_NTP = "timedatectl set-ntp true, with systemd-timesyncd or chrony installed"


def _time(scene: Scene) -> Verdict:
    now, made = scene.host.now(), _MADE.stat().st_mtime
    if now < made - timedelta(days=1).total_seconds():
        return failed(
            f"it is {_shown(now)}, before the agent was made ({_shown(made)})",
            "certificates are not valid, schedules start at wrong times",
            f"timedatectl set-time, {_NTP}",
        )
    return ok(_shown(now))


def _synchronised(scene: Scene) -> Verdict:
    if scene.host.is_synchronised():
        return ok("synchronised")
    return warning(
        "the clock is not synchronised",
        "schedules drift, and certificates that are new or about to end may be refused",
        _NTP,
    )


def _hardware(scene: Scene) -> Verdict | None:
    rtc = scene.host.number(_RTC)
    if rtc is None:  # many machines have none
        return None
    if abs(rtc - scene.host.now()) < _OFF.total_seconds():
        return ok("real time clock agrees")
    return warning(
        f"the real time clock says {_shown(rtc)}",
        "after a reboot, the time is wrong until it is synchronised: schedules that seem missed start",
        "hwclock --systohc",
    )


def _shown(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


PROBES: Sequence[Probe] = (
    Probe("CLOCK_TIME", Subject.CLOCK, _time),
    Probe("CLOCK_SYNCHRONISED", Subject.CLOCK, _synchronised),
    Probe("CLOCK_HARDWARE", Subject.CLOCK, _hardware),
)
