import json

import pytest

from tests.bench.measures import Bound, Row, as_json, markdown, median, percentile, table


@pytest.mark.parametrize(
    ("rank", "value"), [(1, 1.0), (50, 2.0), (75, 3.0), (76, 4.0), (99, 4.0), (100, 4.0)]
)
def test_a_percentile_is_a_value_that_was_measured(rank: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], rank) == value


def test_the_median_of_one_value_is_that_value() -> None:
    assert median([7.0]) == 7.0


@pytest.mark.parametrize(
    ("bound", "value", "verdict"),
    [
        (None, 5.0, ""),
        (Bound(5), 5.0, "reached"),
        (Bound(5), 5.01, "NOT reached"),
        (Bound(5, is_least=True), 5.0, "reached"),
        (Bound(5, is_least=True), 4.99, "NOT reached"),
    ],
)
def test_a_verdict_compares_the_value_with_its_bound(bound: Bound | None, value: float, verdict: str) -> None:
    assert Row("start", "p50", value, "ms", bound).verdict == verdict


def test_the_table_has_a_line_for_each_row() -> None:
    rows = [
        Row("start", "p50", 28.125, "ms", Bound(30)),
        Row("queue", "accepted", 1610.4, "jobs/s", Bound(500, is_least=True), "a note"),
    ]
    assert table(rows).splitlines() == [
        "benchmark  what      value        bound   verdict  note",
        "start      p50       28.1 ms      <= 30   reached",
        "queue      accepted  1610 jobs/s  >= 500  reached  a note",
    ]


def test_the_json_tells_machine_rows_and_verdicts() -> None:
    told = json.loads(as_json({"systemd": "257"}, [Row("start", "p50", 31.0, "ms", Bound(30))]))
    assert told == {
        "machine": {"systemd": "257"},
        "rows": [
            {
                "benchmark": "start",
                "what": "p50",
                "value": 31.0,
                "unit": "ms",
                "bound": {"limit": 30, "is_least": False},
                "note": "",
                "verdict": "NOT reached",
            }
        ],
    }


def test_the_documentation_gets_the_same_rows() -> None:
    rows = [Row("start", "p50", 31.0, "ms", Bound(30)), Row("idle", "wake-ups", 4, "")]
    assert markdown(rows).splitlines()[2:] == [
        "| start | p50 | 31 ms | <= 30 | **NOT reached** |",
        "| idle | wake-ups | 4  |  |  |",
    ]
