import pytest

from joblet_agent.errors import InvalidRequest
from joblet_agent.jobs.check import MOST_STRING, MOST_TOTAL, MOST_VALUE, check_spec, quoted
from joblet_agent.model.job import JobSpec


def check(spec: JobSpec) -> JobSpec:
    check_spec(spec)
    return spec


def refusal(spec: JobSpec) -> tuple[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        check(spec)
    return caught.value.reason, str(caught.value)


@pytest.mark.parametrize(
    "spec",
    [
        JobSpec("true"),
        JobSpec("sh", ("", " ", "-", "--", "@", "$X", "${X}", "%i", "%%", "a\nb", "'\"`;\\")),
        JobSpec("-rm"),
        JobSpec("@/bin/sh"),
        JobSpec("x" * MOST_STRING),
        JobSpec("cat", ("ä" * (MOST_STRING // 2),)),
        JobSpec("sh", tuple(["x" * 130_000] * 8)),
        JobSpec("env", environment={f"V{number}": "value" for number in range(10_000)}),
        JobSpec("env", environment={"PATH": "/x", "HOME": "/", "LD_PRELOAD": "x", "_": "", "a": "%h\n$$"}),
        JobSpec("env", environment={"V": "x" * MOST_VALUE}),
        JobSpec("true", name="x" * 64),
        JobSpec("true", name="-@%i nächtlich 日本 \\x2d"),
        JobSpec("true", work_dir="/work/a b/%i"),
        JobSpec("true", work_dir="/"),
        JobSpec("true", work_dir="/process"),
    ],
)
def test_a5_a7_what_can_be_passed_on_exactly_is_accepted_unchanged(spec: JobSpec) -> None:
    checked = check(spec)
    assert (checked.command, checked.args, checked.name) == (spec.command, spec.args, spec.name)
    assert (checked.environment, checked.work_dir) == (spec.environment, spec.work_dir)


@pytest.mark.parametrize(
    ("spec", "reason", "text"),
    [
        (JobSpec(""), "COMMAND_REQUIRED", "command is required"),
        (JobSpec("a\0b"), "NUL_BYTE", "command contains a NUL byte"),
        (JobSpec("a", ("b", "\0")), "NUL_BYTE", "argument 2 contains a NUL byte"),
        (JobSpec("a", environment={"A": "\0"}), "NUL_BYTE", "variable 'A' contains a NUL byte"),
        (JobSpec("a", environment={"A\0": ""}), "NUL_BYTE", "name of variable 'A\\x00' contains a NUL byte"),
        (JobSpec("a", name="\0"), "NUL_BYTE", "name contains a NUL byte"),
        (JobSpec("a", work_dir="/\0"), "NUL_BYTE", "working directory contains a NUL byte"),
        (JobSpec("a", ("\udcff",)), "NOT_UTF8", "argument 1 is not UTF-8 text"),
        (JobSpec("x" * (MOST_STRING + 1)), "ARGUMENT_TOO_LONG", "command has 131072 bytes, at most 131071"),
        (JobSpec("a", ("ä" * 65536,)), "ARGUMENT_TOO_LONG", "argument 1 has 131072 bytes, at most 131071"),
        (JobSpec("a", environment={"A": "ä" * 16385}), "VARIABLE_TOO_LONG", "has 32770 bytes, at most 32768"),
        (JobSpec("a", environment={"A" * 131_050: "x" * 99}), "BAD_VARIABLE_NAME", "is too long"),
        (JobSpec("a", ("x",) * 200_000), "ARGUMENTS_TOO_LONG", f"at most {MOST_TOTAL} are possible"),
        (JobSpec("a", ("x" * 131_000,) * 13), "ARGUMENTS_TOO_LONG", "bytes together"),
        (
            JobSpec("a", environment={f"V{number}": "x" * 32_000 for number in range(50)}),
            "ARGUMENTS_TOO_LONG",
            "bytes together",
        ),
    ],
)
def test_what_can_never_run_is_refused(spec: JobSpec, reason: str, text: str) -> None:
    found, said = refusal(spec)
    assert found == reason
    assert said.startswith("cannot run job: ")
    assert text in said


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "Ä", "A=", "BASH_FUNC_x()", "A\n", "%h", "A.B"])
def test_a7_names_of_variables(name: str) -> None:
    assert refusal(JobSpec("a", environment={name: "x"}))[0] == "BAD_VARIABLE_NAME"


@pytest.mark.parametrize(
    "name", ["x" * 65, "a\nb", "\x1b[31m", " a", "a ", " ", "\u202egnp", "\u2028", "a\tb"]
)
def test_a5_names_of_jobs(name: str) -> None:
    assert refusal(JobSpec("a", name=name))[0] == "BAD_JOB_NAME"


@pytest.mark.parametrize(
    "work_dir",
    [
        "work",
        ".",
        "../etc",
        "/work/../etc",
        "/..",
        "/proc/self/fd/7",
        "//proc/self/fd/7",
        "/./proc/self/cwd",
        "/proc",
        "/dev/fd/7",
        "/work\n",
        "-/work",
        "~",
        "/" + "x" * 4095,
    ],
)
def test_b2_working_directories(work_dir: str) -> None:
    assert refusal(JobSpec("a", work_dir=work_dir))[0] == "BAD_WORK_DIR"


def test_texts_of_somebody_are_quoted_short_and_on_one_line() -> None:
    assert quoted("a\nb") == "'a\\nb'"
    assert quoted("x" * 1000) == "'" + "x" * 37 + "...'"
