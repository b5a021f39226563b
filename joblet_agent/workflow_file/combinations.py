"""``matrix``: one job for each combination of values."""

import itertools
import re
from collections.abc import Iterator, Mapping

MATRIX = "matrix."
"""What references to values of a matrix begin with."""

MOST_COUNTED = 10**9

_OTHER = re.compile(r"[^A-Za-z0-9_.-]")


def combinations(matrix: Mapping[str, tuple[str, ...]]) -> Iterator[dict[str, str]]:
    """Yield each combination, in the order of the file; the last name changes quickest."""
    for values in itertools.product(*matrix.values()):
        yield dict(zip(matrix, values, strict=True))


def name_of(group: str, combination: Mapping[str, str]) -> str:
    """Return the job's name: ``test-3.11-sqlite``."""
    return "-".join([group, *(_OTHER.sub("_", value) for value in combination.values())])


def count(matrix: Mapping[str, tuple[str, ...]]) -> int:
    """Return how many combinations there are, or MOST_COUNTED if there are more."""
    number = 1
    for values in matrix.values():
        number = min(number * len(values), MOST_COUNTED)
    return number
