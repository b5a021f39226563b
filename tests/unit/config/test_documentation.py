"""docs/operations.md has every key with its default, and says when a change counts."""

import re
from pathlib import Path

from joblet_agent.config import AgentConfig, load_config
from joblet_agent.config.keys import every_key
from tests.unit.config.test_load import known_keys

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "operations.md"
ROW = re.compile(r"^\| `([a-z_.]+)` \| `([^`]+)` \| (reload|restart) \| ", re.MULTILINE)


def test_the_documented_keys_and_defaults_are_those_of_the_program(tmp_path: Path) -> None:
    found = ROW.findall(DOCUMENT.read_text(encoding="utf-8"))
    assert {key: change for key, _, change in found} == {key.name: key.change.value for key in every_key()}
    rows = {key: default for key, default, _ in found}
    assert rows.keys() == known_keys(AgentConfig)
    text, sections = "", list[str]()
    for key, default in rows.items():
        *inside, name = key.split(".")
        kept = [old for old, new in zip(sections, inside, strict=False) if old == new]
        for depth, section in enumerate(inside[len(kept) :], len(kept)):
            text += f"{'  ' * depth}{section}:\n"
        text += f"{'  ' * len(inside)}{name}: {default}\n"
        sections = inside
    file = tmp_path / "agent.yml"
    file.write_text(text, encoding="utf-8")
    assert load_config(file) == AgentConfig()
