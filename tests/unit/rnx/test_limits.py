"""Limits as people type them."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnx.exits import UsageError
from rnx.limits import limit_fields, limits_text, read_cpu, read_megabytes, read_rate

Reader = Callable[[str, str], int]


@pytest.mark.parametrize(
    ("read", "text", "number"),
    [
        (read_cpu, "50", 50),
        (read_cpu, "400", 400),
        (read_cpu, "150%", 150),
        (read_cpu, "1.5", 150),
        (read_cpu, "0.25", 25),
        (read_cpu, "2.0", 200),
        (read_cpu, "0", 0),
        (read_megabytes, "512", 512),
        (read_megabytes, "512M", 512),
        (read_megabytes, "512MB", 512),
        (read_megabytes, "512MiB", 512),
        (read_megabytes, "2G", 2048),
        (read_megabytes, "1.5g", 1536),
        (read_megabytes, "2048K", 2),
        (read_megabytes, "1T", 1 << 20),
        (read_rate, "1000000", 1_000_000),
        (read_rate, "10M", 10 << 20),
        (read_rate, "1.5M/s", 1_572_864),
        (read_rate, "64KiB", 65536),
    ],
)
def test_what_can_be_read(read: Reader, text: str, number: int) -> None:
    assert read("--x", text) == number


@pytest.mark.parametrize(
    ("read", "text", "problem"),
    [
        (read_cpu, "many", "not an amount of CPU"),
        (read_cpu, "-1", "not an amount of CPU"),
        (read_cpu, "1.5%", "not an amount of CPU"),
        (read_cpu, "", "not an amount of CPU"),
        (read_cpu, "0.005", "it is no whole number of percent"),
        (read_cpu, "99999999.5", "the largest number is 2147483647 percent"),
        (read_megabytes, "1.5", "a fraction wants a unit"),
        (read_megabytes, "100K", "it is no whole number of MB"),
        (read_megabytes, "2147483648", "the largest number is 2147483647 MB"),
        (read_megabytes, "5X", "not a size"),
        (read_megabytes, "٣", "not a size"),
        (read_rate, "2G", "the largest number is 2147483647 bytes per second"),
        (read_rate, "1.0001K", "it is no whole number of bytes per second"),
        (read_rate, "fast", "not a size"),
    ],
)
def test_what_cannot_be_read_is_an_error(read: Reader, text: str, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        read("--x", text)
    assert str(caught.value) == f"cannot read --x={text}: {problem}"


@given(st.sampled_from([read_cpu, read_megabytes, read_rate]), st.text() | st.text("0123456789.KMGTiB/s%"))
def test_c8_any_text_is_a_number_or_an_error(read: Reader, text: str) -> None:
    try:
        number = read("--x", text)
    except UsageError as error:
        assert "cannot read --x=" in str(error)  # noqa: PT017 - most texts are wrong, some are not
    else:
        assert 0 <= number < 2**31


def test_only_what_was_given_is_in_the_request() -> None:
    assert limit_fields({"attach": True}) == {}
    assert limit_fields({"max_cpu": "1.5", "max_iobps": "1K", "timeout": "5m", "nice": 3}) == {
        "max_cpu": 150,
        "max_io_bps": 1024,
        "timeout": "5m",
        "nice": 3,
    }


def test_only_what_is_set_is_told() -> None:
    assert limits_text({"max_cpu": 50, "max_memory": 0, "timeout": "", "nice": 3}) == [
        "Max CPU: 50%",
        "Nice: 3",
    ]
