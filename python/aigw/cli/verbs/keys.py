"""`aigw keys`: API keys of consumers, over the Admin API of a running gateway.

A key is shown once, alone on standard output, so that `KEY=$(aigw keys create alice)` works; remarks go to standard error.
"""

import sys
from typing import Any

import click

from aigw.cli.admin_client import AdminApi, NotThere, segment
from aigw.cli.arguments import VerbGroup, admin_option, output_option
from aigw.cli.output import note, show_json, show_table
from aigw.errors import AigwError, ConfigError
from aigw.types import JsonDict

keys = VerbGroup("keys", help="Create, list, rotate and revoke the API keys of consumers.")

named_option = click.option("--consumer", "named", metavar="NAME", help="the consumer, given by name")


@keys.command()
@click.argument("consumer", required=False, help="username or id of the consumer")
@named_option
@click.option("--key", help="the key; - reads it from standard input; without it the gateway makes one")
@click.option(
    "--ttl", type=int, metavar="SECONDS", help="time until the key ends, from 1; without it the key never ends"
)
@click.option("--tags", multiple=True, metavar="TAG...", help="labels")
@output_option("table", "json")
@admin_option
@click.pass_context
def create(
    ctx: click.Context,
    consumer: str | None,
    named: str | None,
    key: str | None,
    ttl: int | None,
    tags: tuple[str, ...],
    output: str,
    admin: str | None,
) -> int:
    """Create a key and print it, this once.

    The key alone goes to standard output. The gateway keeps its HMAC, and
    cannot show the key again. The consumer may be of the Admin API or of
    the configuration file: the key holds at once, and stays through
    reloads and restarts until it ends, is revoked, or its consumer goes.

    Needs: a running gateway that has the consumer; AIGW_ADMIN_TOKEN where
    its Admin API has a token.

    For example:

        KEY=$(aigw keys create --consumer alice)
        aigw keys create alice --ttl 86400 --tags trial --output json

    Exit codes: 0; 1 when the consumer does not exist, the key is in use,
    or the Admin API does not answer or refuses; 2 for a wrong option.
    """
    consumer = _one(ctx, consumer, named)
    if consumer is None:
        raise click.UsageError("Missing argument 'CONSUMER': name the consumer that the key is for.", ctx)
    if ttl is not None and ttl < 1:
        # The Admin API, like Kong, makes a key without end for 0. A person who types --ttl 0 expects a key that ends.
        raise ConfigError(f"--ttl: '{ttl}' is not a number of seconds from 1: leave it out for a key that never ends")
    api = AdminApi(admin)
    given: JsonDict = {"key": _read_key() if key == "-" else key, "ttl": ttl, "tags": list(tags) or None}
    try:
        made = api.post(f"/consumers/{segment(consumer)}/key-auth", {k: v for k, v in given.items() if v is not None})
    except NotThere:
        raise _no_consumer(consumer, api) from None
    if output == "json":
        show_json(made)
    else:
        _show_once(made, consumer)
    return 0


@keys.command("list")
@click.argument("consumer", required=False, help="username or id; without it the keys of all consumers are listed")
@named_option
@output_option("table", "json")
@admin_option
@click.pass_context
def list_keys(ctx: click.Context, consumer: str | None, named: str | None, output: str, admin: str | None) -> int:
    """List keys by their ids and last characters.

    The gateway keeps no key, only its HMAC and its last four characters.

    Needs: a running gateway; AIGW_ADMIN_TOKEN where its Admin API has a
    token.

    For example:

        aigw keys list alice
        aigw keys list --output json

    Exit codes: 0, or 1 when the consumer does not exist or the Admin API
    does not answer or refuses.
    """
    consumer, api = _one(ctx, consumer, named), AdminApi(admin)
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


