"""A verb's words on the command line, and its help: both made from its signature, read with the standard library's argparse.

In: a function, its parameters annotated with a `Parameter`. Those before `/` and those that may be named come by place,
keyword-only ones are options; a default makes one optional. Out: the arguments to call it with, or `Usage` with what is
wrong. It imports little: a person waits for it before every verb.
"""

import inspect
import os
from argparse import SUPPRESS, ArgumentParser, BooleanOptionalAction
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import NoneType, UnionType
from typing import Any, Final, Literal, NamedTuple, NoReturn, Union, get_args, get_origin

from aigw.errors import ConfigError

Function = Callable[..., Any]
_NAMES: Final = {str: "STR", int: "INT", float: "FLOAT"}


class Usage(ConfigError):
    """The words of a command line cannot be understood."""


class Parameter(NamedTuple):
    """What a signature does not say."""

    help: str
    names: tuple[str, ...] = ()
    """Of the option, where they are not made of the parameter's."""
    variable: str | None = None
    """Gives the value that the command line does not."""
    negative: bool = True
    """A flag also has a form that switches it off."""


class Option(NamedTuple):
    """One parameter of a verb."""

    name: str
    shape: Any
    default: Any
    about: Parameter
    type: type
    choices: tuple[str, ...]
    many: bool

    @property
    def placed(self) -> bool:
        """Whether it comes by its place."""
        return self.shape is not inspect.Parameter.KEYWORD_ONLY

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is inspect.Parameter.empty and self.shape is not inspect.Parameter.VAR_POSITIONAL

    @property
    def flags(self) -> tuple[str, ...]:
        """What it is called by."""
        if self.shape in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL):
            return ()
        return self.about.names or (f"--{self.name.replace('_', '-')}",)

    @property
    def shown(self) -> tuple[str, ...]:
        """Every word that stands for it."""
        place = (self.name.upper(),) if self.placed else ()
        switch = self.type is bool and self.about.negative
        return (*place, *self.flags, *(f"--no-{flag[2:]}" for flag in self.flags if switch))

    @property
    def value_name(self) -> str:
        """What its value is called in the help; none of a flag."""
        if self.type is bool or self.placed:
            return ""
        return ("CHOICE" if self.choices else _NAMES.get(self.type, "PATH")) + ("..." if self.many else "")

    def value(self, text: str) -> Any:
        """The value that a word stands for. Raises Usage."""
        if self.choices and text not in self.choices:
            raise Usage(f'Invalid value "{text}" for {self.shown[0]}. Choose from: {_quoted(self.choices)}.')
        try:
            return self.type(text)
        except ValueError:
            kind = self.type.__name__
            raise Usage(f'Invalid value for {self.shown[0]}: unable to convert "{text}" into {kind}.') from None


class _Options(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Usage(f"{message.removeprefix('argument ')}.")


def options_of(function: Function) -> list[Option]:
    """Every parameter, in the function's order."""
    return [_option(parameter) for parameter in inspect.signature(function).parameters.values()]


def _option(parameter: inspect.Parameter) -> Option:
    annotation, about = get_args(parameter.annotation)
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(inner for inner in get_args(annotation) if inner is not NoneType)
    many = get_origin(annotation) is list
    kind = get_args(annotation)[0] if many else annotation
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    many = many or parameter.kind is inspect.Parameter.VAR_POSITIONAL
    return Option(parameter.name, parameter.kind, parameter.default, about, str if choices else kind, choices, many)


def call(function: Function, words: Sequence[str]) -> Any:
    """Call a verb with the words after its name. Raises Usage."""
    options = options_of(function)
    end = words.index("--") if "--" in words else len(words)
    parser = _Options(add_help=False, allow_abbrev=False, argument_default=SUPPRESS)
    for option in options:
        if option.flags:
            _add(parser, option)
    found, rest = parser.parse_known_args(words[:end])
    named = vars(found)
    for word in rest:
        if word.startswith("-") and len(word) > 1:
            known = [flag for option in options for flag in option.shown if flag.startswith("-")]
            name = word.partition("=")[0]
            raise Usage(f"Unknown option: {name}.{did_you_mean(name, known, quote='')}")
    for option in options:
        given = os.environ.get(option.about.variable or "")
        if given and option.name not in named:
            named[option.name] = option.value(given)
    return function(*_placed(options, [*rest, *words[end + 1 :]], named), **named)


def _add(parser: ArgumentParser, option: Option) -> None:
    if option.type is bool:
        action: Any = BooleanOptionalAction if option.about.negative else "store_true"
        parser.add_argument(*option.flags, dest=option.name, action=action)
    elif option.many:
        parser.add_argument(*option.flags, dest=option.name, action="extend", nargs="+", type=option.value)
    else:
        parser.add_argument(*option.flags, dest=option.name, type=option.value)


def _placed(options: Iterable[Option], words: list[str], named: dict[str, Any]) -> Iterator[Any]:
    """Values of the parameters that come by place; one that was named takes none."""
    for option in options:
        if not option.placed or option.name in named:
            continue
        if option.many:
            yield from map(option.value, words)
            return
        if words:
            yield option.value(words.pop(0))
        elif option.required:
            raise Usage(f"{option.shown[0]} is missing.")
    if words:
        raise Usage(f"Too many words: {_quoted(words)}.")


def help_of(function: Function, words: str, width: int) -> str:
    """What `aigw WORDS --help` prints."""
    import textwrap  # noqa: PLC0415

    options = options_of(function)
    placed = [option for option in options if option.placed]
    usage = [f"Usage: {words}", *(["[OPTIONS]"] if len(options) > len(placed) else [])]
    for option in placed:
        name = option.name.upper() + ("..." if option.many else "")
        usage.append(name if option.required else f"[{name}]")
    lines = [" ".join(usage), "", *(inspect.getdoc(function) or "").splitlines()]
    for title, group in (("Arguments", placed), ("Parameters", [o for o in options if not o.placed])):
        lines += ["", f"{title}:"] if group else []
        for option in group:
            lines += textwrap.wrap(
                _line(option), width, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False
            )
    return "\n".join(lines) + "\n"


def _line(option: Option) -> str:
    value = f" {option.value_name}" if option.value_name else ""
    line = f"{', '.join(option.shown)}{value}: {option.about.help}"
    if option.choices:
        line += f" [choices: {', '.join(option.choices)}]"
    if option.about.variable:
        line += f" [env: {option.about.variable}]"
    if option.default is True:
        line += " [default: on]"
    elif option.default not in (None, inspect.Parameter.empty) and option.type is not bool:
        line += f" [default: {option.default}]"
    return line + (" [required]" if option.required else "")


def did_you_mean(word: str, known: Iterable[str], quote: str = '"') -> str:
    """A question with the nearest of the known words, or nothing."""
    from difflib import get_close_matches  # noqa: PLC0415

    near = get_close_matches(word, list(known), 1)
    return f" Did you mean {quote}{near[0]}{quote}?" if near else ""


def _quoted(words: Iterable[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)
