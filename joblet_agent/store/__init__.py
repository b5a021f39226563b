"""Job records in SQLite: durable, versioned, and never a reason for the agent not to start."""

from joblet_agent.store.sqlite import SqliteJobStore

__all__ = ["SqliteJobStore"]
