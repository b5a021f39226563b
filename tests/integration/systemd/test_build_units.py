"""Steps of builds on this machine's systemd: what they may do, what hostile ones cannot, what they leave.

The tree is a static busybox, so nothing has to come over a network.
"""

import asyncio
import os
import pwd
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from joblet_agent.config import AgentConfig
from joblet_agent.errors import LaunchFailed
from joblet_agent.inotify import InotifyWatcher
from joblet_agent.runtimes.build import scripts
from joblet_agent.runtimes.build.step import BuildPlace, BuildStep, StepEnd, StepKind
from joblet_agent.systemd.build_units import SystemdBuildUnits
from joblet_agent.systemd.manager import SystemdUnitManager
from joblet_agent.systemd.properties import UnitSettings

pytestmark = pytest.mark.systemd

SIZE = 96 << 20
ID = "0123456789abcdef"


@dataclass
class Builds:
    """A place with a tree, and the units that work in it."""

    units: SystemdBuildUnits
    place: BuildPlace

    def step(self, script: str, *, kind: StepKind = StepKind.TREE, name: str = "hook") -> BuildStep:
        return BuildStep(
            name=name,
            kind=kind,
            place=self.place,
            script=script,
            deadline=timedelta(minutes=2),
            environment={"WORD": 'a "quoted" $word'},
        )

    def within(self, inside: str, *, name: str = "within", network: bool = False) -> BuildStep:
        """Return a step that is root of a namespace, in the tree."""
        inputs = {
            "within": scripts.WITHIN,
            "inside": inside,
            "variables": f"JOBLET_NETWORK={'yes' if network else 'no'}\nexport PATH=/bin:/usr/bin\n",
        }
        step = self.step(scripts.WITHIN_STEP, kind=StepKind.PACKAGES, name=name)
        return replace(step, inputs=inputs, network=network)

    async def run(self, step: BuildStep) -> tuple[StepEnd, list[str]]:
        lines: list[str] = []
        return await self.units.run(step, lines.append), lines


@pytest.fixture(autouse=True)
def _words_of_tools() -> Iterator[None]:
    """What the agent makes when it starts: programs that make file systems leave their words there."""
    words = Path("/run/joblet/volumes")
    was_there = words.exists()
    words.mkdir(parents=True, exist_ok=True)
    yield
    if not was_there:
        words.rmdir()


@asynccontextmanager
async def units_in(root: Path) -> AsyncIterator[SystemdBuildUnits]:
    manager = SystemdUnitManager(UnitSettings(AgentConfig()))
    await manager.open()
    watcher = InotifyWatcher()
    manager.builds.open(root, watcher)
    try:
        yield manager.builds
    finally:
        await manager.close()
        watcher.close()


