from collections.abc import Iterator
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from yaml.events import (
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from joblet_agent.workflow_file.loading import load
from joblet_agent.workflow_file.masking import NOTHING_SHOWN, masked
from joblet_agent.workflow_file.values import Workflow
from joblet_agent.yaml_file.problems import FileInvalid, Mark

SECRET = "S3CR"
"""In each line of each secret."""
NAMES = ("A", "TOKEN", "secret_environment", "password_2")
STYLES = st.sampled_from(["", "'", '"', "|", ">"])
PARTS = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")
    | st.sampled_from("\n \t#:'\"|>{}[],&*!%@`-?~=\\é😀\u2028\x85"),
    max_size=20,
)
VALUES = st.lists(PARTS, max_size=4).map(SECRET.join)
MAPS = st.dictionaries(st.sampled_from(NAMES), st.tuples(VALUES, STYLES), max_size=3)


@st.composite
def files(draw: st.DrawFn) -> str:
    """Return a file in any form that YAML has."""

    def scalar(text: str, style: str = "") -> ScalarEvent:
        return ScalarEvent(None, None, (True, True), text, style=style or None)

    def section() -> Iterator[Event]:
        if not draw(st.booleans()):
            return
        yield scalar("secret_environment", draw(st.sampled_from(["", '"', "'"])))
        yield MappingStartEvent(None, None, True, flow_style=draw(st.booleans()))
        for name, (value, style) in draw(MAPS).items():
            yield scalar(name)
            yield scalar(value, style)
        yield MappingEndEvent()

    def job(command: str) -> Iterator[Event]:
        yield MappingStartEvent(None, None, True, flow_style=draw(st.booleans()))
        yield from section()
        yield scalar("command")
        yield scalar(command)
        yield from section_of_plain()
        yield MappingEndEvent()

    def section_of_plain() -> Iterator[Event]:
        yield scalar("environment")
        yield MappingStartEvent(None, None, True, flow_style=draw(st.booleans()))
        yield scalar("PLAIN")
        yield scalar("seen by all", draw(STYLES))
        yield MappingEndEvent()

    def workflow() -> Iterator[Event]:
        yield from section()
        yield scalar("defaults")
        yield from job("true")
        yield scalar("jobs")
        yield MappingStartEvent(None, None, True, flow_style=draw(st.booleans()))
        for name in (".template", "first", "second"):
            yield scalar(name)
            yield from job(f"run-{name}")
        yield MappingEndEvent()

    def document() -> Iterator[Event]:
        yield StreamStartEvent()
        yield DocumentStartEvent(explicit=draw(st.booleans()))
        yield MappingStartEvent(None, None, True, flow_style=draw(st.booleans()))
        yield from workflow()
        yield scalar("workflows")
        yield MappingStartEvent(None, None, True, flow_style=False)
        yield scalar("other")
        yield MappingStartEvent(None, None, True, flow_style=False)
        yield from workflow()
        yield MappingEndEvent()
        yield MappingEndEvent()
        yield MappingEndEvent()
        yield DocumentEndEvent(explicit=draw(st.booleans()))
        yield StreamEndEvent()

    text: str = yaml.emit(
        document(),
        allow_unicode=draw(st.booleans()),
        indent=draw(st.integers(2, 6)),
        width=draw(st.sampled_from([20, 80, 10_000])),
        line_break=draw(st.sampled_from(["\n", "\r\n", "\r"])),
    )
    return text.rstrip("\n") if draw(st.booleans()) else text


@pytest.mark.exhaustive
@given(files())
def test_no_secret_is_in_the_text_and_all_else_is(text: str) -> None:
    shown = masked(text)
    assert SECRET not in shown
    assert shown != NOTHING_SHOWN
    assert without_secrets(yaml.safe_load(text)) == without_secrets(yaml.safe_load(shown))


@pytest.mark.exhaustive
@given(files())
def test_it_is_the_same_workflow(text: str) -> None:
    try:
        before = load(text)
    except FileInvalid:  # variables in a circle, for instance
        return
    shown = masked(text)
    assert shown != NOTHING_SHOWN
    after = load(shown)
    for name in ("", "other"):
        assert comparable(after.select(name)) == comparable(before.select(name))
    assert masked(shown) == shown


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r", "\x85", "\u2028", "\u2029"])
def test_a_secret_ends_where_a_line_of_yaml_ends(line_end: str) -> None:
    text = f"jobs:\n  a:\n    secret_environment:\n      A: |2\n        {SECRET}{line_end}    command: x\n"
    assert masked(text) == 'jobs:\n  a:\n    secret_environment:\n      A: "***"\n    command: x\n'


