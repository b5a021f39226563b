"""Images of registries, fetched by skopeo(1): as a step in a unit of its own, as nobody in particular.

The step sees the host's programs, the network, and what it is given: the host's configuration of registries
(containers-registries.conf(5)) and, if the agent's configuration names one, a file with credentials
(containers-auth.json(5)). What it fetches goes to a space of its own, which goes when the image is unpacked.
"""

import asyncio
import os
import re
import secrets
import shlex
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from joblet_agent.config.values import RuntimesConfig
from joblet_agent.errors import (
    HostUnavailable,
    InvalidRequest,
    JobletError,
    LaunchFailed,
    LimitReached,
    NotFound,
)
from joblet_agent.runtimes.build.means import UnpackedImage
from joblet_agent.runtimes.build.step import (
    CA_FILE,
    INPUTS,
    SPACE,
    BuildPlace,
    BuildStep,
    BuildUnits,
    StepEnd,
    StepKind,
)
from joblet_agent.runtimes.disk import disk_errors
from joblet_agent.runtimes.oci.blobs import DIGEST
from joblet_agent.runtimes.oci.labels import allowed_variables
from joblet_agent.runtimes.oci.reading import unpack
from joblet_agent.runtimes.oci.refusals import shown

__all__ = ["FetchedImage", "Skopeo"]

