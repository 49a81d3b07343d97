"""`/usage`, `/usage/events`, `/denials` and `/prices`: the ledger as people bill by it.

In: filters, groupings, sizes and offsets as texts. Out: JSON of the ledger's readers, or 400 in Kong's form with the parameter named.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

import sqlalchemy as sa

from aigw.admin import envelope
from aigw.admin.call import Answer, Call, Methods
from aigw.admin.envelope import Refusal
from aigw.ledger.query import BadQuery, UnknownParameter
from aigw.ledger.questions import ANSWERS, one_request
from aigw.types import JsonDict

_CODES: Final = {"size": (9, "invalid size"), "offset": (7, "invalid offset")}


def refused(error: BadQuery) -> Refusal:
    """400 in Kong's form."""
    known = None if isinstance(error, UnknownParameter) else _CODES.get(error.field)
    code, name = known or (11, "invalid options")
    message = f"{error.field} {error.message}" if known else f"invalid option ({error})"
    return envelope.coded(400, code, name, message, {error.field: error.message})


def _answering(of: Callable[[sa.Connection, Mapping[str, str]], JsonDict]) -> Methods:
    def get(call: Call) -> Answer:
        try:
            if call.repeated:
                raise BadQuery(call.repeated[0][:64], "stands twice: send it once")
            with call.admin.ledger.reading() as connection:
                found = of(connection, call.query)
        except BadQuery as error:
            raise refused(error) from None
        return Answer(200, _with_next(call, found))

    return {"GET": get}


def _with_next(call: Call, found: JsonDict) -> JsonDict:
    """The answer with `next` as a path: the same query at the next offset."""
    if not found.get("next"):
        return found
    query = urlencode({**call.query, "offset": found["offset"]}, quote_via=quote)
    return {**found, "next": f"{call.path}?{query}"}


def event(request_id: str) -> Methods:
    """GET of one request's event."""

    def get(call: Call) -> Answer:
        with call.admin.ledger.reading() as connection:
            found: Any = one_request(connection, request_id)
        if found is None:
            raise envelope.not_found()
        return Answer(200, found)

    return {"GET": get}


def _audit(call: Call) -> Answer:
    for name in call.query:
        raise refused(UnknownParameter(name[:64], "unknown parameter: an audit has none"))
    return Answer(200, call.admin.audit())


AUDIT: Final[Methods] = {"GET": _audit}
USAGE: Final = _answering(ANSWERS["usage"])
EVENTS: Final = _answering(ANSWERS["events"])
DENIALS: Final = _answering(ANSWERS["denials"])
PRICES: Final = _answering(ANSWERS["prices"])
