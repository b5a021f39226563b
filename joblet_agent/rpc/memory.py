"""Memory that has been needed once goes back to the host."""

import ctypes
import traceback

_LIBC = ctypes.CDLL(None)


def give_back() -> None:
    """Let the allocator return what is free: gRPC's pieces of a large request leave holes everywhere.

    malloc_trim(3); takes some milliseconds, without the interpreter's lock.
    """
    _LIBC.malloc_trim(0)


def forget_frames(error: BaseException) -> None:
    """Clear the local variables that an error and those before it hold on to by their tracebacks."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            traceback.clear_frames(each.__traceback__)
            left += [each.__cause__, each.__context__]
