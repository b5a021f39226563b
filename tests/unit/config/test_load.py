"""The configuration file: what it sets, and every way in which it can be wrong."""

import os
import re
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from joblet_agent.config import AgentConfig, JobsConfig, LogLevel, load, load_config
from joblet_agent.config.document import Section, parse_document
from joblet_agent.config.values import RpcConfig
from joblet_agent.errors import InvalidConfig

SHIPPED = Path(__file__).resolve().parents[3] / "units" / "agent.yml"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.yml"


def load_text(path: Path, text: str | bytes) -> AgentConfig:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_config(path)


def problems(path: Path, text: str | bytes) -> list[str]:
    """The error's lines below the first, without the file's name."""
    with pytest.raises(InvalidConfig) as caught:
        load_text(path, text)
    assert caught.value.reason == "INVALID_CONFIG"
    first, *lines = str(caught.value).splitlines()
    assert first == "cannot use the configuration:"
    return [line.removeprefix(f"{path}:") for line in lines]


def known_keys(kind: Any, prefix: str = "") -> set[str]:
    keys: set[str] = set()
    for field in fields(kind):
        inner = is_dataclass(field.type)
        keys |= known_keys(field.type, f"{prefix}{field.name}.") if inner else {prefix + field.name}
    return keys


def flat(section: Section, prefix: str = "") -> set[str]:
    keys: set[str] = set()
    for name, value in section.entries.items():
        keys |= flat(value, f"{prefix}{name}.") if isinstance(value, Section) else {prefix + name}
    return keys


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "---\n...\n", "{}"])
def test_empty_file_is_all_defaults(path: Path, text: str) -> None:
    assert load_text(path, text) == AgentConfig()


def test_byte_order_mark_is_no_part_of_the_first_key(path: Path) -> None:
    assert load_text(path, b"\xef\xbb\xbflog_level: debug\n").log_level is LogLevel.DEBUG


def test_sets_what_the_file_says_and_nothing_else(path: Path) -> None:
    text = """
state_dir: /srv/joblet
log_level: debug
jobs:
  max_concurrent: 12
  stop_grace: 1h30m
  default_network: "none"
  tmp_size: 512MiB
logs: {journal: false}
rpc:
  max_message: 1048576
retention:
"""
    expected = replace(
        AgentConfig(),
        state_dir=Path("/srv/joblet"),
        log_level=LogLevel.DEBUG,
        jobs=JobsConfig(
            max_concurrent=12,
            stop_grace=timedelta(minutes=90),
            default_network="none",
            tmp_size=512 * 2**20,
        ),
        logs=replace(AgentConfig().logs, journal=False),
        rpc=RpcConfig(max_message=2**20),
    )
    assert load_text(path, text) == expected


def test_shipped_file_sets_nothing(path: Path) -> None:
    assert load_text(path, SHIPPED.read_bytes()) == AgentConfig()


def test_shipped_file_lists_every_key_with_its_true_default(path: Path) -> None:
    text = re.sub(r"^#( *[a-z_]+:)", r"\1", SHIPPED.read_text(), flags=re.MULTILINE)
    assert flat(parse_document(text)) == known_keys(AgentConfig)
    assert load_text(path, text) == AgentConfig()


def test_missing_file_is_an_error_only_where_it_was_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "DEFAULT_PATH", path)
    assert load_config() == AgentConfig()
    with pytest.raises(
        InvalidConfig, match=re.escape(f"cannot read the configuration {path}: no such file")
    ) as caught:
        load_config(path)
    assert caught.value.reason == "CONFIG_NOT_FOUND"


