"""Requests with odd, large or wrong contents: attack cases A5, A7, and the issue's "Bad input"."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.agent import Client, command, units
from tests.e2e.host import configured, reloading, rnx, shown, unit_of
from tests.e2e.inside import running

pytestmark = pytest.mark.systemd

LONGEST_ARGUMENT = 131071  # the kernel's MAX_ARG_STRLEN without the NUL
LONGEST_VALUE = 32768

ODD = [
    *("", " ", "  a  b  ", "\t", "\n", "a\nb\n", "\r\n", "\x01", "\x07\x1b[31m", "\x7f", "\x85"),
    *("$", "$$", "$HOME", "${HOME}", "$$HOME", "${X:-y}", "$(id)", "`id`", "%", "%%", "%n", "%i", "%%h"),
    *("'", "''", '"', '"a" b', "\\", "\\\\", "\\n", "\\x41", "\\101", "a\\", '\\"', "a\\\nb", "\\s", "\\$"),
    *(
        "-",
        "--",
        "-x",
        "--help",
        "@a",
        "+a",
        "!a",
        "!!a",
        ":a",
        "|a",
        "#a",
        ";",
        " ; ",
        "a;b",
        "&&",
        "*",
        "~",
    ),
    *(
        "a=b",
        "=",
        "JOBLET_ENV_A=b",
        "/etc/shadow",
        "../x",
        "\u00e9",
        "\u2028",
        "\u202e",
        "\ufeffa",
        "\U0001f600",
    ),
]


def _echo(client: Client, *args: str, **fields: object) -> list[str]:
    """Return the arguments as a job gets them."""
    job_id = client.run("python3", "-I", "-c", _COMMAND_LINE, *args, **fields)
    status = client.ended(job_id)
    assert status.status == "COMPLETED", (status.message, client.log(job_id)[-2000:])
    return client.log(job_id).decode().split("\0")[4:-1]


_COMMAND_LINE = "import shutil, sys; shutil.copyfileobj(open('/proc/self/cmdline', 'rb'), sys.stdout.buffer)"


def _variables(client: Client, environment: dict[str, str]) -> dict[str, str]:
    """Return the variables as a job gets them, without those that every job has."""
    job_id = client.run("cat", "/proc/self/environ", environment=environment)
    assert client.ended(job_id).status == "COMPLETED", client.log(job_id)
    entries = client.log(job_id).decode().split("\0")[:-1]
    every = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "JOBLET_JOB_ID")
    return {
        name: value
        for name, _, value in (entry.partition("=") for entry in entries)
        if name not in every or name in environment
    }


def test_a7_arguments_arrive_exactly(client: Client) -> None:
    assert _echo(client, *ODD) == ODD


def test_a7_variables_arrive_exactly(client: Client) -> None:
    environment = {f"V{number}": text for number, text in enumerate(ODD)}
    assert _variables(client, environment) == environment


@pytest.mark.usefixtures("client")
def test_a7_arguments_and_variables_of_the_command_line_arrive_exactly() -> None:
    words = [word for word in ODD if "\x85" not in word]
    done = rnx("run", "--attach", "python3", "-I", "-c", _COMMAND_LINE, *words)
    assert done.returncode == 0
    assert done.stdout.decode().split("\0")[4:-1] == words
    flags = [f"--env=V{number}={word}" for number, word in enumerate(words)]
    done = rnx("run", "--attach", *flags, "cat", "/proc/self/environ")
    entries = set(done.stdout.decode().split("\0"))
    assert {flag.removeprefix("--env=") for flag in flags} <= entries


ODD_PROGRAMS = [
    "-cat",
    "--cat",
    "@cat",
    "+cat",
    "!cat",
    "!!cat",
    ":cat",
    "|cat",
    "%n",
    "$HOME",
    "${X}",
    "#cat",
]
ODD_PROGRAMS += ["a b", " cat", "a;b", "a'b", 'a"b', "a\\b", "a\\x41", "a\nb", "\u00e9", "a=b", "~"]


@contextmanager
def _programs(names: list[str]) -> Iterator[None]:
    links = [Path("/usr/local/bin", name) for name in names]
    for link in links:
        link.symlink_to("/usr/bin/cat")
    try:
        yield
    finally:
        for link in links:
            link.unlink()


def test_a7_the_name_of_a_program_is_a_name_and_nothing_else(client: Client) -> None:
    with _programs(ODD_PROGRAMS):
        for name in ODD_PROGRAMS:
            for program in (name, f"/usr/local/bin/{name}"):
                job_id = client.run(program, "/proc/self/cmdline")
                assert client.ended(job_id).status == "COMPLETED", program
                assert client.log(job_id) == f"{program}\0/proc/self/cmdline\0".encode()
        done = rnx("run", "--attach", "--", "--cat", "/proc/self/cmdline")
        assert done.stdout == b"--cat\0/proc/self/cmdline\0"


def test_a7_a_program_with_an_odd_name_that_is_not_there_is_not_found(client: Client) -> None:
    for name in ODD_PROGRAMS:
        status = client.ended(client.run(name))
        assert (status.status, status.reason, status.exit_code) == ("FAILED", "program-not-found", 127), name


def _arguments(size: int) -> list[str]:
    return [f"{number:04}$%" + "x'\"\\ " * (size // 16 // 5 + 1) for number in range(16)]


def test_a_mebibyte_of_arguments_arrives(client: Client) -> None:
    args = _arguments(1 << 20)
    assert _echo(client, *args) == args


def test_a7_arguments_arrive_exactly_also_through_reloads(client: Client) -> None:
    args = ODD + _arguments(600_000)
    with reloading():
        for _ in range(3):
            assert _echo(client, *args) == args


def test_a_mebibyte_of_arguments_arrives_also_through_reloads(client: Client) -> None:
    args = _arguments(1 << 20)
    with reloading():
        assert _echo(client, *args) == args


def test_a_job_that_waits_keeps_its_arguments_exactly(client: Client) -> None:
    with configured("jobs:\n  max_concurrent: 1\n"):
        with running(client, "sh", "-c", "echo ready; exec sleep 1000"):
            job_id = client.run("python3", "-I", "-c", _COMMAND_LINE, *ODD, environment={"A": "%n $HOME"})
            assert client.status(job_id).status == "PENDING"
            command("systemctl", "restart", "joblet-agent.service")
        assert client.ended(job_id).status == "COMPLETED"
        assert client.log(job_id).decode().split("\0")[4:-1] == ODD


def test_a7_the_longest_argument_arrives(client: Client) -> None:
    argument = "\u00e9" + "%" * (LONGEST_ARGUMENT - 2)
    assert _echo(client, argument) == [argument]


def test_ten_thousand_variables_arrive(client: Client) -> None:
    environment = {f"V{number:05}": f"$value {number}\n" for number in range(10_000)}
    assert _variables(client, environment) == environment


def test_the_longest_variable_arrives(client: Client) -> None:
    environment = {"A": "$\\\"'" * (LONGEST_VALUE // 4)}
    assert _variables(client, environment) == environment


@pytest.mark.parametrize(
    "name",
    ["@", "%i", "%n%%", "\\x2d", "a@b.service", "../x", "/etc/x", "-x", "$HOME", "'\"", "\u00e9\U0001f600"],
)
def test_a5_a_name_stays_a_name(client: Client, name: str) -> None:
    with running(client, "sh", "-c", "echo ready; exec sleep 1000", name=name) as job_id:
        for _ in range(2):
            properties = shown(unit_of(job_id))
            assert properties["Description"] == f"Joblet job {name}"
            assert properties["SyslogIdentifier"] == name
            command("systemctl", "daemon-reload")  # reads back what systemd wrote down
        assert units() == [unit_of(job_id)]
        assert client.status(job_id).name == name
        assert job_id in {job.uuid for job in client.by_name(name)}