_REFERENCE: Final = re.compile(
    r"docker://(?P<name>[a-z0-9.-]+(?::[0-9]{1,5})?(?:/[a-z0-9._-]+)+)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_MOST_INPUT: Final = 1 << 20
_REGISTRIES: Final = Path("/etc/containers/registries.conf")
_SCRIPT: Final = r"""
export HOME={space} TMPDIR={space}
set -- --insecure-policy --registries-conf {inputs}/registries.conf --tmpdir {space}
auth=
if [ -s {inputs}/auth.json ]; then auth="--authfile {inputs}/auth.json"; fi
digest={digest}
if [ -z "$digest" ]; then
    skopeo "$@" inspect --raw $auth docker://{name}:{tag} > {space}/manifest
    digest=sha256:$(sha256sum {space}/manifest | cut -d ' ' -f 1)
fi
skopeo "$@" copy -q $auth --dest-compress-format gzip docker://{name}@"$digest" oci-archive:{space}/image.tar
echo "$digest" > {space}/digest
"""
"""A tag is resolved first, as the archive may have another manifest: the digest is that of the registry's."""
_MESSAGE: Final = re.compile(r'level=fatal msg="(.*)"')
_CREDENTIALS: Final = re.compile(r"unauthorized|authentication required|denied|invalid user", re.IGNORECASE)
_UNKNOWN: Final = re.compile(r"manifest unknown|not found|name unknown", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FetchedImage:
    """An image in its space."""

    archive: Path
    digest: str
    """Of the manifest or index in the registry, ``sha256:…``."""


class Skopeo:
    """Fetches images; nothing of it is left afterwards, or else goes with the agent's next start."""

    def __init__(self, units: BuildUnits, config: RuntimesConfig, host: Path = Path("/")) -> None:
        """``host`` is where the host's files are."""
        self._units = units
        self._config = config
        self._host = host

    async def unpack(self, reference: str, into: Path, *, most_bytes: int) -> UnpackedImage:
        """Fill the empty directory with what is in the image.

        Raises as ``fetched`` and as oci.reading.unpack. Cancel-able.
        """
        async with self.fetched(reference) as image:
            facts = await unpack(image.archive, into, most_bytes=most_bytes)
            notes = list(facts.notes)
            environment = allowed_variables(facts.environment, notes.append)
            return UnpackedImage(image.digest, environment, tuple(notes))

    @asynccontextmanager
    async def fetched(
        self, reference: str, on_line: Callable[[str], None] = lambda _: None
    ) -> AsyncIterator[FetchedImage]:
        """Give the image ``docker://NAME[:TAG][@sha256:…]`` as an OCI archive, until the end of the block.

        Raises InvalidRequest, NotFound (RUNTIME_IMAGE_UNKNOWN), LimitReached (RUNTIME_TOO_LARGE),
        LaunchFailed (RUNTIME_TOOL_MISSING, RUNTIME_IMAGE_FAILED), HostUnavailable.
        """
        script = _script(reference)
        inputs = await asyncio.to_thread(self._inputs)
        image_id = f"image{secrets.token_hex(8)}"
        try:
            # What it fetches is there twice for a moment: part by part, and as an archive.
            place = await self._units.open_place(image_id, size=2 * self._config.max_size)
            end = await self._units.run(self._step(place, script, inputs), on_line)
            if not end.is_success:
                raise _failure(reference, end)
            yield await asyncio.to_thread(_found, place, reference)
        finally:
            await asyncio.shield(self._units.close_place(image_id))

    def _step(self, place: BuildPlace, script: str, inputs: dict[str, str]) -> BuildStep:
        environment = {}
        if self._config.ca_file is not None:
            environment["SSL_CERT_FILE"] = CA_FILE
        if self._config.proxy:
            environment |= dict.fromkeys(("http_proxy", "https_proxy"), self._config.proxy)
            environment["no_proxy"] = ",".join(("localhost", "127.0.0.1", "::1", *self._config.no_proxy))
        return BuildStep(
            name="fetch",
            kind=StepKind.PACKAGES,
            place=place,
            script=script,
            inputs=inputs,
            environment=environment,
            deadline=self._config.max_time,
            ca_file=self._config.ca_file,
        )

    def _inputs(self) -> dict[str, str]:
        if not (self._host / "usr/bin/skopeo").exists():
            raise LaunchFailed(
                "cannot fetch an image: this host has no skopeo",
                reason="RUNTIME_TOOL_MISSING",
                hint="apt install skopeo; or fetch the archive elsewhere, and import it",
            )
        inputs = {"registries.conf": ""}
        with disk_errors(f"read {_REGISTRIES}"), suppress(FileNotFoundError):
            inputs["registries.conf"] = _short_text(self._host / _REGISTRIES.relative_to("/"))
        if self._config.auth_file is not None:
            with disk_errors(f"read {self._config.auth_file} (runtimes.auth_file)"):
                inputs["auth.json"] = _short_text(self._config.auth_file)
        return inputs


def _script(reference: str) -> str:
    """Return the step's script; nothing of the reference but what fits the pattern is in it."""
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise InvalidRequest(
            f"cannot fetch {shown(reference)}: it is no image of a registry",
            reason="RUNTIME_IMAGE_INVALID",
            hint="docker://REGISTRY/NAME@sha256:DIGEST",
        )
    words = {key: shlex.quote(match[key] or "") for key in ("name", "digest")}
    return _SCRIPT.format(space=SPACE, inputs=INPUTS, tag=match["tag"] or "latest", **words)


def _short_text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MOST_INPUT).decode("utf-8", "replace")


def _found(place: BuildPlace, reference: str) -> FetchedImage:
    """Return what the step has left, in which its user may have put anything; it has ended."""
    archive, digest = place.space / "image.tar", ""
    with suppress(OSError):
        file = os.open(place.space / "digest", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            digest = os.read(file, 100).decode("ascii", "replace").strip()
        finally:
            os.close(file)
        if DIGEST.fullmatch(digest) and stat.S_ISREG(os.lstat(archive).st_mode):
            return FetchedImage(archive, digest)
    raise LaunchFailed(f"cannot fetch {reference}: skopeo has left no archive", reason="RUNTIME_IMAGE_FAILED")


def _failure(reference: str, end: StepEnd) -> JobletError:
    last = end.last_lines[-1] if end.last_lines else end.result
    match = _MESSAGE.search(last)
    said = shown(match[1].replace('\\"', "'") if match else last)
    text = f"cannot fetch {reference}: {said}"
    if end.is_full:
        return LimitReached(
            f"cannot fetch {reference}: it does not fit into the space that there is",
            reason="RUNTIME_TOO_LARGE",
            hint="make room on the disk of the agent's state directory, or see runtimes.max_size",
        )
    if end.result in {"timeout", "stopped", "gone"}:
        return HostUnavailable(text, reason="RUNTIME_IMAGE_FAILED", hint="runtimes.max_time is the longest")
    if _CREDENTIALS.search(said):
        return LaunchFailed(
            text,
            reason="RUNTIME_IMAGE_FAILED",
            hint="credentials are in a file that runtimes.auth_file names (skopeo login --authfile FILE)",
        )
    if _UNKNOWN.search(said):
        return NotFound(text, reason="RUNTIME_IMAGE_UNKNOWN", hint="compare name and digest")
    return HostUnavailable(text, reason="RUNTIME_IMAGE_FAILED", hint="try again, or fetch it by hand: skopeo")
