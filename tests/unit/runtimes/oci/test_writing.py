"""Trees become archives: the same ones the same bytes, in a form that others read."""

import asyncio
import errno
import gzip
import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from joblet_agent.errors import HostUnavailable, InvalidRequest, StoreFailed
from joblet_agent.model.runtime import RuntimeFacts
from joblet_agent.runtimes.digest import digest_of_tree
from joblet_agent.runtimes.oci import writing
from joblet_agent.runtimes.oci.labels import facts_of, labels_of
from joblet_agent.runtimes.oci.reading import ImageFacts, unpack
from joblet_agent.runtimes.oci.writing import pack
from tests.unit.runtimes.oci.waiting import until

_DIGEST = "0123456789abcdef" * 4
_FACTS = RuntimeFacts(
    name="python-3.11",
    version="1.2.0",
    description="é",
    language="python",
    language_version="3.11",
    environment={"PATH_PREPEND": "/opt/runtime/bin", "A": "x=y"},
    packages=("numpy=1.26.2", "libc6=2.36-9"),
    architectures=(),
    needs_gpu=True,
    test="python -c 'import numpy'",
    definition="name: python-3.11\n",
    lock="suite: bookworm\n",
    base=_DIGEST,
    source="build",
    built_at=datetime(2026, 3, 1, tzinfo=UTC),
    built_with="joblet-agent 0.2.0",
    platform="debian-12",
)


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/python").write_bytes(os.urandom(700_000))
    (tree / "usr/bin/python").chmod(0o755)
    (tree / "usr/empty").touch()
    (tree / ("n" * 200)).mkdir()
    (tree / ("n" * 200) / ("m" * 200)).write_text("long")
    os.symlink("usr/bin", tree / "bin")
    os.symlink("t" * 300, tree / "long")
    os.symlink("/etc/passwd", tree / "out")
    Path(os.fsdecode(os.fsencode(tree) + b"/\xff\xc3\xa9")).write_text("bytes")
    (tree / "tmp").mkdir()
    (tree / "tmp").chmod(0o1777)
    return tree


def _packed(tree: Path, name: str = "a.tar", facts: RuntimeFacts = _FACTS) -> Path:
    archive = tree.parent / name
    asyncio.run(pack(tree, facts, _DIGEST, archive))
    return archive


def _unpacked(archive: Path) -> tuple[Path, ImageFacts]:
    into = archive.parent / "into"
    into.mkdir()
    return into, asyncio.run(unpack(archive, into, most_bytes=0))


def test_what_is_packed_comes_out_again(tree: Path) -> None:
    into, facts = _unpacked(_packed(tree))
    assert digest_of_tree(into) == digest_of_tree(tree)
    assert facts.environment["PATH"].startswith("/opt/runtime/bin:/usr/local/sbin:")
    assert facts.labels["org.joblet.runtime.digest"] == _DIGEST
    assert facts.notes == ()


