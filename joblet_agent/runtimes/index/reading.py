"""From the text of an index to its values; whatever is wrong with it is told at once.

Keys that are not known are passed over: whoever publishes an index does so for agents of many versions.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from joblet_agent.errors import InvalidRequest
from joblet_agent.model.web import file_address, web_address
from joblet_agent.runtimes.index.entries import Index, IndexEntry
from joblet_agent.runtimes.index.strict_json import parse
from joblet_agent.runtimes.names import is_name, is_version

__all__ = ["MOST_ENTRIES", "read"]

MOST_ENTRIES: Final = 10_000
_MOST_PROBLEMS = 20
_MOST_TEXT = 1000
_MOST_WORD = 64
_MOST_PLATFORMS = 32
_LARGEST = 1 << 62
_PLATFORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_PINNED_IMAGE = re.compile(r"docker://[a-z0-9.-]+(?::[0-9]{1,5})?(?:/[a-z0-9._-]+)+@sha256:[0-9a-f]{64}")
_RELATIVE = re.compile(r"(?!/)[A-Za-z0-9._~%+,=@/-]{1,1024}")


def read(data: bytes, name: str) -> Index:
    """Return the index; ``name`` is its address, for the error. Blocking.

    Raises InvalidRequest with all that is wrong with it, up to twenty problems.
    """
    reading = _Reading()
    try:
        index = reading.index(parse(data))
    except ValueError as error:
        raise _invalid(name, [str(error)]) from None
    if reading.problems:
        raise _invalid(name, reading.problems)
    return index


def _invalid(name: str, problems: list[str]) -> InvalidRequest:
    shown = problems[:_MOST_PROBLEMS]
    if len(problems) > len(shown):
        shown.append(f"and {len(problems) - len(shown)} more")
    return InvalidRequest(
        f"cannot use the index {name}: {'; '.join(shown)}",
        reason="RUNTIME_INDEX_INVALID",
        hint="whoever publishes it must mend it; its form is in docs/runtimes.md",
    )


@dataclass(slots=True)
class _Reading:
    """One index while it is read."""

    problems: list[str] = field(default_factory=list)
    count: int = 0

    def index(self, tree: Any) -> Index:
        if not isinstance(tree, dict):
            raise ValueError("expected an object with the key 'runtimes'")
        runtimes = tree.get("runtimes")
        if not isinstance(runtimes, dict):
            raise ValueError("runtimes: expected an object, with an object of versions for each name")
        found: dict[str, tuple[IndexEntry, ...]] = {}
        for name, versions in runtimes.items():
            if not is_name(name):
                self.problem(f"runtimes.{_shown(name)}", "expected a name, that is [a-z0-9][a-z0-9.-]*")
            elif not isinstance(versions, dict):
                self.problem(f"runtimes.{name}", "expected an object with its versions")
            else:
                found[name] = tuple(self.entries(name, versions))
        return Index(
            version=self.text(tree, "version", "version", _MOST_WORD),
            updated_at=self.text(tree, "updated_at", "updated_at", _MOST_WORD),
            runtimes=found,
        )

    def entries(self, name: str, versions: dict[str, Any]) -> Iterator[IndexEntry]:
        self.count += len(versions)
        if self.count > MOST_ENTRIES:
            raise ValueError(f"it has more than {MOST_ENTRIES} entries")
        for version, entry in versions.items():
            place = f"runtimes.{name}.{_shown(version)}"
            if not is_version(version):
                self.problem(place, "expected a version X.Y.Z")
            elif not isinstance(entry, dict):
                self.problem(place, "expected an object")
            else:
                yield self.entry(name, version, entry, place)

    def entry(self, name: str, version: str, entry: dict[str, Any], place: str) -> IndexEntry:
        if entry.get("version", version) != version:
            self.problem(f"{place}.version", f"expected {version}, as its key says")
        return IndexEntry(
            name=name,
            version=version,
            download_url=self.address(entry.get("download_url"), f"{place}.download_url"),
            checksum=self.sha256(entry, "checksum", place, prefix="sha256:"),
            size=self.size(entry, place),
            platforms=tuple(self.platforms(entry, place)),
            description=self.text(entry, "description", f"{place}.description", _MOST_TEXT),
            digest=self.sha256(entry, "digest", place),
        )

    def text(self, tree: dict[str, Any], key: str, place: str, most: int) -> str:
        value = tree.get(key)
        if value is None:
            return ""
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or len(value) > most or not value.isprintable():
            self.problem(place, f"expected a text of at most {most} printable characters")
            return ""
        return value

    def address(self, value: Any, place: str) -> str:
        try:
            return _address(value)
        except ValueError as error:
            self.problem(place, str(error))
            return ""

    def sha256(self, entry: dict[str, Any], key: str, place: str, prefix: str = "") -> str:
        value = entry.get(key)
        if value is None or value == "":
            return ""
        digits = value.removeprefix(prefix) if isinstance(value, str) else ""
        if not _SHA256.fullmatch(digits):
            self.problem(f"{place}.{key}", f"expected {prefix}HEX, with 64 hexadecimal digits")
            return ""
        return digits.lower()

    def size(self, entry: dict[str, Any], place: str) -> int:
        value = entry.get("size")
        if value is None:
            return 0
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST:
            self.problem(f"{place}.size", "expected a number of bytes")
            return 0
        return value

    def platforms(self, entry: dict[str, Any], place: str) -> Iterator[str]:
        values = entry.get("platforms")
        if values is None:
            return
        if not isinstance(values, list) or len(values) > _MOST_PLATFORMS:
            self.problem(f"{place}.platforms", f"expected a list of at most {_MOST_PLATFORMS}")
            return
        for number, value in enumerate(values):
            if isinstance(value, str) and _PLATFORM.fullmatch(value):
                yield value
            else:
                self.problem(f"{place}.platforms[{number}]", "expected a platform such as linux-amd64")

    def problem(self, place: str, text: str) -> None:
        self.problems.append(f"{place}: {text}")


def _address(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("expected the address of the archive")
    if value.startswith("docker:"):
        if not _PINNED_IMAGE.fullmatch(value):
            raise ValueError("expected docker://HOST/NAME@sha256:HEX")
    elif value.startswith("file:"):
        file_address(value)
    elif ":" in value:
        web_address(value)
    elif not _RELATIVE.fullmatch(value) or {"", ".", ".."} & set(unquote(value).split("/")):
        raise ValueError("expected an address, or a path below the directory of the index")
    return value


def _shown(text: str) -> str:
    return text if text.isprintable() and len(text) <= _MOST_WORD else repr(text[:_MOST_WORD])
