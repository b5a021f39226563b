import struct
from pathlib import Path

import pytest

from joblet_agent.jobs.log_times import TimeIndexWriter, first_offset_since

_SECOND = 1_000_000_000


def pairs(path: Path) -> list[tuple[float, int]]:
    return [(at / _SECOND, size) for at, size in struct.iter_unpack(">qq", path.read_bytes())]


def note(writer: TimeIndexWriter, *points: tuple[float, int]) -> None:
    for seconds, size in points:
        writer.note(int(seconds * _SECOND), size)


def test_first_growth_at_once_then_one_pair_a_second(tmp_path: Path) -> None:
    path = tmp_path / "output.times"
    writer = TimeIndexWriter(path)
    note(writer, *((10 + tenth / 10, 1 + tenth) for tenth in range(25)))
    assert pairs(path) == [(10.0, 1), (11.0, 11), (12.0, 21)]
    writer.finish()
    assert pairs(path)[3:] == [(12.4, 25)]
    writer.finish()
    assert len(pairs(path)) == 4


def test_output_before_a_pause_does_not_look_as_if_it_came_after(tmp_path: Path) -> None:
    path = tmp_path / "output.times"
    note(TimeIndexWriter(path), (10, 1), (10.5, 2), (3600, 3))
    assert pairs(path) == [(10, 1), (10.5, 2), (3600, 3)]


def test_a_log_that_does_not_grow_adds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "output.times"
    note(TimeIndexWriter(path), (10, 5), (20, 5), (30, 0))
    assert pairs(path) == [(10, 5)]


def test_a_clock_that_steps_back_leaves_the_index_ascending(tmp_path: Path) -> None:
    path = tmp_path / "output.times"
    writer = TimeIndexWriter(path)
    note(writer, (1000, 5), (10, 6))
    writer.finish()
    assert pairs(path) == [(1000, 5), (1000, 6)]


def test_a_new_agent_continues_behind_a_torn_pair(tmp_path: Path) -> None:
    path = tmp_path / "output.times"
    note(TimeIndexWriter(path), (10, 5))
    path.write_bytes(path.read_bytes() + b"torn")
    note(TimeIndexWriter(path), (10.2, 5), (20, 6))
    assert pairs(path) == [(10, 5), (20, 6)]


@pytest.mark.parametrize(("seconds", "offset"), [(0, 0), (10, 0), (10.1, 5), (20, 5), (21, 7)])
def test_first_offset_since(tmp_path: Path, seconds: float, offset: int) -> None:
    path = tmp_path / "output.times"
    note(TimeIndexWriter(path), (10, 5), (20, 7))
    assert first_offset_since(path, int(seconds * _SECOND)) == offset


def test_without_an_index_everything_may_be_later(tmp_path: Path) -> None:
    assert first_offset_since(tmp_path / "missing", _SECOND) == 0
