"""The command line of the testbed."""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys
from datetime import timedelta

from tests.testbed import cache, install, mirror, records
from tests.testbed.errors import TestbedError
from tests.testbed.guest import ENVIRONMENT
from tests.testbed.machine import Machine, attach, boot, boot_detached, unwind_on_sigterm
from tests.testbed.releases import Release

DESCRIPTION = "Boot throw-away Debian machines with a real systemd."


def main(argv: list[str]) -> int:
    """Run one command and return its exit status; 125 when the testbed itself fails."""
    unwind_on_sigterm()
    options = _parser().parse_args(argv)
    try:
        status: int = options.handler(options)
    except TestbedError as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 125
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return status


def _run(options: argparse.Namespace) -> int:
    with boot(options.release) as machine:
        if options.install:
            install.install_package(machine)
        return _execute(machine, options.command)


def _shell(options: argparse.Namespace) -> int:
    options.command = ["bash"]
    return _run(options)


def _up(options: argparse.Namespace) -> int:
    machine = boot_detached(options.release, options.name)
    if options.install:
        install.install_package(machine)
    print(f"{machine.name} is up ({machine.release.value}); `down {machine.name}` removes it")
    return 0


def _exec(options: argparse.Namespace) -> int:
    return _execute(attach(options.name), options.command)


def _sync(options: argparse.Namespace) -> int:
    install.sync(attach(options.name))
    return 0


def _mirror(options: argparse.Namespace) -> int:
    machine = attach(options.name)
    print(f"{machine.name} finds packages at {mirror.URL}, until it is down", flush=True)
    mirror.serve(machine.leader_pid)
    return 0


def _down(options: argparse.Namespace) -> int:
    attach(options.name).stop()
    return 0


def _list(_options: argparse.Namespace) -> int:
    for record in records.running_machines():
        print(f"{record.name}\t{record.release}\tPID 1 is {record.leader_pid}")
    return 0


def _reap(_options: argparse.Namespace) -> int:
    for name in records.reap():
        print(f"removed what was left of machine {name}")
    return 0


def _clean(options: argparse.Namespace) -> int:
    _reap(options)
    for path in cache.remove_unused(age=timedelta(0)):
        print(f"removed {path}")
    return 0


def _execute(machine: Machine, command: list[str]) -> int:
    """Run the command on this terminal; a signal's number is added to 128."""
    if sys.stdin.isatty():
        # A terminal of the machine's own: the host's is not in its /dev/pts.
        command = ["script", "--quiet", "--return", "--command", shlex.join(command), "/dev/null"]
    # In this process group, unlike Machine.run(): another one could not read the terminal.
    status = subprocess.run(
        machine.command(command), env={**ENVIRONMENT, "TERM": "xterm"}, check=False
    ).returncode
    return status if status >= 0 else 128 - status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m tests.testbed", description=DESCRIPTION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="boot a machine, run a command in it, throw it away")
    run.add_argument("release", type=Release)
    run.add_argument("--install", action="store_true", help="install the project's package first")
    run.add_argument("command", nargs="+", metavar="-- COMMAND")
    run.set_defaults(handler=_run)

    shell = commands.add_parser("shell", help="the same with a shell")
    shell.add_argument("release", type=Release)
    shell.add_argument("--install", action="store_true", help="install the project's package first")
    shell.set_defaults(handler=_shell)

    up = commands.add_parser("up", help="boot a machine that stays")
    up.add_argument("release", type=Release)
    up.add_argument("name")
    up.add_argument("--install", action="store_true", help="install the project's package in it")
    up.set_defaults(handler=_up)

    execute = commands.add_parser("exec", help="run a command in a machine that is up")
    execute.add_argument("name")
    execute.add_argument("command", nargs="+", metavar="-- COMMAND")
    execute.set_defaults(handler=_exec)

    sync = commands.add_parser("sync", help="put this checkout's code over the installed package")
    sync.add_argument("name")
    sync.set_defaults(handler=_sync)

    packages = commands.add_parser(
        "mirror", help="serve package archives to a machine that is up, until it is down"
    )
    packages.add_argument("name")
    packages.set_defaults(handler=_mirror)

    down = commands.add_parser("down", help="remove a machine that is up")
    down.add_argument("name")
    down.set_defaults(handler=_down)

    commands.add_parser("list", help="show the machines that are up").set_defaults(handler=_list)
    reap = commands.add_parser("reap", help="remove what is left of dead machines")
    reap.set_defaults(handler=_reap)
    clean = commands.add_parser("clean", help="the same, and the images that are not in use")
    clean.set_defaults(handler=_clean)
    return parser
