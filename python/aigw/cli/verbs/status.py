"""`aigw status`: the state of a running gateway."""

import sys
from datetime import UTC, datetime

import click

from aigw.cli.admin_client import AdminApi
from aigw.cli.arguments import Verb, admin_option, output_option
from aigw.cli.output import show_json
from aigw.types import JsonDict


@click.command(cls=Verb)
@output_option("table", "json", default="json")
@admin_option
def status(output: str, admin: str | None) -> int:
    """Show the state of a running gateway.

    The JSON is the answer of GET /status: configuration in force, error
    of the last reload, workers, connections, store.

    Needs: a running gateway; AIGW_ADMIN_TOKEN where its Admin API has a
    token.

    For example:

        aigw status
        aigw status --output table --admin 127.0.0.1:8001

    Exit codes: 0, or 1 when the Admin API does not answer or refuses.
    """
    state = AdminApi(admin).get("/status")
    if output == "json":
        show_json(state)
    else:
        sys.stdout.write("".join(f"{name:<14} {text}\n" for name, text in _lines(state)))
    return 0


def _lines(state: JsonDict) -> list[tuple[str, str]]:
    now = state["configuration"]
    ready = sum(worker["state"] == "ready" for worker in state["workers"])
    loaded = (
        datetime.fromtimestamp(now["loaded_at"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if now["loaded_at"] else "-"
    )
    lines = [
        ("configuration", f"generation {now['generation']} from {now['source']}, loaded {loaded}"),
        ("hash", str(now["hash"])),
        ("workers", f"{ready} of {len(state['workers'])} ready"),
        ("in flight", str(state["server"]["connections_writing"])),
        ("requests", str(state["server"]["total_requests"])),
        ("store", "reachable" if state["database"]["reachable"] else "NOT reachable"),
    ]
    if notice := now.get("notice"):  # an older gateway has none
        lines.append(("notice", str(notice)))
    for outage in state["upstreams"]["down"]:
        since = datetime.fromtimestamp(outage["since"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        lines.append(("upstream down", f"{outage['upstream']} since {since}: {outage['reason']}"))
    if error := now["error"]:
        position = ":".join(str(error[part]) for part in ("file", "line", "col") if error.get(part) is not None)
        lines.append(("error", f"{position}: {error['message']}" if position else str(error["message"])))
    return lines
