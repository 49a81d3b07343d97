"""Upstreams for trials and measurements: the second extension. stubtest compares this stub with it."""

from collections.abc import Callable

def serve_mock_llm(
    address: str,
    ready: Callable[[int], object],
    *,
    first_byte_ms: int = 0,
    chunk_ms: int = 0,
    chunks: int = 16,
    cached_tokens: int = 0,
    audio_tokens: int = 0,
    reasoning_tokens: int = 0,
    usage: bool = True,
    fail: str | None = None,
) -> None:
    """Serve an OpenAI-like model server on ``address`` (``IP:PORT``, port 0 for any) until a signal handler raises.

    ``ready`` is called once with the bound port. ``fail`` is ``refuse|hang|reset|garbage|cut`` or a status,
    with an optional ``:ratio``.
    Counters of all requests are served at ``GET /__stats``. Call it on the main thread: it releases the GIL
    and runs Python's signal handlers ten times a second. Raises OSError (cannot bind) and ValueError (bad argument).
    """

def serve_echo(address: str, ready: Callable[[int], object]) -> None:
    """Answer each request with the request itself in httpbin's JSON form (get, post, headers, status, bytes, delay).

    ``address``, ``ready``, signals and errors are those of ``serve_mock_llm``.
    """
