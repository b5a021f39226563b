"""What an installation leaves behind: an agent that works at once, and nothing that nobody has asked for."""

import pytest

from tests.package.host import AGENT, DROP_IN, Host

pytestmark = [pytest.mark.package, pytest.mark.both]

# Of the machine, root and the programs alone: as in a container image that is being built.
WITHOUT_SYSTEMD = """
mount -t tmpfs tmpfs /run
exec "$@"
"""


def test_the_first_job_works_at_once_for_root_and_the_group_and_for_nobody_else(host: Host) -> None:
    host.sh("getent passwd mallory || useradd -m mallory; getent passwd alice || useradd -m alice")
    host.install()
    assert host.run("rnx", "run", "--attach", "true").returncode == 0
    host.run("usermod", "-aG", "joblet", "alice")
    assert host.run("runuser", "-u", "alice", "--", "rnx", "run", "--attach", "true").returncode == 0
    refused = host.run("runuser", "-u", "mallory", "--", "rnx", "run", "--attach", "true", check=False)
    assert refused.returncode == 125
    assert "permission denied" in refused.stderr.lower()
    assert "joblet" in refused.stderr.split("hint: ")[1]

    assert (host.shown(AGENT, "UnitFileState"), host.shown(AGENT, "ActiveState")) == ("enabled", "active")
    assert host.run("ss", "-Hltn", "sport = :50051").stdout == ""
    assert host.sh("ls -A /etc/joblet /etc/joblet/agent.d").split() == [
        *("/etc/joblet:", "agent.d", "agent.yml"),
        "/etc/joblet/agent.d:",
    ]
    modes = host.run(
        "stat", "-c", "%a %U %G", *("/etc/joblet", "/etc/joblet/agent.d"), "/var/lib/joblet"
    ).stdout
    assert modes.splitlines() == ["755 root root", "755 root root", "700 root root"]
    assert host.run("systemctl", "is-failed", "joblet-*", check=False).stdout.split().count("failed") == 0


def test_an_image_that_is_built_without_systemd_has_an_agent_that_starts_with_the_host(host: Host) -> None:
    host.preseed(listen="yes")
    packages = host.sh("ls /root/dist/*.deb").split()
    words = ("apt-get", "install", "--yes", *packages)
    host.run("unshare", "--mount", "sh", "-euc", WITHOUT_SYSTEMD, "image", *words)
    assert host.status() == "installed"
    assert not host.is_there("/etc/joblet/pki")  # a key in an image would be the key of all its hosts
    assert host.run("getent", "group", "joblet").returncode == 0
    host.run("systemctl", "daemon-reload")
    assert (host.shown(AGENT, "UnitFileState"), host.shown(AGENT, "ActiveState")) == ("enabled", "inactive")
    host.run("systemd-tmpfiles", "--create")  # as the boot does
    host.run("systemctl", "start", "sockets.target", AGENT)
    assert host.run("rnx", "run", "--attach", "true").returncode == 0
    assert host.is_there("/etc/joblet/pki/server.crt")


def test_where_services_may_not_be_started_by_packages_the_agent_is_not(host: Host) -> None:
    host.let_services_start(False)
    try:
        host.install()
        assert host.status() == "installed"
        assert (host.shown(AGENT, "UnitFileState"), host.shown(AGENT, "ActiveState")) == (
            "enabled",
            "inactive",
        )
        assert not host.is_there("/run/joblet/agent.sock")
        assert not host.is_there(DROP_IN)
    finally:
        host.let_services_start(True)
