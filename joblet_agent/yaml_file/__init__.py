"""YAML that nobody has vouched for, read to checked values with everything that is wrong in it. Pure."""

from joblet_agent.yaml_file.problems import FileInvalid, Mark, Problem

__all__ = ["FileInvalid", "Mark", "Problem"]
