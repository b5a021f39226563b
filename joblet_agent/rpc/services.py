"""What the servicers need of the services behind them, as narrow Protocols."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from joblet_agent.jobs.logs import LogChunk
from joblet_agent.model.event import Sighting, WatchQuery
from joblet_agent.model.execution import ExecOutput, ExecSpec, TerminalSize
from joblet_agent.model.files import NO_UPLOADS, FilePiece, StagedUpload, UploadPart, Uploads, WorkFile
from joblet_agent.model.identity import Identity
from joblet_agent.model.job import (
    Explanation,
    JobFilter,
    JobId,
    JobPage,
    JobRecord,
    JobSpec,
    LogQuery,
    Outcome,
    Token,
)
from joblet_agent.model.metrics import MetricsQuery, Reading
from joblet_agent.model.network import Network, NetworkSpec, NetworkView
from joblet_agent.model.node import Node
from joblet_agent.model.schedule import Schedule, ScheduleId
from joblet_agent.model.secrets import NO_SECRETS, Secrets
from joblet_agent.model.volume import VolumeSnapshot
from joblet_agent.model.workflow import Change, Member, Workflow, WorkflowFilter, WorkflowId
from joblet_agent.rpc.runtime_services import RuntimeServices
from joblet_agent.volumes.views import VolumeView
from joblet_agent.workflows.wanted import Planned, WantedWorkflow

T_co = TypeVar("T_co", covariant=True)


class Jobs(Protocol):
    """The job use cases.

    ``given`` is a full id or an unambiguous prefix; every method that takes one raises NotFound or
    AmbiguousId before it does anything.
    """

    async def run(
        self,
        spec: JobSpec,
        caller: Identity,
        uploads: Uploads = NO_UPLOADS,
        *,
        secrets: Secrets = NO_SECRETS,
        token: Token | None = None,
    ) -> JobRecord:
        """Check and accept a job with its files; return once it is started or safely queued.

        With a token that the caller has used before, return the job of that time.
        """
        ...

    async def get(self, given: str) -> JobRecord:
        """Return the job as it is now."""
        ...

    async def update(self, given: str, changes: Mapping[str, Any], caller: Identity) -> JobRecord:
        """Change limits, by field of Resources, and return once they are in force.

        Raises WrongState for a limit that cannot change any more, and for a job that has ended.
        """
        ...

    async def stop(self, given: str, *, force: bool) -> JobRecord:
        """End a job (at once with ``force``) and return how it ended. Raises WrongState if it had already."""
        ...

    async def cancel(self, given: str) -> JobRecord:
        """Withdraw a job that has not started. Raises WrongState if it has."""
        ...

    async def delete(self, given: str) -> JobId:
        """Forget an ended job with all its files. Raises WrongState if it has not ended, or files stay."""
        ...

    async def delete_ended(self, started_by: str = "") -> tuple[int, int]:
        """Delete every ended job, or those of one caller; return how many were and how many were not."""
        ...

    async def page(self, wanted: JobFilter, *, size: int, token: str) -> JobPage:
        """Return one page, newest first. Raises InvalidRequest for a token that is not ours."""
        ...

    async def logs(self, given: str, query: LogQuery) -> AsyncIterator[LogChunk]:
        """Find the job, then return its output as it comes; the iterator may wait for output."""
        ...

    async def metrics(self, given: str, query: MetricsQuery) -> tuple[JobRecord, AsyncIterator[Reading]]:
        """Find the job, then return its samples as they come. Raises WrongState if it would wait for none."""
        ...

    async def readings(self, given: Sequence[str]) -> list[tuple[JobRecord, Reading | None]]:
        """Return the newest sample of each of these jobs (of all, if none is given) that runs."""
        ...

    async def use(self, record: JobRecord) -> Reading | None:
        """Return what the job uses now; None if its command does not run."""
        ...

    @property
    def metrics_interval(self) -> timedelta:
        """Return the time between two samples of a job."""
        ...

    async def explain(self, given: str) -> Explanation:
        """Tell a person which unit the job is or was."""
        ...

    def trouble(self, job_id: JobId) -> str:
        """Say what is wrong with a job that goes on all the same."""
        ...

    def queue_position(self, job_id: JobId) -> int:
        """Return the place in the queue, 1 = next; 0 = not waiting."""
        ...

    def log_size(self, job_id: JobId) -> int:
        """Return how many bytes of log can be read now."""
        ...

    def has_files(self, record: JobRecord) -> bool:
        """Say whether the job's workspace can be looked into."""
        ...

    def work_bytes(self, job_id: JobId) -> int:
        """Return the disk space of an ended job's files, as far as it is known."""
        ...

    def unit_name(self, job_id: JobId) -> str:
        """Return the name of the job's systemd unit."""
        ...


