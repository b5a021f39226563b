"""Runtimes between hosts, and images of strangers: what comes is the same, or refused and gone."""

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.agent import Client, eventually, kill_agent, wait_for_agent
from tests.e2e.host import rnx, rnx_json, said
from tests.e2e.runtimes import STORE, digest_of, imported
from tests.unit.runtimes.oci.images import (
    Image,
    Item,
    archive_of,
    directory,
    docker_archive_of,
    file,
    hard_link,
    layer,
    link,
    members_of,
    special,
    write_archive,
)

pytestmark = pytest.mark.systemd

CARRIED = Path(__file__).parent / "recorded" / "carried-1.0.0.oci.tar"
"""What an agent on Debian 13 has exported."""
DIGEST = "7e96cac35f8d08bd972379fd750b75cb2a8cb9c6b892d5be13f3a3109db50651"


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """What is under way is in staging, and an error leaves neither that nor a name."""
    before = names()
    yield
    assert os.listdir(STORE / "staging") == []
    assert names() == before


def names() -> list[str]:
    return sorted(str(path.relative_to(STORE)) for path in (STORE / "names").rglob("*.json"))


@contextmanager
def carried(archive: Path, *words: str) -> Iterator[str]:
    said(0, "runtime", "import", str(archive), *words)
    try:
        yield "carried@1.0.0"
    finally:
        rnx("runtime", "remove", "--force", "carried@1.0.0")


def refused(archive: Path, text: str, *words: str) -> None:
    assert text in said(1, "runtime", "import", str(archive), *words)


def test_what_another_release_has_exported_has_its_digest_here(tmp_path: Path) -> None:
    with carried(CARRIED) as runtime:
        assert digest_of(runtime) == DIGEST
        shown = rnx_json("runtime", "info", runtime)
        assert shown["environment"] == {"PATH": "/usr/bin", "CARRIED": "yes"}
        said(0, "runtime", "verify", runtime)
        said(0, "runtime", "export", runtime, "-o", str(tmp_path / "again.tar"))
    with carried(tmp_path / "again.tar") as runtime:
        assert digest_of(runtime) == DIGEST


def test_the_image_that_it_was_made_of_has_the_same_digest(tmp_path: Path) -> None:
    image = archive_of(
        tmp_path / "image.tar",
        layer(
            directory("usr/bin"),
            link("bin", "usr/bin"),
            file("usr/bin/tool", b"#!/bin/sh\necho carried\n", 0o755),
            file("etc/who", b"carried\n"),
            file("usr/share/" + "long" * 40, b"x" * 3000),
            directory("var/spool", 0o1777),
            link("etc/localtime", "/usr/share/zoneinfo/UTC"),
            hard_link("usr/bin/again", "usr/bin/tool"),
        ),
        layer(file("etc/.wh.none"), file("etc/late", b"late\n")),
    )
    with carried(image, "--name=carried", "--version=1.0.0") as runtime:
        assert digest_of(runtime) == DIGEST


def test_a_changed_archive_is_refused(tmp_path: Path) -> None:
    content, changed = CARRIED.read_bytes(), tmp_path / "changed.tar"
    for at in (700, content.index(b"org.joblet.runtime.digest") + 30):
        changed.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        refused(changed, "cannot read image: ")
    for end in (700, len(content) // 2):
        changed.write_bytes(content[:end])
        refused(changed, "cannot read image: ")


def test_other_files_under_the_same_digest_are_refused(tmp_path: Path) -> None:
    labels = {f"org.joblet.runtime.{key}": value for key, value in _SAID.items()}
    archive = archive_of(tmp_path / "i", layer(file("usr/bin/tool", b"evil")), Labels=labels)
    refused(archive, f"its digest is to be {DIGEST[:12]}, and is ")


_SAID = {"name": "carried", "version": "1.0.0", "digest": DIGEST}


def test_another_runtime_is_not_replaced_unawares(tmp_path: Path) -> None:
    with carried(CARRIED) as runtime:
        other = archive_of(tmp_path / "i", layer(file("a")))
        refused(other, "there is another one of this name", "--name=carried", "--version=1.0.0")
        assert digest_of(runtime) == DIGEST


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (file("../../../outside", b"x"), "'..'"),
        (hard_link("shadow", "../../../../etc/shadow"), "'..'"),
        (hard_link("shadow", "/etc/shadow"), "is a hard link to etc/shadow, which is no file of it"),
        (special("disk", tarfile.BLKTYPE), "disk is a block device"),
        (special("null", tarfile.CHRTYPE), "null is a character device"),
        (special("fifo", tarfile.FIFOTYPE), "fifo is a fifo"),
        (file("x" * 300), "more than 255 bytes"),
        (file("sparse", b"1", pax_headers={"GNU.sparse.realsize": str(1 << 40)}), "sparse file"),
    ],
    ids=["dotdot", "hard-up", "hard-out", "block", "character", "fifo", "long", "sparse"],
)
def test_hostile_layers_are_refused(tmp_path: Path, item: Item, why: str) -> None:
    refused(
        archive_of(tmp_path / "i", layer(directory("etc"), item)), why, "--name=hostile", "--version=1.0.0"
    )


