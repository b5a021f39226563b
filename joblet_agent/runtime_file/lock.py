"""Lock files: exactly what a build took, so that the next one takes the same. Hashes are mandatory. Pure.

One line for each package of the distribution (``NAME=VERSION ARCHITECTURE sha256:HEX``) and of Python
(``NAME==VERSION --hash=sha256:HEX ...``); for Node the text of npm's own package-lock.json.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from joblet_agent.runtime_file import rules
from joblet_agent.runtime_file.languages import SUITES
from joblet_agent.runtime_file.values import Definition
from joblet_agent.yaml_file.kinds import UNREADABLE, Key, ListOf, Scalar, SectionOf
from joblet_agent.yaml_file.nodes import Entries, parse
from joblet_agent.yaml_file.problems import FileInvalid, Mark, Problems, TooManyProblems, shown

FILE_NAME = "runtime.lock"
SCHEMA_VERSION = "1.0"
MOST_BYTES = 8 * 1024 * 1024
"""Of a file, in UTF-8: npm's lock of a large application has some megabytes."""

_HEX = r"[0-9a-f]{64}"
_PACKAGE = re.compile(rf"([a-z0-9][a-z0-9+.-]+)=([0-9][0-9A-Za-z.+~:-]*) ([a-z0-9-]+) sha256:({_HEX})")
_WHEEL = re.compile(
    rf"([A-Za-z0-9][A-Za-z0-9._-]*)==([0-9A-Za-z][0-9A-Za-z.+!-]*)((?: --hash=sha256:{_HEX})+)"
)
_INTEGRITY = re.compile(r"sha512-[A-Za-z0-9+/]{86}==")


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """A package of the distribution."""

    name: str
    version: str
    architecture: str
    """Debian's word; ``all`` for any."""
    sha256: str
    """Of the package's file."""

    def __str__(self) -> str:
        return f"{self.name}={self.version}"

    @property
    def line(self) -> str:
        """Return what the file has of it."""
        return f"{self} {self.architecture} sha256:{self.sha256}"


