"""`aigw mock-llm`: a fake model server in OpenAI's format with chosen sizes, delays and faults, for trials and benchmarks."""

import signal
import sys
from collections.abc import Callable
from typing import Final

import click

from aigw.cli.arguments import Verb
from aigw.errors import AddressInUse, AigwError, ConfigError

NUMBER: Final = click.IntRange(min=0)


@click.command("mock-llm", cls=Verb)
@click.option("--port", type=int, default=9100, help="port on 127.0.0.1; 0 takes a free one")
@click.option("--first-byte-ms", type=NUMBER, default=0, help="delay before the head of an answer")
@click.option("--chunk-ms", type=NUMBER, default=0, help="delay between two events of a stream")
@click.option("--chunks", type=NUMBER, default=16, help="output tokens of an answer; a stream sends each in one event")
@click.option("--cached-tokens", type=NUMBER, default=0, help="tokens of each prompt that the usage reports as cached")
@click.option("--audio-tokens", type=NUMBER, default=0, help="tokens of each prompt that the usage reports as audio")
@click.option("--reasoning-tokens", type=NUMBER, default=0, help="output tokens that the usage reports as reasoning")
@click.option("--usage", type=click.Choice(["auto", "none"]), default="auto", help="report usage, or never")
@click.option("--fail", metavar="FAULT[:RATIO]", help="refuse, hang, reset, garbage, cut, or an HTTP status")
def mock_llm(
    port: int,
    first_byte_ms: int,
    chunk_ms: int,
    chunks: int,
    cached_tokens: int,
    audio_tokens: int,
    reasoning_tokens: int,
    usage: str,
    fail: str | None,
) -> int:
    """Run a fake model server (mock LLM) with chosen sizes, delays and faults.

    It answers /v1/chat/completions, /v1/completions, /v1/embeddings and
    /v1/models in OpenAI's format, under any base path, and its counters at
    /__stats. With tools an answer is a call whose arguments obey their schema,
    after a tool's result it is text; with response_format it is JSON that
    obeys the schema; n and encoding_format: base64 work. An answer names the
    service_tier that the request asks for.

    Needs: a free port on 127.0.0.1.

    For example:

        aigw mock-llm --first-byte-ms 200 --chunk-ms 20 --chunks 64
        aigw mock-llm --fail reset:0.1

    Exit codes: 0 after SIGTERM, 2 for a wrong option or a port in use.
    """
    try:
        from aigw._mock import serve_mock_llm  # noqa: PLC0415  (start-up of the other verbs)
    except ModuleNotFoundError:
        raise not_built() from None

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
            audio_tokens=audio_tokens,
            reasoning_tokens=reasoning_tokens,
            usage=usage == "auto",
            fail=fail,
        )
    except (ValueError, OverflowError) as error:
        raise ConfigError(str(error)) from None
    except OSError as error:
        raise in_use(port, error) from None
    return 0


def not_built() -> AigwError:
    """The error of an installation without the module `aigw._mock`."""
    return AigwError("aigw._mock is missing: this wheel was built without src/mock/build-module; make build runs both")


def announce(name: str) -> Callable[[int], None]:
    """A `ready` callback that prints where the server listens."""

    def ready(port: int) -> None:
        sys.stdout.write(f"{name} on http://127.0.0.1:{port}\n")
        sys.stdout.flush()

    return ready


def in_use(port: int, error: OSError) -> AddressInUse:
    """The error of a port that cannot be bound."""
    return AddressInUse(
        f"cannot listen on 127.0.0.1:{port}: {error.strerror or error}; choose another port with --port"
    )
