"""Regular expressions in routes. In: the expression, and where it stands. Out: a reason or None.

Workers use a linear-time engine, which has no look-around and no back-references; both are refused here by name. All else is
for that engine to say: no other one agrees with it on every expression.
"""

import re
from typing import Final, Literal

from aigw._native import wrong_text

_BEYOND_LINEAR: Final = re.compile(r"(?<!\\)(?:\\\\)*(\(\?(?:=|!|<=|<!|>|\()|\\[1-9]|\\[gk][<{])")
_PREFIX: Final = {"path": "~", "header": "~*"}


def wrong_regex(kind: Literal["path", "header"], expression: str) -> str | None:
    """What is wrong with this regular expression, or None."""
    beyond = _BEYOND_LINEAR.search(expression)
    if beyond is not None:
        return f"invalid regex: '{expression}' (look-around and back-references are not supported: '{beyond.group(1)}')"
    why = wrong_text(kind, _PREFIX[kind] + expression)
    return None if why is None else f"invalid regex: '{expression}' ({why})"
