from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.workflow_file import FileInvalid, load
from joblet_agent.workflow_file.keys import JOB_KEYS
from joblet_agent.workflow_file.schema import workflow_schema

jsonschema = pytest.importorskip("jsonschema", reason="the host has it, machines have not")
VALIDATOR = jsonschema.Draft202012Validator(workflow_schema())

values = st.sampled_from(
    [
        1,
        -1,
        1.5,
        True,
        "x",
        "10s",
        "512M",
        "0-3",
        "COMPLETED",
        [],
        ["x"],
        {},
        {"count": 2},
        {"files": ["a"]},
        {"A": "b"},
        {"A": ["b"]},
        {"a": "COMPLETED"},
        {"max_cpu": 50},
    ]
)
names = st.sampled_from([*(each.name for each in JOB_KEYS), "comand"])
files = st.dictionaries(names, values, max_size=4).map(
    lambda job: {"jobs": {"a": {"command": "x"}, "b": job}}
)


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(workflow_schema())


@given(files)
def test_what_it_refuses_the_agent_refuses(file: dict[str, Any]) -> None:
    if VALIDATOR.is_valid(file):
        return
    with pytest.raises(FileInvalid):
        load(yaml.safe_dump(file))


@pytest.mark.parametrize(
    "job",
    [
        {"command": "x", "requires": [{"a": "COMPLETED"}, "a", {"expression": "a=FAILED"}]},
        {"command": "x", "retries": 3, "resources": {"max_memory": "1G", "max_cpu": 1.5}},
        {"command": "x", "retries": {"count": 3, "delay": "10s", "backoff": 2}},
        {"command": "x", "matrix": {"py": [3.11, "3.12"]}, "environment": {"N": 1}},
        {"command": "x", "uploads": {"files": ["a"], "directories": "b"}, "when": "always"},
    ],
)
def test_it_takes_what_the_agent_takes(job: dict[str, Any]) -> None:
    file = {"jobs": {"a": {"command": "x"}, "b": job}}
    VALIDATOR.validate(file)
    load(yaml.safe_dump(file))


def test_it_knows_a_wrong_key() -> None:
    assert not VALIDATOR.is_valid({"jobs": {"a": {"comand": "x"}}})
