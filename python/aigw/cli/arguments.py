"""A verb's arguments and options: click's, with the three habits of this command line.

An option that may be repeated takes several words (`--tags a b`). A word that starts with `-` is never an option's value,
so a forgotten value is an error. The help prints a docstring as it is written, with its examples.
"""

from collections import deque
from collections.abc import Callable
from inspect import cleandoc
from pathlib import Path
from typing import Any, Final

import click

FILE: Final = click.Path(path_type=Path, readable=False)
"""A path that the verb itself opens: its error says more than click's."""
OUTPUT_HELP: Final = "table for people, json for programs"

admin_option = click.option(
    "--admin", metavar="HOST:PORT", help="Admin API to call  [env var: AIGW_ADMIN; default: 127.0.0.1:8001]"
)


def output_option(*forms: str, default: str | None = None, text: str = OUTPUT_HELP) -> Callable[[Any], Any]:
    """`--output`, one of `forms`; the default is the first form."""
    return click.option("--output", type=click.Choice(forms), default=default or forms[0], help=text)


class Verb(click.Command):
    """One verb: a function that returns the exit code."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Split `--tags a b` into `--tags a --tags b`. Raises BadOptionUsage for an option without its value."""
        if ctx.resilient_parsing:  # a shell completes a line that is not finished
            return super().parse_args(ctx, args)
        valued = {name: p for p in self.params if isinstance(p, click.Option) and not p.is_flag for name in p.opts}
        rest, words = deque(args), list[str]()
        while rest and rest[0] != "--":
            word = rest.popleft()
            words.append(word)
            if (option := valued.get(word)) is None:
                continue
            if not rest or _is_option(rest[0]):
                raise click.BadOptionUsage(word, f"Option '{word}' requires an argument.", ctx)
            words.append(rest.popleft())
            while option.multiple and rest and not _is_option(rest[0]):
                words += [word, rest.popleft()]
        return super().parse_args(ctx, [*words, *rest])

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the docstring, its lines kept."""
        formatter.write(f"\n{cleandoc(self.help or '')}\n")


class VerbGroup(click.Group):
    """Verbs below one word, such as `aigw keys`; alone, the word prints its help."""

    command_class = Verb

    def __init__(self, name: str, **settings: Any) -> None:
        settings |= {"invoke_without_command": True, "callback": _print_help}
        super().__init__(name, options_metavar="", subcommand_metavar="VERB [OPTIONS]", **settings)


@click.pass_context
def _print_help(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _is_option(word: str) -> bool:
    """Whether a word is an option: not `-` (standard input), a negative number or a sentence such as "- one"."""
    return word.startswith("-") and len(word) > 1 and not word[1].isdigit() and " " not in word