async def closed(units: SystemdBuildUnits) -> None:
    """Close the place as builds do: again, while somebody on the host still has its mount."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await units.close_place(ID)
            except LaunchFailed as error:
                assert "somebody on the host uses it" in str(error)  # noqa: PT017
                await asyncio.sleep(0.2)


def with_builds(home: Path, case: Callable[[Builds], Awaitable[None]], *, size: int = SIZE) -> None:
    """Run the case; afterwards there must be neither unit, mount, process nor file of the build."""
    before = mounts()

    async def main() -> None:
        async with units_in(home / "builds") as units:
            place = await units.open_place(ID, size=size)
            fill(place.tree)
            try:
                await case(Builds(units, place))
            finally:
                await closed(units)
            assert await units.places() == ()
            assert not place.root.exists()
        assert processes() == []
        assert mounts() == before

    asyncio.run(main())


def fill(tree: Path) -> None:
    (tree / "bin").mkdir()
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    for name in (
        "sh",
        "ls",
        "cat",
        "id",
        "touch",
        "dd",
        "sleep",
        "grep",
        "echo",
        "mkdir",
        "setsid",
        "mknod",
        "chroot",
    ):
        (tree / "bin" / name).symlink_to("busybox")
    for name in ("", "bin", "bin/busybox"):
        (tree / name).chmod(0o755)


def writes_to(*paths: str) -> str:
    """Return a script that names each path that it could write to."""
    return f"for at in {' '.join(paths)}; do touch $at 2>/dev/null && echo bad $at; done; :\n"


def mounts() -> list[str]:
    return [line.split(" ", 4)[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def processes() -> list[str]:
    """Return the processes of the user of builds, and of the ids of its namespaces.

    Not those that have ended and whose parent, PID 1 by now, has not come to ask for their status yet.
    """
    owner = pwd.getpwnam("joblet-build").pw_uid
    command = ["ps", "-eo", "uid=,stat=,args="]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    first = first_subordinate()
    found = [line.split(maxsplit=2) for line in listed.splitlines()]
    return [
        f"{uid} {args}"
        for uid, state, args in found
        if int(uid) in {owner, *range(first, first + 65_536)} and not state.startswith("Z")
    ]


def first_subordinate() -> int:
    (line,) = [
        line for line in Path("/etc/subuid").read_text().splitlines() if line.startswith("joblet-build:")
    ]
    return int(line.split(":")[1])


def test_a_step_in_the_tree_is_nobody_and_writes_to_its_own_directory_alone(tmp_path: Path) -> None:
    async def case(builds: Builds) -> None:
        end, lines = await builds.run(
            builds.step(
                'echo "$WORD"; id -u; grep -E "^(CapBnd|NoNewPrivs)" /proc/self/status\n'
                "touch /opt/runtime/mine && echo written\n"
                + writes_to("/etc/x", "/x", "/bin/x", "/usr/x", "/var/lib/x")
            )
        )
        owner = pwd.getpwnam("joblet-build").pw_uid
        assert lines == [
            'a "quoted" $word',
            str(owner),
            "CapBnd:\t0000000000000000".replace("\t", "    "),
            "NoNewPrivs:    1",
            "written",
        ]
        assert (end.status, end.result) == (0, "success")
        assert (builds.place.tree / "opt/runtime/mine").stat().st_uid == owner
        test = replace(builds.step("touch /opt/runtime/x", name="test"), is_writable=False)
        assert (await builds.run(test))[0].result == "exit-code"

    with_builds(tmp_path, case)


def test_the_end_of_a_step_says_how_it_ended_and_its_last_words(tmp_path: Path) -> None:
    async def case(builds: Builds) -> None:
        end, _ = await builds.run(builds.step("echo so >&2; exit 7", name="a"))
        assert (end.status, end.result, end.last_lines, end.is_full) == (7, "exit-code", ("so",), False)
        end, _ = await builds.run(builds.step("sh -c 'kill -9 $$'; exit $?", name="b"))
        assert (end.status, end.result) == (137, "exit-code")
        late = replace(builds.step("sleep 1000", name="c"), deadline=timedelta(seconds=1))
        end, _ = await builds.run(late)
        assert (end.result, end.is_success) == ("timeout", False)

    with_builds(tmp_path, case)


def test_a_full_space_ends_the_build_alone_and_is_told(tmp_path: Path) -> None:
    async def case(builds: Builds) -> None:
        step = builds.step("dd if=/dev/zero of=/opt/runtime/big bs=1M")
        end, _ = await builds.run(step)
        assert (end.result, end.is_full) == ("exit-code", True)
        assert (builds.place.tree / "opt/runtime/big").stat().st_size < SIZE
        full_memory = await builds.run(builds.step("dd if=/dev/zero of=/tmp/big bs=1M", name="memory"))
        assert full_memory[0].result == "exit-code"

    with_builds(tmp_path, case)


def test_what_a_step_leaves_running_does_not_outlive_it(tmp_path: Path) -> None:
    async def case(builds: Builds) -> None:
        end, lines = await builds.run(builds.step("setsid sleep 1000 & setsid sleep 1001 & echo left"))
        assert (end.result, lines) == ("success", ["left"])
        assert processes() == []
        end, _ = await builds.run(builds.within("setsid sleep 1000 & echo left"))
        assert end.result == "success"
        assert processes() == []

    with_builds(tmp_path, case)


@pytest.mark.parametrize("kind", ["tree", "namespace"])
def test_a_step_that_forks_without_end_is_stopped_with_all_that_it_has_begun(
    tmp_path: Path, kind: str
) -> None:
    async def case(builds: Builds) -> None:
        # Some that stay, and some that are gone as soon as the next is there: no list of them is ever true.
        script = (
            "next() { sleep 0.01; next & exit; }\n"
            "for n in 1 2 3 4 5 6 7 8 9 10; do setsid sleep 1000 & next & done\n"
            "echo many; sleep 1000"
        )
        seen = asyncio.Event()
        step = builds.step(script) if kind == "tree" else builds.within(script)
        running = asyncio.create_task(builds.units.run(step, lambda _line: seen.set()))
        async with asyncio.timeout(60):
            await seen.wait()
            await builds.units.stop(ID)
            end = await running
        assert (end.result, end.is_success) == ("stopped", False)
        assert processes() == []

    with_builds(tmp_path, case)


def test_nothing_of_the_host_is_in_the_tree(tmp_path: Path) -> None:
    markers = [Path("/etc/joblet-marker"), Path("/usr/joblet-marker"), Path("/var/lib/joblet-marker")]
    for marker in markers:
        marker.write_text("secret")

    async def case(builds: Builds) -> None:
        words = [
            *map(str, markers),
            "/etc/shadow",
            "/var/lib/joblet",
            "/run/joblet",
            "/run/dbus",
            "/run/systemd/private",
        ]
        script = f"for at in {' '.join(words)}; do [ ! -e $at ] || echo $at; done"
        assert (await builds.run(builds.step(script)))[1] == []
        assert (await builds.run(builds.within(script)))[1] == []
        outside = builds.step(script, kind=StepKind.PACKAGES, name="outside")
        assert (await builds.run(outside))[1] == ["/usr/joblet-marker"]  # the host's programs are there

    try:
        with_builds(tmp_path, case)
    finally:
        for marker in markers:
            marker.unlink()


def test_root_of_the_namespace_is_nobody_on_the_host(tmp_path: Path) -> None:
    async def case(builds: Builds) -> None:
        script = (
            "id -u; touch /made && echo made\n"
            "mknod /device b 7 0 2>/dev/null && echo bad device\n"
            "echo 1 2>/dev/null >/proc/sys/vm/drop_caches && echo bad sysctl\n"
            "ls /proc/1/root/etc/shadow 2>/dev/null || :"
        )
        end, lines = await builds.run(builds.within(script))
        assert (end.result, lines) == ("success", ["0", "made"])
        assert (builds.place.tree / "made").stat().st_uid == first_subordinate()
        script = writes_to("/usr/x", "/etc/x", "/var/lib/x", "/run/x") + "cat /etc/shadow 2>/dev/null; :"
        helper = f"exec mmdebstrap --unshare-helper /bin/sh -c '{script}'"
        end, lines = await builds.run(builds.step(helper, kind=StepKind.PACKAGES, name="outside"))
        assert (end.result, lines) == ("success", [])

    with_builds(tmp_path, case)


def test_no_socket_of_the_host_can_be_reached(tmp_path: Path) -> None:
    program = """