@keys.command()
@click.argument("key_id", help="id of the key, from aigw keys list")
@click.option(
    "--grace", type=click.IntRange(min=1), metavar="SECONDS", help="time that the old key still holds; without it none"
)
@output_option("table", "json")
@admin_option
def rotate(key_id: str, grace: int | None, output: str, admin: str | None) -> int:
    """Replace a key by a new one of the same consumer, and print that, this once.

    The new key has the labels and the remaining time of the old one,
    which is revoked at once, or holds for the time of --grace.

    Needs: a running gateway; AIGW_ADMIN_TOKEN where its Admin API has a
    token. A key that the configuration file declares is changed there.

    For example:

        KEY=$(aigw keys rotate 9b129b77-60cf-4a2e-9d5f-0e2f6f3a3a11 --grace 3600)

    Exit codes: 0, or 1 when the key does not exist, is of the file, or
    the Admin API does not answer or refuses.
    """
    api = AdminApi(admin)
    try:
        old = api.get(f"/key-auths/{segment(key_id)}")
    except NotThere:
        raise NotThere(f"no such key '{key_id}': see aigw keys list") from None
    path, owner = f"/key-auths/{old['id']}", old["consumer"]["id"]
    # Changes nothing, and fails for a key of the file: before there is a second key.
    api.patch(path, {"tags": old["tags"]})
    given = {name: old[name] for name in ("ttl", "tags") if old.get(name)}
    made = api.post(f"/consumers/{owner}/key-auth", given)
    if grace is None:
        api.delete(path)
    elif not old.get("ttl") or old["ttl"] > grace:
        api.patch(path, {"ttl": grace})
    if output == "json":
        show_json({**made, "replaces": old["id"]})
    else:
        _show_once(made, _names(api, owner).get(owner, owner))
        note(f"The key before ({old['id']}) " + (f"ends in {grace} s." if grace else "is revoked."))
    return 0


@keys.command()
@click.argument("key_id", nargs=-1, required=True, help="ids of keys, from aigw keys list")
@output_option("table", "json")
@admin_option
def revoke(key_id: tuple[str, ...], output: str, admin: str | None) -> int:
    """Revoke keys: the gateway refuses every later request with them.

    An id that fails does not stop the others.

    Needs: a running gateway; AIGW_ADMIN_TOKEN where its Admin API has a
    token.

    For example:

        aigw keys revoke 9b129b77-60cf-4a2e-9d5f-0e2f6f3a3a11

    Exit codes: 0, or 1 when a key could not be revoked or the Admin API
    does not answer or refuses.
    """
    api = AdminApi(admin)
    revoked, failed = [], []
    for key in dict.fromkeys(key_id):
        try:
            found = api.get(f"/key-auths/{segment(key)}")  # a DELETE of an unknown id succeeds
            api.delete(f"/key-auths/{found['id']}")
            revoked.append(found["id"])
        except NotThere:
            failed.append({"id": key, "message": "no such key: see aigw keys list"})
        except AigwError as error:
            if len(key_id) == 1:
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


def _one(ctx: click.Context, consumer: str | None, named: str | None) -> str | None:
    """The consumer, given in one of two ways."""
    if consumer is not None and named is not None:
        raise click.UsageError("Give the consumer once: CONSUMER, or --consumer NAME.", ctx)
    return named if consumer is None else consumer


def _show_once(made: JsonDict, consumer: str) -> None:
    """Print a new key alone on standard output."""
    ends = f", valid for {made['ttl']} s" if made.get("ttl") else ""
    sys.stdout.write(made["key"] + "\n")
    sys.stdout.flush()
    note(f"Key {made['id']} of {consumer}{ends}. It is not shown again.")


def _read_key() -> str:
    key = sys.stdin.readline().strip()
    if not key:
        raise ConfigError(
            '--key -: standard input has no key: send one line, for example with echo "$KEY" | aigw keys create ...'
        )
    return key


def _no_consumer(consumer: str, api: AdminApi) -> AigwError:
    return NotThere(
        f"no consumer '{consumer}': declare it in the configuration file, or create it:"
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
