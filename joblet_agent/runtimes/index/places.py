"""Where an index is that somebody names, and where the archives are that it names. Pure."""

import re
from urllib.parse import urljoin, urlsplit

from joblet_agent.errors import InvalidRequest
from joblet_agent.model.web import file_address, shown_address, web_address

__all__ = ["SIGNATURE_SUFFIX", "archive_address", "index_addresses"]

SIGNATURE_SUFFIX = ".sig"
"""What ssh-keygen(1) adds to the name of the file that it signs."""
_FILES = ("registry.json", "runtime-manifest.json")
"""What indexes are called in a directory; the second is the older form."""
_REPOSITORY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


def index_addresses(wanted: str, registry: str) -> tuple[str, ...]:
    """Return the addresses that the index may have that a caller means; the first that there is counts.

    ``wanted`` is an address of the file or of its directory, ``OWNER/REPO``, or empty for ``registry``, which
    is what the configuration has. Raises InvalidRequest.
    """
    if not wanted:
        if not registry:
            raise InvalidRequest(
                "cannot find runtimes to install: this agent has no registry",
                reason="RUNTIME_REGISTRY_UNKNOWN",
                hint="name one with --registry=ADDRESS, or set runtimes.registry in its configuration",
            )
        return _files_of(registry)
    if _REPOSITORY.fullmatch(wanted):
        if not registry:
            raise InvalidRequest(
                f"cannot find the registry {wanted}: this agent does not know where repositories are",
                reason="RUNTIME_REGISTRY_UNKNOWN",
                hint="name the whole address with --registry=https://HOST/PATH/registry.json, or set "
                "runtimes.registry in the agent's configuration to the directory that has OWNER/REPO",
            )
        return _files_of(f"{_directory_of(registry)}{wanted}")
    try:
        (file_address if wanted.startswith("file:") else web_address)(wanted)
    except ValueError as error:
        raise InvalidRequest(
            f"cannot use the registry {shown_address(wanted)}: {error}",
            reason="RUNTIME_REGISTRY_INVALID",
            hint="expected https://HOST/PATH, http://HOST/PATH, file:///PATH or OWNER/REPO",
        ) from None
    return _files_of(wanted)


def archive_address(index: str, download_url: str) -> str:
    """Return the address of an archive that the index at this address names.

    Raises InvalidRequest where an index of the web names a file of this host.
    """
    address = download_url if ":" in download_url else urljoin(_directory_of(index), download_url)
    if address.startswith("file:") and not index.startswith("file:"):
        raise InvalidRequest(
            f"cannot install from {shown_address(index)}: it names a file of this host",
            reason="RUNTIME_INDEX_INVALID",
            hint="only an index that is a file of this host may",
        )
    return address


def _files_of(address: str) -> tuple[str, ...]:
    """Return the address of the file; a directory has it under one of its usual names."""
    parts = urlsplit(address)
    if parts.path.endswith(".json"):
        return (address,)
    return tuple(parts._replace(path=f"{parts.path.rstrip('/')}/{name}").geturl() for name in _FILES)


def _directory_of(address: str) -> str:
    """Return the address of the directory, with a slash at its end."""
    parts = urlsplit(address)
    path = parts.path.rpartition("/")[0] if parts.path.endswith(".json") else parts.path.rstrip("/")
    return parts._replace(path=f"{path}/", query="").geturl()
