"""An audit trail in memory."""

from joblet_agent.model.audit import AuditEntry


class FakeAuditLog:
    """ports.AuditLog; keeps every entry."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    def write(self, entry: AuditEntry) -> None:
        self.entries.append(entry)
