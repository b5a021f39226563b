"""Detached signatures of ssh-keygen(1): ``ssh-keygen -Y sign -n joblet-runtime -f KEY registry.json``.

The format is in OpenSSH's PROTOCOL.sshsig: within the armour a blob of the key, the namespace, the name of a
hash and the signature, which is over all of these (but the key) and the hash of the file. Read here, because
the agent starts no programs. Only ed25519: its keys are short, and there is nothing to choose.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from joblet_agent.errors import WrongState
from joblet_agent.runtimes.index.signers import KEY_TYPE, Signer

__all__ = ["MOST_SIGNATURE_BYTES", "NAMESPACE", "Signature", "read_signature", "verify"]

NAMESPACE: Final = "joblet-runtime"
"""What a signature must be for: one that a key has made of another kind of file is none of an index."""
MOST_SIGNATURE_BYTES: Final = 16 << 10
_MAGIC = b"SSHSIG"
_VERSION = 1
_HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_SIGNATURE_BYTES = 64
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"


@dataclass(frozen=True, slots=True)
class Signature:
    """What is in the file."""

    key: bytes
    """Public key, 32 bytes."""
    namespace: bytes
    reserved: bytes
    hash_name: bytes
    signature: bytes

    def signed(self, data: bytes) -> bytes:
        """Return what the signature is over, for a file with these bytes."""
        digest = _HASHES[self.hash_name](data).digest()
        return _MAGIC + b"".join(
            _packed(part) for part in (self.namespace, self.reserved, self.hash_name, digest)
        )


def verify(data: bytes, armoured: bytes, signers: Iterable[Signer], now: datetime, name: str) -> Signer:
    """Return who has signed the data; ``name`` is the file's address, for errors. Blocking.

    Raises WrongState when it is nobody of the signers, when the signature is for another namespace, or none.
    """
    try:
        signature = read_signature(armoured)
        if signature.namespace != NAMESPACE.encode():
            other = signature.namespace[:64].decode("utf-8", "replace")
            raise ValueError(f"it is for the namespace {other!r}, expected {NAMESPACE!r}")
        signer = next((each for each in signers if each.key == signature.key), None)
        if signer is None:
            raise ValueError("it is by a key that this host does not trust")
        signer.check(NAMESPACE, now)
        if not _is_by(signature, data):
            raise ValueError("the file is not the one that was signed")
    except ValueError as error:
        raise WrongState(
            f"cannot trust the signature of {name}: {error}",
            reason="RUNTIME_SIGNATURE_INVALID",
            hint=f"an index is signed with: ssh-keygen -Y sign -n {NAMESPACE} -f KEY registry.json; keys "
            "that count are in runtimes.keys of the agent's configuration",
        ) from None
    return signer


def _is_by(signature: Signature, data: bytes) -> bool:
    # 5 MB, which an agent without signatures does not need.
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    try:
        Ed25519PublicKey.from_public_bytes(signature.key).verify(signature.signature, signature.signed(data))
    except InvalidSignature:
        return False
    return True


def read_signature(armoured: bytes) -> Signature:
    """Read the file that ssh-keygen has written. Raises ValueError for anything else."""
    blob = _Blob(_unarmoured(armoured))
    if blob.take(len(_MAGIC)) != _MAGIC or blob.number() != _VERSION:
        raise ValueError("it is no signature of ssh-keygen's version 1")
    key, namespace, reserved, hash_name = (_Blob(blob.string()), blob.string(), blob.string(), blob.string())
    if key.string() != KEY_TYPE:
        raise ValueError("it is by a key of another type, expected ed25519")
    public = key.string()
    key.end()
    inner = _Blob(blob.string())
    blob.end()
    if inner.string() != KEY_TYPE:
        raise ValueError("it is of another type than its key")
    signature = inner.string()
    inner.end()
    if len(public) != len(signature) // 2 or len(signature) != _SIGNATURE_BYTES:
        raise ValueError("its key or its signature has the wrong length")
    if hash_name not in _HASHES:
        raise ValueError("it is over another hash than sha512 or sha256")
    return Signature(public, namespace, reserved, hash_name, signature)


def _unarmoured(armoured: bytes) -> bytes:
    try:
        lines = [line.rstrip() for line in armoured.decode("ascii").strip().splitlines()]
    except UnicodeDecodeError:
        lines = []
    if len(lines) < 3 or (lines[0], lines[-1]) != (_BEGIN, _END):  # noqa: PLR2004 - and a line between
        raise ValueError(f"it is no signature: expected {_BEGIN!r}")
    try:
        return base64.b64decode("".join(lines[1:-1]), validate=True)
    except binascii.Error:
        raise ValueError("it is no signature: what is in it is not base64") from None


def _packed(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part


class _Blob:
    """Values one after the other, as RFC 4251 has them."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        part = self._data[self._at : self._at + count]
        if len(part) != count:
            raise ValueError("it ends too early")
        self._at += count
        return part

    def number(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        return self.take(self.number())

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError("there is something behind its end")
