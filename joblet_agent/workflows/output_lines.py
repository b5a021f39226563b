"""The file in which a job tells results: lines ``KEY=VALUE``. Pure; whoever wrote it may be hostile."""

import re

from joblet_agent.jobs.plan import OUTPUT_NAME
from joblet_agent.units import KIB

MOST_OUTPUT = 64 * KIB
"""Bytes of the file."""

_KEY = re.compile(r"[A-Za-z0-9_]+")


def read_lines(content: bytes) -> tuple[dict[str, str], list[str]]:
    """Return the values by key, the last one of each, and what is wrong.

    Of a file that is too large or not UTF-8, nothing is taken; else everything but the wrong lines.
    """
    if len(content) > MOST_OUTPUT:
        return {}, [f"{OUTPUT_NAME} has more than {MOST_OUTPUT // KIB} KiB; nothing of it is taken"]
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return {}, [f"{OUTPUT_NAME} is not UTF-8; nothing of it is taken"]
    outputs = {}
    problems = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line:
            continue
        key, equals, value = line.partition("=")
        if not equals or not _KEY.fullmatch(key):
            problems.append(
                f"{OUTPUT_NAME}, line {number}: expected KEY=VALUE, with letters, digits and _ in KEY"
            )
        elif "\0" in value:
            problems.append(f"{OUTPUT_NAME}, line {number}: the value has a NUL byte")
        else:
            outputs[key] = value
    return outputs, problems
