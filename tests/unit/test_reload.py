"""Reading the configuration again: what counts afterwards, what is said, and what stays as it is."""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from joblet_agent import reload, reload_call
from joblet_agent.config import AgentConfig, JobsConfig, load_config
from joblet_agent.config.keys import Key, every_key
from joblet_agent.config.live import adopt
from joblet_agent.config.load import build
from joblet_agent.config.rules import AbsolutePath, Change, Count, Duration, Size, Switch
from joblet_agent.errors import HostUnavailable
from joblet_agent.reload import Reloads
from tests.unit.config.writing import written

OTHERS = {
    "jobs.default_profile": "strict",
    "jobs.default_network": "none",
    "networks.bridge": "10.7.0.0/16",
    "networks.isolated": "10.8.0.0/16",
    "networks.ula": "fd12:3456:789a::/48",
    "listener.address": "127.0.0.1",
    "socket.group": "adm",
    "sockets.operator.group": "adm",
    "sockets.viewer.group": "adm",
    "hooks.on_failure": "tell@.service",
    "tls.names": "host.example",
    "runtimes.collect_every": "12h",
    "runtimes.registry": "https://host.example/runtimes",
    "runtimes.proxy": "http://proxy.example:3128",
    "runtimes.no_proxy": "host.example",
    "runtimes.mirrors.debian": "http://mirror.example/debian",
    "runtimes.mirrors.debian_security": "http://mirror.example/debian-security",
    "runtimes.mirrors.ubuntu": "http://mirror.example/ubuntu",
    "runtimes.mirrors.pip_index": "https://mirror.example/pypi/simple",
    "runtimes.mirrors.npm_registry": "https://mirror.example/npm",
    "runtimes.ca_file": "/etc/ssl/certs/company.pem",
    "runtimes.auth_file": "/etc/joblet/registries.json",
    "jobs.uid_first": "1879048191",
    "jobs.uid_count": "65535",
    "jobs.project_first": "1879048191",
    "jobs.project_count": "1048575",
}
"""Values for keys whose rule does not say by itself which ones there are."""
TOGETHER = {"profiles.default": {"jobs.default_profile": "strict"}}
"""What must change with a key, or the value would contradict another one's."""


