"""Giving a client what was issued: into a new file, or to standard output."""

import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import click

from joblet_agent.errors import InvalidRequest
from joblet_agent.pki.bundle import bundle
from joblet_agent.pki.certificates import key_pem
from joblet_agent.pki.files import NewFile
from joblet_agent.pki.index import pem_of
from joblet_agent.pki.signing import Issued
from joblet_agent.pki.trail import tell_client


def hand_over(act: str, file: str, name: str, endpoint: str, issue: Callable[[], Issued]) -> None:
    """Issue, record that in the audit trail as this act, and write the client's file.

    Where the file goes is settled before anything is issued. Raises InvalidRequest or WrongState if it
    cannot go there.
    """
    if file == "-":
        _refuse_terminal()
        issued = issue()
        tell_client(act, issued.record)
        click.echo(_content(endpoint, issued), nl=False)
        return
    path = Path(file or _default(name))
    with closing(NewFile(path)) as new:
        issued = issue()
        tell_client(act, issued.record)
        new.write(_content(endpoint, issued))
    record = issued.record
    click.echo(f"{path}: {record.name}, {record.role}, for {endpoint}, until {record.until:%Y-%m-%d}")
    click.echo(
        f"give it to the client over a safe way (there: rnx config import {path.name}), and remove it here"
    )


def _content(endpoint: str, issued: Issued) -> bytes:
    authorities = "".join(map(pem_of, issued.authorities))
    return bundle(endpoint, pem_of(issued.record.certificate), key_pem(issued.key).decode(), authorities)


def _default(name: str) -> str:
    if "/" in name or name.startswith("."):
        raise InvalidRequest(
            f"cannot name a file after {name}", reason="FILE_NEEDED", hint="name one with -o FILE"
        )
    return f"{name}.yml"


def _refuse_terminal() -> None:
    if sys.stdout.isatty():
        raise InvalidRequest(
            "cannot write a private key to a terminal",
            reason="TERMINAL",
            hint="redirect the output, or name a file with -o",
        )
