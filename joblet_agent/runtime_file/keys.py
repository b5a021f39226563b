"""Every key that a definition may have: what it takes and what it means.

The one list of them: reading, the JSON Schema and the manual page are made from it.
"""

from dataclasses import dataclass, replace
from typing import Any

from joblet_agent.runtime_file import rules
from joblet_agent.runtime_file.languages import ALIASES, ARCHITECTURES, NAMES, SUITES
from joblet_agent.yaml_file.kinds import Key, ListOf, MapOf, Scalar, Schema, SectionOf
from joblet_agent.yaml_file.nodes import Entries, Node
from joblet_agent.yaml_file.problems import Problems, near, shown

VERSIONS = ("1.0", "1.1")
"""Of the schema; what the public editor writes is the first."""

_TEXT: Schema = {"type": ["string", "number", "boolean"]}
_BOOL = Scalar(rules.yes_or_no, {"type": ["boolean", "string"]})
_VARIABLE_NAMES = "a variable (letters, digits and _, no digit first)"


@dataclass(frozen=True, slots=True)
class _OneOf:
    """One of some words; ``others`` are read as those that they stand for."""

    known: tuple[str, ...]
    others: dict[str, str]

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        return Scalar(self._parse).read(node, key, problems)

    def _parse(self, text: str) -> str:
        text = self.others.get(text, text)
        if text not in self.known:
            hint = near(text.lower(), self.known)
            raise ValueError(f"expected {' or '.join(self.known)}, not {shown(text)}{hint}")
        return text

    def schema(self) -> Schema:
        numbers = [float(each) for each in self.known if each[0].isdecimal()]  # without quotes
        return {"enum": [*self.known, *self.others, *numbers]}


@dataclass(frozen=True, slots=True)
class _Variables:
    """Variables of jobs."""

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        values = _VALUES.read(node, key, problems)
        for name, mark in node.marks.items() if isinstance(node, Entries) else ():
            why = rules.refused_variable(name)
            if why:
                problems.add(mark, f"{key}.{name}", why)
        return values

    def schema(self) -> Schema:
        return _VALUES.schema()


@dataclass(frozen=True, slots=True)
class _File:
    """A file that has a path and a content."""

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        there = node.entries if isinstance(node, Entries) else ("path", "content")
        for name in ("path", "content"):
            if name not in there:
                problems.add(node.mark, f"{key}.{name}", "is missing")
        return FILE.read(node, key, problems)

    def schema(self) -> Schema:
        return {**FILE.schema(), "required": ["path", "content"]}


_VALUES = MapOf(Scalar(rules.value, _TEXT), rules.VARIABLE, _VARIABLE_NAMES)
_PIP_LIST = ListOf(Scalar(rules.pip, _TEXT))
_NPM_LIST = ListOf(Scalar(rules.npm, _TEXT))

BASE = SectionOf(
    (
        Key("language", _OneOf(NAMES, dict(ALIASES)), f"{', '.join(NAMES)}."),
        Key("version", Scalar(rules.line, _TEXT), 'Of the language, such as "3.11".'),
    )
)
PIP = SectionOf(
    (
        Key("packages", _PIP_LIST, "As the list alone."),
        Key("requirements", Scalar(rules.requirements, _TEXT), "Text of a requirements file."),
        Key("index", Scalar(rules.index, _TEXT), "Address of an index in place of the agent's."),
    ),
    alone=_PIP_LIST,
)
NPM = SectionOf(
    (
        Key("packages", _NPM_LIST, "As the list alone."),
        Key("package_json", Scalar(rules.json_object, _TEXT), "Text of package.json."),
        Key("package_lock", Scalar(rules.json_object, _TEXT), "Text of package-lock.json."),
    ),
    alone=_NPM_LIST,
)
FILE = SectionOf(
    (
        Key("path", Scalar(rules.path, _TEXT), "Where it is in the tree, below /opt/runtime."),
        Key("content", Scalar(rules.lines, _TEXT), "Its text."),
        Key("mode", Scalar(rules.mode, _TEXT), 'Its permissions ("0644").'),
    )
)
HOOKS = SectionOf(
    (
        Key(
            "pre_install",
            Scalar(rules.lines, _TEXT),
            "Shell, before the packages; as root of the build's own users, so that apt-get works.",
        ),
        Key("post_install", Scalar(rules.lines, _TEXT), "Shell, after all packages; it writes /opt/runtime."),
    )
)
GPU = SectionOf(
    (
        Key("required", _BOOL, "Jobs with it need a GPU of the host."),
        Key("driver", _OneOf(("host",), {}), "Whose driver: always the host's."),
    )
)
LIMITS = SectionOf(
    (
        Key("disk", Scalar(rules.disk, _TEXT), "Most bytes of the tree, such as 4GB."),
        Key("time", Scalar(rules.time, _TEXT), "Longest time of the build, such as 30m."),
        Key("network", _BOOL, "Whether hooks reach the network (true)."),
    )
)

