"""OpenAI's Python client, and with the argument `azure` its client for Azure."""

import json
import sys

from openai import AzureOpenAI, OpenAI

from serve import QUESTION, WEATHER, Forecast, Plan, Seen, serve

AZURE = sys.argv[1:] == ["azure"]


def client(plan: Plan) -> OpenAI:
    if AZURE:
        return AzureOpenAI(azure_endpoint=plan["root"], api_key=plan["key"], api_version="2024-10-21")
    return OpenAI(base_url=plan["base"], api_key=plan["key"])


def ask(plan: Plan, **more: object) -> object:
    return client(plan).chat.completions.create(
        model=plan["model"], messages=[{"role": "user", "content": QUESTION}], **more
    )


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
        message,
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    end = client(plan).chat.completions.create(model=plan["model"], messages=history, tools=[WEATHER])
    tool = {"name": call.function.name, "arguments": json.loads(call.function.arguments)}
    return {"tool": tool, "text": end.choices[0].message.content}


def structured(plan: Plan) -> Seen:
    answer = client(plan).chat.completions.parse(
        model=plan["model"], messages=[{"role": "user", "content": QUESTION}], response_format=Forecast
    )
    return {"object": answer.choices[0].message.parsed.model_dump()}


def embeddings(plan: Plan) -> Seen:
    answer = client(plan).embeddings.create(model=plan["model"], input=["a", "b"])
    return {"vector": answer.data[1].embedding}


def models(plan: Plan) -> Seen:
    return {"models": [model.id for model in client(plan).models.list()]}


def disconnect(plan: Plan) -> Seen:
    with ask(plan, stream=True) as chunks:
        for number, _ in enumerate(chunks, start=1):
            if number == 3:
                break
    return {"left": number}


serve(
    ["openai"],
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
