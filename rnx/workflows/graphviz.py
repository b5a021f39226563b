"""SVG by graphviz, where it is installed."""

import shutil
import subprocess
import sys
from pathlib import Path

from rnx.exits import RnxError

_SECONDS = 120


def save_svg(text: str, target: str) -> None:
    """Draw the DOT text into a file, or to standard output (``-``). Raises RnxError."""
    content = _svg(text)
    if target == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    try:
        Path(target).write_bytes(content)
    except OSError as error:
        raise RnxError(f"cannot write {target}: {error.strerror}") from error


def _svg(text: str) -> bytes:
    """Have graphviz draw the picture."""
    program = shutil.which("dot")
    if program is None:
        raise RnxError(
            "cannot draw SVG: there is no dot(1) here",
            hint="install graphviz, or print DOT (--dot) and draw it where graphviz is",
        )
    try:
        done = subprocess.run(
            [program, "-Tsvg"],
            input=text.encode(),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RnxError(
            f"cannot draw SVG: dot did not end within {_SECONDS} s",
            hint="print DOT (--dot), and draw it with another program of graphviz",
        ) from None
    if done.returncode:
        raise RnxError(f"cannot draw SVG: dot failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
