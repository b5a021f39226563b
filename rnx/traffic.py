"""What a job's network carries, as it is typed and shown: rates in bits per second, and published ports."""

import re
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from rnx.exits import UsageError

_UNITS = {"": 1, "bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
_RATE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([kmg]?bit)?", re.IGNORECASE)
_OF_BYTES = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([kmg]?)i?b?(?:/s|ps)?", re.IGNORECASE)
_RATES = "for example 10mbit, 500kbit, 1.5gbit or 1000000 (bits per second)"
_LARGEST = 2**63 - 1
_PORT = re.compile(
    r"(?:(?P<address>\[[^\[\]]*\]|[^\[\]:/]*):)?(?P<host>[0-9]+):(?P<job>[0-9]+)(?:/(?P<transport>[^/]*))?"
)
_PORTS = "for example 8080:80, 127.0.0.1:8080:80/tcp or [2001:db8::5]:53:53/udp"
_TRANSPORTS = ("tcp", "udp")
_LAST_PORT = 65535


def read_bandwidth(flag: str, text: str) -> int:
    """Return bits per second: ``1000000`` are, and ``1mbit``; units are decimal, and never of bytes."""
    match = _RATE.fullmatch(text)
    if match is None:
        raise UsageError(f"cannot read {flag}={text}: not a rate in bits per second", hint=_meant(flag, text))
    rate = Fraction(match[1]) * _UNITS[(match[2] or "").lower()]
    if rate.denominator != 1 or not 0 < rate <= _LARGEST:
        raise UsageError(
            f"cannot read {flag}={text}: it is no whole number of bits per second from 1 to {_LARGEST}",
            hint=_RATES,
        )
    return int(rate)


def show_bandwidth(rate: int) -> str:
    """Return bits per second for people, exactly, as they can be typed: ``10mbit``."""
    unit = next((unit for unit in ("gbit", "mbit", "kbit") if rate % _UNITS[unit] == 0), "bit")
    return f"{rate // _UNITS[unit]}{unit}"


def read_ports(flag: str, words: Iterable[str]) -> list[dict[str, Any]]:
    """Return the fields of a PublishedPort for each word. One port of the host leads to one place only."""
    ports: list[dict[str, Any]] = []
    taken: dict[tuple[object, ...], str] = {}
    for word in words:
        port = _port(flag, word)
        key = (port["address"], port["host_port"], port["transport"])
        if key in taken:
            raise UsageError(
                f"cannot read {flag}={word}: {flag}={taken[key]} takes the same port of the host",
                hint="give each its own port of the host",
            )
        taken[key] = word
        ports.append(port)
    return ports


def show_port(port: Any) -> str:
    """Return a PublishedPort for people: ``*:8080->80/tcp``."""
    address = f"[{port.address}]" if ":" in port.address else port.address or "*"
    return f"{address}:{port.host_port}->{port.job_port or port.host_port}/{port.transport or 'tcp'}"


def port_data(port: Any) -> dict[str, object]:
    """Return a PublishedPort for programs, with nothing left open."""
    return {
        "address": port.address,
        "host_port": port.host_port,
        "job_port": port.job_port or port.host_port,
        "transport": port.transport or "tcp",
    }


def _meant(flag: str, text: str) -> str:
    """Return a hint: the same in bits if the text may be of bytes."""
    match = _OF_BYTES.fullmatch(text)
    if match is None:
        return _RATES
    eight = Fraction(match[1]) * 8
    number = int(eight) if eight.denominator == 1 else float(eight)
    return f"units are bits, not bytes: {text} of bytes is {flag}={number}{match[2].lower()}bit; {_RATES}"


def _port(flag: str, text: str) -> dict[str, Any]:
    match = _PORT.fullmatch(text)
    if match is None:
        raise UsageError(
            f"cannot read {flag}={text}: expected [ADDR:]HOSTPORT:JOBPORT[/tcp|udp]", hint=_hint(flag, text)
        )
    transport = match["transport"]
    if transport is not None and transport not in _TRANSPORTS:
        raise UsageError(f"cannot read {flag}={text}: expected tcp or udp after the /", hint=_PORTS)
    return {
        "address": _address(flag, text, match["address"]),
        "host_port": _number(flag, text, match["host"]),
        "job_port": _number(flag, text, match["job"]),
        "transport": transport or "tcp",
    }


def _hint(flag: str, text: str) -> str:
    alone, slash, transport = text.partition("/")
    if alone.isascii() and alone.isdigit():
        return f"write {flag}={alone}:{alone}{slash}{transport} for the same port on both sides"
    if text.count(":") > 2 and "[" not in text:  # noqa: PLR2004 - an address and two ports have two
        return f"an IPv6 address stands in brackets: {_PORTS}"
    return _PORTS


def _address(flag: str, text: str, address: str | None) -> str:
    if address is None:
        return ""
    from ipaddress import IPv4Address, IPv6Address  # noqa: PLC0415 - few ports have an address

    try:
        if address.startswith("["):
            return str(IPv6Address(address[1:-1]))
        return str(IPv4Address(address))
    except ValueError:
        raise UsageError(
            f"cannot read {flag}={text}: {address or 'nothing'} is no address of the host",
            hint=f"leave it out for every address; {_PORTS}",
        ) from None


def _number(flag: str, text: str, digits: str) -> int:
    if len(digits) > len(str(_LAST_PORT)) or not 1 <= int(digits) <= _LAST_PORT:
        raise UsageError(f"cannot read {flag}={text}: a port is a number from 1 to {_LAST_PORT}")
    return int(digits)
