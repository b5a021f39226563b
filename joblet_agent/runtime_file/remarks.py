"""What is not wrong with a definition, but worth a word."""

from collections.abc import Iterator, Mapping
from typing import Any

from joblet_agent.runtime_file import rules
from joblet_agent.runtime_file.languages import ARCHITECTURES
from joblet_agent.runtime_file.values import Image
from joblet_agent.yaml_file.problems import Mark, Problem, shown

_EXACT_NPM = rules.VERSION
_UNPINNED = "no version: the next build may take another one"


def remarks(values: Mapping[str, Any], marks: Mapping[str, Mark]) -> Iterator[Problem]:
    """Yield them; ``values`` and ``marks`` are by key, as read."""

    def told(key: str, text: str) -> Problem:
        return Problem(marks.get(key) or marks.get(key.partition("[")[0]) or Mark(), key, text)

    if "lock" not in values:
        for key, package in _unpinned(values):
            yield told(key, f"{shown(package)} has {_UNPINNED}")
        if any(values.get(key) for key in ("apt", "pip", "npm", "base")):
            yield told("name", "there is no lock: two builds may differ (rnx runtime lock makes one)")
    for number, each in enumerate(values.get("architectures", ())):
        if each not in ARCHITECTURES:
            yield told(
                f"architectures[{number}]", f"{shown(each)} is unknown; known are {', '.join(ARCHITECTURES)}"
            )
    image = values.get("image")
    if isinstance(image, Image) and "@sha256:" not in image.reference:
        yield told("image", "no digest: the next build may take another image")
    if values.get("limits", {}).get("network", True):
        for key, text in values.get("hooks", {}).items():
            if text.strip():
                yield told(
                    f"hooks.{key}", "reaches the network: two builds may differ (limits.network: false)"
                )
    if "libraries" in values:
        yield told("libraries", "not used: a runtime has all of its libraries")
    npm = values.get("npm", ())
    if isinstance(npm, dict) and "package_json" in npm and "package_lock" not in npm:
        yield told("npm.package_json", "no package_lock beside it: two builds may differ")


def _unpinned(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for number, each in enumerate(values.get("apt", ())):
        if "=" not in each:
            yield f"apt[{number}]", each
    for key, is_pinned in (("pip", rules.is_pinned_pip), ("npm", _is_pinned_npm)):
        packages, prefix = values.get(key, ()), key
        if isinstance(packages, dict):
            packages, prefix = packages.get("packages", ()), f"{key}.packages"
        for number, each in enumerate(packages):
            if not is_pinned(each):
                yield f"{prefix}[{number}]", each


def _is_pinned_npm(text: str) -> bool:
    return _EXACT_NPM.fullmatch(rules.npm_parts(text)[1]) is not None
