"""The language of graphviz."""

from rnx.output import clean


def escaped(text: str) -> str:
    """Return a text that ends no quotes and is no escape of DOT."""
    return clean(text).replace("\\", "\\\\").replace('"', '\\"')