def test_default_path_is_read_where_it_exists(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("log_level: error\n")
    monkeypatch.setattr(load, "DEFAULT_PATH", path)
    assert load_config().log_level is LogLevel.ERROR


@pytest.mark.parametrize("kind", ["directory", "fifo", "below a file", "NUL"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "thing"
    match kind:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "below a file":
            path.touch()
            path /= "agent.yml"
        case _:
            path = Path("/etc/\0")
    with pytest.raises(InvalidConfig, match="cannot read the configuration") as caught:
        load_config(path)
    assert caught.value.reason == "CONFIG_UNREADABLE"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("jobs:\n  max_concurent: 5\n", "2: jobs.max_concurent: unknown key, did you mean max_concurrent?"),
        ("log-level: info\n", "1: 'log-level': unknown key, did you mean log_level?"),
        (
            "rpc:\n  zzz: 1\n",
            "2: rpc.zzz: unknown key; known are max_message, max_metadata, "
            "request_timeout, max_concurrent, max_per_client, reflection",
        ),
        ("? 5\n: 1\n", None),
        ('"\\u001b[0m": 1\n', None),
        (
            "jobs:\n\n  max_waiting: -1\n",
            "3: jobs.max_waiting: expected a whole number from 0 to 1000000, not '-1'",
        ),
        ("jobs: 5\n", "1: jobs: expected keys of the section, not '5'"),
        ("log_level:\n  a: b\n", "2: log_level: expected a value, not a section"),
        ("jobs:\n  uid_count:\n", "2: jobs.uid_count: expected a whole number from 1 to 2147483648, not ''"),
        ("log_level: loud", "1: log_level: expected one of debug, info, warning, error, not 'loud'"),
        ("socket: {path: run}", "1: socket.path: expected an absolute path without '..', not 'run'"),
        (f"socket: {{path: /{'a' * 107}}}", None),
        ("jobs: {stop_grace: 10}", None),
        ("jobs: {stop_grace: 25h}", "1: jobs.stop_grace: expected a duration from 0s to 1d, not '25h'"),
        ("jobs: {tmp_size: 1}", "1: jobs.tmp_size: expected a size from 64KiB to 1TiB, not '1'"),
        ("jobs: {max_concurrent: 70000}", None),
        ("jobs: {uid_first: 4294967290}", None),
        (
            "jobs: {default_profile: privileged}\nprofiles: {privileged: true}\n",
            "1: jobs.default_profile: expected default or strict, whichever is switched on below profiles, "
            "not privileged",
        ),
        (
            "profiles:\n  default: false\n",
            "2: jobs.default_profile: expected default or strict, whichever is switched on below profiles, "
            "not default",
        ),
        ("profiles: {root: true}", None),
        ("- a\n- b\n", "1: expected no list"),
        ("jobs: [1]\n", "1: expected no list"),
        ("just words\n", "1: expected keys, each with a value"),
        ("log_level: info\nlog_level: debug\n", "2: 'log_level' is already set in line 1"),
        ("jobs: &a {}\n", "1: anchors and aliases (& and *) are not offered"),
        ("jobs: *a\n", "1: anchors and aliases (& and *) are not offered"),
        ("log_level: !!str info\n", "1: tags (!) are not offered"),
        ("!!python/object/apply:os.system [id]\n", "1: tags (!) are not offered"),
        ("log_level: info\n---\nlog_level: info\n", "2: a second document begins"),
        ("a: {b: {c: {d: {e: f}}}}", "1: sections are nested too deeply"),
        ("? {a: b}\n: c\n", "1: expected a key"),
        ("jobs:\n\tuid_count: 1\n", None),
        ('a: "\\UFFFFFFFF"\n', None),
        ("log_level: info\na: \x01\n", None),
        (b"log_level: info\na: \xff\n", "2: not UTF-8"),
    ],
)
def test_a_fault_is_named_with_its_line_and_key(path: Path, text: str | bytes, line: str | None) -> None:
    (problem,) = problems(path, text)
    assert problem.isprintable()
    if line is not None:
        assert problem == line


@pytest.mark.parametrize("value", ["yes", "on", "True", "TRUE", "1", '"true"', "~", ""])
def test_a_switch_is_true_or_false_only(path: Path, value: str) -> None:
    (problem,) = problems(path, f"logs: {{journal: {value}}}")
    assert problem.startswith("1: logs.journal: expected true or false, not")


@pytest.mark.parametrize(
    "value", ["010", "0x10", "1_000", "1:30", "1.0", "1e3", '"10"', "true", "+5", "9" * 5000]
)
def test_a_number_is_plain_digits_only(path: Path, value: str) -> None:
    (problem,) = problems(path, f"jobs: {{max_concurrent: {value}}}")
    assert problem.startswith("1: jobs.max_concurrent: expected a whole number from 1 to 100000, not")


@pytest.mark.parametrize("value", ["123", "no", "2024-01-01", "~", "1.5"])
def test_a_name_that_yaml_takes_for_something_else_wants_quotes(path: Path, value: str) -> None:
    (problem,) = problems(path, f"jobs: {{default_network: {value}}}")
    assert "expected a text (put it in quotes)" in problem


def test_all_faults_are_told_at_once(path: Path) -> None:
    told = problems(path, "a: 1\njobs:\n  max_waiting: x\n  uid_count: 5\nrpc: 7\nlogs: {journal: 3}\n")
    assert [line.split(":")[0] for line in told] == ["1", "3", "5", "6", "4"]


def test_contradiction_names_the_line_of_either_key(path: Path) -> None:
    (problem,) = problems(path, "log_level: info\njobs:\n  max_concurrent: 70000\n")
    assert problem == "3: jobs.uid_count: expected at least jobs.max_concurrent, which is 70000, not 65536"


def test_a_thousand_faults_are_told_in_short(path: Path) -> None:
    told = problems(path, "".join(f"key{number}: 1\n" for number in range(1000)))
    assert len(told) == 21
    assert told[-1] == "and 980 more"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 999_000,
        "{a: " * 240_000,
        "a:\n" + "".join("\n" + " " * depth + "a:" for depth in range(1000)),
        "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n",
        "? " * 400_000,
        "- " * 400_000,
        "a: " + "x" * 900_000,
        "%YAML 1.1\n" * 1000,
    ],
    ids=["flow lists", "flow maps", "deep maps", "laughs", "keys", "lists", "long", "directives"],
)
def test_c8_bombs_do_not_go_off(path: Path, text: str) -> None:
    told = problems(path, text)
    assert len(told) == 1
    assert len(told[0]) < 500


