"""What is known of a runtime, as labels of an image, and back. Pure."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from joblet_agent.errors import InvalidRequest
from joblet_agent.model.runtime import RuntimeFacts
from joblet_agent.runtime_file import rules
from joblet_agent.runtimes.oci.refusals import broken, refused, shown

PREFIX: Final = "org.joblet.runtime."
DIGEST: Final = f"{PREFIX}digest"
_TEXTS: Final = {
    "name": "name",
    "version": "version",
    "description": "description",
    "language": "language",
    "language-version": "language_version",
    "test": "test",
    "definition": "definition",
    "lock": "lock",
    "base": "base",
    "built-with": "built_with",
    "platform": "platform",
}
"""Label to field; those that are empty are left out."""
_LISTS: Final = {"packages": "packages", "architectures": "architectures"}
_ENVIRONMENT, _GPU, _BUILT_AT = f"{PREFIX}environment", f"{PREFIX}gpu", f"{PREFIX}built-at"
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FRONT: Final = "PATH_PREPEND"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_MOST_VARIABLES: Final = 1000
_MOST_TEXT: Final = 1 << 20
"""Characters of a definition or a lock."""


def digest_in(labels: Mapping[str, str]) -> str:
    """Return the digest of the runtime that the image was made of; empty for other images."""
    digest = labels.get(DIGEST, "")
    if digest and not _DIGEST.fullmatch(digest):
        raise broken(f"label {DIGEST} is damaged")
    return digest


def labels_of(facts: RuntimeFacts, digest: str) -> dict[str, str]:
    """Return the labels of a runtime's image."""
    labels = {PREFIX + key: str(getattr(facts, field)) for key, field in _TEXTS.items()}
    labels |= {
        PREFIX + key: _as_json(list(getattr(facts, field)))
        for key, field in _LISTS.items()
        if getattr(facts, field)
    }
    labels[DIGEST] = digest
    labels[_ENVIRONMENT] = _as_json(dict(sorted(facts.environment.items())))
    if facts.needs_gpu:
        labels[_GPU] = "required"
    if facts.built_at is not None:
        labels[_BUILT_AT] = facts.built_at.isoformat()
    return {key: value for key, value in sorted(labels.items()) if value}


def variables(environment: Mapping[str, str]) -> list[str]:
    """Return a runtime's environment as other engines understand it: with all of PATH."""
    front, path = environment.get(_FRONT), environment.get("PATH", DEFAULT_PATH)
    found = {name: value for name, value in environment.items() if name != _FRONT}
    found["PATH"] = f"{front}:{path}" if front else path
    return [f"{name}={value}" for name, value in sorted(found.items())]


def facts_of(
    labels: Mapping[str, str],
    environment: Mapping[str, str],
    note: Callable[[str], None],
    *,
    architecture: str,
    name: str = "",
    version: str = "",
    source: str = "import",
) -> RuntimeFacts:
    """Return what an image says of itself as a runtime; ``name`` and ``version`` count before its own.

    Variables that no runtime may set are left out, and ``note`` is told. Raises InvalidRequest.
    """
    own = {field: labels.get(PREFIX + key, "") for key, field in _TEXTS.items()}
    own["name"], own["version"] = name or own["name"], version or own["version"]
    if not own["name"] or not own["version"]:
        raise InvalidRequest(
            "cannot import image: it does not say of which name and version it is",
            reason="RUNTIME_NAME_MISSING",
            hint="say it: --name NAME --version X.Y.Z",
        )
    said = labels.get(_ENVIRONMENT)
    given = environment if said is None else _mapping(said, _ENVIRONMENT)
    lists = {field: _list(labels.get(PREFIX + key, "[]"), PREFIX + key) for key, field in _LISTS.items()}
    _check(own)
    return RuntimeFacts(
        **own,
        environment=allowed_variables(given, note),
        packages=lists["packages"],
        architectures=lists["architectures"] or (architecture,),
        needs_gpu=labels.get(_GPU) == "required",
        source=source,
        built_at=_time(labels.get(_BUILT_AT)),
    )


def _check(own: Mapping[str, str]) -> None:
    checks = {"name": rules.name, "version": rules.version, "description": rules.lines, "test": rules.lines}
    for field, text in own.items():
        try:
            if text:
                checks.get(field, _short)(text)
        except ValueError as error:
            raise refused(f"its {field} cannot be used: {error}") from error


def _short(text: str) -> str:
    if len(text) > _MOST_TEXT:
        raise ValueError(f"expected {_MOST_TEXT} characters at most")
    return text


def allowed_variables(environment: Mapping[str, str], note: Callable[[str], None]) -> dict[str, str]:
    """Return the variables that a runtime may set; ``note`` is told of the others. Raises InvalidRequest."""
    if len(environment) > _MOST_VARIABLES:
        raise broken(f"it has {len(environment)} variables; {_MOST_VARIABLES} are allowed")
    allowed = {}
    for name, value in environment.items():
        if reason := _refused(name, value):
            note(f"left out: variable {shown(name)}: {reason}")
        else:
            allowed[name] = value
    return allowed


def _refused(name: str, value: str) -> str:
    """Say why a variable is none of a runtime's."""
    try:
        rules.value(value)
    except ValueError as error:
        return str(error)
    return rules.refused_variable(name) if rules.VARIABLE.fullmatch(name) else "no name of a variable"


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _mapping(text: str, label: str) -> dict[str, str]:
    value = _parsed(text, label)
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise broken(f"label {label} is damaged")
    return value


def _list(text: str, label: str) -> tuple[str, ...]:
    value = _parsed(text, label)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise broken(f"label {label} is damaged")
    return tuple(value)


def _parsed(text: str, label: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise broken(f"label {label} is damaged") from error


def _time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError as error:
        raise broken(f"label {_BUILT_AT} is damaged") from error
