"""Bad input on /v1: each refusal has OpenAI's form with all four members, reaches no upstream and counts nothing.

Raw sockets send the bodies, so no library repairs them.
"""

import contextlib
import gzip
import json
import time
from dataclasses import dataclass, field

import pytest

from tests.support.ends import Answer, connect, message, parse, read_to_end
from tests.support.failing import Surface
from tests.support.surface import Caller, caller, chat, is_error, stats

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
PATIENCE_S = 20.0  # against hangs; the machine may be loaded


@dataclass(frozen=True)
class Bad:
    """A request, and what it gets: a status, `code` and `param`. Its tier takes bodies of any size unless told."""

    body: bytes
    status: int = 400
    code: str = "invalid_json"
    param: str | None = None
    tier: str = "pro"
    path: str = CHAT


@dataclass(frozen=True)
class Oddly:
    """A request that is wrong before its body: `lines` in place of the bearer."""

    lines: tuple[str, ...]
    status: int
    code: str
    method: str = "POST"
    path: str = CHAT
    body: bytes = field(default=json.dumps(chat()).encode())


def asked(more: str, messages: str = '[{"role":"user","content":"hi"}]') -> bytes:
    """A chat with these members behind its own."""
    return ('{"model":"small-chat","messages":' + messages + more + "}").encode()


def wrong(param: str, more: str = "", body: bytes | None = None) -> Bad:
    return Bad(asked(more) if body is None else body, code="invalid_request", param=param)


def prompted(prompt: str, status: int = 400, code: str = "invalid_request") -> Bad:
    """A text completion, by a tier of one choice."""
    return Bad(f'{{"model":"small-chat","prompt":{prompt}}}'.encode(), status, code, "prompt", "free", COMPLETIONS)


