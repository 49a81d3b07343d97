"""`aigw completion`: a shell's completion script. The script asks `aigw` for the words that may come next."""

import sys

import click
from click.shell_completion import get_completion_class

from aigw.cli.arguments import Verb


@click.command(cls=Verb)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), help="shell of the script")
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print a completion script for bash, zsh or fish.

    Needs: aigw on the PATH of the shell.

    For example:

        source <(aigw completion bash)
        aigw completion zsh > "${fpath[1]}/_aigw"
        aigw completion fish > ~/.config/fish/completions/aigw.fish

    Exit codes: 0, or 2 for another shell.
    """
    script = get_completion_class(shell)
    assert script is not None
    sys.stdout.write(script(ctx.find_root().command, {}, "aigw", "_AIGW_COMPLETE").source() + "\n")
    return 0
