"""``rnx monitor``: the node that jobs run on."""

from typing import Any

import click

from rnx.cli import Command
from rnx.context import Settings
from rnx.limits import LIMIT_FIELDS, cpu_count, limit_data, limits_text
from rnx.output import clean, show

_WITH_QUOTAS = "held to their size by project quotas"
_WITHOUT_QUOTAS = (
    "no limit on disk: the file system has no project quotas (docs/operations.md, Workspaces); "
    "with --work-size they are memory"
)


@click.command("status", cls=Command, short_help="Show what the node has, and what jobs may use of it.")
@click.pass_obj
def status(settings: Settings) -> None:
    """Show the node: its size, its jobs, and the limits on all of them and on each.

    Permission: read. Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    with settings.connect() as client:
        from rnx.client import SHORT, pb  # noqa: PLC0415

        node = client.call(client.agent.GetNode, pb.GetNodeRequest(), SHORT)
    show(settings.form, _as_data(node), lambda: _as_text(node))


def _limits(limits: Any) -> dict[str, Any]:
    return {name: getattr(limits, name) for name in LIMIT_FIELDS}


def _as_data(node: Any) -> dict[str, object]:
    return {
        "hostInfo": {"hostname": node.host_name},
        "cpuInfo": {"cores": cpu_count(node.online_cpus), "online": node.online_cpus},
        "memoryInfo": {"total": node.memory},
        "jobs": {
            "running": node.running_jobs,
            "waiting": node.waiting_jobs,
            "maxConcurrent": node.max_concurrent,
            "maxWaiting": node.max_waiting,
        },
        "slice": node.slice,
        "ceilings": {each.name: each.value for each in node.ceilings},
        "defaults": limit_data(_limits(node.defaults)),
        "maxima": {role: limit_data(_limits(most)) for role, most in sorted(node.maxima.items())},
        "unenforced": list(node.unenforced),
        "workspaceQuotas": node.workspace_quotas,
        "certificates": [
            {
                "kind": each.kind,
                "subject": each.subject,
                "notAfter": each.not_after,
                "daysLeft": each.days_left,
                "state": each.state,
            }
            for each in node.certificates
        ],
    }


def _as_text(node: Any) -> str:
    sections = {
        "Host:": [
            f"Hostname: {clean(node.host_name)}",
            f"CPUs: {cpu_count(node.online_cpus)} ({clean(node.online_cpus)})",
            f"Memory: {node.memory / 2**30:.1f} GiB",
        ],
        "Jobs:": [
            f"Running: {node.running_jobs} of at most {node.max_concurrent}",
            f"Waiting: {node.waiting_jobs} of at most {node.max_waiting}",
        ],
        f"All jobs together ({clean(node.slice)}):": [
            f"{clean(each.name)}: {clean(each.value)}" for each in node.ceilings
        ]
        or ["no limit"],
        "A job that asks for nothing:": limits_text(_limits(node.defaults)) or ["no limit"],
    }
    for role, most in sorted(node.maxima.items()):
        sections[f"Maxima of role {clean(role)}:"] = limits_text(_limits(most)) or ["none"]
    sections["Workspaces (/work):"] = [_WITH_QUOTAS if node.workspace_quotas else _WITHOUT_QUOTAS]
    if node.unenforced:
        sections["Not enforced by this host:"] = [clean(option) for option in node.unenforced]
    if node.certificates:
        sections["Certificates:"] = [_certificate(each) for each in node.certificates]
    return "\n\n".join(
        "\n".join([title, *(f"  {line}" for line in lines)]) for title, lines in sections.items()
    )


def _certificate(certificate: Any) -> str:
    end = f"{clean(certificate.state)}, until {clean(certificate.not_after)}"
    left = f" ({certificate.days_left} days left)" if certificate.days_left >= 0 else ""
    return f"{clean(certificate.kind)} {clean(certificate.subject)}: {end}{left}"
