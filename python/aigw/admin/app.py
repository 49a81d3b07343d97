"""The ASGI application of :8001. In: a request. Out: an answer of Kong's shape, after the change is in force.

`find` maps a path to its methods, each a function of a `Call`. This module alone handles HEAD, OPTIONS, 404, 405, the trailing
slash and the headers of every answer. Store work runs on threads, never on the loop.
"""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, Final
from urllib.parse import unquote
from uuid import uuid4

import orjson
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from aigw import __version__
from aigw._native import give_back_memory
from aigw.admin import arrival, body, config, page
from aigw.admin.arrival import Budget, Patience, Rest
from aigw.admin.call import Answer, Call, Handler, Methods
from aigw.admin.change_log import Caller
from aigw.admin.context import Admin
from aigw.admin.credentials import without_key
from aigw.admin.envelope import Refusal, bad_request
from aigw.admin.guard import Guard
from aigw.admin.info import readiness
from aigw.admin.paths import find
from aigw.admin.unsupported import lacking
from aigw.errors import AigwError
from aigw.telemetry.faults import is_fault
from aigw.types import JsonDict

_JSON: Final = "application/json; charset=utf-8"
_TEXT: Final = "text/plain; charset=utf-8"
_METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"
READYZ: Final = "/readyz"
PROBES: Final = ("/livez", READYZ)
"""Paths that load balancers and kubelets ask, without a token and by any Host."""
_WITH_BODY: Final = ("POST", "PUT", "PATCH")
BODIES: Final = 4 * body.MAX_BYTES
"""Bytes that the bodies of all requests hold together. Configurations have as much again as the largest one may have."""


log = logging.getLogger("aigw.admin")


class AdminApp:
    """ASGI: http and lifespan."""

    def __init__(self, admin: Admin, guard: Guard, patience: Patience, faulted: Callable[[], None]) -> None:
        """`faulted` counts an answer 500."""
        self._admin = admin
        self._guard = guard
        self._patience = patience
        self._faulted = faulted
        self._bodies = Budget(BODIES, give_back_memory)
        self._texts = Budget(admin.configuration.most + config.ENVELOPE, give_back_memory)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or take part in the server's lifespan."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            started = time.perf_counter()
            rest = Rest(scope, receive)
            request = Request(scope, rest)
            response = await self._respond(request)
            if "connection" not in response.headers and not await rest.discard():
                response.headers["Connection"] = "close"
            response.headers["X-Request-Id"] = _request_id(scope)
            response.headers["X-Kong-Admin-Latency"] = str(round((time.perf_counter() - started) * 1000))
            response.headers["Server"] = f"aigw/{__version__}"
            if request.method == "HEAD":
                response.body = b""  # Content-Length stays that of GET
            await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        try:
            refused = self._guard.refuse(request.headers.items())
            if refused is not None and request.method in ("GET", "HEAD") and _path(request.scope) in PROBES:
                return await self._probe(_path(request.scope))
            if refused is not None:
                return _json(refused[0], {"message": refused[1]})
            return await self._dispatch(request)
        except Refusal as refusal:
            return _json(refusal.status, refusal.body, refusal.headers)
        except ClientDisconnect:
            return Response(status_code=400)
        except AigwError as error:
            return self._fault(request, error) if error.status == 500 else _json(error.status, {"message": str(error)})
        except BaseException as error:
            if not is_fault(error):
                raise
            return self._fault(request, error)

    def _fault(self, request: Request, error: BaseException) -> Response:
        """500: logged with its request's id and counted. The answer has the words of a known defect only."""
        self._faulted()
        request_id = _request_id(request.scope)
        path = without_key(_path(request.scope))
        log.error("request %s failed: %s %s", request_id, request.method, path, exc_info=error)
        message = str(error) if isinstance(error, AigwError) else "An unexpected error occurred"
        return _json(500, {"message": message, "request_id": request_id})

    async def _probe(self, path: str) -> Response:
        """The answer to a probe without a token: its status alone."""
        ready = path != READYZ or all((await asyncio.to_thread(readiness, self._admin)).values())
        return Response(status_code=200 if ready else 503)

    async def _dispatch(self, request: Request) -> Response:
        path = _path(request.scope)
        segments = [unquote(s, errors="replace") for s in path.split("/")[1:]]
        methods = find(segments)
        if methods is None:
            raise lacking(segments)
        allowed = _allowed(methods)
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": allowed})
        is_read = request.method in ("GET", "HEAD")
        if path == "/" and is_read and page.wanted(request.headers.get("accept", "")):
            text = await asyncio.to_thread(page.html, self._admin)
            return Response(text, 200, dict(page.HEADERS), "text/html; charset=utf-8")
        handler = methods.get("GET" if is_read else request.method)
        if handler is None:
            return _json(405, {"message": "Method not allowed"}, {"Allow": allowed})
        if request.method not in _WITH_BODY:
            return await self._answer(request, path, handler, {})
        is_text = any(methods is m for m in config.TEXTS)
        budget, most = (self._texts, self._texts.most) if is_text else (self._bodies, body.MAX_BYTES)
        with budget.claim() as claim:
            raw = await arrival.read(request, most, self._patience, claim)
            async with budget.alone if len(raw) > arrival.LARGE else nullcontext():
                data = await (_configuration(request, raw) if is_text else _data(request, raw))
                return await self._answer(request, path, handler, data)

    async def _answer(self, request: Request, path: str, handler: Handler, data: JsonDict) -> Response:
        now = self._admin.now()
        counts = Counter(name for name, _ in request.query_params.multi_items())
        repeated = [name for name, count in counts.items() if count > 1]
        query, client = dict(request.query_params), request.client
        caller = Caller("" if client is None else client.host, self._guard.access, _request_id(request.scope))
        call = Call(self._admin, data, query, repeated, path, int(now), math.ceil(now), request.method, caller)
        answer = await asyncio.to_thread(handler, call)
        if answer.pending is not None:
            answer = Answer(answer.status, await asyncio.wrap_future(answer.pending))
        if isinstance(answer.body, str):
            return Response(answer.body, answer.status, media_type=_METRICS if path == "/metrics" else _TEXT)
        return _json(answer.status, answer.body)


