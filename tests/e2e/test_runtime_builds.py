"""Runtimes built by the agent: real ones of package archives, hostile ones, and agents that are killed."""

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import Client, command, eventually, kill_agent, wait_for_agent
from tests.e2e.runtime_builds import (
    Builder,
    Built,
    OnceIn,
    builder,
    has_mirror,
    host_state,
    left_of_builds,
    removed,
)
from tests.e2e.runtimes import imported, staged

pytestmark = pytest.mark.systemd

HEAD = 'schema_version: "1.1"\nname: {name}\nversion: 1.0.0\n'
ON_BUSYBOX = HEAD + "from: busybox@1.0.0\n"
PYTHON = (
    HEAD.format(name="small-python")
    + """\
base: {language: python, version: "3.11"}
pip: [six==1.16.0, jinja2==3.1.4]  # which needs markupsafe
files: [{path: /opt/runtime/etc/greeting, content: "hello"}]
environment: {GREETING: /opt/runtime/etc/greeting}
test: python3 -c "import six; print('six', six.__version__)"
"""
)
NODE = (
    HEAD.format(name="small-node")
    + """\
base: {language: node, version: "18"}
npm: [left-pad@1.3.0]
test: node -e "console.log(require('left-pad')('x', 3))"
"""
)


@pytest.fixture(scope="module")
def builds() -> Iterator[Builder]:
    with builder() as made:
        yield made
    removed("small-python@1.0.0", "small-node@1.0.0")


