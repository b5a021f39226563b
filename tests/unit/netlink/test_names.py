"""Names in the kernel: short enough, and only ours are ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.model.job import JobId, new_job_id
from joblet_agent.netlink import names


@given(st.text(min_size=1, max_size=64))
def test_a5_every_network_has_a_bridge_name_that_the_kernel_takes(network: str) -> None:
    name = names.bridge_name(network)
    assert names.is_bridge(name)
    assert len(name.encode()) <= 15


def test_short_names_are_kept() -> None:
    assert names.bridge_name("lab") == "joblet-lab"
    assert names.bridge_name("isolated") == "joblet-isolated"
    assert names.bridge_name("laboratory") != "joblet-laboratory"


def test_names_of_a_job() -> None:
    job_id = JobId("01234567-89ab-cdef-0123-456789abcdef")
    assert names.host_end(job_id) == "jb-0123456789ab"
    path = names.namespace_path(job_id)
    assert str(path) == f"/run/netns/joblet-{job_id}"
    assert names.job_of(path.name) == job_id


def test_what_is_made_is_ours() -> None:
    job_id = new_job_id()
    assert names.is_host_end(names.host_end(job_id))
    assert names.is_mirror(names.mirror_name("joblet0"))
    assert names.is_bridge("joblet0")
    assert names.is_job_id(job_id)


@pytest.mark.parametrize("name", ["eth0", "docker0", "joblet", "joblet-\n", "Joblet0", "joblet-" + "x" * 9])
def test_other_bridges_are_not_ours(name: str) -> None:
    assert not names.is_bridge(name)


@pytest.mark.parametrize("name", ["jb-", "jb-foreign", "jb-0123456789abc", "jb-0123456789ab\n", "veth0"])
def test_other_links_are_not_ours(name: str) -> None:
    assert not names.is_host_end(name)


@pytest.mark.parametrize("name", ["foreign", "joblet-", "joblet-x", "joblet-../../etc", "joblet-spare-1"])
def test_other_namespaces_are_not_ours(name: str) -> None:
    assert names.job_of(name) is None
