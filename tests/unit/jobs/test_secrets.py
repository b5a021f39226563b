"""Secrets on their way to a job: who may read them, and that they go."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from joblet_agent.config import JobsConfig
from joblet_agent.errors import HostUnavailable, StoreFailed
from joblet_agent.jobs.secrets import SecretKeeper, deliver_files
from joblet_agent.model.job import JobRecord, JobSpec, JobState
from joblet_agent.model.secrets import Secrets
from tests.unit.jobs.rig import CALLER, Core, Host, until, with_core

SECRETS = Secrets({"KEY": "s3cr3t-välue\n\0"}, {"key.pem": b"s3cr3t\xff\0", "empty": b""})
SENDABLE = Secrets({"KEY": "s3cr3t"}, {"key.pem": b"s3cr3t\xff"})
ONE_AT_A_TIME = JobsConfig(max_concurrent=1)
UID = 1_879_048_192


@pytest.fixture
def keeper(tmp_path: Path) -> SecretKeeper:
    for name in ("fleeting", "lasting"):
        (tmp_path / name).mkdir()
    return SecretKeeper(fleeting=tmp_path / "fleeting", lasting=tmp_path / "lasting")


def files_below(*directories: Path) -> list[Path]:
    found = (file for directory in directories for file in directory.rglob("*"))
    return [file for file in found if file.is_file() and not file.is_symlink()]


@pytest.mark.parametrize("lasting", [True, False])
def test_what_is_put_is_there_for_root_alone_until_it_is_discarded(
    keeper: SecretKeeper, tmp_path: Path, lasting: bool
) -> None:
    keeper.put("job", SECRETS, lasting=lasting)
    (file,) = files_below(tmp_path)
    assert file == tmp_path / ("lasting" if lasting else "fleeting") / "job"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert keeper.get("job") == SECRETS
    keeper.discard("job")
    assert files_below(tmp_path) == []
    keeper.discard("job")


def test_text_of_secrets_shows_none() -> None:
    assert "s3cr3t" not in f"{SECRETS} {SECRETS!r}"


def test_missing_and_damaged_secrets_are_told_without_their_content(
    keeper: SecretKeeper, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="its secrets are gone"):
        keeper.get("job")
    for damaged in (b"s3cr3t", b'["s3cr3t"]', b'{"environment": {}}', b"\xff"):
        (tmp_path / "lasting" / "job").write_bytes(damaged)
        with pytest.raises(OSError, match="its secrets are damaged") as caught:
            keeper.get("job")
        assert "s3cr3t" not in str(caught.value)


def test_a_write_that_fails_leaves_nothing(
    keeper: SecretKeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        keeper.put("job", SECRETS, lasting=True)
    assert files_below(tmp_path) == []


def test_a_quarter_of_the_tmpfs_stays_free(
    keeper: SecretKeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=26, f_frsize=1, f_blocks=100))
    with pytest.raises(OSError, match="No space left"):
        keeper.put("job", SECRETS, lasting=False)
    with pytest.raises(OSError, match="No space left"):
        deliver_files(tmp_path / "credentials", {"a": b"xx"}, UID)
    deliver_files(tmp_path / "credentials", {"a": b"x"}, UID)
    keeper.put("job", SECRETS, lasting=True)


def test_a_new_agent_discards_what_nobody_starts(keeper: SecretKeeper, tmp_path: Path) -> None:
    for lasting in (True, False):
        keeper.put(f"wanted-{lasting}", SECRETS, lasting=lasting)
        keeper.put(f"orphan-{lasting}", SECRETS, lasting=lasting)
    (tmp_path / "lasting" / "wanted-True.new").write_bytes(b"half of it")
    keeper.discard_all_but({"wanted-True", "wanted-False"})
    assert sorted(file.name for file in files_below(tmp_path)) == ["wanted-False", "wanted-True"]


def test_files_are_for_the_jobs_user_and_cannot_be_changed(tmp_path: Path) -> None:
    directory = tmp_path / "credentials"
    for uid in (UID + 1, UID):  # the second takes the place of an interrupted start
        deliver_files(directory, SECRETS.files, uid)
    for path, mode in ((directory, 0o500), (directory / "key.pem", 0o400), (directory / "empty", 0o400)):
        status = path.stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (mode, UID, UID)
    assert (directory / "key.pem").read_bytes() == b"s3cr3t\xff\0"


# -- in the life of a job --------------------------------------------------------------------------------


def secret_files(host: Host) -> list[Path]:
    """Every file that has a secret in it."""
    found = files_below(host.paths.state_dir, host.paths.run_dir)
    return [file for file in found if file.name == "key.pem" or b"s3cr3t" in content(file)]


def content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:  # a moment ago
        return b""


async def run(core: Core, command: str = "sleep", *args: str, **more: Any) -> JobRecord:
    return await core.service.run(JobSpec(command, args), CALLER, secrets=SENDABLE, **more)


def test_c3_a_job_gets_its_secrets_and_its_record_only_the_names(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await run(core)
        own = core.host.paths.job(job.id)
        plan = core.host.units.plans[job.id]
        assert plan.environment["KEY"] == "s3cr3t"
        assert plan.environment["CREDENTIALS_DIRECTORY"] == "/run/secrets"
        assert plan.credentials == own.credentials
        assert "s3cr3t" not in repr(plan)
        assert (job.spec.secret_environment, job.spec.secret_files) == (("KEY",), ("key.pem",))
        await until(lambda: secret_files(core.host) == [own.credentials / "key.pem"])
        core.host.units.end(job.id, "exited", 0)
        await core.ended(job.id)
        assert secret_files(core.host) == []
        assert not own.credentials.exists()

    host = with_core(tmp_path, case)
    assert "s3cr3t" not in repr(host.store.history)


def test_c3_an_explanation_shows_stars(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await run(core)
        seen: list[Any] = []
        core.host.units.explain = seen.append  # type: ignore[method-assign,assignment]
        await core.service.explain(job.id)
        assert seen[0].environment["KEY"] == "***"
        await core.service.stop(job.id, force=False)

    with_core(tmp_path, case)


def test_secrets_of_a_waiting_job_are_on_disk_until_it_starts(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        first = await core.run("sleep")
        job = await run(core)
        assert job.state is JobState.PENDING
        assert secret_files(core.host) == [core.host.paths.waiting_secrets / job.id]
        core.host.units.end(first.id, "exited", 0)
        own = core.host.paths.job(job.id)
        await until(lambda: secret_files(core.host) == [own.credentials / "key.pem"])
        assert core.host.units.plans[job.id].environment["KEY"] == "s3cr3t"
        await core.service.stop(job.id, force=False)

    assert secret_files(with_core(tmp_path, case, jobs=ONE_AT_A_TIME)) == []


def test_secrets_of_a_withdrawn_job_go(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        first = await core.run("sleep")
        job = await run(core)
        await core.service.cancel(job.id)
        assert secret_files(core.host) == []
        await core.service.stop(first.id, force=False)

    with_core(tmp_path, case, jobs=ONE_AT_A_TIME)


@pytest.mark.parametrize("waits", [False, True])
def test_secrets_of_a_job_that_cannot_be_recorded_go(tmp_path: Path, waits: bool) -> None:
    async def case(core: Core) -> None:
        if waits:
            first = await core.run("sleep")
        core.host.store.failures_left = 1
        with pytest.raises(StoreFailed):
            await run(core)
        assert secret_files(core.host) == []
        if waits:
            await core.service.stop(first.id, force=False)

    with_core(tmp_path, case, jobs=ONE_AT_A_TIME)


@pytest.mark.parametrize("command", ["refused", "missing"])
def test_secrets_of_a_job_that_does_not_start_go(tmp_path: Path, command: str) -> None:
    async def case(core: Core) -> None:
        if command == "refused":
            with pytest.raises(Exception, match="refused"):
                await run(core, command)
        else:
            await core.ended((await run(core, command)).id)
        assert secret_files(core.host) == []

    with_core(tmp_path, case)


def test_secrets_that_cannot_be_stored_make_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(SecretKeeper, "put", fail)

    async def case(core: Core) -> None:
        with pytest.raises(HostUnavailable, match="its secrets cannot be stored: No space left") as caught:
            await run(core)
        assert caught.value.reason == "CANNOT_STORE_SECRETS"

    assert with_core(tmp_path, case).records == []


def lose(core: Core, job: JobRecord) -> None:
    (core.host.paths.waiting_secrets / job.id).unlink()


def damage(core: Core, job: JobRecord) -> None:
    (core.host.paths.waiting_secrets / job.id).write_bytes(b"{")


@pytest.mark.parametrize(("harm", "text"), [(lose, "gone"), (damage, "damaged")])
def test_a_job_without_its_secrets_does_not_start(
    tmp_path: Path, harm: Callable[[Core, JobRecord], None], text: str
) -> None:
    async def case(core: Core) -> None:
        first = await core.run("sleep")
        job = await run(core)
        harm(core, job)
        core.host.units.end(first.id, "exited", 0)
        ended = await core.ended(job.id)
        assert ended.outcome
        assert ended.outcome.message == f"cannot prepare the files of the job: its secrets are {text}"

    with_core(tmp_path, case, jobs=ONE_AT_A_TIME)
