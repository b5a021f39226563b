"""The agent loads nothing of the tools that share its name with it, nor the other way round."""

import subprocess
import sys

import pytest


def loaded(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*sys.modules)"
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    return {
        name.split(".")[0] if not name.startswith("joblet_agent.") else name for name in done.stdout.split()
    }


@pytest.mark.parametrize("module", ["daemon", "rpc.server"])
def test_the_agent_without_certificates_does_without_them(module: str) -> None:
    found = loaded(f"import joblet_agent.{module}")
    assert not found & {"click", "pyroute2", "cryptography"}
    assert not [name for name in found if name.startswith("joblet_agent.pki")]


def test_the_tool_does_without_the_agent() -> None:
    found = loaded("import joblet_agent.pki.command")
    assert not found & {"grpc", "google", "asyncio", "pyroute2", "dbus_next"}
