"""CDI files: what NVIDIA's own tool writes is read, and anything that is not so is refused with its place."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.gpu.cdi import CdiFault, read
from joblet_agent.model.gpu import GpuNode


def node(name: str) -> dict[str, Any]:
    return {"path": f"/dev/{name}"}


def cdi() -> dict[str, Any]:
    """As nvidia-ctk cdi generate writes it, with fewer files."""
    library = "/usr/lib/x86_64-linux-gnu/libcuda.so.535.104.05"
    return {
        "cdiVersion": "0.5.0",
        "kind": "nvidia.com/gpu",
        "containerEdits": {
            "env": ["NVIDIA_VISIBLE_DEVICES=void"],
            "deviceNodes": [node("nvidiactl"), node("nvidia-uvm")],
            "hooks": [{"hookName": "createContainer", "path": "/usr/bin/nvidia-ctk", "args": ["nvidia-ctk"]}],
            "mounts": [
                {"hostPath": library, "containerPath": library, "options": ["ro", "nosuid", "bind"]},
                {"hostPath": "/usr/bin/nvidia-smi", "containerPath": "/usr/bin/nvidia-smi"},
            ],
        },
        "devices": [
            {"name": "1", "containerEdits": {"deviceNodes": [node("nvidia1")]}},
            {"name": "0", "containerEdits": {"deviceNodes": [{**node("nvidia0"), "hostPath": "/dev/n0"}]}},
            {"name": "all", "containerEdits": {"deviceNodes": [node("nvidia0"), node("nvidia1")]}},
            {"name": "GPU-5f", "containerEdits": {"deviceNodes": [node("nvidia0")]}},
        ],
    }


@pytest.mark.parametrize(
    ("write", "name"), [(json.dumps, "/etc/cdi/nvidia.json"), (yaml.safe_dump, "/etc/cdi/nvidia.yaml")]
)
def test_what_the_drivers_tool_writes(write: Any, name: str) -> None:
    found = read(write(cdi()), name)
    assert found is not None
    assert found.source == name
    assert found.gpus == (
        (0, (GpuNode("/dev/n0", "/dev/nvidia0"),)),
        (1, (GpuNode("/dev/nvidia1", "/dev/nvidia1"),)),
    )
    assert found.shared == (
        GpuNode("/dev/nvidiactl", "/dev/nvidiactl"),
        GpuNode("/dev/nvidia-uvm", "/dev/nvidia-uvm"),
    )
    library = "/usr/lib/x86_64-linux-gnu/libcuda.so.535.104.05"
    assert found.libraries == ((library, "libcuda.so.535.104.05"),)


def test_other_devices_are_not_ours() -> None:
    assert read(json.dumps({**cdi(), "kind": "intel.com/gpu"}), "x.json") is None


def edited(path: str, value: Any) -> dict[str, Any]:
    document = cdi()
    place: Any = document
    *keys, last = (int(key) if key.isdecimal() else key for key in path.split("."))
    for key in keys:
        place = place[key]
    place[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("cdiVersion", "9.0.0", "cdiVersion '9.0.0' is not known"),
        ("kind", 1, "kind is missing, or no text"),
        ("devices", {}, "devices: expected a list"),
        ("devices", [], "no device whose name is a number"),
        ("devices.0.containerEdits", {}, "devices[0]: it has no deviceNodes"),
        ("devices.1.name", "1", "there is a device 1 already"),
        ("containerEdits.deviceNodes.0.path", "/etc/shadow", "'/etc/shadow' is not below /dev"),
        ("containerEdits.deviceNodes.0.hostPath", "/dev/../etc/shadow", "is no plain absolute path"),
        ("containerEdits.deviceNodes.0.path", "/dev/a:/dev/sda", "is no plain absolute path"),
        ("containerEdits.deviceNodes.0.path", "/dev/a%n", "is no plain absolute path"),
        ("containerEdits.mounts.0.hostPath", "relative", "is no plain absolute path"),
        ("containerEdits.mounts", ["x"], "containerEdits.mounts[0]: expected keys with values"),
    ],
)
def test_what_is_refused(path: str, value: Any, fault: str) -> None:
    with pytest.raises(CdiFault) as caught:
        read(json.dumps(edited(path, value)), "x.json")
    assert fault in str(caught.value)


@pytest.mark.parametrize("name", ["x.json", "x.yaml"])
@pytest.mark.parametrize("text", ["", "[", "1", "[" * 100_000, '{"kind": "a", "kind": "b"}', "#" * 2**21])
def test_what_is_no_document(text: str, name: str) -> None:
    with pytest.raises(CdiFault):
        read(text, name)


@given(
    st.recursive(
        st.none() | st.integers() | st.sampled_from(["0", "/dev/x", "0.5.0", "nvidia.com/gpu"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["cdiVersion", "kind", "devices", "name", "containerEdits", "deviceNodes", "path"]
                ),
                inner,
            )
        ),
        max_leaves=15,
    )
)
def test_any_document_is_read_or_refused(document: object) -> None:
    try:
        found = read(json.dumps(document), "x.json")
    except CdiFault:
        return
    assert found is None or found.gpus
