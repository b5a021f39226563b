"""``python3 -m tests.attacks.flood streams|uploads TARGET DIRECTORY``: take all that one client gets.

Until it is killed. The directory has its ca.crt, client.crt and client.key.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc

from tests.attacks.honest import channel_to

_STREAMS = 2000
_UPLOADS = 8
_LARGE = bytes(100 * 1024 * 1024)


def main() -> None:
    """Flood."""
    kind, target, directory = sys.argv[1:]
    with channel_to(target, Path(directory), ("grpc.max_send_message_length", -1)) as made:
        channel: Any = made
        if kind == "streams":
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
            while True:
                calls = [watch(b"") for _ in range(_STREAMS)]
                for call in calls:
                    with suppress(grpc.RpcError):
                        next(call)
        call = channel.unary_unary("/joblet.AgentService/QueryJobs")
        with ThreadPoolExecutor(_UPLOADS) as pool:
            while True:
                for answer in [pool.submit(call, _LARGE) for _ in range(_UPLOADS)]:
                    with suppress(grpc.RpcError):
                        answer.result()


if __name__ == "__main__":
    main()
