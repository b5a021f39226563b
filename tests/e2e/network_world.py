"""Jobs on networks and what is around them: an outside world that the host routes to, and who reaches whom.

Every place (a job, the host, the outside) runs the same program. It answers on PORT with the address that it
sees, and asks others on behalf of a test.
"""

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from tests.e2e.agent import Client, command, eventually
from tests.e2e.inside import processes, running

PORT, ORDERS = 8000, 8001
PATIENCE = float(os.environ.get("JOBLET_TEST_PATIENCE", "1.5"))
"""Seconds in which a place answers, or is out of reach; more where everything is slow."""

HOST4, HOST6 = "192.0.2.1", "2001:db8::1"
"""The host's own addresses, on its link to the outside."""
NEAR4, NEAR6 = "192.0.2.2", "2001:db8::2"
FAR4, FAR6 = "198.51.100.1", "2001:db8:1::1"
"""Addresses of the outside, behind the host's default route."""
METADATA4, METADATA6 = "169.254.169.254", "fd00:ec2::254"
LINK_LOCAL4 = "169.254.7.7"

PLACE = """
import json, socket, sys, threading

def bound(family, kind, port):
    made = socket.socket(family, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.bind(("", port))
    return made

def serve(family, port, talk):
    listener = bound(family, socket.SOCK_STREAM, port)
    listener.listen(64)
    def loop():
        while True:
            connection, peer = listener.accept()
            threading.Thread(target=talk, args=(connection, peer[0]), daemon=True).start()
    threading.Thread(target=loop, daemon=True).start()

def serve_datagrams(family, port):
    opened = bound(family, socket.SOCK_DGRAM, port)
    def loop():
        while True:
            _, peer = opened.recvfrom(100)
            opened.sendto(peer[0].encode(), peer)
    threading.Thread(target=loop, daemon=True).start()

def answer(connection, peer):
    with connection:
        connection.sendall(peer.encode())

def ask(kind, host, port, patience):
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as asked:
            asked.settimeout(patience)
            asked.connect(address)
            if kind == socket.SOCK_DGRAM:
                asked.send(b"?")
            return asked.recv(100).decode()
    except OSError as error:
        return "! " + str(error)

def asked(questions, patience):
    answers = [""] * len(questions)
    def one(number):
        answers[number] = ask(*questions[number], patience)
    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(questions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers

def orders(connection, peer):
    with connection, connection.makefile("rw") as stream:
        questions, patience = json.loads(stream.readline())
        stream.write(json.dumps(asked(questions, patience)) + "\\n")

if sys.argv[1] == "ask":
    print(json.dumps(asked(*json.loads(sys.argv[2]))))
else:
    for port in json.loads(sys.argv[2]):
        for family in (socket.AF_INET, socket.AF_INET6):
            serve(family, port, answer)
            serve_datagrams(family, port)
    serve(socket.AF_INET, int(sys.argv[3]), orders)
    print("ready", flush=True)
    threading.Event().wait()
"""

Question = tuple[str, str, int]
"""``tcp`` or ``udp``, an address, a port."""


@dataclass(frozen=True)
class Place:
    """Where the program runs."""

    name: str
    address4: str
    address6: str
    ask_all: Callable[[Sequence[Question]], list[str]]
    job_id: str = ""

    def ask(self, address: str, port: int = PORT, kind: str = "tcp") -> str:
        """Return what the other one sees of this one; a text that begins with ``!`` if it is not reached."""
        return self.ask_all([(kind, address, port)])[0]

    def reaches(self, address: str, port: int = PORT, kind: str = "tcp") -> bool:
        return not self.ask(address, port, kind).startswith("!")


@contextmanager
def around() -> Iterator[None]:
    """Let there be an outside: a namespace with addresses, and the host's default routes to it."""
    _undo_around()
    script = f"""
    ip netns add outside
    ip link add outside0 type veth peer name eth0 netns outside
    ip address add {HOST4}/24 dev outside0
    ip address add {HOST6}/64 dev outside0 nodad
    ip link set outside0 up
    ip route add default via {NEAR4}
    ip -n outside link set lo up
    ip -n outside address add {NEAR4}/24 dev eth0
    ip -n outside address add {NEAR6}/64 dev eth0 nodad
    ip -n outside link set eth0 up
    for address in {FAR4} {METADATA4} {LINK_LOCAL4}; do ip -n outside address add $address/32 dev lo; done
    for address in {FAR6} {METADATA6}; do ip -n outside address add $address/128 dev lo; done
    ip -n outside route add default via {HOST4}
    ip -n outside route add default via {HOST6}
    ip route add default via {NEAR6}
    """
    try:
        command("sh", "-euc", script)
        yield
    finally:
        _undo_around()


