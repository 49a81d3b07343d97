"""The command line.

    verbs/           one module per verb: `aigw NAME` is `verbs/NAME.py`, loaded only when NAME is called
    arguments        a verb's parameters, read from its signature: parser, help, completion
    admin_client     calls of a running gateway's Admin API
    proxy_client     one request through the proxy, and its outcome (for `aigw try`)
    rates            rates and latencies between two samples of a gateway (for `aigw top`)
    output           tables, JSON, colours, notes
    yaml_writer      values as YAML text

Exit codes: 0 success, 1 failure, 2 usage or configuration error. Standard output carries the result alone; errors go to
standard error and name the repair. Start-up is the latency that people notice most: a module is imported where it is used.
"""

import os
import sys
from importlib import import_module
from typing import Any, Final, NamedTuple, NoReturn

from aigw import __version__
from aigw.errors import AddressInUse, AigwError, ConfigError

ABOUT: Final = "An AI-API gateway: identity, limits and exact metering before any compute is consumed."
HELP: Final = frozenset({"--help", "-h"})


class Verb(NamedTuple):
    """A word of the command line: where it is, and its line of the help (the first of its own)."""

    name: str
    target: str
    about: str
    more: "tuple[Verb, ...]" = ()
    """Verbs below it; then it has no target."""

    def load(self) -> Any:
        """The function."""
        module, _, name = self.target.partition(":")
        return getattr(import_module(module), name)


GROUPS: Final[dict[str, tuple[Verb, ...]]] = {
    "Serve": (
        Verb("serve", "aigw.cli.verbs.serve:serve", "Serve the gateway until SIGTERM."),
        Verb(
            "check",
            "aigw.cli.verbs.check:check",
            "Say whether a configuration file can be used, and all that is wrong with it.",
        ),
        Verb("schema", "aigw.cli.verbs.schema:schema", "Print the JSON Schema (2020-12) of the configuration file."),
    ),
    "Ask a running gateway": (
        Verb("status", "aigw.cli.verbs.status:status", "Print what a running gateway says of itself."),
        Verb("diff", "aigw.cli.verbs.diff:diff", "Tell what a configuration file would change in a running gateway."),
        Verb("dump", "aigw.cli.verbs.dump:dump", "Print the configuration in force as a configuration file."),
        Verb("top", "aigw.cli.verbs.top:top", "Watch traffic, refusals, tokens and latencies of a running gateway."),
        Verb(
            "tiers",
            "aigw.cli.verbs.tiers:tiers",
            "List what is sold: limits, gates and prices; or show one tier whole.",
        ),
        Verb(
            "keys",
            "",
            "Make, list and revoke consumers' API keys.",
            (
                Verb("keys create", "aigw.cli.verbs.keys:create", "Make a key and print it, this once."),
                Verb(
                    "keys list",
                    "aigw.cli.verbs.keys:list_keys",
                    "List keys by their ids and last characters; the keys themselves are not kept.",
                ),
                Verb(
                    "keys revoke",
                    "aigw.cli.verbs.keys:revoke",
                    "End keys: requests that arrive after this are refused.",
                ),
            ),
        ),
    ),
    "Call it": (
        Verb(
            "try",
            "aigw.cli.verbs.try_call:try_call",
            "Send one request through the gateway and tell what became of it.",
        ),
        Verb(
            "mock-llm", "aigw.cli.verbs.mock_llm:mock_llm", "Serve a model that is none: known sizes, pace and faults."
        ),
    ),
    "More": (
        Verb("completion", "aigw.cli.verbs.completion:completion", "Print a completion script for bash, zsh or fish."),
        Verb("version", "aigw.cli.verbs.version:version", "Print the version of aigw and of what it runs on."),
    ),
}
HIDDEN: Final = (
    Verb("echo", "aigw.cli.verbs.echo:echo", "Serve what tells what it was sent, in httpbin's form."),
    Verb("demo", "aigw.cli.verbs.demo:demo", "Serve three tiers, a mock LLM and an echo service, until Ctrl-C."),
)


