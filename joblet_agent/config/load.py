"""From the files to ``AgentConfig``. Whatever is wrong ends as one InvalidConfig that names every fault."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar, get_type_hints

from joblet_agent.config.contradictions import Contradiction, find_contradictions
from joblet_agent.config.document import DocumentError, parse_document
from joblet_agent.config.files import DEFAULT_PATH, MOST_BYTES, DropIns, find_drop_ins, read_file, shown
from joblet_agent.config.settings import Setting, read_settings
from joblet_agent.config.values import AgentConfig
from joblet_agent.errors import InvalidConfig

_MOST_PROBLEMS = 20
_HINT = "the agent.yml that comes with the agent lists every key with its default"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{shown(self.file)}:{self.line}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """The configuration, and where it comes from."""

    config: AgentConfig
    files: tuple[Path, ...]
    """In the order in which they were read."""
    origins: Mapping[str, Origin]
    """Of the values that are set; the others are defaults."""
    warnings: tuple[str, ...]
    """What is no fault, but hardly what somebody wanted."""


def load_config(path: Path | None = None) -> AgentConfig:
    """Read the configuration as ``load_files`` does, for one who needs its values only."""
    return load_files(path).config


def load_files(path: Path | None = None) -> Loaded:
    """Read the configuration, then its drop-ins, of which a later one wins, key by key.

    Without ``path`` from DEFAULT_PATH, which need not exist. Keys that no file sets have their defaults
    (values.py). Raises InvalidConfig, with all that is wrong in all files.
    """
    reading = _Reading()
    main = path or DEFAULT_PATH
    reading.read(main, must_exist=path is not None)
    drop_ins = reading.find_drop_ins(main)
    for file in drop_ins.files:
        reading.read(file, must_exist=True)
    config = build({key: setting.value for key, (_, setting) in reading.settings.items()})
    for contradiction in find_contradictions(config):
        reading.contradict(contradiction)
    reading.finish()
    return Loaded(
        config,
        tuple(reading.files),
        {key: Origin(file, setting.line) for key, (file, setting) in reading.settings.items()},
        tuple(f"{shown(file)} is not read: the names of drop-ins end in .yml" for file in drop_ins.mistaken),
    )


def build(values: Mapping[str, object]) -> AgentConfig:
    """Return the configuration with these values, by key with its sections; the others are defaults."""
    return _build(AgentConfig, "", values)


def _build(kind: type[T], prefix: str, values: Mapping[str, object]) -> T:
    hints = get_type_hints(kind)
    given = {}
    for one in fields(kind):  # type: ignore[arg-type]
        key = prefix + one.name
        if is_dataclass(hints[one.name]):
            given[one.name] = _build(hints[one.name], f"{key}.", values)
        elif key in values:
            given[one.name] = values[key]
    return kind(**given)


@dataclass(slots=True)
class _Reading:
    files: list[Path] = field(default_factory=list)
    settings: dict[str, tuple[Path, Setting]] = field(default_factory=dict)
    faults: list[InvalidConfig | str] = field(default_factory=list)
    """Files that cannot be used, and lines of those that can."""
    most: int = MOST_BYTES
    """Bytes that there may still be."""

    def find_drop_ins(self, path: Path) -> DropIns:
        try:
            return find_drop_ins(path)
        except InvalidConfig as error:
            self.faults.append(error)
            return DropIns()

    def read(self, path: Path, *, must_exist: bool) -> None:
        try:
            content = read_file(path, self.most)
        except InvalidConfig as error:
            if must_exist or error.reason != "CONFIG_NOT_FOUND":
                self.faults.append(error)
            return
        self.files.append(path)
        self.most -= len(content)
        report = partial(self._report, path)
        try:
            document = parse_document(content.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            report(content.count(b"\n", 0, error.start) + 1, "", "not UTF-8")
        except DocumentError as error:
            report(error.line, "", str(error))
        else:
            settings = read_settings(document, report)
            self.settings |= {key: (path, setting) for key, setting in settings.items()}

    def contradict(self, contradiction: Contradiction) -> None:
        """Name the file that was the last one to set one of the keys, and in it the first of these."""
        setters = [self.settings[key] for key in contradiction.keys if key in self.settings]
        file, setting = max(setters, key=lambda setter: self.files.index(setter[0]))
        self._report(file, setting.line, contradiction.keys[0], contradiction.problem)

    def finish(self) -> None:
        if not self.faults:
            return
        lines = [str(fault) for fault in self.faults[:_MOST_PROBLEMS]]
        if len(self.faults) > _MOST_PROBLEMS:
            lines.append(f"and {len(self.faults) - _MOST_PROBLEMS} more")
        of_files = [fault for fault in self.faults if isinstance(fault, InvalidConfig)]
        if len(of_files) == len(self.faults):
            raise InvalidConfig("\n".join(lines), reason=of_files[0].reason)
        text = "\n".join(["cannot use the configuration:", *lines])
        raise InvalidConfig(text, reason="INVALID_CONFIG", hint=_HINT)

    def _report(self, file: Path, line: int, key: str, problem: str) -> None:
        self.faults.append(": ".join(part for part in (f"{shown(file)}:{line}", key, problem) if part))
