"""`aigw tokens`: the tokens of a text or of a request, as the gateway counts them for a model."""

import sys
from pathlib import Path
from typing import Final

import click

from aigw.cli.admin_client import AdminApi, NotThere, segment
from aigw.cli.arguments import FILE, Verb, admin_option, output_option
from aigw.cli.output import show_json
from aigw.errors import ConfigError
from aigw.types import JsonDict

KINDS: Final = {"messages": "chat", "prompt": "completion", "input": "embedding"}
"""The member that makes a JSON object a request -> the request."""


@click.command(cls=Verb)
@click.argument("file", type=FILE, help="text, or a request as JSON; - is standard input")
@click.option("--model", required=True, help="model whose tokenizer counts")
@click.option("--config", type=FILE, metavar="FILE", help="configuration file that has the model; no gateway is asked")
@output_option("table", "json")
@admin_option
def tokens(file: Path, model: str, config: Path | None, output: str, admin: str | None) -> int:
    """Count the tokens of a text or of a request, as the gateway does for a model.

    A JSON object with messages, prompt or input is a request: its count
    is the input that a call of it reserves, with the chat template's
    tokens and the bounds of images, audio and files. Any other file is
    text. The bound comes from the bytes alone: where a budget has room for it,
    the gateway does not count.

    Needs: a running gateway with the model, and AIGW_ADMIN_TOKEN where its
    Admin API has a token; or the configuration file. The count is made
    here: no model is called, and no limit is used.

    For example:

        aigw tokens --model small-chat prompt.txt
        aigw tokens --model small-chat request.json --config tiers.yaml
        echo "Hello" | aigw tokens --model small-chat - --output json

    Exit codes: 0; 1 when the gateway has no such model, or its Admin API
    does not answer or refuses; 2 for a wrong option, a file that cannot
    be read, or a configuration file without the model.
    """
    from aigw._native import count_tokens  # noqa: PLC0415  (start-up)

    spec, vocabulary = _asked(model, admin) if config is None else _configured(model, config)
    data = _read(file)
    kind, tokenizer = _kind(data), spec["tokenizer"] or "o200k_base"
    template, most = spec["template"], spec["input_bounds"]
    added = (template["per_message"], template["per_request"])
    exact, bound = count_tokens(
        vocabulary or tokenizer, kind, data, added, (most["image"], most["audio"], most["file"])
    )
    named = tokenizer["file"] if isinstance(tokenizer, dict) else tokenizer
    found: JsonDict = {"model": model, "tokenizer": named, "kind": kind, "tokens": exact, "bound": bound}
    if output == "json":
        show_json(found)
    else:
        sys.stdout.write("".join(f"{name:<9} {value}\n" for name, value in found.items()))
    return 0


def _read(file: Path) -> bytes:
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        data.decode()
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: byte {error.start} is not UTF-8: models read text") from None
    return data


def _kind(data: bytes) -> str:
    """`text`, or the endpoint that would take the request."""
    import orjson  # noqa: PLC0415  (start-up)

    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        return "text"
    if not isinstance(body, dict):
        return "text"
    return next((kind for name, kind in KINDS.items() if name in body), "text")


def _asked(model: str, admin: str | None) -> tuple[JsonDict, bytes | None]:
    """The model's spec, and its tokenizer.json if it has one."""
    api, path = AdminApi(admin), f"/models/{segment(model)}"
    try:
        found: JsonDict = api.get(path)
    except NotThere:
        raise NotThere(f"no model '{model}': GET /models of the Admin API lists them") from None
    return found, api.text(f"{path}/tokenizer").encode() if isinstance(found["tokenizer"], dict) else None


def _configured(model: str, config: Path) -> tuple[JsonDict, bytes | None]:
    from aigw.config import read  # noqa: PLC0415  (start-up of the other way)

    file = read(config)
    models, tokenizer = file.models, file.tokenizers.get(model)
    if model not in models:
        raise ConfigError(f"{config} has no model '{model}': it has {', '.join(sorted(models)) or 'no models'}")
    return models[model].model_dump(), tokenizer.content if tokenizer is not None else None
