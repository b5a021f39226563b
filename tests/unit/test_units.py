from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.units import (
    GIB,
    KIB,
    LARGEST_SIZE,
    MIB,
    TIB,
    format_bytes,
    format_duration,
    parse_bytes,
    parse_duration,
    readable_bytes,
)

MILLISECOND = timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("0064", 64),
        ("64KiB", 64 * KIB),
        ("512MiB", 512 * MIB),
        ("1GiB", GIB),
        ("2TiB", 2 * TIB),
        ("9223372036854775807", LARGEST_SIZE),
    ],
)
def test_reads_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "1\n",
        "-1",
        "+1",
        "1.5GiB",
        "1e3",
        "1_000",
        "GiB",
        "1GB",
        "1G",
        "1gib",
        "1B",
        "1 GiB",
        "9223372036854775808",
        "8388608TiB",
        "٣",
        "0x10",
    ],
)
def test_refuses_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size such as 512MiB"):
        parse_bytes(text)


@given(st.integers(0, LARGEST_SIZE))
def test_sizes_survive_a_round_trip(size: int) -> None:
    assert parse_bytes(format_bytes(size)) == size


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (KIB - 1, "1023 B"),
        (KIB, "1 KiB"),
        (332_759_320, "317.3 MiB"),
        (3 * MIB // 2, "1.5 MiB"),
        (GIB, "1 GiB"),
        (1_567_663_063, "1.46 GiB"),
    ],
)
def test_sizes_are_readable(size: int, text: str) -> None:
    assert readable_bytes(size) == text


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0s", timedelta(0)),
        ("500ms", timedelta(milliseconds=500)),
        ("10s", timedelta(seconds=10)),
        ("5m", timedelta(minutes=5)),
        ("1h30m", timedelta(minutes=90)),
        ("30d", timedelta(days=30)),
        ("90m", timedelta(minutes=90)),
        ("1d2h3m4s5ms", timedelta(days=1, hours=2, minutes=3, seconds=4, milliseconds=5)),
        ("99999999d99999999h", timedelta(days=99999999, hours=99999999)),
    ],
)
def test_reads_durations(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "s",
        "-1s",
        "1.5s",
        "1 s",
        " 1s",
        "1s ",
        "1s\n",
        "30m1h",
        "1s1s",
        "1w",
        "1S",
        "1sec",
        "٣s",
        "999999999d",
    ],
)
def test_refuses_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 10s"):
        parse_duration(text)


@given(st.integers(0, 99_999_999 * 86_400_000))
def test_durations_survive_a_round_trip(milliseconds: int) -> None:
    duration = milliseconds * MILLISECOND
    assert parse_duration(format_duration(duration)) == duration


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_bytes, parse_duration):
        try:
            parse(text)
        except ValueError:
            continue
