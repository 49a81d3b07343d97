"""A program that polls `/usage/events` gets each event once, in order, while calls go on and processes die."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx

from tests.support.processes import Gateway, wait_until
from tests.support.surface import Json, caller, chat

CALLS = 240


def test_poller_gets_each_event_once_and_in_order_while_events_arrive(books: Gateway) -> None:
    callers = [caller(books, "paying") for _ in range(4)]
    done = threading.Event()
    polled: list[Json] = []
    pages = 0

    def poll() -> None:
        nonlocal pages
        offset = ""
        while True:
            last = done.is_set()
            try:
                query = {"size": "7", **({"offset": offset} if offset else {})}
                answer = httpx.get(f"{books.admin}/usage/events", params=query, trust_env=False)
            except httpx.TransportError:
                continue  # the control process was killed
            if answer.status_code != 200:
                continue
            page = answer.json()
            polled.extend(page["data"])
            offset, pages = page["offset"], pages + 1
            if last and not page["data"]:
                return

    with ThreadPoolExecutor(9) as pool:
        polling = pool.submit(poll)
        statuses = pool.map(lambda n: callers[n % 4].post(chat(stream=n % 3 == 0)).status_code, range(CALLS))
        killed = False
        for n, status in enumerate(statuses):
            assert status == 200
            if n > CALLS // 2 and not killed:
                os.kill(books.children()["control"], signal.SIGKILL)
                killed = True
        books.wait_event("ready", child="control")

        def total() -> int:
            try:
                answer = httpx.get(f"{books.admin}/usage", trust_env=False)
            except httpx.TransportError:
                return 0
            return int(answer.json()["data"][0]["requests"])

        wait_until(lambda: total() >= CALLS, "all calls are in the ledger")
        done.set()
        polling.result()
    whole: list[Json] = []
    query: dict[str, str] = {"size": "1000"}
    while True:
        page = httpx.get(f"{books.admin}/usage/events", params=query, trust_env=False).json()
        whole += page["data"]
        if not page["next"]:
            break
        query["offset"] = page["offset"]
    mine = {one.name for one in callers}
    assert polled == whole and pages > 10
    assert len({event["id"] for event in polled}) == len(polled)
    assert sum(event["consumer"] in mine for event in polled) == CALLS
    assert len({event["request_id"] for event in polled if event["consumer"] in mine}) == CALLS
