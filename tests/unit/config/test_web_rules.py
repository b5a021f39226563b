"""Addresses in the configuration: of registries and of the proxy."""

from pathlib import Path

import pytest

from joblet_agent.config import load_config
from joblet_agent.errors import InvalidConfig


def loaded(tmp_path: Path, text: str) -> str:
    path = tmp_path / "agent.yml"
    path.write_text(f"runtimes: {{{text}}}\n")
    return load_config(path).runtimes.registry


@pytest.mark.parametrize(
    "address", ["", "https://host.example/a", "http://10.0.0.7:8080/registry.json", "file:///srv/runtimes"]
)
def test_a_registry_is_on_the_web_or_on_this_host(tmp_path: Path, address: str) -> None:
    assert loaded(tmp_path, f'registry: "{address}"') == address


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("registry: host.example", "begins with https://"),
        ("registry: /srv/runtimes", "begins with https://"),
        ('registry: "file:///srv/../etc"', "an absolute path without '..'"),
        ('registry: "https://me:word@host.example/"', "without user and password"),
        ("registry: 7", "expected a text"),
        ('proxy: "https://proxy.example:3128"', "an address such as http://proxy.example:3128"),
        ('proxy: "http://proxy.example:3128/path"', "an address such as http://proxy.example:3128"),
        ('proxy: "file:///srv"', "begins with https://"),
        ('no_proxy: "a b/c"', "DNS names and IP addresses"),
        ("require: trust", "one of signature, digest, none"),
        ("max_size: 1KiB", "a size from"),
    ],
)
def test_what_is_none_is_told(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InvalidConfig, match=r"agent\.yml:1") as raised:
        loaded(tmp_path, text)
    assert problem in str(raised.value)
