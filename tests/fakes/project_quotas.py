"""Project quotas that count files and refuse nothing."""

import os
from collections.abc import Iterator

from joblet_agent.ports import ProjectUsage

_BLOCK = 4096


class FakeProjectQuotas:
    """Projects by inode. Unlike the kernel's they are not inherited, and only ``assign`` looks at limits."""

    def __init__(self, *, enforced: bool = False) -> None:
        self.enforced = enforced
        self.limits: dict[int, tuple[int, int]] = {}
        self._projects: dict[int, int] = {}
        self._sizes: dict[int, int] = {}

    def are_enforced(self) -> bool:
        return self.enforced

    def set_limit(self, project: int, *, size: int, files: int) -> None:
        self.limits.pop(project, None)
        if size or files:
            self.limits[project] = (size, files)

    def usage(self, project: int) -> ProjectUsage:
        files = [inode for inode, of in self._projects.items() if of == project]
        size = sum(self._sizes[inode] for inode in files)
        return ProjectUsage(project, size, len(files), *self.limits.get(project, (0, 0)))

    def known(self, first: int, last: int) -> Iterator[ProjectUsage]:
        for project in sorted({*self.limits, *self._projects.values()}):
            if first <= project <= last:
                yield self.usage(project)

    def assign(self, descriptor: int, project: int) -> None:
        status = os.fstat(descriptor)
        self._projects[status.st_ino] = project
        # Not st_blocks: a file system may choose them only when it writes.
        self._sizes[status.st_ino] = -(-status.st_size // _BLOCK) * _BLOCK
        most = self.limits.get(project, (0, 0))[0]
        if most and self.usage(project).size > most:
            raise OSError(122, os.strerror(122))

    def project(self, descriptor: int) -> int:
        return self._projects.get(os.fstat(descriptor).st_ino, 0)
