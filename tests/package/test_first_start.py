"""The certificates that an agent which must listen makes itself, once."""

import pytest

from tests.package.host import AGENT, CERTIFICATES, DROP_IN, Host

pytestmark = pytest.mark.package

PKI = "/etc/joblet/pki"
FINGERPRINTS = f"cd {PKI} && sha256sum server.crt server.key ca.crt ca/index.json ca/*.key"
# The n-th change of a name is the last thing that the process does.
KILLED_AT = """
calls=rename,renameat,renameat2
systemctl stop joblet-agent
rm -rf /etc/joblet/pki
for n in $(seq 1 20); do
    strace -qq -o /dev/null -e trace=$calls -e inject=$calls:signal=KILL:when=$n \
        joblet-agent pki init --first-start >/dev/null && break
    systemctl reset-failed joblet-agent-certificates
    systemctl start joblet-agent-certificates
    joblet-agent pki list -o json | grep -c '"valid"'
    ls /etc/joblet/pki/ca/*.key | wc -l
    rm -rf /etc/joblet/pki
done
"""


def test_c6_certificates_are_made_once_and_nobody_gets_a_key_who_has_not_asked(host: Host) -> None:
    host.preseed(listen="yes", address="127.0.0.1", names="jobs.example.org 192.0.2.7")
    host.install()
    assert host.run("rnx", "run", "--attach", "true").returncode == 0
    assert host.sh("ss -Hltn 'sport = :50051' | awk '{print $4}'") == "[::ffff:127.0.0.1]:50051\n"
    names = host.run("openssl", "x509", "-in", f"{PKI}/server.crt", "-noout", "-ext", "subjectAltName").stdout
    assert "DNS:jobs.example.org" in names
    assert "IP Address:192.0.2.7" in names
    keys = host.sh("grep -rl 'PRIVATE KEY' /etc/joblet /root /home /var/lib/joblet || true").split()
    kinds = sorted(key.replace(host.sh(f"ls {PKI}/ca/*.key").strip(), "ca") for key in keys)
    assert kinds == [f"{PKI}/server.key", "ca"]
    assert {host.run("stat", "-c", "%a %U", key).stdout for key in keys} == {"600 root\n"}
    assert host.run("stat", "-c", "%a", PKI, f"{PKI}/ca").stdout == "700\n700\n"
    roles = host.sh("joblet-agent pki list | awk 'NR > 1 {print $2}'").split()
    assert roles == ["ca", "server"]

    issued = host.sh("joblet-agent pki issue alice --role admin --connect 127.0.0.1 -o /root/alice.yml")
    assert "alice, admin" in issued
    assert host.run("rnx", "--config=/root/alice.yml", "run", "--attach", "true").returncode == 0
    before = host.sh(FINGERPRINTS)
    host.install()
    host.reconfigure()
    host.run("dpkg", "--remove", "joblet-agent")
    host.install()
    host.run("systemctl", "restart", AGENT)
    assert host.sh(FINGERPRINTS) == before
    assert host.run("rnx", "--config=/root/alice.yml", "run", "--attach", "true").returncode == 0


def test_nothing_is_made_for_an_agent_that_need_not_listen_or_has_files_of_another_ca(host: Host) -> None:
    host.preseed(listen="no")
    host.install()
    assert not host.is_there(PKI)
    assert host.shown(CERTIFICATES, "ExecMainStatus") == "0"
    # The word alone is not enough.
    host.sh("printf 'viewer:\\n  files: yes\\n' > /etc/joblet/agent.d/60-viewer.yml")
    host.run("systemctl", "restart", AGENT)
    assert (host.shown(CERTIFICATES, "Result"), host.is_there(PKI)) == ("success", False)

    host.sh(f"mkdir -m 700 {PKI} && echo mine > {PKI}/ca.crt && rm {DROP_IN}")
    host.sh("printf 'listener:\\n  enabled: yes\\n' > /etc/joblet/agent.d/70-listener.yml")
    host.run("systemctl", "restart", AGENT, check=False)
    assert host.sh(f"cat {PKI}/*") == "mine\n"


def test_first_certificates_that_were_interrupted_are_finished_by_the_next_start(host: Host) -> None:
    host.preseed(listen="yes")
    host.install()
    found = host.sh(KILLED_AT).split()
    assert len(found) >= 2 * 5
    assert set(found[::2]) == {"2"}  # the CA and the agent's
    assert set(found[1::2]) == {"1"}
    host.run("systemctl", "start", AGENT)
    assert host.run("rnx", "run", "--attach", "true").returncode == 0


def test_an_agent_that_must_listen_and_cannot_have_certificates_says_what_to_do(host: Host) -> None:
    host.install()
    host.sh(f"mkdir {PKI} && mount -t tmpfs -o ro tmpfs {PKI}")
    try:
        host.preseed(listen="yes")
        host.reconfigure()
        told = host.run("journalctl", "-t", "joblet-agent", "--output=cat", "--since=-1min").stdout
        assert f"joblet-agent: cannot go on: {PKI}/ca: Read-only file system" in told
        assert f"cannot listen on 0.0.0.0:50051: there are no certificates in {PKI} that can be used" in told
        assert "journalctl -u joblet-agent-certificates" in told
    finally:
        host.run("umount", PKI)
    host.run("systemctl", "reset-failed", CERTIFICATES)
    host.run("systemctl", "restart", AGENT)
    assert host.run("rnx", "run", "--attach", "true").returncode == 0
