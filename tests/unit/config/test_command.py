"""``joblet-agent config show`` and ``validate``."""

import json
from collections.abc import Callable
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from joblet_agent.config import AgentConfig, Loaded, load, load_config, load_files
from joblet_agent.config.address_rules import Hosts, Range4, Range6
from joblet_agent.config.command import run
from joblet_agent.config.contradictions import find_contradictions
from joblet_agent.config.keys import every_key
from joblet_agent.config.load import build
from joblet_agent.config.rules import (
    AbsolutePath,
    Change,
    Count,
    Duration,
    OneOf,
    Rule,
    Size,
    Switch,
    Word,
)
from joblet_agent.config.show import as_yaml
from joblet_agent.config.web_rules import WebAddress
from tests.unit.config.test_load import known_keys
from tests.unit.config.writing import written

Said = Callable[[], tuple[str, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """What a command wrote to standard output and to standard error."""
    return lambda: tuple(capsys.readouterr())  # type: ignore[return-value]


def values(rule: Rule) -> st.SearchStrategy[Any]:  # noqa: PLR0911 - one for each kind
    """Values that the rule allows."""
    match rule:
        case Count(least=least, most=most) | Size(least=least, most=most):
            return st.integers(least, most)
        case Duration(least=least, most=most):
            ms = timedelta(milliseconds=1)
            return st.integers(-(-least // ms), most // ms).map(lambda number: number * ms)
        case Switch():
            return st.booleans()
        case Word(pattern=pattern):
            return st.from_regex(pattern, fullmatch=True)
        case AbsolutePath(may_be_empty=may_be_empty):
            paths = st.sampled_from(
                ["/", "/a/b", "/a b/c: d", "/#x", "/ä€", '/"q"', "/\\n", "/-", "/it's", "/123"]
            )
            return st.none() | paths.map(Path) if may_be_empty else paths.map(Path)
        case Range4():
            return st.sampled_from([IPv4Network("10.0.0.0/8"), IPv4Network("192.168.7.0/24")])
        case Range6():
            return st.sampled_from([None, IPv6Network("fd12::/48"), IPv6Network("fdff:ffff:ffff::/48")])
        case Hosts():
            hosts = ["node7", "7", "*.example.net", "null", "1e3", "10.0.0.7", "fd00::7"]
            return st.lists(st.sampled_from(hosts), unique=True).map(tuple)
        case WebAddress(may_be_file=may_be_file):
            web = ["", "http://proxy:3128", "http://[fd00::7]:8443/"]
            files = ["file:///srv/a%20b", "https://host.example/a/registry.json?b=c"]
            return st.sampled_from(web + files if may_be_file else web)
        case OneOf(words=words):
            return st.sampled_from(words)
        case _:
            raise AssertionError(f"no values for {rule}")


@st.composite
def some_values(draw: st.DrawFn) -> dict[str, Any]:
    keys = draw(st.lists(st.sampled_from(every_key()), max_size=8, unique=True))
    return {key.name: draw(values(key.rule)) for key in keys}


@settings(deadline=None, max_examples=150)
@given(chosen=some_values(), with_origins=st.booleans())
def test_what_show_prints_is_a_file_that_sets_the_same(
    tmp_path_factory: pytest.TempPathFactory, chosen: dict[str, Any], with_origins: bool
) -> None:
    config = build(chosen)
    assume(not list(find_contradictions(config)))
    file = tmp_path_factory.mktemp("show") / "agent.yml"
    file.write_text(as_yaml(Loaded(config, (), {}, ()), with_origins=with_origins), encoding="utf-8")
    assert load_config(file) == config


@settings(deadline=None, max_examples=60)
@given(files=st.lists(some_values(), min_size=1, max_size=4))
def test_files_together_are_what_one_file_with_the_last_values_would_be(
    tmp_path_factory: pytest.TempPathFactory, files: list[dict[str, Any]]
) -> None:
    together: dict[str, Any] = {key: value for file in files for key, value in file.items()}
    config = build(together)
    assume(not list(find_contradictions(config)))
    main = tmp_path_factory.mktemp("merge") / "agent.yml"
    (main.parent / "agent.d").mkdir()
    rules = {key.name: key.rule for key in every_key()}
    for number, file in enumerate(files):
        path = main.parent / "agent.d" / f"{number}.yml" if number else main
        path.write_text(written({key: rules[key].write(value) for key, value in file.items()}), "utf-8")
    loaded = load_files(main)
    assert loaded.config == config
    assert loaded.origins.keys() == together.keys()


def test_the_list_of_keys_is_complete() -> None:
    assert {key.name for key in every_key()} == known_keys(AgentConfig)
    assert all(key.default == key.of(AgentConfig()) for key in every_key())


def test_show_says_where_values_come_from(tmp_path: Path, said: Said) -> None:
    main, drop_in = tmp_path / "agent.yml", tmp_path / "agent.d" / "10.yml"
    drop_in.parent.mkdir()
    main.write_text("jobs:\n  max_waiting: 1\n  max_concurrent: 5\n")
    drop_in.write_text("\njobs: {max_waiting: 2}\n")
    assert run(["show", "--config", str(main), "--origin"]) == 0
    out, _ = said()
    assert f"\njobs:\n  max_concurrent: 5  # {main}:3\n  max_waiting: 2  # {drop_in}:2\n" in out
    assert "\n  stop_grace: 10s  # default\n" in out


def test_show_is_there_for_programs_too(tmp_path: Path, said: Said) -> None:
    main = tmp_path / "agent.yml"
    main.write_text('viewer: {files: yes}\nlistener: {port: 7}\nhooks: {on_failure: "a@.service"}\n')
    assert run(["show", "--config", str(main), "--json"]) == 0
    told = json.loads(said()[0])
    assert told["files"] == [str(main)]
    assert told["keys"].keys() == known_keys(AgentConfig)
    assert told["keys"]["listener.port"] == {"value": 7, "origin": f"{main}:2", "change": "restart"}
    expected = {
        "viewer.files": "yes",
        "logs.journal": True,
        "jobs.tmp_size": "1GiB",
        "hooks.on_failure": "a@.service",
        "networks.ula": "",
        "networks.bridge": "172.20.0.0/16",
    }
    assert {key: told["keys"][key]["value"] for key in expected} == expected
    assert told["keys"]["jobs.tmp_size"]["change"] == "reload"


def test_validate_names_the_files_of_a_valid_configuration(tmp_path: Path, said: Said) -> None:
    main, drop_in = tmp_path / "agent.yml", tmp_path / "agent.d" / "10.yml"
    drop_in.parent.mkdir()
    main.touch()
    drop_in.write_text("log_level: debug")
    drop_in.with_name("20.yaml").touch()
    assert run(["validate", str(main), str(drop_in)]) == 0
    out, err = said()
    assert out == f"valid: {main}, {drop_in}\nvalid: {drop_in}\n"
    assert err == f"joblet-agent: {tmp_path}/agent.d/20.yaml is not read: the names of drop-ins end in .yml\n"


def test_validate_names_what_is_wrong_in_any_of_them_and_exits_78(tmp_path: Path, said: Said) -> None:
    good, bad = tmp_path / "good.yml", tmp_path / "bad.yml"
    good.touch()
    bad.write_text("jobs: {max_waitin: 1}\nlog_level: loud\n")
    assert run(["validate", str(bad), str(good), str(tmp_path / "none.yml")]) == 78
    out, err = said()
    assert out == f"valid: {good}\n"
    assert f"{bad}:1: jobs.max_waitin: unknown key, did you mean max_waiting?\n" in err
    assert f"{bad}:2: log_level: expected one of" in err
    assert f"cannot read the configuration {tmp_path}/none.yml: no such file\n" in err


def test_validate_without_any_file_says_that_all_is_default(
    tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "DEFAULT_PATH", tmp_path / "agent.yml")
    assert run(["validate"]) == 0
    assert said()[0].startswith("valid: no file, so every key has its default")


@pytest.mark.parametrize("words", [["shew"], ["show", "--what"], ["show", "path"]])
def test_a_wrong_command_line_exits_2(words: list[str], said: Said) -> None:
    assert run(words) == 2
    assert said()[1].startswith("joblet-agent: ")


def test_the_ways_in_and_the_ids_of_what_exists_need_a_restart() -> None:
    needing = {key.name for key in every_key() if key.change is Change.RESTART}
    assert {"state_dir", "run_dir", "socket.path", "listener.port", "jobs.uid_first"} <= needing
    assert not {"log_level", "jobs.max_concurrent", "retention.keep_for", "hooks.on_failure"} & needing
