import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.errors import InvalidRequest
from joblet_agent.model.volume import VolumeMount, VolumeType
from joblet_agent.units import GIB, MIB, TIB
from joblet_agent.volumes.check import check_name, parse_mounts, parse_size, parse_type, place_of


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1MB", MIB),
        ("500MB", 500 * MIB),
        ("1.5GB", 3 * GIB // 2),
        ("1GiB", GIB),
        ("2tb", 2 * TIB),
        ("1048576", MIB),
        ("1048576B", MIB),
        (" 10 MB ", 10 * MIB),
        ("1024K", MIB),
    ],
)
def test_sizes_are_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


NO_SIZES = ["", "0", "0GB", "-1GB", "1PB", "GB", "1e9", "1,5GB", "1 G B", "٣MB", "1GB\n2", "1BB"]


@pytest.mark.parametrize("text", NO_SIZES)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_size(text)
    assert caught.value.reason == "BAD_VOLUME_SIZE"
    assert "500MB" in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["1B", "1023KB", "1025TB", "9" * 15 + "TB"])
def test_sizes_have_limits(text: str) -> None:
    with pytest.raises(InvalidRequest, match="from 1MB to 1024TB"):
        parse_size(text)


@pytest.mark.parametrize("name", ["a", "A9", "my-volume", "a_b", "a" * 63, "0-0"])
def test_names(name: str) -> None:
    assert check_name(name) == name


HOSTILE = [
    *(
        "",
        "-a",
        "a-",
        "_a",
        "a_",
        ".",
        "..",
        "../x",
        "a/b",
        "/etc",
        "a" * 64,
        "a" * 300,
        "a b",
        "a\n",
        "a\0b",
    ),
    *("a@b", "%i", "a%i", "\\x2d", "a\\x2db", "a:b", "a;b", "$(x)", "ä", "a.mount", "--size=1"),
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a5_a_name_is_never_a_path_an_option_or_a_unit(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_name(name)
    assert caught.value.reason == "BAD_VOLUME_NAME"
    with pytest.raises(InvalidRequest):
        parse_mounts([name])


def test_types() -> None:
    assert parse_type("") is parse_type("filesystem") is VolumeType.FILESYSTEM
    assert parse_type("memory") is VolumeType.MEMORY


def test_another_type_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="'nfs' is no type of volumes"):
        parse_type("nfs")


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("data", VolumeMount("data", "/volumes/data")),
        ("data:ro", VolumeMount("data", "/volumes/data", is_read_only=True)),
        ("data:rw", VolumeMount("data", "/volumes/data")),
        ("data:/data", VolumeMount("data", "/data")),
        ("data:/var/lib/db:ro", VolumeMount("data", "/var/lib/db", is_read_only=True)),
        ("data:/srv/a.b_c/d@e,f=g", VolumeMount("data", "/srv/a.b_c/d@e,f=g")),
        ("data:/volumes/x/y", VolumeMount("data", "/volumes/x/y")),
    ],
)
def test_mounts(text: str, mount: VolumeMount) -> None:
    assert parse_mounts([text]) == (mount,)
    assert parse_mounts([str(mount)]) == (mount,)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("work", "absolute"),
        ("", "absolute"),
        ("/", "letters"),
        *(
            (path, "own or the host's")
            for path in ("/work", "/work/x", "/usr", "/usr/bin", "/proc", "/dev/shm")
        ),
        *(
            (path, "own or the host's")
            for path in ("/sys", "/run/x", "/etc", "/tmp/x", "/var", "/var/run", "/bin")
        ),
        *((path, "own or the host's") for path in ("/root", "/mnt/x", "/volumes", "/var/libx")),
        ("/foo", "no such place"),
        ("/database", "no such place"),
        ("/data/../etc", "must not contain"),
        ("/data/./x", "must not contain"),
        *(
            (path, "letters")
            for path in ("/data/", "/data//x", "/data/a b", "/data/%i", "/data/a\nb", "/data/a\\x2d")
        ),
        ("/data/" + "a" * 5000, "letters"),
    ],
)
def test_a5_a_volume_is_never_over_the_jobs_own_directories(path: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as caught:
        parse_mounts([f"v:{path}"])
    assert caught.value.reason == "BAD_VOLUME_TARGET"
    assert "/volumes" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "texts", [("a:/data", "b:/data"), ("a:/data/x", "b:/data"), ("a:/data", "b:/data/x/y"), ("a", "a")]
)
def test_volumes_are_side_by_side(texts: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_mounts(texts)
    assert caught.value.reason == "BAD_VOLUME_TARGET"


def test_names_that_begin_alike_are_not_inside_one_another() -> None:
    assert len(parse_mounts(["a:/data/x", "b:/data/xy", "a:/srv/x:ro"])) == 3


def test_there_are_not_too_many() -> None:
    with pytest.raises(InvalidRequest, match="at most 64"):
        parse_mounts([f"v{number}" for number in range(65)])


@given(st.lists(st.text(max_size=20), max_size=3))
def test_c8_no_text_is_more_than_a_refusal(texts: list[str]) -> None:
    try:
        mounts = parse_mounts(texts)
    except InvalidRequest:
        return
    for mount in mounts:
        assert place_of(mount.target)
        assert parse_mounts([str(mount)]) == (mount,)