DEEP = b"[" * 100_000 + b"]" * 100_000
BAD: dict[str, Bad] = {
    "nothing": Bad(b""),
    "no JSON": Bad(b"hello"),
    "a number": Bad(b"5"),
    "an array": Bad(b"[]"),
    "null": Bad(b"null"),
    "cut short": Bad(asked("")[:-1]),
    "more behind it": Bad(asked("") + b"{}"),
    "a comma too many": Bad(asked(",")),
    "single quotes": Bad(b"{'model':'small-chat'}"),
    "UTF-16": Bad(json.dumps(chat()).encode("utf-16")),
    "UTF-16 without a mark": Bad(json.dumps(chat()).encode("utf-16-le")),
    "UTF-32": Bad(json.dumps(chat()).encode("utf-32")),
    "two byte order marks": Bad(b"\xef\xbb\xbf" * 2 + asked("")),
    "Latin-1": Bad(asked(',"user":"\u00e9"').decode().encode("latin-1")),
    "a surrogate in UTF-8": Bad(b'{"model":"small-chat","messages":[1],"user":"\xed\xa0\x80"}'),
    "a NUL": Bad(asked("") + b"\0"),
    "a control character in a string": Bad(asked(',"user":"\x01"')),
    "NaN": Bad(asked(',"temperature":NaN')),
    "Infinity": Bad(asked(',"temperature":Infinity')),
    "a leading zero": Bad(asked(',"temperature":01')),
    "100,000 levels": Bad(DEEP),
    "100,000 levels within": Bad(b'{"model":"small-chat","messages":' + DEEP + b"}"),
    "100,000 objects within": Bad(asked(',"metadata":' + '{"a":' * 100_000 + "1" + "}" * 100_000)),
    "two models": wrong("model", ',"model":"small-chat"'),
    "two models, one spelt otherwise": wrong("model", ',"mod\\u0065l":"big-chat"'),
    "two models, one in capitals": wrong("MODEL", ',"MODEL":"big-chat"'),
    "a cap with a Kelvin sign": wrong("max_to\u212aens", ',"max_to\u212aens":99999'),
    "tools in capitals": wrong("Tools", ',"Tools":[{}]'),
    "stream options in capitals": wrong("stream_options.Include_Usage", ',"stream_options":{"Include_Usage":false}'),
    "two streams": wrong("stream", ',"stream":true,"stream":false'),
    "two caps": wrong("max_tokens", ',"max_tokens":1,"max_tokens":2'),
    "two messages": wrong("messages", ',"messages":[1]'),
    "a cap of -2": wrong("max_tokens", ',"max_tokens":-2'),
    "a cap of 0": wrong("max_tokens", ',"max_tokens":0'),
    "a cap of 1.5": wrong("max_tokens", ',"max_tokens":1.5'),
    "a cap as text": wrong("max_tokens", ',"max_tokens":"10"'),
    "a cap of 2^63": wrong("max_tokens", ',"max_tokens":9223372036854775808'),
    "a cap of 200,000 digits": wrong("max_tokens", ',"max_tokens":' + "9" * 200_000),
    "a new cap of -2": wrong("max_completion_tokens", ',"max_completion_tokens":-2'),
    "n of 0": wrong("n", ',"n":0'),
    "n as text": wrong("n", ',"n":"1"'),
    "stream as text": wrong("stream", ',"stream":"true"'),
    "stream options as text": wrong("stream_options", ',"stream":true,"stream_options":"x"'),
    "no messages": wrong("messages", body=b'{"model":"small-chat"}'),
    "empty messages": wrong("messages", body=asked("", "[]")),
    "messages as text": wrong("messages", body=asked("", '"hi"')),
    "messages of null": wrong("messages", body=asked("", "null")),
    "no model": wrong("model", body=b'{"messages":[1]}'),
    "an empty object": wrong("model", body=b"{}"),
    "model of null": wrong("model", body=b'{"model":null,"messages":[1]}'),
    "model of 5": wrong("model", body=b'{"model":5,"messages":[1]}'),
    "an empty model": wrong("model", body=b'{"model":"","messages":[1]}'),
    "an unknown model": Bad(json.dumps(chat("none")).encode(), 404, "model_not_found", "model"),
    "a model's name of 1 MB": Bad(json.dumps(chat("x" * 1_000_000)).encode(), 404, "model_not_found", "model"),
    "a model's name of a lone surrogate": wrong("model", body=b'{"model":"\\ud800","messages":[1]}'),
    "a model the tier hides": Bad(json.dumps(chat("hidden-chat")).encode(), 403, "model_not_allowed", "model", "free"),
    "a feature the tier lacks": Bad(json.dumps(chat("big-chat")).encode(), 403, "feature_not_in_tier", "model", "free"),
    "tools": Bad(asked(',"tools":[{}]'), 403, "feature_not_in_tier", "tools", "free"),
    "five prompts": prompted('["a","b","c","d","e"]', 403, "feature_not_in_tier"),
    "two prompts of tokens": prompted("[[1,2],[3]]", 403, "feature_not_in_tier"),
    "no prompts": prompted("[]"),
    "prompts of two kinds": prompted('["a",1]'),
    "a prompt of 5": prompted("5"),
    "1,000,000 keys without a model": wrong("model", body=b"{" + b",".join(b'"%x":1' % n for n in range(1_000_000)) + b"}"),
    "700,000 models": wrong("model", body=b"{" + b",".join([b'"model":"x"'] * 700_000) + b"}"),
    "1,000,000 messages of no model": wrong("model", body=b'{"messages":[' + b",".join([b"1"] * 1_000_000) + b"]}"),
    "larger than the tier allows": Bad(asked(',"user":"' + "x" * 20_000 + '"'), 413, "request_too_large", None, "free"),
    "much larger than the tier allows": Bad(asked(',"user":"' + "x" * 2_000_000 + '"'), 413, "request_too_large", None, "free"),
}  # fmt: skip

VALID: dict[str, bytes] = {
    "a cap of null": asked(',"max_tokens":null'),
    "a cap of -1": asked(',"max_tokens":-1'),
    "two caps of different names": asked(',"max_tokens":3,"max_completion_tokens":4'),
    "a number of 200,000 digits": asked(',"seed":' + "9" * 200_000),
    "a huge exponent": asked(',"temperature":1e9999'),
    "an escaped lone surrogate": asked(',"user":"\\ud800"'),
    "brackets in a string": asked(',"user":"' + "[" * 100_000 + '"'),
    "127 levels": asked(',"metadata":' + "[" * 126 + "]" * 126),
    "1,000,000 keys": b'{"model":"small-chat","messages":[1],' + b",".join(b'"%x":1' % n for n in range(1_000_000)) + b"}",
    "1,000,000 messages": b'{"model":"small-chat","messages":[' + b",".join([b"{}"] * 1_000_000) + b"]}",
    "blanks around it": b" \r\n\t" + asked("") + b" \r\n\t",
    "a byte order mark": b"\xef\xbb\xbf" + asked(""),
    "duplicates that decide nothing": asked(',"user":"a","user2":"b","metadata":{"a":1,"a":2}'),
}  # fmt: skip

