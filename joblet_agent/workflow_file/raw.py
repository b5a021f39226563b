"""A job as it stands in the file: the keys that it sets itself, and where."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from joblet_agent.yaml_file.kinds import UNREADABLE, Schema, SectionOf
from joblet_agent.yaml_file.nodes import Node, marks_in
from joblet_agent.yaml_file.problems import Mark, Problems


@dataclass(frozen=True, slots=True)
class RawJob:
    """Values by key, and marks by key: of ``network``, of ``uploads.files`` and of ``volumes[0]``."""

    mark: Mark
    values: Mapping[str, Any] = field(default_factory=dict)
    marks: Mapping[str, Mark] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobSection:
    """Reads a job's section and remembers the places in it."""

    section: SectionOf

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """Return a RawJob."""
        values = self.section.read(node, key, problems)
        if values is UNREADABLE:
            return UNREADABLE
        return RawJob(node.mark, values, marks_in(node))

    def schema(self) -> Schema:
        """Return where the section's is (schema.py)."""
        return {"$ref": "#/$defs/job"}