@pytest.fixture(scope="module")
def busybox(builds: Builder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    del builds
    with imported(tmp_path_factory.mktemp("busybox")) as name:
        yield name


@pytest.fixture(scope="module")
def python(builds: Builder) -> Built:
    """A runtime with Python and one package."""
    if not has_mirror():
        pytest.skip("there are no package archives at the mirror's address (python3 -m tests.testbed mirror)")
    return succeeded(builds.build(PYTHON))


@pytest.fixture(autouse=True)
def _nothing_left(client: Client) -> Iterator[None]:
    del client
    yield
    eventually(lambda: left_of_builds() + staged(), lambda left: left == [])


def succeeded(built: Built) -> Built:
    assert built.result.success, (built.result.message, built.log[-3000:])
    assert [phase.phase_number for phase in built.phases] == list(range(1, 15))
    return built


def failed(built: Built, reason: str, phase: int = 0) -> str:
    """Return the message of a build that failed for the reason, in the phase."""
    assert not built.result.success
    assert built.result.reason == reason, (built.result, built.log[-3000:])
    assert phase in {0, built.phases[-1].phase_number}, built.result
    assert built.result.digest == ""
    return built.result.message


def in_runtime(client: Client, runtime: str, script: str) -> str:
    """Return what a job with the runtime has written."""
    job_id = client.run("sh", "-c", script, runtime=runtime)
    status = client.ended(job_id, within=60)
    log = client.log(job_id).decode()
    assert status.status == "COMPLETED", log
    return log


def test_a_runtime_of_debian_and_the_python_package_index(
    client: Client, builds: Builder, python: Built
) -> None:
    assert [phase.phase_number for phase in python.phases if phase.skipped] == [6, 8, 10]
    assert "six 1.16.0" in python.lines
    info = builds.info("small-python@1.0.0")
    assert (info.digest, info.lock, info.source) == (python.result.digest, python.result.lock, "build")
    assert "six=1.16.0" in info.packages
    assert re.search(r"^- python3\.11=\S+ \w+ sha256:[0-9a-f]{64}$", info.lock, re.MULTILINE)
    assert re.search(r"^- six==1\.16\.0 --hash=sha256:[0-9a-f]{64}$", info.lock, re.MULTILINE)
    script = (
        'cat "$GREETING"; python3 -c "import six, ssl, sys; print(six.__version__, sys.version_info[:2])"'
    )
    assert in_runtime(client, "small-python", script) == "hello1.16.0 (3, 11)\n"
    again = builds.build(PYTHON)
    assert (again.result.success, again.result.digest) == (True, python.result.digest)
    assert [phase.phase_number for phase in again.phases if phase.skipped] == list(range(3, 15))


def test_two_builds_of_one_lock_have_one_digest(builds: Builder, python: Built) -> None:
    again = succeeded(builds.build(PYTHON, force_rebuild=True, locked=True, lock=python.result.lock))
    assert again.result.digest == python.result.digest
    assert again.result.lock == python.result.lock


def test_a_locked_build_names_what_differs(builds: Builder, python: Built) -> None:
    def build(text: str, lock: str) -> Built:
        return builds.build(text, force_rebuild=True, locked=True, lock=lock)

    other = build(PYTHON.replace("six==1.16.0", "six==1.15.0"), python.result.lock)
    failed(other, "RUNTIME_BUILD_LOCK_DIFFERS", 2)
    failed(build(PYTHON, ""), "RUNTIME_BUILD_LOCK_MISSING", 2)
    assert builds.installed()["small-python@1.0.0"].digest == python.result.digest


def test_a_file_with_another_hash_than_the_lock_says_is_refused(builds: Builder, python: Built) -> None:
    del python
    text = HEAD.format(name="on-python") + "from: small-python@1.0.0\npip: [toolz==0.12.0]\n"
    lock = builds.lock(text)
    assert lock.result.success, lock.result
    assert [phase.phase_number for phase in lock.phases] == list(range(1, 15))
    assert "on-python@1.0.0" not in builds.installed()
    (digest,) = re.findall(r"--hash=sha256:([0-9a-f]{64})", lock.result.lock)
    wrong = lock.result.lock.replace(digest, "0" * 64)
    message = failed(builds.build(text, locked=True, lock=wrong), "RUNTIME_BUILD_HASH_MISMATCH", 9)
    assert "toolz" in message


def test_a_runtime_with_a_package_of_npm(client: Client, builds: Builder, python: Built) -> None:
    del python
    built = succeeded(builds.build(NODE))
    assert "  x" in built.lines
    info = builds.info("small-node@1.0.0")
    assert "left-pad=1.3.0" in info.packages
    assert '"integrity": "sha512-' in info.lock
    script = "node -e \"console.log(require('left-pad')('x', 3), process.version.split('.')[0])\""
    assert in_runtime(client, "small-node", script) == "  x v18\n"
    missing = (
        HEAD.format(name="missing") + "from: small-node@1.0.0\nnpm: [joblet-has-no-such-package@1.0.0]\n"
    )
    assert "joblet-has-no-such-package" in failed(builds.build(missing), "RUNTIME_BUILD_PACKAGE_UNKNOWN", 10)


@pytest.mark.parametrize(
    ("what", "phase", "reason", "named"),
    [
        (
            "apt: [joblet-has-no-such-package]",
            7,
            "RUNTIME_BUILD_PACKAGE_UNKNOWN",
            "joblet-has-no-such-package",
        ),
        ('apt: ["hello=0.0.1"]', 7, "RUNTIME_BUILD_VERSION_GONE", "hello"),
        (
            "pip: [joblet-has-no-such-package]",
            9,
            "RUNTIME_BUILD_PACKAGE_UNKNOWN",
            "joblet-has-no-such-package",
        ),
        ('pip: ["six==99.0"]', 9, "RUNTIME_BUILD_VERSION_GONE", "six==99.0"),
        (
            'pip: {requirements: "toolz", index: "http://127.0.0.1:9/simple"}',
            *(9, "RUNTIME_BUILD_ARCHIVE_UNREACHABLE", "cannot be reached"),
        ),
        ("limits: {disk: 100MB}", 5, "RUNTIME_BUILD_DISK_FULL", "room"),
    ],
)
def test_packages_that_cannot_be_had_are_named(
    builds: Builder, python: Built, what: str, phase: int, reason: str, named: str
) -> None:
    del python
    text = HEAD.format(name="faulty") + f"from: small-python@1.0.0\n{what}\n"
    assert named in failed(builds.build(text), reason, phase)
    assert "faulty@1.0.0" not in builds.installed()


def test_an_archive_that_ends_in_the_middle(builds: Builder, python: Built) -> None:
    del python
    with half_an_index() as index:
        text = HEAD.format(name="half") + "from: small-python@1.0.0\n"
        text += f'pip: {{requirements: "half==1.0", index: "{index}"}}\n'
        failed(builds.build(text), "RUNTIME_BUILD_ARCHIVE_UNREACHABLE", 9)


@contextmanager
def half_an_index() -> Iterator[str]:
    """Serve an index whose one package ends in the middle."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_index = self.path.endswith("/")
            name = "half-1.0-py3-none-any.whl"
            body = f'<a href="{name}">{name}</a>'.encode() if is_index else b"PK" * 1000
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if is_index else "application/octet-stream")
            self.send_header("Content-Length", str(len(body) if is_index else 1 << 20))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            del format, args

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/simple"
        finally:
            server.shutdown()
            thread.join()


ANY_OF = 'for path in {}; do if test -e "$path"; then exit 0; fi; done; exit 7'
HOOKS = {
    "reads the host's secrets": (
        ANY_OF.format("/etc/shadow /var/lib/joblet /etc/joblet /root/.profile"),
        *("RUNTIME_BUILD_HOOK_FAILED", "status 7"),
    ),
    "talks to the agent": (
        ANY_OF.format("/run/joblet /run/systemd/private /run/systemd/notify /run/dbus"),
        *("RUNTIME_BUILD_HOOK_FAILED", "status 7"),
    ),
    "fails": ("echo first; echo ERROR: the reason >&2; exit 3", "RUNTIME_BUILD_HOOK_FAILED", "the reason"),
}


@pytest.mark.parametrize("when", ["pre_install", "post_install"])
@pytest.mark.parametrize("what", HOOKS)
def test_a_hook_that(builds: Builder, busybox: str, what: str, when: str) -> None:
    del busybox
    script, reason, named = HOOKS[what]
    before = host_state()
    text = ON_BUSYBOX.format(name="hostile") + f"hooks:\n  {when}: |\n    {script}\n"
    phase = 6 if when == "pre_install" else 11
    assert named in failed(builds.build(text), reason, phase)
    assert host_state() == before
    assert "hostile@1.0.0" not in builds.installed()


# Without end, and gone as soon as the next is there. Not all at once: the machine has neighbours.
FORKS = "next() { sleep 0.05; next & exit; }; for n in 1 2 3 4 5 6 7 8; do next & done; sleep 1000"


@pytest.mark.parametrize(
    ("script", "limits", "reason"),
    [
        ("dd if=/dev/zero of=/opt/runtime/big bs=1M", "{disk: 80MB}", "RUNTIME_BUILD_DISK_FULL"),
        (FORKS, "{time: 10s}", "RUNTIME_BUILD_TIMEOUT"),
        ("sleep 1000", "{time: 5s}", "RUNTIME_BUILD_TIMEOUT"),
    ],
    ids=["fills the disk", "forks without end", "takes for ever"],
)
def test_a_hook_without_end_ends(
    builds: Builder, busybox: str, script: str, limits: str, reason: str
) -> None:
    del busybox
    before = host_state()
    text = ON_BUSYBOX.format(name="endless") + f"limits: {limits}\nhooks:\n  post_install: |\n    {script}\n"
    failed(builds.build(text), reason, 11)
    assert left_of_builds() == []
    assert host_state() == before


def test_what_a_hook_leaves_running_ends_with_it(builds: Builder, busybox: str) -> None:
    del busybox
    text = ON_BUSYBOX.format(name="outliving")
    text += "hooks: {pre_install: '(sleep 1000 &) ', post_install: '(sleep 1000 &) '}\n"
    succeeded(builds.build(text))
    assert left_of_builds() == []
    removed("outliving@1.0.0")


@pytest.mark.parametrize(
    ("when", "script", "named"),
    [
        ("post_install", "/bin/busybox mkfifo /opt/runtime/pipe", "opt/runtime/pipe: it is a named pipe"),
        ("pre_install", "echo /x.so > /etc/ld.so.preload", "etc/ld.so.preload"),
    ],
)
def test_files_that_no_runtime_may_have(
    builds: Builder, busybox: str, when: str, script: str, named: str
) -> None:
    del busybox
    text = ON_BUSYBOX.format(name="forbidden") + f"hooks: {{{when}: '{script}'}}\n"
    assert named in failed(builds.build(text), "RUNTIME_TREE_REFUSED", 12)


def test_links_lead_files_of_the_definition_nowhere(builds: Builder, busybox: str) -> None:
    del busybox
    text = ON_BUSYBOX.format(name="links") + "hooks: {pre_install: 'ln -s /root /opt/runtime/etc'}\n"
    text += 'files: [{path: /opt/runtime/etc/x, content: "x"}]\n'
    assert "/opt/runtime/etc/x" in failed(builds.build(text), "RUNTIME_BUILD_FILE", 11)
    assert not Path("/root/x").exists()


def test_the_test_of_a_runtime_fails_its_build(builds: Builder, busybox: str) -> None:
    del busybox
    text = ON_BUSYBOX.format(name="tested") + "test: 'echo it does not work; exit 5'\n"
    message = failed(builds.build(text), "RUNTIME_BUILD_TEST_FAILED", 13)
    assert "status 5: it does not work" in message


def test_two_builds_of_one_runtime_are_one(builds: Builder, busybox: str) -> None:
    del busybox
    text = ON_BUSYBOX.format(name="twice") + "hooks: {post_install: 'sleep 2'}\n"
    second: list[Built] = []

    def join(built: Built) -> None:
        if built.phases[-1].phase_number == 11 and not second:
            second.append(Built())
            thread.start()

    thread = threading.Thread(target=lambda: second.append(builds.build(text)))
    first = succeeded(builds.build(text, join))
    thread.join()
    succeeded(second[1])
    assert second[1].build_id == first.build_id
    assert second[1].result.digest == first.result.digest
    removed("twice@1.0.0")


@pytest.mark.parametrize("when", ["pre_install", "post_install"])
def test_a_build_is_canceled_and_nothing_is_left(builds: Builder, busybox: str, when: str) -> None:
    del busybox
    text = ON_BUSYBOX.format(name="canceled") + f"hooks: {{{when}: 'echo begun; sleep 1000'}}\n"
    canceled: list[pb.CancelRuntimeBuildResponse] = []

    def cancel(built: Built) -> None:
        if built.lines and built.lines[-1] == "begun":
            canceled.append(builds.cancel("canceled@1.0.0"))
            assert left_of_builds() == []

    failed(builds.build(text, cancel), "RUNTIME_BUILD_CANCELED")
    assert [answer.build.name for answer in canceled] == ["canceled"]
    assert builds.under_way() == []


@pytest.mark.parametrize("phase", range(1, 15))
def test_an_agent_is_killed_in_each_phase(client: Client, builds: Builder, busybox: str, phase: int) -> None:
    """The next agent goes on with the build, or removes what is left of it; there is no half a runtime."""
    del busybox
    text = ON_BUSYBOX.format(name="survivor") + (
        "files: [{path: /opt/runtime/etc/x, content: x}]\n"
        "test: 'echo begun; sleep 0.5; cat /opt/runtime/post'\n"
        "hooks:\n"
        "  post_install: 'echo begun; sleep 0.5; echo post > /opt/runtime/post'\n"
    )
    if phase == 6:
        text += "  pre_install: 'echo begun; sleep 0.5; echo pre'\n"
    _kill_in(client, builds, text, phase, in_step=phase in {6, 11, 13})
    for status in builds.under_way():
        built = builds.follow(status.build_id)
        assert built.result.success or built.result.reason == "RUNTIME_BUILD_STEP_LOST", built.result
    eventually(left_of_builds, lambda left: left == [])
    if phase in {6, 11, 13}:  # a step runs, and goes on
        assert "survivor@1.0.0" in builds.installed()
    if "survivor@1.0.0" not in builds.installed():
        succeeded(builds.build(text))
    assert in_runtime(client, "survivor", "cat /opt/runtime/post /opt/runtime/etc/x") == "post\nx"
    removed("survivor@1.0.0")


@pytest.mark.parametrize(("phase", "what"), [(7, "apt: [hello]"), (9, "pip: [toolz==0.12.0]")])
def test_an_agent_is_killed_while_packages_are_installed(
    client: Client, builds: Builder, python: Built, phase: int, what: str
) -> None:
    del python
    text = HEAD.format(name="survivor") + f"from: small-python@1.0.0\n{what}\n"
    _kill_in(client, builds, text, phase, in_step=True)
    (status,) = builds.under_way()
    succeeded(builds.follow(status.build_id))
    removed("survivor@1.0.0")


def _kill_in(client: Client, builds: Builder, text: str, phase: int, *, in_step: bool) -> None:
    """Let the agent be killed as soon as the phase has begun, or its step has said something."""
    kill = OnceIn(phase, kill_agent, in_step)
    with pytest.raises(Exception, match=r"UNAVAILABLE|Socket closed|CANCELLED"):
        builds.build(text, kill, detach=True)
    wait_for_agent(client)
    command("systemctl", "is-active", "joblet-agent.service")


def test_a_dry_run_changes_nothing(builds: Builder, busybox: str) -> None:
    del busybox
    text = ON_BUSYBOX.format(name="dry") + "hooks: {post_install: 'exit 1'}\n"
    built = succeeded(builds.build(text, dry_run=True))
    assert "base: runtime busybox@1.0.0" in built.lines
    assert "dry@1.0.0" not in builds.installed()