KEY = "Authorization: Bearer KEY"
BOMB = gzip.compress(b" " * 11 * 2**20)  # 11 MiB: above the gateway's bound, in 11 KiB
ODDLY: dict[str, Oddly] = {
    "no key": Oddly((), 401, "invalid_api_key"),
    "an empty bearer": Oddly(("Authorization: Bearer ",), 401, "invalid_api_key"),
    "a bearer of blanks": Oddly(("Authorization: Bearer    ",), 401, "invalid_api_key"),
    "a bearer and no more": Oddly(("Authorization: Bearer",), 401, "invalid_api_key"),
    "basic": Oddly(("Authorization: Basic dXNlcjpwYXNz",), 401, "invalid_api_key"),
    "a key without a scheme": Oddly(("Authorization: KEY",), 401, "invalid_api_key"),
    "an unknown key": Oddly(("Authorization: Bearer nobody",), 401, "invalid_api_key"),
    "a bearer and another apikey": Oddly((KEY, "apikey: KEYx"), 401, "invalid_api_key"),
    "two different bearers": Oddly((KEY, KEY + "x"), 401, "invalid_api_key"),
    "an apikey and another api-key": Oddly(("apikey: KEY", "api-key: KEYx"), 401, "invalid_api_key"),
    "a key in the query alone": Oddly((), 401, "invalid_api_key", path=CHAT + "?apikey=KEY&api_key=KEY"),
    "a key of 30 KB": Oddly(("Authorization: Bearer " + "x" * 30_000,), 401, "invalid_api_key"),
    "a body of two codings": Oddly((KEY, "Content-Encoding: gzip, br"), 415, "unsupported_encoding"),
    "a body coded twice": Oddly((KEY, "Content-Encoding: gzip", "Content-Encoding: gzip"), 415, "unsupported_encoding"),
    "a body of an unknown coding": Oddly((KEY, "Content-Encoding: compress"), 415, "unsupported_encoding"),
    "a body said to be deflated": Oddly((KEY, "Content-Encoding: deflate"), 400, "invalid_request"),
    "a gzip body that is cut": Oddly(
        (KEY, "Content-Encoding: gzip"), 400, "invalid_request", body=gzip.compress(asked(""))[:-3]
    ),
    "a gzip bomb": Oddly((KEY, "Content-Encoding: gzip"), 413, "request_too_large", body=BOMB),
    "an unknown path": Oddly((KEY,), 404, "unsupported_endpoint", path="/v1/chat"),
    "responses": Oddly((KEY,), 404, "unsupported_endpoint", path="/v1/responses"),
    "an unknown path of Azure's": Oddly((KEY,), 404, "unsupported_endpoint", path="/openai/deployments/small-chat/images"),
    "the root": Oddly((KEY,), 404, "unsupported_endpoint", path="/v1"),
    "a slash too many": Oddly((KEY,), 404, "unsupported_endpoint", path=CHAT + "/"),
    "an unknown path without a key": Oddly((), 404, "unsupported_endpoint", path="/v1/secrets"),
    "a path with dots": Oddly((KEY,), 400, "bad_path", path="/v1/x/../chat/completions"),
    "a path with two slashes": Oddly((KEY,), 400, "bad_path", path="/v1//chat/completions"),
    "a path with an encoded slash": Oddly((KEY,), 404, "unsupported_endpoint", path="/v1/chat%2fcompletionsx"),
    "GET of a chat": Oddly((KEY,), 405, "unsupported_method", method="GET", body=b""),
    "PUT of a chat": Oddly((KEY,), 405, "unsupported_method", method="PUT"),
    "DELETE of a model": Oddly((KEY,), 405, "unsupported_method", method="DELETE", path="/v1/models/small-chat", body=b""),
    "POST of models": Oddly((KEY,), 405, "unsupported_method", path="/v1/models"),
    "an unknown model, shown": Oddly((KEY,), 404, "model_not_found", method="GET", path="/v1/models/none", body=b""),
}  # fmt: skip


@pytest.fixture(scope="module")
def callers(surface: Surface) -> dict[str, Caller]:
    """By tier. Nothing here may count, so they are shared."""
    return {tier: caller(surface.gateway, tier) for tier in ("free", "pro")}


def send(who: Caller, data: bytes) -> Answer:
    """The answer, within bounds."""
    began = time.monotonic()
    with connect(who.gateway.proxy) as client:
        client.sendall(data)
        answer = parse("POST", read_to_end(client))
    assert time.monotonic() - began < PATIENCE_S
    return answer


def told(answer: Answer, status: int, code: str, param: str | None) -> None:
    """The answer is this refusal, whole and in OpenAI's form."""
    assert (answer.status, answer.whole) == (status, True), answer.body[:300]
    assert answer.header("content-type") == "application/json"
    error = is_error(json.loads(answer.body))
    assert (error["code"], error["param"]) == (code, param), error
    assert error["aigw"]["request_id"] == answer.header("x-request-id")
    assert answer.header("x-should-retry") == "false"
    assert len(answer.body) < 2_000


