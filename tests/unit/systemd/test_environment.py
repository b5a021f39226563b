"""What we write, systemd reads back: against a parser made from systemd.exec(5), EnvironmentFile=."""

from dataclasses import replace
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from joblet_agent.ports import LaunchPlan
from joblet_agent.systemd.environment import environment_file_text
from tests.unit.systemd.plans import plan, settings

PREFIX = "JOBLET_ENV_"
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=1, max_codepoint=0xD7FF), max_size=60)
HARD = st.text(st.sampled_from("\"'\\`$#;=\n\r\t %{}aü"), max_size=30)


OURS = {"JOBLET_LAUNCH", "JOBLET_ARG_0", "JOBLET_DIR"}


def text_of(launched: LaunchPlan) -> str:
    return environment_file_text(launched, settings(257))


class _Reader:
    """Reads assignments as the manual has it: lines, comments, quotes, backslashes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.variables: dict[str, str] = {}

    def read(self) -> dict[str, str]:
        while self._at < len(self._text):
            self._line()
        return self.variables

    def _next(self) -> str:
        character = self._text[self._at]
        self._at += 1
        return character

    def _line(self) -> None:
        begin = self._at
        if self._text[begin] in "#;\n":
            self._at = (self._text.find("\n", begin) + 1) or len(self._text)
            return
        equals = self._text.index("=", begin)
        self._at = equals + 1
        self.variables[self._text[begin:equals].strip()] = self._value()

    def _value(self) -> str:
        value = ""
        while self._at < len(self._text):
            match self._next():
                case "\n":
                    return value.rstrip()
                case '"':
                    return self._double_quoted(value)
                case "\\":
                    value += self._next()
                case character:
                    value += character
        return value.rstrip()

    def _double_quoted(self, value: str) -> str:
        """In double quotes a backslash is one unless `"`, a backslash, a backtick or a dollar follows."""
        while (character := self._next()) != '"':
            if character != "\\":
                value += character
                continue
            escaped = self._next()
            if escaped != "\n":
                value += escaped if escaped in '"\\`$' else "\\" + escaped
        assert self._next() == "\n"  # nothing follows the quotes
        return value


@given(st.dictionaries(NAMES, st.one_of(VALUES, HARD), max_size=8))
@example({"A": "\n"})
@example({"A": "\\"})
@example({"A": "\\\n"})
@example({"A": '"\nB="x'})
@example({"A": ""})
@example({"A": " blanks around "})
@example({"A": "$HOME `id` ${X} \\$"})
def test_systemd_reads_exactly_what_was_given(environment: dict[str, str]) -> None:
    text = text_of(plan("x", environment=environment))
    expected = {PREFIX + name: value for name, value in environment.items()}
    assert _Reader(text).read() == expected | {
        "JOBLET_LAUNCH": "100001 100001 1",
        "JOBLET_ARG_0": "x",
        "JOBLET_DIR": "/work",
    }


@given(st.lists(st.one_of(VALUES, HARD), max_size=5))
def test_words_of_the_command_are_read_in_their_order(args: list[str]) -> None:  # A7
    read = _Reader(text_of(plan("x", *args, environment={}))).read()
    assert [read[f"JOBLET_ARG_{number}"] for number in range(len(read) - 2)] == ["x", *args]


def test_a_long_word_comes_in_pieces() -> None:
    word = "".join(chr(0x21 + number % 90) for number in range(131_071))
    read = _Reader(text_of(plan(word, environment={}))).read()
    assert (read.pop("JOBLET_LAUNCH"), read.pop("JOBLET_DIR")) == ("100001 100001 1", "/work")
    assert list(read) == ["JOBLET_ARG_0", *(f"JOBLET_ARG_0_{piece}" for piece in range(1, 5))]
    assert "".join(read.values()) == word


@given(st.one_of(VALUES, HARD))
def test_the_directory_is_read_exactly(name: str) -> None:  # A7
    launched = plan("x", environment={})
    spec = replace(launched.spec, work_dir=f"/{name}")
    read = _Reader(text_of(replace(launched, spec=spec))).read()
    assert read["JOBLET_DIR"] == f"/{name}"


@given(st.dictionaries(NAMES, HARD, max_size=4))
def test_no_variable_gets_by_without_the_prefix(environment: dict[str, str]) -> None:  # A8
    read = _Reader(text_of(plan("x", environment=environment))).read()
    assert all(name.startswith(PREFIX) for name in read if name not in OURS)


def test_the_launcher_of_a_job_with_a_runtime_finds_its_own_libraries_and_no_locale() -> None:
    of_job = {"LD_LIBRARY_PATH": "/evil", "LC_ALL": "de_DE"}
    read = _Reader(text_of(replace(plan(environment=of_job), kit=Path("/kit")))).read()
    assert (read["LD_LIBRARY_PATH"], read["LC_ALL"]) == ("/usr/lib/joblet", "C")
    assert (read[f"{PREFIX}LD_LIBRARY_PATH"], read[f"{PREFIX}LC_ALL"]) == ("/evil", "de_DE")
    assert set(_Reader(text_of(plan())).read()) == OURS