@dataclass(frozen=True, slots=True)
class LockedWheel:
    """A package of Python."""

    name: str
    version: str
    hashes: tuple[str, ...]
    """SHA-256 of the files that will do; never empty."""

    @property
    def requirement(self) -> str:
        """Return the line of a requirements file."""
        return f"{self.name}=={self.version}" + "".join(f" --hash=sha256:{each}" for each in self.hashes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A lock file."""

    wants: str
    """What the definition asked for (``wants_of``), in short."""
    architecture: str
    """Of the host that it was made on; packages of others have other hashes."""
    suite: str = ""
    base: str = ""
    """Digest of the runtime or image that the tree begins as: ``sha256:HEX``; empty for a distribution."""
    packages: tuple[LockedPackage, ...] = ()
    wheels: tuple[LockedWheel, ...] = ()
    package_lock: str = ""

    @property
    def requirements(self) -> str:
        """Return the text of a requirements file, for ``--require-hashes``."""
        return "".join(f"{each.requirement}\n" for each in self.wheels)

    def text(self) -> str:
        """Return the file that ``load_lock`` reads back. Raises ValueError if it could not."""
        lines = [
            "# Made by rnx runtime lock, or by a build. Do not edit; make it anew.",
            f'schema_version: "{SCHEMA_VERSION}"',
            f"wants: {self.wants}",
            f"architecture: {self.architecture}",
            *([f"suite: {self.suite}"] if self.suite else []),
            *([f"base: {self.base}"] if self.base else []),
            *(["apt:"] if self.packages else []),
            *(f"- {each.line}" for each in sorted(self.packages, key=str)),
            *(["pip:"] if self.wheels else []),
            *(f"- {each.requirement}" for each in sorted(self.wheels, key=lambda each: each.name)),
        ]
        if self.package_lock:
            whole = json.dumps(json.loads(self.package_lock), indent=1)  # ASCII: any text is safe in YAML
            lines += ["npm: |2", *(f"  {line}" for line in whole.splitlines())]
        text = "\n".join([*lines, ""])
        try:
            load_lock(text)
        except FileInvalid as error:
            raise ValueError(f"this is no lock: {'; '.join(error.shown(FILE_NAME))}") from error
        return text


def wants_of(definition: Definition) -> str:
    """Return a digest of everything in a definition that decides which packages are taken."""
    parts = {
        "base": [type(definition.base).__name__, asdict(definition.base)],
        "suite": definition.suite,
        "apt": sorted(definition.apt),
        "pip": asdict(definition.pip),
        "npm": asdict(definition.npm),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def differences(definition: Definition, lock: Lock, architecture: str) -> tuple[str, ...]:
    """Say why a lock is not one of this definition, on this host; nothing if it is."""
    return tuple(_differences(definition, lock, architecture))


def _differences(definition: Definition, lock: Lock, architecture: str) -> Iterator[str]:
    if lock.architecture != architecture:
        yield f"the lock is for {lock.architecture}, and this host is {architecture}"
    if lock.suite != definition.suite:
        yield f"the lock is of {lock.suite or 'no suite'}, the definition of {definition.suite or 'none'}"
    if lock.wants == wants_of(definition):
        return
    packages = {each.name: each for each in lock.packages}
    for each in definition.apt:
        name, _, version = each.partition("=")
        if name not in packages:
            yield f"the lock has no package {name}"
        elif version and packages[name].version != version:
            yield f"the lock has {packages[name]}, the definition {each}"
    wheels = {rules.pip_name(each.name) for each in lock.wheels}
    for each in definition.pip.packages:
        if rules.pip_name(each) not in wheels:
            yield f"the lock has no {rules.pip_name(each)} for pip"
    yield "the definition asks for other packages than the lock was made of; make it anew (rnx runtime lock)"


def load_lock(text: str, name: str = FILE_NAME) -> Lock:
    """Read and check the text of a lock file; raise FileInvalid with all that is wrong.

    ``name`` is that of the file, for symmetry with ``load``.
    """
    del name
    problems = Problems()
    try:
        lock = _load(text, problems)
    except TooManyProblems:
        lock = None
    if lock is None or problems.found:
        raise FileInvalid(problems.sorted())
    return lock


def _load(text: str, problems: Problems) -> Lock | None:
    if len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        problems.add(Mark(), "", f"the file has more than {MOST_BYTES} bytes")
        return None
    root = parse(text, problems)
    if not isinstance(root, Entries):
        if not problems.found:
            problems.add(Mark(1, 1), "", "this is no lock file; make one (rnx runtime lock)")
        return None
    values = _FILE.read(root, "", problems)
    for key in ("schema_version", "wants", "architecture"):
        if key not in root.entries:
            problems.add(Mark(1, 1), key, "is missing")
    if problems.found or values is UNREADABLE:
        return None
    packages, wheels = values.get("apt", ()), values.get("pip", ())
    for key, names in (
        ("apt", [f"{each.name} ({each.architecture})" for each in packages]),
        ("pip", [rules.pip_name(each.name) for each in wheels]),
    ):
        for each, number in Counter(names).items():
            if number > 1:
                problems.add(root.marks[key], key, f"{each} is there twice")
    return Lock(
        wants=values["wants"],
        architecture=values["architecture"],
        suite=values.get("suite", ""),
        base=values.get("base", ""),
        packages=packages,
        wheels=wheels,
        package_lock=values.get("npm", ""),
    )


def _schema_version(text: str) -> str:
    if text != SCHEMA_VERSION:
        raise ValueError(f'expected "{SCHEMA_VERSION}"; a newer agent reads other locks')
    return text


def _matches(pattern: str, what: str) -> Scalar:
    def parse_text(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"expected {what}")
        return text

    return Scalar(parse_text)


def _package(text: str) -> LockedPackage:
    match = _PACKAGE.fullmatch(text)
    if match is None:
        raise ValueError("expected NAME=VERSION ARCHITECTURE sha256:HEX")
    return LockedPackage(match[1], match[2], match[3], match[4])


def _wheel(text: str) -> LockedWheel:
    match = _WHEEL.fullmatch(text)
    if match is None:
        raise ValueError("expected NAME==VERSION --hash=sha256:HEX")
    return LockedWheel(match[1], match[2], tuple(match[3].replace(" --hash=sha256:", " ").split()))


def _package_lock(text: str) -> str:
    """Take npm's lock: each package of it has an address and a hash, or is part of one that has."""
    value: Any = json.loads(rules.json_object(text))
    packages = value.get("packages")
    if value.get("lockfileVersion") not in {2, 3} or not isinstance(packages, dict):
        raise ValueError("expected a package-lock.json of version 2 or 3, not another one")
    for path, each in packages.items():
        if path == "" or (isinstance(each, dict) and each.get("inBundle") is True):
            continue
        hashes = each.get("integrity") if isinstance(each, dict) else None
        if not isinstance(hashes, str) or not all(map(_INTEGRITY.fullmatch, hashes.split() or [""])):
            raise ValueError(f"expected an integrity (sha512) of each package, not none of {shown(path)}")
    return text


_FILE = SectionOf(
    (
        Key("schema_version", Scalar(_schema_version), "Of this form."),
        Key("wants", _matches(_HEX, "64 hexadecimal digits"), "What the definition asked for."),
        Key("architecture", _matches("[a-z0-9-]{1,20}", "a word such as amd64"), "Of the host."),
        Key("suite", _matches("|".join(SUITES), f"one of {', '.join(SUITES)}"), "Of the distribution."),
        Key("base", _matches(rf"sha256:{_HEX}", "sha256:HEX"), "What the tree begins as."),
        Key("apt", ListOf(Scalar(_package)), "Packages of the distribution."),
        Key("pip", ListOf(Scalar(_wheel)), "Packages of Python."),
        Key("npm", Scalar(_package_lock), "Text of package-lock.json."),
    )
)
