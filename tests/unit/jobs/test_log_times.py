import struct
from contextlib import closing
from pathlib import Path

import pytest

from joblet_agent.jobs.log_times import TimeIndex, TimeIndexWriter, first_offset_since

_SECOND = 1_000_000_000


def pairs(path: Path) -> list[tuple[float, int]]:
    return [(at / _SECOND, size) for at, size in struct.iter_unpack(">qq", path.read_bytes())]


def note(writer: TimeIndexWriter, *points: tuple[float, int]) -> None:
    for seconds, size in points:
        writer.note(int(seconds * _SECOND), size)


def test_first_growth_at_once_then_about_one_pair_a_second(tmp_path: Path) -> None:
    path = tmp_path / "output.times"
    writer = TimeIndexWriter(path)
    note(writer, *((10 + tenth / 10, 1 + tenth) for tenth in range(25)))
    assert pairs(path) == [(10.0, 1), (10.9, 10), (11.8, 19)]
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


def test_no_time_is_too_early_and_none_more_than_a_second_too_late(tmp_path: Path) -> None:
    path = tmp_path / "output.times"
    writer = TimeIndexWriter(path)
    written = [0, 10, 500, 990, 1980, 2000, 2900, 7000, 7100, 9000, 9300]  # ms
    for size, at in enumerate(written, 1):
        writer.note((100_000 + at) * 1_000_000, size)
    writer.finish()
    with closing(TimeIndex(path)) as index:
        for size, at in enumerate(written, 1):
            ((_, told),) = index.parts(size - 1, size, 0)
            assert 0 <= told // 1_000_000 - 100_000 - at <= 1000


def test_parts_end_where_the_index_says(tmp_path: Path) -> None:
    path = tmp_path / "output.times"
    with closing(TimeIndex(path)) as index:
        assert index.parts(0, 5, 77) == [(5, 77)]  # no index yet
        path.write_bytes(b"".join(struct.pack(">qq", time, size) for time, size in [(10, 4), (20, 8)]))
        assert index.parts(0, 4, 77) == [(4, 10)]
        assert index.parts(2, 6, 77) == [(4, 10), (6, 20)]
        assert index.parts(4, 20, 77) == [(8, 20), (20, 77)]
        assert index.parts(8, 9, 77) == [(9, 77)]
        assert index.parts(3, 3, 77) == []
        with path.open("ab") as file:
            file.write(struct.pack(">qq", 30, 12) + b"torn")
        assert index.parts(8, 20, 77) == [(12, 30), (20, 77)]
