"""What depends on what, in a workflow: circles and the order. Pure; linear in jobs and dependencies."""

from collections.abc import Iterable, Mapping, Sequence


def find_cycle(dependencies: Mapping[str, Iterable[str]]) -> list[str]:
    """Return jobs that wait for one another, each for the next, the first again at the end; or none.

    ``dependencies`` has for each job those that it waits for; ones that are not in it are passed over.
    """
    done: set[str] = set()
    for first in dependencies:
        if first in done:
            continue
        path = [first]
        at = {first: 0}
        pending = [iter(dependencies[first])]
        while pending:
            name = next(pending[-1], None)
            if name is None:
                pending.pop()
                last = path.pop()
                del at[last]
                done.add(last)
            elif name in at:
                return [*path[at[name] :], name]
            elif name not in done and name in dependencies:
                at[name] = len(path)
                path.append(name)
                pending.append(iter(dependencies[name]))
    return []


def in_waves(dependencies: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Return the jobs in the order in which they can start: each wave waits for ones before it only.

    Within a wave as they are in ``dependencies``, which must have no circle and no job that is not in it.
    """
    missing = {name: len(set(needed)) for name, needed in dependencies.items()}
    waited_for: dict[str, list[str]] = {name: [] for name in dependencies}
    for name, needed in dependencies.items():
        for each in set(needed):
            waited_for[each].append(name)
    place = {name: number for number, name in enumerate(dependencies)}
    waves: list[list[str]] = []
    wave = [name for name, count in missing.items() if not count]
    while wave:
        waves.append(wave)
        ready = []
        for name in wave:
            for each in waited_for[name]:
                missing[each] -= 1
                if not missing[each]:
                    ready.append(each)
        wave = sorted(ready, key=place.__getitem__)
    return waves
