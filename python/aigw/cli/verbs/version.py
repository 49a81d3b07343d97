"""`aigw version`."""

import sys

from aigw import __version__


def version() -> int:
    """Print the version of aigw and of what it runs on.

    For example:

        aigw version
    """
    sys.stdout.write(f"aigw {__version__} (Python {sys.version.split()[0]})\n")
    return 0
