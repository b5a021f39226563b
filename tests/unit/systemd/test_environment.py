"""What we write, systemd reads back: against a parser made from systemd.exec(5), EnvironmentFile=."""

from hypothesis import example, given
from hypothesis import strategies as st

from joblet_agent.systemd.environment import environment_file_text
from tests.unit.systemd.plans import plan

PREFIX = "JOBLET_ENV_"
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=1, max_codepoint=0xD7FF), max_size=60)
HARD = st.text(st.sampled_from("\"'\\`$#;=\n\r\t %{}aü"), max_size=30)


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
    text = environment_file_text(plan("x", environment=environment))
    expected = {PREFIX + name: value for name, value in environment.items()}
    assert _Reader(text).read() == expected | {"JOBLET_ARG_0": "x"}


@given(st.lists(st.one_of(VALUES, HARD), max_size=5))
def test_words_of_the_command_are_read_in_their_order(args: list[str]) -> None:  # A7
    read = _Reader(environment_file_text(plan("x", *args, environment={}))).read()
    assert [read[f"JOBLET_ARG_{number}"] for number in range(len(read))] == ["x", *args]


def test_a_long_word_comes_in_pieces() -> None:
    word = "".join(chr(0x21 + number % 90) for number in range(131_071))
    read = _Reader(environment_file_text(plan(word, environment={}))).read()
    assert list(read) == ["JOBLET_ARG_0", *(f"JOBLET_ARG_0_{piece}" for piece in range(1, 5))]
    assert "".join(read.values()) == word


@given(st.dictionaries(NAMES, HARD, max_size=4))
def test_no_variable_gets_by_without_the_prefix(environment: dict[str, str]) -> None:  # A8
    read = _Reader(environment_file_text(plan("x", environment=environment))).read()
    assert all(name.startswith(PREFIX) for name in read if name != "JOBLET_ARG_0")
