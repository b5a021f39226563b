"""Completion in bash, zsh and fish: the script that a shell loads, and the answer it gets at each Tab.

The words are read by click's own completion (click.shell_completion). Scripts and answers are ours, because
those of click offer a bare value for ``--node=``, and let the shell expand what is offered. A script calls
the program with the line up to the cursor; the answer has a line for each candidate: its kind (plain, file
or dir), its value and what it is, between tabs.

Must not know the commands of rnx: the agent's command line is completed by the same scripts.
"""

import os
import re
import threading
from collections.abc import Sequence
from typing import ClassVar

import click
from click.shell_completion import CompletionItem, ShellComplete, split_arg_string

_SECONDS = 1.0
"""Whoever presses Tab does not wait longer for what may not come, unless he says so."""
_SECONDS_VARIABLE = "RNX_COMPLETION_SECONDS"
_LONGEST_HELP = 60
# Nothing that a shell or a terminal acts upon, whatever an agent says: the rest is not offered.
_HARMLESS = re.compile(r"[\w@%+=:,./-]+")
_CURSOR = "\x01"


def variable(program: str) -> str:
    """Return the environment variable that tells the program to complete."""
    return f"_{program.replace('-', '_').upper()}_COMPLETE"


def script(program: str, shell: str) -> str:
    """Return what the shell loads."""
    return SHELLS[shell](click.Command(program), {}, program, variable(program)).source()


def complete(root: click.Command, program: str) -> None:
    """Print candidates for the line that the environment tells; when the time is over the process ends."""
    shell = SHELLS[os.environ[variable(program)].removesuffix("_complete")]
    deadline = threading.Timer(_seconds(), os._exit, [0])
    deadline.daemon = True
    deadline.start()
    try:
        answer = shell(root, {}, program, variable(program)).complete()
    finally:
        deadline.cancel()
    print(answer)


class _Shell(ShellComplete):
    """What the three have in common."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the whole words before the cursor, and what is typed of the one at it."""
        _, *words = split_arg_string(os.environ["COMP_LINE"] + _CURSOR)
        before, (at_cursor, *_) = words[:-1], words[-1:] or [_CURSOR]
        return before, at_cursor.removesuffix(_CURSOR)

    def complete(self) -> str:
        """Return the answer: the candidates with what of the word they do not repeat (``--node=``)."""
        words, begun = self.get_completion_args()
        option, equals, _ = begun.partition("=")
        kept = option + equals if equals and begun.startswith("-") else ""
        found: Sequence[CompletionItem] = self.get_completions(words, begun)
        return "\n".join(filter(None, (self._line(item, kept) for item in found)))

    def _line(self, item: CompletionItem, kept: str) -> str:
        if item.type != "plain":
            return f"{item.type}\t{kept}"
        value = self._value(kept + item.value)
        if not value or not _HARMLESS.fullmatch(item.value):
            return ""
        return f"{item.type}\t{value}\t{_shown(item.help or '')}"

    def _value(self, value: str) -> str:
        """Return the part of the word that the shell replaces."""
        return value


class _Bash(_Shell):
    name = "bash"
    # Before 4.4 there is no "nosort".
    source_template: ClassVar[str] = """\
%(complete_func)s() {
    local kind value help
    COMPREPLY=()
    while IFS=$'\\t' read -r kind value help; do
        case $kind in
            file) compopt -o default ;;
            dir) compopt -o dirnames ;;
            plain)
                COMPREPLY+=("$value")
                [[ $value != *[:=] ]] || compopt -o nospace
                ;;
        esac
    done < <(COMP_LINE=${COMP_LINE:0:COMP_POINT} COMP_WORDBREAKS=$COMP_WORDBREAKS \\
        %(complete_var)s=bash_complete %(prog_name)s 2>/dev/null </dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s 2>/dev/null ||
    complete -F %(complete_func)s %(prog_name)s
"""

    def _value(self, value: str) -> str:
        """Return what follows the last ``=`` or ``:``, where the shell takes these for ends of words."""
        breaks = set(os.environ.get("COMP_WORDBREAKS", "")) & set("=:")
        begun = self.get_completion_args()[1]
        return value[max((begun.rfind(end) for end in breaks), default=-1) + 1 :]


class _Zsh(_Shell):
    name = "zsh"

    @property
    def func_name(self) -> str:
        """The name of the file: loaded for the first Tab, it takes its own place for those to come."""
        return f"_{self.prog_name}"

    source_template: ClassVar[str] = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local kind value help
    local -a whole open
    local files=
    while IFS=$'\\t' read -r kind value help; do
        case $kind in
            plain)
                if [[ $value == *[:=] ]]; then
                    open+=("$value")
                else
                    whole+=("${value//:/\\\\:}:$help")
                fi
                ;;
            file) files=_files ;;
            dir) files='_files -/' ;;
        esac
    done < <(COMP_LINE="${(j: :)words[1,CURRENT-1]} $PREFIX" \\
        %(complete_var)s=zsh_complete %(prog_name)s 2>/dev/null </dev/null)
    (( $#whole )) && _describe -V %(prog_name)s whole
    (( $#open )) && compadd -S '' -a open
    if [[ -n $files ]]; then
        [[ $PREFIX != -*=* ]] || compset -P '*='
        ${=files}
    fi
}

if [[ $funcstack[1] == %(complete_func)s ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""


class _Fish(_Shell):
    name = "fish"
    source_template: ClassVar[str] = """\
function %(complete_func)s
    set -lx %(complete_var)s fish_complete
    set -lx COMP_LINE (commandline -cp | string collect)
    for line in (%(prog_name)s 2>/dev/null </dev/null)
        set -l parts (string split \\t -- $line)
        switch $parts[1]
            case plain
                printf '%%s\\t%%s\\n' $parts[2] $parts[3]
            case file dir
                set -l kept (string length -- "$parts[2]")
                set -l begun (string sub --start (math $kept + 1) -- (commandline -ct))
                if test $parts[1] = dir
                    __fish_complete_directories $begun | string replace --regex -- '^' "$parts[2]"
                else
                    __fish_complete_path $begun | string replace --regex -- '^' "$parts[2]"
                end
        end
    end
end
complete --command %(prog_name)s --no-files --keep-order --arguments '(%(complete_func)s)'
"""


SHELLS: dict[str, type[_Shell]] = {shell.name: shell for shell in (_Bash, _Zsh, _Fish)}


def _seconds() -> float:
    try:
        return float(os.environ[_SECONDS_VARIABLE])
    except (KeyError, ValueError):
        return _SECONDS


def _shown(text: str) -> str:
    """Return a text for people, of one line and without anything that a terminal acts upon."""
    from rnx.output import clean  # noqa: PLC0415

    shown = clean(" ".join(text.split()))
    return shown if len(shown) <= _LONGEST_HELP else f"{shown[: _LONGEST_HELP - 1]}…"
