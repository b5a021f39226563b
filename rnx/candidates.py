"""What the shell offers for a value: ids, names, files. Asked of the agent when somebody presses Tab.

Whatever goes wrong here is an error as any other, and no call minds the time: rnx/shells.py shows no error
and ends the process in time.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from rnx.config import LOCAL_NODE, find_config, load_nodes
from rnx.context import Settings

if TYPE_CHECKING:
    from rnx.argv import Flag
    from rnx.client import Client

Candidates = Callable[[click.Context, click.Parameter, str], list[Any]]

MOST = 200
"""Of one kind; what has been typed already narrows it down."""

WAITING = ("SCHEDULED", "PENDING")
RUNNING = ("RUNNING",)
ALIVE = (*WAITING, "INITIALIZING", "RUNNING", "STOPPING")
ENDED = ("COMPLETED", "FAILED", "STOPPED", "CANCELED")
WORKFLOW_ALIVE = (*WAITING, *RUNNING)


def jobs(states: tuple[str, ...] = (), *, paused: bool | None = None) -> Candidates:
    """Offer ids of jobs in the states (none: in any), newest first; ``paused``: these, or the others."""

    def found(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
        with _connect(context) as client:
            from rnx.client import SHORT, pb  # noqa: PLC0415 - gRPC, which most of what is completed does without

            request = pb.QueryJobsRequest(states=states, uuid_prefix=begun.lower(), page_size=MOST)
            answer = client.call(client.agent.QueryJobs, request, SHORT)
        return [_job(job) for job in answer.jobs if paused in (None, job.paused)]

    return found


def schedules(*states: str) -> Candidates:
    """Offer ids of recurring schedules in the states (none: in any), the next start first."""

    def found(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
        with _connect(context) as client:
            from rnx.client import SHORT, pb  # noqa: PLC0415

            answer = client.call(client.agent.ListSchedules, pb.ListSchedulesRequest(), SHORT)
        wanted = [each for each in answer.schedules if not states or each.status in states]
        return _begun(
            begun,
            {each.uuid: f"{each.schedule} {each.name or each.command}" for each in wanted},
        )

    return found


def workflows(states: tuple[str, ...] = (), *, paused: bool | None = None) -> Candidates:
    """Offer ids of workflows in the states (none: in any), newest first; ``paused``: these, or the others."""

    def found(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
        with _connect(context) as client:
            from rnx.client import SHORT, pb  # noqa: PLC0415

            request = pb.ListWorkflowsRequest(
                include_completed=not states or set(states) & set(ENDED) != set()
            )
            answer = client.call(client.jobs.ListWorkflows, request, SHORT)
        wanted = [
            each
            for each in answer.workflows
            if each.uuid.startswith(begun.lower())
            and (not states or each.status in states)
            and paused in (None, each.paused)
        ]
        return [_workflow(each) for each in wanted[:MOST]]

    return found


def workflows_and_files(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer files of this side, and ids of workflows."""
    return [*workflows()(context, _, begun), *files(context, _, begun)]


