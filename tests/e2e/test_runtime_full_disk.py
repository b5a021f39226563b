"""Builds of runtimes on a disk that gets full: in each phase, and while it has room for what is read back."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.e2e.agent import Client, agent_stopped, command, eventually
from tests.e2e.host import disk_image
from tests.e2e.runtime_builds import Builder, Built, OnceIn, builder, left_of_builds, removed
from tests.e2e.runtimes import STORE, imported, staged
from tests.sizes import size

pytestmark = pytest.mark.systemd

SIZE = 480 << 20
"""Of which a build leaves 256 MB alone."""
BALLAST = STORE / "lost+found" / "ballast"
FULL = {"RUNTIME_BUILD_DISK_FULL", "RUNTIME_BUILD_DISK"}
"""The other one: what was in memory could not be written."""
HEAD = """\
schema_version: "1.1"
name: filled
version: 1.0.0
from: busybox@1.0.0
"""
WRITES = "echo begun; sleep 0.2; busybox dd if=/dev/urandom bs=64k count=100 2>/dev/null"
TEXT = (
    HEAD
    + f"""\
files: [{{path: /opt/runtime/etc/x, content: x}}]
test: 'echo begun; sleep 0.2; cd /opt/runtime; md5sum -c sums'
hooks:
  pre_install: '{WRITES} >/opt/runtime/first'
  post_install: '{WRITES} >/opt/runtime/second && cd /opt/runtime && md5sum first second >sums'
"""
)
SLOW = HEAD + f"hooks: {{post_install: '{WRITES} >/opt/runtime/first; echo written; sleep 2'}}\n"


@contextmanager
def _disk() -> Iterator[None]:
    """Put the store on a disk of its own."""
    with disk_image(SIZE) as image:
        with agent_stopped():
            command("mount", "-o", "loop", str(image), str(STORE))
        try:
            yield
        finally:
            with agent_stopped():
                command("umount", str(STORE))


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """An agent whose disk for runtimes has an end."""
    with _disk(), builder() as made, imported(tmp_path_factory.mktemp("busybox")):
        yield made


@pytest.fixture(autouse=True)
def _nothing_left(client: Client, builds: Builder) -> Iterator[None]:
    del client, builds
    yield
    BALLAST.unlink(missing_ok=True)
    eventually(lambda: left_of_builds() + staged(), lambda left: left == [])


def _fill() -> None:
    command("dd", "if=/dev/zero", f"of={BALLAST}", "bs=4096", check=False)


@pytest.mark.soak
@pytest.mark.parametrize("phase", range(2, 15, size(3, 1)))
def test_a_disk_that_gets_full_in_each_phase(builds: Builder, phase: int) -> None:
    """Steps of the definition have begun to write when it does."""
    fill = OnceIn(phase, _fill, in_step=phase in {6, 11, 13})
    built = builds.build(TEXT, fill)
    assert fill.is_done
    # What has only to be read, or to be renamed, needs no room.
    assert built.result.success or built.result.reason in FULL, built.result
    assert not built.result.success or phase >= 12
    assert ("filled@1.0.0" in builds.installed()) == built.result.success
    BALLAST.unlink()
    if not built.result.success:
        eventually(left_of_builds, lambda left: left == [])
        built = builds.build(TEXT)
    assert built.result.success, built.result
    command("rnx", "runtime", "verify", "filled@1.0.0")
    removed("filled@1.0.0")


def test_files_of_a_build_that_did_not_reach_the_disk_are_not_taken_for_whole(builds: Builder) -> None:
    """The disk is full while a hook writes, and has room again before the hook ends."""
    seen: list[str] = []

    def fill_and_free(built: Built) -> None:
        told = built.lines[-1:] if built.phases and built.phases[-1].phase_number == 11 else []
        if told == ["begun"] and not seen:
            _fill()
            seen.append("filled")
        if told == ["written"] and seen == ["filled"]:
            command("sync")
            BALLAST.unlink()
            seen.append("freed")

    built = builds.build(SLOW, fill_and_free)
    assert seen == ["filled", "freed"]
    # How it shows is the kernel's affair: in the hook, in what comes after it, or when all is to be written.
    assert not built.result.success
    assert "filled@1.0.0" not in builds.installed()


def test_what_is_left_of_a_build_is_removed_when_nobody_uses_it_any_more(builds: Builder) -> None:
    with ExitStack() as held:

        def look(built: Built) -> None:
            if built.lines[-1:] == ["begun"]:
                tree = next((STORE / "builds").iterdir()) / "space" / "tree"
                held.callback(os.close, os.open(tree, os.O_RDONLY))

        assert builds.build(TEXT, look).result.success
        assert left_of_builds() != []
    eventually(left_of_builds, lambda left: left == [])
    removed("filled@1.0.0")
