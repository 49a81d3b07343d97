"""`aigw version`."""

import sys

import click

from aigw import __version__
from aigw.cli.arguments import Verb


@click.command(cls=Verb)
def version() -> int:
    """Print the versions of aigw and Python.

    Needs: nothing.

    For example:

        aigw version

    Exit codes: 0.
    """
    sys.stdout.write(f"aigw {__version__} (Python {sys.version.split()[0]})\n")
    return 0