def test_links_out_of_the_tree_are_followed_in_it_alone(tmp_path: Path) -> None:
    outside = Path("/srv") / tmp_path.name
    outside.mkdir()
    (outside / "file").write_text("host")
    items = [link("out", str(outside)), link("up", "../../../../../../../.." + str(outside))]
    items += [file("out/file", b"image"), file("up/new", b"image"), file("su", b"x", 0o6755)]
    archive = docker_archive_of(tmp_path / "i", layer(*items))
    with carried(archive, "--name=carried", "--version=1.0.0") as runtime:
        tree = STORE / "trees" / digest_of(runtime)
        assert (tree / str(outside).lstrip("/") / "file").read_text() == "image"
        assert (tree / "su").stat().st_mode & 0o7777 == 0o755
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("file", "host")]
    shutil.rmtree(outside)


def test_an_image_without_a_layer_and_one_of_zeros_are_refused(tmp_path: Path) -> None:
    members = members_of(Image([layer(file("a", b"1"))]))
    name = max(members, key=lambda each: members[each][:2] == b"\x1f\x8b")
    archive = write_archive(tmp_path / "i", {key: text for key, text in members.items() if key != name})
    refused(archive, "cannot read image: ", "--name=hostile", "--version=1.0.0")
    head = file("zeros", size=1 << 44)[0].tobuf(tarfile.GNU_FORMAT)
    archive = archive_of(tmp_path / "i", head)
    refused(archive, "bytes of files", "--name=hostile", "--version=1.0.0")


def test_an_agent_that_is_killed_leaves_nothing(client: Client, tmp_path: Path) -> None:
    many = layer(*(file(f"d{number}/f", bytes(200)) for number in range(8_000)))
    archive = archive_of(tmp_path / "i", many)
    words = ("rnx", "runtime", "import", str(archive), "--name=killed", "--version=1.0.0")
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as importing:
        eventually(lambda: list(STORE.glob("staging/*/tree/d1")), bool)
        kill_agent()
        assert importing.wait(60) != 0
    wait_for_agent(client)
    eventually(lambda: os.listdir(STORE / "staging"), lambda left: left == [])


def test_who_goes_away_leaves_nothing(tmp_path: Path) -> None:
    many = layer(*(file(f"d{number}/f", bytes(200)) for number in range(8_000)))
    archive = archive_of(tmp_path / "i", many)
    words = ("rnx", "runtime", "import", str(archive), "--name=left", "--version=1.0.0")
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as importing:
        eventually(lambda: list(STORE.glob("staging/*/tree/d1")), bool)
        importing.kill()
    eventually(lambda: os.listdir(STORE / "staging"), lambda left: left == [])


def test_a_runtime_with_everything_is_the_same_after_the_way_there_and_back(tmp_path: Path) -> None:
    files = {f"data/{number}": os.urandom(1000) for number in range(50)}
    with imported(tmp_path, "busybox", files=files) as runtime:
        digest = digest_of(runtime)
        said(0, "runtime", "export", runtime, "-o", str(tmp_path / "out.tar"))
    with imported(tmp_path, "other"):
        said(0, "runtime", "import", str(tmp_path / "out.tar"))
        try:
            assert digest_of(runtime) == digest
        finally:
            rnx("runtime", "remove", "--force", runtime)
