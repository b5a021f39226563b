import json
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rnx.output import Column, Format, clean, show, show_record, status_word, table


@given(st.text())
def test_cleaned_text_cannot_move_a_terminal(text: str) -> None:
    assert clean(text).isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode", "plain ünïcode"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202eabc", "\\u202eabc"),
    ],
)
def test_escapes_become_visible(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert status_word("FAILED") == "FAILED"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert status_word("FAILED") == "\x1b[31mFAILED\x1b[0m"
    monkeypatch.setenv("RNX_NO_COLOR", "1")
    assert status_word("FAILED") == "FAILED"


def test_colours_take_no_room_in_a_table() -> None:
    rows = [["abcdefgh", "X", "end"], ["a", "YY", ""]]
    columns = (Column("ONE", 6), Column("TWO", paint=lambda text: f"<{text}>"), Column("THREE"))
    assert table(columns, rows) == (
        "ONE     TWO  THREE\n--------------------\nabc...  <X>    end\na       <YY>   -"
    )


@given(st.dictionaries(st.text(), st.text()))
def test_json_and_yaml_can_be_read_back(data: dict[str, str]) -> None:
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda text, **_: printed.append(text))
        show(Format.JSON, data, str)
        show(Format.YAML, data, str)
        show_record(Format.JSON, data)
    assert json.loads(printed[0]) == data
    assert yaml.safe_load(printed[1]) == data
    assert json.loads(printed[2]) == data
    assert "\n" not in printed[2]
