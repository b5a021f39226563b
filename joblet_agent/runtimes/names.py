"""What a runtime can be called. Pure: knows nothing of what is installed (catalog.py does).

::

    NAME@VERSION            exactly this version
    NAME, NAME@latest       the newest installed one that is no pre-release
    LANGUAGE:VERSION[-TAGS] the same as LANGUAGE-VERSION-TAGS; with @VERSION behind it as well
    …@ARCHITECTURE          instead of a version: the newest one, for this architecture
"""

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Final

from joblet_agent.errors import InvalidRequest

__all__ = ["ARCHITECTURES", "RuntimeSpec", "SemanticVersion", "is_name", "is_version", "parse_spec"]

MOST_NAME: Final = 64
MOST_VERSION: Final = 64
_MOST_SHOWN = 40
_LATEST = "latest"
ARCHITECTURES: Final = {"amd64": "amd64", "x86_64": "amd64", "arm64": "arm64", "aarch64": "arm64"}
"""What may be asked for, and Debian's word for it."""

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_LANGUAGE_FORM = re.compile(r"([a-z0-9][a-z0-9.]*):([a-z0-9][a-z0-9.-]*)")
_VERSION = re.compile(
    r"(?P<core>(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*)){2})"
    r"(?:-(?P<pre>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
    r"(?:\+(?P<build>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """What somebody asks for, understood."""

    text: str
    """As it was given."""
    name: str
    version: str = ""
    """Empty: the newest."""
    architecture: str = ""
    """Debian's word; empty: the host's."""

    def __str__(self) -> str:
        """Return the normal form."""
        return f"{self.name}@{self.version}" if self.version else self.name


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class SemanticVersion:
    """A version, in the order of semver.org 2.0.0; where that knows none, in that of the texts."""

    text: str
    core: tuple[int, ...]
    pre: tuple[tuple[int, int, str], ...]
    """Identifiers of the pre-release; numbers before words."""

    @classmethod
    def of(cls, text: str) -> "SemanticVersion":
        """Read ``X.Y.Z[-PRE][+BUILD]``. Raises ValueError."""
        found = _VERSION.fullmatch(text) if len(text) <= MOST_VERSION else None
        if found is None:
            raise ValueError(f"{text[:_MOST_SHOWN]!r} is not X.Y.Z")
        pre = tuple(
            (0, int(part), "") if part.isdecimal() else (1, 0, part)
            for part in (found["pre"] or "").split(".")
            if part
        )
        return cls(text, tuple(map(int, found["core"].split("."))), pre)

    @property
    def is_pre_release(self) -> bool:
        """Say whether it comes before the version of the same numbers."""
        return bool(self.pre)

    @property
    def _order(self) -> tuple[object, ...]:
        return (self.core, not self.pre, self.pre, self.text)

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, SemanticVersion) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)

    def __lt__(self, other: "SemanticVersion") -> bool:
        return self._order < other._order


def is_name(text: str) -> bool:
    """Say whether a runtime can have this name; it is safe as the name of a directory."""
    return len(text) <= MOST_NAME and _NAME.fullmatch(text) is not None


def is_version(text: str) -> bool:
    """Say whether a runtime can have this version; it is safe as part of a file's name."""
    return len(text) <= MOST_VERSION and _VERSION.fullmatch(text) is not None


def parse_spec(text: str) -> RuntimeSpec:
    """Understand what somebody asks for. Raises InvalidRequest with the reason RUNTIME_SPEC_INVALID."""
    name, at, version = text.partition("@")
    if form := _LANGUAGE_FORM.fullmatch(name):
        name = f"{form[1]}-{form[2]}"
    if not is_name(name):
        raise _invalid(text, _fault_of_name(name))
    if not at or version == _LATEST:
        return RuntimeSpec(text, name)
    if version in ARCHITECTURES:
        return RuntimeSpec(text, name, architecture=ARCHITECTURES[version])
    if not is_version(version):
        raise _invalid(text, f"its version {_shown(version)} is neither X.Y.Z nor 'latest'")
    return RuntimeSpec(text, name, version)


def _fault_of_name(name: str) -> str:
    if not name:
        return "it has no name"
    if len(name) > MOST_NAME:
        return f"its name has {len(name)} characters, at most {MOST_NAME} are possible"
    if ":" in name:
        return "only LANGUAGE:VERSION has a colon, one and before any other separator"
    return "a name has a-z, 0-9, '.' and '-', and begins with a letter or digit"


def _invalid(text: str, fault: str) -> InvalidRequest:
    return InvalidRequest(
        f"cannot use runtime {_shown(text)}: {fault}",
        reason="RUNTIME_SPEC_INVALID",
        hint="as python-3.11-ml, python-3.11-ml@1.2.0, python:3.11-ml; see: rnx runtime list",
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "...")
