"""``joblet-agent pki``: certificates for the network listener, from a CA of this host's own. For root."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from joblet_agent.complaint import EXIT_FAILED, complain
from joblet_agent.config import DEFAULT_PATH, AgentConfig, Listening, load_config
from joblet_agent.errors import HostUnavailable
from joblet_agent.model.identity import Role
from joblet_agent.pki.authority import AUTHORITY_DAYS, CLIENT_DAYS, MOST_DAYS, CertificateAuthority
from joblet_agent.pki.listing import as_json, as_table
from joblet_agent.pki.store import CA_EXISTS
from joblet_agent.tool import run_tool

if TYPE_CHECKING:
    from joblet_agent.pki.names import HostNames

EXIT_EXISTS = 3

_ROLES = click.Choice([role.value for role in Role])
_DAYS = click.IntRange(1, MOST_DAYS)


@dataclass(frozen=True, slots=True)
class Tool:
    """What the commands work with."""

    config: AgentConfig

    @property
    def authority(self) -> CertificateAuthority:
        """Return the CA of the configured directory."""
        return CertificateAuthority(self.config.tls.directory, self._host)

    @property
    def must_listen(self) -> bool:
        """Say whether the agent does not start without certificates."""
        return self.config.listener.enabled is Listening.YES

    def _host(self) -> "HostNames":
        from joblet_agent.pki.host import find_host  # noqa: PLC0415 - most commands do not ask

        found = find_host().listening_on(self.config.listener.address)
        return found.known_as(self.config.tls.names)

    def endpoint(self, given: str) -> str:
        """Return what a client connects to."""
        from joblet_agent.pki.names import endpoint  # noqa: PLC0415 - likewise

        return endpoint(given or self._host().best, self.config.listener.port)


def run(words: Sequence[str]) -> int:
    """Run one command line and return the exit status.

    0 done, 1 failed, 2 wrong usage, 3 there is a CA already (init), 78 wrong configuration, 130 interrupted.
    """
    try:
        return run_tool(cli, words, "pki", {CA_EXISTS: EXIT_EXISTS})
    except OSError as error:
        what = ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)
        hint = "run it as root" if isinstance(error, PermissionError) else None
        complain(HostUnavailable(f"cannot go on: {what}", reason="PKI_FILES", hint=hint))
        return EXIT_FAILED


@click.group(
    help="Make, renew, revoke and list certificates, from a CA of this host's own. For root.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--config", type=click.Path(path_type=Path), help=f"Configuration file ({DEFAULT_PATH}).")
@click.pass_context
def cli(context: click.Context, config: Path | None) -> None:
    """Read the configuration."""
    context.obj = Tool(load_config(config))


@cli.command(short_help="Make the CA and the agent's certificate, once.")
@click.option("--name", "names", multiple=True, help="A further DNS name of the agent; may be repeated.")
@click.option("--address", "addresses", multiple=True, help="A further IP address of it; may be repeated.")
@click.option("--days", type=_DAYS, default=AUTHORITY_DAYS, show_default=True, help="Life of the CA.")
@click.option(
    "--first-start", is_flag=True, help="Do nothing unless listener.enabled is yes and there are none."
)
@click.pass_obj
def init(
    tool: Tool, names: tuple[str, ...], addresses: tuple[str, ...], days: int, *, first_start: bool
) -> None:
    """Make a CA and the agent's certificate. The agent begins to listen when it sees them.

    The certificate has the names and addresses that this host has now, those of tls.names, and those
    given. What is there already is never overwritten: then the exit status is 3. --first-start is for
    joblet-agent-certificates.service, which runs before the agent.
    """
    from joblet_agent.pki.trail import tell_own  # noqa: PLC0415 - commands that only read do without

    if first_start and not (tool.must_listen and tool.authority.lacks_certificates):
        return
    holding = tool.authority.init(names, addresses, days)
    tell_own("init", "CA", holding.index.authorities[-1])
    click.echo(as_table(holding.rows))
    click.echo(f"the CA is in {tool.authority.store.directory}: keep a copy where only you can read it")
    click.echo("next: joblet-agent pki issue NAME --role admin|operator|viewer")


@cli.command(short_help="Make a client's certificate, as its rnx-config.yml.")
@click.argument("name")
@click.option("--role", type=_ROLES, required=True, help="What the client may do.")
@click.option("--days", type=_DAYS, default=CLIENT_DAYS, show_default=True, help="Life of the certificate.")
@click.option("-o", "file", default="", metavar="FILE", help="Where to (NAME.yml); - is standard output.")
@click.option("--connect", default="", metavar="HOST[:PORT]", help="Where the client finds the agent.")
@click.pass_obj
def issue(tool: Tool, name: str, role: str, days: int, file: str, connect: str) -> None:
    """Write a client's rnx-config.yml: certificate, key, CA and address. The key is nowhere else.

    NAME is who the client is in lists of jobs and in the audit trail.
    """
    from joblet_agent.pki.handing import hand_over  # noqa: PLC0415

    endpoint = tool.endpoint(connect)
    hand_over("issue", file, name, endpoint, lambda: tool.authority.issue(name, Role(role), days))


@cli.command(short_help="Make the next certificate of a client, of the agent, or the next CA.")
@click.argument("name", metavar="server|ca|NAME", required=False)
@click.option("--due", "is_due", is_flag=True, help="Whatever of agent and CA has a third of its life left.")
@click.option("--days", type=_DAYS, help="Life of a client's certificate, or of the CA.")
@click.option("-o", "file", metavar="FILE", help="Where to, for a client (NAME.yml); - is standard output.")
@click.option("--connect", metavar="HOST[:PORT]", help="Where the client finds the agent.")
@click.option("--name", "names", multiple=True, help="A further DNS name of the agent; may be repeated.")
@click.option("--address", "addresses", multiple=True, help="A further IP address of it; may be repeated.")
@click.pass_obj
def renew(tool: Tool, /, name: str | None, is_due: bool, **options: Any) -> None:
    """Make the next certificate; the one before stays good until it ends or is revoked.

    server: with the names that the host has now and those asked for before, for the same key. ca: beside the
    one before, which goes with its last client. A client gets a new file, with a new key. --due
    is for the timer: it renews what is the agent's own, and tells of clients whose certificates end soon.
    """
    from joblet_agent.pki.renewing import renew as renew_one  # noqa: PLC0415

    if (name is None) is not is_due:
        raise click.UsageError("expected server, ca, a name, or --due")
    given = {key: value for key, value in options.items() if value not in (None, ())}
    renew_one(tool, name, given)


@cli.command(short_help="Refuse a client's certificates from now on.")
@click.argument("name", metavar="NAME|SERIAL")
@click.pass_obj
def revoke(tool: Tool, name: str) -> None:
    """Revoke all certificates of a name, or one by its serial number. Streams of that client end."""
    from joblet_agent.pki.trail import tell_client  # noqa: PLC0415

    revoked = tool.authority.revoke(name)
    for record in revoked:
        tell_client("revoke", record)
        click.echo(f"revoked {record.serial} of {record.name}, {record.role}")
    if not revoked:
        click.echo(f"nothing to do: no certificate of {name} is valid any more")


@cli.command("list", short_help="Show all certificates.")
@click.option("-o", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_obj
def list_certificates(tool: Tool, form: str) -> None:
    """Show the CA, the agent's certificate and those of all clients; due means: renew it soon."""
    rows = tool.authority.holding().rows
    click.echo(as_json(rows) if form == "json" else as_table(rows))


@cli.command(short_help="Print certificates, never keys.")
@click.argument("name", required=False)
@click.option("--ca", "is_authority", is_flag=True, help="The certificates of the CA.")
@click.pass_obj
def export(tool: Tool, name: str | None, is_authority: bool) -> None:
    """Print a client's newest certificate, or those of the CA, as PEM."""
    if (name is None) is not is_authority:
        raise click.UsageError("expected a name, or --ca")
    click.echo(tool.authority.export(name), nl=False)
