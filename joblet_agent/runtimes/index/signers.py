"""Keys whose signatures count: what is in the directory ``runtimes.keys``.

Each file there has public keys, one a line: as ssh-keygen(1) writes them (``ssh-ed25519 AAAA… comment``), or
with a name and options in front, as in its ALLOWED SIGNERS. A line that cannot be used is an error, not
passed over: who restricts a key by an option that is not known here must not find it without the restriction.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from joblet_agent.errors import WrongState

__all__ = ["KEY_TYPE", "Signer", "read_line", "read_signers"]

KEY_TYPE: Final = b"ssh-ed25519"
_KEY_BLOB = re.compile(rb"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20(.{32})", re.DOTALL)
_MOST_FILES = 100
_MOST_BYTES = 64 << 10
_FIELD = re.compile(r'((?:"[^"]*"|[^\s"])+)(?:\s+|\Z)')
_OPTION = re.compile(r'(namespaces|valid-after|valid-before)="([^"]*)"', re.IGNORECASE)
_TIMES = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


@dataclass(frozen=True, slots=True)
class Signer:
    """A key, and what its signatures count for."""

    name: str
    key: bytes
    """Public key, 32 bytes."""
    namespaces: tuple[str, ...] = ()
    """Patterns; none: for all."""
    valid_after: datetime | None = None
    valid_before: datetime | None = None

    def check(self, namespace: str, now: datetime) -> None:
        """Raise ValueError where a signature does not count for this namespace or at this time."""
        if self.namespaces and not any(fnmatchcase(namespace, pattern) for pattern in self.namespaces):
            raise ValueError(f"the key of {self.name} does not count for {namespace}")
        if self.valid_after is not None and now < self.valid_after:
            raise ValueError(f"the key of {self.name} does not count yet")
        if self.valid_before is not None and now >= self.valid_before:
            raise ValueError(f"the key of {self.name} does not count any more")


def read_signers(directory: Path) -> tuple[Signer, ...]:
    """Read all files of the directory that do not begin with a dot. Blocking.

    Raises WrongState for a file or line that cannot be used, and where there is no key.
    """
    found: list[Signer] = []
    try:
        paths = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
        for path in paths[:_MOST_FILES]:
            if path.is_file():
                found.extend(_read_file(path))
    except FileNotFoundError:
        paths = []
    except OSError as error:
        raise _unusable(f"{directory}: {error.strerror}") from error
    if len(paths) > _MOST_FILES:
        raise _unusable(f"{directory} has more than {_MOST_FILES} files")
    if not found:
        raise _unusable(f"{directory} has no key")
    return tuple(found)


def _read_file(path: Path) -> list[Signer]:
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise _unusable(f"{path} has more than {_MOST_BYTES >> 10} KiB")
    found = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if (text := line.strip()) and not text.startswith("#"):
            try:
                found.append(read_line(text))
            except ValueError as error:
                raise _unusable(f"{path}, line {number}: {error}") from None
    return found


def read_line(text: str) -> Signer:
    """Read one line. Raises ValueError with what is wrong."""
    fields = _FIELD.findall(text)
    kinds = [
        number for number, word in enumerate(fields) if re.fullmatch(r"(sk-)?(ssh|ecdsa)-[a-z0-9@.-]+", word)
    ]
    if not kinds or kinds[0] + 1 >= len(fields) or kinds[0] > 2:  # noqa: PLR2004 - name and options in front
        raise ValueError("expected a public key, such as: ssh-ed25519 AAAA… NAME")
    place = kinds[0]
    kind, encoded, comment = fields[place], fields[place + 1], " ".join(fields[place + 2 :])
    if kind.encode() != KEY_TYPE:
        raise ValueError(f"the key is of the type {kind}, expected {KEY_TYPE.decode()}")
    options = fields[1] if place == 2 else ""  # noqa: PLR2004
    return Signer(
        name=(fields[0].strip('"') if place else comment) or "a key without a name",
        key=_key(encoded),
        **_options(options),  # type: ignore[arg-type]
    )


def _key(encoded: str) -> bytes:
    try:
        match = _KEY_BLOB.fullmatch(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError):
        match = None
    if match is None:
        raise ValueError("what follows ssh-ed25519 is no such key")
    return match.group(1)


def _options(text: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for option in re.findall(r'(?:"[^"]*"|[^",])+', text):
        match = _OPTION.fullmatch(option)
        if match is None:
            raise ValueError(f"the option {option.partition('=')[0]} is not known here")
        name, value = match.group(1).lower().replace("-", "_"), match.group(2)
        found[name] = _patterns(value) if name == "namespaces" else _time(value)
    return found


def _patterns(text: str) -> tuple[str, ...]:
    patterns = tuple(text.split(","))
    if not all(re.fullmatch(r"[A-Za-z0-9@._*?-]+", pattern) for pattern in patterns):
        raise ValueError(f"expected namespaces, with * and ? in them, not {text!r}")
    return patterns


def _time(text: str) -> datetime:
    digits = text.removesuffix("Z")
    form = _TIMES.get(len(digits))
    if form is None or not digits.isascii() or not digits.isdigit():
        raise ValueError(f"expected a time such as 20270131Z, not {text!r}")
    found = datetime.strptime(digits, form)
    return found.replace(tzinfo=UTC) if text.endswith("Z") else found.astimezone()


def _unusable(what: str) -> WrongState:
    return WrongState(
        f"cannot check signatures: {what}",
        reason="RUNTIME_KEYS_UNUSABLE",
        hint="put the public keys that sign indexes into files there, as ssh-keygen(1) writes them (KEY.pub)",
    )
