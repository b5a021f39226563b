"""Addresses of the web and of files of this host. Pure."""

from urllib.parse import SplitResult, unquote, urlsplit

from joblet_agent.model.host import is_address, is_host_name

LONGEST_ADDRESS = 2048
"""Characters."""
_PLAIN = frozenset(chr(code) for code in range(0x21, 0x7F)) - frozenset("\"'<>\\^`{|}")


def web_address(text: str) -> SplitResult:
    """Return the parts of an http or https address; what is not ASCII must be percent-encoded.

    ValueError says what is wrong; its text never has what may be a secret in the address.
    """
    parts = _split(text)
    if parts.scheme not in {"http", "https"}:
        raise ValueError("expected an address that begins with https:// or http://")
    if "@" in parts.netloc:
        raise ValueError("expected an address without user and password")
    host = parts.hostname or ""
    if not (is_host_name(host) and not host.startswith("*")) and not (is_address(host) and "%" not in host):
        raise ValueError("expected an address with the name of a host")
    if parts.port == 0:
        raise ValueError("expected a port from 1 to 65535")
    return parts


def file_address(text: str) -> str:
    """Return the absolute path that a ``file:`` address names. ValueError says what is wrong."""
    parts = _split(text)
    path = unquote(parts.path, errors="surrogateescape")
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
        raise ValueError("expected an address such as file:///srv/runtimes")
    if parts.query:
        raise ValueError("expected an address of a file without '?'")
    if not path.startswith("/") or path.startswith("//") or ".." in path.split("/"):
        raise ValueError("expected an absolute path without '..'")
    if not path.isprintable():
        raise ValueError("expected a path of printable characters")
    return path


def shown_address(text: str) -> str:
    """Return the address without what may be a secret in it: user, password, query."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return "(no address)"
    host = parts.netloc.rpartition("@")[2]
    short = parts._replace(netloc=host, query="", fragment="").geturl()[:LONGEST_ADDRESS]
    return "".join(letter if letter.isprintable() else "?" for letter in short)


def _split(text: str) -> SplitResult:
    if len(text) > LONGEST_ADDRESS:
        raise ValueError(f"expected an address of at most {LONGEST_ADDRESS} characters")
    if not _PLAIN.issuperset(text):
        raise ValueError("expected an address without blanks and special characters")
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises for what is no number
    except ValueError:
        raise ValueError("expected an address such as https://host/path") from None
    if parts.fragment or text.endswith("#"):
        raise ValueError("expected an address without '#'")
    return parts
