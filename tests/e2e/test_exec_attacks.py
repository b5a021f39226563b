"""Jobs that lie in wait for the commands that come into them: attack cases A8, B1, B7 by way of exec."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.agent import DEADLINE, JOBS, Client, eventually, main_pid
from tests.e2e.execs import exec_units, execute, start
from tests.e2e.host import in_parallel
from tests.e2e.inside import DENIED_CALLS, running
from tests.e2e.test_denied import ATTEMPTS, CLONE3, FILTERED
from tests.e2e.test_exec import probe
from tests.e2e.test_start import HOSTILE, variables

pytestmark = [pytest.mark.systemd, pytest.mark.both]

LAUNCHER = "/usr/lib/joblet/joblet-launch"
PROGRAMS = tuple(map(Path, (LAUNCHER, "/usr/bin/perl", "/usr/bin/true", "/usr/bin/python3")))
OF_THE_COMMAND = re.compile(r"/dev/null$|/run/joblet/exec/[^/]+/(out|err)$|/usr/lib/|/etc/ld\.so\.cache$")
QUIET = ("sh", "-c", "echo ready; exec sleep 1000")

# Looks at every process that appears, as CVE-2019-5736 does: takes hold of its program, and of whatever else
# of it leads elsewhere, and writes to the program as often as it can.
LYING_IN_WAIT = """
import json, os
own = {"1", str(os.getpid())}
links, environs, rounds = set(), set(), 0
wrote, held, owner = [], {}, os.stat("/")
outside = []
def write(path):
    for mode in (os.O_WRONLY, os.O_RDWR):
        try:
            os.close(os.open(path, mode))
            wrote.append(os.readlink(path))
        except OSError:
            pass
def look(pid):
    top = f"/proc/{pid}"
    for name in ("exe", "cwd", "root", *(f"fd/{n}" for n in range(16))):
        try:
            links.add((name.partition("/")[0], os.readlink(f"{top}/{name}")))
        except OSError:
            pass
    for name in ("cwd", "root"):
        try:
            there = os.stat(f"{top}/{name}/")
            if (there.st_dev, there.st_ino) not in inside:
                outside.append(name)
        except OSError:
            pass
    try:
        variables = open(f"{top}/environ").read().split("\\0")
        environs.update(variable.partition("=")[0] for variable in variables)
    except OSError:
        pass
    write(f"{top}/exe")
    try:
        held.setdefault(os.readlink(f"{top}/exe"), os.open(f"{top}/exe", os.O_PATH))
    except OSError:
        pass
inside = {(s.st_dev, s.st_ino) for s in map(os.stat, ("/", "/work"))}
print("ready", flush=True)
while not os.path.exists("/work/over"):
    for pid in os.listdir("/proc"):
        if pid.isdigit() and pid not in own:
            rounds += 1
            look(pid)
    for number in held.values():
        write(f"/proc/self/fd/{number}")
