#!/usr/bin/env python3
"""Generate the Python code of the wire API from joblet.proto.

    python3 proto/generate.py [OUTDIR]

The code is made where it is used and never committed: generated code refuses a protobuf runtime older than
the compiler that made it, so a package must be built with the compiler of the system it is for. The system's
`protoc` and `grpc_python_plugin` are preferred; `python -m grpc_tools.protoc` serves where they are missing.

This file runs before anything of ours is installed, so it needs the standard library alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parent / "joblet.proto"
DEFAULT_OUTPUT = SOURCE.parent.parent / "joblet_agent" / "pb"
OLDEST_GRPC = "1.51"
OLDEST_PROTOBUF = "4.21"
PACKAGE_DOC = '"""Generated from proto/joblet.proto by proto/generate.py. Never edit."""\n'

# The plugin writes an import that works only when the output directory is on sys.path.
PLUGIN_IMPORT = "\nimport joblet_pb2 as joblet__pb2\n"
PACKAGE_IMPORT = "\nfrom . import joblet_pb2 as joblet__pb2\n"


class GenerateError(Exception):
    """The code cannot be generated; the text says why and what to do."""


def compiler_command() -> list[str]:
    """Return the start of a protoc command line that can also make gRPC code."""
    protoc = shutil.which("protoc")
    plugin = shutil.which("grpc_python_plugin")
    if protoc and plugin:
        return [protoc, f"--plugin=protoc-gen-grpc_python={plugin}"]
    if importlib.util.find_spec("grpc_tools") is not None:
        return [sys.executable, "-m", "grpc_tools.protoc"]
    raise GenerateError(
        "cannot generate code: no protobuf compiler found: install the packages protobuf-compiler and "
        f"protobuf-compiler-grpc, or grpcio-tools for {sys.executable}"
    )


def run_compiler(output: Path) -> None:
    """Write what the compiler makes of the definition into ``output``, which must exist."""
    kinds = [f"--{kind}_out={output}" for kind in ("python", "pyi", "grpc_python")]
    command = [*compiler_command(), f"--proto_path={SOURCE.parent}", *kinds, SOURCE.name]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise GenerateError(f"cannot compile {SOURCE}: {result.stderr.strip() or result.stdout.strip()}")


def make_package(output: Path) -> None:
    """Turn the compiler's output into a package: its ``__init__`` and imports relative to it."""
    stubs = output / "joblet_pb2_grpc.py"
    text = stubs.read_text(encoding="utf-8")
    if PLUGIN_IMPORT not in text:
        raise GenerateError(
            f"cannot make a package of {stubs.name}: the import of joblet_pb2 is not where it used to be"
        )
    stubs.write_text(text.replace(PLUGIN_IMPORT, PACKAGE_IMPORT), encoding="utf-8")
    (output / "__init__.py").write_text(PACKAGE_DOC, encoding="utf-8")


def generate(output: Path) -> list[Path]:
    """Generate the package ``output`` and return its files.

    Every file is complete from the moment it has its name, so that somebody who imports the package meanwhile
    sees the old file or the new one.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as directory:
        make = Path(directory)
        run_compiler(make)
        make_package(make)
        made = sorted(make.iterdir())
        for file in made:
            file.replace(output / file.name)
    return [output / file.name for file in made]


def needs(output: Path) -> list[str]:
    """Return the requirements of generated code: it refuses what is older than its compiler.

    Compilers as old as Debian's, of protobuf 3.21 and grpcio 1.51, leave no word of it in their code.
    """
    messages = (output / "joblet_pb2.py").read_text(encoding="utf-8")
    stubs = (output / "joblet_pb2_grpc.py").read_text(encoding="utf-8")
    protobuf = re.search(r"^# Protobuf Python Version: ([\d.]+)$", messages, re.MULTILINE)
    grpc = re.search(r"^GRPC_GENERATED_VERSION = '([\d.]+)'$", stubs, re.MULTILINE)
    return [
        f"grpcio>={grpc[1] if grpc else OLDEST_GRPC}",
        f"protobuf>={protobuf[1] if protobuf else OLDEST_PROTOBUF}",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Generate the Python code of the wire API.")
    parser.add_argument(
        "output", nargs="?", type=Path, default=DEFAULT_OUTPUT, help="directory (default: %(default)s)"
    )
    try:
        for file in generate(parser.parse_args().output.resolve()):
            print(file)
    except GenerateError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
