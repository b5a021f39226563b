"""``joblet-agent pki renew``: which of its options belong to what, and what it tells."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from joblet_agent.model.certificate import AUTHORITY, SERVER
from joblet_agent.pki.authority import CLIENT_DAYS
from joblet_agent.pki.certificates import span_of
from joblet_agent.pki.handing import hand_over
from joblet_agent.pki.index import serial_of
from joblet_agent.pki.renewal import Renewed
from joblet_agent.pki.trail import tell_own

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from joblet_agent.pki.command import Tool

_FLAGS = {"days": "--days", "file": "-o", "connect": "--connect", "names": "--name", "addresses": "--address"}


def renew(tool: "Tool", name: str | None, given: Mapping[str, Any]) -> None:
    """Renew what is named, or without a name what is due. ``given`` are the options, by parameter.

    Raises UsageError for an option that has no meaning with it.
    """
    renewal = tool.authority.renewal
    if name is None:
        _refuse_all_but(given, (), "--due")
        _tell(renewal.due(), is_everything=True)
    elif name == SERVER:
        _refuse_all_but(given, ("names", "addresses"), name)
        _tell(renewal.server(given.get("names", ()), given.get("addresses", ())))
    elif name == AUTHORITY:
        _refuse_all_but(given, ("days",), name)
        _tell(renewal.authority(given.get("days")))
    else:
        _refuse_all_but(given, ("days", "file", "connect"), "a client")
        _renew_client(tool, name, given)


def _renew_client(tool: "Tool", name: str, given: Mapping[str, Any]) -> None:
    file = given.get("file", "")
    endpoint = tool.endpoint(given.get("connect", ""))
    hand_over(
        "renew", file, name, endpoint, lambda: tool.authority.renew(name, given.get("days", CLIENT_DAYS))
    )


def _tell(done: Renewed, *, is_everything: bool = False) -> None:
    if done.authority is not None:
        tell_own("renew", "CA", done.authority)
        click.echo(f"new CA {_about(done.authority)}: it signs for clients; the one before stays beside it")
    for each in done.retired:
        tell_own("retire", "CA", each)
        click.echo(f"the CA {_about(each)} is not trusted any more: the last client of it has ended")
    if done.server is not None:
        tell_own("renew", "certificate of the agent", done.server)
        click.echo(f"new certificate of the agent {_about(done.server)}")
    if done.has_foreign_server:
        click.echo("server.crt is of another CA than the one here: left alone")
    for record in done.ending:
        click.echo(
            f"the certificate of {record.name}, {record.role}, ends on {record.until:%Y-%m-%d}: "
            f"joblet-agent pki renew makes the next one"
        )
    if is_everything and done == Renewed():
        click.echo("nothing is due")


def _about(certificate: "Certificate") -> str:
    return f"{serial_of(certificate)}, until {span_of(certificate).until:%Y-%m-%d}"


def _refuse_all_but(given: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    for key in given:
        if key not in known:
            raise click.UsageError(f"{_FLAGS[key]} has no meaning for the renewal of {what}")
