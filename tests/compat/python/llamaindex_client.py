"""LlamaIndex's LLM and embeddings for OpenAI-compatible servers."""

import gc
from typing import Literal

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike

from serve import QUESTION, Forecast, Plan, Seen, serve

HI = [ChatMessage(role="user", content=QUESTION)]


def client(plan: Plan, **more: object) -> OpenAILike:
    options = {"is_chat_model": True, "is_function_calling_model": True, "context_window": 8192, **more}
    return OpenAILike(model=plan["model"], api_base=plan["base"], api_key=plan["key"], **options)


def usage(raw: object) -> list[int]:
    return [raw.usage.prompt_tokens, raw.usage.completion_tokens]


def plain(plan: Plan) -> Seen:
    answer = client(plan).chat(HI)
    return {"text": answer.message.content, "usage": usage(answer.raw)}


def stream(plan: Plan) -> Seen:
    asked = client(plan, additional_kwargs={"stream_options": {"include_usage": True}})
    pieces = list(asked.stream_chat(HI))
    return {
        "text": "".join(piece.delta or "" for piece in pieces),
        "usage": usage(pieces[-1].raw),
        "pieces": len(pieces),
    }


def tools(plan: Plan) -> Seen:
    def weather(city: str, unit: Literal["celsius", "kelvin"]) -> str:
        """The weather of a city."""
        return "sunny"

    llm = client(plan)
    tool = FunctionTool.from_defaults(weather)
    answer = llm.chat_with_tools([tool], user_msg=QUESTION)
    (call,) = llm.get_tool_calls_from_response(answer)
    result = ChatMessage(role="tool", content="sunny", additional_kwargs={"tool_call_id": call.tool_id})
    end = llm.chat_with_tools([tool], chat_history=[*HI, answer.message, result])
    return {"tool": {"name": call.tool_name, "arguments": call.tool_kwargs}, "text": end.message.content}


def structured(plan: Plan) -> Seen:
    return {"object": client(plan).as_structured_llm(Forecast).chat(HI).raw.model_dump()}


def exhausted(plan: Plan) -> Seen:
    # Its own retries do not read x-should-retry: they wait two minutes each. Without them the openai package's one call is left.
    asked = client(plan, max_retries=0)
    asked.chat(HI)
    return {"text": asked.chat(HI).message.content}


def embeddings(plan: Plan) -> Seen:
    embedder = OpenAILikeEmbedding(model_name=plan["model"], api_base=plan["base"], api_key=plan["key"])
    return {"vector": embedder.get_text_embedding_batch(["a", "b"])[1]}


def disconnect(plan: Plan) -> Seen:
    chunks = client(plan).stream_chat(HI)
    for number, _ in enumerate(chunks, start=1):
        if number == 3:
            break
    chunks.close()
    del chunks
    gc.collect()  # its wrappers do not pass the close on: the connection ends with the last reference
    return {"left": number}


serve(
    ["llama-index-core", "llama-index-llms-openai-like", "openai"],
    {
        "plain": plain,
        "stream": stream,
        "tools": tools,
        "structured output": structured,
        "429 quota": exhausted,
        "embeddings": embeddings,
        "disconnect": disconnect,
    },
)
