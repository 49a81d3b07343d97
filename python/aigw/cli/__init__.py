"""The command line.

    verbs/           one module per verb: `aigw NAME` is `verbs/NAME.py`, loaded only when NAME is called
    arguments        a verb's arguments and options: click's, and the ones that several verbs share
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
from typing import Final, NoReturn

from aigw.errors import AddressInUse, AigwError, ConfigError

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells count."""


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
    """Open /dev/null in place of a standard stream that the caller closed. The next file opened, here or in a child, would get
    the stream's number otherwise, and our output would go into that file."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)  # the lowest free number: the stream's own
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  (open until the process ends)


def _run(arguments: list[str]) -> int:
    import click  # noqa: PLC0415  (after the streams are open)

    from aigw.cli.verbs import aigw  # noqa: PLC0415

    try:
        code = aigw.main(["--help"] if arguments == ["help"] else arguments, prog_name="aigw", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        verb = error.ctx.command_path if error.ctx else "aigw"
        fail(2, f"{error.format_message()}\nSee: {verb} --help")
    except (ConfigError, AddressInUse) as error:
        fail(2, str(error))
    except AigwError as error:
        fail(1, str(error))
    except click.Abort:
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def fail(code: int, message: str) -> NoReturn:
    """End the process with `message` on standard error."""
    sys.stderr.write(f"aigw: {message.strip()}\n")
    sys.exit(code)
