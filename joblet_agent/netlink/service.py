"""The network service: reads calls from its socket and lets one thread do them, one after the other.

It remembers nothing beyond its own life. After a start it refuses all calls but ``apply`` and ``occupied``:
what it did on half of the knowledge would be wrong.
"""

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from joblet_agent.errors import HostUnavailable, InvalidRequest, JobletError
from joblet_agent.netlink import wire
from joblet_agent.netlink.kernel import Kernel
from joblet_agent.netlink.rule_keeper import RuleKeeper

T = TypeVar("T")
_Call = Callable[[wire.Fields], object]

_CALLS_IN_FLIGHT = 256
_HINT = "see: journalctl -u joblet-networks"

# The socket is systemd's. Python 3.13 removes its file when the server closes, unless it is told not to.
_KEEP_SOCKET: Mapping[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}

_log = logging.getLogger(__name__)


class NetworkService:
    """Serves the listening socket until it is told to stop."""

    def __init__(self, kernel: Kernel) -> None:
        """Take the kernel, which is used in the service's own thread only, and closed there."""
        self._kernel = kernel
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="kernel")
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls: Mapping[str, _Call] = {
            "apply": self._apply,
            "create": self._create,
            "remove": self._remove,
            "attach": self._attach,
            "detach": self._detach,
            "occupied": self._occupied,
        }

    async def serve(self, listener: socket.socket, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Answer until ``stop`` is set; what is in the kernel stays. Calls ``ready`` once it listens."""
        await self._do(self._kernel.open)
        keeper = asyncio.create_task(RuleKeeper(self._kernel, self._do).keep(), name="rules")
        keeper.add_done_callback(lambda _: stop.set())
        server = await asyncio.start_unix_server(
            self._converse, sock=listener, limit=wire.LINE_MOST, **_KEEP_SOCKET
        )
        try:
            ready()
            await stop.wait()
        finally:
            server.close()
            for task in (keeper, *self._tasks):
                task.cancel()
            await asyncio.gather(keeper, *self._tasks, return_exceptions=True)
            await self._do(self._kernel.close)
            self._worker.shutdown()
        if not keeper.cancelled():
            keeper.result()  # ends the service with what ended it, and systemd starts another

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take calls in their order; the answer of one may come before that of an earlier one."""
        with self._own_task():
            slots = asyncio.Semaphore(_CALLS_IN_FLIGHT)
            try:
                writer.write(wire.write_hello(wire.Hello(self._kernel.is_told)))
                while line := await reader.readline():
                    await slots.acquire()
                    asyncio.create_task(self._reply(line, writer, slots.release))  # noqa: RUF006 - in _tasks
            except (ConnectionError, ValueError) as error:  # ValueError: a line without an end
                _log.warning("a connection was lost: %s", error)
            finally:
                writer.close()

    async def _reply(self, line: bytes, writer: asyncio.StreamWriter, done: Callable[[], None]) -> None:
        with self._own_task():
            try:
                answer = await self._answer(line)
                writer.write(answer)
                await writer.drain()
            except ConnectionError as error:
                _log.warning("an answer was lost: %s", error)
            finally:
                done()

    @contextmanager
    def _own_task(self) -> Iterator[None]:
        """Let the task that is in the block end with the service."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    async def _answer(self, line: bytes) -> bytes:
        number = 0
        try:
            request = wire.read_request(line)
            number = request.id
            call = self._calls.get(request.call)
            if call is None:
                raise wire.Malformed(f"no call {request.call!r}")
            result = await self._do(call, request.fields)
            if isinstance(result, Future):
                result = await asyncio.wrap_future(result)
            return wire.write_result(number, result)
        except wire.Malformed as error:
            text = f"cannot understand the agent: {error}"
            return wire.write_error(number, InvalidRequest(text, reason="NETWORK_CALL_MALFORMED"))
        except JobletError as error:
            return wire.write_error(number, error)
        except OSError as error:  # of what is done beside the working thread
            text = f"cannot remove what a job left: {error.strerror or error}"
            return wire.write_error(number, HostUnavailable(text, reason="NETWORK_REFUSED", hint=_HINT))
        except Exception:  # a bug must not cost the other jobs their network
            _log.exception("a call was not answered")
            text = "cannot do network work: an error of the service"
            return wire.write_error(
                number, HostUnavailable(text, reason="NETWORK_SERVICE_FAILED", hint=_HINT)
            )

    async def _do(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *arguments)

    # The calls, in the working thread.

    def _apply(self, fields: wire.Fields) -> object:
        networks, attachments = wire.lists(fields)
        return self._kernel.apply(networks, attachments)

    def _create(self, fields: wire.Fields) -> None:
        self._kernel.create(wire.network_from_fields(wire.only(fields, "network")))

    def _remove(self, fields: wire.Fields) -> None:
        self._kernel.remove(wire.network_from_fields(wire.only(fields, "network")))

    def _attach(self, fields: wire.Fields) -> object:
        return str(self._kernel.attach(wire.attachment_from_fields(wire.only(fields, "attachment"))))

    def _detach(self, fields: wire.Fields) -> object:
        return self._kernel.detach(wire.job_id_from_fields(fields))

    def _occupied(self, fields: wire.Fields) -> object:
        if fields:
            raise wire.Malformed("occupied has no fields")
        return [str(found) for found in self._kernel.occupied()]
