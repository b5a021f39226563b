"""The JSON Schema says nothing that the reader does not."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.runtime_file import FileInvalid, load
from joblet_agent.runtime_file.keys import KEYS
from joblet_agent.runtime_file.schema import runtime_schema
from tests.unit.runtime_file.test_loading import WHOLE

jsonschema = pytest.importorskip("jsonschema", reason="the host has it, machines have not")
VALIDATOR = jsonschema.Draft202012Validator(runtime_schema())

values = st.sampled_from(
    [
        1,
        1.5,
        True,
        "x",
        "1.0.0",
        "4GB",
        "30m",
        [],
        ["x"],
        [1],
        {},
        {"language": "python", "version": "3.11"},
        {"required": True},
        {"A": "b"},
        {"A": ["b"]},
        {"packages": ["x"]},
        [{"path": "/opt/runtime/x"}],
    ]
)
names = st.sampled_from([*(each.name for each in KEYS), "aptt"])


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(runtime_schema())


def test_it_takes_a_definition_with_every_key() -> None:
    VALIDATOR.validate(yaml.safe_load(WHOLE))


@given(st.dictionaries(names, values, max_size=3))
def test_what_it_refuses_the_agent_refuses(keys: dict[str, Any]) -> None:
    file = {"schema_version": "1.1", "name": "a", "version": "1.0.0", "suite": "trixie", **keys}
    if VALIDATOR.is_valid(file):
        return
    with pytest.raises(FileInvalid):
        load(yaml.safe_dump(file))
