"""Standard output and standard error that can carry every text, on every system."""

import sys
from io import TextIOWrapper


def prepare_output() -> None:
    """Write UTF-8 into files and pipes, and to terminals what they know; what they do not is escaped.

    Python writes what the locale says, which on Windows is a code page that has no place for most letters.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.encoding.lower() != "utf-8":
            encoding = stream.encoding if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")
    if sys.platform == "win32":
        from colorama import just_fix_windows_console  # noqa: PLC0415 - click brings it there

        just_fix_windows_console()
