"""What the last words of package tools mean, in words of real runs of them."""

import pytest

from joblet_agent.runtimes.build.events import BuildPhase, LogLevel
from joblet_agent.runtimes.build.failures import level_of, step_failed
from joblet_agent.runtimes.build.step import StepEnd

FAILED = StepEnd(1, "exit-code")

SAID = [
    ("E: Unable to locate package nonesuch", "PACKAGE_UNKNOWN", "no package nonesuch"),
    ("E: Version '9' for 'git' was not found", "VERSION_GONE", "no version 9 of git"),
    ("E: Package 'x' has no installation candidate", "PACKAGE_UNKNOWN", "no package x"),
    (
        "E: Failed to fetch http://h/pool/x.deb  404  Not Found [IP: 127.0.0.1 80]",
        *("VERSION_GONE", "http://h/pool/x.deb"),
    ),
    ("E: Failed to fetch http://h/x.deb  Hash Sum mismatch", "HASH_MISMATCH", "Hash Sum mismatch"),
    (
        "E: Failed to fetch http://h/x.deb  Could not connect to h:80 (127.0.0.1). - connect (111: "
        "Connection refused)",
        *("ARCHIVE_UNREACHABLE", "cannot be reached"),
    ),
    ("dpkg: error: cannot write: No space left on device", "DISK_FULL", "no room"),
    (
        "ERROR: Could not find a version that satisfies the requirement nonesuch (from versions: none)\n"
        "ERROR: No matching distribution found for nonesuch",
        *("PACKAGE_UNKNOWN", "no nonesuch"),
    ),
    (
        "ERROR: Could not find a version that satisfies the requirement six==99 "
        "(from versions: 1.0, 1.16.0)\n"
        "ERROR: No matching distribution found for six==99",
        *("VERSION_GONE", "it has 1.0, 1.16.0"),
    ),
    (
        "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated\n"
        "    six==1.16.0 from http://h/six-1.16.0.whl (from -r /r.txt (line 1)):\n"
        "        Expected sha256 00\n             Got        11\n",
        *("HASH_MISMATCH", "the file of six==1.16.0"),
    ),
    (
        "ERROR: In --require-hashes mode, all requirements must have their versions pinned",
        *("LOCK_DIFFERS", "does not have all"),
    ),
    ("ERROR: Cannot install a==1 and b==2 because these package versions", "CONFLICT", "a==1 and b==2"),
    (
        "npm ERR! code E404\nnpm ERR! 404  'nonesuch@*' is not in this registry.",
        *("PACKAGE_UNKNOWN", "no nonesuch@*"),
    ),
    (
        "npm ERR! code ETARGET\nnpm ERR! notarget No matching version found for left-pad@99.",
        *("VERSION_GONE", "no left-pad@99"),
    ),
    (
        "npm error code EINTEGRITY\nnpm error sha512-AA== integrity checksum failed when using sha512",
        *("HASH_MISMATCH", "integrity checksum failed"),
    ),
    (
        "ERROR: Wheel 'half' located at /tmp/half-1.0-py3-none-any.whl is invalid.",
        *("ARCHIVE_UNREACHABLE", "the file of half is not whole"),
    ),
    ("something else", "STEP_FAILED", "something else"),
]


@pytest.mark.parametrize(("said", "reason", "named"), SAID)
def test_a_tools_words_become_one_error(said: str, reason: str, named: str) -> None:
    error = step_failed("x@1.0.0", BuildPhase.PACKAGES, FAILED, said.splitlines())
    assert error.reason == f"RUNTIME_BUILD_{reason}"
    assert str(error).startswith("cannot build runtime x@1.0.0: ")
    assert named in str(error)


def test_a_hook_is_told_by_its_own_words() -> None:
    lines = [
        "No space left on device",
        "E: the reason",
        "E: system failed: 256",
        "E: unshared command failed",
    ]
    error = step_failed("x@1.0.0", BuildPhase.PRE_INSTALL, StepEnd(3, "exit-code"), lines)
    assert error.reason == "RUNTIME_BUILD_HOOK_FAILED"
    assert str(error).endswith("hooks.pre_install failed with status 3: E: the reason")


@pytest.mark.parametrize(
    ("phase", "line", "level"),
    [
        (BuildPhase.PACKAGES, "Get:1 http://h", LogLevel.DEBUG),
        (BuildPhase.PIP, "Collecting six", LogLevel.INFO),
        (BuildPhase.PACKAGES, "E: no", LogLevel.ERROR),
        (BuildPhase.NPM, "npm WARN deprecated x", LogLevel.WARN),
        (BuildPhase.NPM, "npm ERR! code E404", LogLevel.ERROR),
    ],
)
def test_lines_have_levels(phase: BuildPhase, line: str, level: LogLevel) -> None:
    assert level_of(phase, line) is level
