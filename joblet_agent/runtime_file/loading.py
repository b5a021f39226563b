"""A definition as a whole: its text becomes values, or everything that is wrong with it is told."""

from collections.abc import Mapping
from typing import Any

from joblet_agent.runtime_file import older
from joblet_agent.runtime_file.keys import DEFINITION, OLDER, VERSIONS
from joblet_agent.runtime_file.languages import ANY, LANGUAGES, Language, language_of, versions_of
from joblet_agent.runtime_file.remarks import remarks
from joblet_agent.runtime_file.values import (
    Base,
    Definition,
    File,
    Hooks,
    Limits,
    Npm,
    Pip,
    Source,
)
from joblet_agent.yaml_file.kinds import UNREADABLE
from joblet_agent.yaml_file.nodes import Entries, Text, marks_in, parse
from joblet_agent.yaml_file.problems import (
    FileInvalid,
    Mark,
    Problem,
    Problems,
    TooManyProblems,
    near,
    shown,
)

MOST_BYTES = 1024 * 1024
"""Of a file, in UTF-8."""
FILE_NAME = "runtime.yaml"


def load(text: str, name: str = FILE_NAME) -> Definition:
    """Read and check the text of a file; raise FileInvalid with all that is wrong.

    ``name`` is that of the file: it stands in warnings, and tells older forms.
    """
    problems = Problems()
    try:
        definition = _load(text, name, problems)
    except TooManyProblems:
        definition = None
    if definition is None or problems.found:
        raise FileInvalid(problems.sorted())
    return definition


def _load(text: str, name: str, problems: Problems) -> Definition | None:
    if len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        problems.add(Mark(), "", f"the file has more than {MOST_BYTES} bytes")
        return None
    root = parse(text, problems, "write the value itself")
    if root is None or (isinstance(root, Text) and root.is_nothing):
        if not problems.found:
            problems.add(Mark(1, 1), "", "the file is empty; it needs schema_version, name, version and base")
        return None
    if not isinstance(root, Entries):
        problems.add(root.mark, "", "expected keys with values: schema_version, name, version, base")
        return None
    said: list[Problem] = []
    if older.is_older(root, name):
        values = older.read(root, name, said, problems)
    else:
        values = _section(root, problems).read(root, "", problems)
    if values is UNREADABLE:
        return None
    marks = marks_in(root)
    reader = _Reader(values, marks, root, problems)
    definition = reader.definition(text)
    said += remarks(values, marks)
    warnings = tuple(each.shown(name) for each in sorted(said, key=lambda each: each.mark))
    return Definition(**{**definition, "warnings": warnings})


def _section(root: Entries, problems: Problems) -> Any:
    version = root.entries.get("schema_version")
    if version is None:
        problems.add(Mark(1, 1), "schema_version", f'is missing; write schema_version: "{VERSIONS[-1]}"')
    return OLDER if isinstance(version, Text) and version.text == VERSIONS[0] else DEFINITION


class _Reader:
    """Puts the values of a file together, and tells what does not fit."""

    def __init__(
        self, values: Mapping[str, Any], marks: Mapping[str, Mark], root: Entries, problems: Problems
    ) -> None:
        self._values = values
        self._marks = marks
        self._root = root
        self._problems = problems

    def definition(self, text: str) -> dict[str, Any]:
        values = self._values
        for key in ("name", "version"):
            if key not in self._root.entries:
                self._tell(key, "is missing")
        base = self._base()
        pip, npm = self._pip(), self._npm()
        language = self._of_language(base, pip, npm)
        limits = values.get("limits", {})
        return {
            "name": values.get("name", ""),
            "version": values.get("version", ""),
            "description": values.get("description", "").strip(),
            "base": base,
            "suite": language.suite,
            "apt": values.get("apt", ()),
            "pip": pip,
            "npm": npm,
            "files": self._files(),
            "environment": {**language.environment, **values.get("environment", {})},
            "hooks": Hooks(**{name: each for name, each in values.get("hooks", {}).items() if each.strip()}),
            "test": values.get("test", "").strip() or language.test,
            "gpu_required": values.get("gpu", {}).get("required", False),
            "architectures": values.get("architectures", ()),
            "limits": Limits(**limits),
            "lock": values.get("lock", ""),
            "text": text,
        }

    def _tell(self, key: str, text: str) -> None:
        mark = self._marks.get(key) or self._marks.get(key.partition(".")[0]) or Mark(1, 1)
        self._problems.add(mark, key, text)

    def _base(self) -> Source:
        there = [key for key in ("base", "from", "image") if key in self._root.entries]
        if len(there) > 1:
            self._tell(there[1], f"there is {there[0]}, too; one of them says what the tree begins as")
        if "from" in there or "image" in there:
            for key in ("suite", "architectures"):
                if key in self._values:
                    self._tell(key, f"is that of {there[0]}; leave it out")
            found: Source = self._values.get("from") or self._values.get("image") or Base(ANY)
            return found
        if not there:
            if "suite" not in self._root.entries:
                self._tell("base", 'is missing: {language: python, version: "3.11"}, for example')
            return Base(ANY)
        return self._language(self._values.get("base", {}))

    def _language(self, base: Mapping[str, str]) -> Base:
        section = self._root.entries["base"]
        known = section.entries if isinstance(section, Entries) else {}
        missing = [key for key in ("language", "version") if key not in known]
        for key in missing:
            self._tell(f"base.{key}", "is missing")
        language, version = base.get("language", ANY), base.get("version", "")
        if language == ANY or not version:
            return Base(ANY)
        if (language, version) not in LANGUAGES:
            versions = versions_of(language)
            hint = near(version, versions)
            other = "; another one can come from an image" if "image" not in self._root.entries else ""
            self._tell("base.version", f"expected {' or '.join(versions)}, not {shown(version)}{hint}{other}")
            return Base(ANY)
        return Base(language, version)

    def _of_language(self, base: Source, pip: Pip, npm: Npm) -> Language:
        wanted = self._values.get("suite", "")
        found = language_of(base, wanted, pip=bool(pip), npm=bool(npm))
        if isinstance(base, Base) and wanted and found.suite != wanted:
            self._tell("suite", f"{wanted} has no {base.language} {base.version}; {found.suite} has")
        return found

    def _pip(self) -> Pip:
        pip = self._values.get("pip", ())
        found = Pip(**pip) if isinstance(pip, dict) else Pip(pip)
        if found.packages and found.requirements:
            self._tell("pip.requirements", "there are packages, too; one of them says what to install")
        return found

    def _npm(self) -> Npm:
        npm = self._values.get("npm", ())
        found = Npm(**npm) if isinstance(npm, dict) else Npm(npm)
        if found.packages and found.package_json:
            self._tell("npm.package_json", "there are packages, too; one of them says what to install")
        if found.package_lock and not found.package_json:
            self._tell("npm.package_lock", "needs package_json")
        return found

    def _files(self) -> tuple[File, ...]:
        found: dict[str, File] = {}
        for number, each in enumerate(self._values.get("files", ())):
            if "path" not in each or "content" not in each:
                continue  # the reader has told why
            if each["path"] in found:
                self._tell(f"files[{number}]", f"{each['path']} is there twice")
            found[each["path"]] = File(**each)
        return tuple(found.values())
