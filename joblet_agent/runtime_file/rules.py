"""What single values of a definition may be: each returns the value; ValueError says what it expects."""

import json
import re
import stat
from posixpath import normpath
from urllib.parse import urlsplit

from joblet_agent.amounts import AmountError, parse_bytes
from joblet_agent.runtime_file.languages import RUNTIME
from joblet_agent.runtime_file.values import From, Image
from joblet_agent.units import parse_timeout
from joblet_agent.yaml_file.problems import shown

NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
_WORDS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
VERSION = re.compile(rf"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*)){{2}}(?:-{_WORDS})?(?:\+{_WORDS})?")
MOST_VERSION = 64
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
MOST_VALUE = 32768
"""Characters of a variable's value: what every published client knows as the limit."""
IMAGE_SCHEME = "docker://"

_APT = re.compile(r"[a-z0-9][a-z0-9+.-]+(?:=[0-9][0-9A-Za-z.+~:-]*)?")
_PIP_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_PIP_VERSION = r"\s*(?:===|==|~=|!=|<=|>=|<|>)\s*[0-9A-Za-z][0-9A-Za-z.*+!-]*\s*"
_PIP = re.compile(
    rf"({_PIP_NAME})\s*(?:\[\s*{_PIP_NAME}(?:\s*,\s*{_PIP_NAME})*\s*\])?\s*"
    rf"({_PIP_VERSION}(?:,{_PIP_VERSION})*)?(?:\s*;[^\\\n]+)?"
)
_HASHES = re.compile(r"(?: --hash=sha256:[0-9a-f]{64})+$")
_NPM = re.compile(r"((?:@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*)(?:@([0-9A-Za-z^~<>=*.|+ -]+))?")
_IMAGE = re.compile(
    r"[a-z0-9]+(?:[._-][a-z0-9]+)*(?::[0-9]{1,5})?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)+"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_CONTROL = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_CONTROL_OR_LINE = re.compile(r"[\0-\x1f\x7f-\x9f\u2028\u2029]")


def line(text: str) -> str:
    """Take text of one line, without control characters."""
    if not text or _CONTROL_OR_LINE.search(text):
        raise ValueError("expected one line without control characters")
    return text


def lines(text: str) -> str:
    """Take text, without control characters but those that end a line."""
    if _CONTROL.search(text):
        raise ValueError("expected a text without control characters")
    return text


def name(text: str) -> str:
    """Take the name of a runtime."""
    if not NAME.fullmatch(text) or ".." in text:
        raise ValueError("expected a name of small letters, digits, - and ., 64 characters at most")
    return text


def version(text: str) -> str:
    """Take the version of a runtime."""
    if len(text) > MOST_VERSION or not VERSION.fullmatch(text):
        raise ValueError("expected a version X.Y.Z, such as 1.0.0 or 1.2.0-rc1")
    return text


def from_runtime(text: str) -> From:
    """Take the spec of an installed runtime."""
    spec, at, wanted = text.partition("@")
    if not at:
        return From(name(spec))
    return From(name(spec), "" if wanted == "latest" else version(wanted))


def image(text: str) -> Image:
    """Take an address of an OCI image in a registry. A path of the host is none: the agent reads as root."""
    if text.startswith(("oci-archive:", "docker-archive:", "oci:", "dir:", "/", ".")):
        raise ValueError(
            "expected an image of a registry, not a path of the host; import the file "
            "(rnx runtime import FILE --name NAME), and write from: NAME"
        )
    if not text.startswith(IMAGE_SCHEME) or not _IMAGE.fullmatch(text.removeprefix(IMAGE_SCHEME)):
        raise ValueError("expected docker://REGISTRY/NAME@sha256:DIGEST")
    return Image(text)


def apt(text: str) -> str:
    """Take a package of the distribution."""
    if not _APT.fullmatch(text):
        raise ValueError("expected a package, NAME or NAME=VERSION")
    return text


def pip(text: str) -> str:
    """Take a package of an index of Python's."""
    if not _PIP.fullmatch(_in_one_line(line(text))):
        raise ValueError("expected a package such as numpy==1.26.2 (no options, addresses, paths)")
    return _in_one_line(text)


def pip_name(text: str) -> str:
    """Return the package that a text means, spelled as indexes do."""
    match = _PIP.match(_in_one_line(text))
    return re.sub(r"[-_.]+", "-", match[1]).lower() if match else ""


def is_pinned_pip(text: str) -> bool:
    """Tell whether exactly one version fits."""
    return "==" in text.partition(";")[0] and "*" not in text and "," not in text.partition("]")[2]


def requirements(text: str) -> str:
    """Take the text of a requirements file: packages, comments, hashes, and no options."""
    joined = re.sub(r"\\\r?\n", " ", lines(text))
    for number, each in enumerate(joined.splitlines(), 1):
        wanted = _HASHES.sub("", _in_one_line(re.sub(r"(^|\s)#.*", "", each)))
        if wanted and not _PIP.fullmatch(wanted):
            raise ValueError(
                "expected packages, each with --hash=sha256:… or without (other options are not offered; "
                f"there is pip.index), not {shown(wanted)} in its line {number}"
            )
    return text


def _in_one_line(text: str) -> str:
    # One space at most between two words, so that no pattern has many ways to divide them.
    return " ".join(text.split())


def index(text: str) -> str:
    """Take the address of an index."""
    try:
        address = urlsplit(line(text))
        is_right = address.scheme in {"http", "https"} and bool(address.hostname) and (address.port or 1) > 0
    except ValueError:
        is_right = False
    if not is_right:
        raise ValueError("expected an address, https://HOST/PATH")
    if "@" in address.netloc:
        raise ValueError("expected an address without a password: a definition is no secret, not ***")
    return text


def npm(text: str) -> str:
    """Take a package of npm's registry."""
    if not _NPM.fullmatch(line(text)):
        raise ValueError("expected a package, NAME or NAME@VERSION, such as typescript@5.4.2")
    return text


def npm_parts(text: str) -> tuple[str, str]:
    """Return name and version, or range; ``""`` for none."""
    match = _NPM.fullmatch(text)
    return (match[1], match[2] or "") if match else (text, "")


def json_object(text: str) -> str:
    """Take the text of a JSON object."""
    try:
        value = json.loads(lines(text))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"expected a JSON object: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object")
    return text


