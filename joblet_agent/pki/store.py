"""The directory of the CA: its index, and the keys that it signs with. For root alone."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from cryptography import x509

from joblet_agent.errors import HostUnavailable, WrongState
from joblet_agent.pki.certificates import Issuer, Key, key_pem, read_key
from joblet_agent.pki.files import SECRET, locked, place
from joblet_agent.pki.index import Index, IndexFault, read_index, serial_of, write_index

FOLDER, INDEX = "ca", "index.json"
"""Where it is in ``tls.directory``; units/joblet-agent-renew.service looks for it, too."""
CA_EXISTS = "CA_EXISTS"
"""Reason of the error of who wants to make a second CA."""
_KEY = ".key"


class CaStore:
    """Reads and writes the directory. What is in the index is what there is; a key without it is nothing."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._index = directory / INDEX

    @property
    def is_there(self) -> bool:
        """Say whether there is a CA."""
        return self._index.exists()

    @contextmanager
    def opened(self) -> Iterator[Index]:
        """Be the only one who changes something within the block. Raises WrongState if there is no CA."""
        if not self.is_there:
            raise _no_authority(self.directory)
        with self.locked():
            yield self.read()

    def locked(self) -> AbstractContextManager[None]:
        """Be the only one who changes something within the block; the directory must be there."""
        return locked(self.directory)

    def read(self) -> Index:
        """Return the index, as it was at some moment. Raises WrongState or HostUnavailable."""
        try:
            return read_index(self._index.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise _no_authority(self.directory) from error
        except (IndexFault, UnicodeDecodeError) as error:
            raise HostUnavailable(
                f"cannot use {self._index}: {error}",
                reason="PKI_INDEX_BROKEN",
                hint="take it from a backup; without it nothing can be revoked",
            ) from error

    def save(self, index: Index) -> None:
        """Put the index in the place of the one before, and forget keys of CAs that are not in it."""
        place(self._index, write_index(index).encode(), SECRET)
        wanted = {self._key_of(each) for each in index.authorities}
        for path in self.directory.glob(f"*{_KEY}"):
            if path not in wanted:
                path.unlink()

    def keep_key(self, authority: x509.Certificate, key: Key) -> None:
        """Keep the key of a CA; before the index has it."""
        place(self._key_of(authority), key_pem(key), SECRET)

    def issuer(self, authority: x509.Certificate) -> Issuer:
        """Return the CA with its key. Raises HostUnavailable if the key is not there."""
        path = self._key_of(authority)
        try:
            return Issuer(authority, read_key(path.read_bytes()))
        except (FileNotFoundError, ValueError) as error:
            raise HostUnavailable(
                f"cannot sign: the key of the CA, {path}, is missing or unusable",
                reason="CA_KEY_MISSING",
                hint="put it back from where you keep it, with mode 0600",
            ) from error

    def _key_of(self, authority: x509.Certificate) -> Path:
        return self.directory / f"{serial_of(authority)}{_KEY}"


def _no_authority(directory: Path) -> WrongState:
    return WrongState(
        f"there is no CA in {directory}",
        reason="NO_CA",
        hint="make one: joblet-agent pki init",
    )
