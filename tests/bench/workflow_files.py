"""Workflow files of any size, in the shapes that people write."""

from collections.abc import Callable, Iterator, Mapping


def chain(jobs: int) -> str:
    """Return jobs that wait each for the one before."""
    return _text(
        f"  step-{number}:\n"
        f"    command: python3\n"
        f'    args: ["step.py", "--number={number}"]\n'
        + (f"    requires:\n      - step-{number - 1}: COMPLETED\n" if number else "")
        for number in range(jobs)
    )


def fan_out(jobs: int) -> str:
    """Return jobs that wait for the first, with all that most jobs have."""
    return "environment: {MODE: fast}\n" + _text(
        f"  part-{number}:\n"
        f"    command: python3\n"
        f'    args: ["part.py", "--number={number}"]\n'
        f"    network: none\n"
        f"    environment:\n      PART: '{number}'\n      NAME: part-${{PART}}\n"
        f"    resources: {{max_memory: 512M, max_cpu: 50}}\n" + ("    requires: part-0\n" if number else "")
        for number in range(jobs)
    )


def matrix(jobs: int) -> str:
    """Return one job for each of so many combinations."""
    return _text(
        [
            f"  test:\n    command: make\n    args: [test, 'N=${{matrix.n}}']\n"
            f"    environment: {{N: '${{matrix.n}}'}}\n"
            f"    matrix:\n      n: [{', '.join(map(str, range(jobs)))}]\n"
        ]
    )


SHAPES: Mapping[str, Callable[[int], str]] = {"chain": chain, "fan-out": fan_out, "matrix": matrix}


def _text(jobs: "Iterator[str] | list[str]") -> str:
    return "jobs:\n" + "".join(jobs)