_FIRST = (
    Key("schema_version", _OneOf(VERSIONS, {}), "Of this form: 1.1; 1.0 is what the public editor writes."),
    Key("name", Scalar(rules.name, {**_TEXT, "pattern": f"^{rules.NAME.pattern}$"}), "Of the runtime."),
    Key("version", Scalar(rules.version, _TEXT), "Of the runtime: X.Y.Z."),
    Key("description", Scalar(rules.lines, _TEXT), "For people."),
    Key("base", BASE, "The language; the distribution comes with it."),
)
_SECOND = (
    Key("environment", _Variables(), "Variables of jobs; PATH_PREPEND goes in front of PATH."),
    Key("hooks", HOOKS, "Shell that is run in the tree, never on the host."),
    Key("gpu", GPU, "What it needs of the host."),
)
KEYS = (
    *_FIRST,
    Key("from", Scalar(rules.from_runtime, _TEXT), "In place of base: an installed runtime, NAME@VERSION."),
    Key(
        "image",
        Scalar(rules.image, _TEXT),
        "In place of base: an OCI image of a registry, docker://REGISTRY/NAME@sha256:DIGEST.",
    ),
    Key("suite", _OneOf(tuple(SUITES), {}), f"Release of the distribution: {', '.join(SUITES)}."),
    Key(
        "architectures",
        ListOf(Scalar(rules.line, _TEXT)),
        f"Of hosts: {', '.join(ARCHITECTURES)}.",
    ),
    Key("apt", ListOf(Scalar(rules.apt, _TEXT)), "Packages of the distribution: NAME or NAME=VERSION."),
    Key("pip", PIP, "Packages of Python: NAME==VERSION."),
    Key("npm", NPM, "Packages of Node: NAME@VERSION."),
    Key("files", ListOf(_File()), "Files that it brings along."),
    *_SECOND,
    Key("test", Scalar(rules.lines, _TEXT), "Shell command that tells whether the runtime works."),
    Key("limits", LIMITS, "Of the build."),
    Key("lock", Scalar(rules.file_name, _TEXT), "Lock file beside this one (rnx runtime lock)."),
)
DEFINITION = SectionOf(KEYS)

_NEWER = 'needs schema_version: "1.1"'
_OLDER_KEYS = (
    *_FIRST,
    Key("pip", _PIP_LIST, "Packages of Python."),
    Key("npm", _NPM_LIST, "Packages of Node."),
    *_SECOND,
    Key("libraries", ListOf(Scalar(rules.line, _TEXT)), "Not used: a runtime has its libraries."),
)
OLDER = SectionOf(
    (
        *_OLDER_KEYS,
        *(
            replace(key, refused=_NEWER)
            for key in KEYS
            if key.name not in {each.name for each in _OLDER_KEYS}
        ),
    )
)
"""Schema 1.0."""
