"""`aigw keys`: API keys of consumers, over the Admin API of a running gateway.

A key is shown once, alone on standard output; what else is to be said goes to standard error.
"""

import sys
from typing import Annotated, Any

from aigw.cli.admin_client import AdminApi, AdminOption, NotThere, segment
from aigw.cli.arguments import Parameter
from aigw.cli.output import Output, note, show_json, show_table
from aigw.errors import AigwError, ConfigError
from aigw.types import JsonDict


def create(
    consumer: Annotated[str, Parameter("username or id of the consumer")],
    /,
    *,
    key: Annotated[
        str | None,
        Parameter("the key; '-' reads it from standard input; left out: made"),
    ] = None,
    ttl: Annotated[int | None, Parameter("seconds that it is valid for, from 1; left out: for ever")] = None,
    tags: Annotated[list[str] | None, Parameter("labels")] = None,
    output: Output = "table",
    admin: AdminOption = None,
) -> int:
    """Make a key and print it, this once.

    The key is all that is printed on standard output; only its HMAC
    is kept.

    For example:

        KEY=$(aigw keys create alice)
        aigw keys create alice --ttl 86400 --tags trial --output json
    """
    if ttl is not None and ttl < 1:
        # To the Admin API 0 is for ever, as to Kong: whoever asks for a key that ends must not get one that does not.
        raise ConfigError(
            f"--ttl: '{ttl}' is not a number of seconds from 1: leave it out for a key that is valid for ever"
        )
    api = AdminApi(admin)
    given: JsonDict = {"key": _read_key() if key == "-" else key, "ttl": ttl, "tags": tags}
    try:
        made = api.post(f"/consumers/{segment(consumer)}/key-auth", {k: v for k, v in given.items() if v is not None})
    except NotThere:
        raise _no_consumer(consumer, api) from None
    if output == "json":
        show_json(made)
    else:
        ends = f", valid for {made['ttl']} s" if made.get("ttl") else ""
        sys.stdout.write(made["key"] + "\n")
        sys.stdout.flush()
        note(f"Key {made['id']} of {consumer}{ends}. It is not shown again.")
    return 0


def list_keys(
    consumer: Annotated[str | None, Parameter("username or id; left out: all consumers")] = None,
    /,
    *,
    output: Output = "table",
    admin: AdminOption = None,
) -> int:
    """List keys by their ids and last characters; the keys themselves are not kept.

    For example:

        aigw keys list alice
        aigw keys list --output json
    """
    api = AdminApi(admin)
    try:
        path = "/key-auths" if consumer is None else f"/consumers/{segment(consumer)}/key-auth"
        found = list(api.pages(path))
        names = _names(api, consumer) if found else {}
    except NotThere:
        raise _no_consumer(consumer or "", api) from None
    keys = [_shown(entity, names) for entity in found]
    if output == "json":
        show_json(keys)
    else:
        rows = [
            (k["id"], k["consumer"], k["key_hint"], _day(k["created_at"]), _ttl(k), ",".join(k["tags"])) for k in keys
        ]
        show_table(("ID", "CONSUMER", "KEY", "CREATED", "VALID", "TAGS"), rows)
    return 0


def revoke(
    key_id: Annotated[str, Parameter("id of a key, from aigw keys list")],
    /,
    *more: Annotated[str, Parameter("ids of more keys")],
    output: Output = "table",
    admin: AdminOption = None,
) -> int:
    """End keys: requests that arrive after this are refused.

    All that can be revoked are; exit code 1 when some could not.

    For example:

        aigw keys revoke 9b129b77-60cf-4a2e-9d5f-0e2f6f3a3a11
    """
    api = AdminApi(admin)
    revoked, failed = [], []
    for key in dict.fromkeys((key_id, *more)):
        try:
            found = api.get(f"/key-auths/{segment(key)}")  # a DELETE of nothing would succeed
            api.delete(f"/key-auths/{found['id']}")
            revoked.append(found["id"])
        except NotThere:
            failed.append({"id": key, "message": "no such key: see aigw keys list"})
        except AigwError as error:
            if not revoked and not failed and key == key_id and not more:
                raise
            failed.append({"id": key, "message": str(error)})
    if output == "json":
        show_json({"revoked": revoked, "failed": failed})
    else:
        for key in revoked:
            sys.stdout.write(f"revoked {key}\n")
    for failure in failed:
        note(f"aigw: {failure['id']}: {failure['message']}")
    return 1 if failed else 0


def _read_key() -> str:
    key = sys.stdin.readline().strip()
    if not key:
        raise ConfigError("--key -: standard input has no key")
    return key


def _no_consumer(consumer: str, api: AdminApi) -> AigwError:
    return NotThere(
        f"no consumer '{consumer}': declare it in the configuration file, or"
        f" curl -X POST http://{api.address}/consumers -d username={consumer}"
    )


def _names(api: AdminApi, consumer: str | None) -> dict[str, str]:
    """Username (or custom_id) by id: of one consumer, or of all."""
    found = api.pages("/consumers") if consumer is None else [api.get(f"/consumers/{segment(consumer)}")]
    return {entity["id"]: entity["username"] or entity["custom_id"] for entity in found}


def _shown(entity: JsonDict, names: dict[str, str]) -> JsonDict:
    owner = entity["consumer"]["id"]
    return {
        "id": entity["id"],
        "consumer": names.get(owner, owner),
        "key_hint": entity["key_hint"],
        "created_at": entity["created_at"],
        "ttl": entity.get("ttl"),
        "tags": entity["tags"] or [],
    }


def _day(seconds: int) -> str:
    from datetime import UTC, datetime  # noqa: PLC0415

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M") if seconds else ""


def _ttl(key: dict[str, Any]) -> str:
    return "for ever" if key["ttl"] is None else f"{key['ttl']} s"
