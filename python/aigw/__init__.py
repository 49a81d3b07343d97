"""aigw: an AI-API gateway. The request path is the extension (`aigw._native`); this package runs and rules it."""

from typing import Final

__version__: Final = "0.1.0"
