"""Where this host gets packages from, of all kinds."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Upstreams:
    """Where this host's own tools get packages; no trailing slash."""

    debian: str
    security: str
    ubuntu: str
    pypi: str
    npm: str

    def address(self, path: str) -> str | None:
        """Return what ``path`` of the mirror stands for, or None."""
        for prefix, base in (
            ("/debian-security/", self.security),
            ("/debian/", self.debian),
            ("/ubuntu/", self.ubuntu),
            ("/pypi/simple/", self.pypi),
            ("/pypi/files/", "https:/"),
            ("/npm/", self.npm),
        ):
            if path.startswith(prefix) and base:
                return f"{base}/{path.removeprefix(prefix)}"
        return None


@cache
def upstreams() -> Upstreams:
    """Read them from the configuration of apt, pip and npm, and from what mmdebstrap takes by itself."""
    debian = security = ""
    for file in sorted(Path("/etc/apt").rglob("*")):
        if file.suffix in {".sources", ".list"}:
            said = file.read_text(encoding="utf-8")
            debian = _first(r"^(?:URIs:|deb )[^\n]*?(https?://\S+/debian)/?(?:\s|$)", said) or debian
            security = (
                _first(r"^(?:URIs:|deb )[^\n]*?(https?://\S+/debian-security)/?(?:\s|$)", said) or security
            )
    known = Path("/usr/bin/mmdebstrap").read_text(encoding="utf-8")
    ubuntu = _first(r"'(http://[a-z.]+/ubuntu)'", known)
    pip = [sys.executable, "-c", "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"]
    return Upstreams(debian, security, ubuntu, _said(*pip), _said("npm", "config", "get", "registry"))


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else ""


def _said(*argv: str) -> str:
    if shutil.which(argv[0]) is None:
        return ""
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip().rstrip("/")
