"""docs/security.md names tests that there are."""

import re
from pathlib import Path

import pytest

from tests.unit.test_attack_cases import NAMED, is_there

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "security.md"


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED.findall(DOCUMENT.read_text(encoding="utf-8")))))
def test_each_test_that_is_named_is_there(file: str, name: str) -> None:
    assert is_there(file, name)


def test_each_line_about_somebody_names_what_shows_it() -> None:
    rows = re.findall(r"^\| (.+) \| (.+) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    told = [row for row in rows if row[1] not in {"shown by", "---"}]
    assert [what for what, shown in told if not (NAMED.search(shown) or "**can**" in what)] == []
