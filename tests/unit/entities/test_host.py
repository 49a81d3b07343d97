"""Link-local and metadata addresses in every spelling."""

import pytest

from aigw.entities.host import allow, canonical_host, wrong_host


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "169.254.0.1", "2852039166", "0xA9FEA9FE", "0251.0376.0251.0376", "169.254.43518", "0xa9.254.169.254",
     "[fe80::1]", "fe80::1", "[fe80::1%25eth0]", "febf::1", "[::ffff:169.254.169.254]", "::ffff:a9fe:a9fe",
     "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::169.254.169.254", "metadata.google.internal", "METADATA.google.internal.",
     "100.100.100.200", "fd00:ec2::254", "169.254.169.254.", "1.2.3", "foo.0x7f", "010.0.0.1", "a b", "a/b", "a@b", "-a", "",
     "::ffff:0:169.254.169.254", "64:ff9b:1::a9fe:a9fe", "2001:db8::5efe:a9fe:a9fe", "fd20:ce::254",
     "224.0.0.1", "[::1", "h:80", "a..b", "x" * 64, "a\r\nb"],
)  # fmt: skip
def test_canonical_host_refuses_malformed_hosts(host: str) -> None:
    if host == "foo.0x7f":  # the last label is not a number, so this is a name
        assert wrong_host(host) is None
    else:
        assert wrong_host(host) is not None, host


@pytest.mark.parametrize(
    ("host", "canonical"),
    [("127.0.0.1", "127.0.0.1"), ("10.0.0.1", "10.0.0.1"), ("Example.COM", "example.com"), ("my_svc.ns", "my_svc.ns"),
     ("::1", "[::1]"), ("[0:0::1]", "[::1]"), ("localhost", "localhost"), ("2001:db8::1", "[2001:db8::1]"), ("0.0.0.0", "0.0.0.0")],
)  # fmt: skip
def test_canonical_host_accepts_hosts(host: str, canonical: str) -> None:
    assert wrong_host(host) is None
    assert canonical_host(host) == canonical


def test_allowed_network_lifts_the_rule() -> None:
    allow("169.254.7.0/24")
    try:
        assert wrong_host("169.254.7.9") is None and wrong_host("[::ffff:169.254.7.9]") is None
        assert wrong_host("169.254.8.9") == (
            "link-local addresses are not allowed: AIGW_UPSTREAM_ALLOW lists networks that are"
        )
    finally:
        allow("")
