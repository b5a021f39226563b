"""Where the last lines of a log begin."""

from joblet_agent.jobs.log_file import LogFile

_BLOCK_BYTES = 64 * 1024


async def tail_offset(file: LogFile, start: int, end: int, lines: int) -> int:
    """Return where the last ``lines`` lines of the log's part ``start`` to ``end`` begin.

    A last line without a newline counts. Reads backwards, block by block, and no further than it must.
    """
    if lines == 0 or start >= end:
        return end
    # The newline that ends the last line separates it from nothing.
    missing = lines + 1 if await file.read(end - 1, 1) == b"\n" else lines
    block_end = end
    while block_end > start:
        block_start = max(start, block_end - _BLOCK_BYTES)
        block = await _read_fully(file, block_start, block_end)
        newlines = block.count(b"\n")
        if newlines >= missing:
            return block_start + nth_newline(block, newlines - missing + 1) + 1
        missing -= newlines
        block_end = block_start
    return start


def nth_newline(block: bytes, number: int) -> int:
    """Return the index of the ``number``-th newline (from 1), of which there must be that many."""
    low, high = 0, len(block)
    while high - low > 1:  # counting halves beats one search per line by far
        middle = (low + high) // 2
        count = block.count(b"\n", low, middle)
        if count >= number:
            high = middle
        else:
            number -= count
            low = middle
    return low


async def _read_fully(file: LogFile, start: int, end: int) -> bytes:
    parts = []
    while start < end and (part := await file.read(start, end - start)):
        parts.append(part)
        start += len(part)
    return b"".join(parts)
