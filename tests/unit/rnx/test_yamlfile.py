"""A configuration from anybody costs little and raises RnxError, nothing else."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rnx.config import Node, load_nodes, nodes_of, resolve
from rnx.exits import RnxError
from rnx.yamlfile import DEEPEST, MOST_BYTES, decoded, read_document


@pytest.fixture(params=["C", "Python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "Python":
        monkeypatch.delattr(yaml, "CBaseLoader")


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 25))


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "line 2: an alias (*name); write the value itself"),
        ("a: &a\n  b: *a\n", "line 2: an alias (*name); write the value itself"),
        ("x:\n  " + "[" * 200, f"line 2: more than {DEEPEST} maps and lists inside each other"),
        ("x:\n  " + "[" * 2000, "line 2: "),  # libyaml has a bound of its own
        ("- " * 2000 + "x", f"line 1: more than {DEEPEST} maps and lists inside each other"),
        ("? [a]\n: b\n", "line 1: a key that is no text"),
        ("nodes:\n  a: 1\n  a: 2\n", "line 3: a key that was there before"),
        ("a: 1\n--- \nb: 2\n", "line 2: a second document"),
        ("a: 1\nb: [\n", "line 3: "),
        ('a: "\\ud800"\n', "line 1: "),
        ("a: \x00\n", "not YAML"),
    ],
)
def test_c7_what_a_configuration_needs_not_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(RnxError) as caught:
        read_document(text, "c.yml")
    assert str(caught.value).startswith(f"cannot read the configuration c.yml: {said}")


@pytest.mark.usefixtures("parser")
def test_every_scalar_is_a_text() -> None:
    assert read_document("a: 1\nb: [yes, ~, 2001-99-99, !!python/none x]\n? c\n: {}\n", "") == {
        "a": "1",
        "b": ["yes", "~", "2001-99-99", "x"],
        "c": {},
    }
    assert read_document("", "") == ""


def test_c7_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(RnxError, match=f"it has more than {MOST_BYTES} bytes"):
        load_nodes(tmp_path / "c.yml")


PIECES = st.sampled_from(
    ["nodes:", "default:", "address:", "cert: |", "- ", "[", "]", "{", "}", "&a ", "*a ", "<<: ", "? ", ": ",
     "!!int ", "!!set ", "%YAML 1.1\n", "---\n", "...\n", "\n", "  ", "\t", '"\\ud800"', "'", '"', "\\x", "x",
     "2001-99-99", "0x_", "9" * 5000, "\ufeff", "\x85", "#"]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join)))
def test_c8_any_text_is_nodes_or_our_error(text: str) -> None:
    try:
        nodes = nodes_of(read_document(text, "c.yml"), "c.yml")
    except RnxError:
        return
    assert all(isinstance(node, Node) for node in nodes.values())


@given(st.one_of(st.binary(), st.lists(PIECES, max_size=40).map(lambda words: "".join(words).encode())))
def test_c8_any_bytes_are_text_or_our_error(content: bytes) -> None:
    try:
        read_document(decoded(content, "c.yml"), "c.yml")
    except RnxError:
        return


VALUES = st.recursive(
    st.text(max_size=20),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)
ENTRIES = st.dictionaries(st.sampled_from(["address", "nodeId", "cert", "key", "ca", "more"]), VALUES)


@given(st.dictionaries(st.text(max_size=8), ENTRIES | VALUES, min_size=1, max_size=2))
def test_c8_any_entries_give_a_target_or_our_error(
    tmp_path_factory: pytest.TempPathFactory, nodes: dict[str, object]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yml"
    path.write_text(yaml.safe_dump({"nodes": nodes}))
    for name in (*nodes, "default"):
        try:
            resolve(str(path), name, {})
        except RnxError:
            continue
