"""What the profiles make of a unit. What that does is looked at in tests/e2e."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from joblet_agent.model.profile import Profile
from joblet_agent.systemd.properties import launcher_words, unit_properties
from joblet_agent.systemd.sandbox import sandbox
from tests.unit.systemd.plans import RELEASES, plan, settings

HOST = ("net:[4026531840]", "ipc:[4026531839]", "uts:[4026531838]")


def values(profile: Profile) -> dict[str, Any]:
    return {entry.name: entry.value for entry in sandbox(profile)}


@pytest.mark.parametrize("version", RELEASES)
@pytest.mark.parametrize("profile", Profile)
def test_no_property_is_told_twice(profile: Profile, version: int) -> None:
    names = [entry.name for entry in unit_properties(replace(plan(), profile=profile), settings(version))]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("profile", Profile)
def test_every_profile_has_namespaces_of_its_own(profile: Profile) -> None:
    assert values(profile).items() >= {"PrivateNetwork": True, "PrivateIPC": True}.items()


def test_strict_is_default_and_more() -> None:
    default, strict = values(Profile.DEFAULT), values(Profile.STRICT)
    changed = {name for name in strict if strict[name] != default.get(name)}
    assert default.keys() <= strict.keys()
    assert changed == {"MemoryDenyWriteExecute", "SystemCallFilter", "RestrictAddressFamilies"}
    denied, (is_allowed, allowed) = default["SystemCallFilter"][1], strict["SystemCallFilter"]
    assert is_allowed
    assert not set(denied) & set(allowed)


def test_privileged_keeps_namespaces_and_nothing_else() -> None:
    assert values(Profile.PRIVILEGED).keys() == {"PrivateNetwork", "PrivateIPC", "KeyringMode"}


@pytest.mark.parametrize("profile", Profile)
def test_the_launcher_is_told_the_hosts_namespaces_and_who_stays_root(profile: Profile) -> None:
    words = launcher_words(replace(plan(), profile=profile), replace(settings(257), host_namespaces=HOST))
    word = ["privileged"] if profile is Profile.PRIVILEGED else []
    assert words == ["100001", "100001", "1", *HOST, *word]


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("is_found", [True, False])
def test_a_unit_tells_its_user_where_the_host_finds_it(profile: Profile, is_found: bool) -> None:
    uid = 0 if profile is Profile.PRIVILEGED else 100_001
    told = unit_properties(
        replace(plan(), profile=profile, uid=uid), replace(settings(257), has_user_records=is_found)
    )
    users = [entry.value for entry in told if entry.name == "User"]
    assert users == (["100001"] if is_found and uid else [])


NAMESPACE = Path("/run/netns/joblet-x")


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("network", ["bridge", "isolated", "mine"])
def test_a_job_on_a_network_is_in_its_namespace(profile: Profile, network: str) -> None:
    told = {entry.name: entry for entry in sandbox(profile, network, NAMESPACE)}
    assert told["NetworkNamespacePath"].value == str(NAMESPACE)
    assert told["NetworkNamespacePath"].origin == f"--network={network}"
    assert told["PrivateNetwork"].value is True
    assert not {"IPAddressDeny", "IPAddressAllow"} & told.keys()
    others = {"PrivateNetwork", "IPAddressDeny", "IPAddressAllow", "NetworkNamespacePath"}
    assert {name: each.value for name, each in told.items() if name not in others} == {
        name: value for name, value in values(profile).items() if name not in others
    }


@pytest.mark.parametrize("network", ["", "none", "bridge", "mine", "HOST", "host "])
@pytest.mark.parametrize("profile", Profile)
def test_without_a_namespace_a_job_has_no_network(profile: Profile, network: str) -> None:
    told = {entry.name for entry in sandbox(profile, network, None)}
    assert "PrivateNetwork" in told
    assert ("IPAddressDeny" in told) is (profile is not Profile.PRIVILEGED)


@pytest.mark.parametrize("profile", Profile)
def test_only_on_the_host_s_network_the_launcher_takes_the_host_s_namespace(profile: Profile) -> None:
    known = replace(settings(257), host_namespaces=HOST)
    for network in ("none", "bridge", "isolated", "mine"):
        launched = replace(plan(), profile=profile, spec=replace(plan().spec, network=network))
        assert HOST[0] in launcher_words(launched, known)
    spec = replace(plan().spec, network="host")
    words = launcher_words(replace(plan(), profile=profile, spec=spec), known)
    assert HOST[0] not in words
    assert set(HOST[1:]) <= set(words)
    told = {entry.name for entry in sandbox(profile, "host", None)}
    assert not {"PrivateNetwork", "NetworkNamespacePath", "IPAddressDeny"} & told
    assert "PrivateIPC" in told
