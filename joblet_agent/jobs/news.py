"""What happens to jobs, for those who follow several of them: told once it is stored."""

from collections.abc import Callable

from joblet_agent.model.job import JobRecord

Listener = Callable[[JobRecord], None]


class JobNews:
    """Tells of jobs that have begun and jobs that have ended. Listeners neither raise nor wait."""

    def __init__(self) -> None:
        self._listeners: list[tuple[Listener, Listener]] = []

    def listen(self, *, begun: Listener, ended: Listener) -> None:
        """Call these from now on, on the event loop; what happened before is in the store."""
        self._listeners.append((begun, ended))

    def begun(self, record: JobRecord) -> None:
        """Tell that the job's command runs."""
        for begun, _ in self._listeners:
            begun(record)

    def ended(self, record: JobRecord) -> None:
        """Tell how the job has ended, which is stored."""
        for _, ended in self._listeners:
            ended(record)
