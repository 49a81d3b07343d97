"""The mock LLM answers tools, response formats, several choices and base64 embeddings as a model server does."""

import base64
import json
import struct
from collections.abc import Callable, Iterator

import httpx2 as httpx
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.support.surface import Json, events, grown, stats

HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "How is the weather in Paris?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"enum": ["celsius", "kelvin"]},
                "days": {"type": "integer", "minimum": 2},
            },
            "required": ["city", "unit", "days"],
        },
    },
}
ARGUMENTS = {"city": "token", "unit": "celsius", "days": 2}

Post = Callable[..., httpx.Response]


@pytest.fixture
def post(mock_llm: str) -> Post:
    """`post(path, **body)` at the mock itself."""

    def ask(path: str, **body: object) -> httpx.Response:
        return httpx.post(f"{mock_llm}/v1/{path}", json={"model": "m", **body}, trust_env=False)

    return ask


@pytest.fixture
def api(mock_llm: str) -> Iterator[OpenAI]:
    with httpx.Client(trust_env=False) as http:
        yield OpenAI(api_key="none", base_url=mock_llm + "/v1", http_client=http)  # type: ignore[arg-type]


def test_mock_calls_a_tool_and_reads_its_result(api: OpenAI, mock_llm: str) -> None:
    before = stats(mock_llm)
    first = api.chat.completions.create(model="m", messages=HI, tools=[WEATHER])  # type: ignore[list-item]
    (choice,) = first.choices
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function" and call.function.name == "weather"
    assert json.loads(call.function.arguments) == ARGUMENTS
    result: ChatCompletionMessageParam = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    history = [*HI, choice.message.model_dump(exclude_none=True), result]
    second = api.chat.completions.create(model="m", messages=history, tools=[WEATHER])  # type: ignore[arg-type, list-item]
    assert second.choices[0].finish_reason == "stop" and str(second.choices[0].message.content).startswith("token")
    assert first.usage is not None and second.usage is not None
    assert (
        grown(before, mock_llm, "tokens", "completion_tokens")
        == [first.usage.completion_tokens + second.usage.completion_tokens] * 2
    )


def test_mock_streams_a_tool_call_in_pieces(post: Post) -> None:
    asked = {"messages": HI, "tools": [WEATHER], "stream": True, "stream_options": {"include_usage": True}}
    *chunks, usage, done = events(post("chat/completions", **asked).content)
    assert done == "[DONE]" and isinstance(usage, dict)
    choices = [chunk["choices"][0] for chunk in chunks if isinstance(chunk, dict)]
    calls = [call for choice in choices for call in choice["delta"].get("tool_calls", [])]
    assert calls[0]["function"]["name"] == "weather" and calls[0]["id"] == "call_mock_0"
    assert json.loads("".join(call["function"]["arguments"] for call in calls)) == ARGUMENTS
    assert choices[-1]["finish_reason"] == "tool_calls"
    assert usage["usage"]["completion_tokens"] == len(calls)


@pytest.mark.parametrize("stream", [False, True])
def test_mock_obeys_a_schema(post: Post, stream: bool) -> None:
    step = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    schema = {
        "$defs": {"Step": step},
        "type": "object",
        "properties": {"steps": {"type": "array", "items": {"$ref": "#/$defs/Step"}}, "done": {"type": "boolean"}},
        "required": ["steps", "done"],
    }
    form = {"type": "json_schema", "json_schema": {"name": "plan", "schema": schema, "strict": True}}
    answer = post("chat/completions", messages=HI, response_format=form, stream=stream)
    if stream:
        chunks = [chunk for chunk in events(answer.content) if isinstance(chunk, dict)]
        text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    else:
        text = answer.json()["choices"][0]["message"]["content"]
    assert json.loads(text) == {"steps": [{"text": "token"}], "done": True}


def test_mock_makes_a_json_object(post: Post) -> None:
    body = post("chat/completions", messages=HI, response_format={"type": "json_object"}).json()
    assert isinstance(json.loads(body["choices"][0]["message"]["content"]), dict)


def test_mock_cuts_a_call_at_the_cap(post: Post) -> None:
    body = post("chat/completions", messages=HI, tools=[WEATHER], max_tokens=2).json()
    assert body["choices"][0]["finish_reason"] == "length" and body["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_mock_makes_each_choice(post: Post, path: str) -> None:
    asked = {"messages": HI} if path.startswith("chat") else {"prompt": ["a", "b"]}
    wanted = 3 if path.startswith("chat") else 6
    body = post(path, n=3, max_tokens=2, **asked).json()
    assert [choice["index"] for choice in body["choices"]] == list(range(wanted))
    assert body["usage"]["completion_tokens"] == 2 * wanted
    streamed = post(path, n=3, max_tokens=2, stream=True, **asked)
    chunks = [chunk for chunk in events(streamed.content) if isinstance(chunk, dict)]
    assert {chunk["choices"][0]["index"] for chunk in chunks} == set(range(wanted))


def test_mock_encodes_embeddings(post: Post, api: OpenAI) -> None:
    numbers = post("embeddings", input="a", encoding_format="float").json()["data"][0]["embedding"]
    text = post("embeddings", input="a", encoding_format="base64").json()["data"][0]["embedding"]
    assert list(struct.unpack("<4f", base64.b64decode(text))) == numbers == [0.5, -0.5, 0.5, -0.5]
    assert api.embeddings.create(model="m", input=["a", "b"]).data[1].embedding == numbers  # the client asks for base64
    assert len(post("embeddings", input="a", dimensions=256).json()["data"][0]["embedding"]) == 256


WRONG: dict[str, tuple[str, Json, str | None]] = {
    "no choice": ("chat/completions", {"messages": HI, "n": 0}, "n"),
    "a choice of tools without tools": ("chat/completions", {"messages": HI, "tool_choice": "required"}, "tool_choice"),
    "a format that no server has": ("chat/completions", {"response_format": {"type": "xml"}}, "response_format"),
    "an encoding that no server has": ("embeddings", {"input": "a", "encoding_format": "int8"}, None),
}


@pytest.mark.parametrize("name", WRONG)
def test_mock_refuses_a_wrong_body(post: Post, name: str) -> None:
    path, body, param = WRONG[name]
    answer = post(path, **body)
    error = answer.json()["error"]
    assert answer.status_code == 400 and (error["type"], error["param"]) == ("invalid_request_error", param)


def test_mock_serves_any_base_path(mock_llm: str) -> None:
    body = {"model": "m", "messages": HI}
    url = f"{mock_llm}/openai/deployments/m/chat/completions?api-version=1"
    assert httpx.post(url, json=body, trust_env=False).json()["object"] == "chat.completion"


def test_mock_refuses_a_body_that_is_not_json(mock_llm: str) -> None:
    answer = httpx.post(mock_llm + "/v1/chat/completions", content=b"{", trust_env=False)
    assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_request_error"