class RecordingNotifier:
    """What systemd is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def reloading(self) -> None:
        self.told.append("reloading")

    def ready(self, status: str) -> None:
        self.told.append(f"ready {status}")


def other(key: Key) -> str:
    """A value that is not the default."""
    if key.name in OTHERS:
        return OTHERS[key.name]
    default: Any = key.default
    match key.rule:
        case Count(most=most) | Size(most=most):
            return str(default + 1 if default < most else default - 1)
        case Duration():
            return key.rule.write(default + timedelta(seconds=1))
        case Switch():
            return key.rule.write(not default)
        case AbsolutePath():
            return "/srv/other"
    assert isinstance(default, StrEnum), key
    return next(word for word in type(default) if word is not default).value


def write(path: Path, text: str) -> None:
    path.write_text(text)


def with_reloads(
    path: Path, case: Callable[[AgentConfig, Reloads, RecordingNotifier], Awaitable[None]]
) -> list[str]:
    """Run the case with a configuration that is loaded from the path; return the keys that were told of."""
    changed: list[str] = []

    async def on_change(keys: Sequence[str]) -> None:
        changed.extend(keys)

    async def main() -> None:
        config, notifier = load_config(path), RecordingNotifier()
        await case(config, Reloads(config, path, notifier, on_change), notifier)  # type: ignore[arg-type]

    asyncio.run(asyncio.wait_for(main(), 20))
    return changed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "agent.yml"
    path.touch()
    return path


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.mark.parametrize("key", every_key(), ids=lambda key: key.name)
def test_every_key_changes_at_once_or_is_said_to_need_a_restart(
    path: Path, caplog: pytest.LogCaptureFixture, key: Key
) -> None:
    async def case(config: AgentConfig, reloads: Reloads, notifier: RecordingNotifier) -> None:
        values = {key.name: other(key), **TOGETHER.get(key.name, {})}
        write(path, written(values))
        assert await reloads.reload() == 0
        wanted = load_config(path)
        assert key.of(wanted) != key.default
        difference = f"{key.name}: {key.text(AgentConfig())} → {key.text(wanted)}"
        if key.change is Change.LIVE:
            assert key.of(config) == key.of(wanted)
            assert notifier.told == ["reloading", "ready serving on /run/joblet/agent.sock"]
            (line,) = caplog.messages
            assert line.startswith("configuration read again: ")
            assert difference in line
        else:
            assert config == AgentConfig()
            assert notifier.told[-1].endswith(f"; needs a restart: {key.name}")
            assert caplog.messages == [
                "configuration read again: nothing has changed",
                f"needs a restart (systemctl restart joblet-agent): {difference}",
            ]

    with_reloads(path, case)


def test_who_holds_a_section_reads_the_new_values(path: Path) -> None:
    async def case(config: AgentConfig, reloads: Reloads, _: RecordingNotifier) -> None:
        jobs, default = config.jobs, config.limits.default
        write(path, "jobs: {max_waiting: 7}\nlimits: {default: {max_tasks: 99}}\n")
        await reloads.reload()
        assert (jobs.max_waiting, default.max_tasks) == (7, 99)

    assert with_reloads(path, case) == ["jobs.max_waiting", "limits.default.max_tasks"]


def test_a_wrong_configuration_changes_nothing_and_names_all_faults(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def case(config: AgentConfig, reloads: Reloads, notifier: RecordingNotifier) -> None:
        write(path, "log_level: debug\njobs: {max_waiting: x}\nlistener: {prt: 1}\n")
        assert await reloads.reload() == 78
        assert config == AgentConfig()
        (told,) = caplog.messages
        assert f"{path}:2: jobs.max_waiting: expected" in told
        assert f"{path}:3: listener.prt: unknown key" in told
        assert notifier.told[-1].endswith("; the configuration cannot be used, the one before it counts")
        write(path, "log_level: debug\n")
        assert await reloads.reload() == 0
        assert config.log_level == "debug"
        assert notifier.told[-1] == "ready serving on /run/joblet/agent.sock"

    with_reloads(path, case)


def test_a_configuration_that_cannot_be_read_in_time_fails_the_reload_and_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    monkeypatch.setattr(reload, "load_files", lambda _: answers.wait())  # as a file system that is gone
    monkeypatch.setattr(reload, "_READ_WITHIN_SECONDS", 0.01)

    async def case(config: AgentConfig, reloads: Reloads, notifier: RecordingNotifier) -> None:
        assert await reloads.reload() == 1
        answers.set()
        assert config == AgentConfig()
        assert notifier.told[-1].endswith("; the last reload failed")

    with_reloads(path, case)


def test_what_needs_a_restart_stays_named_until_it_is_taken_back(path: Path) -> None:
    async def case(_: AgentConfig, reloads: Reloads, notifier: RecordingNotifier) -> None:
        write(path, "listener: {port: 7}\n")
        await reloads.reload()
        write(path, "listener: {port: 7}\nlog_level: debug\n")
        await reloads.reload()
        assert notifier.told[-1].endswith("; needs a restart: listener.port")
        write(path, "log_level: debug\n")
        await reloads.reload()
        assert notifier.told[-1] == "ready serving on /run/joblet/agent.sock"

    with_reloads(path, case)


def test_a_live_value_that_contradicts_one_of_before_waits_for_the_restart_too(path: Path) -> None:
    async def case(config: AgentConfig, reloads: Reloads, notifier: RecordingNotifier) -> None:
        write(path, "jobs: {uid_count: 200, max_concurrent: 200, max_waiting: 7}\n")
        await reloads.reload()
        assert config.jobs == JobsConfig(uid_count=100, max_concurrent=100, max_waiting=7)
        assert notifier.told[-1].endswith("; needs a restart: jobs.max_concurrent, jobs.uid_count")

    write(path, "jobs: {uid_count: 100, max_concurrent: 100}\n")
    with_reloads(path, case)


def test_adopting_leaves_a_configuration_that_a_restart_would_accept() -> None:
    running = build({"jobs.uid_count": 100, "jobs.max_concurrent": 100})
    adopted = adopt(running, build({"jobs.uid_count": 50, "jobs.max_concurrent": 50}))
    assert [each.key.name for each in adopted.changed] == ["jobs.max_concurrent"]
    assert (running.jobs.uid_count, running.jobs.max_concurrent) == (100, 50)


def test_a_drop_in_that_should_have_another_name_is_told_of(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def case(_: AgentConfig, reloads: Reloads, __: RecordingNotifier) -> None:
        path.with_name("agent.d").mkdir()
        path.with_name("agent.d").joinpath("10.yaml").touch()
        await reloads.reload()
        assert "10.yaml is not read" in caplog.messages[0]

    with_reloads(path, case)


def test_reloads_come_one_after_the_other(path: Path) -> None:
    async def case(_: AgentConfig, reloads: Reloads, notifier: RecordingNotifier) -> None:
        await asyncio.gather(*(reloads.reload() for _ in range(3)))
        assert [told.split()[0] for told in notifier.told] == ["reloading", "ready"] * 3

    with_reloads(path, case)


def test_a_hangup_reloads(path: Path) -> None:
    async def case(config: AgentConfig, reloads: Reloads, notifier: RecordingNotifier) -> None:
        hangup = asyncio.Event()
        following = asyncio.create_task(reloads.follow(hangup))
        write(path, "log_level: debug\n")
        hangup.set()
        while len(notifier.told) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert config.log_level == "debug"
        following.cancel()

    with_reloads(path, case)


@pytest.mark.parametrize("status", [0, 78])
def test_whoever_asks_has_the_answer_when_the_reload_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv(reload_call.VARIABLE, str(tmp_path / "reload.sock"))
    done: list[int] = []

    async def reload() -> int:
        await asyncio.sleep(0)
        done.append(status)
        return status

    async def main() -> None:
        path = reload_call.reload_socket()
        assert path is not None
        server = await reload_call.listen(path, reload)
        assert await asyncio.to_thread(reload_call.ask) == status
        assert done == [status]
        server.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_the_socket_of_an_agent_that_was_killed_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "reload.sock"
    monkeypatch.setenv(reload_call.VARIABLE, str(path))
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(HostUnavailable, match="Connection refused"):
        reload_call.ask()

    async def reload() -> int:
        return 0

    async def main() -> None:
        server = await reload_call.listen(path, reload)
        assert await asyncio.to_thread(reload_call.ask) == 0
        server.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_an_agent_that_dies_before_it_answers_is_a_failed_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "reload.sock"
    monkeypatch.setenv(reload_call.VARIABLE, str(path))
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(path))
        agent.listen()

        def die() -> None:
            agent.accept()[0].close()

        dying = threading.Thread(target=die)
        dying.start()
        with pytest.raises(HostUnavailable, match="the agent has ended meanwhile"):
            reload_call.ask()
        dying.join()


def test_without_the_units_word_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(reload_call.VARIABLE, raising=False)
    assert reload_call.reload_socket() is None
    with pytest.raises(HostUnavailable) as caught:
        reload_call.ask()
    assert caught.value.hint == "use: systemctl reload joblet-agent"


def test_the_socket_is_for_root_alone(tmp_path: Path) -> None:
    async def reload() -> int:
        return 0

    async def main() -> None:
        before = os.umask(0o077)  # the daemon's
        try:
            server = await reload_call.listen(tmp_path / "reload.sock", reload)
        finally:
            os.umask(before)
        assert (tmp_path / "reload.sock").stat().st_mode & 0o077 == 0
        server.close()

    asyncio.run(main())
