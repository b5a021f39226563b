"""``joblet-agent --help`` and completion know the agent and all of its tools."""

import sys

import pytest

from joblet_agent.__main__ import TOOLS, main


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["joblet-agent", *words])
    main()


def test_help_lists_every_tool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "--help")
    shown = capsys.readouterr().out
    assert "--config PATH" in shown
    assert all(f"\n  {tool} " in shown for tool in TOOLS)


def test_tools_their_commands_and_values_are_completed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def offered(line: str) -> list[str]:
        monkeypatch.setenv("COMP_LINE", line)
        monkeypatch.setenv("_JOBLET_AGENT_COMPLETE", "zsh_complete")
        run(monkeypatch)
        return [row.split("\t")[1] for row in capsys.readouterr().out.splitlines() if row]

    assert offered("joblet-agent ") == list(TOOLS)
    assert offered("joblet-agent pki re") == ["renew", "revoke"]
    assert offered("joblet-agent pki issue alice --role=v") == ["--role=viewer"]
