"""What debconf asks, and what becomes of the answers."""

import pytest

from tests.package.host import AGENT, DROP_IN, Host
from tests.testbed.errors import CommandFailed

pytestmark = pytest.mark.package

BAD = {
    "listen": ("maybe", "auto, yes or no"),
    "address": ("10.0.0.256", "an IP address, such as 0.0.0.0 or ::"),
    "port": ("65536", "a number from 1 to 65535"),
    "names": ("a.example b_/c", "DNS names and IP addresses, separated by spaces"),
}
GOOD = {"listen": "auto", "address": "0.0.0.0", "port": "50051", "names": ""}


@pytest.fixture(autouse=True)
def _without_services(administered: Host) -> None:
    """What packages start is for other tests: here it would take half of the time."""
    administered.let_services_start(False)


def test_an_answer_that_cannot_be_used_is_refused_by_name_and_nothing_is_changed(host: Host) -> None:
    for name, (answer, expected) in BAD.items():
        host.preseed(**{**GOOD, name: answer})
        refused = host.install(check=False)
        assert refused.returncode == 100
        said = f"joblet-agent: cannot use '{answer}' for joblet-agent/{name}: expected {expected}"
        assert said in refused.stderr, refused.stderr
        assert host.status() == "not-installed"
        assert not host.is_there("/etc/joblet")
    host.preseed(**GOOD)
    host.install()  # no half of it is in the way

    host.run("systemctl", "start", AGENT)
    host.preseed(port="0")
    for again in (host.install, host.reconfigure):
        refused = again(check=False)
        assert refused.returncode != 0
        assert "cannot use '0' for joblet-agent/port" in refused.stderr
    assert (host.status(), host.shown(AGENT, "ActiveState")) == ("installed", "active")
    host.preseed(port="50052")
    host.reconfigure()
    assert host.configured("listener.port") == (50052, f"{DROP_IN}:4")


def test_answers_are_the_drop_in_and_whoever_changes_that_has_answered(host: Host) -> None:
    host.preseed(address="127.0.0.1", port="50052", names=" jobs.example.org, 192.0.2.7")
    host.install()
    assert host.run("stat", "-c", "%a %U", DROP_IN).stdout == "644 root\n"
    written = host.run("cat", DROP_IN).stdout
    assert [line for line in written.splitlines() if not line.startswith("#")] == [
        "listener:",
        '  address: "127.0.0.1"',
        "  port: 50052",
        "tls:",
        '  names: "jobs.example.org 192.0.2.7"',
    ]
    assert host.configured("listener.enabled") == ("auto", "default")
    assert host.configured("tls.names") == ("jobs.example.org 192.0.2.7", f"{DROP_IN}:7")

    # A later answer counts; an edited file more than any, in an upgrade, too; likewise that it was removed.
    host.preseed(address="127.0.0.2")
    host.reconfigure()
    assert host.configured("listener.address")[0] == "127.0.0.2"
    host.sh(f"sed -i 's/50052/50053 # mine/' {DROP_IN}")
    edited = host.run("cat", DROP_IN).stdout
    host.install()
    assert host.run("cat", DROP_IN).stdout == edited
    host.run("rm", DROP_IN)
    host.reconfigure()
    assert not host.is_there(DROP_IN)

    # Answers that are the defaults need no file.
    host.preseed(names="node7")
    host.reconfigure()
    assert host.configured("tls.names") == ("node7", f"{DROP_IN}:4")
    assert host.configured("listener.port") == (50051, "default")
    host.preseed(names="")
    host.reconfigure()
    assert host.sh("ls -A /etc/joblet/agent.d") == ""


def test_what_is_no_answer_of_debconf_is_not_lost(host: Host) -> None:
    host.sh(
        f"mkdir -p /etc/joblet/agent.d; printf 'log_level: debug\nlistener:\n  port: 50053\n' > {DROP_IN}"
    )
    host.install()  # which finds answers, and has none that are new
    assert (host.configured("log_level")[0], host.configured("listener.port")[0]) == ("debug", 50053)
    host.preseed(port="50054")
    refused = host.reconfigure(check=False)
    assert refused.returncode == 1
    assert f"cannot put new answers into {DROP_IN}: it has 'log_level: debug'" in refused.stderr
    assert (host.configured("log_level")[0], host.configured("listener.port")[0]) == ("debug", 50053)


def test_answers_outlive_a_removal_and_go_with_a_purge(host: Host) -> None:
    host.preseed(port="50052")
    host.install()
    host.run("dpkg", "--remove", "joblet-agent")
    host.sh("rm -r /etc/joblet/agent.d")
    host.preseed(port="50053")
    host.install()
    assert host.configured("listener.port")[0] == 50053
    host.run("dpkg", "--purge", "joblet-agent")
    assert host.run("debconf-show", "joblet-agent").stdout == ""
    with pytest.raises(CommandFailed):
        host.run("test", "-e", "/etc/joblet")


def test_a_person_is_asked_until_the_answer_can_be_used(host: Host) -> None:
    host.install()
    terminal = host.answer("2\n999.0.0.1\n127.0.0.1\n50052\nnode7\n", "dpkg-reconfigure", "joblet-agent")
    assert "999.0.0.1 is refused for joblet-agent/address: expected an IP address" in " ".join(
        terminal.split()
    )
    assert host.configured("listener.enabled")[0] == "yes"
    assert host.configured("listener.address")[0] == "127.0.0.1"
    assert host.configured("listener.port")[0] == 50052
    assert host.configured("tls.names")[0] == "node7"
    terminal = host.answer("3\n", "dpkg-reconfigure", "joblet-agent")  # who does not listen needs no address
    assert "TCP port" not in terminal
    assert host.configured("listener.enabled")[0] == "no"