print(json.dumps([rounds, sorted(links), sorted(environs), wrote, outside]))
"""


def test_b1_a_job_that_lies_in_wait_gets_hold_of_nothing_of_the_launcher(client: Client) -> None:
    before = [path.read_bytes() for path in PROGRAMS]
    with running(client, "python3", "-I", "-c", LYING_IN_WAIT) as job_id:
        ends = in_parallel(lambda _: execute(client, job_id, "true")[2], list(range(60)))
        assert {end.exit_code for end in ends} == {0}
        (JOBS / job_id / "work" / "over").touch()
        assert client.ended(job_id).status == "COMPLETED", client.log(job_id)
        rounds, links, environs, wrote, outside = json.loads(client.log(job_id).splitlines()[1])
    assert rounds > 60
    assert {there for name, there in links if name == "exe"} == {"/usr/bin/true"}
    assert {there for name, there in links if name == "root"} <= {"/"}
    assert not [there for name, there in links if name == "fd" and not OF_THE_COMMAND.match(there)]
    assert not [name for name in environs if name.startswith("JOBLET_") and name != "JOBLET_JOB_ID"]
    assert (wrote, outside) == ([], [])
    assert [path.read_bytes() for path in PROGRAMS] == before


# Runs as the launcher's own interpreter, holds on to it, and writes to it once it runs it no more.
HOLD = """
$^F = 100;
open(my $held, '<', '/proc/self/exe') or die;
exec 'python3', '-I', '-c', $ENV{WRITE}, fileno $held;
"""
WRITE = """
import errno, json, os, sys
def opened(path):
    try:
        os.close(os.open(path, os.O_WRONLY))
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
link = f"/proc/self/fd/{sys.argv[1]}"
print(json.dumps([os.readlink(link), opened(link), opened("/proc/self/exe"), opened(os.readlink(link))]))
"""
MADE = """
ln -s /proc/self/exe link
printf '#!/proc/self/exe\\n%s' "$HOLD" >script
chmod 755 script
echo ready
exec sleep 1000
"""


@pytest.mark.parametrize(
    "words", [["/proc/self/exe", "-e", HOLD], ["/work/link", "-e", HOLD], ["/work/script"]]
)
def test_b1_the_launcher_as_the_command_is_not_written_to(client: Client, words: list[str]) -> None:
    before = [path.read_bytes() for path in PROGRAMS]
    with running(client, "sh", "-c", MADE, environment={"HOLD": HOLD}) as job_id:
        out, err, end = execute(client, job_id, *words, environment={"WRITE": WRITE})
        assert end.exit_code == 0, err
        program, *answers = json.loads(out)
    assert program.startswith("/usr/bin/perl")
    assert set(answers) <= {"EACCES", "EROFS", "ETXTBSY"}
    assert [path.read_bytes() for path in PROGRAMS] == before


def test_a8_variables_of_a_command_act_on_the_command_only(client: Client) -> None:
    script = "/usr/bin/cat /proc/self/maps; echo begun; exec /usr/bin/sleep 1000"
    with running(client, *QUIET) as job_id:
        request = start(job_id, "/bin/sh", "-c", script, environment=HOSTILE)
        call = client.agent.ExecInJob(iter([request]), timeout=DEADLINE)
        out = b""
        while b"begun\n" not in out:
            out += next(call).stdout
        assert b"libresolv" in out
        launcher = main_pid(exec_units()[0])
        assert "libresolv" not in Path(f"/proc/{launcher}/maps").read_text(encoding="ascii")
        its = variables(Path(f"/proc/{launcher}/environ").read_bytes())
        assert not its.keys() & (HOSTILE.keys() - {"PATH", "HOME", "JOBLET_ENV_LD_PRELOAD"})
        assert its["PATH"] != HOSTILE["PATH"]
        call.cancel()
        eventually(exec_units, lambda left: not left)


CLONED = (
    DENIED_CALLS
    + f"""
given = ctypes.create_string_buffer((0x10000000).to_bytes(8, "little") + bytes(80))
print(json.dumps(call({CLONE3}, given, 88)))
"""
)
DENIED = DENIED_CALLS + "print(json.dumps({n: call(v, *[0] * 6) for n, v in json.loads(%r).items()}))"


@pytest.mark.parametrize("profile", ["default", "strict"])
def test_b7_what_a_job_may_not_a_command_in_it_may_not(client: Client, profile: str) -> None:
    with running(client, *QUIET, profile=profile) as job_id:
        answers = probe(client, job_id, DENIED % json.dumps(FILTERED))
        assert answers == dict.fromkeys(FILTERED, "EPERM")
        assert probe(client, job_id, CLONED) in {"ENOSYS", "EPERM"}
        got: dict[str, Any] = probe(client, job_id, ATTEMPTS)
        assert got.pop("nice") in {"EPERM", "EACCES"}
        assert got.pop("own group") in {"EACCES", "ENOENT"}
        assert got.pop("memory of the init") == "EACCES"
        assert set(got.values()) == {"EPERM"}, got
