"""Libraries that a tree lacks: which programs count, which files are there, what helps."""

import struct
from pathlib import Path

import pytest

from joblet_agent.runtimes.build.elf_check import check_tree, package_of


def program(*needed: str, is_64: bool = True, machine: int = 62) -> bytes:
    """Return an ELF file that needs these libraries."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    places = [1 + sum(len(each) + 1 for each in needed[:number]) for number in range(len(needed))]
    word = "QQ" if is_64 else "II"
    start, size = (64, 56) if is_64 else (52, 32)
    at = start + 2 * size
    length = struct.calcsize(f"<{word}") * (len(needed) + 2)
    entries = [*((1, place) for place in places), (5, 0x1000 + at + length), (0, 0)]
    dynamic = b"".join(struct.pack(f"<{word}", *entry) for entry in entries)
    whole = at + length + len(strings)
    load = (1, 5, 0, 0x1000, 0, whole, whole, 0) if is_64 else (1, 0, 0x1000, 0, whole, whole, 5, 0)
    links = (
        (2, 6, at, 0x1000 + at, 0, length, length, 0)
        if is_64
        else (2, at, 0x1000 + at, 0, length, length, 6, 0)
    )
    form = "<IIQQQQQQ" if is_64 else "<IIIIIIII"
    ident = b"\x7fELF" + bytes([2 if is_64 else 1, 1, 1]) + bytes(9)
    if is_64:
        header = ident + struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    else:
        header = ident + struct.pack("<HHIIIIIHHHHHH", 3, machine, 1, 0, 52, 0, 0, 52, 32, 2, 0, 0, 0)
    return header + struct.pack(form, *load) + struct.pack(form, *links) + dynamic + strings


def write(tree: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tree


def test_a_tree_that_has_all_that_is_needed_has_nothing_to_say(tmp_path: Path) -> None:
    tree = write(
        tmp_path,
        {
            "usr/bin/x": program("libc.so.6", "libx.so.1"),
            "usr/lib/libc.so.6": program(),
            "opt/runtime/lib/y.libs/libx.so.1": program("libc.so.6"),
        },
    )
    found = check_tree(tree)
    assert (found.errors, found.warnings, found.hint) == ((), (), "")


def test_what_must_work_is_an_error_with_the_package_that_helps_and_the_rest_a_warning(
    tmp_path: Path,
) -> None:
    tree = write(
        tmp_path,
        {
            "opt/runtime/lib/numpy.so": program("libstdc++.so.6", "libgomp.so.1"),
            "opt/runtime/lib/pandas.so": program("libstdc++.so.6"),
            "usr/lib/jvm/libawt.so": program("libX11.so.6"),
        },
    )
    found = check_tree(tree)
    assert found.errors == (
        "/opt/runtime/lib/numpy.so needs libgomp.so.1, which is not in the tree",
        "/opt/runtime/lib/numpy.so and 1 more needs libstdc++.so.6, which is not in the tree",
    )
    assert found.warnings == ("/usr/lib/jvm/libawt.so needs libX11.so.6, which is not in the tree",)
    assert found.hint == "add to apt in the definition: libgomp1, libstdc++6"


def test_a_link_is_as_good_as_the_library(tmp_path: Path) -> None:
    tree = write(tmp_path, {"usr/bin/x": program("libx.so.1"), "usr/lib/libx.so.1.2.3": program()})
    (tree / "usr/lib/libx.so.1").symlink_to("libx.so.1.2.3")
    assert check_tree(tree).errors == ()


def test_the_driver_s_libraries_come_with_the_job(tmp_path: Path) -> None:
    tree = write(tmp_path, {"opt/runtime/lib/torch.so": program("libcuda.so.1", "libnvidia-ml.so.1")})
    assert check_tree(tree).errors == ()


def test_programs_for_other_machines_do_not_count(tmp_path: Path) -> None:
    tree = write(
        tmp_path,
        {
            "usr/bin/x": program(),
            "usr/bin/y": program(),
            "opt/runtime/lib/other.so": program("libz.so.1", machine=40, is_64=False),
        },
    )
    assert check_tree(tree).errors == ()


def test_programs_of_32_bits_are_read_too(tmp_path: Path) -> None:
    tree = write(tmp_path, {"usr/bin/x": program("libz.so.1", is_64=False, machine=3)})
    assert check_tree(tree).hint == "add to apt in the definition: zlib1g"


@pytest.mark.parametrize("cut", [4, 20, 64, 100, 150])
def test_a_file_that_only_begins_like_a_program_is_none(tmp_path: Path, cut: int) -> None:
    content = program("libx.so.1")[:cut] + b"\xff" * 200
    found = check_tree(write(tmp_path, {"usr/bin/x": content}))
    assert all("libx" not in error for error in found.errors)


@pytest.mark.parametrize(
    ("library", "package"),
    [
        ("libstdc++.so.6", "libstdc++6"),
        ("libX11.so.6", "libx11-6"),
        ("libGL.so.1", "libgl1"),
        ("libglib-2.0.so.0", "libglib2.0-0"),
        ("libgcc_s.so.1", "libgcc-s1"),
        ("libm.so.6", "libc6"),
        ("libpython3.11.so.1.0", "libpython3.11"),
        ("strange", "strange"),
    ],
)
def test_packages_are_named_after_their_libraries(library: str, package: str) -> None:
    assert package_of(library) == package
