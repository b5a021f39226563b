"""What each part of the default sandbox adds to the start of a job."""

from functools import partial

from tests.bench.agent_service import AgentService
from tests.bench.clients import Client
from tests.bench.measures import Row, median
from tests.bench.turns import both_clients

_ROUNDS = 40
_PARTS = {
    "own /proc, /dev, /run": ["MountAPIVFS"],
    "own network": ["PrivateNetwork"],
    "no devices": ["PrivateDevices"],
    "private /tmp and /dev/shm": ["TemporaryFileSystem"],
    "read-only root": ["ProtectSystem", "ReadWritePaths"],
    "no /sys": ["InaccessiblePaths"],
    "own IPC": ["PrivateIPC"],
    "second locks": [
        "ProtectHome",
        "ProtectProc",
        "ProtectControlGroups",
        "ProtectKernelModules",
        "ProtectKernelLogs",
        "ProtectClock",
    ],
    "no kernel tunables": ["ProtectKernelTunables", "ProcSubset"],
    "user by name": ["User"],
    "address filter": ["IPAddressDeny", "IPAddressAllow"],
    "own host name": ["ProtectHostname"],
    "system call filter": ["SystemCallFilter", "SystemCallErrorNumber"],
    "native system calls only": ["SystemCallArchitectures"],
    "address families": ["RestrictAddressFamilies"],
    "namespaces": ["RestrictNamespaces"],
    "other seccomp filters": ["RestrictSUIDSGID", "RestrictRealtime", "LockPersonality"],
    "all seccomp filters": [
        "SystemCallFilter",
        "SystemCallErrorNumber",
        "SystemCallArchitectures",
        "RestrictAddressFamilies",
        "RestrictNamespaces",
        "RestrictSUIDSGID",
        "RestrictRealtime",
        "LockPersonality",
    ],
}


def run(service: AgentService) -> list[Row]:
    """Measure starts by the bare client: complete, and without one part at a time, in turns.

    A part's cost is the median of the differences in the same round. Parts overlap, so the costs do
    not add up to that of all.
    """
    variants = [[], *_PARTS.values()]
    with both_clients(service) as turns:
        series = turns.ask_bare(partial(_starts_without, variants=variants))
    complete, *reduced = series
    return [
        Row("sandbox", "complete, bare client, p50", median(complete), "ms"),
        *(
            Row("sandbox", f"{part} adds", median(_differences(complete, times)), "ms")
            for part, times in zip(_PARTS, reduced, strict=True)
        ),
    ]


def _starts_without(client: Client, variants: list[list[str]]) -> list[list[float]]:
    answer: list[list[float]] = client.ask("starts_without", variants=variants, rounds=_ROUNDS)
    return answer


def _differences(complete: list[float], reduced: list[float]) -> list[float]:
    return [more - less for more, less in zip(complete, reduced, strict=True)]
