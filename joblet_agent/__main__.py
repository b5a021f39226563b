"""The command ``joblet-agent``: the agent itself, or one of its tools."""

import os
import sys
from importlib import import_module

TOOLS = {
    "check": "joblet_agent.fitness.command",
    "config": "joblet_agent.config.command",
    "pki": "joblet_agent.pki.command",
}
"""Which module has the tool of that name: its ``run`` takes the words behind it, returns an exit status.

Its ``cli`` is what click knows of it, for completion and the manual.
"""
_COMPLETE = "_JOBLET_AGENT_COMPLETE"
"""Set by the scripts of rnx/shells.py."""


def main() -> None:
    """Run the tool that the first word names, or without one of these the agent."""
    words = sys.argv[1:]
    if _COMPLETE in os.environ:
        from joblet_agent.command_line import offer  # noqa: PLC0415 - click, which the agent does without

        offer(TOOLS)
        return
    if words and words[0] in TOOLS:
        # Loaded alone: the agent needs nothing of it, and it needs nothing of the agent's.
        sys.exit(import_module(TOOLS[words[0]]).run(words[1:]))
    if {"-h", "--help"} & set(words):
        from joblet_agent.command_line import show_help  # noqa: PLC0415

        show_help(TOOLS)
        return
    from joblet_agent.daemon import main  # noqa: PLC0415 - a tool needs nothing of it

    main()


if __name__ == "__main__":
    main()
