"""Files of journal fields that systemd leaves behind."""

from pathlib import Path

from joblet_agent.systemd.field_files import keep_field_files, remove_field_file

JOB, ENDED, EXEC = "joblet-job-a.service", "joblet-job-b.service", "joblet-exec-c.service"
OTHER = "cron.service"


def left(directory: Path) -> list[str]:
    return sorted(each.name.removeprefix("log-extra-fields:") for each in directory.iterdir())


def test_files_of_units_that_are_gone_are_removed_and_no_others(tmp_path: Path) -> None:
    for unit in (JOB, ENDED, EXEC, OTHER):
        (tmp_path / f"log-extra-fields:{unit}").touch()
    (tmp_path / f"invocation:{ENDED}").touch()
    keep_field_files({JOB, EXEC}, tmp_path)
    assert left(tmp_path) == [OTHER, f"invocation:{ENDED}", EXEC, JOB]
    for unit in (EXEC, OTHER, ENDED):
        remove_field_file(unit, tmp_path)
    assert left(tmp_path) == [OTHER, f"invocation:{ENDED}", JOB]
