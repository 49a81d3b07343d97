"""`aigw completion`: a shell's completion script, made from the table of verbs and their signatures.

Each script finds the verb among the words, and offers its options, the values that an option may have, or files.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from aigw.cli import GROUPS, Verb
from aigw.cli.arguments import Option, Parameter, options_of


class Node(NamedTuple):
    """A verb as scripts know it; of the root, `words` are empty."""

    words: str
    verbs: tuple[Verb, ...]
    options: list[Option]

    @property
    def offered(self) -> list[tuple[str, str]]:
        """What may come next, each with a line about it: verbs below, values by place, options."""
        found = [(verb.name.rsplit(" ", 1)[-1], verb.about) for verb in self.verbs]
        found += [(choice, option.about.help) for option in self.options if option.placed for choice in option.choices]
        found += [(flag, option.about.help) for option in self.options for flag in _flags(option)]
        return [*found, ("--help", "show what it does")]

    @property
    def valued(self) -> list[Option]:
        """Options that take a value."""
        return [option for option in self.options if option.flags and option.type is not bool]


def completion(shell: Annotated[Literal["bash", "zsh", "fish"], Parameter("bash, zsh or fish")], /) -> int:
    """Print a completion script for bash, zsh or fish.

    For example:

        source <(aigw completion bash)
        aigw completion zsh > "${fpath[1]}/_aigw"
        aigw completion fish > ~/.config/fish/completions/aigw.fish
    """
    nodes = list(_nodes())
    sys.stdout.write({"bash": bash, "zsh": zsh, "fish": fish}[shell](nodes))
    return 0


def _nodes() -> Iterator[Node]:
    verbs = tuple(verb for group in GROUPS.values() for verb in group)
    yield Node("", verbs, [])
    for verb in verbs:
        yield Node(verb.name, verb.more, options_of(verb.load()) if verb.target else [])
        yield from (Node(inner.name, (), options_of(inner.load())) for inner in verb.more)


def _flags(option: Option) -> list[str]:
    return [word for word in option.shown if word.startswith("-")]


def _patterns(words: Iterator[str] | list[str]) -> str:
    return "|".join(f'"{word}"' for word in words)


def _paths(nodes: list[Node]) -> str:
    """A shell's pattern of `VERB WORD` where WORD leads further down."""
    return _patterns([node.words if " " in node.words else f" {node.words}" for node in nodes if node.words])


def _values(node: Node, option: Option) -> str:
    return _patterns([f"{node.words} {flag}" for flag in _flags(option)])


def bash(nodes: list[Node]) -> str:
    """A function for `complete -F`; a word after `=` counts as the option's value."""
    values = [
        f'    {_values(node, option)}) found="{" ".join(option.choices)}" ;;'
        for node in nodes
        for option in node.valued
        if option.type is not Path
    ]
    files = "|".join(_values(node, option) for node in nodes for option in node.valued if option.type is Path)
    offered = [f'      "{node.words}") found="{" ".join(name for name, _ in node.offered)}" ;;' for node in nodes]
    return "\n".join(
        [
            "# Completion of aigw for bash: source <(aigw completion bash)",
            "_aigw() {",
            '  local verb="" word found="" current="$2" last="${COMP_WORDS[COMP_CWORD-1]}"',
            '  [[ $current == "=" ]] && current=""',
            '  [[ $last == "=" ]] && last="${COMP_WORDS[COMP_CWORD-2]}"',
            '  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
            f'    case "$verb $word" in {_paths(nodes)}) verb="${{verb:+$verb }}$word" ;; esac',
            "  done",
            '  case "$verb $last" in',
            f'    {files}) COMPREPLY=($(compgen -f -- "$current")); return ;;',
            *values,
            '    *) case "$verb" in',
            *offered,
            "    esac ;;",
            "  esac",
            '  COMPREPLY=($(compgen -W "$found" -- "$current"))',
            "}",
            "complete -o default -F _aigw aigw",
            "",
        ]
    )


def zsh(nodes: list[Node]) -> str:
    """A function for `compdef`, or for a file of `fpath`."""
    values = [
        f"    ({_values(node, option)}) "
        + (f"compadd -- {' '.join(option.choices)}" if option.choices else "_files" if option.type is Path else ":")
        + "; return ;;"
        for node in nodes
        for option in node.valued
    ]
    offered = []
    for node in nodes:
        rows = " ".join(_quoted(f"{name}:{about}") for name, about in node.offered)
        offered.append(f'    ("{node.words}") found=({rows}) ;;')
    return "\n".join(
        [
            "#compdef aigw",
            "_aigw() {",
            '  local verb="" word',
            "  local -a found",
            '  for word in "${(@)words[2,CURRENT-1]}"; do',
            f'    case "$verb $word" in ({_paths(nodes)}) verb="${{verb:+$verb }}$word" ;; esac',
            "  done",
            '  case "$verb ${words[CURRENT-1]}" in',
            *values,
            "  esac",
            '  case "$verb" in',
            *offered,
            "  esac",
            "  _describe aigw found || _files",
            "}",
            'if [[ $funcstack[1] == _aigw ]]; then _aigw "$@"; else compdef _aigw aigw; fi',
            "",
        ]
    )


def fish(nodes: list[Node]) -> str:
    """A line for each word that may be offered."""
    lines = ["# Completion of aigw for fish: aigw completion fish > ~/.config/fish/completions/aigw.fish"]
    for node in nodes:
        if node.verbs:
            lines.append(f"complete -c aigw -n {_quoted(_where(node))} -f")
        for name, about in node.offered:
            if not name.startswith("-"):
                lines.append(f"complete -c aigw -n {_quoted(_where(node))} -f -a {name} -d {_quoted(about)}")
        for option in node.options:
            for flag in _flags(option):
                kind = "-l" if flag.startswith("--") else "-s"
                value = "" if option.type is bool else " -r -F" if option.type is Path else " -x"
                value += f" -a {_quoted(' '.join(option.choices))}" if option.choices else ""
                line = f"complete -c aigw -n {_quoted(_where(node))} {kind} {flag.lstrip('-')}{value}"
                lines.append(f"{line} -d {_quoted(option.about.help)}")
    return "\n".join([*lines, ""])


def _where(node: Node) -> str:
    """The condition under which a node's words are offered."""
    if not node.words:
        return "__fish_use_subcommand"
    seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in node.words.split())
    below = " ".join(verb.name.rsplit(" ", 1)[-1] for verb in node.verbs)
    return f"{seen}; and not __fish_seen_subcommand_from {below}" if below else seen


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
