"""Regular expressions in routes: what is checked before a worker compiles them. In: the expression. Out: a reason or None.

Workers use a linear-time engine, which has no look-around and no back-references; both are refused here by name, and
the rest of the syntax is checked with Python's parser, which agrees with it on what both can do.
"""

import re
from typing import Final

_BEYOND_LINEAR: Final = re.compile(r"(?<!\\)(?:\\\\)*(\(\?(?:=|!|<=|<!|>|\()|\\[1-9]|\\[gk][<{])")
_NAMED: Final = re.compile(r"\(\?<(?=[A-Za-z_])")


def wrong_regex(expression: str) -> str | None:
    """What is wrong with this regular expression, or None."""
    beyond = _BEYOND_LINEAR.search(expression)
    if beyond is not None:
        return f"invalid regex: '{expression}' (look-around and back-references are not supported: '{beyond.group(1)}')"
    try:
        re.compile(_NAMED.sub("(?P<", expression))
    except (re.error, OverflowError, RecursionError) as error:
        return f"invalid regex: '{expression}' ({error})"
    return None
