import os
import struct
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import pytest

from joblet_agent.jobs.metrics import history
from joblet_agent.model.metrics import Sample

STARTED_NS = 1_000
START = Sample(taken_ns=STARTED_NS)


def sample(number: int) -> Sample:
    """One of a series, a second apart; every counter differs from the others."""
    first = Sample(STARTED_NS + number * 10**9, cpu_pressure=1.25, io_pressure=100.0)
    counters = [field.name for field in fields(Sample) if field.type in {int, "int"}][1:]
    return replace(first, **{name: number * 100 + place for place, name in enumerate(counters)})


def filled(path: Path, count: int, *, most: int = 1000) -> list[Sample]:
    samples = [sample(number) for number in range(1, count + 1)]
    for each in samples:
        history.append(path, each, started_ns=STARTED_NS, most=most)
    return samples


def test_samples_come_back_with_the_one_before_them(tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    samples = filled(path, 5)
    assert history.read(path, after_ns=0, most=100) == (START, samples)
    assert history.read(path, after_ns=0, most=2) == (START, samples[:2])
    assert history.read(path, after_ns=samples[1].taken_ns, most=2) == (samples[1], samples[2:4])
    assert history.read(path, after_ns=samples[2].taken_ns - 1, most=9) == (samples[1], samples[2:])
    assert history.read(path, after_ns=samples[-1].taken_ns, most=9) == (samples[-1], [])
    assert history.last(path) == samples[-1]
    assert path.stat().st_mode & 0o777 == 0o600


def test_without_a_file_there_is_nothing(tmp_path: Path) -> None:
    assert history.read(tmp_path / "metrics", after_ns=0, most=9)[1] == []
    assert history.last(tmp_path / "metrics") is None


@pytest.mark.parametrize("cut", [1, 50, 101])
def test_a_torn_record_is_not_there_and_the_next_one_takes_its_place(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "metrics"
    samples = filled(path, 3)
    os.truncate(path, path.stat().st_size - cut)
    assert history.read(path, after_ns=0, most=9)[1] == samples[:2]
    assert history.last(path) == samples[1]
    history.append(path, sample(9), started_ns=STARTED_NS, most=1000)
    assert history.read(path, after_ns=0, most=9)[1] == [*samples[:2], sample(9)]


def test_a_damaged_record_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    samples = filled(path, 3)
    content = bytearray(path.read_bytes())
    content[-history._RECORD_SIZE - 20] ^= 1  # in the second record
    path.write_bytes(content)
    assert history.read(path, after_ns=0, most=9)[1] == [samples[0], samples[2]]
    path.write_bytes(path.read_bytes()[:-102] + bytes(102))  # blocks that a power cut left empty
    assert history.last(path) is None
    assert history.read(path, after_ns=0, most=9)[1] == [samples[0]]


@pytest.mark.parametrize(
    "content", [b"", b"JBLT", b"x" * 500, struct.pack(">8sHHq", b"JBLTMETR", 2, 102, 0) + bytes(102)]
)
def test_a_file_of_something_else_is_no_history_and_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "metrics"
    path.write_bytes(content)
    assert history.read(path, after_ns=0, most=9)[1] == []
    assert history.last(path) is None
    history.append(path, sample(1), started_ns=STARTED_NS, most=1000)
    assert history.read(path, after_ns=0, most=9) == (START, [sample(1)])


def test_a_long_history_is_thinned_out_and_keeps_its_ends(tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    (tmp_path / "metrics.new").write_bytes(b"of an agent that died")
    samples = filled(path, 1000, most=100)
    kept = history.read(path, after_ns=0, most=1000)[1]
    assert 50 <= len(kept) < 100
    assert (kept[0], kept[-1]) == (samples[0], samples[-1])
    assert [each for each in samples if each in kept] == kept
    gaps = [after.taken_ns - before.taken_ns for before, after in pairwise(kept)]
    assert gaps[-2:] == [10**9, 10**9]  # recent ones are dense
    assert gaps[0] == max(gaps)
    assert os.listdir(tmp_path) == ["metrics"]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "metrics").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic links"):
        history.append(tmp_path / "metrics", sample(1), started_ns=0, most=9)
    assert os.listdir(tmp_path) == ["metrics"]


def test_figures_beyond_what_a_record_holds_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    history.append(path, Sample(1, tasks=2**40, cpu_pressure=1e9), started_ns=0, most=9)
    assert history.last(path) == Sample(1, tasks=2**32 - 1, cpu_pressure=100.0)
