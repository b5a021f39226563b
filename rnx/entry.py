"""From the words of the command line to an exit status: the road to a command, and the top of all errors.

``run`` is the command that scripts start thousands of times, and its flags have rules of their own
(rnx/argv.py), so it is reached without click, which would cost it 15 ms. Everything else goes through
``rnx.cli``; so does ``run`` when the words in front of it are not plainly global flags.
"""

import os
import sys
from collections.abc import Sequence

from rnx.exits import Exit, RnxError, UsageError, report

_COMPLETE = "_RNX_COMPLETE"
"""Set by the scripts of rnx/shells.py."""


def run_program(words: Sequence[str]) -> int:
    """Run one command line (without the program's name) and return the exit status."""
    try:
        if _COMPLETE in os.environ:
            return _offer()
        _check_text(words)
        return _dispatch(list(words))
    except RnxError as error:
        report(error)
        return error.exit
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return Exit.FAILED
    except Exception:  # the top: whatever arrives here is a fault of this program
        return _report_fault(words)


def _offer() -> int:
    """Print what completes the line that the shell has."""
    from rnx.cli import cli  # noqa: PLC0415
    from rnx.shells import complete  # noqa: PLC0415

    complete(cli, "rnx")
    return Exit.DONE


def _dispatch(words: list[str]) -> int:
    from rnx.argv import GLOBAL_FLAGS, read_flags  # noqa: PLC0415 - errors of an import are reported, too

    try:
        flags, rest = read_flags(words, GLOBAL_FLAGS)
    except UsageError:
        flags, rest = {}, []
    for form in (["run"], ["job", "run"]):
        if rest[: len(form)] == form:
            from rnx.commands.run import run  # noqa: PLC0415

            return run(rest[len(form) :], flags)
    from rnx.cli import run_click  # noqa: PLC0415

    return run_click(words)


def _check_text(words: Sequence[str]) -> None:
    """Refuse bytes that are not UTF-8: the wire carries text, and the agent would only see the end of it."""
    for number, word in enumerate(words, 1):
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UsageError(  # without the bytes: they may be a secret's
                f"cannot send argument {number}: not valid UTF-8",
                hint="let the job make such bytes itself, for example with printf '\\377'",
            ) from None


def _forget_stdout() -> None:
    """Let nothing be written to the broken pipe any more, not even by the interpreter's last flush."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def _report_fault(words: Sequence[str]) -> Exit:
    import traceback  # noqa: PLC0415

    from rnx.argv import asks_to_attach  # noqa: PLC0415

    traceback.print_exc()
    print("rnx: this is a fault in rnx; please report it with the lines above", file=sys.stderr)
    return Exit.OURS if "run" in words and asks_to_attach(words) else Exit.FAILED
