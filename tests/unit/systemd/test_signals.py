"""C8: the reader of signals against dbus-next's writer, and against bytes that mean nothing."""

import contextlib
from typing import Any

from dbus_next.constants import MessageType
from dbus_next.message import Message
from dbus_next.signature import Variant
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.systemd.signals import (
    MalformedMessage,
    Signal,
    is_signal,
    message_size,
    read_signal,
)

PATH = "/org/freedesktop/systemd1/unit/x"
NAMES = frozenset({"ActiveState", "MainPID", "InvocationID", "ExecMainStartTimestamp", "RemainAfterExit"})

TEXT = st.text(st.characters(min_codepoint=1, max_codepoint=0xD7FF), max_size=12)
WANTED = st.fixed_dictionaries(
    {},
    optional={
        "ActiveState": TEXT.map(lambda value: Variant("s", value)),
        "MainPID": st.integers(0, 2**32 - 1).map(lambda value: Variant("u", value)),
        "InvocationID": st.binary(max_size=16).map(lambda value: Variant("ay", value)),
        "ExecMainStartTimestamp": st.integers(0, 2**64 - 1).map(lambda value: Variant("t", value)),
        "RemainAfterExit": st.booleans().map(lambda value: Variant("b", value)),
    },
)
OTHERS = st.dictionaries(
    st.sampled_from([f"Other{number}" for number in range(8)]),
    st.one_of(
        TEXT.map(lambda value: Variant("s", value)),
        st.lists(TEXT, max_size=3).map(lambda value: Variant("as", value)),
        st.integers(0, 255).map(lambda value: Variant("y", value)),
        st.integers(-(2**15), 2**15 - 1).map(lambda value: Variant("n", value)),
        st.integers(-(2**63), 2**63 - 1).map(lambda value: Variant("x", value)),
        st.floats(allow_nan=False).map(lambda value: Variant("d", value)),
        st.just(Variant("g", "a(sv)")),
        st.just(Variant("o", "/a/b")),
        st.just(Variant("(uo)", [1, "/x"])),
        st.just(Variant("(bas)", [True, ["a", "b"]])),
        st.just(Variant("(a(ss)yt)", [[["a", "b"]], 1, 2])),
        st.just(Variant("v", Variant("(ys)", [1, "x"]))),
        st.lists(st.tuples(TEXT, st.booleans()), max_size=3).map(
            lambda rows: Variant("a(sb)", [list(row) for row in rows])
        ),
        st.lists(st.integers(0, 2**64 - 1), max_size=3).map(lambda value: Variant("at", value)),
        st.just(Variant("a(sasbttttuii)", [["/x", ["x"], False, 1, 2, 3, 4, 5, 6, 7]])),
        st.just(Variant("a{sv}", {"k": Variant("u", 1)})),
        st.just(Variant("aay", [b"a", b"bc"])),
    ),
    max_size=6,
)


def written(member: str, signature: str, body: list[Any], path: str = PATH) -> bytes:
    message = Message(
        message_type=MessageType.SIGNAL,
        path=path,
        interface="org.freedesktop.DBus.Properties",
        member=member,
        signature=signature,
        body=body,
        sender=":1.2",
        serial=7,
    )
    return bytes(message._marshall())  # type: ignore[no-untyped-call]


def read(message: bytes) -> Signal | None:
    return read_signal(message, lambda path: path == PATH, NAMES)


@given(WANTED, OTHERS, st.randoms())
def test_the_wanted_properties_are_read_among_any_others(
    wanted: dict[str, Variant], others: dict[str, Variant], shuffle: Any
) -> None:
    rows = [*wanted.items(), *others.items()]
    shuffle.shuffle(rows)
    message = written("PropertiesChanged", "sa{sv}as", ["org.x.Unit", dict(rows), ["Invalid"]])
    assert message_size(message) == len(message)
    assert is_signal(message)
    signal = read(message)
    assert signal is not None
    assert (signal.path, signal.member) == (PATH, "PropertiesChanged")
    assert signal.body == [{name: value.value for name, value in wanted.items()}]


def test_properties_of_other_units_are_not_read() -> None:
    message = written("PropertiesChanged", "sa{sv}as", ["x", {}, []], path="/other")
    assert read(message) is None


def test_the_other_signals() -> None:
    assert read(written("UnitRemoved", "so", ["a.service", "/a"])) == Signal(
        PATH, "UnitRemoved", ["a.service", "/a"]
    )
    assert read(written("Reloading", "b", [True])) == Signal(PATH, "Reloading", [True])
    assert read(written("NameOwnerChanged", "sss", ["a", "", ":1.2"])) == Signal(
        PATH, "NameOwnerChanged", ["a", "", ":1.2"]
    )


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        size = message_size(data)
        if size is not None and size <= len(data):
            read(data[:size])


@given(
    WANTED, OTHERS, st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4)
)
def test_no_damage_raises_anything_else(
    wanted: dict[str, Variant], others: dict[str, Variant], damage: list[tuple[int, int]]
) -> None:
    message = bytearray(written("PropertiesChanged", "sa{sv}as", ["org.x.Unit", wanted | others, []]))
    for at, byte in damage:
        message[16 + at % (len(message) - 16)] = byte
    with contextlib.suppress(MalformedMessage):
        read(bytes(message))


@given(WANTED, st.integers(0, 400))
def test_a_message_that_is_cut_is_not_whole(wanted: dict[str, Variant], cut: int) -> None:
    message = written("PropertiesChanged", "sa{sv}as", ["org.x.Unit", wanted, []])
    part = message[: min(cut, len(message) - 1)]
    size = message_size(part)
    assert size is None or size > len(part)
