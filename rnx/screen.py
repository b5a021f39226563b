"""A text on a terminal that is drawn again and again, from the upper left corner so that it is calm."""


def redraw(text: str) -> None:
    """Put the text in the place of the one before. Long lines are cut, not wrapped: each has its row."""
    lines = "\x1b[K\n".join(text.splitlines())
    print(f"\x1b[?7l\x1b[H{lines}\x1b[K\x1b[J\x1b[?7h", flush=True)