@pytest.mark.parametrize("what", BAD)
def test_a_bad_body_is_told_and_counts_nothing(surface: Surface, callers: dict[str, Caller], what: str) -> None:
    bad = BAD[what]
    who = callers[bad.tier]
    before = stats(surface.llm)
    data = message("POST", bad.path, who.bearer, **({"body": bad.body} if bad.body else {}))
    told(send(who, data), bad.status, bad.code, bad.param)
    assert stats(surface.llm) == before
    assert [(row["used"], row["reserved"]) for row in who.limits()] == [(0, 0)]


@pytest.mark.parametrize("what", VALID)
def test_an_odd_body_that_is_json_passes(surface: Surface, what: str) -> None:
    who = caller(surface.gateway, "pro")
    before = stats(surface.llm)
    answer = send(who, message("POST", CHAT, who.bearer, body=VALID[what]))
    assert (answer.status, answer.whole) == (200, True), answer.body[:300]
    assert json.loads(answer.body)["object"] == "chat.completion"
    assert stats(surface.llm)["requests"] == before["requests"] + 1
    assert who.used() == [1]


@pytest.mark.parametrize("prompt", ['"a"', '["a"]', "[1,2,3]", "[[1,2,3]]", "null"])
def test_one_prompt_is_one_choice(surface: Surface, prompt: str) -> None:
    who = caller(surface.gateway, "free")
    body = f'{{"model":"small-chat","prompt":{prompt}}}'.encode()
    assert send(who, message("POST", COMPLETIONS, who.bearer, body=body)).status == 200


@pytest.mark.parametrize("what", ODDLY)
def test_a_request_that_is_wrong_before_its_body(surface: Surface, callers: dict[str, Caller], what: str) -> None:
    odd = ODDLY[what]
    who = callers["pro"]
    before = stats(surface.llm)
    lines = [line.replace("KEY", who.key) for line in odd.lines]
    data = message(odd.method, odd.path.replace("KEY", who.key), *lines, body=odd.body)
    param = "model" if odd.code == "model_not_found" else None
    answer = send(who, data)
    told(answer, odd.status, odd.code, param)
    allowed = "GET, HEAD" if odd.path.startswith("/v1/models") else "POST"
    assert answer.header("allow") == (allowed if odd.status == 405 else None)
    assert stats(surface.llm) == before
    assert [(row["used"], row["reserved"]) for row in who.limits()] == [(0, 0)]


def test_a_key_of_1_mb_is_refused_by_the_server(surface: Surface, callers: dict[str, Caller]) -> None:
    """The head is larger than the server's buffer: a 4xx without a body, or the connection's end; never a 5xx."""
    who = callers["pro"]
    with connect(who.gateway.proxy) as client:
        with contextlib.suppress(OSError):
            client.sendall(message("POST", CHAT, "Authorization: Bearer " + "x" * 1_000_000, body=b"{}"))
        data = read_to_end(client)
    assert data == b"" or 400 <= parse("POST", data).status < 500
    assert who.used() == [0]
    assert who.post(chat("none")).status_code == 404  # it serves on


def test_a_chunked_body_above_the_tiers_bytes(surface: Surface, callers: dict[str, Caller]) -> None:
    who = callers["free"]
    before = stats(surface.llm)
    piece = b"%x\r\n%s\r\n" % (1_000, b" " * 1_000)
    head = message("POST", CHAT, who.bearer, "Transfer-Encoding: chunked")
    told(send(who, head + piece * 30 + b"0\r\n\r\n"), 413, "request_too_large", None)
    assert stats(surface.llm) == before
    assert who.used() == [0]


def test_a_chunked_body_that_does_not_end(surface: Surface, callers: dict[str, Caller]) -> None:
    """Bytes beyond what the gateway takes of any body: told while they are still coming."""
    who = callers["free"]
    piece = b"%x\r\n%s\r\n" % (1 << 16, b" " * (1 << 16))
    with connect(who.gateway.proxy) as client:
        client.sendall(message("POST", CHAT, who.bearer, "Transfer-Encoding: chunked"))
        with contextlib.suppress(OSError):
            for _ in range(16_384):
                client.sendall(piece)
        answer = parse("POST", read_to_end(client))
    assert answer.status == 413
    assert is_error(json.loads(answer.body))["code"] == "request_too_large"
    assert who.used() == [0]


@pytest.mark.parametrize(
    "name", ["Authorization: Bearer KEY", "authorization: bearer KEY", "apikey: KEY", "X-API-Key: KEY"]
)
def test_where_a_key_may_be(surface: Surface, name: str) -> None:
    who = caller(surface.gateway, "pro")
    answer = send(who, message("POST", CHAT, name.replace("KEY", who.key), body=asked("")))
    assert answer.status == 200
    assert who.used() == [1]