def _json(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Response:
    if value is None:
        return Response(status_code=status, headers=dict(headers or {}))
    return Response(orjson.dumps(value), status, dict(headers or {}), _JSON)


def _allowed(methods: Methods) -> str:
    return ", ".join(sorted({"OPTIONS", *methods, *({"HEAD"} if "GET" in methods else ())}))


def _path(scope: Scope) -> str:
    raw = scope.get("raw_path")
    path: str = raw.split(b"?")[0].decode("latin-1") if raw else scope["path"]
    return path.rstrip("/") or "/"


async def _data(request: Request, raw: bytes) -> JsonDict:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not raw:
        return {}
    if kind == "application/json":
        return await asyncio.to_thread(body.parse_json, raw)  # a large body takes a second, as a form
    if kind == "application/x-www-form-urlencoded":
        return await asyncio.to_thread(body.parse_form, raw)
    if kind == "multipart/form-data":
        return await _multipart(request, raw)
    raise Refusal(415, None)


async def _configuration(request: Request, raw: bytes) -> JsonDict:
    """The text of a configuration under the key `config`: the whole body, or a field of JSON or of a form. Empty: load the file."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("application/x-www-form-urlencoded", "multipart/form-data"):
        try:
            if len(raw) > body.MAX_BYTES:
                raise arrival.too_large(body.MAX_BYTES)
            form = await _data(request, raw)
        except Refusal as refusal:
            raise config.unreadable() if refusal.status == 400 else refusal from None
        return config.form_in(form)
    return await asyncio.to_thread(config.text_in, raw, kind)


def _request_id(scope: Scope) -> str:
    """The id of a request, made when it is first asked for."""
    made: str = scope.setdefault("state", {}).setdefault("aigw_request_id", uuid4().hex)
    return made


async def _multipart(request: Request, raw: bytes) -> JsonDict:
    async def again() -> Message:
        return {"type": "http.request", "body": raw, "more_body": False}

    try:
        form = await Request(request.scope, again).form(max_files=body.MAX_ARGUMENTS, max_fields=body.MAX_ARGUMENTS)
    except MultiPartException as error:
        too_many = "Too many" in error.message
        raise bad_request("Too many arguments" if too_many else f"Cannot parse the form: {error.message}") from None
    except Exception as error:
        if (
            type(error).__name__ == "HTTPException"
        ):  # Starlette turns a MultiPartException inside an application into this
            raise bad_request("Too many arguments" if "Too many" in str(error) else "Cannot parse the form") from None
        raise
    try:
        pairs = [(k, (await v.read()).decode() if isinstance(v, UploadFile) else v) for k, v in form.multi_items()]
    except UnicodeError:
        raise bad_request("Cannot parse the form: it is not UTF-8") from None
    finally:
        await form.close()
    return await asyncio.to_thread(body.structure, pairs)


async def _lifespan(receive: Receive, send: Send) -> None:
    """Acknowledge the server's lifespan events. The control process starts and stops its parts itself."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
