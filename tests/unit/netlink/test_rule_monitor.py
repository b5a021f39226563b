import random
import struct

from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.netlink.rule_monitor import Transaction, TransactionReader

INET, IP = 1, 2
NEWTABLE, DELTABLE, NEWRULE, NEWGEN = 0, 2, 6, 15


def attribute(kind: int, content: bytes) -> bytes:
    padding = b"\0" * (-len(content) % 4)
    return struct.pack("=HH", 4 + len(content), kind) + content + padding


def message(kind: int, family: int, *attributes: bytes, subsystem: int = 10) -> bytes:
    content = struct.pack("=BBH", family, 0, 0) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(content), subsystem << 8 | kind, 0, 0, 0) + content


def changed(kind: int, family: int, table: str) -> bytes:
    return message(kind, family, attribute(1, table.encode() + b"\0"), attribute(2, b"whatever\0"))


def end(program: str) -> bytes:
    return message(NEWGEN, 0, attribute(1, b"\0\0\0\7"), attribute(3, program.encode() + b"\0"))


def test_a_transaction_ends_with_its_generation() -> None:
    reader = TransactionReader()
    assert list(reader.take(changed(DELTABLE, INET, "joblet") + changed(NEWRULE, IP, "filter"))) == []
    both = [
        Transaction(frozenset({("inet", "joblet"), ("ip", "filter")}), "nft"),
        Transaction(frozenset({("inet", "firewalld")}), "firewalld"),
    ]
    assert list(reader.take(end("nft") + changed(NEWTABLE, INET, "firewalld") + end("firewalld"))) == both


def test_tables_of_the_same_name_in_other_families_are_others() -> None:
    [transaction] = TransactionReader().take(changed(NEWRULE, IP, "joblet") + end("nft"))
    assert transaction.tables == {("ip", "joblet")}


def test_other_subsystems_and_what_was_before_a_loss_do_not_count() -> None:
    reader = TransactionReader()
    assert list(reader.take(changed(NEWRULE, INET, "joblet"))) == []
    reader.forget()
    other = message(NEWRULE, INET, attribute(1, b"joblet\0"), subsystem=1)
    assert list(reader.take(other + end("nft"))) == [Transaction(frozenset(), "nft")]


@given(st.binary(max_size=400), st.integers(0, 2**32))
def test_no_bytes_are_too_much(noise: bytes, seed: int) -> None:
    list(TransactionReader().take(noise))
    datagram = bytearray(changed(NEWRULE, INET, "joblet") + end("nft"))
    chance = random.Random(seed)
    for _ in range(4):
        datagram[chance.randrange(len(datagram))] = chance.randrange(256)
    list(TransactionReader().take(bytes(datagram)))
