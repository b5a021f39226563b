"""Definitions of runtimes (runtime.yaml) and their lock files: text to values. Pure, for client and agent."""

from joblet_agent.runtime_file.languages import Language, language_of
from joblet_agent.runtime_file.loading import load
from joblet_agent.runtime_file.lock import Lock, LockedPackage, LockedWheel, differences, load_lock, wants_of
from joblet_agent.runtime_file.values import (
    Base,
    Definition,
    File,
    From,
    Hooks,
    Image,
    Limits,
    Npm,
    Pip,
    Source,
)
from joblet_agent.yaml_file import FileInvalid

__all__ = [
    "Base",
    "Definition",
    "File",
    "FileInvalid",
    "From",
    "Hooks",
    "Image",
    "Language",
    "Limits",
    "Lock",
    "LockedPackage",
    "LockedWheel",
    "Npm",
    "Pip",
    "Source",
    "differences",
    "language_of",
    "load",
    "load_lock",
    "wants_of",
]