def comparable(workflow: Workflow) -> Workflow:
    """Without values of secrets, and without places: a secret of several lines is one now."""
    jobs = {
        name: replace(
            job, mark=Mark(), marks={}, secret_environment=dict.fromkeys(job.secret_environment, "")
        )
        for name, job in workflow.jobs.items()
    }
    return replace(workflow, jobs=jobs, marks={})


def without_secrets(node: object) -> object:
    if not isinstance(node, dict):
        return node
    return {
        name: sorted(value) if name == "secret_environment" else without_secrets(value)
        for name, value in node.items()
    }


BEFORE = """\
# the key is in the vault
secret_environment:
  TOKEN: s3cret        # renewed in May
  "QUOTED" : 's3c''ret'   # too
  EMPTY:
  FOLDED: >-
    s3cret of

    several lines
  # between
  BLOCK: |2  # of two
      s3cret
     s3cret # no comment

jobs:
  a: {command: run, secret_environment: {A: s3cret, "B":"s3cret", C: }, args: [a, b]}  # flow
  b:
    command: run
    secret_environment: &anchor {A: s3cret}
    environment: {PLAIN: shown}
    secret_environment:
      ? A
      : s3cret
        goes on
      LAST: |
        s3cret"""
AFTER = """\
# the key is in the vault
secret_environment:
  TOKEN: "***"        # renewed in May
  "QUOTED" : "***"   # too
  EMPTY:
  FOLDED: "***"
  # between
  BLOCK: "***"
jobs:
  a: {command: run, secret_environment: {A: "***", "B":"***", C: }, args: [a, b]}  # flow
  b:
    command: run
    secret_environment: &anchor {A: "***"}
    environment: {PLAIN: shown}
    secret_environment:
      ? A
      : "***"
      LAST: "***\""""


def test_comments_and_everything_else_stay_as_they_are() -> None:
    assert masked(BEFORE) == AFTER
    windows = masked(BEFORE.replace("\n", "\r\n"))
    assert windows.replace("\r\n", "\n") == AFTER


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("jobs: {a: {command: x}}", "jobs: {a: {command: x}}"),
        ("\ufeffsecret_environment: {A: s3cret} # é😀\n", '\ufeffsecret_environment: {A: "***"} # é😀\n'),
        ('"secret\\x5fenvironment": {A: s3cret}', '"secret\\x5fenvironment": {A: "***"}'),
        ("secret_environment: {A: &x !!str s3cret}\nb: *x", 'secret_environment: {A: &x "***"}\nb: *x'),
        ("b: &x s3cret\nsecret_environment: {A: *x}", NOTHING_SHOWN),
        ("b: &x {A: s3cret}\nsecret_environment: *x", NOTHING_SHOWN),
        ("b: &x {A: s3cret}\nsecret_environment: {<<: *x}", NOTHING_SHOWN),
        ("k: &k secret_environment\n*k : {A: s3cret}", 'k: &k secret_environment\n*k : {A: "***"}'),
        ("secret_environment: s3cret", 'secret_environment: "***"'),
        ("secret_environment: [s3cret, {s3cret: s3cret}]", 'secret_environment: ["***", {"***": "***"}]'),
        ("secret_environment: {A: {s3cret: [s3cret]}}", 'secret_environment: {A: {"***": ["***"]}}'),
        ("a: 1\n---\nsecret_environment: {A: s3cret}", 'a: 1\n---\nsecret_environment: {A: "***"}'),
        ("secret_environment: {A: s3cret", NOTHING_SHOWN),
        ("secret_environment: {A: s3cret\0}", NOTHING_SHOWN),
        ('secret_environment: {A: "s3cret\\UFFFFFFFF"}', NOTHING_SHOWN),
        pytest.param("secret_environment: " + "[" * 100_000, NOTHING_SHOWN, id="deep"),
    ],
)
def test_what_is_no_usual_file_shows_rather_less(text: str, shown: str) -> None:
    assert masked(text) == shown
