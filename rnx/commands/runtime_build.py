"""The commands that build runtimes, and find out what a build would take."""

import sys
from pathlib import Path
from typing import Any

import click

from rnx import candidates
from rnx.cli import Command
from rnx.context import Settings
from rnx.exits import Exit, RnxError, UsageError
from rnx.output import Column, clean, show, table
from rnx.runtimes.views import short_size
from rnx.times import show_duration, show_time

_FILE = click.option(
    "-f",
    "--file",
    "file",
    required=True,
    metavar="FILE",
    shell_complete=candidates.files,
    help="the definition, runtime.yaml",
)
_VERBOSE = click.option("-v", "--verbose", is_flag=True, help="show the output of the build's steps, too")


@click.command("build", cls=Command, short_help="Build a runtime from its definition.")
@_FILE
@click.option("--locked", is_flag=True, help="fail unless everything is as the lock file says")
@click.option(
    "--lock",
    "lock_file",
    default=None,
    metavar="FILE",
    shell_complete=candidates.files,
    help="the lock file; without it the one that the definition names",
)
@click.option("--dry-run", is_flag=True, help="build nothing; check, and show what would be built")
@click.option("--force", is_flag=True, help="build even if the runtime is there, and replace it")
@click.option("-d", "--detach", is_flag=True, help="print the id of the build, and let it go on")
@_VERBOSE
@click.pass_obj
def build(
    settings: Settings,
    *,
    file: str,
    locked: bool,
    lock_file: str | None,
    dry_run: bool,
    force: bool,
    detach: bool,
    verbose: bool,
) -> int:
    """Build a runtime on the node: packages, hooks, checks; jobs can use it when this ends.

    The 14 phases are shown on standard error, the runtime on standard output. Ctrl-C cancels the build, and
    nothing is left of it; of a build that somebody else has begun it only ends the following. A connection
    that is lost is found again: builds go on while the agent restarts.

    Permission: manage. Exit status: 0 built, 1 failed, 2 wrong usage, 130 after Ctrl-C.

    Example: rnx runtime build -f runtime.yaml
    """
    if detach and dry_run:
        raise UsageError("--detach and --dry-run exclude each other: a dry run is soon over")
    from rnx.runtimes.definitions import read_definition, read_lock  # noqa: PLC0415 - the YAML reader

    source = read_definition(file)
    lock = read_lock(source, lock_file, locked=locked)
    with settings.connect() as client:
        from rnx.client import pb  # noqa: PLC0415
        from rnx.runtimes.building import BuildFollower, BuildScreen, follow, interrupted  # noqa: PLC0415

        request = pb.BuildRuntimeRequest(
            yaml_content=source.text,
            dry_run=dry_run,
            verbose=verbose,
            force_rebuild=force,
            locked=locked,
            lock=lock,
            detach=detach,
        )
        follower = BuildFollower(
            client, lambda: client.stream(client.runtimes.BuildRuntime, request), verbose=verbose
        )
        if detach:
            return _detached(settings, follower)
        try:
            result = follow(follower, BuildScreen())
        except KeyboardInterrupt:
            return interrupted(client, follower, cancels=True)
    return _show_result(settings, result, is_dry_run=dry_run)


@click.command("attach", cls=Command, short_help="Follow a build from its beginning.")
@click.argument("build_name", metavar="BUILD", shell_complete=candidates.runtime_builds)
@_VERBOSE
@click.pass_obj
def attach(settings: Settings, build_name: str, verbose: bool) -> int:
    """Follow a build to its end. BUILD is its id, or the name of what it builds. Ctrl-C ends nothing.

    Permission: read. Exit status: 0 built, 1 failed, 2 wrong usage, 130 after Ctrl-C.
    """
    with settings.connect() as client:
        from rnx.client import pb  # noqa: PLC0415
        from rnx.runtimes.building import BuildFollower, BuildScreen, follow, interrupted  # noqa: PLC0415

        request = pb.FollowRuntimeBuildRequest(build=build_name, verbose=verbose)
        follower = BuildFollower(
            client, lambda: client.stream(client.agent.FollowRuntimeBuild, request), verbose=verbose
        )
        try:
            result = follow(follower, BuildScreen())
        except KeyboardInterrupt:
            return interrupted(client, follower, cancels=False)
    return _show_result(settings, result, is_dry_run=False)


@click.command("cancel", cls=Command, short_help="End a build; nothing is left of it.")
@click.argument("build_name", metavar="BUILD", shell_complete=candidates.runtime_builds)
@click.pass_obj
def cancel(settings: Settings, build_name: str) -> None:
    """End a build, and remove what there is of it. BUILD is its id, or the name of what it builds.

    Permission: manage. Exit status: 0 canceled, 1 failed, 2 wrong usage.
    """
    with settings.connect() as client:
        from rnx.runtimes.building import cancel_build  # noqa: PLC0415

        ended = cancel_build(client, build_name)
    show(settings.form, _build_data(ended), lambda: f"Build of {clean(_built(ended))} canceled")


