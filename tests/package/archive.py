"""An archive of packages that are known by their descriptions alone, for apt to find a solution in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.testbed import host
from tests.testbed.install import build_packages

# Of a dpkg status file: what an index has not.
_NOT_IN_AN_INDEX = re.compile(r"^(?:Status|Conffiles|Config-Version):.*\n(?:[ \t].*\n)*", re.MULTILINE)


class Archive:
    """Our packages and others on a system where nothing is installed; apt of this host looks for the rest."""

    def __init__(self, folder: Path, others: Iterable[str]) -> None:
        """``others`` are paragraphs of an index (deb822), without places of files."""
        self._folder = folder
        for name in ("state/lists/partial", "cache/archives/partial", "parts"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        ours = [host.call(["dpkg-deb", "--field", str(path)]) for path in build_packages()]
        index = [f"{text.strip()}\n{_place(text)}\n" for text in (*ours, *others)]
        (folder / "Packages").write_text("\n".join(index), encoding="utf-8")
        (folder / "sources.list").write_text(f"deb [trusted=yes] file:{folder} ./\n", encoding="ascii")
        self._apt("update")

    def solution(self, *names: str) -> dict[str, str]:
        """Return the packages that an installation brings, with their versions. Raises CommandFailed."""
        output = self._apt("install", "--simulate", "--no-install-recommends", *names)
        return dict(re.findall(r"^Inst (\S+) \((\S+) ", output, re.MULTILINE))

    def _apt(self, *words: str) -> str:
        places = {
            "Dir::State": "state",
            "Dir::State::status": "status",
            "Dir::Cache": "cache",
            "Dir::Etc::sourcelist": "sources.list",
            "Dir::Etc::sourceparts": "parts",
            "Dir::Etc::preferencesparts": "parts",
        }
        options: Sequence[str] = [f"--option={key}={self._folder / name}" for key, name in places.items()]
        ours = [
            "--option=APT::Architecture=amd64",
            "--option=APT::Architectures=amd64",
            "--option=APT::Sandbox::User=root",
        ]
        return host.call(["apt-get", "--yes", *options, *ours, *words])


def installed(status: str) -> list[str]:
    """Return the paragraphs of a dpkg status file as an index has them."""
    return [_NOT_IN_AN_INDEX.sub("", paragraph + "\n") for paragraph in status.strip().split("\n\n")]


def _place(text: str) -> str:
    """Return where the file would be; apt wants to know before it solves anything."""
    (name,) = re.findall(r"^Package: (\S+)$", text, re.MULTILINE)
    return f"Filename: ./{name}.deb\nSize: 1\nSHA256: {'0' * 64}"
