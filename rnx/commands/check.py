"""``rnx nodes test`` and ``rnx doctor``: whether the client can work, and what to do where it cannot."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import click

from rnx import candidates
from rnx.cli import Command
from rnx.config import DEFAULT_NODE, LOCAL_NODE, Credentials, Target, find_config, load_nodes, resolve
from rnx.context import Settings
from rnx.exits import Exit, RnxError, UsageError
from rnx.nodecheck import MOST_CLOCK_DIFFERENCE, Finding, look
from rnx.output import clean, show

_PARALLEL = 8
SOON = timedelta(days=30)
"""Before a certificate expires, it is time to get a new one."""
MAY = {
    "admin": "may do everything",
    "operator": "may run and change jobs, and read everything",
    "viewer": "may read, and change nothing",
}
"""What a role may do, in words that follow its name; rnx(1) has them, too."""


@click.command("test", cls=Command, short_help="Connect to nodes and say what is wrong where it fails.")
@click.argument("name", metavar="[NODE]", required=False, shell_complete=candidates.nodes)
@click.option("--all", "every", is_flag=True, help="test every node of the configuration")
@click.pass_obj
def test(settings: Settings, name: str | None, every: bool) -> int:
    """Connect to NODE (that of --node, else default), and say as whom and how long.

    Of each node a line: the agent's version, your role, until when your certificate is valid; or why there is
    no connection and what to do. Permission: read.
    Exit status: 0 all answered, 1 one did not, 2 wrong usage.

    Example: rnx nodes test --all
    """
    if every and name:
        raise UsageError("cannot use --all together with the name of a node")
    names = [name or settings.node or DEFAULT_NODE]
    if every:
        path = find_config(settings.config)
        names = sorted(load_nodes(path)) if path else [LOCAL_NODE]
    with ThreadPoolExecutor(_PARALLEL) as pool:
        found = list(pool.map(lambda each: look(settings.config, each), names))
    show(settings.form, [_as_data(each) for each in found], lambda: "\n".join(map(_as_text, found)))
    return Exit.FAILED if any(each.error for each in found) else Exit.DONE


@dataclass(frozen=True, slots=True)
class Line:
    """One check: ``ok``, ``warning`` or ``failed``, what is the case and what to do about it."""

    check: str
    result: str
    text: str
    hint: str = ""
    code: str = ""


@click.command("doctor", cls=Command, short_help="Check configuration, certificate, connection, clock, role.")
@click.pass_obj
def doctor(settings: Settings) -> int:
    """Check what rnx needs to work with a node: configuration, connection, certificate, clock, role.

    A line for each check: ok, warning or failed, and what to do. Permission: read.
    Exit status: 0 rnx can work, 1 a check failed, 2 wrong usage.

    Example: rnx doctor --node=east
    """
    lines = list(_checks(settings))
    show(settings.form, [asdict(each) for each in lines], lambda: "\n".join(map(_as_line, lines)))
    return Exit.FAILED if any(each.result == "failed" for each in lines) else Exit.DONE


def _checks(settings: Settings) -> Iterator[Line]:
    node = settings.node or DEFAULT_NODE
    try:
        target = resolve(settings.config, node, os.environ)
        yield _configuration(settings, node, target)
    except RnxError as error:
        yield _failed("configuration", error)
        return
    if target.credentials is not None:
        yield _certificate(target.credentials)
    found = look(settings.config, node)
    if found.error is not None:
        yield _failed("connection", found.error)
        return
    yield Line("connection", "ok", f"agent {found.version or 'of an older version'} at {found.address}")
    if found.clock is not None:
        yield _clock(found.clock)
    if found.role:
        text = f"{found.role} as {found.caller}: {MAY.get(found.role, 'rnx does not know this role')}"
        yield Line("role", "ok", text)


def _failed(check: str, error: RnxError) -> Line:
    return Line(check, "failed", str(error), error.hint, error.reason)


def _configuration(settings: Settings, node: str, target: Target) -> Line:
    if target.warning:
        text, _, mend = target.warning.rpartition(": ")
        return Line("configuration", "warning", text, mend, "KEY_IS_OPEN")
    if target.credentials is not None:
        return Line("configuration", "ok", f"node {node} of {find_config(settings.config)}")
    return Line("configuration", "ok", f"none is used, but the socket {target.address.removeprefix('unix:')}")


def _certificate(credentials: Credentials) -> Line:
    from rnx.certificate import check_own, stamp  # noqa: PLC0415 - ssl

    try:
        own = check_own(credentials)
    except RnxError as error:
        return _failed("certificate", error)
    text = f"{own.name} from {own.issuer or 'a CA without a name'}, until {stamp(own.until)}"
    if own.until - datetime.now(UTC) < SOON:
        hint = "ask an administrator for a new one in time"
        return Line("certificate", "warning", text, hint, "CLIENT_CERTIFICATE_ENDS_SOON")
    return Line("certificate", "ok", text)


def _clock(ahead: timedelta) -> Line:
    text = (
        f"the agent's is {abs(ahead.total_seconds()):.1f} s {'ahead' if ahead >= timedelta() else 'behind'}"
    )
    if abs(ahead) > MOST_CLOCK_DIFFERENCE:
        hint = "let both hosts keep the time: timedatectl set-ntp true"
        return Line("clock", "warning", text, hint, "CLOCKS_DIFFER")
    return Line("clock", "ok", text)


def _as_line(line: Line) -> str:
    code, hint = line.code and f" [{line.code}]", line.hint and f"; {line.hint}"
    return clean(f"{line.check}: {line.result}: {line.text}{code}{hint}")


def _as_data(found: Finding) -> dict[str, object]:
    data: dict[str, object] = {"name": found.node, "address": found.address}
    if found.error is not None:
        error = found.error
        return data | {"status": "error", "code": error.reason, "message": str(error), "hint": error.hint}
    data |= {"status": "ok", "version": found.version, "caller": found.caller, "role": found.role}
    if found.expires is not None:
        data["certificateExpires"] = f"{found.expires:%Y-%m-%dT%H:%M:%SZ}"
    if found.clock is not None:
        data["clockAheadSeconds"] = round(found.clock.total_seconds(), 3)
    return data


def _as_text(found: Finding) -> str:
    if found.error is not None:
        error = found.error
        code, hint = error.reason and f" [{error.reason}]", error.hint and f"; {error.hint}"
        return clean(f"{found.node}: failed: {error}{code}{hint}")
    parts = [f"agent {found.version or 'of an older version'} at {found.address}"]
    parts += [f"{found.role} as {found.caller}"] if found.role else []
    parts += [f"certificate until {found.expires:%Y-%m-%d %H:%M:%S} UTC"] if found.expires else []
    return clean(f"{found.node}: ok: {', '.join(parts)}")
