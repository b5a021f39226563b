"""Runtimes that mean harm, or are harmed: their files reach neither the launcher nor the host. A5, R13."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from tests.e2e.agent import JOBS, Client, command, eventually, units
from tests.e2e.host import in_parallel, refusal, rnx, running
from tests.e2e.runtimes import archive, imported, in_runtime, tree_of

pytestmark = pytest.mark.systemd

QUIET = "echo ready; exec sleep 1000"
REPORTS = Path("/run/joblet/launch")
KIT = Path("/var/lib/joblet/launcher")
LAUNCHER = Path("/usr/lib/joblet/joblet-launch")
MANY = 24

OWNED = b'BEGIN { open(my $file, ">", "/work/owned"); print $file "x" } 1;\n'
MODULES = (
    *("etc/perl", "usr/share/perl5", "usr/lib/x86_64-linux-gnu/perl-base", "usr/local/share/perl5"),
    *("usr/lib/x86_64-linux-gnu/perl/5.36", "usr/lib/x86_64-linux-gnu/perl/5.40", "work"),
)
HOSTILE = {
    **{f"{place}/strict.pm": OWNED for place in MODULES},
    **{f"{place}/sitecustomize.pl": OWNED for place in MODULES},
    "usr/bin/perl": b"#!/bin/sh\necho >/work/owned\n",
    "usr/lib/joblet/joblet-launch": b"#!/bin/sh\necho >/work/owned\n",
    "usr/lib/joblet/libc.so.6": b"no library",
    "lib64/ld-linux-x86-64.so.2": b"no loader",
    "usr/lib/x86_64-linux-gnu/libc.so.6": b"no library",
    "usr/lib/locale/locale-archive": b"no locales",
    "etc/ld.so.cache": b"glibc-ld.so.cache1.1" + b"\xff" * 4096,
}
HARMFUL = (
    "PATH=/bin",
    "PERL5OPT=-Mstrict",
    "PERL5LIB=/etc/perl",
    "LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu",
)


@pytest.fixture(scope="module")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with imported(tmp_path_factory.mktemp("runtimes")) as runtime:
        yield runtime


def test_nothing_of_a_tree_acts_on_the_launcher(client: Client, tmp_path: Path) -> None:
    with imported(tmp_path, "hostile", files=HOSTILE, environment=HARMFUL) as runtime:
        # Whoever imports it is refused; so somebody has put it there.
        (tree_of(runtime) / "etc/ld.so.preload").write_text("/lib/evil.so\n", encoding="ascii")
        for profile in ("default", "strict"):
            script = f"test -e /work/owned && echo owned; echo $PERL5OPT; {QUIET}"
            with running(client, script, runtime=runtime, profile=profile) as job_id:
                assert client.log(job_id) == b"-Mstrict\nready\n"
                assert (REPORTS / job_id).read_text(encoding="utf-8") == "0 launched\n"
                assert not (JOBS / job_id / "work/owned").exists()


def test_a_tree_that_loads_something_into_every_program_is_refused(client: Client, tmp_path: Path) -> None:
    path = archive(tmp_path / "preload.tar", {"etc/ld.so.preload": b"/lib/evil.so\n"})
    done = rnx("runtime", "import", str(path), "--name=preload", "--version=1.0.0")
    assert done.returncode == 1
    assert b"etc/ld.so.preload" in done.stderr
    assert refusal(lambda: client.run("true", runtime="preload")) == ("INVALID_ARGUMENT", "RUNTIME_UNKNOWN")


@pytest.mark.parametrize(
    "asked",
    [
        *(
            "../../../etc",
            "busybox/../busybox",
            "/",
            ".",
            "-busybox",
            "busybox@",
            "busybox@1.0.0@2",
            "@1.0.0",
        ),
        *("%i", "busybox@%i", "a\\x2d", "busy\nbox", "b" * 300, "büsybox", "busybox@1.0.0/../..", "BUSYBOX"),
    ],
)
def test_a5_names_that_look_like_paths_options_or_specifiers_are_none(
    client: Client, busybox: str, asked: str
) -> None:
    before, known = set(JOBS.iterdir()), units()
    assert refusal(lambda: client.run("true", runtime=asked)) == ("INVALID_ARGUMENT", "RUNTIME_SPEC_INVALID")
    assert set(JOBS.iterdir()) == before
    assert units() == known


def test_r13_jobs_with_a_runtime_leave_nothing(client: Client, busybox: str) -> None:
    def things() -> list[object]:
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines()]
        below_run = sorted(str(path) for path in Path("/run/joblet").rglob("*") if "root" not in path.parts)
        return [sorted(mounts), below_run, _below(tree_of(busybox)), _below(KIT)]

    in_runtime(client, busybox, "true", network="none")
    eventually(units, lambda names: not names)
    before = things()
    logs = in_parallel(lambda _: in_runtime(client, busybox, "cat /etc/who"), list(range(MANY)))
    assert set(logs) == {"busybox 1.0.0\n"}
    eventually(units, lambda names: not names)
    eventually(things, before.__eq__)


def _below(top: Path) -> list[tuple[str, int, int]]:
    return sorted((str(path), path.lstat().st_mode, path.lstat().st_mtime_ns) for path in top.rglob("*"))


def test_a_launcher_that_was_harmed_is_made_anew(client: Client, busybox: str) -> None:
    in_runtime(client, busybox, "true")
    kit = KIT / os.readlink(KIT / "current")
    (kit / "perl").write_bytes(b"no program")
    (kit / "libc.so.6").unlink()
    assert in_runtime(client, busybox, "cat /etc/who") == "busybox 1.0.0\n"
    (KIT / "current").unlink()
    assert in_runtime(client, busybox, "cat /etc/who") == "busybox 1.0.0\n"


def test_a_new_launcher_of_the_host_is_taken_over_while_jobs_run(client: Client, busybox: str) -> None:
    with running(
        client, f"trap 'exit 7' TERM; {QUIET[:12]} while :; do sleep 0.1; done", runtime=busybox
    ) as job_id:
        before = os.readlink(KIT / "current")
        with _changed(LAUNCHER, b"\n# changed\n"):
            assert in_runtime(client, busybox, "cat /etc/who") == "busybox 1.0.0\n"
            assert os.readlink(KIT / "current") != before
        assert in_runtime(client, busybox, "cat /etc/who") == "busybox 1.0.0\n"
        assert os.readlink(KIT / "current") == before
        assert len(list(KIT.iterdir())) <= 3
        command("rnx", "stop", job_id)
        assert client.status(job_id).status == "STOPPED"


@contextmanager
def _changed(path: Path, more: bytes) -> Iterator[None]:
    content = path.read_bytes()
    path.write_bytes(content + more)
    try:
        yield
    finally:
        path.write_bytes(content)


def test_a_start_without_a_launcher_says_so(client: Client, busybox: str) -> None:
    content = LAUNCHER.read_bytes()
    LAUNCHER.unlink()
    try:
        with pytest.raises(grpc.RpcError) as caught:
            client.run("true", runtime=busybox, name="no-launcher")
    finally:
        LAUNCHER.write_bytes(content)
        LAUNCHER.chmod(0o755)
    assert "cannot make the launcher for jobs with a runtime" in str(caught.value.details())
    assert client.by_name("no-launcher")[0].status == "FAILED"
    assert in_runtime(client, busybox, "cat /etc/who") == "busybox 1.0.0\n"
