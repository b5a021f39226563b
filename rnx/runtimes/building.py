"""Builds of runtimes as they go: phases and log lines on standard error, across restarts of the agent."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import TracebackType
from typing import Any, TextIO

from rnx.attach import Patience
from rnx.client import STOP, Client, pb
from rnx.exits import Exit, RnxError, Unreachable, report
from rnx.output import clean
from rnx.times import show_duration

_TICK = 1.0
_MARKS = {"warn": "warning: ", "error": "error: "}

Events = Callable[[], Iterator[Any]]


class BuildFollower:
    """Yields the events of a build, each once, until its result; a lost connection is found again."""

    def __init__(self, client: Client, begin: Events, *, verbose: bool) -> None:
        """``begin`` makes the call that the build begins with."""
        self._client = client
        self._begin = begin
        self._verbose = verbose
        self._phase = 0
        self._written = 0
        self.build_id = ""
        self.is_own = True
        """Nobody else has asked for the build."""

    def events(self) -> Iterator[Any]:
        """Yield what was not seen before. Raises RnxError if it ends without a result."""
        patience = Patience()
        source = self._begin
        while True:
            try:
                for event in source():
                    patience.heard()
                    if self._is_new(event):
                        yield event
                    if event.HasField("result"):
                        return
                raise RnxError("the build ended without a result", hint="see: rnx runtime list")
            except Unreachable as lost:
                if not self.build_id:
                    raise
                patience.wait(lost)
                source = self._again
            except RnxError as error:
                if source == self._begin or error.reason != "RUNTIME_BUILD_NOT_FOUND":
                    raise
                # The agent that ended had not come far enough for the next one to know of it.
                source = self._begin

    def _again(self) -> Iterator[Any]:
        request = pb.FollowRuntimeBuildRequest(build=self.build_id, verbose=self._verbose)
        return self._client.stream(self._client.agent.FollowRuntimeBuild, request)

    def _is_new(self, event: Any) -> bool:
        """Note where the build is; an agent that is asked again tells everything from the beginning."""
        if event.HasField("phase"):
            self.build_id = event.phase.build_id or self.build_id
            self.is_own = self.is_own and not (event.phase.joined and self._phase == 0)
            is_new = bool(event.phase.phase_number > self._phase)
            self._phase = max(self._phase, event.phase.phase_number)
            return is_new
        if event.HasField("log"):
            is_new = bool(event.log.timestamp > self._written or not event.log.timestamp)
            self._written = max(self._written, event.log.timestamp)
            return is_new
        return True


class BuildScreen:
    """What is shown of a build. On a terminal the line of the phase under way counts its time."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._line = ""
        self._began = 0.0
        self._began_ms = 0

    def __enter__(self) -> "BuildScreen":
        if self._is_terminal:
            threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        with self._lock:
            self._finish(time.monotonic() - self._began)

    def show(self, event: Any) -> None:
        """Show an event; of a result only that the last phase is over."""
        with self._lock:
            if event.HasField("phase"):
                self._phase(event.phase)
            elif event.HasField("log"):
                self._log(event.log)
            elif self._line:
                self._finish((event.result.build_duration_ms - self._began_ms) / 1000)

    def _phase(self, phase: Any) -> None:
        self._finish((phase.elapsed_ms - self._began_ms) / 1000)
        self._began, self._began_ms = time.monotonic(), phase.elapsed_ms
        place = f"[{phase.phase_number:>2}/{phase.total_phases}]"
        line = f"{place} {clean(phase.phase_name)}"
        if phase.skipped:
            reason = clean(phase.message).removeprefix("skipped: ")
            self._print(f"{line}: skipped" + (f", {reason}" if reason else ""))
            return
        line += f": {clean(phase.message)}" if phase.message else ""
        if self._is_terminal:
            self._line = line
            self._draw()
        else:
            self._line = place
            self._print(line)

    def _log(self, log: Any) -> None:
        text = "".join(c if c.isprintable() or c == "\t" else clean(c) for c in log.message)
        if self._is_terminal and self._line:
            self._print("\r\x1b[K", end="")
        self._print(f"    {_MARKS.get(log.level, '')}{text}")
        if self._is_terminal and self._line:
            self._draw()

    def _finish(self, seconds: float) -> None:
        """Say how long the phase took."""
        if not self._line:
            return
        took = show_duration(timedelta(seconds=max(seconds, 0)))
        if self._is_terminal:
            self._print(f"\r\x1b[K{self._line} ({took})")
        elif seconds >= _TICK:
            self._print(f"{self._line} took {took}")
        self._line = ""

    def _draw(self) -> None:
        seconds = int(time.monotonic() - self._began)
        self._print(f"\r\x1b[?7l\x1b[K{self._line} {seconds} s\x1b[?7h", end="")

    def _print(self, text: str, end: str = "\n") -> None:
        print(text, end=end, file=self._stream, flush=True)

    def _tick(self) -> None:
        while not self._ended.wait(_TICK):
            with self._lock:
                if self._line and not self._ended.is_set():
                    self._draw()


def follow(follower: BuildFollower, screen: BuildScreen) -> Any:
    """Show the build and return its result (BuildResult)."""
    with screen:
        for event in follower.events():
            screen.show(event)
            if event.HasField("result"):
                return event.result
    raise RnxError("the build ended without a result")


def cancel_build(client: Client, build: str) -> Any:
    """End a build; return what it was (RuntimeBuild)."""
    request = pb.CancelRuntimeBuildRequest(build=build)
    return client.call(client.agent.CancelRuntimeBuild, request, STOP).build


def _cancel_with_patience(client: Client, build: str) -> None:
    """End a build, also of an agent that is just being restarted: the build goes on without it."""
    patience = Patience()
    while True:
        try:
            cancel_build(client, build)
            return
        except Unreachable as lost:
            patience.wait(lost)


def interrupted(client: Client, follower: BuildFollower, *, cancels: bool) -> Exit:
    """Do what Ctrl-C wants: cancel a build that is the caller's own, leave any other alone."""
    build = follower.build_id
    if cancels and follower.is_own and build:
        print("rnx: canceling the build", file=sys.stderr)
        try:
            _cancel_with_patience(client, build)
            print("rnx: the build is canceled, nothing of it is left", file=sys.stderr)
        except RnxError as error:
            report(error)
    elif build:
        print(f"rnx: the build goes on; rnx runtime attach {build} follows it", file=sys.stderr)
    elif cancels:
        print("rnx: no answer yet; a build that has begun ends within a minute by itself", file=sys.stderr)
    return Exit.INTERRUPTED
