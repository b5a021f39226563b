"""The commands on runtimes that are there; builds are in runtime_build.py, archives in runtime_archive.py."""

import click

from rnx import candidates
from rnx.cli import Command
from rnx.context import Settings
from rnx.exits import Exit, RnxError, UsageError
from rnx.output import Format, clean, show
from rnx.runtimes.views import (
    info_data,
    info_text,
    offered_data,
    offered_table,
    runtime_data,
    runtime_table,
    short_size,
    spec_of,
    test_data,
    test_text,
    verdict_data,
    verdict_lines,
)


@click.command("list", cls=Command, short_help="List runtimes of the node, or of a registry.")
@click.option(
    "--registry",
    is_flag=False,
    flag_value="",
    default=None,
    metavar="URL",
    help="what a registry offers: an address (file:, http:, https:), or OWNER/REPO; alone: the node's own",
)
@click.option(
    "--github-repo", "repository", default=None, metavar="OWNER/REPO", help="the same as --registry"
)
@click.pass_obj
def list_runtimes(settings: Settings, registry: str | None, repository: str | None) -> None:
    """List the runtimes of the node, by name and version; with --registry what a registry offers.

    Permission: read; with --registry manage. Exit status: 0 done, 1 failed, 2 wrong usage.

    Example: rnx runtime list
    """
    address = registry if registry is not None else repository
    with settings.connect() as client:
        from rnx.client import LONG, pb  # noqa: PLC0415

        if address is not None:
            request = pb.GetOfferedRuntimesRequest(registry_url=address)
            offered = client.call(client.agent.GetOfferedRuntimes, request, LONG).runtimes
            show(settings.form, [offered_data(each) for each in offered], lambda: offered_table(offered))
            return
        runtimes = client.call(client.runtimes.ListRuntimes, pb.EmptyRequest(), LONG).runtimes
    show(settings.form, [runtime_data(each) for each in runtimes], lambda: runtime_table(runtimes))


@click.command("info", cls=Command, short_help="Show everything about a runtime.")
@click.argument("spec", shell_complete=candidates.runtimes)
@click.option("--definition", is_flag=True, help="print the text that it was built from, and nothing else")
@click.option("--lock", "is_lock", is_flag=True, help="print its lock file, and nothing else")
@click.pass_obj
def info(settings: Settings, spec: str, definition: bool, is_lock: bool) -> None:
    """Show a runtime: its digest, size, packages, environment, who uses it.

    SPEC is NAME, NAME@VERSION or NAME@latest; python:3.11-ml is python-3.11-ml.

    Permission: read. Exit status: 0 done, 1 failed, 2 wrong usage.

    Example: rnx runtime info python-3.11-ml --lock >runtime.lock
    """
    _check(spec)
    with settings.connect() as client:
        from rnx.client import LONG, pb  # noqa: PLC0415

        reply = client.call(client.runtimes.GetRuntimeInfo, pb.GetRuntimeInfoRequest(runtime=spec), LONG)
    if not reply.found:
        raise RnxError(f"runtime {spec} not found", hint="see: rnx runtime list")
    runtime = reply.runtime
    if definition or is_lock:
        text, noun = (runtime.lock, "lock file") if is_lock else (runtime.original_yaml, "definition")
        if not text:
            raise RnxError(f"runtime {spec_of(runtime)} has no {noun}: its source is {runtime.source}")
        click.echo(text, nl=not text.endswith("\n"))
        return
    show(settings.form, info_data(runtime), lambda: info_text(runtime))


