"""The relay that the tests of `droplet` break connections with does what it says."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.servers.relay import Relay, relay
from tests.servers.waiting import until


class Echo:
    """Sends back what it gets, after its own letter."""

    def __init__(self, letter: bytes) -> None:
        self._letter = letter
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.sendall(self._letter)
                while chunk := connection.recv(65_536):
                    connection.sendall(chunk)
            except ConnectionError:
                return


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo(b"A")
    yield server
    server.close()


@pytest.fixture
def between(echo: Echo) -> Iterator[Relay]:
    with relay(echo.port) as running:
        yield running


@pytest.fixture
def client(between: Relay) -> Iterator[socket.socket]:
    with _connect(between) as connection:
        yield connection


def test_bytes_pass_in_both_directions(client: socket.socket, between: Relay) -> None:
    payload = bytes(range(256)) * 4096

    threading.Thread(target=client.sendall, args=(payload,)).start()

    assert _receive(client, len(payload)) == payload
    until(lambda: (between.up_bytes, between.down_bytes) == (len(payload), len(payload) + 1), "all is counted")


def test_a_delay_is_one_of_time_and_not_of_bandwidth(client: socket.socket, between: Relay) -> None:
    between.delay_s = 0.1
    began = time.monotonic()

    for _ in range(20):
        client.sendall(b"x" * 100)
    answer = _receive(client, 2000)

    assert answer == b"x" * 2000
    assert 0.2 <= time.monotonic() - began < 1.5


def test_a_black_hole_keeps_the_connection_and_gives_back_what_it_held(client: socket.socket, between: Relay) -> None:
    between.black_hole()
    client.sendall(b"held")
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(1)

    between.resume()

    client.settimeout(5)
    assert _receive(client, 4) == b"held"


def test_a_reset_reaches_the_client_and_new_connections_are_taken(client: socket.socket, between: Relay) -> None:
    between.reset()

    with pytest.raises(ConnectionResetError):
        client.recv(1)

    _connect(between).close()
    assert between.accepted == 2


def test_a_cut_lets_exactly_so_many_bytes_through(client: socket.socket, between: Relay) -> None:
    between.cut_after(down_bytes=1000)
    client.sendall(b"x" * 5000)

    received = _receive(client, 1000)

    assert received == b"x" * 1000
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    _connect(between).close()


def test_new_connections_can_be_led_to_another_server(client: socket.socket, between: Relay) -> None:
    other = Echo(b"B")
    between.target_port = other.port

    second = _connect(between, greeting=b"B")

    client.sendall(b"still the first")
    assert _receive(client, 15) == b"still the first"
    second.close()
    other.close()


def _connect(between: Relay, greeting: bytes = b"A") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", between.port), 5)
    assert _receive(connection, 1) == greeting
    return connection


def _receive(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        chunk = connection.recv(count - len(received))
        assert chunk, "closed early"
        received += chunk
    return received
