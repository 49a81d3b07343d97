"""Proxies of the environment: those that upstreams can be reached through, and refusals without the value."""

import pytest

from aigw.errors import ConfigError
from aigw.settings import check_proxies


@pytest.mark.parametrize(
    "text", ["", "http://proxy:3128", "proxy:3128", "http://user:pass@10.0.0.1:8080/", "http://[::1]:3128"]
)
def test_http_proxy_is_accepted(text: str) -> None:
    check_proxies({"HTTPS_PROXY": text, "no_proxy": "anything"})


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "http_proxy", "all_proxy"])
@pytest.mark.parametrize(
    "text",
    [
        "socks5h://u:hidden@proxy:1080",
        "https://u:hidden@proxy",
        "http://u:hidden@",
        "http://u:hidden@h:x",
        "http://h/hidden",
    ],
)
def test_other_proxy_is_refused_without_its_value(name: str, text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_proxies({name: text})
    assert str(refused.value).startswith(f"{name}: ") and "hidden" not in str(refused.value)


def test_upper_case_wins() -> None:
    check_proxies({"HTTPS_PROXY": "http://proxy", "https_proxy": "socks5://proxy"})
