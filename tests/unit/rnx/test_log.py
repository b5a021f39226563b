import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import FakeAgent


def test_the_filters_are_the_agents_work(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetJobLogs"] = pb.DataChunk(payload=b"x")
    words = ["--no-follow", "--tail=5", "--since=2026-01-31T10:00:00Z", "--grep=a|b"]
    assert rnx("log", "1111", *words).out == "x"
    assert rnx("job", "log", "1111", "--tail=0").out == "x"
    first, second = agent.asked("GetJobLogs")
    assert first == pb.GetJobLogsRequest(
        uuid="1111", no_follow=True, tail_lines=5, since_time=1769853600000000000, grep="a|b"
    )
    assert second == pb.GetJobLogsRequest(uuid="1111", tail_lines=-1)


def test_json_keeps_characters_that_two_pieces_share(agent: FakeAgent, rnx: Rnx) -> None:
    whole = "grüße\n".encode()

    def halves(_request: Any, _context: Any) -> Iterator[pb.DataChunk]:
        yield pb.DataChunk(payload=whole[:3])
        yield pb.DataChunk(payload=whole[3:], offset=3)
        yield pb.DataChunk(payload=b"\xff\xe2", offset=len(whole))

    agent.answers["GetJobLogs"] = halves
    lines = [json.loads(line) for line in rnx("log", "x", "--json").out.splitlines()]
    assert (
        "".join(line["data"] for line in lines) == "grüße\n\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"
    )
    assert all(set(line) == {"timestamp", "data"} for line in lines)


def test_ctrl_c_ends_the_watching_and_is_no_failure(agent: FakeAgent) -> None:
    over = threading.Event()

    def log(_request: Any, context: Any) -> Iterator[pb.DataChunk]:
        context.add_callback(over.set)
        yield pb.DataChunk(payload=b"ready\n")
        over.wait(60)

    agent.answers["GetJobLogs"] = log
    with subprocess.Popen(
        [sys.executable, "-m", "rnx", "log", "1111"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, b"", b"Stopping log stream...\n")
    assert over.wait(60)
    assert agent.asked("StopJob") == []


def test_timestamps_begin_each_line_also_one_that_comes_in_pieces(agent: FakeAgent, rnx: Rnx) -> None:
    def pieces(_request: Any, _context: Any) -> Iterator[pb.DataChunk]:
        for offset, payload, time in [
            (0, b"a\n\nb", 1_000_000),
            (4, b"c\nd", 2_000_000),
            (7, b"\n", 3_000_000),
        ]:
            yield pb.DataChunk(payload=payload, offset=offset, time_unix_ns=1_769_853_600 * 10**9 + time)

    agent.answers["GetJobLogs"] = pieces
    at = "2026-01-31T10:00:00.00"
    assert rnx("log", "1111", "--timestamps").out == f"{at}1Z a\n{at}1Z \n{at}1Z bc\n{at}2Z d\n"
    lines = [json.loads(line) for line in rnx("log", "1111", "-t", "--json").out.splitlines()]
    assert [line["timestamp"] for line in lines] == [f"{at}1Z", f"{at}2Z", f"{at}3Z"]
    assert agent.asked("GetJobLogs") == [pb.GetJobLogsRequest(uuid="1111", timestamps=True)] * 2
