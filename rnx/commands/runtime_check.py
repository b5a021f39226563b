"""The commands that check specs and definitions of runtimes."""

import json
from pathlib import Path
from typing import Any

import click

from rnx import candidates
from rnx.cli import Command
from rnx.context import Settings
from rnx.exits import Exit
from rnx.output import clean, show
from rnx.runtimes.views import spec_of

_FILE_ENDS = (".yaml", ".yml")


@click.command("validate", cls=Command, short_help="Check a runtime's spec, or a definition.")
@click.argument("spec", metavar="SPEC|FILE", shell_complete=candidates.runtimes_and_files)
@click.option("--server", is_flag=True, help="let the agent check a file, too")
@click.pass_obj
def validate(settings: Settings, spec: str, server: bool) -> int:
    """Check the spec of a runtime, or the file of a definition, and say everything that is wrong.

    What has a / in it, or ends with .yaml or .yml, is a file. A file is checked without an agent unless
    there is --server; a spec by the agent, which says what it means there now.

    Permission: read; for a file none without --server. Exit status: 0 valid, 1 not valid, 2 wrong usage.

    Example: rnx runtime validate python:3.11-ml
    """
    if "/" in spec or spec.endswith(_FILE_ENDS):
        from rnx.commands.runtime_file import validate_file  # noqa: PLC0415

        return validate_file(settings, Path(spec), server=server)
    with settings.connect() as client:
        from rnx.client import SHORT, pb  # noqa: PLC0415

        request = pb.ValidateRuntimeSpecRequest(runtime_spec=spec)
        reply = client.call(client.runtimes.ValidateRuntimeSpec, request, SHORT)
    show(settings.form, _spec_data(spec, reply), lambda: _spec_text(spec, reply))
    return Exit.DONE if reply.valid else Exit.FAILED


@click.command("schema", cls=Command, short_help="Print the JSON Schema of definitions.")
def schema() -> None:
    """Print the JSON Schema of runtime.yaml, with which editors check and complete.

    Exit status: 0 done, 2 wrong usage.
    """
    from joblet_agent.runtime_file.schema import runtime_schema  # noqa: PLC0415

    print(json.dumps(runtime_schema(), indent=2))


def _spec_data(spec: str, reply: Any) -> dict[str, object]:
    parts = reply.spec_info
    return {
        "valid": reply.valid,
        "message": reply.message,
        "original": spec,
        "normalized": reply.normalized_spec,
        "language": parts.language,
        "version": parts.version,
        "variants": list(parts.variants),
        "architecture": parts.architecture,
        "runtime": spec_of(reply.runtime) if reply.HasField("runtime") else "",
        "digest": reply.runtime.digest,
    }


def _spec_text(spec: str, reply: Any) -> str:
    if not reply.valid:
        lines = ["Runtime specification is invalid", f"Original: {clean(spec)}"]
        return "\n".join([*lines, f"Message: {clean(reply.message)}"])
    parts = reply.spec_info
    fields = {
        "Original": spec,
        "Normalized": reply.normalized_spec,
        "Language": parts.language,
        "Version": parts.version,
        "Variants": ", ".join(parts.variants),
        "Architecture": parts.architecture,
        "Runtime": spec_of(reply.runtime) if reply.HasField("runtime") else "not installed",
        "Digest": reply.runtime.digest,
    }
    return "\n".join(
        [
            "Runtime specification is valid",
            *(f"{name}: {clean(text)}" for name, text in fields.items() if text),
        ]
    )
