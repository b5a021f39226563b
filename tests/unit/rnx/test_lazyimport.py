"""What a call loads is most of what it costs, so it is fixed here; each in an interpreter of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]


def loaded_after(code: str) -> set[str]:
    """Return the modules that are really loaded: a lazy one still has its own class."""
    program = (
        f"import sys\n{code}\n"
        "print(*(n for n, m in list(sys.modules.items()) if type(m).__name__ != '_LazyModule'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_a_client_loads_no_event_loop() -> None:
    assert loaded_after("import rnx.client").isdisjoint(
        {"asyncio.events", "grpc.aio._channel", "yaml", "click", "ssl", "rnx.diagnosis"}
    )


@pytest.mark.parametrize(
    ("words", "unwanted"),
    [
        (["run", "--help"], {"click", "grpc", "google", "yaml"}),
        (["run", "--bad"], {"click", "grpc", "google", "yaml"}),
        (["config-help"], {"grpc", "google", "yaml"}),
        (["--help"], {"grpc", "google", "yaml", "rnx.attach"}),
    ],
)
def test_a_command_loads_only_what_it_needs(words: list[str], unwanted: set[str]) -> None:
    loaded = loaded_after(f"from rnx.entry import run_program\nrun_program({words!r})")
    assert loaded.isdisjoint(unwanted)


def test_a_run_does_without_click() -> None:
    address = "import os; os.environ['RNX_ADDRESS'] = 'unix:/nowhere'"
    loaded = loaded_after(f"{address}\nfrom rnx.entry import run_program\nrun_program(['run', 'x'])")
    assert "grpc" in loaded
    assert loaded.isdisjoint({"click", "yaml", "asyncio.events", "rnx.yamlfile", "ssl"})


def test_what_was_put_off_works_when_it_is_wanted() -> None:
    code = (
        "import rnx.client, grpc, asyncio, calendar\n"
        "async def main():\n"
        "    channel = grpc.aio.insecure_channel('unix:/nowhere')\n"
        "    await channel.close()\n"
        "asyncio.run(main())\n"
        "assert calendar.monthrange(2026, 2)[1] == 28\n"
        "import sys; assert not any(type(f).__name__ == '_Finder' for f in sys.meta_path)"
    )
    assert {"grpc.aio._channel", "asyncio.events"} <= loaded_after(code)