class Watches(Protocol):
    """Watching jobs."""

    async def watch(self, query: WatchQuery) -> AsyncIterator[Sighting]:
        """Check the query, then return what it wants as it comes; the iterator may wait for ever."""
        ...


class Nodes(Protocol):
    """What can be asked of the host."""

    async def describe(self) -> Node:
        """Return what the host has and allows."""
        ...


class Pieces(Protocol[T_co]):
    """Something long, piece by piece; whoever has it closes it."""

    def __aiter__(self) -> AsyncIterator[T_co]:
        """Return itself."""
        ...

    async def __anext__(self) -> T_co:
        """Return the next piece."""
        ...

    async def aclose(self) -> None:
        """Let go of what it holds."""
        ...


class Files(Protocol):
    """The file use cases. ``path`` is relative to the workspace; empty for the workspace itself."""

    async def upload(self, parts: AsyncIterator[UploadPart], caller: Identity) -> StagedUpload:
        """Take files in for a job that the caller runs next."""
        ...

    async def files(self, given: str, path: str) -> Pieces[list[WorkFile]]:
        """Find the job, then return what is in a directory of its workspace."""
        ...

    async def download(self, given: str, path: str) -> Pieces[FilePiece]:
        """Find the job, then return a file of its workspace, or a directory with all that is below it."""


class Schedules(Protocol):
    """The use cases of recurring schedules; ``given`` as for jobs."""

    async def create(
        self,
        spec: JobSpec,
        caller: Identity,
        uploads: Uploads = NO_UPLOADS,
        *,
        secrets: Secrets = NO_SECRETS,
        token: Token | None = None,
    ) -> Schedule:
        """Check and make a schedule whose calendar expression is ``spec.schedule``.

        With a token that the caller has used before, return the schedule of that time.
        """
        ...

    def all(self) -> Sequence[Schedule]:
        """Return every schedule, the next start first."""
        ...

    def get(self, given: str) -> Schedule:
        """Return the schedule."""
        ...

    async def jobs(self, schedule: Schedule, *, most: int) -> Sequence[JobRecord]:
        """Return the newest of its jobs, newest first."""
        ...

    async def remove(self, given: str) -> ScheduleId:
        """Forget the schedule; its jobs stay."""
        ...

    async def pause(self, given: str) -> Schedule:
        """Let it start nothing."""
        ...

    async def resume(self, given: str, caller: Identity) -> Schedule:
        """Let it go on. Raises WrongState if it is not paused, NotPermitted if its jobs are privileged."""
        ...


class Workflows(Protocol):
    """The workflow use cases. ``given`` is a full id or a prefix that fits one: NotFound, AmbiguousId."""

    async def run(
        self,
        wanted: WantedWorkflow,
        caller: Identity,
        uploads: Uploads = NO_UPLOADS,
        token: Token | None = None,
    ) -> Workflow | Schedule:
        """Check and accept a workflow with its files; return once it is stored.

        One with a calendar expression makes a recurring schedule. The digest of ``token`` is of all but the
        text of the file: the one to be stored and compared is ``token.asking_for(text without secrets)``.
        Raises WorkflowRefused with all that is wrong, LimitReached, StoreFailed.
        """
        ...

    async def check(
        self, wanted: WantedWorkflow, caller: Identity, paths: Collection[str], *, explain: bool
    ) -> Sequence[Planned]:
        """Check as ``run`` does, with files of these paths, and tell how its jobs would run, in order.

        With ``explain`` also which units they would be. Raises WorkflowRefused.
        """
        ...

    async def get(self, given: str) -> Workflow:
        """Return the workflow as it is now."""
        ...

    async def members(self, workflow: Workflow) -> Sequence[Member]:
        """Return its jobs, in the order of the file."""
        ...

    async def job(self, job_id: JobId) -> JobRecord | None:
        """Return the record of a member's job; None while it is in the queue, or if nobody knows it."""
        ...

    async def all(self, wanted: WorkflowFilter) -> Sequence[Workflow]:
        """Return the workflows, newest first."""
        ...

    async def text(self, workflow: Workflow) -> str:
        """Return the text of its file, secrets as ``***``."""
        ...

    def slice_name(self, workflow_id: WorkflowId) -> str:
        """Return the name of the slice that its jobs are in."""
        ...

    async def watch(self, given: str) -> Pieces[Change]:
        """Find the workflow, then return it with all its members, and each change until it has ended."""
        ...

    async def stop(self, given: str) -> Workflow:
        """Stop what runs and cancel what waits. Raises WrongState once it has ended."""
        ...

    async def cancel(self, given: str) -> Workflow:
        """Cancel what waits. Raises WrongState once it has ended."""
        ...

    async def pause(self, given: str) -> Workflow:
        """Start nothing more, freeze what runs. Raises WrongState if it has ended or is paused."""
        ...

    async def resume(self, given: str) -> Workflow:
        """Let it go on. Raises WrongState if it is not paused."""
        ...

    async def retry(self, given: str, *, failed_only: bool) -> Workflow:
        """Run an ended one again. Raises WrongState if it has not ended, or nothing is to be done."""
        ...

    async def delete(self, given: str) -> tuple[WorkflowId, int]:
        """Forget an ended one with its jobs; return how many these were. Raises WrongState."""
        ...


