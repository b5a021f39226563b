"""Older forms: ``manifest.yaml`` of the public registry, and ``runtime.yml`` of what its scripts set up.

A manifest says what is in a runtime, so it can be built; what builds it there is a script that copies
programs from the machine it runs on, and such scripts are not run. A ``runtime.yml`` with ``mounts``
says where such copies appear in jobs; it has nothing to build from, so it is refused with what to do instead.
"""

import re
from collections.abc import Mapping
from posixpath import basename
from typing import Any

from joblet_agent.runtime_file import rules
from joblet_agent.runtime_file.keys import KEYS
from joblet_agent.runtime_file.languages import ALIASES, ARCHITECTURES, LANGUAGES, NAMES
from joblet_agent.yaml_file.kinds import UNREADABLE, Key, ListOf, Scalar, SectionOf
from joblet_agent.yaml_file.nodes import Entries, Items, Text
from joblet_agent.yaml_file.problems import Problem, Problems, shown

_OF_MANIFEST = {"packages", "platforms", *(f"{name}_version" for name in (*NAMES, *ALIASES))}
_OF_INSTALLED = {"mounts"}
_FILES = {"manifest.yaml": _OF_MANIFEST, "manifest.yml": _OF_MANIFEST, "runtime.yml": _OF_INSTALLED}
_LANGUAGE_IN_NAME = re.compile(r"([a-z]+?)(?:jdk)?-([0-9]+(?:\.[0-9]+)?)(?:-.*)?")
_ROOT = ("/bin", "/lib", "/usr")
"""Where a root has its programs and libraries."""

_BY_NAME = {each.name: each for each in KEYS}
_ANY_TEXT = Scalar(rules.lines)
MANIFEST = SectionOf(
    (
        *(_BY_NAME[name] for name in ("name", "version", "description", "environment")),
        Key("language", _ANY_TEXT, ""),
        *(Key(f"{name}_version", Scalar(rules.line), "") for name in (*NAMES, *ALIASES)),
        Key("platforms", ListOf(Scalar(rules.line)), ""),
        Key("packages", ListOf(Scalar(rules.pip)), ""),
    )
)


def is_older(root: Entries, name: str) -> bool:
    """Tell by the keys; the file's name alone makes none older."""
    if "schema_version" in root.entries:
        return False
    keys = _FILES.get(basename(name), _OF_MANIFEST | _OF_INSTALLED)
    return "base" not in root.entries and not keys.isdisjoint(root.entries)


def read(root: Entries, name: str, said: list[Problem], problems: Problems) -> Any:
    """Return values as of a definition, or UNREADABLE. Appends to ``said`` what is not used."""
    if "mounts" in root.entries:
        problems.add(root.marks["mounts"], "mounts", _why_not(root))
        return UNREADABLE
    known = {key: value for key, value in root.entries.items() if key in MANIFEST.known}
    said += (
        Problem(root.marks[key], shown(key)[1:-1], "not used")
        for key in root.entries
        if key not in MANIFEST.known
    )
    values = MANIFEST.read(Entries(root.mark, known, root.marks), "", problems)
    return _as_definition(values, root, problems)


def _as_definition(values: Mapping[str, Any], root: Entries, problems: Problems) -> Any:
    language, version = _language(values)
    if (language, version) not in LANGUAGES:
        problems.add(
            root.mark,
            "",
            f"it says no language that can be built ({language} {version}); write a definition with "
            "schema_version and base (rnx runtime schema)".replace(" ( )", ""),
        )
        return UNREADABLE
    result = {key: values[key] for key in ("name", "version", "description", "environment") if key in values}
    # Read again as sections of a definition, so that one reader puts all forms together.
    mark = root.mark
    base = {"language": Text(mark, language), "version": Text(mark, version, False)}
    root.entries["base"] = Entries(mark, base, dict.fromkeys(base, mark))  # type: ignore[arg-type]
    root.marks["base"] = mark
    result["base"] = {"language": language, "version": version}
    platforms = values.get("platforms", ())
    result["architectures"] = tuple(dict.fromkeys(_architecture(each) for each in platforms))
    if platforms and not set(result["architectures"]) & set(ARCHITECTURES):
        problems.add(root.marks["platforms"], "platforms", f"none of them is of {' or '.join(ARCHITECTURES)}")
    if "packages" in values and language == "python":
        result["pip"] = values["packages"]
        root.entries["pip"], root.marks["pip"] = root.entries["packages"], root.marks["packages"]
    return result


def _language(values: Mapping[str, Any]) -> tuple[str, str]:
    said = values.get("language", "").strip()
    for name in (*NAMES, *ALIASES):
        if f"{name}_version" in values:
            return ALIASES.get(name, name), _short(ALIASES.get(name, name), values[f"{name}_version"])
    match = _LANGUAGE_IN_NAME.fullmatch(values.get("name", ""))
    found = match[1] if match else ""
    found = {"open": "java"}.get(found, found)
    language = ALIASES.get(said, said) or ALIASES.get(found, found)
    return language, _short(language, match[2] if match else "")


def _short(language: str, version: str) -> str:
    """Return the version as the table has it: 3.11.4 is 3.11, and 18.19 is 18."""
    for name, known in LANGUAGES:
        if name == language and (version == known or version.startswith(f"{known}.")):
            return known
    return version


def _architecture(platform: str) -> str:
    word = re.split(r"[-/]", platform)[-1]
    return {"x86_64": "amd64", "aarch64": "arm64", "arm": "arm64"}.get(word, word)


def _why_not(root: Entries) -> str:
    mounts = root.entries["mounts"]
    targets = set()
    for each in mounts.items if isinstance(mounts, Items) else ():
        target = each.entries.get("target") if isinstance(each, Entries) else None
        if isinstance(target, Text):
            targets.add(target.text.rstrip("/") or "/")
    instead = "build a definition of the same language (rnx runtime build), or import an image of its files"
    missing = [] if "/" in targets else [each for each in _ROOT if each not in targets]
    if missing:
        return (
            "copies of a host's files, mounted over another host's, are no runtime: "
            f"they give no {', '.join(missing)}; {instead}"
        )
    return f"this file says where files appear, but has none of them; {instead} (rnx runtime import)"
