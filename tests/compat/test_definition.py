"""The comparison itself: what it must find, and what it must not mind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.compat.definition import Definition, Difference, Field, Method, differences

RUN = "/joblet.JobService/Run"
UUID = Field("uuid", "string", "optional", None, None)
ENVIRONMENT = Field("environment", "message", "repeated", "Entry", None)
VALUE = Field("value", "string", "optional", None, None)
THEIRS = Definition(
    methods={RUN: Method("unary_unary", "Request", "Response")},
    messages={"Request": {1: UUID}, "Response": {2: ENVIRONMENT}, "Entry": {2: VALUE}},
)


def ours(message: str, fields: dict[int, Field]) -> Definition:
    """A definition like theirs, with other fields in one message."""
    return replace(THEIRS, messages={**THEIRS.messages, message: fields})


@pytest.mark.parametrize(
    "definition",
    [
        pytest.param(THEIRS, id="same"),
        pytest.param(ours("Request", {1: replace(UUID, name="id")}), id="renamed field"),
        pytest.param(ours("Request", {1: UUID, 100: VALUE}), id="added field"),
        pytest.param(
            Definition(
                {
                    RUN: Method("unary_unary", "Req", "Response"),
                    "/joblet.JobService/Own": Method("unary_unary", "", ""),
                },
                {"Req": {1: UUID}, "Response": {2: replace(ENVIRONMENT, message="Pair")}, "Pair": {2: VALUE}},
            ),
            id="renamed messages and added method",
        ),
    ],
)
def test_serves(definition: Definition) -> None:
    assert list(differences(THEIRS, definition)) == []


@pytest.mark.parametrize(
    ("definition", "place", "text"),
    [
        pytest.param(replace(THEIRS, methods={}), RUN, "ours has no such method", id="no method"),
        pytest.param(
            replace(THEIRS, methods={RUN: Method("unary_stream", "Request", "Response")}),
            RUN,
            "theirs is unary_unary, ours is unary_stream",
            id="streaming",
        ),
        pytest.param(
            ours("Request", {}),
            "Request.1",
            "theirs is optional string uuid, Request has no such number",
            id="no field",
        ),
        pytest.param(
            ours("Request", {1: replace(UUID, type="bytes")}),
            "Request.1",
            "theirs is optional string uuid, Request has optional bytes uuid",
            id="type",
        ),
        pytest.param(
            ours("Request", {1: replace(UUID, label="repeated")}),
            "Request.1",
            "theirs is optional string uuid, Request has repeated string uuid",
            id="label",
        ),
        pytest.param(
            ours("Request", {1: replace(UUID, oneof="kind")}),
            "Request.1",
            "theirs is optional string uuid, Request has optional string uuid in oneof kind",
            id="oneof",
        ),
        pytest.param(
            ours("Entry", {2: replace(VALUE, type="int32")}),
            "Entry.2",
            "theirs is optional string value, Entry has optional int32 value",
            id="inside a map",
        ),
    ],
)
def test_finds(definition: Definition, place: str, text: str) -> None:
    assert list(differences(THEIRS, definition)) == [Difference(place, text)]


def test_ends_on_recursive_messages() -> None:
    tree = Field("children", "message", "repeated", "Tree", None)
    definition = Definition({RUN: Method("unary_unary", "Tree", "Tree")}, {"Tree": {1: tree}})
    assert list(differences(definition, definition)) == []
