"""`aigw top`: rates of a running gateway, one frame a second from /metrics and /status.

In: an Admin API. Out: a live view on a terminal until q or Ctrl-C; one frame without a terminal. `rates` computes the
numbers, this module shows them. While the gateway does not answer, the view shows the error and waits.
"""

import contextlib
import select
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from aigw.cli.admin_client import AdminApi
from aigw.cli.arguments import Verb, admin_option, output_option
from aigw.cli.output import dollars, show_json
from aigw.cli.rates import Frame, Percentiles, Refusals, Sample, frame
from aigw.errors import UpstreamError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

ROWS = 8
"""Maximum number of rows in a table."""


@click.command(cls=Verb)
@click.option("--once", is_flag=True, help="print one frame and end")
@click.option("--every", type=click.FloatRange(0.1, 3600), default=1.0, help="seconds between two frames")
@output_option("table", "json")
@admin_option
def top(once: bool, every: float, output: str, admin: str | None) -> int:
    """Show traffic, refusals, tokens and latencies of a running gateway, live.

    By tier: calls in flight, the tokens and the money that they hold
    reserved, tokens per second and spend per hour. Rates are averages
    between two frames. q or Ctrl-C ends it. As JSON,
    or without a terminal, it prints one frame and ends, as with --once.

    Needs: a running gateway; AIGW_ADMIN_TOKEN where its Admin API has a
    token.

    For example:

        aigw top
        aigw top --once --output json

    Exit codes: 0, or 1 when the Admin API does not answer or refuses.
    """
    api = AdminApi(admin)
    if once or output == "json" or not (sys.stdout.isatty() and sys.stdin.isatty()):
        return _once(api, every, output)
    return _live(api, every)


def sample(api: AdminApi) -> Sample:
    """Read /metrics and /status."""
    return Sample(time.monotonic(), api.text("/metrics"), api.get("/status"))


def _once(api: AdminApi, every: float, output: str) -> int:
    first = sample(api)
    time.sleep(every)
    now = frame(first, sample(api))
    if output == "json":
        show_json(asdict(now))
        return 0
    from rich.console import Console  # noqa: PLC0415

    Console().print(view(now, str(api.address)))
    return 0


def _live(api: AdminApi, every: float) -> int:
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    before = sample(api)
    waiting = Text(f"aigw top: {api.address}: first frame in {every:g} s; q ends")
    with _keys() as quit_within, Live(waiting, console=Console(), screen=True, auto_refresh=False) as live:
        live.refresh()
        while not quit_within(every):
            try:
                now = sample(api)
            except UpstreamError as error:
                live.update(Text(f"{error}", style="red"), refresh=True)
                continue
            live.update(view(frame(before, now), str(api.address), "q ends"), refresh=True)
            before = now
    return 0


@contextlib.contextmanager
def _keys() -> Iterator[Any]:
    """A function that waits and returns whether q or Ctrl-C came. The terminal delivers each key at once until the end."""
    import termios  # noqa: PLC0415
    import tty  # noqa: PLC0415

    def quit_within(seconds: float) -> bool:
        end = time.monotonic() + seconds
        try:
            while (left := end - time.monotonic()) > 0:
                if select.select([sys.stdin], [], [], left)[0] and sys.stdin.read(1) in ("q", "Q", ""):
                    return True
        except KeyboardInterrupt:
            return True
        return False

    saved = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield quit_within
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, saved)


def view(now: Frame, address: str, hint: str = "") -> "RenderableType":
    """A frame as tables."""
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    ready = sum(worker["state"] == "ready" for worker in now.workers)
    error = now.configuration.get("error")
    head = Text.assemble(
        ("aigw top", "bold"),
        f"  {address}  workers {ready}/{len(now.workers)}  configuration {now.configuration['generation']}",
        (f" ({error['message']})", "red") if error else "",
        (f"  {hint}", "dim") if hint else "",
    )
    answers = "  ".join(f"{kind} {rate:g}/s" for kind, rate in now.answers_per_s.items())
    numbers = Text.assemble(
        ("requests ", "dim"),
        (f"{now.requests_per_s:g}/s", "bold"),
        ("   refused ", "dim"),
        (f"{now.refused_per_s:g}/s", "bold red" if now.refused_per_s else "bold"),
        ("   tokens ", "dim"),
        (f"{now.tokens_per_s:g}/s", "bold"),
        ("   p50 ", "dim"),
        _ms(now.latency)[0],
        ("   p95 ", "dim"),
        _ms(now.latency)[1],
        ("   in flight ", "dim"),
        str(now.in_flight),
        ("   total ", "dim"),
        f"{now.requests:,}",
    )
    parts: list[RenderableType] = [
        head,
        numbers,
        Text(answers, "dim"),
        _tiers(now),
        _tokens(now),
        _refused(now.refusals, "REFUSED BY"),
    ]
    if now.faults:
        parts.append(_refused(now.faults, "FAILED BY"))
    return Group(*parts)


def _tiers(now: Frame) -> "Table":
    table = _table("TIER", "IN FLIGHT", "RESERVED TOKENS", "RESERVED USD", "TOKENS/S", "USD/H", left=1)
    for row in now.tiers[:ROWS]:
        held = (f"{row.in_flight:,}", f"{row.reserved_tokens:,}", dollars(row.reserved_spend_nanodollars))
        table.add_row(row.tier, *held, f"{row.tokens_per_s:g}", f"{row.spend_per_h:,.6g}")
    return _more(table, len(now.tiers))


def _tokens(now: Frame) -> "Table":
    table = _table("TIER", "MODEL", "CALLS/S", "IN/S", "OUT/S", "P50", "P95", "TOKENS", left=2)
    for row in now.tokens[:ROWS]:
        rates = (f"{rate:g}" for rate in (row.calls_per_s, row.input_per_s, row.output_per_s))
        table.add_row(row.tier, row.model, *rates, *_ms(row.latency), f"{row.total:,}")
    return _more(table, len(now.tokens))


def _refused(rows: list[Refusals], name: str) -> "Table":
    table = _table(name, "/S", "TOTAL", left=1)
    for row in rows[:ROWS]:
        table.add_row(row.reason, f"{row.per_s:g}", f"{row.total:,}")
    return _more(table, len(rows))


def _table(*names: str, left: int) -> "Table":
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold", title=" ")
    for index, name in enumerate(names):
        table.add_column(name, justify="left" if index < left else "right", no_wrap=True)
    return table


def _more(table: "Table", rows: int) -> "Table":
    if rows == 0:
        table.add_row("-")
    elif rows > ROWS:
        table.add_row(f"{rows - ROWS} more")
    return table


def _ms(latency: Percentiles) -> tuple[str, str]:
    p50, p95 = (("-" if value is None else f"{value:g} ms") for value in (latency.p50_ms, latency.p95_ms))
    return p50, p95
