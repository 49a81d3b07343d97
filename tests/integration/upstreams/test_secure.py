"""TLS and proxies towards upstreams: authorities, names, certificates of the gateway; each failure in the log with its reason."""

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.upstreams.test_network import answer, events
from tests.support.certificates import Certificate, certificate
from tests.support.ends import Upstream, Wire, header
from tests.support.processes import AIGW, Gateway, wait_until
from tests.support.secure import behind_tls, proxy
from tests.support.surface import Json, caller, chat, is_error, metric, start_configured

USER = "Basic dTpoaWRkZW4="


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("server"))


def upstream(url: str, **settings: object) -> Json:
    return {"models": {"m": {"upstreams": [{"url": url + "/v1", **settings}]}}, "tiers": {"t": {}}}


@contextlib.contextmanager
def gateway(data: Path, models: Json, **env: str) -> Iterator[Gateway]:
    running = start_configured(data, models, env=env)
    try:
        yield running
    finally:
        running.process.end()


def failure(data: Path, models: Json, **env: str) -> str:
    """The words of the log about a call that fails by TLS."""
    with gateway(data, models, **env) as running:
        who = caller(running, "t")
        for _ in range(2):
            assert is_error(who.post(chat("m")), 502)["aigw"]["reason"] == "upstream_tls"
        assert metric(running, "aigw_denials_total", reason="upstream_tls") == 2
        (told,) = events(running, "upstream_connect_failed")  # written before the answer, once
        assert (told["reason"], told["upstream"] in models["models"]["m"]["upstreams"][0]["url"]) == ("tls", True)
        trust = "".join(line["error"] for line in events(running, "upstream_trust"))
        return f"{told['error']} {trust}"


def test_unknown_authority_is_told(tmp_path: Path, made: Certificate) -> None:
    with behind_tls(answer, made) as far:
        assert "UnknownIssuer" in failure(tmp_path / "data", upstream(far.url))


def test_missing_file_of_authorities_is_told(tmp_path: Path, made: Certificate) -> None:
    with behind_tls(answer, made) as far:
        words = failure(tmp_path / "data", upstream(far.url), SSL_CERT_FILE="/nowhere/authorities.pem", SSL_CERT_DIR="")
        assert "/nowhere/authorities.pem" in words and "no trusted certificate" in words


