"""`aigw mock-llm`: an OpenAI-like model server with known sizes, pace and faults, to try and to measure against."""

import signal
import sys
from collections.abc import Callable
from typing import Annotated, Literal

from aigw.cli.arguments import Parameter
from aigw.errors import AddressInUse, ConfigError


def mock_llm(
    *,
    port: Annotated[int, Parameter("on 127.0.0.1; 0 takes a free one")] = 9100,
    first_byte_ms: Annotated[int, Parameter("wait before the head of an answer")] = 0,
    chunk_ms: Annotated[int, Parameter("wait between two events of a stream")] = 0,
    chunks: Annotated[int, Parameter("output tokens of an answer; one event each in a stream")] = 16,
    cached_tokens: Annotated[int, Parameter("tokens of each prompt reported as read from a cache")] = 0,
    reasoning_tokens: Annotated[int, Parameter("output tokens that are thought and not said")] = 0,
    usage: Annotated[Literal["auto", "none"], Parameter("report usage (in streams: when asked), or never")] = "auto",
    fail: Annotated[str | None, Parameter("refuse|hang|reset|garbage|cut|STATUS[:ratio]")] = None,
) -> int:
    """Serve a model that is none: known sizes, pace and faults.

    It answers /v1/chat/completions, /v1/completions, /v1/embeddings and
    /v1/models as OpenAI does, and counters at /__stats.

    For example:

        aigw mock-llm --first-byte-ms 200 --chunk-ms 20 --chunks 64
        aigw mock-llm --fail reset:0.1
    """
    from aigw._native import serve_mock_llm  # noqa: PLC0415  (start-up of the other verbs)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    address = f"127.0.0.1:{port}"
    try:
        serve_mock_llm(
            address,
            announce("mock LLM"),
            first_byte_ms=first_byte_ms,
            chunk_ms=chunk_ms,
            chunks=chunks,
            cached_tokens=cached_tokens,
            reasoning_tokens=reasoning_tokens,
            usage=usage == "auto",
            fail=fail,
        )
    except (ValueError, OverflowError) as error:
        raise ConfigError(str(error)) from None
    except OSError as error:
        raise in_use(port, error) from None
    return 0


def announce(name: str) -> Callable[[int], None]:
    """A `ready` callback that prints where the server listens."""

    def ready(port: int) -> None:
        sys.stdout.write(f"{name} on http://127.0.0.1:{port}\n")
        sys.stdout.flush()

    return ready


def in_use(port: int, error: OSError) -> AddressInUse:
    """The error of a port that cannot be bound."""
    return AddressInUse(f"cannot listen on 127.0.0.1:{port}: {error.strerror or error}; choose another --port")
