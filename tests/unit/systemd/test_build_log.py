"""What a step says: every line once, whatever bytes it is made of, and no more than the limit."""

import asyncio
from pathlib import Path

from joblet_agent.systemd.build_log import BuildLog
from tests.fakes.file_watcher import FakeFileWatcher


def taken(path: Path, *pieces: bytes, most: int = 1 << 20) -> list[str]:
    lines: list[str] = []
    log = BuildLog(path, lines.append, most)

    async def main() -> None:
        for piece in pieces:
            with path.open("ab") as file:
                file.write(piece)
            await log.take()
        log.finish()

    asyncio.run(main())
    return lines


def test_lines_come_once_wherever_they_are_cut(tmp_path: Path) -> None:
    assert taken(tmp_path / "log", b"one\ntw", b"o\n\nthree") == ["one", "two", "three"]


def test_control_characters_never_reach_a_terminal(tmp_path: Path) -> None:
    said = b"\x1b[31mred\x1b[0m \x07\x9b\n10%\r50%\r100%\r\n\xff\xfe\ta\n"
    assert taken(tmp_path / "log", said) == ["red \ufffd\ufffd", "100%", "\ufffd\ufffd    a"]


def test_a_line_without_end_is_told_in_pieces(tmp_path: Path) -> None:
    lines = taken(tmp_path / "log", b"x" * 10_000)
    assert "".join(lines) == "x" * 10_000
    assert max(map(len, lines)) == 4096


def test_beyond_the_limit_nothing_is_told_and_nothing_stays(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = taken(path, b"a\n" * 50, b"b\n" * 500, b"c\n" * 500, most=200)
    assert (lines[0], lines[-1]) == ("a", "(what this step says from here on is left out)")
    assert (len(lines), "c" in lines, path.stat().st_size) == (101, False, 200)


def test_whoever_follows_hears_it_as_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first\n")
    lines: list[str] = []
    heard = asyncio.Event()

    def on_line(line: str) -> None:
        lines.append(line)
        heard.set()

    async def main() -> None:
        watcher = FakeFileWatcher()
        following = asyncio.create_task(BuildLog(path, on_line).follow(watcher))
        async with asyncio.timeout(10):
            await heard.wait()
            heard.clear()
            with path.open("ab") as file:
                file.write(b"second\n")
            watcher.changed(path)
            await heard.wait()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    asyncio.run(main())
    assert lines == ["first", "second"]
