"""The manual pages in the packages: one for every command, and none leads to a page that is not there."""

import gzip
import re
from collections.abc import Iterator

import click
import pytest

from joblet_agent.__main__ import TOOLS
from joblet_agent.command_line import tree
from joblet_agent.config.keys import every_key
from joblet_agent.config.rules import Change
from joblet_agent.runtime_file.keys import DEFINITION
from joblet_agent.workflow_file.keys import FILE, JOB_KEYS
from rnx.argv import RUN_FLAGS
from rnx.cli import cli
from tests.testbed import host
from tests.testbed.install import build_packages

pytestmark = pytest.mark.package

OF_OTHERS = {"ip-netns.8", "journalctl.1", "nft.8", "systemctl.1", "systemd.time.7"}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The text of each page by its name and section."""
    root = tmp_path_factory.mktemp("packages")
    for package in build_packages():
        host.call(["dpkg-deb", "--extract", str(package), str(root)])
    return {
        path.name.removesuffix(".gz"): gzip.decompress(path.read_bytes()).decode()
        for path in (root / "usr/share/man").glob("man?/*.gz")
    }


def test_every_command_has_a_page_under_each_of_its_names(pages: dict[str, str]) -> None:
    rnx, agent = (set(names(*root)) for root in ((cli, "rnx"), (tree(TOOLS), "joblet-agent")))
    assert {"rnx-job-stop", "rnx-network-delete", "rnx-run"} <= rnx
    commands = {f"{name}.1" for name in rnx} | {f"{name}.8" for name in agent}
    assert pages.keys() == commands | {"agent.yml.5", "joblet-runtime.5", "joblet-workflow.5"}


def test_every_reference_leads_to_a_page(pages: dict[str, str]) -> None:
    for name, text in pages.items():
        found = {
            f"{page}.{section}"
            for page, section in re.findall(r"^\.BR (\S+) \((\d)\)", text.replace("\\-", "-"), re.MULTILINE)
        }
        assert found - {"dnsmasq.8", "bash.1", "zsh.1", "fish.1"} <= pages.keys() | OF_OTHERS, name


def test_the_page_of_run_has_every_flag(pages: dict[str, str]) -> None:
    text = pages["rnx-run.1"].replace("\\-", "-")
    assert all(f"\\fB{flag.long}\\fR" in text for flag in RUN_FLAGS)


def test_the_page_of_the_configuration_says_of_every_key_what_it_takes_and_when_it_counts(
    pages: dict[str, str],
) -> None:
    text = pages["agent.yml.5"]
    for key in every_key():
        assert f"\n\\fB{key.name}\\fR\n" in text
    words = " ".join(text.split())
    for change in Change:
        told = words.count(f"A {change.value} applies it.")
        assert told == sum(key.change is change for key in every_key())


def test_the_page_of_workflow_files_has_every_key_that_may_be_there(pages: dict[str, str]) -> None:
    told = set(re.findall(r"^\\fB([a-z_]+)\\fR$", pages["joblet-workflow.5"], re.MULTILINE))
    assert told == {key.name for key in (*FILE.keys, *JOB_KEYS) if not key.refused}


def test_the_page_of_definitions_has_every_key_that_may_be_there(pages: dict[str, str]) -> None:
    told = set(re.findall(r"^\\fB([a-z_]+)\\fR$", pages["joblet-runtime.5"], re.MULTILINE))
    assert told == {key.name for key in DEFINITION.keys}


def names(command: click.Command, name: str) -> Iterator[str]:
    yield name
    if isinstance(command, click.Group):
        context = click.Context(command)
        for word in command.list_commands(context):
            inner = command.get_command(context, word)
            assert inner is not None
            yield from names(inner, f"{name}-{word}")
