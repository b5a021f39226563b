"""A7: secrets that cannot arrive are refused, in words that do not tell them."""

import pytest

from joblet_agent.errors import InvalidRequest
from joblet_agent.jobs.check import MOST_STRING, MOST_TOTAL, MOST_VALUE
from joblet_agent.jobs.secret_check import MOST_FILE, MOST_FILES, MOST_FILES_TOTAL, check_secrets
from joblet_agent.model.job import JobSpec
from joblet_agent.model.secrets import Secrets

SPEC = JobSpec("true")


@pytest.mark.parametrize(
    ("secrets", "reason"),
    [
        (Secrets({"A": "geheim\0"}), "NUL_BYTE"),
        (Secrets({"A": "geheim\ufdd0"}), "NONCHARACTER"),
        (Secrets({"A": "geheim\udc80"}), "NOT_UTF8"),
        (Secrets({"A": "geheim" * MOST_VALUE}), "ARGUMENT_TOO_LONG"),
        (Secrets({"A": "geheim" * 6000}), "VARIABLE_TOO_LONG"),
        (Secrets({"A B": "geheim"}), "BAD_VARIABLE_NAME"),
        (Secrets({"": "geheim"}), "BAD_VARIABLE_NAME"),
        (Secrets({"A" * MOST_STRING: "geheim"}), "BAD_VARIABLE_NAME"),
        (Secrets({f"V{n}": "geheim" * 5000 for n in range(64)}), "ARGUMENTS_TOO_LONG"),
        (Secrets(files={"": b"geheim"}), "BAD_SECRET_FILE_NAME"),
        (Secrets(files={".": b"geheim"}), "BAD_SECRET_FILE_NAME"),
        (Secrets(files={"..": b"geheim"}), "BAD_SECRET_FILE_NAME"),
        (Secrets(files={"a/b": b"geheim"}), "BAD_SECRET_FILE_NAME"),
        (Secrets(files={"/a": b"geheim"}), "BAD_SECRET_FILE_NAME"),
        (Secrets(files={"a:b": b"geheim"}), "BAD_SECRET_FILE_NAME"),
        (Secrets(files={"a\n": b"geheim"}), "BAD_SECRET_FILE_NAME"),
        (Secrets(files={"a\0": b"geheim"}), "BAD_SECRET_FILE_NAME"),
        (Secrets(files={"ä": b"geheim"}), "BAD_SECRET_FILE_NAME"),
        (Secrets(files={"a" * 256: b"geheim"}), "BAD_SECRET_FILE_NAME"),
        (Secrets(files={"a": b"geheim" * MOST_FILE}), "SECRET_FILES_TOO_LARGE"),
        (Secrets(files={f"{n}": b"x" * MOST_FILE for n in range(9)}), "SECRET_FILES_TOO_LARGE"),
        (Secrets(files={f"{n}": b"" for n in range(MOST_FILES + 1)}), "SECRET_FILES_TOO_LARGE"),
    ],
)
def test_a7_what_cannot_arrive_is_refused(secrets: Secrets, reason: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_secrets(SPEC, secrets)
    assert caught.value.reason == reason
    assert "geheim" not in f"{caught.value} {caught.value.hint}"


def test_the_largest_secrets_pass() -> None:
    names = ("a" * 255, "..a", "key.pem", "-", "~a")
    check_secrets(SPEC, Secrets({"A": "x" * MOST_VALUE}, dict.fromkeys(names, b"x" * MOST_FILE)))
    check_secrets(SPEC, Secrets(files={f"{n}": b"x" * (MOST_FILES_TOTAL // 8) for n in range(8)}))


def test_variables_of_both_kinds_count_together() -> None:
    half = {f"P{n}": "x" * MOST_VALUE for n in range(MOST_TOTAL // MOST_VALUE // 2)}
    check_secrets(JobSpec("true", environment=half), Secrets({"A": "x"}))
    with pytest.raises(InvalidRequest) as caught:
        check_secrets(
            JobSpec("true", environment=half),
            Secrets({f"S{n}": "x" * MOST_VALUE for n in range(MOST_TOTAL // MOST_VALUE // 2)}),
        )
    assert caught.value.reason == "ARGUMENTS_TOO_LONG"