def overview() -> str:
    """What `aigw --help` prints."""
    lines = ["Usage: aigw COMMAND [OPTIONS]", "", ABOUT]
    for group, verbs in GROUPS.items():
        lines += ["", f"{group}:", *(f"  {verb.name:<11} {verb.about}" for verb in verbs)]
    return "\n".join([*lines, "", "More of one: aigw COMMAND --help", ""])


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code."""
    _open_streams()
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        fail(1, str(error))
    sys.exit(code)


def _open_streams() -> None:
    """What our starter closed leads nowhere. Left closed, its number would be that of the next file that is opened, here or in a
    child, and whatever is printed would be written into that."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            held = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(held, True)
            setattr(sys, name, open(held, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  (a number, and for good)


def _run(words: list[str]) -> int:
    asked = words[: words.index("--")] if "--" in words else words
    helps = not HELP.isdisjoint(asked)
    named = [word for word in words if not helps or word not in HELP]
    if named in ([], ["help"]):
        sys.stdout.write(overview())
        return 0
    if "--version" in asked:
        sys.stdout.write(f"{__version__}\n")
        return 0
    from aigw.cli.arguments import Usage, call  # noqa: PLC0415

    try:
        verb, rest = find(named)
        if helps or not verb.target:
            sys.stdout.write(help_of(verb))
            return 0
        code = call(verb.load(), rest)
        sys.stdout.flush()
    except Usage as error:
        fail(2, f"{error}\nSee: {' '.join(['aigw', *_known(named), '--help'])}")
    except (ConfigError, AddressInUse) as error:
        fail(2, str(error))
    except AigwError as error:
        fail(1, str(error))
    except KeyboardInterrupt:
        return 130
    return code if isinstance(code, int) else 0


def find(words: list[str]) -> tuple[Verb, list[str]]:
    """The verb that the first words name, and the words after them. Raises Usage."""
    verbs = every_verb()
    shown = [verb for group in GROUPS.values() for verb in group]
    rest = list(words)
    while True:
        verb = next((verb for verb in verbs if verb.name.rsplit(" ", 1)[-1] == rest[0]), None)
        if verb is None:
            raise _unknown(rest[0], shown)
        rest.pop(0)
        if not (verb.more and rest):
            return verb, rest
        verbs = shown = list(verb.more)


def _known(words: list[str]) -> list[str]:
    """As many of the words as name verbs: what is most of use to read about."""
    verbs, known = every_verb(), list[str]()
    for word in words:
        verb = next((verb for verb in verbs if verb.name.rsplit(" ", 1)[-1] == word), None)
        if verb is None:
            break
        known.append(word)
        verbs = list(verb.more)
    return known


def _unknown(word: str, verbs: list[Verb]) -> ConfigError:
    from aigw.cli.arguments import Usage, did_you_mean  # noqa: PLC0415

    names = [verb.name.rsplit(" ", 1)[-1] for verb in verbs]
    if word.startswith("-"):
        return Usage(f"Unknown option: {word}.")
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return Usage(f'Unknown command "{word}".{did_you_mean(word, names)} Available commands: {listed}.')


def every_verb() -> list[Verb]:
    """The hidden ones, too."""
    return [verb for verbs in (*GROUPS.values(), HIDDEN) for verb in verbs]


def help_of(verb: Verb, width: int | None = None) -> str:
    """What `aigw VERB --help` prints, for a terminal of that many columns."""
    if verb.more:
        lines = [f"  {inner.name.rsplit(' ', 1)[-1]}: {inner.about}" for inner in verb.more]
        return "\n".join([f"Usage: aigw {verb.name} COMMAND", "", verb.about, "", "Commands:", *lines, ""])
    from shutil import get_terminal_size  # noqa: PLC0415

    from aigw.cli.arguments import help_of  # noqa: PLC0415

    return help_of(verb.load(), f"aigw {verb.name}", width or get_terminal_size().columns)


def fail(code: int, message: str) -> NoReturn:
    """End the process with `message` on standard error."""
    sys.stderr.write(f"aigw: {message.strip()}\n")
    sys.exit(code)
