"""The command line: one file per verb, each loaded only when it is called.

Exit codes: 0 fine, 1 failed, 2 usage or configuration error. Errors go to standard error and carry the repair. What a verb
prints for programs goes to standard output alone. `aigw --help` is answered from the table below, without the parser: it is
what people wait for most often, and completion scripts, too.
"""

import sys
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from aigw import __version__
from aigw.errors import AddressInUse, AigwError, ConfigError

if TYPE_CHECKING:
    from cyclopts import App

ABOUT: Final = "An AI-API gateway: identity, limits and exact metering before any compute is consumed."


class Verb(NamedTuple):
    """A word of the command line: where it is, and its line of the help (the first of its own)."""

    name: str
    target: str
    about: str


GROUPS: Final[dict[str, tuple[Verb, ...]]] = {
    "Serve": (
        Verb("serve", "aigw.cli.serve:serve", "Serve the gateway until SIGTERM."),
        Verb(
            "check",
            "aigw.cli.check:check",
            "Say whether a configuration file can be used, and all that is wrong with it.",
        ),
        Verb("schema", "aigw.cli.schema:schema", "Print the JSON Schema (2020-12) of the configuration file."),
    ),
    "Ask a running gateway": (
        Verb("status", "aigw.cli.status:status", "Print what a running gateway says of itself."),
        Verb("diff", "aigw.cli.diff:diff", "Tell what a configuration file would change in a running gateway."),
        Verb("dump", "aigw.cli.dump:dump", "Print the configuration in force as a configuration file."),
        Verb("top", "aigw.cli.top:top", "Watch traffic, refusals, tokens and latencies of a running gateway."),
        Verb("tiers", "aigw.cli.tiers:tiers", "List what is sold: limits, gates and prices; or show one tier whole."),
        Verb("keys", "aigw.cli.keys:app", "Make, list and revoke consumers' API keys."),
    ),
    "Call it": (
        Verb("try", "aigw.cli.try_call:try_call", "Send one request through the gateway and tell what became of it."),
        Verb("mock-llm", "aigw.cli.mock_llm:mock_llm", "Serve a model that is none: known sizes, pace and faults."),
    ),
    "More": (
        Verb("completion", "aigw.cli.completion:completion", "Print a completion script for bash, zsh or fish."),
        Verb("version", "aigw.cli.version:version", "Print the version of aigw and of what it runs on."),
    ),
}
HIDDEN: Final = (
    Verb("echo", "aigw.cli.echo:echo", "Serve what tells what it was sent, in httpbin's form."),
    Verb("demo", "aigw.cli.demo:demo", "Serve three tiers, a mock LLM and an echo service, until Ctrl-C."),
)


def overview() -> str:
    """What `aigw --help` prints."""
    lines = ["Usage: aigw COMMAND [OPTIONS]", "", ABOUT]
    for group, verbs in GROUPS.items():
        lines += ["", f"{group}:", *(f"  {verb.name:<11} {verb.about}" for verb in verbs)]
    return "\n".join([*lines, "", "More of one: aigw COMMAND --help", ""])


def parser() -> "App":
    """The parser with every verb, none of them loaded yet."""
    from cyclopts import App  # noqa: PLC0415  (a hundred milliseconds that the overview does not need)

    app = App(
        name="aigw",
        help=ABOUT,
        version=__version__,
        version_flags=["--version"],
        help_format="plaintext",
        help_formatter="plain",
        result_action="return_value",
    )
    for verb in (verb for verbs in GROUPS.values() for verb in verbs):
        app.command(verb.target, name=verb.name)
    for verb in HIDDEN:
        app.command(verb.target, name=verb.name, show=False)
    return app


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if words in ([], ["--help"], ["-h"], ["help"]):
        sys.stdout.write(overview())
        sys.exit(0)
    try:
        sys.exit(_run(words))
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        sys.exit(1)


def _run(words: list[str]) -> int:
    app = parser()
    from cyclopts import CycloptsError  # noqa: PLC0415

    try:
        code = app(words, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        known = {verb.name for verbs in (*GROUPS.values(), HIDDEN) for verb in verbs}
        verb = f"{words[0]} " if words[0] in known else ""
        fail(2, f"{error}\nSee: aigw {verb}--help")
    except (ConfigError, AddressInUse) as error:
        fail(2, str(error))
    except BrokenPipeError:
        raise
    except (AigwError, OSError) as error:
        fail(1, str(error))
    except KeyboardInterrupt:
        return 130
    return code if isinstance(code, int) else 0


def fail(code: int, message: str) -> NoReturn:
    """End the process with `message` on standard error."""
    sys.stderr.write(f"aigw: {message.strip()}\n")
    sys.exit(code)
