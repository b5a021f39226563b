"""Where the store has what, below ``state_dir``/runtimes, which is for root alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["MTIME", "OWNER", "Layout"]

MTIME: Final = 946_684_800
"""Of everything in a tree, in seconds of Unix: 2000-01-01. Equal files of different makers are one inode,
which has one time; archives of some kinds know none before 1980."""
OWNER = (0, 0)
"""User and group of everything in a tree."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of the store; the directories are on one file system."""

    root: Path

    @property
    def objects(self) -> Path:
        """Parent of the contents, each once; trees have hard links to them."""
        return self.root / "objects"

    @property
    def trees(self) -> Path:
        """Parent of the trees, by digest: what jobs have as their root."""
        return self.root / "trees"

    @property
    def lists(self) -> Path:
        """Parent of what is in each tree, by digest: the digest is that of this file."""
        return self.root / "lists"

    @property
    def names(self) -> Path:
        """Parent of NAME/VERSION.json, which lead to trees."""
        return self.root / "names"

    @property
    def damaged(self) -> Path:
        """Parent of what was found wrong with trees, by digest."""
        return self.root / "damaged"

    @property
    def staging(self) -> Path:
        """Parent of everything that is not complete, or on its way out."""
        return self.root / "staging"

    @property
    def directories(self) -> tuple[Path, ...]:
        """All of them, parents first."""
        return (self.root, self.objects, self.trees, self.lists, self.names, self.damaged, self.staging)

    def tree(self, digest: str) -> Path:
        """Return the tree of the digest."""
        return self.trees / digest

    def list(self, digest: str) -> Path:
        """Return the file with what is in the tree."""
        return self.lists / digest

    def damage(self, digest: str) -> Path:
        """Return the file with what was found wrong with the tree."""
        return self.damaged / digest

    def name(self, name: str, version: str) -> Path:
        """Return the file that leads to the tree of NAME@VERSION."""
        return self.names / name / f"{version}.json"

    def object(self, content: str, mode: int) -> Path:
        """Return the file with this content (its SHA-256) and mode."""
        return self.objects / content[:2] / f"{content}-{mode:o}"
