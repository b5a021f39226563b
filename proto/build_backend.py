"""The build backend of pyproject.toml (PEP 517): setuptools', after the wire code has been generated.

Without a compiler on the system pip brings one along; the code it makes wants a protobuf and a grpcio
that are as new, which is what pip installs into a new environment.
"""

from __future__ import annotations

from typing import Any

import generate
from setuptools import build_meta
from setuptools.build_meta import (
    build_sdist,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    try:
        generate.compiler_command()
    except generate.GenerateError:
        return [*build_meta.get_requires_for_build_wheel(config_settings), "grpcio-tools"]
    return list(build_meta.get_requires_for_build_wheel(config_settings))


get_requires_for_build_editable = get_requires_for_build_wheel


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None) -> str:
    generate.generate(generate.DEFAULT_OUTPUT)
    return str(build_meta.build_wheel(wheel_directory, config_settings, metadata_directory))


def build_editable(wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None) -> str:
    generate.generate(generate.DEFAULT_OUTPUT)
    return str(build_meta.build_editable(wheel_directory, config_settings, metadata_directory))
