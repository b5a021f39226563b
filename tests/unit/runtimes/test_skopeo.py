"""Images of registries: what the step is given, and what is made of its end. The step itself: tests/e2e."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from joblet_agent.config.values import RuntimesConfig
from joblet_agent.errors import InvalidRequest, JobletError
from joblet_agent.runtimes.build.means import UnpackedImage
from joblet_agent.runtimes.build.step import BuildStep, StepEnd
from joblet_agent.runtimes.skopeo import Skopeo
from tests.fakes.builds import SUCCESS, FakeBuildUnits
from tests.unit.runtimes.oci.images import archive_of, file, layer

_DIGEST = "sha256:" + "ab" * 32
_REFERENCE = f"docker://registry.example:5000/python/slim@{_DIGEST}"


class _Host:
    def __init__(self, root: Path) -> None:
        self.units = FakeBuildUnits(root / "builds")
        self.root = root / "host"
        (self.root / "usr/bin").mkdir(parents=True)
        (self.root / "usr/bin/skopeo").touch()
        (root / "tree").mkdir()
        self.tree = root / "tree"
        self.steps: list[BuildStep] = []

    def unpack(
        self, does: Callable[[BuildStep], StepEnd], config: RuntimesConfig | None = None, of: str = _REFERENCE
    ) -> UnpackedImage:
        """Let the step do that; afterwards nothing is left of it."""

        def step(step: BuildStep) -> StepEnd:
            self.steps.append(step)
            return does(step)

        self.units.does["fetch"] = step
        skopeo = Skopeo(self.units, config or RuntimesConfig(), self.root)
        try:
            return asyncio.run(skopeo.unpack(of, self.tree, most_bytes=1 << 20))
        finally:
            assert asyncio.run(self.units.places()) == ()

    def refused(self, end: StepEnd, of: str = _REFERENCE) -> JobletError:
        with pytest.raises(JobletError) as caught:
            self.unpack(lambda _: end, of=of)
        return caught.value


@pytest.fixture(name="host")
def _host(tmp_path: Path) -> _Host:
    return _Host(tmp_path)


def _leave_image(step: BuildStep) -> StepEnd:
    archive_of(
        step.place.space / "image.tar", layer(file("a", b"1")), Env=["A=of the image", "LD_PRELOAD=x.so"]
    )
    (step.place.space / "digest").write_text(f"{_DIGEST}\n")
    return SUCCESS


def test_an_image_becomes_a_tree(host: _Host) -> None:
    image = host.unpack(_leave_image)
    assert (image.digest, image.environment) == (_DIGEST, {"A": "of the image"})
    assert any("LD_PRELOAD" in note for note in image.notes)
    assert (host.tree / "a").read_text() == "1"
    (step,) = host.steps
    assert "docker://{name}".format(name="registry.example:5000/python/slim") in step.script
    assert _DIGEST in step.script
    assert step.inputs == {"registries.conf": ""}


def test_credentials_and_registries_are_given_to_the_step_alone(host: _Host, tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text('{"auths": {"registry.example": {"auth": "c2VjcmV0"}}}')
    (host.root / "etc/containers").mkdir(parents=True)
    (host.root / "etc/containers/registries.conf").write_text("# of the host\n")
    host.unpack(_leave_image, RuntimesConfig(auth_file=tmp_path / "auth.json", proxy="http://proxy:3128"))
    (step,) = host.steps
    assert "c2VjcmV0" in step.inputs["auth.json"]
    assert "c2VjcmV0" not in step.script
    assert step.inputs["registries.conf"] == "# of the host\n"
    assert step.environment["https_proxy"] == "http://proxy:3128"


def test_without_skopeo_the_package_is_named(host: _Host) -> None:
    (host.root / "usr/bin/skopeo").unlink()
    error = host.refused(SUCCESS)
    assert (error.reason, "apt install skopeo" in (error.hint or "")) == ("RUNTIME_TOOL_MISSING", True)
    assert host.steps == []


@pytest.mark.parametrize(
    "reference",
    [
        "docker://python",
        "oci-archive:/etc/shadow",
        "docker://registry.example/a b",
        "docker://registry.example/a$(id)",
        "docker://registry.example/a'; id; '",
        "docker://registry.example/a@sha256:0",
        f"docker://user:word@registry.example/a@{_DIGEST}",
        "docker://registry.example/a:1\n",
        "",
    ],
)
def test_what_is_no_image_of_a_registry_starts_nothing(host: _Host, reference: str) -> None:
    assert host.refused(SUCCESS, reference).reason == "RUNTIME_IMAGE_INVALID"
    assert host.steps == []


@pytest.mark.parametrize(
    ("said", "result", "reason"),
    [
        ("manifest unknown: manifest unknown", "exit-code", "RUNTIME_IMAGE_UNKNOWN"),
        ("unauthorized: authentication required", "exit-code", "RUNTIME_IMAGE_FAILED"),
        ("connection refused", "exit-code", "RUNTIME_IMAGE_FAILED"),
        ("", "timeout", "RUNTIME_IMAGE_FAILED"),
    ],
)
def test_a_failed_step_is_an_error_with_what_it_said(
    host: _Host, said: str, result: str, reason: str
) -> None:
    line = f'time="2026-03-01" level=fatal msg="Error reading \\"x\\": {said}"'
    error = host.refused(StepEnd(1, result, (line,)))
    assert error.reason == reason
    assert str(error) == f"cannot fetch {_REFERENCE}: Error reading 'x': {said}"


def test_a_full_space_is_an_image_too_large(host: _Host) -> None:
    error = host.refused(StepEnd(1, "exit-code", ("no space left on device",), is_full=True))
    assert error.reason == "RUNTIME_TOO_LARGE"


def test_links_that_a_step_leaves_are_not_followed(host: _Host, tmp_path: Path) -> None:
    (tmp_path / "digest").write_text(_DIGEST)
    archive_of(tmp_path / "image.tar", layer(file("a", b"1")))

    def leave(name: str, other: str) -> Callable[[BuildStep], StepEnd]:
        def step(step: BuildStep) -> StepEnd:
            _leave_image(step)
            (step.place.space / name).unlink()
            os.symlink(tmp_path / other, step.place.space / name)
            return SUCCESS

        return step

    for name in ("digest", "image.tar"):
        with pytest.raises(JobletError, match="left no archive"):
            host.unpack(leave(name, name))
    assert os.listdir(host.tree) == []


def test_a_hostile_image_is_refused_and_its_space_is_gone(host: _Host) -> None:
    def leave(step: BuildStep) -> StepEnd:
        _leave_image(step)
        archive_of(step.place.space / "image.tar", layer(file("../a", b"1")))
        return SUCCESS

    with pytest.raises(InvalidRequest, match=r"'\.\.'"):
        host.unpack(leave)


def test_a_fetch_that_nobody_wants_is_stopped_and_leaves_nothing(host: _Host) -> None:
    host.units.does["fetch"] = lambda _: None

    async def case() -> None:
        skopeo = Skopeo(host.units, RuntimesConfig(), host.root)
        task = asyncio.create_task(skopeo.unpack(_REFERENCE, host.tree, most_bytes=1 << 20))
        await host.units.started("fetch")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await host.units.places() == ()

    asyncio.run(case())
