"""Where the files of a job live on the host.

``state_dir`` (/var/lib/joblet) survives a reboot, ``run_dir`` (/run/joblet) does not.
Every directory below ``jobs/`` is 0700 root: only the agent and systemd enter it; the job sees
nothing but the mount of its ``work``.
"""

from dataclasses import dataclass
from pathlib import Path

from joblet_agent.model.ids import WorkflowId
from joblet_agent.model.job import JobId
from joblet_agent.model.schedule import ScheduleId


@dataclass(frozen=True, slots=True)
class JobPaths:
    """Paths of one job; all absolute, none of them need exist."""

    home: Path
    environment: Path
    launch_report: Path
    """Why the command could not be executed (units/joblet-launch); missing once the job has ended."""
    trash: Path
    """Where the work directory goes when the job ends, to be deleted in peace."""
    credentials: Path
    """Secret files of the job while it runs; the job sees the directory as ``/run/secrets``."""

    @property
    def work(self) -> Path:
        """The job's ``/work``: the only place on disk it may write to."""
        return self.home / "work"

    @property
    def log(self) -> Path:
        """The log of record: standard output and error, byte for byte."""
        return self.home / "output.log"

    @property
    def log_times(self) -> Path:
        """When the log had which size: (int64 Unix ns, int64 bytes) big-endian, ascending."""
        return self.home / "output.times"

    @property
    def metrics(self) -> Path:
        """Samples of what the job uses (jobs/metrics/history.py)."""
        return self.home / "metrics"


@dataclass(frozen=True, slots=True)
class ExecPaths:
    """Paths of one command that is run inside a running job (tmpfs, 0700 root)."""

    home: Path

    @property
    def environment(self) -> Path:
        """The command and its variables."""
        return self.home / "env"

    @property
    def input(self) -> Path:
        """Socket to which the launcher sends the other end of its standard input, pipe or terminal."""
        return self.home / "in"

    @property
    def output(self) -> Path:
        """Pipe of its standard output."""
        return self.home / "out"

    @property
    def errors(self) -> Path:
        """Pipe of its standard error."""
        return self.home / "err"

    @property
    def report(self) -> Path:
        """Pipe in which the launcher tells how it ended."""
        return self.home / "report"

    @property
    def orders(self) -> Path:
        """Pipe of signals to the command; at its end the launcher kills it."""
        return self.home / "orders"


@dataclass(frozen=True, slots=True)
class SchedulePaths:
    """Paths of what each job of one recurring schedule gets a copy of (0700 root)."""

    home: Path

    @property
    def work(self) -> Path:
        """The files that came with the schedule; they belong to root."""
        return self.home / "work"

    @property
    def secrets(self) -> Path:
        """Its secrets (jobs/secrets.py)."""
        return self.home / "secrets"


@dataclass(frozen=True, slots=True)
class WorkflowPaths:
    """Paths of what the jobs of one workflow get, and of what they leave to one another (0700 root)."""

    home: Path

    @property
    def files(self) -> Path:
        """The files that came with the workflow; they belong to root."""
        return self.home / "files"

    @property
    def secrets(self) -> Path:
        """Secrets of its jobs (workflows/secrets.py), until it has ended."""
        return self.home / "secrets"

    @property
    def wanted(self) -> Path:
        """What a recurring schedule makes workflows of (workflows/starts.py), with its secrets."""
        return self.home / "wanted"

    @property
    def outputs(self) -> Path:
        """Parent of what was taken of each job."""
        return self.home / "outputs"

    def output(self, number: int) -> Path:
        """Return the directory with what was taken of one job (workflows/outputs.py)."""
        return self.outputs / str(number)

    def output_files(self, number: int) -> Path:
        """Return the directory with files of one job, under their paths in its ``/work``."""
        return self.output(number) / "files"


@dataclass(frozen=True, slots=True)
class VolumePaths:
    """Paths of one volume (0700 root)."""

    home: Path
    mark: str = ""
    """Part of the image's name. By their names the kernel tells whose the images of loop devices are, also of
    containers that have the same paths."""

    @property
    def mount(self) -> Path:
        """Where its file system is mounted, if it has one of its own."""
        return self.home / "mount"

    @property
    def contents(self) -> Path:
        """What jobs see. Not the top of a file system: that has things of its own, as lost+found."""
        return self.mount / "data"

    @property
    def image(self) -> Path:
        """The file with its file system."""
        return self.home / f"image{self.mark}"

    @property
    def new_image(self) -> Path:
        """An image that is not complete yet."""
        return self.home / f"image{self.mark}.new"

    @property
    def snapshots(self) -> Path:
        """Parent of its snapshots."""
        return self.home / "snapshots"


