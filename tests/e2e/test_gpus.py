"""GPUs of jobs, with nodes that are none: of a device that anybody can open, if systemd lets them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.agent import Client, command, kill_agent, wait_for_agent
from tests.e2e.host import refusal, rnx_json, running, said
from tests.e2e.runtimes import imported

pytestmark = pytest.mark.systemd

PLACE = Path(f"/usr/lib/{os.uname().machine}-linux-gnu")
LIBRARY = PLACE / "libcuda.so.535.1"
LINK = PLACE / "libcuda.so.1"
CDI = Path("/etc/cdi/nvidia.yaml")
TUN = ("c", "10", "200")
SEE = "ls /dev | grep nvidia; for each in /dev/nvidia*; do (exec 3<>$each) && echo opened $each; done 2>&1"


@pytest.fixture
def driver() -> Iterator[None]:
    """Two GPUs, one more node that no job is to see, and a CDI file that tells of the two."""
    nodes = [Path("/dev", name) for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl")]
    assert not any(path.exists() for path in (*nodes, LIBRARY, LINK, CDI.parent))
    for path in nodes:
        command("mknod", "--mode=666", str(path), *TUN)
    LIBRARY.write_text("driver 535\n", encoding="utf-8")
    LINK.symlink_to(LIBRARY.name)
    CDI.parent.mkdir()
    CDI.write_text(
        f"""\
cdiVersion: 0.5.0
kind: nvidia.com/gpu
containerEdits:
  deviceNodes:
  - path: /dev/nvidiactl
  mounts:
  - hostPath: {LIBRARY}
    containerPath: {LIBRARY}
    options: [ro, nosuid, nodev, bind]
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
- name: "1"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia1
""",
        encoding="utf-8",
    )
    try:
        yield
    finally:
        shutil.rmtree(CDI.parent)
        for path in (*nodes, LIBRARY, LINK):
            path.unlink()


@pytest.mark.usefixtures("driver")
def test_a_job_opens_its_own_gpus_and_no_others(client: Client) -> None:
    with running(client, "echo ready; sleep 1000", gpu_count=1) as first:
        seen = said(0, "run", "--attach", "--gpu=1", "sh", "-c", SEE).split("\n")[:-1]
        assert seen == ["nvidia1", "nvidiactl", "opened /dev/nvidia1", "opened /dev/nvidiactl"]
        status = client.status(first)
        assert (status.gpu_count, list(status.gpu_indices)) == (1, [0])
        in_first = said(0, "exec", first, "--", "sh", "-c", SEE)
        assert "opened /dev/nvidia0" in in_first
        assert "nvidia1" not in in_first
    assert said(0, "run", "--attach", "sh", "-c", "ls /dev | grep -c nvidia || true") == "0\n"


@pytest.mark.usefixtures("driver")
def test_the_unit_says_which_devices_a_job_may_use(client: Client) -> None:
    job_id = client.run("sh", "-c", "true", gpu_count=2)
    client.ended(job_id)
    told = {each["name"]: each["value"] for each in rnx_json("job", "explain", job_id)["properties"]}
    assert told["DevicePolicy"] == "closed"
    assert told["DeviceAllow"].split("\n") == ["/dev/nvidiactl rw", "/dev/nvidia0 rw", "/dev/nvidia1 rw"]


@pytest.mark.usefixtures("driver")
def test_gpus_are_refused_while_others_have_them_and_free_when_these_have_ended(client: Client) -> None:
    with running(client, "echo ready; sleep 1000", gpu_count=2) as job_id:
        assert refusal(lambda: client.run("true", gpu_count=1)) == ("RESOURCE_EXHAUSTED", "GPUS_BUSY")
        kill_agent()
        wait_for_agent(client)
        assert refusal(lambda: client.run("true", gpu_count=1)) == ("RESOURCE_EXHAUSTED", "GPUS_BUSY")
        assert list(client.status(job_id).gpu_indices) == [0, 1]
    assert said(0, "run", "--attach", "--gpu=2", "echo", "both") == "both\n"
    assert "this host has 2" in said(1, "run", "--gpu=3", "true")


@pytest.mark.usefixtures("driver", "client")
def test_the_variables_of_a_job_with_gpus() -> None:
    script = 'echo "$CUDA_VISIBLE_DEVICES $NVIDIA_VISIBLE_DEVICES $JOBLET_GPU_COUNT $LD_LIBRARY_PATH"'
    assert said(0, "run", "-a", "--gpu=2", "sh", "-c", script) == f"0,1 0,1 2 {PLACE}\n"
    given = said(0, "run", "-a", "--gpu=1", "--env=LD_LIBRARY_PATH=/work", "sh", "-c", script)
    assert given == f"0 0 1 {PLACE}:/work\n"


@pytest.mark.usefixtures("driver", "client")
def test_the_hosts_driver_is_in_a_runtime(tmp_path: Path) -> None:
    script = f'cd /usr/local/nvidia/lib; ls; cat libcuda.so.1; echo "$LD_LIBRARY_PATH"; {SEE}'
    with imported(tmp_path) as runtime:
        told = said(0, "run", "-a", "--gpu=1", f"--runtime={runtime}", "sh", "-c", script).split("\n")[:-1]
    assert told == [
        *("libcuda.so.1", "libcuda.so.535.1", "driver 535", "/usr/local/nvidia/lib"),
        *("nvidia0", "nvidiactl", "opened /dev/nvidia0", "opened /dev/nvidiactl"),
    ]


def test_without_a_driver_no_job_gets_a_gpu(client: Client) -> None:
    assert refusal(lambda: client.run("true", gpu_count=1)) == ("INVALID_ARGUMENT", "NO_GPU_DRIVER")
    assert refusal(lambda: client.run("true", gpu_count=-1)) == ("INVALID_ARGUMENT", "INVALID_GPU_COUNT")
    assert "no CDI file of NVIDIA's" in said(1, "run", "--gpu=1", "true")


@pytest.mark.usefixtures("driver")
def test_a_cdi_file_that_is_wrong_says_so_and_gives_nothing(client: Client) -> None:
    CDI.write_text(CDI.read_text(encoding="utf-8").replace("/dev/nvidia1", "/dev/../etc"), encoding="utf-8")
    assert refusal(lambda: client.run("true", gpu_count=1)) == ("INVALID_ARGUMENT", "NO_GPU_DRIVER")
    assert "devices[1].containerEdits.deviceNodes[0]" in said(1, "run", "--gpu=1", "true")
