"""The command ``joblet-agent``: arguments, signals, exit status."""

import sys

# 4 MB of libcrypto less: asyncio goes without TLS (gRPC has its own), and hashlib has code of its own, too.
sys.modules["ssl"] = sys.modules["_hashlib"] = None  # type: ignore[assignment]

import argparse
import asyncio
import logging
import os
import signal
from pathlib import Path

from joblet_agent.config import DEFAULT_PATH, AgentConfig, load_config
from joblet_agent.errors import JobletError

# Before grpc is loaded: or everybody who can connect could fill the log with handshakes that fail.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

EXIT_FAILED, EXIT_CONFIG = 1, 78  # EX_CONFIG of sysexits.h: systemd shows it by name

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class _PriorityFormatter(logging.Formatter):
    """Puts the syslog priority in front of each line, for journald (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        mark = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(mark + line for line in super().format(record).splitlines())


def main() -> None:
    """Run the agent until SIGTERM or SIGINT.

    Exit status: 0 stopped, 1 could not start (see the message), 2 usage, 78 configuration.
    """
    options = _parser().parse_args()
    try:
        config = load_config(options.config)
    except JobletError as error:
        _complain(error)
        sys.exit(EXIT_CONFIG)
    _set_up_logging(config)
    try:
        asyncio.run(_serve(config))
    except JobletError as error:
        _complain(error)
        sys.exit(EXIT_FAILED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="joblet-agent", description="Run jobs as systemd units, over gRPC.")
    parser.add_argument("--config", type=Path, metavar="PATH", help=f"configuration file ({DEFAULT_PATH})")
    return parser


async def _serve(config: AgentConfig) -> None:
    from joblet_agent.app import Agent  # noqa: PLC0415 - a wrong configuration is told before grpc is loaded

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Agent(config).run(stop)


def _set_up_logging(config: AgentConfig) -> None:
    handler = logging.StreamHandler(sys.stderr)
    if "JOURNAL_STREAM" in os.environ:
        handler.setFormatter(_PriorityFormatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=config.log_level.upper(), handlers=[handler])
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _complain(error: JobletError) -> None:
    sys.stderr.write(f"joblet-agent: {error}\n")
    if error.hint:
        sys.stderr.write(f"hint: {error.hint}\n")


if __name__ == "__main__":
    main()
