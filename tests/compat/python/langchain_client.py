"""LangChain's chat model and embeddings for OpenAI's API."""

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from serve import QUESTION, WEATHER, Forecast, Plan, Seen, serve


def client(plan: Plan) -> ChatOpenAI:
    return ChatOpenAI(model=plan["model"], base_url=plan["base"], api_key=plan["key"], stream_usage=True)


def plain(plan: Plan) -> Seen:
    answer = client(plan).invoke(QUESTION)
    usage = answer.usage_metadata
    return {"text": answer.content, "usage": [usage["input_tokens"], usage["output_tokens"]]}


def stream(plan: Plan) -> Seen:
    pieces = list(client(plan).stream(QUESTION))
    whole = sum(pieces[1:], pieces[0])
    usage = whole.usage_metadata
    return {"text": whole.content, "usage": [usage["input_tokens"], usage["output_tokens"]], "pieces": len(pieces)}


def tools(plan: Plan) -> Seen:
    bound = client(plan).bind_tools([WEATHER])
    message = bound.invoke(QUESTION)
    (call,) = message.tool_calls
    end = bound.invoke([HumanMessage(QUESTION), message, ToolMessage("sunny", tool_call_id=call["id"])])
    return {"tool": {"name": call["name"], "arguments": call["args"]}, "text": end.content}


def structured(plan: Plan) -> Seen:
    return {"object": client(plan).with_structured_output(Forecast).invoke(QUESTION).model_dump()}


def embeddings(plan: Plan) -> Seen:
    # The check of lengths would download a vocabulary.
    embedder = OpenAIEmbeddings(
        model=plan["model"], base_url=plan["base"], api_key=plan["key"], check_embedding_ctx_length=False
    )
    return {"vector": embedder.embed_documents(["a", "b"])[1]}


def disconnect(plan: Plan) -> Seen:
    chunks = client(plan).stream(QUESTION)
    for number, _ in enumerate(chunks, start=1):
        if number == 3:
            break
    chunks.close()
    return {"left": number}


serve(
    ["langchain-openai", "openai"],
    {
        "plain": plain,
        "stream": stream,
        "tools": tools,
        "structured output": structured,
        "embeddings": embeddings,
        "disconnect": disconnect,
    },
)
