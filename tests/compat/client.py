"""A published client in a process of its own, making the calls that a test asks for."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
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
    """The client of a version, connected to the agent at `target`. One call at a time."""

    def __init__(self, version: str, target: str) -> None:
        self._process = subprocess.Popen(
            [str(sdk_environment(version)), "-I", str(SCRIPT), target],
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
        """Call a method of the client's own JobService that returns something at once."""
        (result,) = self.iterate(name, **arguments)
        return result

    def iterate(self, name: str, /, **arguments: object) -> Iterator[Any]:
        """What a generator of the client's own JobService yields."""
        return self._call({"helper": name, "arguments": arguments})

    def _call(self, call: Message) -> Iterator[Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(call), file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            part = json.loads(line)
            if "message" in part:
                yield part["message"]
            elif part["end"] == "OK":
                return
            else:
                raise CallFailed(part["end"], part["text"])
        raise AssertionError(f"the client's process ended with {self._process.wait()}")
