"""The monetization lab's Admin commands, as curl sends them."""

from conftest import Gateway


def form(gateway: Gateway, path: str, body: str = "") -> dict:
    headers = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
    return gateway.call("POST", path, 201, content=body, headers=headers)


def test_every_command_of_the_lab_takes_effect(gateway: Gateway) -> None:
    service = form(gateway, "/services", "name=ai-service&url=http://127.0.0.1:5000")
    assert (service["host"], service["port"], service["path"], service["protocol"]) == ("127.0.0.1", 5000, None, "http")
    route = form(gateway, "/services/ai-service/routes", "paths[]=/ai")
    assert route["paths"] == ["/ai"]
    assert route["service"] == {"id": service["id"]}
    form(gateway, "/services/ai-service/plugins", "name=key-auth")
    form(gateway, "/services/ai-service/plugins", "name=rate-limiting&config.minute=5&config.policy=local")
    keys = {}
    for name, limit in (("free-user", 5), ("pro-user", 100)):
        form(gateway, "/consumers", f"username={name}")
        keys[name] = form(gateway, f"/consumers/{name}/key-auth")["key"]
        form(gateway, f"/consumers/{name}/plugins", f"name=rate-limiting&config.minute={limit}&config.policy=local")
        assert len(keys[name]) == 32
        assert keys[name].isalnum()

    published = gateway.publisher
    assert published.policy is not None
    (compiled,) = published.policy["routes"]
    assert compiled["paths"] == ["/ai"]
    assert compiled["rate_limiting"]["rank"] == 2
    assert published.policy["key_auth"][compiled["key_auth"]]["key_names"] == ["apikey"]
    for n, name, limit in ((1, "free-user", 5), (2, "pro-user", 100)):
        record = published.consumers[n]
        ((on_route, on_service, kind, profile),) = record.refs
        assert (record.username, on_route, on_service, kind) == (name, 0, 0, 0)
        assert published.policy["rate_limiting"][profile]["limits"][0]["fields"]["requests"] == limit
    hashes = {c.hmac: c.consumer for c in published.credentials.values()}
    assert hashes == {published.hash_key(k.encode()): n for n, k in enumerate(keys.values(), 1)}
