"""The verbs, one module each, and `aigw` itself, which imports a verb's module when the verb is named.

`GROUPS` has the sections of `aigw --help` in their order. A summary stands here and as the first line of the verb's
docstring: importing 14 modules for the overview would double its processor time (a test holds the two equal).
"""

from importlib import import_module
from typing import Final

import click

from aigw import __version__
from aigw.cli.arguments import VerbGroup

ABOUT: Final = "An AI-API gateway: identity, limits and exact metering before any compute is consumed."
GROUPS: Final[dict[str, dict[str, str]]] = {
    "Serve": {
        "demo": "Run the gateway with three example tiers, a mock LLM and an echo service.",
        "serve": "Run the gateway until SIGTERM.",
        "check": "Check a configuration file and list every error in it.",
        "schema": "Print the JSON Schema (2020-12) of the configuration file.",
    },
    "Ask a running gateway": {
        "status": "Show the state of a running gateway.",
        "diff": "Show the changes that a configuration file would make to a running gateway.",
        "dump": "Print the configuration in force as a configuration file.",
        "top": "Show traffic, refusals, tokens and latencies of a running gateway, live.",
        "tiers": "List the tiers with their limits, gates and prices, or show one tier.",
        "usage": "Show usage: requests, tokens, cost and price by group, or each entry.",
        "prices": "List the versions of tiers' prices and models' costs, with their times.",
        "audit": "Compare the ledger with its rollups and with the counters of limits.",
        "tokens": "Count the tokens of a text or of a request, as the gateway does for a model.",
        "keys": "Create, list, rotate and revoke the API keys of consumers.",
    },
    "Call it": {
        "try": "Send one request through the gateway and show its outcome.",
        "mock-llm": "Run a fake model server (mock LLM) with chosen sizes, delays and faults.",
    },
    "More": {
        "completion": "Print a completion script for bash, zsh or fish.",
        "version": "Print the versions of aigw and Python.",
    },
}
HIDDEN: Final = {
    "echo": "Run an echo service: it answers each request with the request, in httpbin's format.",
}
VERBS: Final = {name: about for verbs in (*GROUPS.values(), HIDDEN) for name, about in verbs.items()}
_MODULES: Final = {"try": "try_call", "mock-llm": "mock_llm"}
"""Modules whose names differ from their verbs': Python reserves `try`."""


class Aigw(VerbGroup):
    """The root command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the verbs that the help shows, in its order."""
        return [name for verbs in GROUPS.values() for name in verbs]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command: the object of the module that has the module's own name."""
        if cmd_name not in VERBS:
            return None
        name = _MODULES.get(cmd_name, cmd_name)
        command = getattr(import_module(f"aigw.cli.verbs.{name}"), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; the error for an unknown verb suggests the nearest one."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=self.list_commands(ctx), ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections of GROUPS; no verb is imported."""
        width = max(map(len, VERBS))
        for title, verbs in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), about) for name, about in verbs.items()])


aigw = Aigw(
    "aigw",
    help=ABOUT,
    epilog="Help of one verb: aigw VERB --help",
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100},
)
click.version_option(__version__, message="%(version)s")(aigw)
