"""Texts among YAML's plain scalars, which may mean something else without quotes."""

import json
import re

import yaml

from joblet_agent.config.document import Scalar

_STRING = "tag:yaml.org,2002:str"

_resolver = yaml.resolver.Resolver()


def text_of(scalar: Scalar) -> str:
    """Return the text. Raises ValueError where YAML takes it for something else."""
    if scalar.is_plain and _plain_tag(scalar.text) != _STRING:
        raise ValueError("expected a text (put it in quotes)")
    return scalar.text


def _plain_tag(text: str) -> str:
    return str(_resolver.resolve(yaml.ScalarNode, text, (True, False)))  # type: ignore[no-untyped-call]


def written(text: str) -> str:
    """Return the text as ``text_of`` reads it: in quotes unless it is plain in every way."""
    is_plain = re.fullmatch(r"[A-Za-z0-9/][A-Za-z0-9/_.@-]*", text) and _plain_tag(text) == _STRING
    return text if is_plain else json.dumps(text, ensure_ascii=False)  # which is YAML, too
