"""An address is free at once after a gateway ends, and taking one in use is an error."""

import socket

import pytest

from aigw.errors import AddressInUse
from aigw.serve.listen import hold, listen
from aigw.types import HostPort


def test_a_port_is_free_again_though_connections_of_the_last_gateway_linger() -> None:
    held, address = hold(HostPort("127.0.0.1", 0), "proxy")
    with listen(address) as shared, socket.create_connection((address.host, address.port)) as client:
        shared.setblocking(True)
        accepted, _ = shared.accept()
        accepted.close()  # first, so that the kernel keeps this end for a minute
        assert client.recv(1) == b""
    held.close()
    again, _ = hold(address, "proxy")
    again.close()


def test_a_port_that_another_gateway_holds_is_in_use_even_while_no_worker_listens() -> None:
    held, address = hold(HostPort("127.0.0.1", 0), "proxy")
    with held:
        with pytest.raises(AddressInUse, match="is in use by another process"):
            hold(address, "proxy")
        with listen(address), pytest.raises(AddressInUse):
            hold(address, "proxy")
