"""Variables of a job as they are typed: ``KEY=VALUE``."""

import re
from collections.abc import Iterable

from rnx.exits import UsageError

LONGEST_VALUE = 32768
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
RESERVED = frozenset(
    {
        "PATH", "HOME", "USER", "SHELL", "TERM", "PWD", "OLDPWD", "HOSTNAME", "LANG", "LC_ALL",
        "JOBLET_JOB_ID", "JOBLET_WORKFLOW_ID", "JOBLET_RUNTIME", "JOBLET_VOLUME_PATH",
    }
)  # fmt: skip


def read_variables(flag: str, words: Iterable[str]) -> dict[str, str]:
    """Return the variables; of two with one name the later wins.

    No error tells a value: it may be a secret.
    """
    return dict(_variable(flag, word) for word in words)


def warnings(names: Iterable[str]) -> list[str]:
    """Return one sentence for each variable that takes the place of one the agent sets."""
    return [f"{name} takes the place of the value that the agent sets" for name in names if name in RESERVED]


def _variable(flag: str, word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    name = name.strip()
    if not equals:
        raise UsageError(f"cannot read {flag}: expected KEY=VALUE, there is no =")
    if not name:
        raise UsageError(f"cannot read {flag}: expected KEY=VALUE, the name is empty")
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"cannot set variable {name}: a name is made of letters, digits and _, and begins with no digit"
        )
    size = len(value.encode())
    if size > LONGEST_VALUE:
        raise UsageError(
            f"cannot set variable {name}: its value has {size} bytes, the limit is {LONGEST_VALUE}"
        )
    return name, value
