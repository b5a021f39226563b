"""Manifests of the public registry can be built from; what its scripts have set up cannot."""

import pytest

from joblet_agent.runtime_file import Base, FileInvalid, load

MANIFEST = """\
name: python-3.11-ml
version: 1.3.1
description: Python
platforms: [ubuntu-amd64, ubuntu-arm64]
packages: [numpy>=1.24, pandas]
setup: setup.sh
"""


def test_a_manifest_becomes_a_definition() -> None:
    found = load(MANIFEST, "manifest.yaml")
    assert found.base == Base("python", "3.11")
    assert found.pip.packages == ("numpy>=1.24", "pandas")
    assert found.architectures == ("amd64", "arm64")
    assert "manifest.yaml:6:1: setup: not used" in found.warnings


@pytest.mark.parametrize(
    ("lines", "base"),
    [
        ('name: mine\npython_version: "3.11.4"', Base("python", "3.11")),
        ("name: openjdk-21\nlanguage: java", Base("java", "21")),
        ("name: node-18", Base("node", "18")),
        ("name: mine\nnode_version: 18.19.0", Base("node", "18")),
    ],
)
def test_where_a_manifest_says_its_language(lines: str, base: Base) -> None:
    assert load(f"{lines}\nversion: 1.0.0\nplatforms: [ubuntu-amd64]", "manifest.yaml").base == base


@pytest.mark.parametrize(
    ("was", "becomes", "problem"),
    [
        ("python-3.11-ml", "perl-5", "it says no language that can be built"),
        ("python-3.11-ml", "../../etc", "name: expected a name"),
        ("[ubuntu-amd64, ubuntu-arm64]", "[amzn-riscv64]", "platforms: none of them is of amd64 or arm64"),
        ("pandas", "-r/etc/shadow", "packages[1]: expected a package"),
    ],
)
def test_what_is_wrong_with_a_manifest(was: str, becomes: str, problem: str) -> None:
    with pytest.raises(FileInvalid) as caught:
        load(MANIFEST.replace(was, becomes), "manifest.yaml")
    assert problem in "\n".join(caught.value.shown("f"))


@pytest.mark.parametrize(
    ("mounts", "problem"),
    [
        ("[{source: isolated/usr/lib/python3, target: /usr/lib/python3}]", "they give no /bin, /lib, /usr;"),
        ("[{source: a, target: /usr}, {source: b, target: /bin/}]", "they give no /lib;"),
        ("[{source: a, target: /}]", "this file says where files appear, but has none of them"),
        ("x", "they give no /bin, /lib, /usr;"),
    ],
)
def test_mounts_are_refused_with_the_reason(mounts: str, problem: str) -> None:
    with pytest.raises(FileInvalid) as caught:
        load(f"name: python-3.11\nversion: 1.0.0\nmounts: {mounts}", "runtime.yml")
    assert problem in caught.value.shown("f")[0]
    assert caught.value.shown("f")[0].startswith("f:3:1: mounts: ")
