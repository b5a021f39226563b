"""ELF headers, of real programs and of what is none."""

import os
import platform
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.runtimes.elf import Elf, NoElf, read_elf

PROGRAM = Path(os.path.realpath(sys.executable)).read_bytes()


def test_a_program_names_its_loader_and_its_libraries() -> None:
    elf = read_elf(PROGRAM)
    assert Path(elf.interpreter).exists()
    assert any(name.startswith("libc.so") for name in elf.needed)
    end = elf.interpreter_at + elf.interpreter_room
    assert PROGRAM[elf.interpreter_at : end].rstrip(b"\0").decode() == elf.interpreter
    assert elf.machine == {"x86_64": 62, "aarch64": 183}[platform.machine()]


def test_a_library_names_itself_and_no_loader() -> None:
    loader = read_elf(Path(read_elf(PROGRAM).interpreter).read_bytes())
    assert loader.interpreter == ""
    assert loader.soname.startswith("ld-linux")


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\x01\x01" + bytes(60)])
def test_what_is_no_elf_file_is_said_so(content: bytes) -> None:
    with pytest.raises(NoElf):
        read_elf(content)


@given(st.integers(0, 4096), st.binary(min_size=1, max_size=16), st.integers(0, len(PROGRAM)))
def test_broken_headers_give_values_or_are_refused(at: int, damage: bytes, length: int) -> None:
    broken = (PROGRAM[:at] + damage + PROGRAM[at + len(damage) :])[:length]
    try:
        assert isinstance(read_elf(broken), Elf)
    except NoElf as error:
        assert str(error)  # noqa: PT017 - some are broken, some are not