def path(text: str) -> str:
    """Take the place of a file. Nothing else of the tree can be written when files are put there."""
    if not line(text).startswith(f"{RUNTIME}/") or normpath(text) != text or len(text.encode()) > 1024:  # noqa: PLR2004
        raise ValueError(f"expected a path below {RUNTIME}, without .. and doubled /")
    return text


def mode(text: str) -> int:
    """Take the permissions of a file."""
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError('expected permissions such as "0644" or "0755"')
    return int(text, 8) | stat.S_IRUSR


def value(text: str) -> str:
    """Take a variable's value."""
    if len(text) > MOST_VALUE or _CONTROL_OR_LINE.search(text.replace("\t", " ")):
        raise ValueError(f"expected one line without control characters, {MOST_VALUE} of them at most")
    return text


def refused_variable(text: str) -> str:
    """Say why no definition may set the variable; ``""`` if it may."""
    if text.startswith("JOBLET_"):
        return "names that begin with JOBLET_ are the agent's"
    if text in {"LD_PRELOAD", "LD_AUDIT"}:
        return "a definition puts no libraries into every program of every job; a job itself may"
    return ""


def disk(text: str) -> int:
    """Take a size, in bytes."""
    try:
        size = parse_bytes(text)
    except AmountError as error:
        raise ValueError(f"expected a size such as 4GB, not {shown(text)}") from error
    if not size:
        raise ValueError("expected a size such as 4GB")
    return size


def time(text: str) -> float:
    """Take a duration, in seconds."""
    return parse_timeout(text).total_seconds()


def yes_or_no(text: str) -> bool:
    """Take true or false."""
    if text not in {"true", "false"}:
        raise ValueError("expected true or false")
    return text == "true"


def file_name(text: str) -> str:
    """Take the name of a file that is beside the definition."""
    if not _FILE_NAME.fullmatch(text):
        raise ValueError("expected the name of a file beside this one, such as runtime.lock")
    return text
