"""What a host may be called: names of DNS, and addresses. Pure."""

import re
from ipaddress import ip_address

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*\.?")
_LONGEST_HOST = 253


def is_host_name(text: str) -> bool:
    """Say whether it can be a DNS name in a certificate; what looks like an IPv4 address cannot."""
    return len(text) <= _LONGEST_HOST and _HOST.fullmatch(text) is not None and not is_address(text)


def is_address(text: str) -> bool:
    """Say whether it is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
