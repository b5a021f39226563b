"""Drop-in files: which ones count, in which order, and what is wrong in any of them."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.config import AgentConfig, load, load_config, load_files
from joblet_agent.config.files import MOST_BYTES, MOST_DROP_INS
from joblet_agent.config.load import build
from joblet_agent.errors import InvalidConfig
from tests.unit.config.test_load import known_keys

Write = Callable[[str, str], Path]


@pytest.fixture
def main(tmp_path: Path) -> Path:
    path = tmp_path / "agent.yml"
    path.touch()
    return path


@pytest.fixture
def write(main: Path) -> Write:
    """Write a drop-in, or with the name agent.yml the configuration itself."""
    directory = main.with_name("agent.d")
    directory.mkdir()

    def write(name: str, text: str) -> Path:
        path = main if name == main.name else directory / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def faults(main: Path) -> list[str]:
    with pytest.raises(InvalidConfig) as caught:
        load_config(main)
    first, *lines = str(caught.value).splitlines()
    assert first == "cannot use the configuration:"
    return [line.removeprefix(f"{main.parent}/") for line in lines]


def test_the_last_one_wins_key_by_key_and_sections_merge(main: Path, write: Write) -> None:
    write("agent.yml", "jobs:\n  max_concurrent: 1\n  max_waiting: 1\n  stop_grace: 1s\nlog_level: debug\n")
    write("90-last.yml", "jobs:\n  max_concurrent: 3\n")
    write("10-first.yml", "jobs:\n  max_concurrent: 2\n  max_waiting: 2\n")
    config = load_config(main)
    assert (config.jobs.max_concurrent, config.jobs.max_waiting) == (3, 2)
    assert config == build(
        {
            "jobs.max_concurrent": 3,
            "jobs.max_waiting": 2,
            "jobs.stop_grace": config.jobs.stop_grace,
            "log_level": config.log_level,
        }
    )


@given(names=st.lists(st.text("aZ0-_.\u00e9\U00010000", min_size=1, max_size=6), min_size=2, unique=True))
def test_the_order_is_that_of_the_bytes_of_the_names(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    main = tmp_path_factory.mktemp("order") / "agent.yml"
    (main.parent / "agent.d").mkdir()
    files = {f"a{name}.yml" for name in names}
    for name in files:
        (main.parent / "agent.d" / name).write_text("log_level: info")
    main.touch()
    read = [os.fsencode(file.name) for file in load_files(main).files[1:]]
    assert read == sorted(os.fsencode(name) for name in files)


def test_a_drop_in_can_give_a_default_back(main: Path, write: Write) -> None:
    write("agent.yml", "sockets: {viewer: {path: /run/joblet/viewer.sock}}")
    write("10.yml", 'sockets: {viewer: {path: ""}}')
    assert load_config(main) == AgentConfig()


def test_drop_ins_count_without_a_configuration_file(
    main: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("10.yml", "jobs: {max_waiting: 7}")
    main.unlink()
    monkeypatch.setattr(load, "DEFAULT_PATH", main)
    assert load_config().jobs.max_waiting == 7


@pytest.mark.parametrize(
    "name",
    [".hidden.yml", "10.yml~", "10.yml.dpkg-old", "10.yml.dpkg-dist", "10.yml.bak", "#10.yml#", "README"],
)
def test_what_editors_and_package_managers_leave_is_not_read(main: Path, write: Write, name: str) -> None:
    write(name, "this is: [no configuration")
    loaded = load_files(main)
    assert loaded.config == AgentConfig()
    assert loaded.warnings == ()


def test_a_drop_in_named_yaml_is_not_read_and_somebody_is_told(main: Path, write: Write) -> None:
    path = write("10.yaml", "log_level: debug")
    loaded = load_files(main)
    assert loaded.config == AgentConfig()
    assert loaded.warnings == (f"{path} is not read: the names of drop-ins end in .yml",)


def test_the_drop_ins_of_another_file_are_beside_it(tmp_path: Path) -> None:
    (tmp_path / "other.d").mkdir()
    (tmp_path / "agent.d").mkdir()
    (tmp_path / "other.d" / "10.yml").write_text("jobs: {max_waiting: 7}")
    (tmp_path / "agent.d" / "10.yml").write_text("jobs: {max_waiting: 8}")
    main = tmp_path / "other.yml"
    main.touch()
    assert load_config(main).jobs.max_waiting == 7


def test_faults_of_all_files_are_told_at_once(main: Path, write: Write) -> None:
    write("agent.yml", "jobs:\n  max_waiting: x\n")
    write("10.yml", "a: b: c\n")
    write("20.yml", "\nrpc: {maxmessage: 1}\n")
    write("30.yml", "jobs: {max_waiting: 5}\n")
    (main.parent / "agent.d" / "40.yml").mkdir()
    told = faults(main)
    assert told[0] == "agent.yml:2: jobs.max_waiting: expected a whole number from 0 to 1000000, not 'x'"
    assert told[1].startswith("agent.d/10.yml:1: not YAML: ")
    assert told[2] == "agent.d/20.yml:2: rpc.maxmessage: unknown key, did you mean max_message?"
    assert told[3] == f"cannot read the configuration {main.parent}/agent.d/40.yml: not a file"
    assert len(told) == 4


def test_a_contradiction_names_the_file_that_brought_it_about(main: Path, write: Write) -> None:
    write("agent.yml", "jobs:\n  uid_count: 100\n  max_concurrent: 50\n")
    write("10.yml", "\njobs: {max_concurrent: 200}\n")
    write("20.yml", "log_level: debug\n")
    problem = "jobs.uid_count: expected at least jobs.max_concurrent, which is 200, not 100"
    assert faults(main) == [f"agent.d/10.yml:2: {problem}"]
    write("20.yml", "jobs: {max_concurrent: 100}")
    assert load_config(main).jobs.max_concurrent == 100


@pytest.mark.parametrize("kind", ["directory", "fifo", "dangling link", "/dev/null"])
def test_a_drop_in_that_is_no_file_is_refused(main: Path, write: Write, kind: str) -> None:
    path = write("10.yml", "")
    path.unlink()
    match kind:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "dangling link":
            path.symlink_to("nowhere")
        case _:
            path.symlink_to("/dev/null")
    with pytest.raises(InvalidConfig, match=f"^cannot read the configuration {re.escape(str(path))}: no"):
        load_config(main)


def test_a_link_to_a_file_is_a_drop_in(main: Path, write: Write) -> None:
    write("x", "jobs: {max_waiting: 7}").with_name("10.yml").symlink_to("x")
    assert load_config(main).jobs.max_waiting == 7


def test_a_file_in_the_place_of_the_directory_is_refused(main: Path) -> None:
    main.with_name("agent.d").touch()
    with pytest.raises(InvalidConfig, match=r"^cannot read the configuration .*/agent\.d: Not a directory$"):
        load_config(main)


def test_a_name_with_a_line_break_does_not_break_the_message(main: Path, write: Write) -> None:
    write("1\n0.yml", "a: 1")
    (line,) = faults(main)
    assert line.startswith("'")
    assert r"1\n0.yml':1: a: unknown key" in line


def test_so_many_drop_ins_are_the_most(main: Path, write: Write) -> None:
    for number in range(MOST_DROP_INS):
        write(f"{number}.yml", "")
    assert load_config(main) == AgentConfig()
    write("more.yml", "")
    with pytest.raises(InvalidConfig, match=rf"agent\.d: it has more than {MOST_DROP_INS} files$"):
        load_config(main)


def test_the_most_bytes_are_those_of_all_files_together(main: Path, write: Write) -> None:
    write("agent.yml", "#" * (MOST_BYTES - 10))
    write("10.yml", "#" * 10)
    assert load_config(main) == AgentConfig()
    write("20.yml", "#")
    with pytest.raises(InvalidConfig, match=r"20\.yml: with this file it has more than 1000000 bytes$"):
        load_config(main)


def test_every_value_that_is_set_has_its_file_and_line(main: Path, write: Write) -> None:
    write("agent.yml", "log_level: debug\njobs:\n  max_waiting: 1\n")
    path = write("10.yml", "\njobs:\n  max_waiting: 2\n")
    origins = load_files(main).origins
    assert {key: str(origin) for key, origin in origins.items()} == {
        "log_level": f"{main}:1",
        "jobs.max_waiting": f"{path}:3",
    }
    assert origins.keys() < known_keys(AgentConfig)