class Live(Protocol):
    """Control of running jobs; raises as Jobs does, and WrongState for a job that does not run."""

    async def pause(self, given: str) -> JobRecord:
        """Let all processes of the job stand still."""
        ...

    async def resume(self, given: str) -> JobRecord:
        """Let a paused job go on."""
        ...

    async def kill(self, given: str, signal: str) -> tuple[JobRecord, int]:
        """Send a signal (name or number) to all processes of the job; return its number, too."""
        ...


class RunningExec(Protocol):
    """A command inside a job; whoever has it closes it, which kills it if it still runs."""

    def __aiter__(self) -> AsyncIterator[tuple[ExecOutput, bytes] | Outcome]:
        """Return its output as it comes, and last how it ended."""
        ...

    async def write(self, data: bytes) -> None:
        """Give it input; return when it can take more. Raises InvalidRequest."""
        ...

    async def end_input(self) -> None:
        """Let its input end. Raises InvalidRequest."""
        ...

    async def resize(self, size: TerminalSize) -> None:
        """Give its terminal another size. Raises InvalidRequest."""
        ...

    def signal(self, given: str) -> None:
        """Send it a signal (name or number). Raises InvalidRequest, LimitReached."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Execs(Protocol):
    """Commands inside running jobs."""

    async def start(self, given: str, wanted: ExecSpec, caller: Identity) -> RunningExec:
        """Start a command in a job. Raises as Live does, InvalidRequest and NotPermitted."""
        ...


class Networks(Protocol):
    """The use cases of networks."""

    def all(self) -> Sequence[NetworkView]:
        """Return every network, built-in ones first."""
        ...

    def get(self, name: str) -> NetworkView:
        """Return the network. Raises NotFound."""
        ...

    async def create(self, spec: NetworkSpec) -> Network:
        """Check and make a network."""
        ...

    async def remove(self, name: str) -> None:
        """Leave nothing of the network. Raises WrongState while a job is on it, NotFound."""
        ...


class Volumes(Protocol):
    """The volume use cases. Methods raise NotFound for a name that is none."""

    async def create(self, name: str, size_text: str, type_text: str) -> VolumeView:
        """Make a volume. Raises InvalidRequest, WrongState for a name that is taken, LimitReached."""
        ...

    async def all(self) -> Sequence[VolumeView]:
        """Return every volume, by name."""
        ...

    async def get(self, name: str) -> VolumeView:
        """Return the volume."""
        ...

    async def remove(self, name: str) -> None:
        """Remove it with what is in it. Raises WrongState if a job uses it."""
        ...

    async def grow(self, name: str, size_text: str) -> VolumeView:
        """Give it more room; jobs that use it see it at once. Raises InvalidRequest, LimitReached."""
        ...


class VolumeCopies(Protocol):
    """Copies into and out of volumes. Methods raise NotFound for a name that is none."""

    async def put(self, name: str, path: str, upload_id: str, caller: Identity) -> tuple[int, int]:
        """Copy files of an upload of the caller into the volume; return how many files and bytes."""
        ...

    async def download(self, name: str, path: str) -> Pieces[FilePiece]:
        """Return a file of the volume, or a directory with all that is below it."""
        ...


class VolumeSnapshots(Protocol):
    """The snapshots of volumes. Methods raise NotFound for a name that is none."""

    async def make(self, name: str, snapshot: str) -> VolumeSnapshot:
        """Keep a copy of what is in the volume. Raises WrongState if a job uses it, NotOffered."""
        ...

    async def restore(self, name: str, snapshot: str) -> None:
        """Let what is in the volume be as in the snapshot. Raises WrongState if a job uses it."""
        ...

    async def remove(self, name: str, snapshot: str) -> None:
        """Remove a snapshot."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """Everything the server serves."""

    jobs: Jobs
    watches: Watches
    node: Nodes
    files: Files
    live: Live
    schedules: Schedules
    execs: Execs
    networks: Networks
    volumes: Volumes
    volume_copies: VolumeCopies
    volume_snapshots: VolumeSnapshots
    workflows: Workflows
    runtimes: RuntimeServices
