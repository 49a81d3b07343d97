"""What no worker could load, in words of the entity that it is. In: the compiler's reason, which names things by their numbers.

Fields are checked by the same code as the compiler's, so nothing should come here; what does is refused before it is stored:
a policy that cannot be put in force would hold up every later change, a revoked key among them.
"""

import re
from typing import Final

from aigw.control.publish.compile import World
from aigw.errors import Unservable

_NAMED: Final = re.compile(r"\b(service|route|tier|model) (\d+)\b")


def unservable(world: World, why: str) -> Unservable:
    """The error to raise."""
    found = _NAMED.search(why)
    if found is not None:
        kind, number = f"{found[1]}s", int(found[2])
        for key, one in getattr(world, kind).items():
            if one.n == number:
                name = getattr(one.entity, "name", None) or key
                why = f"{why[: found.start()]}{found[1]} '{name}'{why[found.end() :]}"
                return Unservable(f"no worker could load this, so nothing was changed: {why}", kind, key)
    return Unservable(f"no worker could load this, so nothing was changed: {why}")
