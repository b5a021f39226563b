"""Variables of a job as they are typed, and files of them: ``KEY=VALUE``.

No error tells a value, nor text that may be one: it may be a secret.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from rnx.exits import RnxError, UsageError

LONGEST_VALUE = 32768
LARGEST_FILE = 4 * 1024 * 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
RESERVED = frozenset(
    {
        "PATH", "HOME", "USER", "SHELL", "TERM", "PWD", "OLDPWD", "HOSTNAME", "LANG", "LC_ALL",
        "JOBLET_JOB_ID", "JOBLET_WORKFLOW_ID", "JOBLET_RUNTIME", "JOBLET_VOLUME_PATH",
    }
)  # fmt: skip


def read_variables(
    flag: str, words: Iterable[str], files: Iterable[str] = (), *, own: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the variables of the files (paths) and of the words; of two with one name the later wins.

    With ``own``, our environment, a word without ``=`` stands for the variable of that name there.
    """
    variables: dict[str, str] = {}
    for path in files:
        for number, line in _lines(f"{flag}-file", path):
            name, value = _split(line, f"cannot read {path}, line {number}")
            variables[name] = value
    for word in words:
        if own is not None and "=" not in word:
            word = f"{word}={_own_value(flag, word, own)}"  # noqa: PLW2901
        name, value = _split(word, f"cannot read {flag}")
        variables[name] = value
    return variables


def warnings(names: Iterable[str]) -> list[str]:
    """Return one sentence for each variable that takes the place of one the agent sets."""
    return [f"{name} takes the place of the value that the agent sets" for name in names if name in RESERVED]


def _lines(flag: str, path: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that set something, with their numbers from 1."""
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise RnxError(f"cannot read {flag} {path}: {error.strerror}") from error
    if len(content) > LARGEST_FILE:
        raise RnxError(f"cannot read {flag} {path}: larger than {LARGEST_FILE // 2**20} MB")
    for number, line in enumerate(content.split(b"\n"), start=1):
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            raise UsageError(f"cannot read {path}, line {number}: not valid UTF-8") from None
        if text.strip() and not text.lstrip().startswith("#"):
            yield number, text


def _own_value(flag: str, name: str, own: Mapping[str, str]) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(f"cannot read {flag}: expected KEY=VALUE, or KEY of a variable that is set here")
    if name not in own:
        raise UsageError(
            f"cannot read {flag}: variable {name} is not set here",
            hint=f"write {flag}={name}=VALUE, or export it",
        )
    return own[name]


def _split(text: str, failed: str) -> tuple[str, str]:
    """Return name and value; ``failed`` begins the text of an error."""
    name, equals, value = text.partition("=")
    name = name.strip()
    if not equals:
        raise UsageError(f"{failed}: expected KEY=VALUE, there is no =")
    if not name:
        raise UsageError(f"{failed}: expected KEY=VALUE, the name is empty")
    if not _NAME.fullmatch(name):
        raise UsageError(f"{failed}: a name is made of letters, digits and _, and begins with no digit")
    if "\0" in value:
        raise UsageError(f"{failed}: the value of {name} contains a NUL byte")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:  # of our environment, whose bytes may be any
        raise UsageError(f"{failed}: the value of {name} is not valid UTF-8") from None
    if size > LONGEST_VALUE:
        raise UsageError(f"{failed}: the value of {name} has {size} bytes, the limit is {LONGEST_VALUE}")
    return name, value
