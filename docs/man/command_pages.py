"""Pages of commands, of what click knows of them: what --help says, they say in the same words."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import click
from roff import Page, bold, example, italic, literal, placeholders, prose

# Parts of a help text that have a section of their own.
_LABEL = re.compile(r"(?:^|\s)(Permission|Exit status|Example):\s+")
_OWN_SECTIONS = {"Permission": "PERMISSION", "Exit status": "EXIT STATUS", "Example": "EXAMPLES"}
# What a text that brings its own layout has besides (rnx run).
_NOT_PROSE = ("Usage:", "Flags:")


@dataclass(frozen=True)
class Manual:
    """The pages of one program."""

    root: click.Command
    program: str
    section: str
    title: str
    exit_statuses: Mapping[str, str]
    """What the tools' own help does not say, by the first word."""

    def pages(self) -> tuple[list[Page], dict[str, Page]]:
        """Return a page for each command, and of further names of commands the page that is theirs, too."""
        known: dict[int, list[click.Context]] = {}
        for context in _walk(_context(self.root, self.program)):
            known.setdefault(id(context.command), []).append(context)
        names = {context.command_path for contexts in known.values() for context in contexts}
        pages: list[Page] = []
        others: dict[str, Page] = {}
        for contexts in known.values():
            shortest, *more = sorted(contexts, key=lambda each: len(each.command_path.split()))
            page = self._page(shortest, more, names)
            pages.append(page)
            others |= {_dashed(context.command_path): page for context in more}
        return pages, others

    def _page(self, context: click.Context, more: Sequence[click.Context], names: set[str]) -> Page:
        command = context.command
        page = Page(_dashed(context.command_path), self.section, self.title)
        called = [page.name, *(_dashed(other.command_path) for other in more)]
        page.add("NAME", [f"{literal(', '.join(called))} \\- {literal(_summary(command))}"])
        pieces = " ".join(placeholders(piece) for piece in command.collect_usage_pieces(context))
        forms = [line for each in (context, *more) for line in (".br", f"{bold(each.command_path)} {pieces}")]
        page.add("SYNOPSIS", forms[1:])
        text = _help(context)
        for heading, paragraph in _parts(text):
            page.add(heading, example(paragraph) if heading == "EXAMPLES" else prose(paragraph))
        if words := context.command_path.split()[1:2]:
            status = self.exit_statuses.get(words[0], "")
            page.add("EXIT STATUS", prose(status)) if status else None
        _add_options(page, context)
        _add_commands(page, context, self.section)
        mentioned = {name for name in names if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)}
        page.references |= {(_dashed(name), self.section) for name in mentioned}
        if context.parent is not None:
            page.references |= {
                (_dashed(context.parent.command_path), self.section),
                (self.program, self.section),
            }
        return page


def _walk(context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None
            yield from _walk(_context(command, name, context))


def _context(command: click.Command, name: str, parent: click.Context | None = None) -> click.Context:
    """Return a context that only looks."""
    return click.Context(
        command, info_name=name, parent=parent, resilient_parsing=True, **command.context_settings
    )


def _dashed(path: str) -> str:
    return path.replace(" ", "-")


def _help(context: click.Context) -> str:
    command = context.command
    text = inspect.cleandoc(command.help) if command.help else command.get_help(context)
    return "\n\n".join(part for part in text.split("\n\n") if not part.startswith(_NOT_PROSE))


def _summary(command: click.Command) -> str:
    text = command.short_help or (command.help or "").partition("\n")[0]
    return text.strip().rstrip(".")


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """Yield the paragraphs of a help text, each with the section that it goes to."""
    for paragraph in text.split("\n\n"):
        first, *labelled = _LABEL.split(paragraph)
        if first.strip():
            yield "DESCRIPTION", first
        for label, words in zip(labelled[::2], labelled[1::2], strict=True):
            yield _OWN_SECTIONS[label], words.strip()


def _add_options(page: Page, context: click.Context) -> None:
    variables = []
    for param in context.command.get_params(context):
        record = param.get_help_record(context)
        if record is None:
            continue
        names, text = record
        page.parts.setdefault("OPTIONS", []).extend([".TP", _option_names(names), *(prose(text) or ["\\&"])])
        if isinstance(param.envvar, str):
            variables += [
                ".TP",
                bold(param.envvar),
                f"the value of {bold(param.opts[0])}, where it is not given",
            ]
    if variables:
        page.add("ENVIRONMENT", variables)


def _option_names(names: str) -> str:
    """Return what is typed in bold, and what stands for a value in italics."""
    shown = []
    for word in names.split(" "):
        core = word.rstrip(",")
        style = bold if core.startswith("-") else literal if core == "/" else italic
        shown.append(style(core) + word[len(core) :])
    return " ".join(shown)


def _add_commands(page: Page, context: click.Context, section: str) -> None:
    if not isinstance(context.command, click.Group):
        return
    for name in context.command.list_commands(context):
        command = context.command.get_command(context, name)
        assert command is not None
        called = literal(f"{page.name}-{name}")
        page.parts.setdefault("COMMANDS", []).extend(
            [".TP", f".BR {called} ({section})", *prose(_summary(command))]
        )
