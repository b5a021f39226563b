"""What a person gets who types into a shell and presses Tab: real bash, zsh and fish on a terminal."""

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

_READY = "<ready>"
# Prompts without colours, nothing of the user's own, and the completion that the system has installed.
_SHELLS = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        "bind 'set enable-bracketed-paste off'; . /usr/share/bash-completion/bash_completion;PS1='<re''ady>'",
    ),
    "zsh": (
        ["zsh", "-f", "-i"],
        "unsetopt prompt_sp; autoload -Uz compinit; compinit -u -D; bindkey -e; PS1=;"
        # Later than the prompt: what is typed before is no key yet.
        "zle-line-init() { printf '<re''ady>' >/dev/tty; }; zle -N zle-line-init",
    ),
}
_SECONDS = 30
# So long waits a Tab here: machines are busy.
_PATIENCE = {"RNX_COMPLETION_SECONDS": "20"}


@dataclass
class Terminal:
    """An interactive bash or zsh."""

    shell: str
    env: Mapping[str, str] = field(default_factory=dict)

    def __enter__(self) -> "Terminal":
        command, setup = _SHELLS[self.shell]
        self._ours, theirs = pty.openpty()
        env = {
            "PATH": os.environ["PATH"],
            "HOME": "/root",
            "TERM": "dumb",
            "LANG": "C.UTF-8",
            **_PATIENCE,
            **self.env,
        }
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *command], stdin=theirs, stdout=theirs, stderr=theirs, env=env
        )
        os.close(theirs)
        self._say(f"{setup}\r")
        self._hear(_READY)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def tab(self, line: str) -> list[str]:
        """Type a line, press Tab, and return its words then; the command itself is not run."""
        self._say(f"{line}\t\x01printf '<%s>' words \x05 end\r")
        heard = self._hear(f"<end>[^<]*{_READY}")
        said = re.findall(r"<words>(.*)<end>", heard)[-1]
        return re.findall(r"<([^<>]*)>", said)

    def tab_twice(self, line: str) -> str:
        """Type a line, press Tab twice, and return what is on the screen then."""
        self._say(f"{line}\t\t\x01printf '<%s>' words \x05 end\r")
        return self._hear(f"<end>[^<]*{_READY}")

    def _say(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def _hear(self, end: str) -> str:
        heard = ""
        until = time.monotonic() + _SECONDS
        while not re.search(end, heard):
            left = until - time.monotonic()
            is_said = left > 0 and select.select([self._ours], [], [], left)[0]
            assert is_said, f"not heard {end}: {heard!r}"
            heard += os.read(self._ours, 65536).decode(errors="replace")
        return heard


def fish(line: str, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what fish offers for a line, each with its description."""
    ran = subprocess.run(
        ["fish", "--command", 'complete --do-complete "$argv[1]"', line],
        env={**os.environ, "LANG": "C.UTF-8", **_PATIENCE, **(env or {})},
        capture_output=True,
        text=True,
        check=True,
        timeout=_SECONDS,
    )
    assert ran.stderr == ""
    return dict(each.partition("\t")[::2] for each in ran.stdout.splitlines())
