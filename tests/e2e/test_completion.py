"""The Tab key, with the installed scripts in real shells and the agent behind them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.agent import Client
from tests.e2e.host import running
from tests.e2e.typed import Terminal, fish

pytestmark = pytest.mark.systemd

OWNED = Path("/tmp/x")
# Where a shell might evaluate it, and where a terminal might.
HOSTILE = "$(touch /tmp/x)`touch /tmp/x`%F"
SCRIPT = "# \x1b[2J\n# plain\trm\necho ready; exec sleep 600"
NOWHERE = {"RNX_ADDRESS": "unix:/nowhere/agent.sock"}


@pytest.fixture
def job(client: Client) -> Iterator[str]:
    """A running job with a name that means harm."""
    with running(client, SCRIPT, name=HOSTILE) as job:
        yield job
    assert not OWNED.exists()


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a7_a_shell_completes_what_is_typed_whatever_jobs_are_called(
    shell: str, client: Client, job: str
) -> None:
    ended = client.run("true")
    client.ended(ended)
    with Terminal(shell) as terminal:
        assert terminal.tab("rnx stop ") == ["rnx", "stop", job], "the only one that can be stopped"
        assert terminal.tab(f"rnx log {ended[:9]}") == ["rnx", "log", ended]
        assert terminal.tab(f"rnx job kill --signal=USR1 {job[:3]}")[-1] == job
        assert terminal.tab(f"rnx delete {job[:9]}")[-1] == job[:9], "it has not ended"
        assert terminal.tab("rnx run --network=bri") == ["rnx", "run", "--network=bridge"]
        assert terminal.tab("rnx run --publish 80:80 --network bri")[-1] == "bridge"
        assert terminal.tab("rnx --node=lo") == ["rnx", "--node=local"]
        assert terminal.tab("rnx netw") == ["rnx", "network"]
        assert terminal.tab("rnx run --env-file=/etc/debian_v")[-1] == "--env-file=/etc/debian_version"
        assert terminal.tab("rnx run cat /etc/debian_v")[-1] == "/etc/debian_version"
        assert terminal.tab("rnx run cat --netw")[-1] == "--netw", "a word of the job's command"
        assert terminal.tab("joblet-agent pki issue alice --role=op")[-1] == "--role=operator"
        shown = terminal.tab_twice("rnx log ")
        assert job in shown
        assert ended in shown
        assert "\x1b[2J" not in shown
        assert (HOSTILE[:20] in shown) is (shell == "zsh"), "bash shows no descriptions"


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_without_an_agent_a_shell_shows_no_error(shell: str, client: Client) -> None:
    with Terminal(shell, NOWHERE) as terminal:
        shown = terminal.tab_twice("rnx stop ")
        assert "rnx:" not in shown
        assert "Traceback" not in shown
        assert terminal.tab("rnx stop ") == ["rnx", "stop"]


def test_a7_fish_completes_what_is_typed_whatever_jobs_are_called(client: Client, job: str) -> None:
    ((offered, text),) = fish("rnx stop ").items()
    assert offered == job
    assert text.startswith(f"RUNNING {HOSTILE[:20]}")
    assert text.isprintable()
    assert fish(f"rnx log {job[:5]}").keys() == {job}
    assert fish("rnx run --network=bri").keys() == {"--network=bridge"}
    assert fish("rnx run --env-file=/etc/debian_v").keys() == {"--env-file=/etc/debian_version"}
    assert fish("rnx run cat /etc/debian_v").keys() == {"/etc/debian_version"}
    assert fish("rnx netw")["network"].startswith("Make, see and remove networks of jobs")
    assert "revoke" in fish("joblet-agent pki ")
    assert fish("rnx stop ", NOWHERE) == {}
