"""Jobs that change their files while the agent looks at them, and leave what is hard to remove: A3, A4."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import JOBS, Client, eventually
from tests.e2e.host import refusal, rnx
from tests.e2e.inside import running

pytestmark = pytest.mark.systemd

ROUNDS = 1000
SECRET = "what nobody may read through a job"

RACE = """
import os, itertools, time
os.makedirs('dir/sub'); open('dir/sub/file', 'w').write('mine')
os.mkfifo('pipe')
os.makedirs('spare/sub'); open('spare/sub/file', 'w').write('mine')
print('ready', flush=True)
TARGET, HOME = '%(target)s', os.path.dirname('%(target)s')
def swap(name, make):
    try: os.rename(name, 'gone')
    except OSError: pass
    else:
        try: os.unlink('gone')
        except OSError: os.rename('gone', 'spare-%%d' %% next(COUNT))
    try: make()
    except OSError: pass
COUNT = itertools.count()
while True:
    swap('file', lambda: open('file', 'w').write('mine'))
    swap('file', lambda: os.symlink(TARGET, 'file'))
    swap('file', lambda: os.mkfifo('file'))
    swap('dir', lambda: os.symlink(HOME, 'dir'))
    swap('dir', lambda: os.makedirs('dir/sub'))
    swap('dir/sub', lambda: os.symlink(HOME, 'dir/sub'))
    for name in os.listdir('.'):
        if name.startswith('spare-'): os.system('rm -rf ' + name)
"""


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    """A file of the host that only root may read."""
    place = Path("/var/lib/joblet-test-secret")
    place.mkdir(exist_ok=True)
    file = place / "shadow"
    file.write_text(SECRET)
    file.chmod(0o600)
    before = _identity(file)
    yield file
    assert (_identity(file), file.read_text()) == (before, SECRET)
    file.unlink()
    place.rmdir()


def _identity(file: Path) -> tuple[int, ...]:
    status = file.stat()
    return status.st_ino, status.st_mode, status.st_uid, status.st_size, status.st_mtime_ns


def _downloaded(client: Client, job_id: str, path: str) -> bytes:
    request = pb.DownloadJobFileRequest(uuid=job_id, path=path)
    with suppress(grpc.RpcError):
        return b"".join(
            chunk.SerializeToString() for chunk in client.agent.DownloadJobFile(request, timeout=30)
        )
    return b""


def _listed(client: Client, job_id: str, path: str) -> bytes:
    request = pb.ListJobFilesRequest(uuid=job_id, path=path)
    with suppress(grpc.RpcError):
        return b"".join(batch.SerializeToString() for batch in client.agent.ListJobFiles(request, timeout=30))
    return b""


LOOKS: dict[str, Callable[[Client, str], bytes]] = {
    "file": lambda client, job_id: _downloaded(client, job_id, "file"),
    "through": lambda client, job_id: _downloaded(client, job_id, "dir/shadow"),
    "deep": lambda client, job_id: _downloaded(client, job_id, "dir/sub/shadow"),
    "tree": lambda client, job_id: _downloaded(client, job_id, ""),
    "list": lambda client, job_id: _listed(client, job_id, "dir/sub"),
}


def test_a3_a_racing_job_never_leads_the_agent_outside(client: Client, target: Path) -> None:
    script = RACE % {"target": target}
    job_id = client.run("python3", "-c", script)
    try:
        eventually(lambda: client.log(job_id), lambda log: b"ready\n" in log)
        answers = dict.fromkeys(LOOKS, 0)
        for _ in range(ROUNDS):
            for name, look in LOOKS.items():
                found = look(client, job_id)
                assert SECRET.encode() not in found
                assert name != "list" or b"shadow" not in found
                answers[name] += bool(found)
        assert client.status(job_id).status == "RUNNING", client.log(job_id)
        assert answers["tree"] == ROUNDS  # it raced with something
    finally:
        client.jobs.StopJob(pb.StopJobRequest(uuid=job_id, force=True), timeout=30)
    client.ended(job_id)
    client.jobs.DeleteJob(pb.DeleteJobRequest(uuid=job_id), timeout=30)
    assert not (JOBS / job_id).exists()


STRANGE = """
import os, socket, time
os.mkfifo('pipe')
os.symlink('%(target)s', 'link')
os.symlink('%(directory)s', 'dir')
os.symlink('/proc/self/root', 'root')
socket.socket(socket.AF_UNIX).bind('socket')
print('ready', flush=True)
time.sleep(%(seconds)d)
"""


def test_a3_what_is_no_file_is_refused_without_waiting(client: Client, target: Path) -> None:
    script = STRANGE % {"target": target, "directory": target.parent, "seconds": 1000}
    with running(client, "python3", "-c", script) as job_id:
        for path in ("pipe", "link", "dir/shadow", "root/etc/shadow", "socket"):
            done = rnx("job", "download", job_id, path, "-o", "-")
            assert (done.returncode, done.stdout) == (1, b""), path
            assert b"cannot read files" in done.stderr
        request = pb.ListJobFilesRequest(uuid=job_id, path="dir")
        assert refusal(lambda: list(client.agent.ListJobFiles(request, timeout=30))) == (
            "INVALID_ARGUMENT",
            "NOT_A_FILE",
        )


def test_a3_what_is_kept_of_a_job_with_links_has_nothing_of_their_targets(
    client: Client, target: Path, tmp_path: Path
) -> None:
    script = STRANGE % {"target": target, "directory": target.parent, "seconds": 0}
    job_id = client.run("python3", "-c", script)
    assert client.ended(job_id).status == "COMPLETED"
    done = rnx("job", "download", job_id, "-o", str(tmp_path / "all"))
    assert (done.returncode, list((tmp_path / "all").iterdir())) == (0, [])
    client.jobs.DeleteJob(pb.DeleteJobRequest(uuid=job_id), timeout=30)


LEFT = {
    "closed": "mkdir -p a/b; echo x >a/b/c; chmod 0 a/b/c a/b a",
    "deep": "for i in $(seq 200); do mkdir d && cd d; done; echo x >bottom",
    "very-deep": "python3 -c \"import os\nfor i in range(3000): os.mkdir('d'); os.chdir('d')\"",
    "names": "for n in -rf '*' ' ' '\\x2d' $'a\\nb' $'\\377'; do echo x >\"./$n\"; done",
    "many": "mkdir m; cd m; seq 20000 | xargs touch",
}


@pytest.mark.parametrize("script", LEFT.values(), ids=LEFT)
def test_a4_whatever_a_job_leaves_can_be_listed_fetched_and_removed(
    client: Client, script: str, tmp_path: Path
) -> None:
    job_id = client.run("bash", "-c", script)
    status = client.ended(job_id)
    assert status.status == "COMPLETED", (status.message, client.log(job_id)[:300])
    eventually(lambda: client.status(job_id).work_bytes, bool)
    assert _listed(client, job_id, "")
    done = rnx("job", "download", job_id, "-o", str(tmp_path / "all"))
    assert done.returncode == 0, done.stderr[-300:]
    client.jobs.DeleteJob(pb.DeleteJobRequest(uuid=job_id), timeout=60)
    assert not (JOBS / job_id).exists()
    assert not list((JOBS.parent / "trash").iterdir())
