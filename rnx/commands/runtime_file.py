"""What ``rnx runtime validate`` says about the file of a definition."""

from pathlib import Path
from typing import Any

from joblet_agent.runtime_file import Definition
from rnx.context import Settings
from rnx.exits import Exit
from rnx.output import clean, show
from rnx.runtimes.definitions import DefinitionInvalid, Source, read_definition


def validate_file(settings: Settings, path: Path, *, server: bool) -> int:
    """Say everything that is wrong with a definition; with ``server`` also what the agent says."""
    try:
        source = read_definition(str(path))
    except DefinitionInvalid as error:
        problems = [
            {"line": each.mark.line, "column": each.mark.column, "key": each.key, "message": each.text}
            for each in error.problems
        ]
        text = "\n".join(map(clean, error.more))
        show(settings.form, {"valid": False, "problems": problems, "warnings": []}, lambda: text)
        return Exit.FAILED
    if server:
        reply = _asked(settings, source)
        if not reply.valid:
            data = {"valid": False, "problems": _problems(reply), "warnings": list(reply.warnings)}
            show(settings.form, data, lambda: "\n".join(map(clean, reply.errors)))
            return Exit.FAILED
    definition = source.definition
    data = {
        "valid": True,
        "problems": [],
        "warnings": list(definition.warnings),
        "name": definition.name,
        "version": definition.version,
    }
    show(settings.form, data, lambda: _text(source.path, definition, agrees=server))
    return Exit.DONE


def _asked(settings: Settings, source: Source) -> Any:
    with settings.connect() as client:
        from rnx.client import LONG, pb  # noqa: PLC0415

        request = pb.ValidateRuntimeYAMLRequest(yaml_content=source.text)
        return client.call(client.runtimes.ValidateRuntimeYAML, request, LONG)


def _problems(reply: Any) -> list[dict[str, object]]:
    return [
        {"line": each.line, "column": each.column, "key": each.key, "message": each.message}
        for each in reply.problems
        if not each.is_warning
    ]


def _text(path: Path, definition: Definition, *, agrees: bool) -> str:
    says = ", and the agent agrees" if agrees else ""
    lines = [f"{clean(str(path))}: valid, {definition}{says}"]
    return "\n".join([*lines, *(f"warning: {clean(each)}" for each in definition.warnings)])
