"""From the text of an index to its values; whatever is wrong with it is told at once.

There are two published forms: ``registry.json`` has an object of versions for each name, the older
``runtime-manifest.json`` a list. Keys that are not known are passed over: whoever publishes an index does so
for agents of many versions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urljoin

from joblet_agent.errors import InvalidRequest
from joblet_agent.runtimes.index.entries import Index, IndexEntry
from joblet_agent.runtimes.index.fields import MOST_WORD, Fields, shown
from joblet_agent.runtimes.index.strict_json import parse
from joblet_agent.runtimes.names import is_name, is_version

__all__ = ["MOST_ENTRIES", "read"]

MOST_ENTRIES: Final = 10_000
_MOST_PROBLEMS = 20
_MOST_TEXT = 1000
_NO_NAME = "expected a name, that is [a-z0-9][a-z0-9.-]*"
_NO_VERSION = "expected a version X.Y.Z"


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
    told = problems[:_MOST_PROBLEMS]
    if len(problems) > len(told):
        told.append(f"and {len(problems) - len(told)} more")
    return InvalidRequest(
        f"cannot use the index {name}: {'; '.join(told)}",
        reason="RUNTIME_INDEX_INVALID",
        hint="whoever publishes it must mend it; its form is in docs/runtimes.md",
    )


@dataclass(frozen=True, slots=True)
class _Form:
    """What the keys of an entry are called."""

    address: str
    size: str
    base: str = ""
    """Where paths of archives begin; empty: in the directory of the index."""


_REGISTRY = _Form("download_url", "size")


@dataclass(slots=True)
class _Reading(Fields):
    """One index while it is read."""

    count: int = 0

    def index(self, tree: Any) -> Index:
        if not isinstance(tree, dict):
            raise ValueError("expected an object with the key 'runtimes'")
        runtimes = tree.get("runtimes")
        if isinstance(runtimes, dict):
            found = self.registry(runtimes)
            updated_at = "updated_at"
        elif isinstance(runtimes, list):
            found = self.manifest(runtimes, _Form("archive_url", "archive_size", self.base(tree)))
            updated_at = "generated"
        else:
            raise ValueError("runtimes: expected an object, with an object of versions for each name")
        return Index(
            version=self.text(tree, "version", "version", MOST_WORD),
            updated_at=self.text(tree, updated_at, updated_at, MOST_WORD),
            runtimes=found,
        )

    def registry(self, runtimes: dict[str, Any]) -> dict[str, tuple[IndexEntry, ...]]:
        found: dict[str, tuple[IndexEntry, ...]] = {}
        for name, versions in runtimes.items():
            if not is_name(name):
                self.problem(f"runtimes.{shown(name)}", _NO_NAME)
            elif not isinstance(versions, dict):
                self.problem(f"runtimes.{name}", "expected an object with its versions")
            else:
                found[name] = tuple(self.entries(name, versions))
        return found

    def entries(self, name: str, versions: dict[str, Any]) -> Iterator[IndexEntry]:
        self.add(len(versions))
        for version, entry in versions.items():
            place = f"runtimes.{name}.{shown(version)}"
            if not is_version(version):
                self.problem(place, _NO_VERSION)
            elif not isinstance(entry, dict):
                self.problem(place, "expected an object")
            else:
                if entry.get("version", version) != version:
                    self.problem(f"{place}.version", f"expected {version}, as its key says")
                yield self.entry(name, version, entry, place, _REGISTRY)

    def manifest(self, runtimes: list[Any], form: _Form) -> dict[str, tuple[IndexEntry, ...]]:
        self.add(len(runtimes))
        found: dict[str, dict[str, IndexEntry]] = {}
        for number, entry in enumerate(runtimes):
            place = f"runtimes[{number}]"
            if not isinstance(entry, dict):
                self.problem(place, "expected an object")
                continue
            name, version = entry.get("name"), entry.get("version")
            if not isinstance(name, str) or not is_name(name):
                self.problem(f"{place}.name", _NO_NAME)
            elif not isinstance(version, str) or not is_version(version):
                self.problem(f"{place}.version", _NO_VERSION)
            elif version in found.setdefault(name, {}):
                self.problem(place, f"{name}@{version} is there already")
            else:
                found[name][version] = self.entry(name, version, entry, place, form)
        return {name: tuple(versions.values()) for name, versions in found.items()}

    def base(self, tree: dict[str, Any]) -> str:
        value = tree.get("base_url")
        if value is None or value == "":
            return ""
        address = self.address(value, "base_url")
        if address.startswith("docker:"):
            self.problem("base_url", "expected the address of a directory")
        return f"{address.rstrip('/')}/"

    def add(self, count: int) -> None:
        self.count += count
        if self.count > MOST_ENTRIES:
            raise ValueError(f"it has more than {MOST_ENTRIES} entries")

    def entry(self, name: str, version: str, entry: dict[str, Any], place: str, form: _Form) -> IndexEntry:
        address = self.address(entry.get(form.address), f"{place}.{form.address}")
        return IndexEntry(
            name=name,
            version=version,
            download_url=address if ":" in address else urljoin(form.base, address),
            checksum=self.sha256(entry, "checksum", place, prefix="sha256:"),
            size=self.size(entry, form.size, place),
            platforms=tuple(self.platforms(entry, place)),
            description=self.text(entry, "description", f"{place}.description", _MOST_TEXT),
            digest=self.sha256(entry, "digest", place),
        )
