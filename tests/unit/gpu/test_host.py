"""GPUs of a host, by a CDI file, or by search. Devices need root to be made, so files are."""

import json
import os
from pathlib import Path

import pytest

from joblet_agent.gpu import host
from joblet_agent.gpu.host import NoDriver, find_driver
from joblet_agent.model.gpu import GpuNode
from tests.unit.gpu.test_cdi import cdi

NEEDED = ("libcuda.so.1", "libnvidia-ml.so.1", "libnvidia-ptxjitcompiler.so.1")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every file below /dev counts as a device, and files of whoever runs the test as root's."""
    (tmp_path / "dev").mkdir()
    monkeypatch.setattr(host, "_is_device", lambda path: path.is_file())
    monkeypatch.setattr(host, "OWNER", os.getuid())
    return tmp_path


def put(root: Path, *names: str, text: str = "x") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)


def put_driver(root: Path) -> str:
    place = f"usr/lib/{os.uname().machine}-linux-gnu"
    put(
        root, *(f"dev/{name}" for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-modeset"))
    )
    put(root, *(f"{place}/{name.removesuffix('.1')}.535.1" for name in NEEDED))
    for name in NEEDED:
        (root / place / name).symlink_to(f"{name.removesuffix('.1')}.535.1")
    return place


def test_a_search_finds_nodes_and_libraries(root: Path) -> None:
    place = put_driver(root)
    found = find_driver(root)
    assert found.source == "search"
    assert [index for index, _ in found.gpus] == [0, 1]
    assert found.gpus[1][1] == (GpuNode("/dev/nvidia1", "/dev/nvidia1"),)
    assert [node.host for node in found.shared] == ["/dev/nvidiactl", "/dev/nvidia-uvm"]
    assert found.libraries == tuple((f"/{place}/{name.removesuffix('.1')}.535.1", name) for name in NEEDED)


@pytest.mark.parametrize("gone", ["dev/nvidiactl", *NEEDED])
def test_a_driver_that_is_not_complete_is_none(root: Path, gone: str) -> None:
    place = put_driver(root)
    (root / gone if "/" in gone else root / place / gone).unlink()
    with pytest.raises(NoDriver, match=gone.rpartition("/")[2]):
        find_driver(root)


def test_a_host_without_a_gpu_says_so(root: Path) -> None:
    with pytest.raises(NoDriver, match="no CDI file of NVIDIA's"):
        find_driver(root)


def put_cdi(root: Path, where: str = "etc/cdi/nvidia.json") -> str:
    library = "usr/lib/x86_64-linux-gnu/libcuda.so.535.104.05"
    put(root, "dev/nvidiactl", "dev/nvidia-uvm", "dev/nvidia1", "dev/n0", library)
    link = (root / library).with_name("libcuda.so.1")
    link.unlink(missing_ok=True)
    link.symlink_to(Path(library).name)
    put(root, where, text=json.dumps(cdi()))
    return library


def test_a_cdi_file_comes_first_and_links_give_libraries_their_names(root: Path) -> None:
    put_driver(root)
    library = put_cdi(root)
    found = find_driver(root)
    assert found.source == str(root / "etc/cdi/nvidia.json")
    assert {name: path for path, name in found.libraries} == {
        "libcuda.so.1": f"/{library}",
        "libcuda.so.535.104.05": f"/{library}",
    }


def test_files_of_run_come_before_those_of_etc_and_other_kinds_are_passed_over(root: Path) -> None:
    put_cdi(root)
    put(root, "run/cdi/a.yaml", text='{cdiVersion: "0.5.0", kind: intel.com/gpu, devices: []}')
    put_cdi(root, "run/cdi/b.json")
    assert find_driver(root).source == str(root / "run/cdi/b.json")


@pytest.mark.parametrize("gone", ["dev/n0", "usr/lib/x86_64-linux-gnu/libcuda.so.535.104.05"])
def test_a_cdi_file_that_names_what_is_not_there_is_no_driver(root: Path, gone: str) -> None:
    put_driver(root)
    put_cdi(root)
    (root / gone).unlink()
    with pytest.raises(NoDriver, match=gone.rpartition("/")[2]):
        find_driver(root)


def test_a_cdi_file_that_others_can_write_is_not_read(root: Path) -> None:
    put_cdi(root)
    (root / "etc/cdi/nvidia.json").chmod(0o666)
    with pytest.raises(NoDriver, match="no file that root alone can write"):
        find_driver(root)


def test_a_library_that_others_can_write_is_none(root: Path) -> None:
    library = put_cdi(root)
    (root / library).chmod(0o666)
    with pytest.raises(NoDriver, match="no file that root alone can write"):
        find_driver(root)
