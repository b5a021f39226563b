"""``rnx run`` and ``rnx job run``: argv -> request; reply -> text or JSON. Works without click."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rnx.argv import (
    GLOBAL_FLAGS,
    INT32_MAX,
    RUN_FLAGS,
    FlagValues,
    asks_to_attach,
    read_flags,
    run_help,
    with_environment,
)
from rnx.context import Settings
from rnx.exits import Exit, RnxError, UsageError, report
from rnx.output import Format, clean, show, status_word

if TYPE_CHECKING:
    from rnx.client import Client
    from rnx.uploads import Upload


_WITH_WORKFLOW = frozenset({"workflow", "attach", "detach", "quiet", "token"})


def run(words: Sequence[str], global_flags: FlagValues) -> int:
    """Run the words after ``run``; ``global_flags`` are those in front of it."""
    try:
        return _run(words, global_flags)
    except RnxError as error:
        if not asks_to_attach(words):
            raise
        # The status belongs to the job, so that a failure of ours must not look like one of its own.
        report(error)
        return Exit.OURS
    except BrokenPipeError:
        if not asks_to_attach(words):
            raise
        return Exit.OURS


def _run(words: Sequence[str], global_flags: FlagValues) -> int:
    given, command = read_flags(words, (*RUN_FLAGS, *GLOBAL_FLAGS))
    if given.get("help"):
        print(run_help(), end="")
        return Exit.DONE
    flags = with_environment(given, RUN_FLAGS, os.environ)
    if flags.pop("quiet", False):
        flags["detach"] = True
    settings = Settings.from_flags({**global_flags, **flags})
    if "workflow" in given:
        return _run_workflow(given, command, settings)
    if not command:
        raise UsageError("must specify a command to run", hint="rnx run --help")
    _check_together(flags, settings)
    wanted = _request_fields(flags, command)
    uploads = _uploads(flags)
    client = settings.connect(quiet=bool(flags.get("detach")))
    request = _request(client, wanted, uploads, flags)
    if flags.get("attach"):
        from rnx.attach import attach  # noqa: PLC0415

        return attach(client, request)
    _print_accepted(client, request, sum(not each.is_directory for each in uploads), flags, settings)
    return Exit.DONE


def _run_workflow(given: FlagValues, command: Sequence[str], settings: Settings) -> int:
    """Run the workflow that the first form names; what is said of one job here is refused."""
    if command:
        raise UsageError(
            f"cannot run {command[0]} together with --workflow: its jobs have commands of their own"
        )
    for flag in RUN_FLAGS:
        if flag.key in given and flag.key not in _WITH_WORKFLOW:
            raise UsageError(
                f"cannot use {flag.long} together with --workflow", hint="say it in the file, for each job"
            )
    from rnx.workflows.running import Wanted, run_workflow  # noqa: PLC0415

    wanted = Wanted(
        str(given["workflow"]),
        attach=bool(given.get("attach")),
        quiet=bool(given.get("quiet") or given.get("detach")),
        token=str(given.get("token", "")),
        first_form=True,
    )
    return run_workflow(settings, wanted)


def _check_together(flags: FlagValues, settings: Settings) -> None:
    if not flags.get("attach"):
        return
    if flags.get("detach"):
        raise UsageError("cannot use --attach together with --detach")
    if settings.form is not Format.TABLE:
        raise UsageError(
            f"cannot print the output of a job as {settings.form}: --attach passes it on as it is"
        )


def _request_fields(flags: FlagValues, command: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a RunJobRequest; read and checked before anything is loaded or sent."""
    from rnx.environment import read_variables, warnings  # noqa: PLC0415
    from rnx.limits import limit_fields, read_bytes  # noqa: PLC0415

    environment = read_variables("--env", _many(flags, "env"), _many(flags, "env_file"))
    secrets = read_variables(
        "--secret-env", _many(flags, "secret_env"), _many(flags, "secret_env_file"), own=os.environ
    )
    for warning in warnings([*environment, *secrets]):
        print(f"rnx: warning: {warning}", file=sys.stderr)
    return {
        "command": command[0],
        "args": command[1:],
        "name": flags.get("name", ""),
        "environment": environment,
        "secret_environment": secrets,
        "secret_files": _secret_files(flags),
        "token": flags.get("token", ""),
        "work_dir": flags.get("workdir", ""),
        "network": flags.get("network", ""),
        "bandwidth": _bandwidth(flags),
        "ports": _ports(flags),
        "profile": flags.get("profile", ""),
        "volumes": _many(flags, "volume"),
        "runtime": flags.get("runtime", ""),
        **limit_fields(flags),
        "work_size": read_bytes("--work-size", str(flags["work_size"])) if "work_size" in flags else 0,
        "schedule": _schedule(flags),
        "skip_missed": bool(flags.get("skip_missed")),
        "gpu_count": flags.get("gpu", 0),
        "gpu_memory_mb": _megabytes(str(flags.get("gpu_memory", ""))),
    }


