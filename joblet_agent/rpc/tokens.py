"""What a repeated submission is compared by."""

import hashlib
import json
from typing import Any

from joblet_agent.model.job import Token
from joblet_agent.pb import joblet_pb2 as pb

# Secrets, as they could be guessed from a hash in a copy of the database: names only. Files: names and sizes.
# The id of an upload, and the moment of a delayed start: clients get them anew each time.
_NOT_COMPARED = frozenset({"token", "upload_id"})
_NAMES_COMPARED = frozenset({"secret_environment", "secret_files"})
_FILES = frozenset({"uploads", "workflow_files"})


def token_from_proto(request: pb.RunJobRequest, *, is_recurring: bool = False) -> Token | None:
    """Return the token of the request with the digest of all else that it asks for."""
    if not request.token:
        return None
    not_compared = _NOT_COMPARED if is_recurring else _NOT_COMPARED | {"schedule"}
    return Token(request.token, _digest(request, not_compared))


def workflow_token_from_proto(request: pb.RunWorkflowRequest) -> Token | None:
    """Return the token of the request with the digest of all else but the text of the file.

    That has secrets, and only who reads it knows where: the service adds what is left without them.
    """
    if not request.token:
        return None
    return Token(request.token, _digest(request, _NOT_COMPARED | {"yaml_content"}))


def _digest(request: Any, not_compared: frozenset[str]) -> str:
    digest = hashlib.sha256()
    for field, value in request.ListFields():  # in the order of their numbers
        if field.name not in not_compared:
            digest.update(f"{field.number} {json.dumps(_comparable(field, value))}\n".encode())
    return digest.hexdigest()


def _comparable(field: Any, value: Any) -> Any:
    if field.name in _NAMES_COMPARED:
        return sorted(value)
    if field.name in _FILES:
        return [[each.path, each.mode, each.is_directory, len(each.content)] for each in value]
    if field.message_type is None:
        return value if isinstance(value, str | int | bool) else list(value)
    if field.message_type.GetOptions().map_entry:
        return sorted(value.items())
    return [each.SerializeToString(deterministic=True).hex() for each in value]
