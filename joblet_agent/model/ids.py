"""Ids of jobs and workflows."""

import uuid
from typing import NewType

JobId = NewType("JobId", str)
"""Lower-case version-4 UUID of 36 characters."""

WorkflowId = NewType("WorkflowId", str)
"""Likewise."""


def new_job_id() -> JobId:
    """Return a fresh random id."""
    return JobId(str(uuid.uuid4()))


def new_workflow_id() -> WorkflowId:
    """Return a fresh random id."""
    return WorkflowId(str(uuid.uuid4()))