def _request(client: "Client", fields: dict[str, Any], uploads: "list[Upload]", flags: FlagValues) -> Any:
    """Return the request; large files are sent before it."""
    from rnx.client import pb  # noqa: PLC0415

    if not uploads:
        return pb.RunJobRequest(**fields)
    from rnx.uploads import send_uploads  # noqa: PLC0415

    if not flags.get("detach") and not flags.get("attach"):
        size = sum(each.size for each in uploads) / 2**20
        count = sum(not each.is_directory for each in uploads)
        print(f"Uploading {count} files ({size:.2f} MB)...", file=sys.stderr)
    return pb.RunJobRequest(**fields, **send_uploads(client, uploads))


def _many(flags: FlagValues, key: str) -> list[str]:
    values = flags.get(key, [])
    assert isinstance(values, list)
    return values


def _uploads(flags: FlagValues) -> "list[Upload]":
    files, directories = _many(flags, "upload"), _many(flags, "upload_dir")
    if not files and not directories:
        return []
    from rnx.uploads import find_uploads  # noqa: PLC0415

    return find_uploads(files, directories)


def _secret_files(flags: FlagValues) -> dict[str, bytes]:
    words = _many(flags, "secret_file")
    if not words:
        return {}
    from rnx.secret_files import read_secret_files  # noqa: PLC0415

    return read_secret_files(words)


def _bandwidth(flags: FlagValues) -> int:
    text = str(flags.get("bandwidth", ""))
    if not text:
        return 0
    from rnx.traffic import read_bandwidth  # noqa: PLC0415

    return read_bandwidth("--bandwidth", text)


def _ports(flags: FlagValues) -> list[dict[str, Any]]:
    words = _many(flags, "publish")
    if not words:
        return []
    from rnx.traffic import read_ports  # noqa: PLC0415

    return read_ports("--publish", words)


def _schedule(flags: FlagValues) -> str:
    """Return the start as RFC 3339, or the calendar expression; the agent's clock decides when that is."""
    text = str(flags.get("schedule", ""))
    if not text:
        return ""
    from datetime import datetime  # noqa: PLC0415

    from rnx.times import is_recurring, start_after  # noqa: PLC0415

    start = start_after(text, datetime.now().astimezone())
    if flags.get("attach") and is_recurring(start):
        raise UsageError(
            f"cannot use --attach together with --schedule={text}: each start is a job of its own",
            hint="leave --attach out, and see rnx schedule show for the jobs",
        )
    return start


def _megabytes(text: str) -> int:
    if not text:
        return 0
    upper = text.strip().upper()
    number = upper.removesuffix("GB").removesuffix("MB")
    if not (number.isascii() and number.isdigit()):
        raise UsageError(f"cannot read --gpu-memory={text}: expected for example 8GB, 1024MB or 2048")
    megabytes = int(number[:12]) * (1024 if upper.endswith("GB") else 1)
    if megabytes > INT32_MAX:
        raise UsageError(f"cannot read --gpu-memory={text}: the largest size is {INT32_MAX}MB")
    return megabytes


def _print_accepted(
    client: Any, request: Any, file_count: int, flags: FlagValues, settings: Settings
) -> None:
    from rnx.submit import submit  # noqa: PLC0415

    reply = submit(client, request)
    if flags.get("detach") and settings.form is Format.TABLE:
        print(clean(reply.job_uuid or reply.schedule_uuid))
        return
    typed = str(flags.get("schedule", ""))
    show(
        settings.form,
        _as_data(reply, request, file_count, typed),
        lambda: _as_text(reply, request, file_count, typed),
    )


def _as_data(reply: Any, request: Any, file_count: int, typed: str) -> dict[str, object]:
    data: dict[str, object] = {
        "job_uuid": reply.job_uuid,
        "command": reply.command,
        "args": list(reply.args),
        "status": reply.status,
    }
    when_set = {
        "start_time": reply.start_time,
        "schedule_uuid": reply.schedule_uuid,
        "schedule_input": typed,
        "scheduled_time": reply.scheduled_time,
        "files_uploaded": file_count,
        "env_vars": len(request.environment),
        "secret_env_vars": len(request.secret_environment),
        "secret_files": len(request.secret_files),
        "queue_position": reply.queue_position,
    }
    return data | {key: value for key, value in when_set.items() if value}


def _as_text(reply: Any, request: Any, file_count: int, typed: str) -> str:
    lines = [
        "Schedule created:" if reply.schedule_uuid else "Job started:",
        f"ID: {clean(reply.job_uuid or reply.schedule_uuid)}",
        f"Command: {clean(' '.join([reply.command, *reply.args]))}",
        f"Status: {status_word(reply.status)}",
    ]
    if typed or reply.scheduled_time:
        lines += [f"Schedule Input: {clean(typed)}", f"Scheduled Time: {clean(reply.scheduled_time)}"]
    else:
        lines.append(f"StartTime: {clean(reply.start_time) or 'not started yet'}")
    if reply.queue_position:
        lines.append(f"Queue Position: {reply.queue_position}")
    counts = {
        "Files: {} uploaded successfully": file_count,
        "Environment: {} variables set": len(request.environment),
        "Secret Environment: {} variables set": len(request.secret_environment),
        "Secret Files: {} placed": len(request.secret_files),
    }
    return "\n".join(lines + [text.format(count) for text, count in counts.items() if count])
