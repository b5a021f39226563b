"""Clients in processes of their own: one JSON line asks, one JSON line answers.

Between two questions a client has no connection, so the one that is not measured costs nothing.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

Question = Callable[..., Awaitable[Any]]


class Client:
    """A running client; ``module`` is run with ``arguments`` and serves ``answer_questions``."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.bench.{module}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def ask(self, question: str, **arguments: Any) -> Any:
        """Let the client do something and return its answer."""
        self.begin(question, **arguments)
        return self.finish()

    def begin(self, question: str, **arguments: Any) -> None:
        """Let the client begin; ``finish`` returns its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([question, arguments]) + "\n")
        self._process.stdin.flush()

    def finish(self) -> Any:
        """Wait for the answer to what was begun."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"bench: client failed with status {self._process.wait()}, see above")
        return json.loads(line)


def answer_questions(questions: Mapping[str, Question]) -> None:
    """Serve a ``Client``: the main loop of its process."""
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            name, arguments = json.loads(line)
            answer = runner.run(_answer(questions[name], arguments))
            print(json.dumps(answer), flush=True)


async def _answer(question: Question, arguments: Mapping[str, Any]) -> Any:
    return await question(**arguments)
