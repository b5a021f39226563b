"""The agent as a program: arguments, signals, exit status."""

import sys

# 4 MB of libcrypto less: asyncio goes without TLS (gRPC has its own), and hashlib has code of its own, too.
sys.modules["ssl"] = sys.modules["_hashlib"] = None  # type: ignore[assignment]

import argparse
import asyncio
import logging
import os
import signal
from pathlib import Path

from joblet_agent.complaint import EXIT_CONFIG, EXIT_FAILED, complain
from joblet_agent.config import AgentConfig, load_files
from joblet_agent.errors import JobletError

# Before grpc is loaded: or everybody who can connect could fill the log with handshakes that fail.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}

_log = logging.getLogger(__name__)


class _PriorityFormatter(logging.Formatter):
    """Puts the syslog priority in front of each line, for journald (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        mark = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(mark + line for line in super().format(record).splitlines())


def main() -> None:
    """Run the agent until SIGTERM or SIGINT; SIGHUP has it read its configuration again.

    Exit status: 0 stopped, 1 could not start (see the message), 2 usage, 78 configuration, or a state
    database that needs a newer agent.
    """
    options = _parser().parse_args()
    signal.signal(
        signal.SIGHUP, signal.SIG_IGN
    )  # until somebody listens to it: systemd takes that for a clean end
    try:
        loaded = load_files(options.config)
    except JobletError as error:
        complain(error)
        sys.exit(EXIT_CONFIG)
    config = loaded.config
    _set_up_logging(config)
    for warning in loaded.warnings:
        _log.warning(warning)
    os.umask(0o077)  # whatever started it; and never another one, as it counts for all threads
    try:
        asyncio.run(_serve(config, options.config))
    except JobletError as error:
        complain(error)
        # The file of a newer agent is still one a moment later: systemd is not to try again.
        sys.exit(EXIT_CONFIG if error.reason == "STORE_TOO_NEW" else EXIT_FAILED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="joblet-agent", add_help=False)  # --help: see command_line.py
    parser.add_argument("--config", type=Path, metavar="PATH")
    return parser


async def _serve(config: AgentConfig, path: Path | None) -> None:
    from joblet_agent.app import Agent  # noqa: PLC0415 - a wrong configuration is told before grpc is loaded

    stop, hangup = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    await Agent(config, path).run(stop, hangup)


def _set_up_logging(config: AgentConfig) -> None:
    handler = logging.StreamHandler(sys.stderr)
    if "JOURNAL_STREAM" in os.environ:
        handler.setFormatter(_PriorityFormatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=config.log_level.upper(), handlers=[handler])
    logging.getLogger("asyncio").setLevel(logging.WARNING)
