"""pydantic-ai: an agent on OpenAI's chat API, and its embedder."""

import asyncio
from typing import Literal

from pydantic_ai import Agent, Embedder, NativeOutput
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from serve import QUESTION, Forecast, Plan, Seen, serve


def provider(plan: Plan) -> OpenAIProvider:
    return OpenAIProvider(base_url=plan["base"], api_key=plan["key"])


def agent(plan: Plan, **more: object) -> Agent:
    return Agent(OpenAIChatModel(plan["model"], provider=provider(plan)), **more)


async def plain(plan: Plan) -> Seen:
    result = await agent(plan).run(QUESTION)
    usage = result.usage() if callable(result.usage) else result.usage
    return {"text": result.output, "usage": [usage.input_tokens, usage.output_tokens]}


async def stream(plan: Plan) -> Seen:
    async with agent(plan).run_stream(QUESTION) as result:
        pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
        usage = result.usage() if callable(result.usage) else result.usage
    return {"text": "".join(pieces), "usage": [usage.input_tokens, usage.output_tokens], "pieces": len(pieces)}


async def tools(plan: Plan) -> Seen:
    called: list[Seen] = []

    def weather(city: str, unit: Literal["celsius", "kelvin"]) -> str:
        """The weather of a city."""
        called.append({"name": "weather", "arguments": {"city": city, "unit": unit}})
        return "sunny"

    result = await agent(plan, tools=[weather]).run(QUESTION)
    (tool,) = called
    return {"tool": tool, "text": result.output}


async def structured(plan: Plan) -> Seen:
    by_tool = (await agent(plan, output_type=Forecast).run(QUESTION)).output.model_dump()
    by_format = (await agent(plan, output_type=NativeOutput(Forecast)).run(QUESTION)).output.model_dump()
    assert by_tool == by_format, (by_tool, by_format)
    return {"object": by_format}


async def embeddings(plan: Plan) -> Seen:
    embedder = Embedder(OpenAIEmbeddingModel(plan["model"], provider=provider(plan)))
    result = await embedder.embed_documents(["a", "b"])
    return {"vector": list(result.embeddings[1])}


async def disconnect(plan: Plan) -> Seen:
    number = 0
    async with agent(plan).run_stream(QUESTION) as result:
        async for _ in result.stream_text(delta=True, debounce_by=None):
            number += 1
            if number == 3:
                await result.cancel() if hasattr(result, "cancel") else None
                break
    return {"left": number}


LOOP = asyncio.new_event_loop()
CASES = {
    "plain": plain,
    "stream": stream,
    "tools": tools,
    "structured output": structured,
    "embeddings": embeddings,
    "disconnect": disconnect,
}
serve(
    ["pydantic-ai-slim", "openai"],
    {name: (lambda plan, case=case: LOOP.run_until_complete(case(plan))) for name, case in CASES.items()},
)
