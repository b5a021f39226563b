"""Runtimes as tests make them: a static busybox in an archive that only the standard library has touched."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.agent import Client
from tests.e2e.host import rnx, rnx_json, said

STORE = Path("/var/lib/joblet/runtimes")
BUSYBOX = Path("/bin/busybox")
ENVIRONMENT = ("PATH=/bin", "FROM_IMAGE=yes")
APPLETS = (
    "cat",
    "echo",
    "env",
    "false",
    "find",
    "grep",
    "id",
    "ls",
    "md5sum",
    "mkdir",
    "mount",
    "nslookup",
    "ps",
    "readlink",
    "sh",
    "sleep",
    "stty",
    "test",
    "touch",
    "true",
    "tty",
    "wc",
)


def archive(
    path: Path,
    files: Mapping[str, bytes] | None = None,
    *,
    links: Mapping[str, str] | None = None,
    environment: tuple[str, ...] = ENVIRONMENT,
    labels: Mapping[str, str] | None = None,
    busybox: Path = BUSYBOX,
) -> Path:
    """Write an OCI archive with busybox and more files; ``labels`` go behind org.joblet.runtime."""
    layer = _tar(
        {"bin/busybox": busybox.read_bytes(), **(files or {})},
        {**{f"bin/{name}": "busybox" for name in APPLETS}, **(links or {})},
    )
    blobs = {_digest(layer): layer}
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Env": list(environment),
                "Labels": {f"org.joblet.runtime.{key}": text for key, text in (labels or {}).items()},
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_digest(layer)}"]},
        }
    )
    blobs[_digest(config)] = config
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _told("application/vnd.oci.image.config.v1+json", config),
            "layers": [_told("application/vnd.oci.image.layer.v1.tar", layer)],
        }
    )
    blobs[_digest(manifest)] = manifest
    index = _json(
        {
            "schemaVersion": 2,
            "manifests": [_told("application/vnd.oci.image.manifest.v1+json", manifest)],
        }
    )
    names = {f"blobs/sha256/{digest}": content for digest, content in blobs.items()}
    path.write_bytes(
        _tar({"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index, **names}, {})
    )
    return path


@contextmanager
def imported(
    directory: Path,
    name: str = "busybox",
    version: str = "1.0.0",
    *,
    files: Mapping[str, bytes] | None = None,
    links: Mapping[str, str] | None = None,
    environment: tuple[str, ...] = ENVIRONMENT,
) -> Iterator[str]:
    """Have a runtime within the block; yield NAME@VERSION."""
    more = {"etc/who": f"{name} {version}\n".encode(), **(files or {})}
    path = archive(directory / f"{name}-{version}.tar", more, links=links, environment=environment)
    said(0, "runtime", "import", str(path), f"--name={name}", f"--version={version}")
    try:
        yield f"{name}@{version}"
    finally:
        rnx("runtime", "remove", "--force", f"{name}@{version}")


def in_runtime(client: Client, runtime: str, script: str, state: str = "COMPLETED", **fields: Any) -> str:
    """Run a shell script in a job with the runtime, and return its output."""
    job_id = client.run("sh", "-c", script, runtime=runtime, **fields)
    status, log = client.ended(job_id), client.log(job_id).decode()
    assert status.status == state, (status.message, log)
    return log


def digest_of(runtime: str) -> str:
    """Return the digest of an installed runtime."""
    return str(rnx_json("runtime", "info", runtime)["digest"])


def tree_of(runtime: str) -> Path:
    """Return the tree of an installed runtime."""
    return STORE / "trees" / digest_of(runtime)


def trees() -> set[str]:
    """Return the digests that the store has trees of."""
    return {path.name for path in (STORE / "trees").iterdir()}


def staged() -> list[str]:
    """Return what is under way in the store."""
    return sorted(path.name for path in (STORE / "staging").iterdir())


def _tar(files: Mapping[str, bytes], links: Mapping[str, str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
        for name, target in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return stream.getvalue()


def _json(document: object) -> bytes:
    return json.dumps(document).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _told(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": f"sha256:{_digest(content)}", "size": len(content)}