def workflow_jobs(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer names of the jobs of the workflow that the line names, with their states."""
    with _connect(context) as client:
        from rnx.client import SHORT, pb  # noqa: PLC0415

        request = pb.GetWorkflowStatusRequest(workflow_uuid=context.params["uuid"] or "")
        answer = client.call(client.jobs.GetWorkflowStatus, request, SHORT)
    return _begun(begun, {job.job_name: job.status for job in answer.jobs})


def networks(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer names of networks."""
    with _connect(context) as client:
        from rnx.client import SHORT, pb  # noqa: PLC0415

        answer = client.call(client.networks.ListNetworks, pb.EmptyRequest(), SHORT)
    return _begun(begun, {each.name: each.cidr for each in answer.networks})


def volumes(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer names of volumes."""
    return _begun(begun, _volumes(context))


def volumes_and_files(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer ``VOLUME:``, and files of this side."""
    places = {f"{name}:": text for name, text in _volumes(context).items()}
    return [*_begun(begun, places), *files(context, _, begun)]


def snapshots(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer names of the snapshots of the volume that the line names; none where a new name is wanted."""
    if context.params.get("is_removal") is False:  # rnx volume snapshot, without --remove
        return []
    with _connect(context) as client:
        from rnx.client import SHORT, pb  # noqa: PLC0415

        request = pb.GetVolumesRequest(name=context.params["volume"] or "")
        answer = client.call(client.agent.GetVolumes, request, SHORT)
    return _begun(begun, {each.name: "" for volume in answer.volumes for each in volume.snapshots})


def runtimes(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer names of runtimes; with their versions once a ``@`` is typed, or where a name has several."""
    with _connect(context) as client:
        from rnx.client import SHORT, pb  # noqa: PLC0415

        found = client.call(client.runtimes.ListRuntimes, pb.EmptyRequest(), SHORT).runtimes
    names = Counter(each.name for each in found)
    offered = {each.name: each.description for each in found if each.latest or names[each.name] == 1}
    if "@" in begun or any(count > 1 for count in names.values()):
        offered |= {f"{each.name}@{each.version}": each.description for each in found}
    return _begun(begun, offered)


def runtimes_and_files(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer files of this side, and names of runtimes."""
    return [*runtimes(context, _, begun), *files(context, _, begun)]


def runtime_builds(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer builds of runtimes that wait or run, by what they build."""
    with _connect(context) as client:
        from rnx.client import SHORT, pb  # noqa: PLC0415

        answer = client.call(client.agent.GetRuntimeBuilds, pb.GetRuntimeBuildsRequest(), SHORT)
    return _begun(begun, {f"{each.name}@{each.version}": each.phase.phase_name for each in answer.builds})


def nodes(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer names of nodes of the configuration, and ``local``."""
    path = find_config(_settings(context).config)
    found = {node.name: node.address for node in load_nodes(path).values()} if path else {}
    return _begun(begun, {**found, LOCAL_NODE: "this host"})


def words(*known: str) -> Candidates:
    """Offer these words."""

    def found(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
        return [CompletionItem(word) for word in known if word.lower().startswith(begun.lower())]

    return found


def files(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """Leave it to the shell, which knows files."""
    return [CompletionItem(begun, type="file")]


def directories(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """Leave it to the shell, which knows directories."""
    return [CompletionItem(begun, type="dir")]


STATES = words(*ALIVE, *ENDED)

_OF_FLAGS: Mapping[str, Candidates] = {
    "--node": nodes,
    "--config": files,
    "--network": networks,
    "--volume": volumes,
    "--runtime": runtimes,
    "--workflow": files,
    "--profile": words("default", "strict", "privileged"),
}
_OF_METAVARS: Mapping[str, Candidates] = {"FILE": files, "DIR": directories}


def of_flag(flag: "Flag") -> Candidates | None:
    """Return what is offered for the value of a flag of rnx/argv.py; None: nothing, or its choices."""
    return _OF_FLAGS.get(flag.long) or _OF_METAVARS.get(flag.metavar if flag.long != "--workdir" else "")


def _settings(context: click.Context) -> Settings:
    from rnx.cli import global_flags  # noqa: PLC0415 - it imports this module

    return Settings.from_flags(global_flags(context))


def _connect(context: click.Context) -> "Client":
    return _settings(context).connect(quiet=True)


def _volumes(context: click.Context) -> dict[str, str]:
    with _connect(context) as client:
        from rnx.client import SHORT, pb  # noqa: PLC0415

        answer = client.call(client.volumes.ListVolumes, pb.EmptyRequest(), SHORT)
    return {each.name: f"{each.size} {each.type}" for each in answer.volumes}


def _job(job: Any) -> CompletionItem:
    state = "PAUSED" if job.paused else job.status
    return CompletionItem(job.uuid, help=" ".join(part for part in (state, job.name, _command(job)) if part))


def _workflow(workflow: Any) -> CompletionItem:
    state = "PAUSED" if workflow.paused else workflow.status
    progress = f"{workflow.completed_jobs}/{workflow.total_jobs}"
    name = workflow.name or workflow.workflow
    return CompletionItem(workflow.uuid, help=" ".join(part for part in (state, progress, name) if part))


def _command(job: Any) -> str:
    return " ".join([os.path.basename(job.command), *job.args])


def _begun(begun: str, found: Mapping[str, str]) -> list[CompletionItem]:
    names: Iterable[str] = (name for name in found if name.startswith(begun))
    return [CompletionItem(name, help=found[name]) for name in sorted(names)[:MOST]]
