"""Where the time of a Python program goes before it does anything: ``-X importtime``."""

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence

from tests.bench.measures import Row

_ROUNDS = 9
_LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \| +(\S+)")
_INTERPRETER = [sys.executable, "-I", "-S"]
_NOTHING = ["-c", "pass"]
_TOLD = 12
_SMALL_MS = 0.5


def account(command: Sequence[str], environment: Mapping[str, str], whole_ms: float) -> list[Row]:
    """Return rows that add up to ``whole_ms``, the median of the command without the option.

    For each package the time of its own code at import, medians of some runs. The option itself costs
    some ms, which therefore are missing in the rest.
    """
    interpreter = statistics.median(_wall_ms([*_INTERPRETER, *_NOTHING], environment) for _ in range(_ROUNDS))
    counted = _import_ms([*_INTERPRETER, "-X", "importtime", *_NOTHING], environment)
    modules = _median_import_ms(command, environment, without=counted)
    of_python = {name: taken for name, taken in modules.items() if _package(name) in sys.stdlib_module_names}
    of_others = {name: taken for name, taken in modules.items() if name not in of_python}
    by_package = _by_package(of_others)
    small = [name for name, taken in by_package.items() if taken < _SMALL_MS]
    rest = whole_ms - interpreter - sum(modules.values())
    return [
        Row("start-up", "interpreter, without site", interpreter, "ms"),
        Row(
            "start-up",
            f"{len(of_python)} modules of Python",
            sum(of_python.values()),
            "ms",
            note=_largest(of_python),
        ),
        *(
            Row("start-up", f"package {name}", taken, "ms", note=_largest(of_others, name))
            for name, taken in sorted(by_package.items(), key=lambda item: -item[1])
            if name not in small
        ),
        Row("start-up", f"{len(small)} small packages", sum(by_package[name] for name in small), "ms"),
        Row("start-up", "the rest: request, job, answer, end of the process", rest, "ms"),
        Row("start-up", "whole", whole_ms, "ms"),
    ]


def _median_import_ms(
    command: Sequence[str], environment: Mapping[str, str], without: Collection[str]
) -> dict[str, float]:
    """Return the ms of each module that the command imports, without those that are counted already."""
    traced = [sys.executable, "-X", "importtime", *command]
    runs = [_import_ms(traced, environment) for _ in range(_ROUNDS)]
    return {
        name: statistics.median(run.get(name, 0.0) for run in runs) for name in runs[0] if name not in without
    }


def _import_ms(command: Sequence[str], environment: Mapping[str, str]) -> dict[str, float]:
    """Return the ms of each module in one run."""
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stderr
    return {module: int(microseconds) / 1e3 for microseconds, module in _LINE.findall(told)}


def _by_package(modules: Mapping[str, float]) -> dict[str, float]:
    packages: dict[str, float] = {}
    for module, taken in modules.items():
        packages[_package(module)] = packages.get(_package(module), 0.0) + taken
    return packages


def _package(module: str) -> str:
    return module.partition(".")[0]


def _largest(modules: Mapping[str, float], package: str = "") -> str:
    """Name the modules that take longest, of one package or of all."""
    wanted = [name for name in modules if package in {"", _package(name)}]
    largest = sorted(wanted, key=lambda name: -modules[name])[:_TOLD]
    return ", ".join(f"{name} {modules[name]:.1f}" for name in largest)


def _wall_ms(command: Sequence[str], environment: Mapping[str, str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, env=environment)
    return (time.perf_counter() - begin) * 1e3
