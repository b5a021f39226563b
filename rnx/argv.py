"""Flags as data, and the reader of the ``run`` command line.

``run`` has rules that a general parser does not have: flags are read from the left until the first word that
is no flag, or until ``--``; everything from the command on belongs to the job, untouched. The tables below
are the single description of a flag: this reader, the click commands and the help all use them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from rnx.exits import UsageError, near

INT32_MAX = 2**31 - 1

FlagValue = str | int | bool | list[str]
FlagValues = dict[str, FlagValue]


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. Without ``metavar`` it is a switch."""

    long: str
    help: str
    metavar: str = ""
    short: str = ""
    many: bool = False
    number: bool = False
    env: str = ""
    choices: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The flag's name in the values that were read."""
        return self.long.removeprefix("--").replace("-", "_")

    @property
    def usage(self) -> str:
        """The flag as the help shows it."""
        names = f"{self.short}, {self.long}" if self.short else f"    {self.long}"
        return f"{names}={self.metavar}" if self.metavar else names


GLOBAL_FLAGS = (
    Flag("--config", "client configuration file", "PATH", env="RNX_CONFIG"),
    Flag("--node", "entry of the configuration, or `local` for this host", "NAME", env="RNX_NODE"),
    Flag("--json", "print JSON; the same as -o json"),
    Flag("--output", "form of the output: json, yaml or table", "FORM", "-o", env="RNX_OUTPUT_FORMAT",
         choices=("json", "yaml", "table")),
)  # fmt: skip

LIMIT_FLAGS = (
    Flag("--timeout", "longest run time, e.g. 30s, 1h30m", "TIME", env="RNX_RUN_TIMEOUT"),
    Flag("--max-cpu", "CPU ceiling: 150 or 150% of a core, 1.5 cores", "N", env="RNX_RUN_MAX_CPU"),
    Flag("--max-memory", "memory ceiling: 512 (MB), 512M, 1.5G", "SIZE", env="RNX_RUN_MAX_MEMORY"),
    Flag("--max-iobps", "ceiling of reads, and of writes, in bytes per second: 1000000, 10M", "RATE",
         env="RNX_RUN_MAX_IOBPS"),
    Flag("--cpu-cores", "cores to use: 0-3 or 0,2,4 or 0-1,6", "SPEC", env="RNX_RUN_CPU_CORES"),
    Flag("--max-tasks", "most processes and threads", "N", number=True, env="RNX_RUN_MAX_TASKS"),
    Flag("--nice", "step back for other processes: 1 to 19", "N", number=True, env="RNX_RUN_NICE"),
    Flag("--cpu-weight", "share of the CPU beside others: 1 to 10000 (100)", "N", number=True,
         env="RNX_RUN_CPU_WEIGHT"),
    Flag("--io-weight", "share of the disks beside others: 1 to 10000 (100)", "N", number=True,
         env="RNX_RUN_IO_WEIGHT"),
)  # fmt: skip

RUN_FLAGS = (
    Flag("--attach", "show the output, wait, and exit with the job's status", short="-a"),
    Flag("--detach", "print only the id of the job", short="-d"),
    Flag("--quiet", "the same as --detach", short="-q"),
    Flag("--name", "name of the job, for people", "NAME", env="RNX_RUN_NAME"),
    Flag("--env", "environment variable; may be repeated", "KEY=VALUE", "-e", many=True),
    Flag("--env-file", "file of KEY=VALUE lines; --env wins; may be repeated", "FILE", many=True),
    Flag("--secret-env", "secret variable; KEY alone hides it from ps; may be repeated", "KEY[=VALUE]",
         "-s", many=True),
    Flag("--secret-env-file", "file of secret variables; may be repeated", "FILE", many=True),
    Flag("--secret-file", "file at $CREDENTIALS_DIRECTORY/NAME; may be repeated", "NAME=PATH", many=True),
    Flag("--workdir", "working directory in the job (default /work)", "DIR", env="RNX_RUN_WORKDIR"),
    Flag("--network", "network to join; rnx network list has them", "NAME", env="RNX_RUN_NETWORK"),
    Flag("--publish", "[ADDR:]HOSTPORT:JOBPORT[/tcp|udp] leads to the job: 8080:80, [2001:db8::5]:53:53/udp; "
         "may be repeated", "PORTS", many=True),
    Flag("--bandwidth", "most bits per second on the network, each way: 10mbit, 500kbit, 1.5gbit", "RATE",
         env="RNX_RUN_BANDWIDTH"),
    Flag("--profile", "isolation: default, strict or privileged", "NAME", env="RNX_RUN_PROFILE"),
    Flag("--volume", "volume to mount (at /volumes/NAME); may be repeated", "NAME[:/PATH][:ro]", many=True),
    Flag("--runtime", "runtime to use, e.g. python:3.11-ml", "SPEC", env="RNX_RUN_RUNTIME"),
    Flag("--upload", "file to send into the workspace; may be repeated", "FILE", many=True),
    Flag("--upload-dir", "directory whose contents to send; may be repeated", "DIR", many=True),
    Flag("--work-size", "most bytes in /work, which is memory if the agent has no quotas: 512M, 2G", "SIZE",
         env="RNX_RUN_WORK_SIZE"),
    Flag("--schedule", "start later: 2h30m, '2026-01-31 23:59'; or by the calendar: daily, 'Mon..Fri 02:00'",
         "WHEN", env="RNX_RUN_SCHEDULE"),
    Flag("--skip-missed", "leave a scheduled start out that was missed by more than a minute"),
    Flag("--workflow", "run the jobs of a workflow file, and no command", "FILE[:NAME]"),
    *LIMIT_FLAGS,
    Flag("--gpu", "number of GPUs", "N", number=True, env="RNX_RUN_GPU"),
    Flag("--gpu-memory", "least memory of each GPU: 8GB, 2048 (MB)", "SIZE", env="RNX_RUN_GPU_MEMORY"),
    Flag("--token", "a run that is repeated with the same token makes no second job", "TEXT"),
    Flag("--help", "show this help", short="-h"),
)  # fmt: skip


