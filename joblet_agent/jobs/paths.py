"""Where the files of a job live on the host.

``state_dir`` (/var/lib/joblet) survives a reboot, ``run_dir`` (/run/joblet) does not.
Every directory below ``jobs/`` is 0700 root: only the agent and systemd enter it; the job sees
nothing but the mount of its ``work``.
"""

from dataclasses import dataclass
from pathlib import Path

from joblet_agent.model.job import JobId


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
    def directories(self) -> tuple[Path, ...]:
        """Every directory that the agent needs, parents first."""
        kept = (self.state_dir, self.jobs, self.trash, self.uploads, self.waiting_secrets)
        in_memory = (self.environments, self.launch_reports, self.credentials, self.starting_secrets)
        return kept + in_memory

    @property
    def lock(self) -> Path:
        """Held by the one agent of the host."""
        return self.run_dir / "agent.lock"

    def execution(self, exec_id: str) -> ExecPaths:
        """Return the paths of one command inside a job."""
        return ExecPaths(self.execs / exec_id)

    def job(self, job_id: JobId) -> JobPaths:
        """Return the paths of one job."""
        return JobPaths(
            home=self.jobs / job_id,
            environment=self.environments / job_id,
            launch_report=self.launch_reports / job_id,
            trash=self.trash / job_id,
            credentials=self.credentials / job_id,
        )
