"""A busy port is named and stepped over."""

import os
import socket
from collections.abc import Iterator

import pytest

from local.ports import choose_port, holder_of
from toolswarm.errors import ConfigurationError


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def test_a_free_port_is_taken_as_it_is(busy_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])

    choice = choose_port("127.0.0.1", port)

    assert (choice.port, choice.note) == (port, "")


def test_a_busy_port_is_stepped_over_and_its_holder_is_named(busy_port: int) -> None:
    choice = choose_port("127.0.0.1", busy_port)

    assert choice.port > busy_port
    assert f"port {busy_port} is held by " in choice.note
    assert f"(pid {os.getpid()})" in choice.note
    assert f"using {choice.port}" in choice.note


def test_a_port_that_another_service_of_ours_gets_is_stepped_over(busy_port: int) -> None:
    choice = choose_port("127.0.0.1", busy_port + 1, {busy_port + 1})

    assert choice.port > busy_port + 1
    assert "taken by another service" in choice.note


def test_nobody_is_named_for_a_port_that_nobody_holds(busy_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])

    assert holder_of(port) == ""


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"cannot listen on 192\.0\.2\.1:8080"):
        choose_port("192.0.2.1", 8080)
