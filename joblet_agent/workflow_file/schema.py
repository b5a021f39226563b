"""The JSON Schema of workflow files, for editors: made from keys.py, so it says the same as the reader."""

from joblet_agent.workflow_file.keys import FILE, JOB
from joblet_agent.yaml_file.kinds import DIALECT, Schema


def workflow_schema() -> Schema:
    """Return the schema; what it refuses is refused here, too, but not the other way round.

    It knows keys, kinds of values and ranges; circles, jobs that are not there and the like it does not.
    """
    return {
        "$schema": DIALECT,
        "title": "Joblet workflow",
        **FILE.schema(),
        "anyOf": [{"required": ["jobs"]}, {"required": ["workflows"]}],
        "$defs": {"job": JOB.section.schema()},
    }
