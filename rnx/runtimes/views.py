"""Runtimes for the eye and for programs."""

from collections.abc import Mapping, Sequence
from typing import Any

from rnx.output import Column, clean, table
from rnx.times import show_time

_MOST_DESCRIPTION = 50
_UNITS = ("B", "KB", "MB", "GB", "TB")
_STEP = 1024


def short_size(size: float) -> str:
    """Return a number of bytes as the tables of runtimes have it: 512B, 1.2GB."""
    for unit in _UNITS:
        if size < _STEP or unit == _UNITS[-1]:
            break
        size /= _STEP
    return f"{size:.0f}{unit}" if unit == "B" else f"{size:.1f}{unit}"


def spec_of(runtime: Any) -> str:
    """Return ``NAME@VERSION``."""
    return f"{runtime.name}@{runtime.version}" if runtime.version else str(runtime.name)


def runtime_data(runtime: Any) -> dict[str, object]:
    """Return one element of ``runtime list --json``; our own keys come after the given ones."""
    data: dict[str, object] = {
        "id": spec_of(runtime),
        "language": runtime.language,
        "version": runtime.version,
        "name": runtime.name,
        "description": runtime.description,
        "size_bytes": runtime.size_bytes,
        "size": short_size(runtime.size_bytes),
    }
    if runtime.packages:
        data["packages"] = list(runtime.packages)
    data["available"] = runtime.available
    return data | {"digest": runtime.digest, "source": runtime.source, "latest": runtime.latest}


def runtime_table(runtimes: Sequence[Any]) -> str:
    """Return the table of ``runtime list``; no cell is empty, because scripts count words."""
    if not runtimes:
        return "No runtimes available."
    columns = (
        Column("RUNTIME", least=20),
        Column("VERSION", least=8),
        Column("SIZE", least=8),
        Column("REGISTRY"),
        Column("DESCRIPTION", most=_MOST_DESCRIPTION),
    )
    rows = [
        [each.name, each.version, short_size(each.size_bytes), "local", each.description] for each in runtimes
    ]
    return table(columns, rows)


def offered_data(runtime: Any) -> dict[str, object]:
    """Return one element of ``runtime list --registry --json``."""
    return {
        "name": runtime.name,
        "versions": list(runtime.versions),
        "latest": runtime.versions[0] if runtime.versions else "",
        "description": runtime.description,
        "platforms": list(runtime.platforms),
    }


def offered_table(runtimes: Sequence[Any]) -> str:
    """Return the table of what a registry offers."""
    if not runtimes:
        return "No runtimes available."
    columns = (
        Column("RUNTIME", least=20),
        Column("VERSIONS"),
        Column("LATEST", least=8),
        Column("PLATFORMS"),
        Column("DESCRIPTION", most=_MOST_DESCRIPTION),
    )
    rows = [
        [
            each.name,
            str(len(each.versions)),
            each.versions[0] if each.versions else "",
            ",".join(each.platforms),
            each.description,
        ]
        for each in runtimes
    ]
    return table(columns, rows)


def info_data(runtime: Any) -> dict[str, object]:
    """Return the object of ``runtime info --json``; our own keys come after the given ones."""
    return {
        "name": runtime.name,
        "version": runtime.version,
        "description": runtime.description,
        "packages": list(runtime.packages),
        "usage": usage(runtime),
        "requirements": {
            "gpu": runtime.requirements.gpu,
            "architectures": list(runtime.requirements.architectures),
        },
        "language": runtime.language,
        "language_version": runtime.language_version,
        "digest": runtime.digest,
        "size_bytes": runtime.size_bytes,
        "file_count": runtime.file_count,
        "available": runtime.available,
        "latest": runtime.latest,
        "source": runtime.source,
        "added_time": runtime.added_time,
        "built_at": runtime.build_info.built_at,
        "built_with": runtime.build_info.built_with,
        "platform": runtime.build_info.platform,
        "base": runtime.base,
        "test": runtime.test,
        "environment": dict(runtime.environment),
        "users": list(runtime.users),
        "definition": runtime.original_yaml,
        "lock": runtime.lock,
    }


def info_text(runtime: Any) -> str:
    """Return the text of ``runtime info``."""
    fields = {
        "Runtime": runtime.name,
        "Version": f"{runtime.version} (latest)" if runtime.latest else runtime.version,
        "Description": runtime.description,
        "Language": f"{runtime.language} {runtime.language_version}".strip(),
        "Available": "yes" if runtime.available else "no",
        "Size": f"{short_size(runtime.size_bytes)} in {runtime.file_count} files",
        "Digest": runtime.digest,
        "Source": runtime.source,
        "Base": runtime.base,
        "Platform": runtime.build_info.platform,
        "Built": _with(show_time(runtime.build_info.built_at, empty="", zone=True), runtime),
        "Added": show_time(runtime.added_time, empty="", zone=True),
        "Test": runtime.test,
    }
    lines = [f"{name}: {clean(value)}" for name, value in fields.items() if value]
    lines += _block("Requirements", _requirements(runtime))
    lines += _block("Environment", [f"{name}={value}" for name, value in sorted(runtime.environment.items())])
    lines += _block("Packages", runtime.packages)
    lines += _block("Used by", runtime.users)
    lines += ["Usage:", f"  {clean(usage(runtime))}"]
    return "\n".join(lines)


def usage(runtime: Any) -> str:
    """Return the line that runs a command with it."""
    return f"rnx run --runtime={spec_of(runtime)} COMMAND"


def test_data(reply: Any) -> dict[str, object]:
    """Return the object of ``runtime test --json``."""
    return {
        "success": reply.success,
        "output": reply.output,
        "error": reply.error,
        "exit_code": reply.exit_code,
        "runtime": spec_of(reply.runtime),
        "digest": reply.runtime.digest,
    }


def test_text(reply: Any) -> str:
    """Return what scripts look for."""
    lines = ["Runtime test passed"] if reply.success else ["✗ Runtime test failed"]
    if not reply.success:
        lines += [f"Error: {clean(reply.error)}", f"Exit code: {reply.exit_code}"]
    if reply.output:
        lines += ["Output:", *map(clean, reply.output.rstrip("\n").split("\n"))]
    return "\n".join(lines)


def verdict_data(verdict: Any) -> dict[str, object]:
    """Return one element of ``runtime verify --json``."""
    return {
        "runtime": spec_of(verdict.runtime),
        "digest": verdict.runtime.digest,
        "intact": not verdict.damages,
        "size_bytes": verdict.size_bytes,
        "damages": [{"path": each.path, "what": each.what} for each in verdict.damages],
    }


def verdict_lines(verdict: Any) -> list[str]:
    """Return what is said of a runtime that was verified."""
    name = clean(spec_of(verdict.runtime))
    if not verdict.damages:
        return [f"{name}: intact, {short_size(verdict.size_bytes)} read"]
    lines = [f"{name}: DAMAGED"]
    return [*lines, *(f"- {clean(each.path)}: {clean(each.what)}" for each in verdict.damages)]


def _with(built: str, runtime: Any) -> str:
    by = runtime.build_info.built_with
    return f"{built} by {by}" if built and by else built


def _requirements(runtime: Any) -> list[str]:
    needed = runtime.requirements
    lines = [f"architectures: {', '.join(needed.architectures)}"] if needed.architectures else []
    return [*lines, "a GPU"] if needed.gpu else lines


def _block(title: str, texts: Sequence[str] | Mapping[str, str]) -> list[str]:
    return [f"{title}:", *(f"- {clean(text)}" for text in texts)] if texts else []