def test_upstream_without_tls_is_told(tmp_path: Path) -> None:
    with Upstream(lambda wire: wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as far:
        assert "does not speak TLS" in failure(tmp_path / "data", upstream(far.url.replace("http:", "https:")))


def test_other_name_is_told(tmp_path: Path, made: Certificate) -> None:
    with behind_tls(answer, made) as far:
        models = upstream(far.url, tls_ca=str(made.chain), tls_server_name="other.test")
        assert "other.test" in failure(tmp_path / "data", models)


@pytest.mark.parametrize("how", ["SSL_CERT_FILE", "SSL_CERT_DIR", "tls_ca", "tls_server_name", "tls_verify"])
def test_upstream_is_trusted(tmp_path: Path, made: Certificate, how: str) -> None:
    (tmp_path / "trusted").mkdir()
    shutil.copy(made.chain, tmp_path / "trusted" / "one.pem")
    env = {"SSL_CERT_FILE": str(made.chain), "SSL_CERT_DIR": str(tmp_path / "trusted")}
    settings: dict[str, Json] = {
        "tls_ca": {"tls_ca": str(made.chain)},
        "tls_server_name": {"tls_ca": str(made.chain), "tls_server_name": "localhost"},
        "tls_verify": {"tls_verify": False},
    }
    given = {how: env[how]} if how in env else {}
    with (
        behind_tls(answer, made) as far,
        gateway(tmp_path / "data", upstream(far.url, **settings.get(how, {})), **given) as g,
    ):
        assert caller(g, "t").post(chat("m")).status_code == 200


def test_demanded_certificate_is_told(tmp_path: Path, made: Certificate) -> None:
    """With TLS 1.3 the upstream says so behind the greeting only."""
    wanted = tmp_path / "wanted"
    wanted.mkdir()
    with behind_tls(answer, made, certificate(wanted)) as far:
        assert "check tls_cert" in failure(tmp_path / "data", upstream(far.url, tls_ca=str(made.chain)))


def test_certificate_of_the_gateway_is_shown_and_followed(tmp_path: Path, made: Certificate) -> None:
    """The upstream accepts one certificate. The file holds another one first, then that one."""
    own, wanted = tmp_path / "own", tmp_path / "wanted"
    own.mkdir()
    wanted.mkdir()
    shown, accepted = certificate(own), certificate(wanted)
    models = upstream(made.chain.as_uri(), tls_ca=str(made.chain), tls_cert=str(shown.chain), tls_key=str(shown.key))
    with behind_tls(answer, made, accepted) as far:
        models["models"]["m"]["upstreams"][0]["url"] = far.url + "/v1"
        with gateway(tmp_path / "data", models) as running:
            who = caller(running, "t")
            is_error(who.post(chat("m")), 502)
            shutil.copy(accepted.chain, shown.chain)
            shutil.copy(accepted.key, shown.key)
            (tmp_path / "data.yaml").write_text(json.dumps(models, indent=2))
            wait_until(lambda: who.post(chat("m")).status_code == 200, "the new certificate is shown")


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "x-unknown"])
@pytest.mark.parametrize("stream", [False, True])
def test_encoded_answer_of_a_model_is_502(tmp_path: Path, coding: str, stream: bool) -> None:
    def encoded(wire: Wire) -> None:
        if wire.request() is not None:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: %s\r\n" % coding.encode()
            wire.send(head + b"Content-Length: 4\r\n\r\nabcd")

    with Upstream(encoded) as far, gateway(tmp_path / "data", upstream(far.url)) as running:
        answered = caller(running, "t").post(chat("m", stream=stream))
        assert is_error(answered, 502)["aigw"]["reason"] == "upstream_encoding"


@pytest.mark.parametrize("coding", ["", "identity", "Identity, identity"])
def test_answer_without_a_real_coding_passes(tmp_path: Path, coding: str) -> None:
    def plain(wire: Wire) -> None:
        if wire.request() is not None:
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: 2\r\n\r\n{}" % coding.encode())

    with Upstream(plain) as far, gateway(tmp_path / "data", upstream(far.url)) as running:
        answered = caller(running, "t").post(chat("m"))
        assert (answered.status_code, answered.content, "content-encoding" in answered.headers) == (200, b"{}", False)


def test_proxy_tunnels_to_https_and_gets_whole_urls_of_http(tmp_path: Path, made: Certificate) -> None:
    with (
        behind_tls(answer, made) as secure,
        Upstream(answer) as plain,
        Upstream(answer, "127.0.0.2") as direct,
        proxy(USER) as between,
    ):
        models = upstream(secure.url, tls_ca=str(made.chain))
        for name, far in (("p", plain), ("d", direct)):
            models["models"][name] = {"upstreams": [{"url": far.url + "/v1"}]}
        address = f"http://u:hidden@127.0.0.1:{between.port}"
        env = {"https_proxy": address, "HTTP_PROXY": address, "no_proxy": "127.0.0.2"}
        with gateway(tmp_path / "data", models, **env) as running:
            who = caller(running, "t")
            for model in ("m", "m", "p"):
                assert who.post(chat(model)).status_code == 200
            first, second = (head.split(b"\r\n")[0] for head, _ in between.requests)
            assert first == b"CONNECT 127.0.0.1:%d HTTP/1.1" % secure.port
            assert second == b"POST http://127.0.0.1:%d/v1/chat/completions HTTP/1.1" % plain.port
            assert header(secure.requests[0][0], "proxy-authorization") is None
            assert len(secure.requests) == 2
            assert who.post(chat("d")).status_code == 200
            assert len(between.requests) == 2
            assert "hidden" not in "".join(running.process.lines) and USER not in "".join(running.process.lines)


