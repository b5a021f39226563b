"""skopeo and umoci of Debian read what is exported here, and what they write is read here."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from joblet_agent.errors import InvalidRequest
from joblet_agent.model.runtime import RuntimeFacts
from joblet_agent.runtimes.digest import digest_of_tree
from joblet_agent.runtimes.normalise import normalise
from joblet_agent.runtimes.oci.reading import unpack
from joblet_agent.runtimes.oci.writing import pack

pytestmark = pytest.mark.compat

_COPY = ("skopeo", "--insecure-policy", "copy", "-q")


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _unpacked(archive: Path, into: Path) -> str:
    into.mkdir()
    asyncio.run(unpack(archive, into, most_bytes=0))
    into.chmod(0o755)
    return digest_of_tree(into)


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "usr/lib").mkdir(parents=True)
    (tree / "usr/lib/large").write_bytes(os.urandom(3 << 20))
    (tree / "usr/lib/same").write_bytes(b"same")
    (tree / "usr/lib" / ("n" * 180)).write_text("a long name")
    (tree / "usr/lib/é").write_text("a name that is not ASCII")
    (tree / "lib").symlink_to("usr/lib")
    (tree / "far").symlink_to("/" + "far/" * 60)
    normalise(tree)
    return tree


@pytest.fixture(name="archive")
def _archive(tree: Path) -> Path:
    facts = RuntimeFacts("tool", "1.0.0", environment={"A": "1", "PATH_PREPEND": "/opt/runtime/bin"})
    asyncio.run(pack(tree, facts, digest_of_tree(tree), tree.parent / "tool.tar"))
    return tree.parent / "tool.tar"


def test_skopeo_and_umoci_find_the_same_tree(tree: Path, archive: Path, tmp_path: Path) -> None:
    assert f'"org.joblet.runtime.digest": "{digest_of_tree(tree)}"' in _run(
        "skopeo", "inspect", f"oci-archive:{archive}"
    )
    _run(*_COPY, f"oci-archive:{archive}", f"oci:{tmp_path / 'layout'}:1.0.0")
    _run("umoci", "unpack", "--image", f"{tmp_path / 'layout'}:1.0.0", str(tmp_path / "bundle"))
    assert digest_of_tree(tmp_path / "bundle" / "rootfs") == digest_of_tree(tree)


@pytest.mark.parametrize("form", ["oci-archive:{}", "docker-archive:{}:tool:1"])
def test_what_skopeo_writes_is_the_same_tree(tree: Path, archive: Path, tmp_path: Path, form: str) -> None:
    _run(*_COPY, f"oci-archive:{archive}", form.format(tmp_path / "copy.tar"))
    assert _unpacked(tmp_path / "copy.tar", tmp_path / "into") == digest_of_tree(tree)


def test_layers_and_whiteouts_of_umoci_are_understood(tree: Path, archive: Path, tmp_path: Path) -> None:
    image, bundle = f"{tmp_path / 'layout'}:1.0.0", tmp_path / "bundle"
    _run(*_COPY, f"oci-archive:{archive}", f"oci:{image}")
    _run("umoci", "unpack", "--image", image, str(bundle))
    (bundle / "rootfs/usr/lib/large").unlink()
    (bundle / "rootfs/usr/lib/same").write_bytes(b"other")
    (bundle / "rootfs/usr/lib/new").mkdir()
    _run("umoci", "repack", "--image", image, str(bundle))
    _run(*_COPY, f"oci:{image}", f"oci-archive:{tmp_path / 'copy.tar'}")
    assert _unpacked(tmp_path / "copy.tar", tmp_path / "into") == digest_of_tree(bundle / "rootfs")


def test_the_way_out_for_zstd_is_one(tree: Path, archive: Path, tmp_path: Path) -> None:
    _run(*_COPY, "--dest-decompress", f"oci-archive:{archive}", f"dir:{tmp_path / 'plain'}")
    zstd, gzip = tmp_path / "zstd.tar", tmp_path / "gzip.tar"
    _run(
        *_COPY,
        "--dest-compress",
        "--dest-compress-format",
        "zstd",
        f"dir:{tmp_path / 'plain'}",
        f"oci-archive:{zstd}",
    )
    with pytest.raises(InvalidRequest, match="zstd") as caught:
        _unpacked(zstd, tmp_path / "none")
    assert "skopeo copy --dest-compress-format gzip" in (caught.value.hint or "")
    _run(*_COPY, "--dest-compress-format", "gzip", f"oci-archive:{zstd}", f"oci-archive:{gzip}")
    assert _unpacked(gzip, tmp_path / "into") == digest_of_tree(tree)
