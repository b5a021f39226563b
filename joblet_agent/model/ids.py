"""Ids of jobs and workflows."""

import uuid
from typing import Final, NewType

JobId = NewType("JobId", str)
"""Lower-case version-4 UUID of 36 characters."""

WorkflowId = NewType("WorkflowId", str)
"""Likewise."""

_SHORT: Final = 8


def new_job_id() -> JobId:
    """Return a fresh random id with a letter among its first eight characters.

    These are the job's name on its networks, and programs take a number for an address (inet_aton(3)).
    """
    while True:
        job_id = str(uuid.uuid4())
        if not job_id[:_SHORT].isdecimal():
            return JobId(job_id)


def new_workflow_id() -> WorkflowId:
    """Return a fresh random id."""
    return WorkflowId(str(uuid.uuid4()))