def test_the_same_tree_gives_the_same_bytes(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "tree"
    other.mkdir(parents=True)
    asyncio.run(unpack(_packed(tree), other, most_bytes=0))
    os.utime(other / "usr", (1, 1))
    assert _packed(tree).read_bytes() == _packed(other, "b.tar").read_bytes()


def test_others_find_what_they_look_for(tree: Path) -> None:
    with tarfile.open(_packed(tree)) as archive:
        members = {info.name: archive.extractfile(info).read() for info in archive}  # type: ignore[union-attr]
    index = json.loads(members["index.json"])
    assert json.loads(members["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (described,) = index["manifests"]
    assert described["annotations"] == {"org.opencontainers.image.ref.name": "1.2.0"}
    manifest = _blob(members, described)
    config = _blob(members, manifest["config"])
    assert config["config"]["Labels"]["org.joblet.runtime.name"] == "python-3.11"
    (layer,) = manifest["layers"]
    content = gzip.decompress(members[f"blobs/sha256/{layer['digest'][7:]}"])
    assert config["rootfs"] == {
        "type": "layers",
        "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}"],
    }
    assert len(members) == 5


def _blob(members: dict[str, bytes], described: dict[str, Any]) -> Any:
    text = members[f"blobs/sha256/{described['digest'].removeprefix('sha256:')}"]
    assert (hashlib.sha256(text).hexdigest(), len(text)) == (described["digest"][7:], described["size"])
    return json.loads(text)


def test_facts_come_back_as_they_were() -> None:
    notes: list[str] = []
    found = facts_of(labels_of(_FACTS, _DIGEST), {"A": "of the image"}, notes.append, architecture="amd64")
    assert found == _with(_FACTS, architectures=("amd64",), source="import")
    assert notes == []


def _with(facts: RuntimeFacts, **changed: Any) -> RuntimeFacts:
    fields = {name: getattr(facts, name) for name in RuntimeFacts.__dataclass_fields__}
    return RuntimeFacts(**fields | changed)


def test_variables_that_no_runtime_sets_are_left_out() -> None:
    notes: list[str] = []
    given = {
        "LD_PRELOAD": "/x.so",
        "JOBLET_JOB_ID": "1",
        "B\n": "1",
        "": "1",
        "C": "1\n2",
        "D": "\0",
        "OK": "1",
    }
    found = facts_of({}, given, notes.append, architecture="amd64", name="x", version="1.0.0")
    assert found.environment == {"OK": "1"}
    assert len(notes) == 6
    assert not any("\n" in note or "\0" in note for note in notes)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({}, "RUNTIME_NAME_MISSING"),
        ({"name": "a"}, "RUNTIME_NAME_MISSING"),
        ({"name": "../../etc", "version": "1.0.0"}, "RUNTIME_ARCHIVE_REFUSED"),
        ({"name": "a", "version": "1/../.."}, "RUNTIME_ARCHIVE_REFUSED"),
        ({"name": "a", "version": "1.0.0", "description": "\x1b[31m"}, "RUNTIME_ARCHIVE_REFUSED"),
        ({"name": "a", "version": "1.0.0", "environment": "["}, "RUNTIME_ARCHIVE_BROKEN"),
        ({"name": "a", "version": "1.0.0", "environment": "[]"}, "RUNTIME_ARCHIVE_BROKEN"),
        ({"name": "a", "version": "1.0.0", "packages": '{"a": 1}'}, "RUNTIME_ARCHIVE_BROKEN"),
        ({"name": "a", "version": "1.0.0", "built-at": "now"}, "RUNTIME_ARCHIVE_BROKEN"),
    ],
)
def test_labels_that_cannot_be_are_refused(labels: dict[str, str], reason: str) -> None:
    said = {f"org.joblet.runtime.{key}": value for key, value in labels.items()}
    with pytest.raises(InvalidRequest) as caught:
        facts_of(said, {}, lambda _: None, architecture="amd64")
    assert caught.value.reason == reason


def test_a_full_disk_leaves_no_archive(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = writing._layer

    def full(place: Path) -> Iterator[bytes]:
        for number, piece in enumerate(real(place)):
            if number == 5:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            yield piece

    monkeypatch.setattr(writing, "_layer", full)
    with pytest.raises(HostUnavailable) as caught:
        _packed(tree)
    assert caught.value.reason == "RUNTIME_DISK_FULL"
    assert os.listdir(tree.parent) == ["tree"]


def test_a_damaged_tree_is_not_exported(tree: Path) -> None:
    os.mkfifo(tree / "usr/fifo")
    with pytest.raises(StoreFailed, match="usr/fifo"):
        _packed(tree)
    assert os.listdir(tree.parent) == ["tree"]


def test_an_export_that_nobody_wants_leaves_no_archive(tree: Path) -> None:
    (tree / "large").write_bytes(bytes(30 << 20))

    async def case() -> None:
        task = asyncio.create_task(pack(tree, _FACTS, _DIGEST, tree.parent / "a.tar"))
        await until((tree.parent / "a.tar").exists)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(case())
    assert os.listdir(tree.parent) == ["tree"]
