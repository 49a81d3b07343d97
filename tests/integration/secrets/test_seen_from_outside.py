"""Metrics, log and error output of a gateway: the metrics count the requests that were sent, and no output contains a key."""

import asyncio
import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx

from tests.support.ends import ask
from tests.support.load import hammer, request
from tests.support.processes import Gateway

New = Callable[..., Gateway]


def requests_total(page: str) -> Counter[tuple[str, str, str]]:
    """(route, code, source) of `kong_http_requests_total`."""
    found: Counter[tuple[str, str, str]] = Counter()
    for line in page.splitlines():
        if line.startswith("kong_http_requests_total{"):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
            found[labels["route"], labels["code"], labels["source"]] += int(float(line.rsplit(" ", 1)[1]))
    return found


def test_metrics_say_what_was_sent_and_no_key_is_anywhere(new_gateway: New, echo: str, tmp_path: Path) -> None:
    log = tmp_path / "access.jsonl"
    gateway = new_gateway("--access-log", str(log), workers=2)
    gateway.route(echo, "/ai", "ai")
    gateway.make("/services/ai/plugins", name="key-auth")
    gateway.make("/services/ai/plugins", name="rate-limiting", config={"year": 3, "policy": "local"})
    planted = [os.urandom(16).hex() for _ in range(50)]
    for n, key in enumerate(planted):
        gateway.make("/consumers", username=f"user-{n}")
        gateway.make(f"/consumers/user-{n}/key-auth", key=key)
    wrong = [os.urandom(16).hex() for _ in range(5)]

    # 50 keys x 4 calls, the fourth refused; 5 unknown keys, in a header and in the query; 7 without; 9 to no route.
    calls = [request("/ai/get", key) for key in planted * 4]
    calls += [request("/ai/get", key) for key in wrong] + [request(f"/ai/get?apikey={key}") for key in wrong]
    calls += [request("/ai/get")] * 7 + [request("/nowhere", planted[0])] * 9
    counts = asyncio.run(hammer(gateway.proxy, lambda n: calls[n], clients=16, requests=len(calls)))
    assert counts == {200: 150, 429: 50, 401: 17, 404: 9}
    pages = [httpx.get(gateway.admin + "/metrics", trust_env=False).text]
    total = requests_total(pages[0])
    by_code = {(code, source): sum(n for k, n in total.items() if k[1:] == (code, source)) for _, code, source in total}
    assert by_code == {("200", "service"): 150, ("429", "exit"): 50, ("401", "exit"): 17, ("404", "exit"): 9}
    assert sum(n for (route, code, _), n in total.items() if code != "404" and route == "ai-route") == 217

    # Answers that tell of a request, and everything that the Admin API shows.
    for key in (planted[0], planted[1], wrong[0]):
        for path in ("/ai/get", "/nowhere", "/ai//x", f"/ai/get?apikey={key}&apikey={key}"):
            answer = ask(gateway.proxy, "GET", path, f"apikey: {key}")
            if answer.status != 200:
                pages.append((answer.head + answer.body).decode("latin-1"))
    lists = ["/", "/status", "/services", "/routes", "/plugins", "/consumers", "/key-auths", "/metrics"]
    lists += [f"/consumers/user-{n}/{what}" for n in range(50) for what in ("key-auth", "limits")]
    with httpx.Client(base_url=gateway.admin, trust_env=False) as client:
        for path in lists:
            pages.append(client.get(path, params={"size": 1000} if path.startswith("/consumers") else None).text)
        made = client.post("/consumers/user-0/key-auth", json={"key": planted[1]})
        assert made.status_code == 409
        pages.append(made.text)
    os.kill(gateway.pid, signal.SIGHUP)
    assert gateway.process.end() == 0
    pages.append("".join(gateway.process.lines))
    assert log.stat().st_size > 0
    files = [file for file in gateway.data.rglob("*") if file.is_file()] + [log]
    assert any(file.name == "store.db" for file in files)
    contents = {str(file): file.read_bytes() for file in files}
    contents |= {f"page {n}": page.encode() for n, page in enumerate(pages)}
    for key in planted + wrong:
        seen = [name for name, content in contents.items() if key.encode() in content or bytes.fromhex(key) in content]
        assert seen == []
