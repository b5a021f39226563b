"""A published client in a process of its own, making the calls that a test asks for."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from tests.compat.sdk import sdk_environment

SCRIPT = Path(__file__).with_name("use_client.py")

Message = dict[str, Any]


class CallFailed(Exception):
    """A call did not end well: with a gRPC status other than OK, or with the client's own exception."""

    def __init__(self, end: str, text: str) -> None:
        super().__init__(f"{end}: {text}")
        self.end = end
        self.text = text


class PublishedClient:
    """The client of a version, connected to the agent at `target`. One call at a time.

    Without a target it is the whole client, which finds its way by the `.rnx/rnx-config.yml` of `home`;
    `within` is a command that runs it somewhere else, as nsenter(1) does. It leaves its key in temporary
    files; they go with `home`.
    """

    def __init__(
        self, version: str, target: str = "", *, home: Path | None = None, within: Sequence[str] = ()
    ) -> None:
        self._process = subprocess.Popen(
            [*within, str(sdk_environment(version)), "-I", str(SCRIPT), *([target] if target else [])],
            env={**os.environ, **(dict.fromkeys(("HOME", "TMPDIR"), str(home)) if home else {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def stub(self, path: str, /, **request: object) -> Message:
        """Call a unary method, `Service/Method`, through the generated stubs."""
        (message,) = self.stream(path, **request)
        assert isinstance(message, dict)
        return message

    def stream(self, path: str, /, **request: object) -> Iterator[Any]:
        """The messages of a method's answer, as they come."""
        return self._call({"stub": path, "request": request})

    def helper(self, name: str, /, **arguments: object) -> Any:
        """Call a method of the client's own JobService, or of another (`networks.list_networks`).

        It returns something at once.
        """
        (result,) = self.iterate(name, **arguments)
        return result

    def iterate(self, name: str, /, **arguments: object) -> Iterator[Any]:
        """What a generator of the client's own JobService yields."""
        return self._call({"helper": name, "arguments": arguments})

    def _call(self, call: Message) -> Iterator[Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(call, default=_for_bytes), file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            part = json.loads(line)
            if "message" in part:
                yield part["message"]
            elif part["end"] == "OK":
                return
            else:
                raise CallFailed(part["end"], part["text"])
        raise AssertionError(f"the client's process ended with {self._process.wait()}")


def _for_bytes(value: object) -> Message:
    """Return what stands for bytes in a call."""
    assert isinstance(value, bytes)
    return {"latin-1": value.decode("latin-1")}
