"""A chat of LangChain through the gateway: nothing of it knows that there is one."""

from langchain_openai import ChatOpenAI

from tests.support.failing import Surface
from tests.support.surface import caller, grown, stats

WORDS = " ".join(["token"] * 16)


def test_a_chat_is_invoked_and_streamed(surface: Surface) -> None:
    who = caller(surface.gateway, "free")
    before = stats(surface.llm)
    chat = ChatOpenAI(
        model="small-chat", api_key=who.key, base_url=surface.gateway.proxy + "/v1", http_socket_options=()
    )
    answer = chat.invoke("hi")
    assert answer.content == WORDS
    assert answer.usage_metadata is not None and answer.usage_metadata["output_tokens"] == 16
    pieces = list(chat.stream("hi"))
    assert "".join(str(piece.content) for piece in pieces).strip() == WORDS
    assert grown(before, surface.llm, "requests", "streams", "completed") == [2, 1, 2]
    assert who.used() == [2]
