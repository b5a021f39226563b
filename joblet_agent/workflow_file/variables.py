"""``${NAME}`` in the texts of a workflow. Pure.

A name that nobody knows stays as it stands, as the published clients have it. ``$${NAME}`` is the text
``${NAME}``. What begins with ``jobs.`` is left for later, with its escape (outputs.py).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from joblet_agent.workflow_file.outputs import OUTPUT

_REFERENCE = re.compile(r"\$(\$?)\{([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_.-]+)?)\}")


def references(text: str) -> Iterator[str]:
    """Yield the names that a text refers to."""
    for escape, name in _REFERENCE.findall(text):
        if not escape:
            yield name


def replaced(text: str, value_of: Callable[[str], str | None]) -> str:
    """Return the text with the values of what it refers to; None leaves a reference as it is."""

    def value(match: re.Match[str]) -> str:
        if match[2].startswith(OUTPUT):
            return match[0]
        if match[1]:
            return match[0][1:]
        found = value_of(match[2])
        return match[0] if found is None else found

    return _REFERENCE.sub(value, text)


def between(variables: Mapping[str, str]) -> dict[str, list[str]]:
    """Return for each variable those of the others, or itself, that its value refers to."""
    return {
        name: [each for each in references(value) if each in variables] for name, value in variables.items()
    }


def expanded(
    variables: Mapping[str, str], order: Iterable[str], *, most: int, total: int
) -> Mapping[str, str]:
    """Return the variables with the references of those in ``order`` replaced, one after the other.

    A value may become ``most`` characters long, all of them ``total``: ValueError names the first that is too
    much.
    """
    values = dict(variables)
    for name in order:
        value = replaced(variables[name], values.get)
        total -= len(value)
        if len(value) > most or total < 0:
            raise ValueError(name)
        values[name] = value
    return values
