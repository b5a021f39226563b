"""The environment file of a job (systemd.exec(5), EnvironmentFile=): its command and its variables.

Every variable ``X`` is written as ``JOBLET_ENV_X``: the launcher, which still has privileges,
must not be steered by LD_PRELOAD or PERL5OPT of the job. It strips the prefix for the command, and enters
the directory ``JOBLET_DIR`` with the job's rights. ``JOBLET_LAUNCH`` has the launcher's own words.
Word n of the command is ``JOBLET_ARG_n``; what is longer than execve(2) takes in one variable goes on
in ``JOBLET_ARG_n_1`` and so on.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from joblet_agent.errors import LaunchFailed
from joblet_agent.ports import LaunchPlan
from joblet_agent.systemd.properties import (
    ARGUMENT_PREFIX,
    DIRECTORY_VARIABLE,
    ENVIRONMENT_PREFIX,
    LAUNCH_VARIABLE,
    LAUNCHER_HOME,
    UnitSettings,
    launcher_words,
)

_SPECIAL = re.compile(r'(["\\`$])')
_PIECE = 30_000  # characters: at most 120,000 bytes, of the 131,072 that the kernel takes in one string


def launch_variables(plan: LaunchPlan, settings: UnitSettings) -> Iterator[tuple[str, str]]:
    """Yield the variables that tell the launcher what to run."""
    if plan.kit is not None:
        # The launcher finds its own libraries before those of the tree; no locale of that loads any.
        yield "LD_LIBRARY_PATH", LAUNCHER_HOME
        yield "LC_ALL", "C"
    yield LAUNCH_VARIABLE, " ".join(launcher_words(plan, settings))
    for number, word in enumerate((plan.spec.command, *plan.spec.args)):
        yield f"{ARGUMENT_PREFIX}{number}", word[:_PIECE]
        for piece, start in enumerate(range(_PIECE, len(word), _PIECE), start=1):
            yield f"{ARGUMENT_PREFIX}{number}_{piece}", word[start : start + _PIECE]
    for name, value in plan.environment.items():
        yield ENVIRONMENT_PREFIX + name, value
    yield DIRECTORY_VARIABLE, plan.spec.work_dir or "/work"


def environment_file_text(plan: LaunchPlan, settings: UnitSettings) -> str:
    """Return the text that systemd reads back as exactly these variables."""
    return variables_text(dict(launch_variables(plan, settings)))


def variables_text(variables: Mapping[str, str]) -> str:
    """Return lines that systemd reads back as exactly these variables."""
    return "".join(f'{name}="{_SPECIAL.sub(_escape, value)}"\n' for name, value in variables.items())


def write_secretly(path: Path, text: str) -> None:
    """Write a file that root alone may read. Raises LaunchFailed."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise LaunchFailed(
            f"cannot write the environment of the job: {error.strerror}", reason="CANNOT_PREPARE_FILES"
        ) from error


def _escape(match: re.Match[str]) -> str:
    return "\\" + match.group(1)
