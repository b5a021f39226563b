"""A journal that remembers, and takes no more than the test lets it."""

from collections.abc import Sequence

from joblet_agent.model.job import JobRecord


class FakeJournalCopy:
    """ports.JournalCopy in memory; ``room`` None takes everything."""

    def __init__(self, room: int | None = None) -> None:
        self.room = room
        self.copied: list[bytes] = []
        self.events: list[tuple[str, str]] = []

    def lines(self, record: JobRecord, lines: Sequence[bytes]) -> int:
        taken = len(lines) if self.room is None else min(self.room, len(lines))
        if self.room is not None:
            self.room -= taken
        self.copied += lines[:taken]
        return taken

    def event(self, record: JobRecord, event: str, text: str) -> None:
        self.events.append((event, text))
