"""User ids of running jobs."""

from joblet_agent.errors import LimitReached


class UidPool:
    """Hands out host uids (and gids of the same number), each to one running job at a time.

    Ids go round: one that was given back is given out again last, so that files which a failed
    clean-up left behind do not fall to the next job.
    """

    def __init__(self, first: int, count: int) -> None:
        self._first, self._count = first, count
        self._next = 0
        self._taken: set[int] = set()

    def take(self) -> int:
        """Return a free uid. Raises LimitReached."""
        for step in range(self._count):
            uid = self._first + (self._next + step) % self._count
            if uid not in self._taken:
                self._taken.add(uid)
                self._next = uid - self._first + 1
                return uid
        raise LimitReached(
            f"cannot start job: all {self._count} user ids of jobs.uid_count are in use",
            reason="NO_FREE_UID",
        )

    def take_this(self, uid: int) -> bool:
        """Take this uid, also one outside of the range; False if it is in use."""
        if uid in self._taken:
            return False
        self._taken.add(uid)
        return True

    def keep(self, uid: int) -> None:
        """Mark the uid of a job that was found running."""
        self._taken.add(uid)

    def give_back(self, uid: int) -> None:
        """Free the uid; one that was not taken is ignored."""
        self._taken.discard(uid)
