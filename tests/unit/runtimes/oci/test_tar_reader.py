"""The reader of tar streams: what the standard library writes is read, and nonsense is refused."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.errors import InvalidRequest
from joblet_agent.runtimes.oci.tar_reader import Entry, Kind, TarReader
from joblet_agent.runtimes.oci.tar_writer import END, header, padding
from tests.unit.runtimes.oci.images import directory, file, hard_link, layer, link, special

_NAME = st.text(min_size=1, max_size=150).map(lambda text: text.replace("/", "-").replace("\0", "-"))
_PATH = st.lists(_NAME, min_size=1, max_size=4).map("/".join).filter(lambda path: not path.endswith("/"))


def _read(stream: bytes) -> list[tuple[Entry, bytes]]:
    reader = TarReader(io.BytesIO(stream).read)
    return [(entry, b"".join(reader.content())) for entry in reader]


_REFUSALS = {"RUNTIME_ARCHIVE_BROKEN", "RUNTIME_ARCHIVE_REFUSED"}


def _tried(stream: bytes) -> tuple[list[tuple[Entry, bytes]], str]:
    """Return what is read, and the reason why it ends."""
    reader, found = TarReader(io.BytesIO(stream).read), list[tuple[Entry, bytes]]()
    try:
        found.extend((entry, b"".join(reader.content())) for entry in reader)
    except InvalidRequest as error:
        return found, error.reason
    return found, ""


@given(
    st.lists(st.tuples(_PATH, st.binary(max_size=1500), st.integers(0, 0o7777)), max_size=5),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_files_are_read_with_any_name(files: list[tuple[str, bytes, int]], form: int) -> None:
    stream = layer(*(file(*each) for each in files), form=form)
    assert [(entry.name, content, entry.mode) for entry, content in _read(stream)] == files


@given(_PATH, _PATH, st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
def test_links_are_read_with_any_target(name: str, target: str, form: int) -> None:
    stream = layer(link(name, target), hard_link(name, target), form=form)
    assert [(entry.name, entry.kind, entry.target) for entry, _ in _read(stream)] == [
        (name, Kind.LINK, target),
        (name, Kind.HARD_LINK, target),
    ]


@given(_PATH, _PATH, st.binary(max_size=1500), st.integers(0, 0o1777))
def test_what_is_written_here_is_read_by_others(name: str, target: str, content: bytes, mode: int) -> None:
    stream = header(name.encode(), Kind.FILE, mode=mode, size=len(content), mtime=7)
    stream += content + padding(len(content))
    stream += header(b"d/", Kind.DIRECTORY, mode=0o755) + header(
        b"l", Kind.LINK, mode=0o777, target=target.encode()
    )
    with tarfile.open(fileobj=io.BytesIO(stream + END)) as archive:
        first, second, third = archive.getmembers()
        reader = archive.extractfile(first)
        assert reader is not None
        assert (first.name, reader.read(), first.mode, first.mtime) == (name, content, mode, 7)
    assert (second.isdir(), third.linkname) == (True, target)
    assert (first.uid, first.gid, first.uname) == (0, 0, "root")


def test_large_files_have_their_size_in_both_forms() -> None:
    size = 10 << 30
    for head in (
        header(b"large", Kind.FILE, mode=0o644, size=size),
        file("large", size=size)[0].tobuf(tarfile.PAX_FORMAT),
        file("large", size=size)[0].tobuf(tarfile.GNU_FORMAT),
    ):
        entry = next(iter(TarReader(io.BytesIO(head).read)))
        assert entry.size == size


def test_content_that_nobody_takes_is_passed_over() -> None:
    stream = io.BytesIO(layer(file("a", b"x" * 700), file("b", b"y")))
    assert [entry.name for entry in TarReader(stream.read)] == ["a", "b"]


@given(st.binary(max_size=4096))
def test_nonsense_is_refused_or_empty(stream: bytes) -> None:
    entries, reason = _tried(stream)
    assert entries == []
    assert reason in {"", *_REFUSALS}


_ALL_KINDS = layer(
    directory("d"),
    file("d/" + "long" * 60, b"content" * 100),
    link("l", "t" * 150),
    hard_link("h", "l"),
    special("p", tarfile.FIFOTYPE),
    form=tarfile.PAX_FORMAT,
)


@given(st.integers(0, len(_ALL_KINDS) - 1), st.integers(0, 255))
def test_a_changed_byte_never_does_more_than_be_refused(at: int, byte: int) -> None:
    changed = _ALL_KINDS[:at] + bytes([byte]) + _ALL_KINDS[at + 1 :]
    _, reason = _tried(changed)
    assert reason in {"", *_REFUSALS}


@given(st.integers(1, 8 * 512))
def test_a_stream_that_ends_early_is_refused_or_has_less(end: int) -> None:
    entries, reason = _tried(_ALL_KINDS[:end])
    assert reason in {"", "RUNTIME_ARCHIVE_BROKEN"}
    assert entries == _read(_ALL_KINDS)[: len(entries)]


def _header(kind: bytes, size: int = 0) -> bytes:
    """Return a header of that type, with its checksum."""
    head = file("x", size=size)[0].tobuf(tarfile.GNU_FORMAT)
    bare = head[:148] + b" " * 8 + kind + head[157:]
    return bare[:148] + f"{sum(bare):06o}\0 ".encode() + bare[156:]


@pytest.mark.parametrize("kind", [b"S", b"D", b"M", b"A", b"\xff"])
def test_what_is_not_known_is_refused(kind: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _read(_header(kind))
    assert caught.value.reason == "RUNTIME_ARCHIVE_REFUSED"


def test_sparse_files_of_pax_are_refused() -> None:
    item = file("x", b"1", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.realsize": str(1 << 40)})
    with pytest.raises(InvalidRequest, match="sparse"):
        _read(layer(item))


@pytest.mark.parametrize("key", ["path", "linkpath", "size"])
def test_headers_for_all_files_change_no_names(key: str) -> None:
    text = f"{len(key) + (6 if len(key) > 6 else 5)} {key}=1\n".encode()
    with pytest.raises(InvalidRequest, match=f"all files says {key}"):
        _read(_header(b"g", len(text)) + text.ljust(512, b"\0") + END)


@pytest.mark.parametrize(
    "text", [b"0 a=b\n", b"9999 a=b\n", b"6 a=bc\n", b"x a=b\n", b"7 path\n", b"6 =ab\n", b"6 a=b\n\n"]
)
def test_damaged_pax_headers_are_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequest, match="pax"):
        _read(_header(b"x", len(text)) + text.ljust(512, b"\0") + END)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K", b"V"])
def test_headers_that_have_no_end_are_not_read_into_memory(kind: bytes) -> None:
    with pytest.raises(InvalidRequest, match="allowed"):
        _read(_header(kind, 1 << 40))
