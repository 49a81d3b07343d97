"""Regular expressions in routes. In: the expression, and the place of it. Out: a reason to refuse it, or None.

Workers use a linear-time engine without look-around and back-references; this module refuses both by name. The engine itself
judges everything else: no other engine agrees with it on every expression.
"""

import re
from typing import Final, Literal

from aigw._native import check_string
from aigw.schema.unsupported import NOT_SUPPORTED

_BEYOND_LINEAR: Final = re.compile(r"(?<!\\)(?:\\\\)*(\(\?(?:=|!|<=|<!|>|\()|\\[1-9]|\\[gk][<{])")
_PREFIX: Final = {"path": "~", "header": "~*"}


def wrong_regex(kind: Literal["path", "header"], expression: str) -> str | None:
    """The reason to refuse this regular expression, or None."""
    beyond = _BEYOND_LINEAR.search(expression)
    if beyond is not None:
        return (
            f"invalid regex: '{expression}' (look-around and back-references are {NOT_SUPPORTED}: '{beyond.group(1)}')"
        )
    why = check_string(kind, _PREFIX[kind] + expression)
    return None if why is None else f"invalid regex: '{expression}' ({why})"
