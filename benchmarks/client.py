"""The caller's process of one contender: reads an order a line, does it, and answers with a line of JSON.

A process of its own per contender, so that one's imports, threads and garbage do not slow the next, and so that its CPU
can be read from outside.
"""

import faulthandler
import gc
import sys
import time
from typing import TextIO

import msgspec

from benchmarks.contenders import contender
from benchmarks.contenders.contract import Client
from benchmarks.measure import BenchmarkFailed

PAYLOAD_BYTES = 200
ORDER_TIMEOUT_S = 300.0


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the harness asks of the client."""

    do: str
    """`gather` (all in flight at once) or `round_trips` (one after the other)."""
    calls: int


class Answer(msgspec.Struct, frozen=True):
    """What came of one order; every result was compared with what had been sent."""

    elapsed_s: float
    round_trips_s: list[float] = []


def payloads(count: int) -> list[str]:
    """Texts of 200 bytes, each different from the others, so that a mixed-up result is noticed."""
    return [f"{number:012d}".ljust(PAYLOAD_BYTES, "x") for number in range(count)]


def obey(client: Client, order: Order) -> Answer:
    """Do one order and check each result.

    Raises:
        BenchmarkFailed: a result is missing or is not what was sent.
    """
    texts = payloads(order.calls)
    gc.collect()
    start = time.perf_counter()
    if order.do == "gather":
        answers = client.gather(texts)
        elapsed_s = time.perf_counter() - start
        trips_s: list[float] = []
    else:
        trips = client.round_trips(texts)
        elapsed_s = time.perf_counter() - start
        answers = [answer for _, answer in trips]
        trips_s = [seconds for seconds, _ in trips]
    if answers != texts:
        wrong = sum(1 for answer, text in zip(answers, texts, strict=False) if answer != text)
        raise BenchmarkFailed(f"{len(answers)} results for {len(texts)} calls, {wrong} of them wrong")
    return Answer(elapsed_s=elapsed_s, round_trips_s=trips_s)


def main(name: str, orders: TextIO, answers: TextIO) -> None:
    """Obey until the orders end."""
    client = contender(name).open_client()
    for line in orders:
        faulthandler.dump_traceback_later(ORDER_TIMEOUT_S, exit=True)  # a client that hangs says where
        answer = obey(client, msgspec.json.decode(line, type=Order))
        faulthandler.cancel_dump_traceback_later()
        answers.write(msgspec.json.encode(answer).decode() + "\n")
        answers.flush()
    client.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.stdin, sys.stdout)
