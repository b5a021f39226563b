"""Definitions of the wire API as values, and what one lacks to serve the clients of another.

Names of messages and fields are not on the wire and changed between published definitions. So messages are
matched by the methods that carry them, and their fields by number.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("dump_descriptors.py")


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a message. Its words are those of protobuf's own descriptors, in lower case."""

    name: str
    type: str
    label: str
    message: str | None
    oneof: str | None

    def __str__(self) -> str:
        oneof = f" in oneof {self.oneof}" if self.oneof else ""
        return f"{self.label} {self.type} {self.name}{oneof}"

    def reads_like(self, other: Field) -> bool:
        """Whether the bytes of one mean the same to the other, but for what messages inside hold."""
        return (self.type, self.label, self.oneof) == (other.type, other.label, other.oneof)


@dataclass(frozen=True, slots=True)
class Method:
    """A method: its streaming kind in gRPC's words (`unary_stream`), and the messages that it carries."""

    kind: str
    request: str
    response: str


@dataclass(frozen=True, slots=True)
class Definition:
    """Methods by path, and the fields by number of messages by full name."""

    methods: Mapping[str, Method]
    messages: Mapping[str, Mapping[int, Field]]


@dataclass(frozen=True, slots=True)
class Difference:
    """Something of a client's definition that ours does not have so.

    `place` is a method's path, or a message of theirs and a field's number: `joblet.Job.12`.
    """

    place: str
    text: str


def load(interpreter: Path, module: str, *directories: Path) -> Definition:
    """The definition that a generated module has, seen by that interpreter in a process of its own."""
    command = [str(interpreter), "-I", str(SCRIPT), module, *map(str, directories)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert result.returncode == 0, f"{' '.join(command)}: {result.stderr}"
    facts = json.loads(result.stdout)
    return Definition(
        methods={path: Method(**method) for path, method in facts["methods"].items()},
        messages={
            name: {int(number): Field(**field) for number, field in fields.items()}
            for name, fields in facts["messages"].items()
        },
    )


def differences(theirs: Definition, ours: Definition) -> Iterator[Difference]:
    """All that a client with their definition would miss or misread in a server with ours."""
    compared: set[tuple[str, str]] = set()
    for path, their_method in theirs.methods.items():
        our_method = ours.methods.get(path)
        if our_method is None:
            yield Difference(path, "ours has no such method")
            continue
        if our_method.kind != their_method.kind:
            yield Difference(path, f"theirs is {their_method.kind}, ours is {our_method.kind}")
        requests = (their_method.request, our_method.request)
        responses = (their_method.response, our_method.response)
        for pair in (requests, responses):
            yield from _message_differences(theirs, ours, pair, compared)


def _message_differences(
    theirs: Definition, ours: Definition, pair: tuple[str, str], compared: set[tuple[str, str]]
) -> Iterator[Difference]:
    """Differences of a pair of messages and of those inside; each pair is compared once."""
    if pair in compared:
        return
    compared.add(pair)
    their_message, our_message = pair
    our_fields = ours.messages[our_message]
    for number, their_field in theirs.messages[their_message].items():
        place = f"{their_message}.{number}"
        our_field = our_fields.get(number)
        if our_field is None:
            yield Difference(place, f"theirs is {their_field}, {our_message} has no such number")
        elif not our_field.reads_like(their_field):
            yield Difference(place, f"theirs is {their_field}, {our_message} has {our_field}")
        elif their_field.message and our_field.message:
            yield from _message_differences(theirs, ours, (their_field.message, our_field.message), compared)
