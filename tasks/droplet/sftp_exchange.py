"""Requests and answers of SFTP over one channel of paramiko: many on the way, each answer matched to its request.

`patience` is asked in every wait, and raises when the work is to end. A server that owes something and is silent for
too long is lost, whatever TCP says: a link that swallows everything looks alive for hours.
"""

import struct
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import paramiko

from tasks.droplet.sftp_wire import Answer, Ask, Fields, InvalidAnswer, Refusal, Status, number

T = TypeVar("T")

_VERSION = 3
_LARGEST_ANSWER_BYTES = (1 << 18) + 1024
"""Servers keep to 256 KiB."""
_RECEIVE_BYTES = 1 << 18
_TICK_S = 0.05


class Lost(Exception):
    """The connection, or the SFTP server at its end, is gone or silent: requests on the way were done or not."""


class Exchange:
    """One thread uses it; whoever made the channel closes it.

    All methods raise Refusal (the server said no; the rest goes on), Lost, InvalidAnswer, and what `patience` raises.
    """

    def __init__(self, channel: paramiko.Channel, patience: Callable[[], None], *, silence_s: float) -> None:
        self._channel = channel
        self.patience = patience
        self._silence_s = silence_s
        self._received = bytearray()
        self._next_id = 1
        self._awaited: set[int] = set()
        self._unwanted: set[int] = set()
        self._answers: dict[int, tuple[int, Fields]] = {}
        self._broken = False
        channel.settimeout(_TICK_S)

    def greet(self) -> frozenset[bytes]:
        """Begin; returns the names of the server's extensions."""
        self._send(bytes([Ask.INIT]) + number(_VERSION))
        kind, fields = self._packet()
        if kind != Answer.VERSION or fields.number() < _VERSION:
            raise self.invalid("it does not speak SFTP version 3")
        extensions: set[bytes] = set()
        while not fields.is_empty:
            extensions.add(fields.string())
            fields.string()
        return frozenset(extensions)

    def ask(self, kind: Ask, fields: bytes, *, expect: Answer) -> Fields:
        """A request, and the wait for its answer."""
        return self.answer(self.request(kind, fields), expect=expect)

    def request(self, kind: Ask, fields: bytes) -> int:
        """Send a request; its answer is taken by `answer` or given up by `forget`."""
        request = self._next_id
        self._next_id = (request + 1) & 0xFFFFFFFF
        self._awaited.add(request)
        self._send(bytes([kind]) + number(request) + fields)
        return request

    def answer(self, request: int, *, expect: Answer) -> Fields:
        """The answer to a request; others that come before it wait their turn."""
        while request not in self._answers:
            self._take()
        kind, fields = self._answers.pop(request)
        if kind == Answer.STATUS:
            status = fields.number()
            if status != Status.OK:
                raise Refusal(status, "" if fields.is_empty else fields.string().decode("utf-8", "replace"))
        if kind != expect:
            raise self.invalid("its answer is of another kind than the request")
        return fields

    def forget(self, requests: Iterable[int]) -> None:
        """Answers that nobody waits for any more."""
        for request in requests:
            if self._answers.pop(request, None) is None:
                self._unwanted.add(request)

    @property
    def is_sound(self) -> bool:
        """Whether the next request would be understood, and its answer."""
        return not self._broken and not self._channel.closed

    def settle(self) -> None:
        """Take the answers that are still on their way, so that somebody else can go on with the channel."""
        self._unwanted |= self._awaited
        while self._awaited:
            self._take()
        if self._received:
            raise self.invalid("it says more than it was asked")

    def say(self, kind: Ask, fields: bytes) -> None:
        """A request whose answer does not matter; waits for nobody, and is left out where it would have to."""
        if self.is_sound and self._channel.send_ready():
            with self.last_words(self._silence_s):
                self.forget([self.request(kind, fields)])

    @contextmanager
    def last_words(self, limit_s: float) -> Generator[None, None, None]:
        """In here, patience is a time: to clean up after the work was told to end."""
        give_up_at = time.monotonic() + limit_s
        patience = self.patience

        def until_then() -> None:
            if time.monotonic() > give_up_at:
                raise self._lost("the host does not answer in time")

        self.patience = until_then
        try:
            yield
        finally:
            self.patience = patience

    def invalid(self, why: str) -> InvalidAnswer:
        """The channel cannot be used any more."""
        self._broken = True
        return InvalidAnswer(why)

    def _take(self) -> None:
        kind, fields = self._packet()
        answered = fields.number()
        if answered not in self._awaited:
            raise self.invalid("it answers what it was not asked")
        self._awaited.discard(answered)
        if answered in self._unwanted:
            self._unwanted.discard(answered)
        else:
            self._answers[answered] = (kind, fields)

    def _send(self, packet: bytes) -> None:
        left = number(len(packet)) + packet
        while left:
            left = left[self._patiently(partial(self._channel.send, left)) :]

    def _packet(self) -> tuple[int, Fields]:
        self._receive(4)
        length: int = struct.unpack(">I", self._received[:4])[0]
        if not 5 <= length <= _LARGEST_ANSWER_BYTES:
            raise self.invalid("an answer is longer than any may be")
        self._receive(4 + length)
        packet = bytes(self._received[4 : 4 + length])
        del self._received[: 4 + length]
        return packet[0], Fields(packet[1:])

    def _receive(self, count: int) -> None:
        while len(self._received) < count:
            chunk = self._patiently(partial(self._channel.recv, _RECEIVE_BYTES))
            if not chunk:
                raise self._lost("the connection is gone, or its SFTP server has ended")
            self._received += chunk

    def _patiently(self, step: Callable[[], T]) -> T:
        """One step of sending or receiving, as long as there is patience and the other side lives."""
        if self._broken:
            raise Lost("the connection is gone")
        give_up_at = time.monotonic() + self._silence_s
        while True:
            self.patience()
            try:
                return step()
            except TimeoutError:
                if time.monotonic() > give_up_at:
                    raise self._lost("the host does not answer any more") from None
            except (paramiko.SSHException, OSError, EOFError) as error:
                raise self._lost("the connection is gone") from error

    def _lost(self, why: str) -> Lost:
        self._broken = True
        return Lost(why)
