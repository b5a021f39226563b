"""``joblet-agent check`` as people and programs meet it."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from joblet_agent.fitness import command, probes
from joblet_agent.fitness.finding import Finding, Subject, Verdict, failed, ok, unknown, warning

FINE = Finding("FINE", Subject.DISK, ok("all is well"))
LACKING = Finding("LACKING", Subject.KERNEL, warning("no x", "y fails", "load x"))
UNSEEN = Finding("UNSEEN", Subject.CLOCK, unknown("whether z", "run it as root"))
BROKEN = Finding("BROKEN", Subject.CGROUP, failed("no c", "jobs fail", "boot with c=1"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "agent.yml"
    path.write_text("", encoding="utf-8")
    return path


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    findings: list[Finding] = [FINE]
    monkeypatch.setattr(probes, "look_around", lambda *_, **__: None)
    monkeypatch.setattr(probes, "findings", lambda _: findings)
    return findings


@pytest.mark.parametrize(
    ("others", "words", "status"),
    [
        ([], [], 0),
        ([], ["--strict"], 0),
        ([LACKING], [], 0),
        ([LACKING], ["--strict"], 3),
        ([UNSEEN], ["--strict"], 3),
        ([BROKEN], [], 1),
        ([BROKEN, LACKING], ["--strict", "--json"], 1),
    ],
)
def test_the_exit_status_is_for_automation(
    config: Path, found: list[Finding], others: Sequence[Finding], words: Sequence[str], status: int
) -> None:
    found += others
    assert command.run(["--config", str(config), *words]) == status


def test_what_matters_most_comes_last(
    config: Path, found: list[Finding], capsys: pytest.CaptureFixture[str]
) -> None:
    found[:] = [BROKEN, LACKING, FINE, UNSEEN]
    command.run(["--config", str(config)])
    assert capsys.readouterr().out.splitlines() == [
        "disk: ok: all is well",
        "clock: unknown: whether z [UNSEEN]; run it as root",
        "kernel: warning: no x [LACKING]; y fails; load x",
        "cgroup: failed: no c [BROKEN]; jobs fail; boot with c=1",
        "this host is not fit: 1 failed, 1 warning, 1 unknown, 1 ok",
    ]


def test_json_has_a_stable_shape(
    config: Path, found: list[Finding], capsys: pytest.CaptureFixture[str]
) -> None:
    found.append(LACKING)
    command.run(["--config", str(config), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["fit", "agent", "counts", "findings"]
    assert told["fit"] is True
    assert told["counts"] == {"ok": 1, "unknown": 0, "warning": 1, "failed": 0}
    assert told["findings"][1] == {
        "id": "LACKING",
        "subject": "kernel",
        "result": "warning",
        "text": "no x",
        "consequence": "y fails",
        "remedy": "load x",
    }


def test_nothing_that_a_file_says_reaches_the_terminal_as_it_is(
    config: Path, found: list[Finding], capsys: pytest.CaptureFixture[str]
) -> None:
    found[:] = [Finding("X", Subject.DISK, Verdict(ok("").result, "a\x1b[31mb\nc"))]
    command.run(["--config", str(config)])
    assert capsys.readouterr().out.splitlines()[0] == "disk: ok: a\\x1b[31mb\\nc"


def test_a_wrong_configuration_and_wrong_usage_have_statuses_of_their_own(config: Path) -> None:
    config.write_text("no_such_key: 1\n", encoding="utf-8")
    assert command.run(["--config", str(config)]) == 78
    assert command.run(["--no-such-option"]) == 2


def test_it_does_without_grpc_and_nothing_of_the_agent_starts() -> None:
    code = "import joblet_agent.fitness.probes, sys; print(*sys.modules)"
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    modules = {name.split(".")[0] for name in done.stdout.split()}
    assert not modules & {"grpc", "google", "pyroute2", "nftables", "cryptography", "sqlite3"}
