"""rnx workflow: what is wrong in a file, and its picture."""

import json
import re
from pathlib import Path

import click
import pytest

from joblet_agent.workflow_file import load
from rnx.cli import workflow_group
from tests.unit.rnx.conftest import Rnx

GOOD = """
jobs:
  load: {command: python3, args: [load.py], uploads: {files: [load.py]}}
  test: {command: pytest, matrix: {db: [sqlite, pg]}, requires: load}
  done: {command: echo, requires: {test: COMPLETED}}
workflows:
  other: {jobs: {one: {command: "true"}}}
"""


@pytest.fixture
def good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "load.py").touch()
    (tmp_path / "w.yml").write_text(GOOD, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return "w.yml"


def test_a_valid_file_is_told_with_the_number_of_its_jobs(good: str, rnx: Rnx) -> None:
    assert (rnx("workflow", "validate", good).out, rnx("workflow", "validate", good).status) == (
        "w.yml: valid, 4 jobs\n",
        0,
    )


def test_one_of_its_workflows_or_jobs_can_be_named(good: str, rnx: Rnx) -> None:
    assert rnx("workflow", "validate", f"{good}:other").out == "w.yml: valid, 1 job\n"
    assert rnx("workflow", "validate", f"{good}:test").out == "w.yml: valid, 2 jobs\n"
    assert "there is no workflow or job 'othr' in the file, did you mean other?" in (
        rnx("workflow", "validate", f"{good}:othr").out
    )


def test_all_faults_are_printed_with_their_places(tmp_path: Path, rnx: Rnx) -> None:
    file = tmp_path / "w.yml"
    file.write_text("jobs:\n  a: {comand: x}\n  b: {command: y, requires: c}\n", encoding="utf-8")
    result = rnx("workflow", "validate", str(file))
    assert result.status == 1
    assert result.out.splitlines() == [
        f"{file}:2:6: jobs.a: command is missing",
        f"{file}:2:7: jobs.a.'comand': unknown key, did you mean command?",
        f"{file}:3:29: jobs.b.requires: there is no job 'c'",
    ]
    told = json.loads(rnx("workflow", "validate", str(file), "--json").out)
    assert told["valid"] is False
    assert told["problems"][1] == {
        "line": 2,
        "column": 7,
        "key": "jobs.a.'comand'",
        "message": "unknown key, did you mean command?",
    }


def test_files_that_jobs_upload_must_be_there(good: str, rnx: Rnx) -> None:
    Path("load.py").unlink()
    result = rnx("workflow", "validate", good)
    assert (result.status, result.out) == (
        1,
        "w.yml:3:63: jobs.load.uploads.files: file load.py referenced in job load not found\n",
    )


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, rnx: Rnx) -> None:
    result = rnx("workflow", "validate", str(tmp_path / "none.yml"))
    assert (result.status, result.err) == (
        1,
        f"rnx: cannot read {tmp_path / 'none.yml'}: No such file or directory\n",
    )


def test_the_graph_shows_the_order_and_what_is_waited_for(good: str, rnx: Rnx) -> None:
    assert rnx("workflow", "graph", good).out.splitlines() == [
        "step 1",
        "└── load",
        "step 2",
        "├── test-sqlite  after load=COMPLETED",
        "└── test-pg  after load=COMPLETED",
        "step 3",
        "└── done  after test=COMPLETED",
    ]
    dot = rnx("workflow", "graph", good, "--dot").out
    assert '"load" -> "test-pg";' in dot
    assert '"test-pg" -> "done";' in dot
    steps = json.loads(rnx("workflow", "graph", good, "--json").out)["steps"]
    assert steps == [["load"], ["test-sqlite", "test-pg"], ["done"]]


def test_text_of_a_file_is_no_command_to_a_terminal_or_to_dot(tmp_path: Path, rnx: Rnx) -> None:
    file = tmp_path / "w.yml"
    file.write_text('jobs: {a: {command: "\\"];\\e[2J\\\\"}}', encoding="utf-8")
    dot = rnx("workflow", "graph", str(file), "--dot").out
    assert '"a" [label="a\\n\\"];\\\\x1b[2J\\\\"];' in dot


def test_the_examples_of_the_documentation_are_valid() -> None:
    page = (Path(__file__).parents[3] / "docs/workflows.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert examples
    for text in examples:
        load(text)


def test_commands_of_the_documentation_are_there() -> None:
    page = (Path(__file__).parents[3] / "docs/workflows.md").read_text(encoding="utf-8")
    named = set(re.findall(r"rnx workflow ([a-z]+)", page))
    assert named == set(workflow_group.list_commands(click.Context(workflow_group)))


def test_the_schema_is_json(rnx: Rnx) -> None:
    assert "command" in json.loads(rnx("workflow", "schema").out)["$defs"]["job"]["properties"]
