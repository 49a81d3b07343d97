"""LiteLLM's SDK with its provider for OpenAI-compatible servers."""

import json

import litellm

from serve import QUESTION, WEATHER, Forecast, Plan, Seen, serve

litellm.suppress_debug_info = True


def place(plan: Plan) -> dict[str, str]:
    return {"model": "openai/" + plan["model"], "api_base": plan["base"], "api_key": plan["key"]}


def ask(plan: Plan, **more: object) -> object:
    return litellm.completion(**place(plan), **{"messages": [{"role": "user", "content": QUESTION}], **more})


def plain(plan: Plan) -> Seen:
    answer = ask(plan)
    usage = [answer.usage.prompt_tokens, answer.usage.completion_tokens]
    return {"text": answer.choices[0].message.content, "usage": usage}


def stream(plan: Plan) -> Seen:
    chunks = list(ask(plan, stream=True, stream_options={"include_usage": True}))
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    usage = chunks[-1].usage
    return {"text": text, "usage": [usage.prompt_tokens, usage.completion_tokens], "pieces": len(chunks)}


def tools(plan: Plan) -> Seen:
    message = ask(plan, tools=[WEATHER]).choices[0].message
    (call,) = message.tool_calls
    history = [
        {"role": "user", "content": QUESTION},
        message.model_dump(),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    end = ask(plan, messages=history, tools=[WEATHER])
    tool = {"name": call.function.name, "arguments": json.loads(call.function.arguments)}
    return {"tool": tool, "text": end.choices[0].message.content}


def structured(plan: Plan) -> Seen:
    answer = ask(plan, response_format=Forecast)
    return {"object": Forecast.model_validate_json(answer.choices[0].message.content).model_dump()}


def embeddings(plan: Plan) -> Seen:
    answer = litellm.embedding(**place(plan), input=["a", "b"], encoding_format="float")
    return {"vector": answer.data[1]["embedding"]}


def models(plan: Plan) -> Seen:
    found = litellm.get_valid_models(
        check_provider_endpoint=True, custom_llm_provider="openai", api_key=plan["key"], api_base=plan["root"]
    )
    return {"models": [name.removeprefix("openai/") for name in found]}


def disconnect(plan: Plan) -> Seen:
    chunks = ask(plan, stream=True)
    for number, _ in enumerate(chunks, start=1):
        if number == 3:
            break
    chunks.completion_stream.close()
    return {"left": number}


serve(
    ["litellm", "openai"],
    {
        "plain": plain,
        "stream": stream,
        "tools": tools,
        "structured output": structured,
        "embeddings": embeddings,
        "models": models,
        "disconnect": disconnect,
    },
)