def test_refusal_of_the_proxy_is_told_without_its_password(tmp_path: Path, made: Certificate) -> None:
    with proxy("Basic other") as between:
        env = {"HTTPS_PROXY": f"http://u:hidden@127.0.0.1:{between.port}"}
        with gateway(tmp_path / "data", upstream("https://api.test"), **env) as running:
            assert is_error(caller(running, "t").post(chat("m")), 502)["aigw"]["reason"] == "upstream_proxy"
            (told,) = events(running, "upstream_connect_failed")
            assert told["reason"] == "proxy" and "gives no tunnel: it answers 407 Proxy Authentication" in told["error"]
            assert "hidden" not in "".join(running.process.lines)


def test_refused_tunnel_is_logged_with_its_status_alone(tmp_path: Path) -> None:
    def forbid(wire: Wire) -> None:
        if wire.request() is not None:
            wire.send(
                b"HTTP/1.1 403 words-of-the-proxy\r\nX-A: words-of-the-proxy\r\nContent-Length: 18\r\n\r\nwords-of-the-proxy"
            )

    with Upstream(forbid) as between:
        env = {"HTTPS_PROXY": f"http://u:hidden@127.0.0.1:{between.port}"}
        with gateway(tmp_path / "data", upstream("https://api.test"), **env) as running:
            who = caller(running, "t")
            refused = who.post(chat("m"))
            assert is_error(refused, 502)["aigw"]["reason"] == "upstream_proxy"
            assert header(between.requests[0][0], "host") == "api.test:443"
            (told,) = events(running, "upstream_connect_failed")
            assert told["reason"] == "proxy"
            assert told["error"] == f"the proxy 127.0.0.1:{between.port} gives no tunnel: it answers 403 Forbidden"
            said = "".join(running.process.lines) + refused.text
            assert "hidden" not in said and "words-of-the-proxy" not in said


def test_proxy_that_ends_during_connect_is_told_as_the_proxy(tmp_path: Path) -> None:
    with (
        Upstream(lambda wire: wire.request() and None) as between,
        gateway(
            tmp_path / "data", upstream("https://api.test"), HTTPS_PROXY=f"http://127.0.0.1:{between.port}"
        ) as running,
    ):
        assert is_error(caller(running, "t").post(chat("m")), 502)["aigw"]["reason"] == "upstream_proxy"
        assert "gives no tunnel: " in events(running, "upstream_connect_failed")[0]["error"]


def test_407_on_the_way_to_an_http_upstream_is_the_refusal_of_the_proxy(tmp_path: Path) -> None:
    with proxy("Basic other") as between, Upstream(answer) as far:
        env = {"HTTP_PROXY": f"http://u:hidden@127.0.0.1:{between.port}"}
        models = upstream(far.url) | {"tiers": {"t": {"limits": [{"requests": 9, "per": "day"}]}}}
        with gateway(tmp_path / "data", models, **env) as running:
            who = caller(running, "t")
            refused = who.post(chat("m"))
            assert is_error(refused, 502)["aigw"]["reason"] == "upstream_proxy"
            assert "proxy-authenticate" not in refused.headers
            assert len(between.requests) == 1 and not far.requests
            (told,) = events(running, "upstream_connect_failed")
            assert told["reason"] == "proxy" and "passes nothing on: it answers 407" in told["error"]
            assert "hidden" not in "".join(running.process.lines)
            assert who.used() == [0]


def test_407_of_an_upstream_without_a_proxy_is_not_a_refusal_of_a_proxy(tmp_path: Path) -> None:
    def ask(wire: Wire) -> None:
        if wire.request() is not None:
            wire.send(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    with Upstream(ask) as far, gateway(tmp_path / "data", upstream(far.url)) as running:
        refused = caller(running, "t").post(chat("m"))
        assert "upstream_proxy" not in refused.text and not events(running, "upstream_connect_failed")


def test_unsupported_proxy_is_refused_at_start(tmp_path: Path) -> None:
    command = [*AIGW, "serve", "--data", str(tmp_path / "data"), "--proxy", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    env = {"PATH": "/usr/bin:/bin", "HTTPS_PROXY": "socks5://u:hidden@proxy:1080"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "HTTPS_PROXY" in done.stderr and "socks5" in done.stderr and "hidden" not in done.stderr
