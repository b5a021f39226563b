"""Archives of images become trees, and hostile ones do not: nothing outside of the tree is touched."""

import asyncio
import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from joblet_agent.errors import InvalidRequest, JobletError, LimitReached, NotFound
from joblet_agent.runtimes.oci.reading import ImageFacts, look, unpack
from tests.unit.runtimes.oci import images
from tests.unit.runtimes.oci.images import (
    Image,
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
from tests.unit.runtimes.oci.waiting import until


@pytest.fixture(name="into")
def _into(tmp_path: Path) -> Path:
    """Give the tree to be, beside what must stay as it is."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("host")
    tree = tmp_path / "tree"
    tree.mkdir()
    return tree


@pytest.fixture(autouse=True)
def _outside_is_unchanged(tmp_path: Path, into: Path) -> Any:
    yield
    assert sorted(os.listdir(tmp_path / "outside")) == ["file"]
    assert (tmp_path / "outside" / "file").read_text() == "host"
    assert (tmp_path / "outside" / "file").stat().st_nlink == 1


def _unpacked(archive: Path, into: Path, most_bytes: int = 1 << 20, **limits: int) -> ImageFacts:
    return asyncio.run(unpack(archive, into, most_bytes=most_bytes, **limits))


def _made(into: Path, *layers: bytes) -> ImageFacts:
    return _unpacked(archive_of(into.parent / "image.tar", *layers), into)


def _refused(into: Path, *layers: bytes, reason: str = "RUNTIME_ARCHIVE_REFUSED") -> str:
    with pytest.raises(JobletError) as caught:
        _made(into, *layers)
    assert caught.value.reason == reason
    return str(caught.value)


def _tree(into: Path) -> dict[str, str]:
    """Return what is in the tree: the content of files, targets of links, and ``/`` for directories."""
    found = {}
    for place, directories, files in os.walk(into):
        for name in (*directories, *files):
            path = Path(place, name)
            key = str(path.relative_to(into))
            if path.is_symlink():
                found[key] = f"-> {os.readlink(path)}"
            else:
                found[key] = "/" if path.is_dir() else path.read_text()
    return found


def test_an_image_becomes_a_tree(into: Path) -> None:
    lowest = layer(
        directory("usr/bin", 0o750),
        file("usr/bin/python", b"elf", 0o755),
        link("bin", "usr/bin"),
        file("a/b", b"1"),
    )
    facts = _unpacked(
        archive_of(
            into.parent / "i", lowest, Env=["A=1", "B=x=y"], Labels={"l": "v"}, Entrypoint=["e"], Cmd=["c"]
        ),
        into,
    )
    assert _tree(into) == {
        "usr": "/",
        "usr/bin": "/",
        "usr/bin/python": "elf",
        "bin": "-> usr/bin",
        "a": "/",
        "a/b": "1",
    }
    assert stat.S_IMODE((into / "usr/bin").stat().st_mode) == 0o750
    assert stat.S_IMODE((into / "usr/bin/python").stat().st_mode) == 0o755
    assert (facts.environment, facts.labels, facts.entrypoint) == (
        {"A": "1", "B": "x=y"},
        {"l": "v"},
        ("e", "c"),
    )
    assert facts.digest.startswith("sha256:")
    assert facts.notes == ()


def test_names_of_any_length_and_kind_are_kept(into: Path) -> None:
    long = "/".join(["n" * 200] * 5)
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        items = [file(f"{form}/{long}", b"1"), link(f"{form}/l", long), file(f"./{form}/é\udcff", b"2")]
        _made(into, layer(*items, form=form))
        assert (into / str(form) / long).read_text() == "1"
        assert os.readlink(into / str(form) / "l") == long
        assert Path(os.fsdecode(os.fsencode(into / str(form)) + "/é".encode() + b"\xff")).read_text() == "2"


def test_later_layers_change_earlier_ones(into: Path) -> None:
    old = [file("a", b"old"), file("d/x"), file("d/y", b"1"), link("l", "a"), file("f", b"1"), file("e/1")]
    new = [
        file("a", b"new"),
        file("d/.wh.x"),
        file("l", b"2"),
        directory("f"),
        file("f/in", b"2"),
        file(".wh.e"),
    ]
    _made(into, layer(*old), layer(*new))
    assert _tree(into) == {"a": "new", "d": "/", "d/y": "1", "l": "2", "f": "/", "f/in": "2"}


def test_whiteouts_mean_lower_layers_wherever_they_stand(into: Path) -> None:
    _made(
        into,
        layer(file("d/low", b"1"), file("e/low", b"1"), file("x", b"1")),
        layer(file("d/new", b"2"), file("d/.wh..wh..opq"), file("x", b"2"), file(".wh.x"), file(".wh.none")),
        layer(file("e/.wh..wh..opq"), file("none/.wh.x"), file(".wh..wh.plnk/1", b"aufs")),
    )
    assert _tree(into) == {"d": "/", "d/new": "2", "e": "/", "x": "2"}


def test_whiteouts_of_the_lowest_layer_mean_nothing(into: Path) -> None:
    _made(into, layer(file("a"), file(".wh.a")))
    assert _tree(into) == {"a": ""}


def test_what_a_link_leads_to_is_not_written_to(into: Path) -> None:
    outside = str(into.parent / "outside")
    _made(
        into,
        layer(link("l", f"{outside}/file"), file("l", b"new"), link("m", f"{outside}/file")),
        layer(file("m", b"newer", mode=0o600), link("d", outside)),
        layer(directory("d", 0o700), file("d/file", b"in")),
    )
    assert _tree(into) == {"l": "new", "m": "newer", "d": "/", "d/file": "in"}


@pytest.mark.parametrize(
    "way", ["/../../../..{outside}", "{outside}", "../../../../../../../../../../../..{outside}"]
)
def test_links_on_the_way_stay_in_the_tree(into: Path, way: str) -> None:
    outside = str(into.parent / "outside")
    _made(into, layer(directory("a"), link("a/out", way.format(outside=outside)), file("a/out/file", b"in")))
    assert (into / outside.lstrip("/") / "file").read_text() == "in"


def test_files_below_a_link_of_a_lower_layer_are_where_it_leads(into: Path) -> None:
    _made(
        into,
        layer(directory("usr/lib"), link("lib", "usr/lib"), link("usr/up", "../lib"), file("usr/lib/old")),
        layer(file("lib/a", b"1"), file("usr/up/b", b"2"), file("lib/.wh.old")),
    )
    assert _tree(into)["lib"] == "-> usr/lib"
    assert sorted(os.listdir(into / "usr/lib")) == ["a", "b"]


def test_a_replaced_link_leads_nowhere_any_more(into: Path) -> None:
    _made(
        into,
        layer(
            directory("one"), directory("two"), link("l", "one"), file("l/a"), link("l", "two"), file("l/b")
        ),
    )
    assert (os.listdir(into / "one"), os.listdir(into / "two")) == (["a"], ["b"])


def test_removed_directories_are_not_written_to(into: Path) -> None:
    _made(into, layer(file("d/a", b"1"), file("d", b"2"), directory("d"), file("d/b", b"3")))
    assert _tree(into) == {"d": "/", "d/b": "3"}


def test_hard_links_are_of_the_tree(into: Path) -> None:
    _made(into, layer(file("a", b"1"), hard_link("b", "a"), hard_link("c", "/a"), hard_link("a", "./b")))
    assert _tree(into) == {"a": "1", "b": "1", "c": "1"}
    assert (into / "a").stat().st_ino == (into / "c").stat().st_ino
    _made(into, layer(file("a", b"1"), hard_link("b", "a")), layer(file("b", b"2")))
    assert (into / "a").read_text() == "1"


@pytest.mark.parametrize(
    "target",
    ["{outside}/file", "../outside/file", "out/file", "none", "", "d", "d/x/y", "a/b", "/etc/passwd"],
)
def test_hard_links_to_anything_else_are_refused(into: Path, target: str) -> None:
    outside = str(into.parent / "outside")
    _refused(
        into,
        layer(
            link("out", outside),
            directory("d"),
            file("a"),
            hard_link("b", target.format(outside=outside)),
        ),
    )


def test_a_hard_link_in_the_place_of_what_it_leads_to_is_refused(into: Path) -> None:
    _refused(into, layer(file("d/a", b"1"), hard_link("d", "d/a")))


@pytest.mark.parametrize(
    "item",
    [
        file("../outside/new", b"x"),
        file("a/../../outside/new", b"x"),
        link("../outside/new", "x"),
        directory("../outside/new"),
        hard_link("../outside/new", "a"),
        file("a/.."),
        file(".."),
        file("."),
        link("./", "x"),
        file("x" * 256),
        file("/".join("x" * 250)),
        file("/".join(["x" * 200] * 20)),
        file("a/b"),
        link("l", ""),
        special("fifo", tarfile.FIFOTYPE),
        special("null", tarfile.CHRTYPE),
        special("disk", tarfile.BLKTYPE),
        special("dev", tarfile.BLKTYPE),
        special("a/dev/sda", tarfile.BLKTYPE),
    ],
    ids=lambda item: f"{item[0].name[:20]}-{item[0].type.decode()}",
)
def test_what_no_runtime_may_have_is_refused(into: Path, item: images.Item) -> None:
    _refused(into, layer(file("a", b"1"), item))


@pytest.mark.parametrize("name", ["d/.wh.", "d/.wh..", "d/.wh...", "../.wh.outside"])
def test_whiteouts_of_what_is_outside_are_refused(into: Path, name: str) -> None:
    _refused(into, layer(file("d/x")), layer(file(name)))
    assert (into / "d/x").exists()


def test_links_in_a_circle_are_refused(into: Path) -> None:
    assert "links" in _refused(into, layer(link("a", "b"), link("b", "a"), file("a/x")))
    assert "links" in _refused(into, layer(link("c", "c/c"), file("c/x")))


def test_names_with_control_characters_are_not_printed(into: Path) -> None:
    text = _refused(into, layer(special("\x1b[31m\n", tarfile.FIFOTYPE)))
    assert "\x1b" not in text
    assert "\n" not in text


def test_devices_below_dev_and_set_ids_are_left_out(into: Path) -> None:
    capable = file("ping", b"1", pax_headers={"SCHILY.xattr.security.capability": "x"})
    facts = _made(
        into,
        layer(
            special("dev/null", tarfile.CHRTYPE),
            special("dev/initctl", tarfile.FIFOTYPE),
            file("su", b"1", mode=0o6755),
            directory("mail", 0o3775),
            capable,
        ),
    )
    assert _tree(into) == {"su": "1", "mail": "/", "ping": "1"}
    assert stat.S_IMODE((into / "su").stat().st_mode) == 0o755
    assert stat.S_IMODE((into / "mail").stat().st_mode) == 0o1775
    assert os.listxattr(into / "ping") == []
    assert facts.notes == (
        "left out: devices below /dev (2)",
        "left out: file capabilities (1)",
        "left out: setuid or setgid bits (2)",
    )


def test_more_bytes_than_allowed_are_refused(into: Path) -> None:
    big = layer(file("a", bytes(600_000)), file("b", bytes(600_000)))
    assert "1048576 bytes" in _refused(into, big, reason="RUNTIME_TOO_LARGE")
    _made(into, layer(file("a", bytes(1_000_000))))


def test_what_later_layers_remove_counts_too(into: Path) -> None:
    half = layer(file("a", bytes(600_000)))
    _refused(into, half, layer(file(".wh.a")), half, reason="RUNTIME_TOO_LARGE")


def test_a_size_is_refused_before_it_is_written(into: Path) -> None:
    head = file("huge", size=1 << 40)[0].tobuf(tarfile.GNU_FORMAT)
    _refused(into, head, reason="RUNTIME_TOO_LARGE")
    assert _tree(into) == {}


def test_more_files_than_allowed_are_refused(into: Path) -> None:
    archive = archive_of(into.parent / "i", layer(*(file(f"d{number}/f") for number in range(6))))
    with pytest.raises(LimitReached, match="10 files"):
        _unpacked(archive, into, most_files=10)


def test_a_layer_that_compresses_to_nothing_is_refused(into: Path) -> None:
    bomb = io.BytesIO()
    with gzip.GzipFile(fileobj=bomb, mode="wb", compresslevel=9) as packed:
        packed.write(layer(file("a"))[:512])
        for _ in range(50):
            packed.write(bytes(1 << 20))
    image = Image([b""], stored=[bomb.getvalue()])
    with pytest.raises(LimitReached):
        _unpacked(write_archive(into.parent / "i", members_of(image)), into, most_files=1000)


def test_zstd_is_refused_with_the_way_out(into: Path) -> None:
    image = Image([layer(file("a"))], stored=[b"\x28\xb5\x2f\xfd" + bytes(100)])
    with pytest.raises(InvalidRequest, match="zstd") as caught:
        _unpacked(write_archive(into.parent / "i", members_of(image)), into)
    assert "skopeo copy" in (caught.value.hint or "")


def test_layers_of_several_gzip_members_and_without_compression_are_read(into: Path) -> None:
    one, two = layer(file("a", b"1" * 9000)), layer(file("b", b"2"))
    parts = b"".join(gzip.compress(one[begin : begin + 700]) for begin in range(0, len(one), 700))
    image = Image([one, two], stored=[parts, two])
    _unpacked(write_archive(into.parent / "i", members_of(image)), into)
    assert _tree(into) == {"a": "1" * 9000, "b": "2"}


@pytest.mark.parametrize("cut", [1, 8, 20, 200])
def test_a_layer_that_ends_early_is_refused(into: Path, cut: int) -> None:
    content = layer(file("a", os.urandom(5000)))
    image = Image([content], stored=[gzip.compress(content)[:-cut]])
    with pytest.raises(InvalidRequest) as caught:
        _unpacked(write_archive(into.parent / "i", members_of(image)), into)
    assert caught.value.reason == "RUNTIME_ARCHIVE_BROKEN"


def test_a_layer_with_other_bytes_is_refused(into: Path) -> None:
    image = Image([layer(file("a", b"1"))])
    members = members_of(image)
    (name,) = (f"blobs/sha256/{each['digest'][7:]}" for each in image.manifest["layers"])
    members[name] = gzip.compress(layer(file("a", b"2")), 1, mtime=0)
    with pytest.raises(InvalidRequest, match="does not have its digest"):
        _unpacked(write_archive(into.parent / "i", members), into)


def test_a_layer_with_another_content_than_the_configuration_says_is_refused(into: Path) -> None:
    image = Image([layer(file("a", b"1"))], stored=[gzip.compress(layer(file("a", b"2")))])
    with pytest.raises(InvalidRequest, match="does not have its digest"):
        _unpacked(write_archive(into.parent / "i", members_of(image)), into)


def test_every_part_has_its_digest(into: Path) -> None:
    whole = members_of(Image([layer(file("a", b"1")), layer(file("b", b"1"))]))
    for name in whole:
        if name.startswith("blobs/"):
            changed = whole | {name: whole[name][:-2] + b" " + whole[name][-1:]}
            with pytest.raises(InvalidRequest) as caught:
                _unpacked(write_archive(into.parent / "i", changed), into)
            assert caught.value.reason == "RUNTIME_ARCHIVE_BROKEN"


def test_every_part_must_be_there(into: Path) -> None:
    whole = members_of(Image([layer(file("a", b"1"))]))
    for name in whole.keys() - {"oci-layout"}:
        part = {other: text for other, text in whole.items() if other != name}
        with pytest.raises(InvalidRequest) as caught:
            _unpacked(write_archive(into.parent / "i", part), into)
        assert caught.value.reason == "RUNTIME_ARCHIVE_BROKEN"


def test_an_archive_that_ends_early_is_refused(into: Path) -> None:
    archive = archive_of(into.parent / "i", layer(file("a", os.urandom(3000))))
    whole = archive.read_bytes()
    end = len(whole.rstrip(b"\0"))
    for size in range(0, end, 301):
        archive.write_bytes(whole[:size])
        with pytest.raises(InvalidRequest) as caught:
            _unpacked(archive, into)
        assert caught.value.reason == "RUNTIME_ARCHIVE_BROKEN"


def _with_index(into: Path, index: Any) -> Path:
    members = members_of(Image([layer(file("a"))]))
    text = index if isinstance(index, bytes) else json.dumps(index).encode()
    return write_archive(into.parent / "i", members | {"index.json": text})


@pytest.mark.parametrize(
    "index",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        [],
        {},
        {"manifests": {}},
        {"manifests": [1]},
        {"manifests": [{"digest": 1}]},
        {"manifests": [{"digest": "sha256:../../etc/passwd"}]},
        {"manifests": [{"digest": "md5:" + "0" * 32, "mediaType": images.MANIFEST}]},
        {"manifests": [{"digest": "sha256:" + "0" * 64, "mediaType": images.MANIFEST}]},
        {"manifests": [{"digest": "sha256:" + "0" * 64, "mediaType": images.MANIFEST, "platform": []}]},
        b" " * (5 << 20),
    ],
)
def test_indexes_that_are_none_are_refused(into: Path, index: Any) -> None:
    with pytest.raises(InvalidRequest):
        _unpacked(_with_index(into, index), into)
    assert _tree(into) == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [("config", [1]), ("config", {"Env": "A=1"}), ("config", {"Env": [1]}), ("config", {"Labels": {"a": 1}}),
     ("rootfs", None), ("rootfs", {"diff_ids": []}), ("rootfs", {"diff_ids": ["x"]}), ("os", "windows")],
)  # fmt: skip
def test_configurations_that_are_none_are_refused(into: Path, key: str, value: Any) -> None:
    image = Image([layer(file("a"))])
    image.seal()
    config = json.loads(image.blobs[image.manifest["config"]["digest"]]) | {key: value}
    text = json.dumps(config).encode()
    manifest = image.manifest | {"config": {"digest": images.sha256(text)}}
    sealed = json.dumps(manifest).encode()
    index = {"manifests": [{"digest": images.sha256(sealed), "mediaType": images.MANIFEST}]}
    blobs = image.blobs | {images.sha256(text): text, images.sha256(sealed): sealed}
    members = {f"blobs/sha256/{digest[7:]}": blob for digest, blob in blobs.items()}
    with pytest.raises(InvalidRequest):
        _unpacked(
            write_archive(into.parent / "i", members | {"index.json": json.dumps(index).encode()}), into
        )
    assert _tree(into) == {}


def test_of_several_platforms_the_hosts_is_taken(into: Path) -> None:
    here, there = Image([layer(file("here"))]), Image([layer(file("there"))], architecture="s390x")
    members = members_of(there, here)
    inner = members["index.json"]
    attested = {"mediaType": images.MANIFEST, "digest": "sha256:" + "1" * 64, "size": 1}
    attested |= {"platform": {"os": "unknown", "architecture": "unknown"}}
    outer = {"manifests": [{"mediaType": images.INDEX, "digest": images.sha256(inner)}, attested]}
    members[f"blobs/sha256/{hashlib.sha256(inner).hexdigest()}"] = inner
    members["index.json"] = json.dumps(outer).encode()
    _unpacked(write_archive(into.parent / "i", members), into)
    assert _tree(into) == {"here": ""}


def test_another_architecture_is_refused(into: Path) -> None:
    members = members_of(Image([layer(file("there"))], architecture="s390x"))
    with pytest.raises(InvalidRequest, match="s390x"):
        _unpacked(write_archive(into.parent / "i", members), into)


def test_several_images_are_refused(into: Path) -> None:
    members = members_of(Image([layer(file("a"))]), Image([layer(file("b"))]))
    with pytest.raises(InvalidRequest, match="2 images"):
        _unpacked(write_archive(into.parent / "i", members), into)


def test_an_archive_of_docker_save_becomes_a_tree(into: Path) -> None:
    archive = docker_archive_of(
        into.parent / "i", layer(file("a", b"1"), file("b")), layer(file(".wh.b")), Env=["A=1"]
    )
    facts = _unpacked(archive, into)
    assert (_tree(into), facts.environment, facts.digest) == ({"a": "1"}, {"A": "1"}, "")


def test_a_changed_archive_of_docker_save_is_refused(into: Path) -> None:
    archive = docker_archive_of(into.parent / "i", layer(file("a", b"111111111")))
    archive.write_bytes(archive.read_bytes().replace(b"111111111", b"111111112"))
    with pytest.raises(InvalidRequest, match="digest"):
        _unpacked(archive, into)


def test_what_is_no_archive_is_refused(into: Path) -> None:
    with pytest.raises(NotFound):
        _unpacked(into.parent / "none", into)
    with pytest.raises(InvalidRequest):
        _unpacked(into, into)
    fifo = into.parent / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(InvalidRequest, match="no file"):
        _unpacked(fifo, into)
    for content in (b"", b"x", os.urandom(2000), zlib.compress(b"x"), gzip.compress(b"x")):
        (into.parent / "x").write_bytes(content)
        with pytest.raises(InvalidRequest):
            _unpacked(into.parent / "x", into)


def test_one_can_look_without_unpacking(into: Path) -> None:
    archive = archive_of(into.parent / "i", b"no layer at all", Labels={"a": "b"})
    assert asyncio.run(look(archive)).labels == {"a": "b"}


def test_nobody_waits_for_an_image_that_is_not_wanted_any_more(into: Path) -> None:
    archive = archive_of(into.parent / "i", layer(*(file(str(number), bytes(100)) for number in range(3000))))

    async def case() -> None:
        task = asyncio.create_task(unpack(archive, into, most_bytes=0))
        await until(lambda: os.listdir(into))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        left = len(os.listdir(into))
        assert left < 3000
        await asyncio.to_thread(lambda: None)
        assert len(os.listdir(into)) == left

    asyncio.run(case())
