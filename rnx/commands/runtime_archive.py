"""The commands that bring runtimes from one node to another."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from rnx import candidates
from rnx.cli import Command
from rnx.context import Settings
from rnx.exits import RnxError, UsageError
from rnx.output import clean, show
from rnx.runtimes.views import info_data, short_size, spec_of

_SHA256_LENGTH = 64


@click.command("export", cls=Command, short_help="Save a runtime as an archive.")
@click.argument("spec", shell_complete=candidates.runtimes)
@click.option(
    "-o",
    "--to",
    "place",
    metavar="FILE",
    shell_complete=candidates.files,
    help="where to save it; without it NAME-VERSION.oci.tar in the current directory",
)
@click.option("--force", is_flag=True, help="replace a file that is there")
@click.pass_obj
def export(settings: Settings, spec: str, place: str | None, force: bool) -> None:
    """Save a runtime as an OCI archive, which another agent, skopeo, docker and podman can read.

    Permission: read files. Exit status: 0 saved, 1 failed, 2 wrong usage.

    Example: rnx runtime export python-3.11-ml -o ml.oci.tar
    """
    if not spec:
        raise UsageError("the name of the runtime is empty", hint="see: rnx runtime list")
    with settings.connect() as client:
        from rnx.client import LONG, pb  # noqa: PLC0415
        from rnx.runtimes.archives import save_archive  # noqa: PLC0415

        target = Path(place) if place is not None else None
        if target is None:
            question = pb.GetRuntimeInfoRequest(runtime=spec)
            known = client.call(client.runtimes.GetRuntimeInfo, question, LONG)
            if not known.found:
                raise RnxError(f"runtime {spec} not found", hint="see: rnx runtime list")
            target = Path(f"{known.runtime.name}-{known.runtime.version}.oci.tar".replace("/", "_"))
        request = pb.ExportRuntimeRequest(runtime=spec)
        saved = save_archive(target, client.stream(client.agent.ExportRuntime, request), force=force)
    data = {
        "runtime": spec_of(saved.runtime),
        "digest": saved.runtime.digest,
        "target": str(target),
        "size_bytes": saved.size_bytes,
    }
    show(
        settings.form,
        data,
        lambda: f"{clean(spec_of(saved.runtime))}: {short_size(saved.size_bytes)} in {clean(str(target))}",
    )


@click.command("import", cls=Command, short_help="Take in a runtime from an archive.")
@click.argument("file", shell_complete=candidates.files)
@click.option("--name", default="", metavar="NAME", help="name for it, which an image of others needs")
@click.option("--version", "version", default="", metavar="X.Y.Z", help="version for it")
@click.option("--sha256", default="", metavar="DIGEST", help="what the SHA-256 of the file must be")
@click.option("--force", is_flag=True, help="replace another runtime of that name and version")
@click.pass_obj
def import_archive(
    settings: Settings, *, file: str, name: str, version: str, sha256: str, force: bool
) -> None:
    """Take in a runtime from an OCI archive: one that rnx runtime export made, or any image of Linux.

    The digest of a runtime that was exported is computed again, and must be the one in the archive. The
    runtime is there as a whole or not at all.

    Permission: manage. Exit status: 0 taken in, 1 failed, 2 wrong usage.

    Example: rnx runtime import debian.oci.tar --name debian-base --version 13.0.0
    """
    sha256 = sha256.lower().removeprefix("sha256:")
    if sha256 and (len(sha256) != _SHA256_LENGTH or set(sha256) - set("0123456789abcdef")):
        raise UsageError("cannot read --sha256: it is not 64 hexadecimal digits")
    path = Path(file)
    if not path.is_file():
        raise RnxError(f"cannot read {path}: {'not a file' if path.exists() else 'no such file'}")
    with settings.connect() as client:
        from rnx.progress import Progress  # noqa: PLC0415
        from rnx.runtimes.archives import archive_messages  # noqa: PLC0415

        with Progress("Uploading", 0) as progress:
            messages = archive_messages(
                path, name=name, version=version, force=force, sha256=sha256, progress=progress
            )
            taken = client.send(client.agent.ImportRuntime, messages)
    data = info_data(taken.runtime)
    if taken.notes:
        data["notes"] = list(taken.notes)
    show(settings.form, data, lambda: _taken_in(taken.runtime, taken.notes))


@click.command("install", cls=Command, short_help="Install a runtime that a registry offers.")
@click.argument("spec")
@click.option("-f", "--force", is_flag=True, help="replace one that is there")
@click.option(
    "--registry",
    is_flag=False,
    flag_value="",
    default=None,
    metavar="URL",
    help="where from: an address (file:, http:, https:), or OWNER/REPO; without it the node's own",
)
@click.option("--github-repo", "repository", default="", metavar="OWNER/REPO", help="the same as --registry")
@click.pass_obj
def install(settings: Settings, *, spec: str, force: bool, registry: str | None, repository: str) -> None:
    """Install a runtime on the node from a registry. SPEC is NAME, NAME@VERSION or NAME@latest.

    Permission: manage. Exit status: 0 installed, 1 failed, 2 wrong usage.

    Example: rnx runtime install python-3.11-ml@1.3.1 --registry=https://runtimes.example.org/registry.json
    """
    if not spec:
        raise UsageError("the name of the runtime is empty", hint="see: rnx runtime list --registry")
    address = registry or ""
    is_address = ":" in address or address.startswith("/")
    result = None
    with settings.connect() as client:
        from rnx.client import pb  # noqa: PLC0415

        request = pb.InstallRuntimeRequest(
            runtime_spec=spec,
            force_reinstall=force,
            registry_url=address if is_address else "",
            repository=repository or ("" if is_address else address),
        )
        for chunk in client.stream(client.runtimes.StreamingInstallRuntimeFromGithub, request):
            if chunk.HasField("result"):
                result = chunk.result
            else:
                _show_progress(chunk)
    if result is None:
        raise RnxError("the installation ended without a result", hint="see: rnx runtime list")
    if not result.success:
        raise RnxError(result.message, hint=result.hint, reason=result.reason)
    data = {
        "success": True,
        "message": result.message,
        "runtime": result.runtime_spec,
        "digest": result.runtime.digest,
        "install_path": result.install_path,
    }
    show(
        settings.form,
        data,
        lambda: (
            f"Runtime installed successfully: {clean(result.runtime_spec)}\n"
            f"Message: {clean(result.message)}\n"
            f"Path: {clean(result.install_path)}"
        ),
    )


def _show_progress(chunk: Any) -> None:
    if chunk.HasField("progress"):
        step = chunk.progress
        print(f"[{step.step}/{step.total_steps}] {clean(step.message)}", file=sys.stderr, flush=True)
    else:
        for line in chunk.log.data.decode(errors="replace").splitlines():
            print(f"    {clean(line)}", file=sys.stderr, flush=True)


def _taken_in(runtime: Any, notes: Iterable[str]) -> str:
    spec = clean(spec_of(runtime))
    lines = ["Runtime imported successfully", f"Runtime: {spec}", f"Digest: {runtime.digest}"]
    lines += [f"Size: {short_size(runtime.size_bytes)}", *(f"Note: {clean(note)}" for note in notes)]
    return "\n".join([*lines, f"Use it: rnx run --runtime={spec} COMMAND"])
