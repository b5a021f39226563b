"""Lock files: what is written is read back; without its hashes nothing is."""

import json
from dataclasses import replace

import pytest

from joblet_agent.runtime_file import (
    FileInvalid,
    Lock,
    LockedPackage,
    LockedWheel,
    differences,
    load,
    load_lock,
    wants_of,
)

DEFINITION = load(
    """\
schema_version: "1.1"
name: a
version: 1.0.0
base: {language: python, version: "3.11"}
apt: [git]
pip: [Flask_Login]
"""
)
NPM = json.dumps(
    {
        "lockfileVersion": 3,
        "packages": {
            "": {"name": "x: # é"},
            "node_modules/a": {"resolved": "https://x/a.tgz", "integrity": f"sha512-{'A' * 86}=="},
            "node_modules/a/node_modules/b": {"inBundle": True},
        },
    }
)
LOCK = Lock(
    wants=wants_of(DEFINITION),
    architecture="amd64",
    suite="bookworm",
    packages=(
        LockedPackage("git", "1:2.39.5-0+deb12u2", "amd64", "a" * 64),
        LockedPackage("libc-bin", "2.36-9", "all", "b" * 64),
    ),
    wheels=(LockedWheel("flask-login", "1.0+local", ("c" * 64, "d" * 64)),),
    package_lock=NPM,
)


def test_a_lock_is_read_back() -> None:
    found = load_lock(LOCK.text())
    assert json.loads(found.package_lock) == json.loads(NPM)
    assert replace(found, package_lock="") == replace(LOCK, package_lock="")
    assert found.text() == LOCK.text()
    assert found.requirements == f"flask-login==1.0+local --hash=sha256:{'c' * 64} --hash=sha256:{'d' * 64}\n"


def test_order_makes_no_difference() -> None:
    assert replace(LOCK, packages=LOCK.packages[::-1]).text() == LOCK.text()


def test_a_lock_of_a_base_has_its_digest() -> None:
    lock = Lock(wants="a" * 64, architecture="amd64", base=f"sha256:{'e' * 64}")
    assert load_lock(lock.text()) == lock


@pytest.mark.parametrize(
    ("was", "becomes", "problem"),
    [
        (f" sha256:{'a' * 64}", "", "apt[0]: expected NAME=VERSION ARCHITECTURE sha256:HEX"),
        (f"sha256:{'a' * 64}", "md5:aa", "apt[0]: expected NAME=VERSION ARCHITECTURE sha256:HEX"),
        ("- git=", "- -o=x git=", "apt[0]: expected NAME=VERSION"),
        (f" --hash=sha256:{'c' * 64} --hash=sha256:{'d' * 64}", "", "pip[0]: expected NAME==VERSION --hash"),
        ("flask-login==", "-r x==", "pip[0]: expected NAME==VERSION --hash"),
        (f"sha512-{'A' * 86}==", "", "npm: expected an integrity (sha512) of each package"),
        (f"sha512-{'A' * 86}==", "sha1-AAAA", "npm: expected an integrity (sha512) of each package"),
        (
            '"lockfileVersion": 3',
            '"lockfileVersion": 1',
            "npm: expected a package-lock.json of version",
        ),
        ("wants: ", "wnats: ", "did you mean wants?"),
        ('schema_version: "1.0"', 'schema_version: "9.0"', "a newer agent reads other locks"),
        ("suite: bookworm", "suite: ../etc", "suite: expected one of"),
        ("- libc-bin=2.36-9 all", "- git=1 amd64", "apt: git (amd64) is there twice"),
    ],
)
def test_what_is_no_lock(was: str, becomes: str, problem: str) -> None:
    text = LOCK.text()
    assert was in text
    with pytest.raises(FileInvalid) as caught:
        load_lock(text.replace(was, becomes))
    assert problem in "\n".join(caught.value.shown("f"))


def test_what_no_lock_can_say_is_not_written() -> None:
    with pytest.raises(ValueError, match="this is no lock"):
        replace(LOCK, wheels=(LockedWheel("a", "1", ()),)).text()


def test_a_lock_of_this_definition_differs_in_nothing() -> None:
    assert differences(DEFINITION, LOCK, "amd64") == ()
    assert differences(load(DEFINITION.text.replace("a\n", "b\n", 1)), LOCK, "amd64") == ()


def test_what_differs_is_named() -> None:
    other = replace(DEFINITION, apt=("jq", "git=2"), pip=replace(DEFINITION.pip, packages=("requests",)))
    assert differences(replace(other, suite="trixie"), LOCK, "arm64") == (
        "the lock is for amd64, and this host is arm64",
        "the lock is of bookworm, the definition of trixie",
        "the lock has no package jq",
        "the lock has git=1:2.39.5-0+deb12u2, the definition git=2",
        "the lock has no requests for pip",
        "the definition asks for other packages than the lock was made of; make it anew (rnx runtime lock)",
    )
