"""The command line: one file per verb, each loaded only when it is called.

Exit codes: 0 fine, 1 failed, 2 usage or configuration error. Errors go to standard error and carry the repair.
"""

import sys
from typing import Final, NoReturn

from cyclopts import App, CycloptsError

from aigw import __version__
from aigw.errors import AddressInUse, AigwError, ConfigError

app = App(
    name="aigw",
    help="An AI-API gateway: identity, limits and exact metering before any compute is consumed.",
    version=__version__,
    version_flags=["--version"],
    result_action="return_value",
)
VERBS: Final = {
    "serve": "Serve the gateway.",
    "check": "Check a configuration file.",
    "diff": "Tell what a configuration file would change in a running gateway.",
    "dump": "Print the configuration in force as a configuration file.",
    "schema": "Print the JSON Schema of the configuration file, for editors.",
    "status": "Print what a running gateway says of itself.",
    "mock-llm": "Serve a model to try things on.",
    "version": "Print versions.",
}
HIDDEN: Final = ("demo", "echo")


def _register(shorts: bool) -> None:
    """Name the verbs, loading none. Their short texts are for the list only: a verb's own page is its docstring."""
    for verb in (*VERBS, *HIDDEN):
        function = verb.replace("-", "_")
        text = VERBS.get(verb) if shorts else None
        app.command(f"aigw.cli.{function}:{function}", name=verb, help=text, show=verb in VERBS)


_register(shorts=sys.argv[1:] in ([], ["--help"], ["-h"]))


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code."""
    try:
        code = app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        fail(2, f"{error}\nSee: aigw --help")
    except (ConfigError, AddressInUse) as error:
        fail(2, str(error))
    except (AigwError, OSError) as error:
        fail(1, str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def fail(code: int, message: str) -> NoReturn:
    """End the process with `message` on standard error."""
    sys.stderr.write(f"aigw: {message.strip()}\n")
    sys.exit(code)