def test_a_megabyte_is_the_most(path: Path) -> None:
    with pytest.raises(InvalidConfig, match="it has more than 1000000 bytes"):
        load_text(path, "#" * 1_000_001)
    assert load_text(path, "#" * 1_000_000) == AgentConfig()


YAML_PIECES = [
    "jobs:",
    "max_waiting: ",
    "log_level: ",
    "socket:\n  path: ",
    "/a",
    "1",
    "10s",
    "1GiB",
    "debug",
    "<<",
    "- ",
    "? ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "&a ",
    "*a",
    "!!int ",
    ">\n",
    "'",
    '"',
    "\\U",
    "FFFFFFFF",
    "#",
    "---\n",
    "...\n",
    "%YAML 9.9\n",
    "\n",
    "  ",
    "\t",
    "\x00",
    "\ud7ff",
    "\x85",
    "\u2028",
    "\ufeff",
    "~",
    "@",
    "`",
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400, deadline=None)
@given(
    content=st.one_of(
        st.binary(),
        st.text().map(str.encode),
        st.lists(st.sampled_from(YAML_PIECES)).map("".join).map(str.encode),
    )
)
@pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
def test_c8_any_bytes_are_a_configuration_or_a_typed_error(
    path: Path, monkeypatch: pytest.MonkeyPatch, loader: str, content: bytes
) -> None:
    yaml = pytest.importorskip("yaml")
    monkeypatch.setattr("joblet_agent.config.document._LOADER", getattr(yaml, loader))
    with suppress(InvalidConfig):
        load_text(path, content)
