"""Which isolation a job gets, who may ask for it, and that what is switched off stays off: attack case B9."""

import asyncio
from pathlib import Path

import pytest

from joblet_agent.config import JobsConfig, ProfilesConfig
from joblet_agent.errors import InvalidRequest, JobletError, NotOffered, NotPermitted
from joblet_agent.jobs.profiles import Profiles
from joblet_agent.model.identity import Identity, Role
from joblet_agent.model.job import JobSpec, JobState, Reason
from joblet_agent.model.profile import Profile
from tests.unit.jobs.rig import CALLER, Core, Host, until

ADMIN, OPERATOR = Identity("a", Role.ADMIN), Identity("o", Role.OPERATOR)
EVERY = ProfilesConfig(privileged=True)
ONE_AT_A_TIME = JobsConfig(max_concurrent=1)


def profiles(switches: ProfilesConfig = EVERY, standard: Profile = Profile.DEFAULT) -> Profiles:
    return Profiles(JobsConfig(default_profile=standard), switches)


def test_a_job_that_asks_for_none_gets_the_nodes_own() -> None:
    assert profiles().admit("", OPERATOR) is Profile.DEFAULT
    assert profiles(standard=Profile.STRICT).admit("", OPERATOR) is Profile.STRICT
    assert profiles().admit("strict", OPERATOR) is Profile.STRICT


def test_privileged_is_for_administrators() -> None:
    assert profiles().admit("privileged", ADMIN) is Profile.PRIVILEGED
    for role in set(Role) - {Role.ADMIN}:
        with pytest.raises(NotPermitted) as caught:
            profiles().admit("privileged", Identity("x", role))
        assert caught.value.reason == "PROFILE_NOT_PERMITTED"


def test_privileged_is_off_unless_somebody_switched_it_on() -> None:
    with pytest.raises(NotOffered) as caught:
        profiles(ProfilesConfig()).admit("privileged", ADMIN)
    assert caught.value.reason == "PROFILE_NOT_OFFERED"
    assert "profiles.privileged: true" in (caught.value.hint or "")


@pytest.mark.parametrize("wanted", ["Default", "PRIVILEGED", " strict", "root", "x" * 10_000, "\0", "\udc80"])
def test_other_names_are_refused_and_the_known_ones_told(wanted: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        profiles().admit(wanted, ADMIN)
    assert caught.value.reason == "UNKNOWN_PROFILE"
    assert len(str(caught.value)) < 200
    assert caught.value.hint == "profiles are: default, strict, privileged"


@pytest.mark.parametrize("profile", Profile)
def test_b9_every_profile_can_be_switched_off(profile: Profile) -> None:
    switches = ProfilesConfig(**{"privileged": True, profile.value: False})
    with pytest.raises(NotOffered) as caught:
        profiles(switches).admit(profile, ADMIN)
    assert caught.value.reason == "PROFILE_NOT_OFFERED"


def test_b9_a_job_that_waited_while_its_profile_was_switched_off_fails(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def main() -> None:
        before = Core(host, jobs=ONE_AT_A_TIME, profiles=EVERY)
        await before.open()
        first = await before.run("sleep")
        waiting = await before.service.run(JobSpec("sleep", profile="privileged"), CALLER)
        await before.close()
        after = Core(host, jobs=ONE_AT_A_TIME, profiles=ProfilesConfig())
        await after.open()
        host.units.end(first.id, "exited", 0)
        outcome = (await after.ended(waiting.id)).outcome
        await after.close()
        assert outcome is not None
        assert (outcome.state, outcome.reason) == (JobState.FAILED, Reason.START_FAILED)
        assert "the profile privileged is switched off" in outcome.message
        assert host.units.starts == [first.id]

    asyncio.run(main())


def test_b9_what_runs_already_goes_on(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def main() -> None:
        before = Core(host, profiles=EVERY)
        await before.open()
        job = await before.service.run(JobSpec("sleep", profile="privileged"), CALLER)
        await before.close()
        after = Core(host, profiles=ProfilesConfig())
        await after.open()
        assert await after.state(job.id) is JobState.RUNNING
        await after.close()

    asyncio.run(main())


def test_privileged_jobs_are_root_and_take_no_uid(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def main() -> None:
        core = Core(host, profiles=EVERY)
        await core.open()
        job = await core.service.run(JobSpec("sleep", profile="privileged"), CALLER)
        assert (job.uid, job.spec.profile) == (0, "privileged")
        free = core.free_uids()
        assert free == core.config.jobs.uid_count
        host.units.end(job.id, "exited", 0)
        await until(lambda: core.registry.get(job.id) is None)
        await core.close()

    asyncio.run(main())


def test_a_refused_profile_leaves_nothing(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def main() -> None:
        core = Core(host, profiles=ProfilesConfig(default=False))
        await core.open()
        for profile, caller in (
            ("", CALLER),
            ("privileged", CALLER),
            ("privileged", OPERATOR),
            ("x", CALLER),
        ):
            with pytest.raises(JobletError):
                await core.service.run(JobSpec("sleep", profile=profile), caller)
        await core.close()

    asyncio.run(main())
    assert host.calls == []
