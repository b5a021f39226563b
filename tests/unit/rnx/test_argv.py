import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnx.argv import GLOBAL_FLAGS, RUN_FLAGS, asks_to_attach, read_flags, run_help, with_environment
from rnx.exits import UsageError

FLAGS = (*RUN_FLAGS, *GLOBAL_FLAGS)


def test_flags_end_at_the_command() -> None:
    assert read_flags(["--attach", "true", "--json", "-h"], FLAGS) == (
        {"attach": True},
        ["true", "--json", "-h"],
    )


def test_flags_end_at_two_dashes_which_are_dropped() -> None:
    assert read_flags(["-d", "--", "--odd", "--", "x"], FLAGS) == ({"detach": True}, ["--odd", "--", "x"])


@pytest.mark.parametrize("words", [["--network=none"], ["--network", "none"]])
def test_a_value_follows_an_equals_sign_or_a_space(words: list[str]) -> None:
    assert read_flags([*words, "true"], FLAGS) == ({"network": "none"}, ["true"])


def test_repeated_flags_collect_and_an_equals_sign_in_the_value_stays() -> None:
    values, rest = read_flags(["-e", "A=1", "--env=B=2=3", "-e=C=", "env"], FLAGS)
    assert values == {"env": ["A=1", "B=2=3", "C="]}
    assert rest == ["env"]


def test_an_empty_value_is_a_value() -> None:
    assert read_flags(["--name=", "true"], FLAGS) == ({"name": ""}, ["true"])


@pytest.mark.parametrize(
    ("words", "text", "hint"),
    [
        (["--netwrok=x", "true"], "unknown flag: --netwrok", "did you mean --network?"),
        (["-x", "true"], "unknown flag: -x", "put -- before a command that begins with a dash"),
        (["--max-tasks=many", "true"], "cannot read --max-tasks=many: expected a whole number", ""),
        (["--nice=-1", "true"], "cannot read --nice=-1: expected a whole number", ""),
        (["--nice=1.5", "true"], "cannot read --nice=1.5: expected a whole number", ""),
        (["--gpu=٣", "true"], "cannot read --gpu=٣: expected a whole number", ""),
        (
            ["--max-tasks=2147483648", "true"],
            "cannot read --max-tasks=2147483648: the largest number is 2147483647",
            "",
        ),
        (["--attach=maybe", "true"], "cannot read --attach=maybe: a switch is true or false", ""),
        (["--network"], "flag --network needs a value", "write --network=NAME"),
        (["-o", "jsn"], "cannot read -o=jsn: expected json, yaml, table", "did you mean json?"),
    ],
)
def test_a_wrong_flag_is_one_specific_line(words: list[str], text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_flags(words, FLAGS)
    assert str(caught.value) == text
    assert caught.value.hint == hint


@given(st.lists(st.text()))
def test_everything_after_two_dashes_is_untouched(words: list[str]) -> None:
    assert read_flags(["--attach", "--", *words], FLAGS) == ({"attach": True}, words)


def test_the_environment_fills_flags_that_were_not_given() -> None:
    environment = {"RNX_RUN_NETWORK": "none", "RNX_RUN_MAX_TASKS": "50", "RNX_RUN_NAME": "theirs"}
    assert with_environment({"name": "mine"}, RUN_FLAGS, environment) == {
        "name": "mine",
        "network": "none",
        "max_tasks": 50,
    }


def test_a_bad_value_in_the_environment_names_the_variable() -> None:
    with pytest.raises(UsageError, match="RNX_RUN_GPU=all"):
        with_environment({}, RUN_FLAGS, {"RNX_RUN_GPU": "all"})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--bad", "-a", "true"], True),
        (["--json", "run", "--attach", "true"], True),
        (["run", "sh", "-a"], False),
        (["run", "true"], False),
    ],
)
def test_a_line_that_cannot_be_read_may_still_ask_to_attach(words: list[str], expected: bool) -> None:
    assert asks_to_attach(words) is expected


def test_the_help_names_every_flag_once() -> None:
    text = run_help()
    for flag in FLAGS:
        assert text.count(f" {flag.usage} ") == 1, flag.long
