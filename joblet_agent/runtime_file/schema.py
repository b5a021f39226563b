"""The JSON Schema of definitions, for editors: made from keys.py, so it says the same as the reader."""

from joblet_agent.runtime_file.keys import DEFINITION
from joblet_agent.yaml_file.kinds import DIALECT, Schema


def runtime_schema() -> Schema:
    """Return the schema of 1.1; what it refuses is refused here, too, but not the other way round."""
    return {
        "$schema": DIALECT,
        "title": "Joblet runtime",
        **DEFINITION.schema(),
        "required": ["schema_version", "name", "version"],
    }