def read_flags(words: Sequence[str], flags: Sequence[Flag]) -> tuple[FlagValues, list[str]]:
    """Read flags from the left; return their values and the words after them.

    ``--`` ends the flags and is dropped. Raises UsageError for a flag that is unknown, lacks its value, or
    has one that cannot be read.
    """
    known = {name: flag for flag in flags for name in (flag.long, flag.short) if name}
    values: FlagValues = {}
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        name, equals, text = word.partition("=")
        flag = known.get(name)
        if flag is None:
            hint = (
                near(name, [flag.long for flag in flags]) or "put -- before a command that begins with a dash"
            )
            raise UsageError(f"unknown flag: {name}", hint=hint)
        _store(values, flag, _value(flag, name, text if equals else None, rest))
    return values, rest


def with_environment(values: FlagValues, flags: Sequence[Flag], environment: Mapping[str, str]) -> FlagValues:
    """Return ``values`` with the flags that were not given taken from their environment variables."""
    filled = dict(values)
    for flag in flags:
        text = environment.get(flag.env, "") if flag.env else ""
        if text and flag.key not in filled:
            _store(filled, flag, _convert(flag, flag.env, text))
    return filled


def asks_to_attach(words: Sequence[str]) -> bool:
    """Tell whether a ``run`` line that may not even be readable asks for ``--attach``."""
    after = list(words[words.index("run") + 1 :]) if "run" in words else list(words)
    return any(word in ("-a", "--attach") for word in takewhile(lambda word: word.startswith("-"), after))


def run_help() -> str:
    """Return the help of ``run``."""
    flags = (*RUN_FLAGS, *GLOBAL_FLAGS)
    width = max(len(flag.usage) for flag in flags)
    lines = [f"  {flag.usage:{width}}  {flag.help}" for flag in flags]
    return RUN_HELP.format(flags="\n".join(lines))


def _value(flag: Flag, name: str, text: str | None, rest: list[str]) -> FlagValue:
    if flag.metavar and text is None:
        if not rest:
            raise UsageError(f"flag {name} needs a value", hint=f"write {flag.long}={flag.metavar}")
        text = rest.pop(0)
    return _convert(flag, name, text)


def _convert(flag: Flag, name: str, text: str | None) -> FlagValue:
    """Turn the text of a value (None: a bare switch) into the flag's kind; ``name`` is for the error."""
    if not flag.metavar:
        if text in (None, "true", "false"):
            return text != "false"
        raise UsageError(f"cannot read {name}={text}: a switch is true or false")
    assert text is not None
    if flag.choices and text not in flag.choices:
        hint = near(text, list(flag.choices))
        raise UsageError(f"cannot read {name}={text}: expected {', '.join(flag.choices)}", hint=hint)
    return _whole_number(name, text) if flag.number else text


def _whole_number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"cannot read {name}={text}: expected a whole number")
    if len(text) > len(str(INT32_MAX)) or int(text) > INT32_MAX:
        raise UsageError(f"cannot read {name}={text}: the largest number is {INT32_MAX}")
    return int(text)


def _store(values: FlagValues, flag: Flag, value: FlagValue) -> None:
    if not flag.many:
        values[flag.key] = value
        return
    before = values.setdefault(flag.key, [])
    assert isinstance(before, list)
    assert isinstance(value, str)
    before.append(value)


RUN_HELP = """\
Usage: rnx run [FLAGS] COMMAND [ARG...]
       rnx job run [FLAGS] COMMAND [ARG...]
       rnx run [--attach | --quiet] [--token=TEXT] --workflow=FILE[:NAME]

Run a command as an isolated job.

Returns as soon as the agent has accepted the job; with --attach it shows the
output and waits for the end. Flags end at the first word that is no flag, or
at --; all words from the command on reach the job as they are.

Flags:
{flags}

Everybody on this host sees the arguments of a running rnx (ps), so give a
secret by its name alone (--secret-env=KEY) or in a file. Nobody sees it later.

With --attach, Ctrl-C asks the job to stop, a second Ctrl-C kills it.

With --workflow it is rnx workflow run, which says more.

Permission: run.
Exit status: 0 accepted, 1 failed, 2 wrong usage. With --attach the job's own;
125 when rnx or the agent failed, 126 when the command cannot be executed,
127 when it is not found, 128+N when signal N ended it.

Example:
  rnx run --attach --env=GREETING=hello sh -c 'echo $GREETING'
"""