@click.command("test", cls=Command, short_help="Run the test of a runtime as a job.")
@click.argument("spec", shell_complete=candidates.runtimes)
@click.pass_obj
def test(settings: Settings, spec: str) -> int:
    """Run the test of a runtime as a job, and show what it printed and how it ended.

    The test is the one of its definition, else a small program in its language. The job has the sandbox of
    every job and no network, and is deleted afterwards.

    Permission: run. Exit status: 0 passed, 1 failed, 2 wrong usage.

    Example: rnx runtime test python:3.11-ml
    """
    _check(spec)
    with settings.connect() as client:
        from rnx.client import TEST, pb  # noqa: PLC0415

        reply = client.call(client.runtimes.TestRuntime, pb.TestRuntimeRequest(runtime=spec), TEST)
    show(settings.form, test_data(reply), lambda: test_text(reply))
    return Exit.DONE if reply.success else Exit.FAILED


@click.command("verify", cls=Command, short_help="Compare the files of runtimes with their digests.")
@click.argument("spec", default="", shell_complete=candidates.runtimes)
@click.pass_obj
def verify(settings: Settings, spec: str) -> int:
    """Read all files of a runtime (without SPEC: of all) and compare them with its digest.

    Permission: run. Exit status: 0 all are intact, 1 damaged or failed, 2 wrong usage.

    Example: rnx runtime verify python-3.11
    """
    verdicts = []
    with settings.connect() as client:
        from rnx.client import pb  # noqa: PLC0415

        for verdict in client.stream(client.agent.VerifyRuntime, pb.VerifyRuntimeRequest(runtime=spec)):
            verdicts.append(verdict)
            if settings.form is Format.TABLE:
                print("\n".join(verdict_lines(verdict)), flush=True)
    if settings.form is not Format.TABLE:
        show(settings.form, [verdict_data(each) for each in verdicts], str)
    elif not verdicts:
        print("No runtimes available.")
    return Exit.FAILED if any(each.damages for each in verdicts) else Exit.DONE


@click.command("remove", cls=Command, short_help="Remove a runtime that nothing uses.")
@click.argument("spec", shell_complete=candidates.runtimes)
@click.option("--force", is_flag=True, help="also while something uses it: its files stay until nothing does")
@click.pass_obj
def remove(settings: Settings, spec: str, force: bool) -> None:
    """Remove a runtime: NAME@VERSION this version, NAME all versions. Nobody is asked again.

    Refused while a job that runs or waits, a schedule, a workflow or another runtime uses it.

    Permission: manage. Exit status: 0 removed, 1 failed, 2 wrong usage.

    Example: rnx runtime remove python-3.11@1.0.0
    """
    _check(spec)
    with settings.connect() as client:
        from rnx.client import COPY, pb  # noqa: PLC0415

        request = pb.RemoveRuntimeRequest(runtime=spec, force=force)
        reply = client.call(client.runtimes.RemoveRuntime, request, COPY)
    if not reply.success:
        raise RnxError(reply.message)
    data = {
        "success": True,
        "message": reply.message,
        "freed_space_bytes": reply.freed_space_bytes,
        "removed": list(reply.removed),
    }
    show(
        settings.form,
        data,
        lambda: (
            "Runtime removed successfully\n"
            f"Message: {clean(reply.message)}\n"
            f"Freed space: {short_size(reply.freed_space_bytes)}"
        ),
    )


@click.command("gc", cls=Command, short_help="Remove files of runtimes that nothing needs any more.")
@click.pass_obj
def gc(settings: Settings) -> None:
    """Remove files that belong to no runtime and no job any more. The agent does it daily by itself.

    Permission: manage. Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    with settings.connect() as client:
        from rnx.client import COPY, pb  # noqa: PLC0415

        reply = client.call(client.agent.GcRuntimes, pb.GcRuntimesRequest(), COPY)
    data = {"trees": reply.trees, "objects": reply.objects, "freed_bytes": reply.freed_bytes}
    show(
        settings.form,
        data,
        lambda: f"{reply.trees} runtimes and {reply.objects} files removed, {short_size(reply.freed_bytes)}",
    )


def _check(spec: str) -> None:
    if not spec:
        raise UsageError("the name of the runtime is empty", hint="see: rnx runtime list")
