"""What the definition of a runtime says, checked. Pure values, for client and agent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["Base", "Definition", "File", "From", "Hooks", "Image", "Limits", "Npm", "Pip", "Source"]


@dataclass(frozen=True, slots=True)
class Base:
    """The distribution with a language of it; ``languages.py`` says what that takes."""

    language: str
    """``python``, ``node``, ``java`` or ``go``; empty for the distribution alone."""
    version: str = ""
    """Empty: the one that the suite has."""


@dataclass(frozen=True, slots=True)
class From:
    """A runtime that is installed."""

    name: str
    version: str = ""
    """Empty: the newest."""

    def __str__(self) -> str:
        return f"{self.name}@{self.version}" if self.version else self.name


@dataclass(frozen=True, slots=True)
class Image:
    """An OCI image: ``docker://REGISTRY/NAME@sha256:…`` or ``oci-archive:/PATH`` of the host."""

    reference: str


Source: TypeAlias = Base | From | Image


@dataclass(frozen=True, slots=True)
class Pip:
    """Packages of Python: names, or the text of a requirements file; never both."""

    packages: tuple[str, ...] = ()
    """As pip takes them: ``numpy==1.26.2``."""
    requirements: str = ""
    index: str = ""
    """Address of an index instead of the one of the agent's configuration."""

    def __bool__(self) -> bool:
        return bool(self.packages or self.requirements)


@dataclass(frozen=True, slots=True)
class Npm:
    """Packages of Node: names, or the texts of package.json and package-lock.json; never both."""

    packages: tuple[str, ...] = ()
    """As npm takes them: ``typescript@5``."""
    package_json: str = ""
    package_lock: str = ""

    def __bool__(self) -> bool:
        return bool(self.packages or self.package_json)


@dataclass(frozen=True, slots=True)
class File:
    """A file that the definition brings along."""

    path: str
    """Absolute, normal; below /opt/runtime or /etc, /srv, /usr/local."""
    content: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Hooks:
    """Shell, run inside the tree; empty for none."""

    pre_install: str = ""
    post_install: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the build; 0 for what the configuration says."""

    disk: int = 0
    """Bytes."""
    time: float = 0
    """Seconds."""
    network: bool = True
    """False: hooks, and whatever runs in the tree, reach nothing."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A definition as a whole."""

    name: str
    version: str
    description: str = ""
    base: Source = field(default_factory=lambda: Base(""))
    suite: str = ""
    """Of the distribution; resolved already (``languages.py``), empty only for From and Image."""
    apt: tuple[str, ...] = ()
    """``NAME`` or ``NAME=VERSION``; what the user asked for, without the language's own."""
    pip: Pip = field(default_factory=Pip)
    npm: Npm = field(default_factory=Npm)
    files: tuple[File, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """For jobs; PATH_PREPEND goes in front of PATH. With the language's own, which these win over."""
    hooks: Hooks = field(default_factory=Hooks)
    test: str = ""
    """Shell command; the language's own program where the definition has none."""
    gpu_required: bool = False
    architectures: tuple[str, ...] = ()
    """Debian's words; empty: any."""
    limits: Limits = field(default_factory=Limits)
    lock: str = ""
    """Name of the lock file beside the definition; empty for none."""
    text: str = ""
    """The definition itself."""
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"
