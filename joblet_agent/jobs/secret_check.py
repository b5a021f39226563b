"""What can be said about secrets without looking at the host. Pure; no error tells a value."""

import re

from joblet_agent.errors import InvalidRequest
from joblet_agent.jobs.check import check_text, check_total, check_variable, quoted
from joblet_agent.model.job import JobSpec
from joblet_agent.model.secrets import Secrets

MOST_FILE = 1024 * 1024
"""Bytes of one secret file: systemd's own limit for a credential."""
MOST_FILES_TOTAL = 8 * 1024 * 1024
"""Bytes of all secret files of a job."""
MOST_FILES = 256
"""Secret files of a job."""
MOST_FILE_NAME = 255
"""Bytes of a secret file's name: NAME_MAX, and what systemd takes as the id of a credential."""

_FILE_NAME = re.compile(r"[!-.0-9;-~]+")  # as systemd's credential ids: printable ASCII without / and :


def check_secrets(spec: JobSpec, secrets: Secrets) -> None:
    """Raise InvalidRequest for secrets that cannot arrive in the job, or not together with its variables."""
    for name, value in secrets.environment.items():
        check_text(f"name of secret variable {quoted(name)}", name)
        check_text(f"secret variable {quoted(name)}", value)
        check_variable(name, value)
    if secrets.environment:
        check_total(spec, {**spec.environment, **secrets.environment})
    for name, content in secrets.files.items():
        _check_file(name, len(content))
    if len(secrets.files) > MOST_FILES:
        raise _too_large(f"there are {len(secrets.files)} secret files, at most {MOST_FILES} are possible")
    total = sum(map(len, secrets.files.values()))
    if total > MOST_FILES_TOTAL:
        raise _too_large(
            f"its secret files have {total} bytes together, at most {MOST_FILES_TOTAL} are possible"
        )


def _check_file(name: str, size: int) -> None:
    if name in {".", ".."} or len(name) > MOST_FILE_NAME or not _FILE_NAME.fullmatch(name):
        raise InvalidRequest(
            f"cannot run job: {quoted(name)} cannot be the name of a secret file",
            reason="BAD_SECRET_FILE_NAME",
            hint=f"use up to {MOST_FILE_NAME} printable ASCII characters without blank, slash and colon",
        )
    if size > MOST_FILE:
        raise _too_large(f"secret file {quoted(name)} has {size} bytes, at most {MOST_FILE} are possible")


def _too_large(text: str) -> InvalidRequest:
    return InvalidRequest(
        f"cannot run job: {text}",
        reason="SECRET_FILES_TOO_LARGE",
        hint="make the key that opens the data the secret file, and let the command fetch the data",
    )
