"""``ports.VolumeUnits`` without a host: what is mounted is a dict."""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

from joblet_agent.errors import LaunchFailed
from joblet_agent.ports import MountPlan


class FakeVolumeUnits:
    """Keeps calls; does what ``failures`` does not forbid, by the name of the method."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.mounted: dict[Path, MountPlan] = {}
        self.failures: dict[str, str] = {}
        self.damaged: set[Path] = set()

    async def _called(self, method: str, path: Path) -> None:
        self.calls.append(f"{method} {path.parent.name}")
        await asyncio.sleep(0)
        if method in self.failures:
            raise LaunchFailed(self.failures[method], reason="FAKE_FAILURE")

    async def stop_tools(self) -> None:
        self.calls.append("stop_tools")

    async def mount(self, plan: MountPlan) -> None:
        await self._called("mount", plan.where)
        self.mounted[plan.where] = plan

    async def unmount(self, where: Path) -> None:
        await self._called("unmount", where)
        self.mounted.pop(where, None)
        await asyncio.to_thread(shutil.rmtree, where / "data", ignore_errors=True)

    def unit_name(self, where: Path) -> str:
        return f"{where.parent.name}.mount"

    async def make_directory(self, path: Path, number: int, mode: int) -> None:
        await self._called("make_directory", path.parent)
        await asyncio.to_thread(path.mkdir, exist_ok=True)

    async def make_file_system(self, image: Path, files: int) -> None:
        await self._called("make_file_system", image)

    async def check_file_system(self, image: Path) -> bool:
        await self._called("check_file_system", image)
        return image in self.damaged

    async def grow_unmounted(self, image: Path) -> None:
        await self._called("grow_unmounted", image)

    async def grow_file_system(self, where: Path, device: Path) -> None:
        await self._called("grow_file_system", where)

    async def remount(self, where: Path, options: Sequence[str]) -> None:
        await self._called("remount", where)