def _undo_around() -> None:
    command("ip", "link", "delete", "outside0", check=False)
    command("ip", "netns", "delete", "outside", check=False)


@contextmanager
def outside() -> Iterator[Place]:
    """The program in the outside."""
    prefix = ("ip", "netns", "exec", "outside")
    with _process(*prefix, "python3", "-I", "-c", PLACE, "serve", json.dumps([PORT]), str(ORDERS)):
        yield Place("outside", FAR4, FAR6, lambda questions: _asked_by_process(questions, *prefix))


@contextmanager
def host(*ports: int) -> Iterator[Place]:
    """The program on the host, which listens on these ports as well."""
    with _process("python3", "-I", "-c", PLACE, "serve", json.dumps([PORT, *ports]), str(ORDERS)):
        yield Place("host", HOST4, HOST6, _asked_by_process)


@contextmanager
def job(client: Client, name: str, network: str, **fields: Any) -> Iterator[Place]:
    """The program in a job on a network that the host reaches."""
    words = ("python3", "-I", "-c", PLACE, "serve", json.dumps([PORT]), str(ORDERS))
    with running(client, *words, name=name, network=network, **fields) as job_id:
        address4, address6 = client.status(job_id).addresses
        yield Place(name, address4, address6, lambda questions: _asked_by_order(address4, questions), job_id)


@contextmanager
def lonely_job(client: Client, name: str) -> Iterator[Place]:
    """A job without a network; its questions are asked by a process of root in its network namespace."""
    with running(client, "sh", "-c", "echo ready; exec sleep 1000", name=name, network="none") as job_id:
        inside = ("nsenter", "--net", f"--target={processes(job_id)[-1]}")
        yield Place(name, "", "", lambda questions: _asked_by_process(questions, *inside), job_id)


@contextmanager
def network(name: str, *flags: str) -> Iterator[None]:
    """A network that somebody made, and that is removed after the block."""
    command("rnx", "network", "create", name, *flags)
    try:
        yield
    finally:
        eventually(
            lambda: command("rnx", "network", "remove", name, check=False), lambda done: done.returncode == 0
        )


@contextmanager
def places(*parts: Any) -> Iterator[list[Place]]:
    """Several of the above at once."""
    with ExitStack() as stack:
        yield [stack.enter_context(part) for part in parts]


def listening(address: str, port: int) -> socket.socket:
    """Return a socket of the host that listens, as programs do it."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        made.listen()
    except OSError:
        made.close()
        raise
    return made


CALLER = """
import socket, sys
caller = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
caller.bind(("", 40404))
caller.settimeout(0.2)
for line in sys.stdin:
    caller.sendto(b"?", (sys.argv[1], int(sys.argv[2])))
    try:
        print(caller.recvfrom(100)[0].decode(), flush=True)
    except OSError:
        print("", flush=True)
"""


class SteadyCaller:
    """Somebody outside who sends datagrams from one port to one port of the host."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def answer(self) -> str:
        """Send one; return what came back, empty if nothing did."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@contextmanager
def steady_caller(address: str, port: int) -> Iterator[SteadyCaller]:
    words = ("ip", "netns", "exec", "outside", "python3", "-I", "-c", CALLER, address, str(port))
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield SteadyCaller(process)


@contextmanager
def _process(*words: str) -> Iterator[None]:
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


def _asked_by_process(questions: Sequence[Question], *prefix: str) -> list[str]:
    order = json.dumps([questions, PATIENCE])
    return list(json.loads(command(*prefix, "python3", "-I", "-c", PLACE, "ask", order).stdout))


def _asked_by_order(address: str, questions: Sequence[Question]) -> list[str]:
    with socket.create_connection((address, ORDERS), timeout=30) as connection:
        connection.sendall(json.dumps([questions, PATIENCE]).encode() + b"\n")
        with connection.makefile() as stream:
            return list(json.loads(stream.readline()))
