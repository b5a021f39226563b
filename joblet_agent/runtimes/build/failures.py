"""What the last words of a package tool mean: one clear error for each way in which a step fails. Pure.

apt, pip and npm say the reason somewhere in their last lines, each in its own words and for another reader.
What none of these patterns knows is told as it was said.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from joblet_agent.errors import HostUnavailable, InvalidRequest, JobletError, LaunchFailed, LimitReached
from joblet_agent.runtimes.build.events import BuildPhase, LogLevel
from joblet_agent.runtimes.build.step import StepEnd

__all__ = ["level_of", "step_failed"]

_LOUD: Final = frozenset(
    {BuildPhase.PRE_INSTALL, BuildPhase.PIP, BuildPhase.NPM, BuildPhase.FILES, BuildPhase.CHECK_TREE}
)
"""Phases whose output is for everybody; of the others it is a detail."""
_ERROR: Final = re.compile(r"^(E: |ERROR\b|error\b|npm (ERR!|error)|dpkg: error)", re.IGNORECASE)
# Of mmdebstrap's those that nobody can do anything about are a detail.
_WARNING: Final = re.compile(
    r"^(W: (?!gpg --version|Host system|skipping creation|Unable to read)"
    r"|WARNING\b|npm (WARN|warn)|dpkg: warning)",
    re.IGNORECASE,
)

_MOST_TEXT: Final = 20_000
_EMPTY_WORDS: Final = re.compile(r"E: (unshared command failed|system failed: \d+)")
"""What tools say of failures that others have told before."""

_NOT_REACHED: Final = (
    "the package archive cannot be reached or ended in the middle",
    "see whether the archive works and runtimes.proxy is right, then build again",
)


def level_of(phase: BuildPhase, line: str) -> LogLevel:
    """Return how loud a line of a step is."""
    if _ERROR.match(line):
        return LogLevel.ERROR
    if _WARNING.match(line):
        return LogLevel.WARN
    return LogLevel.INFO if phase in _LOUD else LogLevel.DEBUG


@dataclass(frozen=True, slots=True)
class _Pattern:
    """What lines that match mean."""

    pattern: re.Pattern[str]
    reason: str
    text: str
    """With the groups of the pattern."""
    hint: str | None = None
    kind: Callable[..., JobletError] = InvalidRequest


def _p(
    pattern: str,
    reason: str,
    text: str,
    hint: str | None = None,
    kind: Callable[..., JobletError] = InvalidRequest,
) -> _Pattern:
    return _Pattern(re.compile(pattern, re.MULTILINE), f"RUNTIME_BUILD_{reason}", text, hint, kind)


_SPELLING: Final = "see whether its name is right, and the suite has it"
_GONE: Final = "archives forget old versions: take another one, or make a new lock (rnx runtime lock)"

# The most telling first: a mirror that ends in the middle is also a package that cannot be found.
_PATTERNS: Final = (
    _p(r"Hash Sum mismatch", "HASH_MISMATCH", "{line}", "the archive gives other files than it says"),
    _p(
        r"THESE PACKAGES DO NOT MATCH THE HASHES(?:.|\n)*?\n\s+(?P<name>\S+) from ",
        "HASH_MISMATCH",
        "the file of {name} has another SHA-256 than the lock says",
        "the archive gives another file than when the lock was made",
    ),
    _p(
        r"(?:EINTEGRITY(?:.|\n)*?)(?P<what>sha\d+-\S+ integrity checksum failed.*|Verification failed.*)",
        "HASH_MISMATCH",
        "npm: {what}",
        "the archive gives another file than the lock says",
    ),
    _p(r"EINTEGRITY", "HASH_MISMATCH", "npm: a package has another checksum than the lock says"),
    _p(
        r"(?i)No space left on device|ENOSPC",
        "DISK_FULL",
        "there is no room left for its files",
        "give the build more (limits.disk), up to runtimes.max_disk",
        LimitReached,
    ),
    _p(
        r"E: Unable to locate package (?P<name>\S+)",
        "PACKAGE_UNKNOWN",
        "there is no package {name} in the distribution",
        _SPELLING,
    ),
    _p(
        r"E: Couldn't find any package by (?:glob|regex) '(?P<name>[^']+)'",
        "PACKAGE_UNKNOWN",
        "there is no package {name} in the distribution",
        _SPELLING,
    ),
    _p(
        r"E: Package '?(?P<name>[^' ]+)'? has no installation candidate",
        "PACKAGE_UNKNOWN",
        "there is no package {name} in the distribution",
        _SPELLING,
    ),
    _p(
        r"E: Version '(?P<version>[^']+)' for '(?P<name>[^']+)' was not found",
        "VERSION_GONE",
        "the archive has no version {version} of {name}",
        _GONE,
    ),
    _p(
        r"(?i)(?:Could not resolve|Temporary failure in name resolution|Connection refused|ConnectionError|"
        r"Max retries exceeded|Could not connect|Connection failed|Connection timed out|Read timed out|"
        r"Connection reset|Connection broken|IncompleteRead|unexpected size|does not have a Release file|"
        r"ECONNREFUSED|ECONNRESET|ENOTFOUND|ETIMEDOUT|EAI_AGAIN|ERR_SOCKET_TIMEOUT|Undetermined Error|"
        r"Network is unreachable|50[0-9] (?:Bad Gateway|Service Unavailable|Gateway Time))",
        "ARCHIVE_UNREACHABLE",
        _NOT_REACHED[0] + ": {line}",
        _NOT_REACHED[1],
        HostUnavailable,
    ),
    _p(
        r"Wheel '(?P<name>[^']+)' located at .+ is invalid",
        "ARCHIVE_UNREACHABLE",
        _NOT_REACHED[0] + ": the file of {name} is not whole",
        _NOT_REACHED[1],
        HostUnavailable,
    ),
    _p(
        r"Could not find a version that satisfies the requirement (?P<name>.+?) \(from versions: none\)",
        "PACKAGE_UNKNOWN",
        "the Python package index has no {name}",
        "see whether its name is right, and that it has a wheel for this version of Python",
    ),
    _p(
        r"Could not find a version that satisfies the requirement (?P<name>.+?) "
        r"\(from versions: (?P<versions>.*)\)",
        "VERSION_GONE",
        "the Python package index has no {name}; it has {versions}",
        _GONE,
    ),
    _p(
        r"No matching distribution found for (?P<name>.+)",
        "PACKAGE_UNKNOWN",
        "the Python package index has no {name}",
        "see whether its name is right, and that it has a wheel for this version of Python",
    ),
    _p(
        r"ERROR: Cannot install (?P<what>.+)",
        "CONFLICT",
        "pip cannot install {what}",
        "ask for versions that go together",
    ),
    _p(
        r"(?:Hashes are required|In --require-hashes mode)(?:.|\n)*",
        "LOCK_DIFFERS",
        "the lock does not have all that pip wants to install",
        "make a new one: rnx runtime lock",
    ),
    _p(
        r"'(?P<name>[^']+)' is not in (?:this|the npm) registry",
        "PACKAGE_UNKNOWN",
        "the npm registry has no {name}",
        "see whether its name is right",
    ),
    _p(
        r"(?:npm (?:ERR!|error) (?:notarget )?)No matching version found for (?P<name>\S+?)\.?$",
        "VERSION_GONE",
        "the npm registry has no {name}",
        _GONE,
    ),
    _p(
        r"`npm ci` can only install packages when(?:.|\n)*",
        "LOCK_DIFFERS",
        "package-lock.json is of another package.json",
        "make a new lock: rnx runtime lock",
    ),
    _p(r"(?P<name>\S+) +404 +Not Found", "VERSION_GONE", "the archive does not have {name} any more", _GONE),
    _p(
        r"(?P<what>NO_PUBKEY \S+|EXPKEYSIG .*|is not signed)",
        "ARCHIVE_UNTRUSTED",
        "nothing vouches for the package archive: {line}",
        "install the keyring of the distribution: debian-archive-keyring or ubuntu-archive-keyring",
    ),
)

_HOOKS: Final = {BuildPhase.PRE_INSTALL: "hooks.pre_install", BuildPhase.FILES: "hooks.post_install"}


def step_failed(runtime: str, phase: BuildPhase, end: StepEnd, lines: Sequence[str]) -> JobletError:
    """Return why a step failed that said these lines last, and with it the build."""
    begin = f"cannot build runtime {runtime}"
    if end.is_full:
        return LimitReached(
            f"{begin}: there is no room left for its files in the phase {phase.value}",
            reason="RUNTIME_BUILD_DISK_FULL",
            hint="give the build more (limits.disk), up to runtimes.max_disk",
        )
    if (by_result := _of_result(begin, phase, end)) is not None:
        return by_result
    if phase in _HOOKS:
        return _failed(f"{begin}: {_HOOKS[phase]} failed", end, lines, "RUNTIME_BUILD_HOOK_FAILED")
    if phase is BuildPhase.CHECK_TREE:
        return _failed(f"{begin}: its test failed", end, lines, "RUNTIME_BUILD_TEST_FAILED")
    text = "\n".join(lines)[-_MOST_TEXT:]
    for each in _PATTERNS:
        if (found := each.pattern.search(text)) is not None:
            words = each.text.format(line=_line_at(text, found.start()), **found.groupdict())
            return each.kind(f"{begin}: {words}", reason=each.reason, hint=each.hint)
    return _failed(f"{begin}: {phase.value} failed", end, lines, "RUNTIME_BUILD_STEP_FAILED")


def _of_result(begin: str, phase: BuildPhase, end: StepEnd) -> JobletError | None:
    match end.result:
        case "timeout":
            return LimitReached(
                f"{begin}: its time was over in the phase {phase.value}",
                reason="RUNTIME_BUILD_TIMEOUT",
                hint="give the build more (limits.time), up to runtimes.max_time",
            )
        case "oom-kill":
            return LimitReached(
                f"{begin}: the memory of builds did not suffice for the phase {phase.value}",
                reason="RUNTIME_BUILD_MEMORY",
                hint="give joblet-builds.slice more memory",
            )
        case "gone":
            return LaunchFailed(
                f"{begin}: what ran in the phase {phase.value} is gone, and nobody knows how it ended",
                reason="RUNTIME_BUILD_STEP_LOST",
                hint="build again",
            )
        case "stopped":
            return LaunchFailed(
                f"{begin}: somebody has stopped it in the phase {phase.value}",
                reason="RUNTIME_BUILD_STOPPED",
                hint="build again",
            )
    return None


def _failed(text: str, end: StepEnd, lines: Sequence[str], reason: str) -> JobletError:
    said = _telling(lines)
    return LaunchFailed(
        f"{text} with status {end.status}" + (f": {said}" if said else ""),
        reason=reason,
        hint="the log of the build has more (-v)",
    )


def _telling(lines: Sequence[str]) -> str:
    """Return the line that says most: the last error, else the last line."""
    said = [line.strip() for line in lines if line.strip() and not _EMPTY_WORDS.fullmatch(line.strip())]
    errors = [line for line in said if _ERROR.match(line)]
    return (errors or said)[-1][:500] if said else ""


def _line_at(text: str, position: int) -> str:
    begin = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    return text[begin : end if end >= 0 else len(text)].strip()[:500]