import socket
for kind in (socket.AF_UNIX, socket.AF_PACKET, 40):
    try:
        socket.socket(kind)
        print("made", kind)
    except OSError as error:
        print(type(error).__name__, error.errno)
socket.socketpair()
"""

    async def case(builds: Builds) -> None:
        script = 'exec python3 "$0".py'.replace('"$0".py', "/run/joblet-build/program")
        step = replace(builds.step(script, kind=StepKind.PACKAGES), inputs={"program": program}, network=True)
        _, lines = await builds.run(step)
        assert len(lines) == 3
        assert not [line for line in lines if line.startswith("made")]

    with_builds(tmp_path, case)


def test_another_agent_goes_on_with_a_step_and_hears_all_of_it(tmp_path: Path) -> None:
    async def case(builds: Builds) -> None:
        step = builds.step(
            "echo first; while [ ! -e /run/joblet-out/go ]; do sleep 0.05; done; echo last; exit 3"
        )
        heard = asyncio.Event()
        running = asyncio.create_task(builds.units.run(step, lambda _line: heard.set()))
        async with asyncio.timeout(30):
            await heard.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        async with units_in(builds.place.root.parent) as others:
            assert await others.places() == (ID,)
            lines: list[str] = []
            adopting = asyncio.create_task(others.adopt(step, lines.append))
            (builds.place.out / "go").touch()
            async with asyncio.timeout(30):
                end = await adopting
            assert end is not None
            assert (end.status, lines) == (3, ["first", "last"])
            assert await others.adopt(step, lines.append) is None

    with_builds(tmp_path, case)


def test_what_dead_builds_have_left_goes_and_what_lives_stays(tmp_path: Path) -> None:
    async def case(builds: Builds) -> None:
        await builds.units.open_place("dead", size=SIZE)
        os.makedirs(builds.place.root.parent / "halfmade")
        running = asyncio.create_task(builds.run(builds.step("echo; sleep 1000")))
        await builds.units.keep_only({ID})
        assert await builds.units.places() == (ID,)
        assert not running.done()
        await builds.units.stop(ID)
        assert (await running)[0].result == "stopped"

    with_builds(tmp_path, case)


def test_links_of_a_hostile_tree_lead_nowhere(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").touch()

    async def case(builds: Builds) -> None:
        make = (
            f"rm -rf /opt/runtime/*; ln -s {victim} /opt/runtime/link; ln -s {victim}/file /opt/runtime/file"
        )
        (builds.place.tree / "bin/rm").symlink_to("busybox")
        (builds.place.tree / "bin/ln").symlink_to("busybox")
        assert (await builds.run(builds.step(make, name="make")))[0].is_success
        assert (await builds.run(builds.step("ls /opt/runtime", name="again")))[1] == ["file", "link"]
        assert {path.stat().st_uid for path in (victim, victim / "file")} == {0}

    with_builds(tmp_path, case)