@click.command("builds", cls=Command, short_help="List builds that wait or run.")
@click.pass_obj
def builds(settings: Settings) -> None:
    """List builds that wait or run, the oldest first.

    Permission: read. Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    with settings.connect() as client:
        from rnx.client import SHORT, pb  # noqa: PLC0415

        found = client.call(client.agent.GetRuntimeBuilds, pb.GetRuntimeBuildsRequest(), SHORT).builds
    columns = (Column("BUILD"), Column("RUNTIME", least=20), Column("PHASE"), Column("STARTED"), Column("BY"))
    rows = [[b.build_id, _built(b), _phase(b), show_time(b.started_time), b.started_by] for b in found]
    show(
        settings.form,
        [_build_data(each) for each in found],
        lambda: table(columns, rows) if rows else "No builds.",
    )


@click.command("lock", cls=Command, short_help="Find the exact versions that a build would take.")
@_FILE
@click.option(
    "-o",
    "--to",
    "place",
    metavar="FILE",
    shell_complete=candidates.files,
    help="where to write them (- for standard output); without it where the definition says, or beside it",
)
@_VERBOSE
@click.pass_obj
def lock(settings: Settings, file: str, place: str | None, verbose: bool) -> int:
    """Find the exact versions and digests of all packages, and write them into the lock file.

    rnx runtime build --locked then takes these, or fails. An older lock file is replaced.

    Permission: manage. Exit status: 0 written, 1 failed, 2 wrong usage, 130 after Ctrl-C.

    Example: rnx runtime lock -f runtime.yaml
    """
    from rnx.runtimes.definitions import read_definition  # noqa: PLC0415

    source = read_definition(file)
    with settings.connect() as client:
        from rnx.client import pb  # noqa: PLC0415
        from rnx.runtimes.building import BuildFollower, BuildScreen, follow, interrupted  # noqa: PLC0415

        request = pb.LockRuntimeRequest(yaml_content=source.text)
        follower = BuildFollower(
            client, lambda: client.stream(client.agent.LockRuntime, request), verbose=verbose
        )
        try:
            result = follow(follower, BuildScreen())
        except KeyboardInterrupt:
            return interrupted(client, follower, cancels=True)
    if not result.success:
        raise _failed(result)
    if place == "-":
        click.echo(result.lock, nl=False)
        return Exit.DONE
    target = Path(place) if place is not None else source.lock_path
    from rnx.runtimes.archives import replace_file  # noqa: PLC0415

    replace_file(target, result.lock.encode())
    show(settings.form, {"lock": str(target)}, lambda: f"Locked: {clean(str(target))}")
    return Exit.DONE


def _detached(settings: Settings, follower: Any) -> int:
    """Print the id of a build once it has one; a build that is over before fails or succeeds as any other."""
    for event in follower.events():
        if event.HasField("result"):
            return _show_result(settings, event.result, is_dry_run=False)
        if follower.build_id:
            break
    build_id = follower.build_id
    print(f"rnx: rnx runtime attach {clean(build_id)} follows the build", file=sys.stderr)
    show(settings.form, {"build_id": build_id}, lambda: clean(build_id))
    return Exit.DONE


def _show_result(settings: Settings, result: Any, *, is_dry_run: bool) -> int:
    if not result.success:
        raise _failed(result)
    data = {
        "success": True,
        "message": result.message,
        "name": result.runtime_name,
        "version": result.runtime_version,
        "digest": result.digest,
        "install_path": result.install_path,
        "size_bytes": result.size_bytes,
        "build_duration_ms": result.build_duration_ms,
    }
    show(settings.form, data, lambda: _result_text(result, is_dry_run=is_dry_run))
    return Exit.DONE


def _result_text(result: Any, *, is_dry_run: bool) -> str:
    from datetime import timedelta  # noqa: PLC0415

    name = f"{clean(result.runtime_name)}@{clean(result.runtime_version)}"
    if is_dry_run:
        return f"{name}: {clean(result.message) or 'can be built'}"
    fields = {
        "Runtime": name,
        "Message": clean(result.message),
        "Digest": result.digest,
        "Size": short_size(result.size_bytes),
        "Path": clean(result.install_path),
        "Time": show_duration(timedelta(milliseconds=result.build_duration_ms)),
    }
    lines = ["Runtime built successfully", *(f"{key}: {value}" for key, value in fields.items() if value)]
    return "\n".join([*lines, f"Use it: rnx run --runtime={name} COMMAND"])


def _failed(result: Any) -> RnxError:
    lines = result.message.split("\n")
    error = RnxError(lines[0] or "the build failed", hint=result.hint, reason=result.reason)
    error.more = [line for line in lines[1:] if line.strip()]
    return error


def _built(running: Any) -> str:
    return f"{running.name}@{running.version}"


def _phase(running: Any) -> str:
    phase = running.phase
    return (
        f"{phase.phase_number}/{phase.total_phases} {phase.phase_name}" if phase.phase_number else "waiting"
    )


def _build_data(running: Any) -> dict[str, object]:
    return {
        "build_id": running.build_id,
        "name": running.name,
        "version": running.version,
        "phase": running.phase.phase_number,
        "phase_name": running.phase.phase_name,
        "started_time": running.started_time,
        "started_by": running.started_by,
    }