@dataclass(frozen=True, slots=True)
class AgentPaths:
    """Paths of the agent."""

    state_dir: Path
    run_dir: Path

    @property
    def database(self) -> Path:
        """The state database."""
        return self.state_dir / "state.db"

    @property
    def jobs(self) -> Path:
        """Parent of every job's home."""
        return self.state_dir / "jobs"

    @property
    def default_root(self) -> Path:
        """Skeleton that is the root directory of jobs without a runtime; made anew after a reboot.

        A short path on purpose: for each of its parents systemd looks for a mount unit, for each job.
        """
        return self.run_dir / "root"

    @property
    def environments(self) -> Path:
        """Environment files of jobs that are starting (tmpfs, 0700 root)."""
        return self.run_dir / "env"

    @property
    def launch_reports(self) -> Path:
        """What the launchers of jobs have to say (tmpfs, 0700 root)."""
        return self.run_dir / "launch"

    @property
    def execs(self) -> Path:
        """Parent of what commands inside running jobs need."""
        return self.run_dir / "exec"

    @property
    def credentials(self) -> Path:
        """Secret files of jobs that run, each job's in a directory of its own (tmpfs, 0700 root)."""
        return self.run_dir / "credentials"

    @property
    def starting_secrets(self) -> Path:
        """Secrets of jobs that are to start at once (tmpfs, 0700 root)."""
        return self.run_dir / "secrets"

    @property
    def waiting_secrets(self) -> Path:
        """Secrets of jobs that wait (0700 root)."""
        return self.state_dir / "secrets"

    @property
    def trash(self) -> Path:
        """Work directories of ended jobs; whatever is here is deleted."""
        return self.state_dir / "trash"

    @property
    def uploads(self) -> Path:
        """Uploads that no job has taken yet; on the file system of ``jobs``, so that a rename moves them."""
        return self.state_dir / "uploads"

    @property
    def schedules(self) -> Path:
        """Parent of what came with recurring schedules; on the file system of ``uploads``, as ``jobs`` is."""
        return self.state_dir / "schedules"

    @property
    def workflows(self) -> Path:
        """Parent of what belongs to workflows; on the file system of ``uploads``, as ``jobs`` is."""
        return self.state_dir / "workflows"

    @property
    def volumes(self) -> Path:
        """Parent of every volume's home; on the file system of ``jobs``."""
        return self.state_dir / "volumes"

    @property
    def runtimes(self) -> Path:
        """The store of runtimes (runtimes/layout.py)."""
        return self.state_dir / "runtimes"

    @property
    def builds(self) -> Path:
        """Places of builds of runtimes (runtimes/build/step.py)."""
        return self.runtimes / "builds"

    @property
    def volume_tools(self) -> Path:
        """What programs that work on volumes have to say (tmpfs, 0700 root)."""
        return self.run_dir / "volumes"

    def runtime_tree(self, digest: str) -> Path:
        """Return the root directory of jobs with this runtime."""
        return self.runtimes / "trees" / digest

    @property
    def launch_kit(self) -> Path:
        """The launcher for jobs with a runtime, with what it needs of the host."""
        return self.state_dir / "launcher" / "current"

    @property
    def directories(self) -> tuple[Path, ...]:
        """Every directory that the agent needs, parents first."""
        kept = (self.state_dir, self.jobs, self.trash, self.uploads, self.schedules, self.waiting_secrets)
        in_memory = (self.environments, self.launch_reports, self.credentials, self.starting_secrets)
        return (*kept, self.workflows, self.volumes, self.runtimes, *in_memory, self.volume_tools)

    @property
    def lock(self) -> Path:
        """Held by the one agent of the host."""
        return self.run_dir / "agent.lock"

    def execution(self, exec_id: str) -> ExecPaths:
        """Return the paths of one command inside a job."""
        return ExecPaths(self.execs / exec_id)

    def schedule(self, schedule_id: ScheduleId) -> SchedulePaths:
        """Return the paths of one recurring schedule."""
        return SchedulePaths(self.schedules / schedule_id)

    def workflow(self, workflow_id: WorkflowId) -> WorkflowPaths:
        """Return the paths of one workflow."""
        return WorkflowPaths(self.workflows / workflow_id)

    def volume(self, name: str) -> VolumePaths:
        """Return the paths of one volume."""
        return VolumePaths(self.volumes / name)

    def job(self, job_id: JobId) -> JobPaths:
        """Return the paths of one job."""
        return JobPaths(
            home=self.jobs / job_id,
            environment=self.environments / job_id,
            launch_report=self.launch_reports / job_id,
            trash=self.trash / job_id,
            credentials=self.credentials / job_id,
        )
