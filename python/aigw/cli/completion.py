"""`aigw completion`: a shell's completion script, made from the parser itself."""

import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from aigw.cli import parser


def completion(shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="bash, zsh or fish")], /) -> int:
    """Print a completion script for bash, zsh or fish.

    For example:

        source <(aigw completion bash)
        aigw completion zsh > "${fpath[1]}/_aigw"
        aigw completion fish > ~/.config/fish/completions/aigw.fish
    """
    sys.stdout.write(parser().generate_completion(prog_name="aigw", shell=shell))
    return 0
