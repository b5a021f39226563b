"""Texts that nobody means well: an answer in bounded time and memory, and never another exception."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.runtime_file import FileInvalid, load, load_lock
from joblet_agent.runtime_file.keys import KEYS
from joblet_agent.runtime_file.loading import MOST_BYTES

HEAD = 'schema_version: "1.1"\nname: a\nversion: 1.0.0\nbase: {language: python, version: "3.11"}\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the file is empty"),
        ("# nothing", "the file is empty"),
        ("- a", "expected keys with values"),
        ("a", "expected keys with values"),
        ("#" * (MOST_BYTES + 1), f"more than {MOST_BYTES} bytes"),
        ("é" * (MOST_BYTES // 2 + 1), f"more than {MOST_BYTES} bytes"),
        ("a: &a [x, x]\nb: *a", "anchors (&) are not offered; write the value itself"),
        (HEAD + "name: b", "name: is already there in line 2"),
        (HEAD + "---\nname: b", "a second document begins"),
        (HEAD + "apt: !!python/object:os.system [x]", "tags (!) are not offered"),
        ("[" * 1000, "more than 16 maps and lists inside one another"),
        ("name: a\x07", "not YAML"),
        ('schema_version: "2.0"', "schema_version: expected 1.0 or 1.1, not '2.0'"),
        ("name: [", "not YAML"),
    ],
)
def test_c7_definitions_that_are_none(text: str, problem: str) -> None:
    with pytest.raises(FileInvalid) as caught:
        load(text)
    assert problem in "\n".join(caught.value.shown("f"))
    with pytest.raises(FileInvalid):
        load_lock(text)


@pytest.mark.parametrize(
    "lines",
    [
        "pip: ['" + "a" * 900_000 + "!']",
        "pip: ['a" + " " * 900_000 + "!']",
        "pip: ['a" + ",==1" * 200_000 + "!']",
        "pip: {requirements: 'a" + " --hash=sha256:x" * 50_000 + "'}",
        "npm: ['" + "a-" * 400_000 + "!']",
        "image: docker://" + "a-" * 400_000 + "!",
        "apt: ['" + "a" * 900_000 + "!']",
        "npm: {package_json: '" + "[" * 900_000 + "'}",
        "version: 1." + "1" * 900_000 + ".1",
        "files: [" + "{path: x}," * 90_000 + "]",
        "k: v\n" * 200_000,
    ],
    ids=range(11),
)
def test_c7_a_megabyte_of_one_value_is_answered(lines: str) -> None:
    with pytest.raises(FileInvalid) as caught:
        load(HEAD + lines)
    assert len("\n".join(caught.value.shown("f"))) < 100_000


nodes = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.sampled_from(["1.0", "3.11", "a"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from([*(key.name for key in KEYS), "language", "path", "mounts"]), inner),
    ),
    max_leaves=12,
)


@given(nodes, st.sampled_from(["runtime.yaml", "manifest.yaml", "runtime.yml"]))
def test_any_tree_is_read_or_refused(node: object, name: str) -> None:
    text = yaml.safe_dump(node)
    for read in (load, load_lock):
        try:
            read(text, name)
        except FileInvalid as error:
            problems = error.problems
        else:
            continue
        assert problems
