"""Findings for people and for programs. Pure."""

import json
from collections import Counter
from collections.abc import Sequence

from joblet_agent.fitness.finding import Finding, Result


def is_fit(findings: Sequence[Finding]) -> bool:
    """Say whether nothing has failed."""
    return all(each.verdict.result is not Result.FAILED for each in findings)


def is_perfect(findings: Sequence[Finding]) -> bool:
    """Say whether all is well, as far as it was looked for."""
    return all(each.verdict.result is Result.OK for each in findings)


def as_text(findings: Sequence[Finding]) -> str:
    """Return a line for each, what matters most last, and a line that sums up."""
    order = list(Result)
    lines = [_line(each) for each in sorted(findings, key=lambda each: order.index(each.verdict.result))]
    return "\n".join([*lines, _summary(findings)])


def as_json(findings: Sequence[Finding], version: str) -> str:
    """Return one object."""
    content = {
        "fit": is_fit(findings),
        "agent": version,
        "counts": {result.value: count for result, count in _counts(findings).items()},
        "findings": [
            {
                "id": each.id,
                "subject": each.subject.value,
                "result": each.verdict.result.value,
                "text": each.verdict.text,
                "consequence": each.verdict.consequence,
                "remedy": each.verdict.remedy,
            }
            for each in findings
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def _line(finding: Finding) -> str:
    verdict = finding.verdict
    behind = "".join(f"; {part}" for part in (verdict.consequence, verdict.remedy) if part)
    mark = "" if verdict.result is Result.OK else f" [{finding.id}]"
    return _clean(f"{finding.subject}: {verdict.result}: {verdict.text}{mark}{behind}")


def _summary(findings: Sequence[Finding]) -> str:
    told = ", ".join(f"{count} {result}" for result, count in reversed(_counts(findings).items()) if count)
    return f"this host is {'fit' if is_fit(findings) else 'not fit'}: {told}"


def _counts(findings: Sequence[Finding]) -> dict[Result, int]:
    counted = Counter(each.verdict.result for each in findings)
    return {result: counted[result] for result in Result}


def _clean(text: str) -> str:
    """Return the line with nothing in it that a terminal could act on: files of the host may say anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
