"""What the global flags say, for every command."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rnx.argv import GLOBAL_FLAGS, FlagValue, with_environment
from rnx.config import resolve
from rnx.output import Format, clean

if TYPE_CHECKING:
    from rnx.client import Client


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to go and how to print."""

    config: str = ""
    node: str = ""
    form: Format = Format.TABLE

    @classmethod
    def from_flags(cls, flags: Mapping[str, FlagValue]) -> "Settings":
        """Combine the flags given with the environment; a flag wins, and ``-o`` wins over ``--json``."""
        given = dict(flags)
        if given.get("json"):
            given.setdefault("output", Format.JSON.value)
        values = with_environment(given, GLOBAL_FLAGS, os.environ)
        return cls(
            config=str(values.get("config", "")),
            node=str(values.get("node", "")),
            form=Format(str(values.get("output", Format.TABLE.value))),
        )

    def connect(self, *, quiet: bool = False) -> "Client":
        """Return a client of the agent that the flags name; nothing is sent yet.

        Says on standard error, unless ``quiet``, that other users can read the configuration's key.
        """
        target = resolve(self.config, self.node, os.environ)
        if target.warning and not quiet:
            print(f"rnx: {clean(target.warning)}", file=sys.stderr)
        from rnx.client import Client  # noqa: PLC0415 - gRPC is half of the start-up time

        return Client(target)
