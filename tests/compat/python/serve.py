"""The loop of a client's program: one case per line of standard input, its result per line of standard output.

In: `{"case", "base", "root", "key", "model"}`; `base` ends in /v1, `root` is the address alone. Out: lines that begin with `@@`, first
`{"versions"}`, then for each case the members that the client saw: `text`, `usage`, `tool`, `object`, `vector`, `models`, `left`, or
`error` with the class, status and code of the exception.
"""

import json
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel

Plan = dict[str, str]
Seen = dict[str, Any]
Case = Callable[[Plan], Seen]

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "kelvin"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
QUESTION = "How is the weather?"


class Forecast(BaseModel):  # the structured output that the cases ask for; clients would send a docstring, too
    city: str
    days: int


def described(error: BaseException) -> Seen:
    """Class, status, code and message of an exception as the client's user reads them."""
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else {}
    code = getattr(error, "code", None) or (inner.get("code") if isinstance(inner, dict) else None)
    return {
        "class": type(error).__name__,
        "status": getattr(error, "status_code", None),
        "code": code,
        "message": str(error)[:600],
    }


def serve(packages: list[str], cases: dict[str, Case]) -> None:
    """Serve cases until the end of standard input. Refused calls are the case `plain`, unless `cases` has others."""
    cases = refused(cases["plain"]) | cases
    tell({"versions": {name: version(name) for name in packages}})
    for line in sys.stdin:
        plan = json.loads(line)
        try:
            tell(cases[plan["case"]](plan))
        except Exception as error:  # noqa: BLE001  (the exception is the result)
            traceback.print_exc(file=sys.stderr)
            tell({"error": described(error)})


def refused(plain: Case) -> dict[str, Case]:
    """The cases that end in a refusal: of the first call, or of the second."""

    def twice(plan: Plan) -> Seen:
        plain(plan)
        return plain(plan)

    return {"401": plain, "403": plain, "429 burst": twice, "429 quota": twice}


def tell(seen: Seen) -> None:
    """Print one result."""
    sys.stdout.write("@@" + json.dumps(seen) + "\n")
    sys.stdout.flush()
