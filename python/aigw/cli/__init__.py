"""The command line: one file per verb, each loaded only when it is called.

Exit codes: 0 fine, 1 failed, 2 usage or configuration error. Errors go to standard error and carry the repair.
"""

import sys
from typing import NoReturn

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
app.command("aigw.cli.serve:serve", name="serve")
app.command("aigw.cli.check:check", name="check")
app.command("aigw.cli.schema:schema", name="schema")
app.command("aigw.cli.mock_llm:mock_llm", name="mock-llm")
app.command("aigw.cli.echo:echo", name="echo", show=False)
app.command("aigw.cli.demo:demo", name="demo", show=False)
app.command("aigw.cli.status:status", name="status")
app.command("aigw.cli.version:version", name="version")


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
