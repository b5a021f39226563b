"""Many conditions on how jobs end, decided as the jobs end one by one. Pure.

``expression.evaluate`` asks about everything again each time. Here each test of a condition is looked at
once, so that all ends together cost what all conditions together are long.
"""

from joblet_agent.workflow_file.expression import All, Any, Condition, End, Not, Test


class _Node:
    """A part of a condition that waits for others."""

    __slots__ = ("decisive", "missing", "parent", "verdict")

    def __init__(self, parent: "_Node | int", *, decisive: bool | None, missing: int) -> None:
        self.parent = parent
        """The part that it is a part of; of a whole condition its number."""
        self.decisive = decisive
        """The value of one part that decides it: True for OR, False for AND; None for NOT."""
        self.missing = missing
        """Parts that are not decided."""
        self.verdict: bool | None = None


class Conditions:
    """Conditions by number, and what the ends of jobs make of them."""

    def __init__(self) -> None:
        self._asked: dict[str, list[tuple[frozenset[End], _Node]]] = {}
        self._decided: list[tuple[int, bool]] = []

    def add(self, number: int, condition: Condition) -> None:
        """Take in a condition; all must be there before the first end is told."""
        root = _Node(number, decisive=False, missing=1)
        self._add(condition, root)

    def end(self, name: str, end: End) -> None:
        """Take in how a job, or a group of jobs, has ended; once for each."""
        for ends, node in self._asked.pop(name, ()):
            self._tell(node, end in ends)

    def take_decided(self) -> list[tuple[int, bool]]:
        """Return the conditions that have been decided since the last call, each with what it says."""
        decided, self._decided = self._decided, []
        return decided

    def _add(self, condition: Condition, parent: _Node) -> None:
        match condition:
            case Test(job, ends):
                self._asked.setdefault(job, []).append((ends, parent))
            case Not(inner):
                self._add(inner, _Node(parent, decisive=None, missing=1))
            case All(several) | Any(several):
                node = _Node(parent, decisive=isinstance(condition, Any), missing=len(several))
                for each in several:
                    self._add(each, node)
                if not several:
                    self._tell(parent, isinstance(condition, All))

    def _tell(self, node: "_Node | int", value: bool) -> None:
        while isinstance(node, _Node):
            if node.verdict is not None:
                return
            node.missing -= 1
            if node.decisive is None:
                value = not value
            elif value is not node.decisive and node.missing:
                return
            node.verdict = value
            node = node.parent
        self._decided.append((node, value))
