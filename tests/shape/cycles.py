"""Import cycles of a graph, at the level of files and of folders.

In: for each module the modules it imports; a module is its path. Out: the sets of modules that import one another.
"""

from collections.abc import Hashable, Mapping
from collections.abc import Set as AbstractSet
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)
Path = tuple[str, ...]
Graph = Mapping[Path, AbstractSet[Path]]


def cycles(graph: Mapping[Node, AbstractSet[Node]]) -> list[set[Node]]:
    """Sets of nodes that reach one another (Tarjan's strongly connected components of more than one)."""
    found: list[set[Node]] = []
    number: dict[Node, int] = {}
    low: dict[Node, int] = {}
    stack: list[Node] = []

    def visit(node: Node) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in number:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], number[other])
        if low[node] == number[node]:
            together = set(stack[stack.index(node) :])
            del stack[stack.index(node) :]
            if len(together) > 1:
                found.append(together)

    for node in graph:
        if node not in number:
            visit(node)
    return found


def folded(graph: Graph, above: Path) -> dict[str, set[str]]:
    """The graph of the children of `above`: each stands for every module below it. `above` itself is left out."""
    depth = len(above)

    def child(path: Path) -> str | None:
        return path[depth] if path[:depth] == above and len(path) > depth else None

    result: dict[str, set[str]] = {}
    for path, targets in graph.items():
        name = child(path)
        if name is not None:
            others = {other for target in targets if (other := child(target)) is not None}
            result.setdefault(name, set()).update(others - {name})
    return result


def all_cycles(graph: Graph) -> dict[str, int]:
    """How many modules each cycle has, by its text: cycles of files and, for every folder, of the parts of that folder."""
    found = {f"files {' '.join(sorted('::'.join(path) or 'root' for path in one))}": len(one) for one in cycles(graph)}
    for above in {path[:depth] for path in graph for depth in range(len(path))}:
        for names in cycles(folded(graph, above)):
            found[f"parts of {'::'.join(above) or 'root'}: {' '.join(sorted(names))}"] = len(names)
    return found
