"""The file that a client needs: ``rnx-config.yml`` with its certificate, key, and the CA's certificates."""

from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, as people know PEM."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def bundle(endpoint: str, certificate: str, key: str, authorities: str) -> bytes:
    """Return the file: the format of the published clients, with one node, ``default``."""
    node = {"address": endpoint, "cert": certificate, "key": key, "ca": authorities}
    content: dict[str, Any] = {"version": "3.0", "nodes": {"default": node}}
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=1000)
    return text.encode()
