"""``rnx run --attach true`` as a whole process, against ``systemd-run`` with the same properties."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.bench.agent_service import ADDRESS, AgentService
from tests.bench.commands import FOR_LONG, NOTHING
from tests.bench.measures import Bound, Row, compared, median
from tests.bench.start_up import account

_ROUNDS, _WARM_UPS = 60, 3
_ENVIRONMENT = os.environ | {"RNX_ADDRESS": ADDRESS}


def run(service: AgentService) -> list[Row]:
    """Measure both from fork to exit, one after the other, and account for Python's part of ours.

    The command line of systemd-run is the one that ``rnx job explain`` tells of a job that keeps
    running meanwhile, because its work directory is mounted; only the command is another one.
    """
    service.start()
    rnx = _rnx()
    ours = [rnx, "run", "--attach", *NOTHING]
    theirs = _systemd_run(rnx)
    agent, bare = [], []
    for number in range(_WARM_UPS + _ROUNDS):
        pair = _wall_ms(ours), _wall_ms(theirs)
        if number >= _WARM_UPS:
            agent.append(pair[0])
            bare.append(pair[1])
    rows = [
        *compared(
            "command line", "rnx run --attach / systemd-run --wait --pipe", "ms", agent, bare, "systemd-run"
        ),
        Row("command line", "rnx - systemd-run, medians", median(agent) - median(bare), "ms", Bound(110)),
        *account(ours, _ENVIRONMENT, median(agent)),
    ]
    service.clear_jobs()
    return rows


def _rnx() -> str:
    return shutil.which("rnx") or sys.exit("bench: rnx is not installed")


def _systemd_run(rnx: str) -> list[str]:
    started = _output([rnx, "--json", "run", *FOR_LONG])
    uuid = next(word for word in started.replace('"', " ").replace(",", " ").split() if _is_uuid(word))
    explained = _output([rnx, "job", "explain", uuid])
    line = next(line for line in explained.splitlines() if "systemd-run --wait" in line)
    words = shlex.split(line[line.index("systemd-run") :])
    return _running(words, NOTHING)


def _running(words: Sequence[str], command: Sequence[str]) -> list[str]:
    """Return the line with another command for the launcher, which takes its words from the environment."""
    kept = [word for word in words if not word.startswith("--setenv=JOBLET_ARG_")]
    end = kept.index("--")
    given = [f"--setenv=JOBLET_ARG_{number}={word}" for number, word in enumerate(command)]
    return [*kept[:end], *given, *kept[end:-1], str(len(command))]


def _is_uuid(word: str) -> bool:
    return len(word) == 36 and word.count("-") == 4


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=_ENVIRONMENT)
    return done.stdout


def _wall_ms(command: Sequence[str]) -> float:
    begin = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=_ENVIRONMENT)
    taken = (time.perf_counter() - begin) * 1e3
    if done.returncode != 0:
        raise SystemExit(f"bench: {shlex.join(command)}: status {done.returncode}: {done.stderr}")
    return taken
