"""What the profiles make of a unit. What that does is looked at in tests/e2e."""

from dataclasses import replace
from typing import Any

import pytest

from joblet_agent.model.profile import Profile
from joblet_agent.systemd.properties import LAUNCHER, unit_properties
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
    told = unit_properties(replace(plan(), profile=profile), replace(settings(257), host_namespaces=HOST))
    argv = next(entry.value for entry in told if entry.name == "ExecStart")
    word = ["privileged"] if profile is Profile.PRIVILEGED else []
    assert argv == [[LAUNCHER, [LAUNCHER, "100001", "100001", "1", *HOST, *word], False]]
