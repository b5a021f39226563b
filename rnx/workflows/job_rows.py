"""Jobs of a workflow for the eye and for programs."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rnx.output import clean, status_word
from rnx.times import show_duration
from rnx.workflows.moments import local_time, put_time, wire_moment
from rnx.workflows.watching import JOB_ENDED, NO_JOB

_WIDTHS = (38, 20, 12, 10, 20)
_TITLES = ("JOB ID", "JOB NAME", "STATUS", "EXIT CODE", "DEPENDENCIES")
_STATE = 2
_RAN = frozenset({"COMPLETED", "FAILED", "STOPPED"})


def job_data(job: Any) -> dict[str, object]:
    """Return one element of ``jobs``."""
    data: dict[str, object] = {"id": job.job_uuid or "0", "name": job.job_name, "status": job.status}
    if _has_exit_code(job):
        data["exit_code"] = job.exit_code
    if job.dependencies:
        data["dependencies"] = list(job.dependencies)
    for name in ("start_time", "end_time"):
        put_time(data, job, name)
    ours = {
        "group": job.group if job.group != job.job_name else "",
        "requires": job.requires,
        "tries": job.tries,
        "most_tries": job.most_tries if job.most_tries > 1 else 0,
        "message": job.message,
        "outputs": dict(job.outputs),
    }
    put_time(data, job, "next_try")
    return data | {name: value for name, value in ours.items() if value}


def job_lines(jobs: Sequence[Any], now: datetime, *, detail: bool = False) -> list[str]:
    """Return the table of jobs; below a job that has started or has more to tell a line of it."""
    rows = [_row(job) for job in jobs]
    widths = [
        max(width, len(name) + 1, *(len(row[place]) + 1 for row in rows)) if rows else width
        for place, (width, name) in enumerate(zip(_WIDTHS, _TITLES, strict=True))
    ]
    header = _line(_TITLES, widths)
    lines = [header, "-" * max(len(header), sum(_WIDTHS))]
    for job, row in zip(jobs, rows, strict=True):
        lines.append(_line(row, widths, is_coloured=True))
        lines += [f"  {line}" for line in _more(job, now, detail=detail)]
    return lines


def _row(job: Any) -> list[str]:
    code = str(job.exit_code) if _has_exit_code(job) else "-"
    cells = (job.job_uuid or "0", job.job_name, job.status, code, ", ".join(job.dependencies) or "-")
    return [clean(cell) for cell in cells]


def _has_exit_code(job: Any) -> bool:
    return job.status in _RAN and job.job_uuid not in NO_JOB


def _more(job: Any, now: datetime, *, detail: bool) -> list[str]:
    lines = []
    start, end = wire_moment(job, "start_time"), wire_moment(job, "end_time")
    if start is not None:
        took = show_duration((end or now) - start) if end or job.status not in JOB_ENDED else ""
        tries = f"  Try: {job.tries} of {job.most_tries}" if job.tries > 1 else ""
        lines.append(f"Started: {start.astimezone():%H:%M:%S}  Duration: {took or '-'}{tries}")
    if next_try := local_time(job, "next_try", "%H:%M:%S"):
        lines.append(f"Next Try: {next_try}  Try: {job.tries + 1} of {job.most_tries}")
    if job.message:
        lines.append(f"Message: {clean(job.message)}")
    if detail:
        lines += [f"Waits For: {clean(job.requires)}"] if job.requires else []
        lines += [f"Output: {clean(name)}={clean(job.outputs[name])}" for name in sorted(job.outputs)]
    return lines


def _line(cells: Sequence[str], widths: Sequence[int], *, is_coloured: bool = False) -> str:
    parts = []
    for place, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        painted = status_word(cell) if is_coloured and place == _STATE else cell
        parts.append(painted + " " * (width - len(cell)))
    return "".join(parts).rstrip()
