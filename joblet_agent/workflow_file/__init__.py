"""Workflow files: YAML to values, with everything that is wrong in them. Pure, for client and agent."""

from joblet_agent.workflow_file.loading import WorkflowFile, load
from joblet_agent.workflow_file.values import Retries, When, Workflow, WorkflowJob
from joblet_agent.yaml_file.problems import FileInvalid, Mark, Problem

__all__ = [
    "FileInvalid",
    "Mark",
    "Problem",
    "Retries",
    "When",
    "Workflow",
    "WorkflowFile",
    "WorkflowJob",
    "load",
]
