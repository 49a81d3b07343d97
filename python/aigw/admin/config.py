"""`/config`: show the configuration in force as a file, or load a new one, as in Kong without a database. `/config/diff`: the
changes that a text would make. `/config/history`: the results of the last loads.

In: a text, or an empty body for the current file. Out: hash, generation and difference once the text is in force, or 400 with all
findings and their positions. A posted text is in force until the file changes.
"""

from typing import Final

import orjson

from aigw.admin.body import Form, refuse_twice
from aigw.admin.call import Answer, Call, Methods
from aigw.admin.envelope import Refusal, bad_request
from aigw.config import ConfigErrors
from aigw.config.source import MAX_FINDINGS
from aigw.control.file.in_force import POSTED
from aigw.schema.violations import MOST_FOUND
from aigw.types import JsonDict

ENVELOPE: Final = 1 << 20
"""Bytes that a form or JSON may add to the text of a configuration."""
_YAML: Final = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain")
_HOW: Final = (
    "send the text of the configuration itself with Content-Type: application/yaml (curl --data-binary @FILE), or in the field"
    " 'config' of a form (curl -F config=@FILE) or of a JSON object"
)


def text_in(raw: bytes, kind: str) -> JsonDict:
    """The text in a body of this content type. Raises a Refusal."""
    if not raw.strip():
        return {}
    if kind in _YAML or not kind:  # many HTTP libraries send none with bytes
        return {"config": raw}
    if kind != "application/json":
        raise Refusal(415, {"message": f"cannot read {kind[:64]}: {_HOW}"})
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise bad_request("Cannot parse JSON body") from None
    if isinstance(value, dict) and isinstance(value.get("config"), str):
        refuse_twice(raw)
        return {"config": value["config"]}
    return {"config": raw}  # JSON is YAML: the body may be the configuration itself


def form_in(form: JsonDict) -> JsonDict:
    """The text in a form with the single field `config`. Raises a Refusal without repeating content, which may hold keys.

    A form without the field differs from an empty body, which means the file. More fields may come from a text cut at a '&'."""
    if isinstance(form, Form) and form.keys() != {"config"}:
        raise bad_request(f"expected a form with the field 'config' and no other: {_HOW}")
    return form


def unreadable() -> Refusal:
    """400 for an unreadable form, which may be a configuration sent with the wrong content type."""
    return bad_request(f"Cannot parse the form: {_HOW}")


def _sent(call: Call) -> bytes | None:
    text = call.data.get("config")
    if text is not None and not isinstance(text, str | bytes):
        raise bad_request("config must be the text of a configuration")
    return text.encode(errors="surrogatepass") if isinstance(text, str) else text


def _get(call: Call) -> Answer:
    return Answer(200, call.admin.configuration.document())


def _post(call: Call) -> Answer:
    try:
        outcome = call.admin.configuration.load("api", _sent(call), caller=call.caller._asdict())
    except ConfigErrors as error:
        raise refused(error) from None
    diff = outcome.difference.as_dict()
    body = {"hash": outcome.hash, "generation": outcome.generation, "diff": diff}
    if outcome.warnings:
        body["warnings"] = [finding.as_dict() for finding in outcome.warnings]
    return Answer(201 if outcome.changed else 200, body)


def refused(error: ConfigErrors) -> Refusal:
    """400 with the findings, of many the first."""
    count = len(error.findings)
    one = error.findings[0]
    position = f"{one.file}:{one.line}:{one.col}: " if one.line else f"{one.file}: "
    message = f"{position}{one.path + ': ' if one.path else ''}{one.message}"
    least = "at least " if count >= MAX_FINDINGS else ""  # the check stops there
    message += f" (and {least}{count - 1} more)" if count > 1 else ""
    shown = error.findings[:MOST_FOUND]
    fields = {finding.path or "@config": finding.message for finding in reversed(shown)}
    body = {"name": "invalid declarative configuration", "message": f"declarative config is invalid: {message}"}
    return Refusal(400, {**body, "fields": fields, "errors": [finding.as_dict() for finding in shown]})


def _diff(call: Call) -> Answer:
    data = _sent(call)
    if data is None:
        raise bad_request(f"expected the text of a configuration: {_HOW}")
    try:
        found = call.admin.configuration.compare(call.query.get("file", POSTED)[:1024], data)
    except ConfigErrors as error:
        refusal = refused(error)
        raise Refusal(refusal.status, {**(refusal.body or {}), "rendered": error.rendered()}) from None
    return Answer(200, found.as_dict())


def _history(call: Call) -> Answer:
    return Answer(200, {"data": call.admin.configuration.history(), "next": None})


CONFIG: Final[Methods] = {"GET": _get, "POST": _post}
DIFF: Final[Methods] = {"POST": _diff}
TEXTS: Final = (CONFIG, DIFF)
"""Paths whose bodies are configurations."""
HISTORY: Final[Methods] = {"GET": _history}
