"""Toolswarm from the producer on: validation, routing, signature, ledger, broker, worker, waiter; no HTTP.

Variants: `ours/SLOTS`, the calls that the one worker process runs at once; `ours` has as many as are configured when
nobody configures any.
"""

import asyncio
import os
import sys
import time
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.contenders.contract import WAIT_S, Client, Contender
from benchmarks.measure import BenchmarkFailed
from routing.front import Caller, Front
from store.configuration import PoolSettings, load
from toolswarm.errors import ToolswarmError, UnknownOperation
from toolswarm.messages import CacheMode, SubmitBody, ToolResult
from toolswarm.states import State

DEFAULT_SLOTS = PoolSettings().concurrency
CALLER = Caller()
CATALOGUE_POLL_S = 0.1

T = TypeVar("T")


class _Caller:
    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._front = self._run(_open_front())

    def gather(self, texts: Sequence[str]) -> list[str]:
        return self._run(_gather(self._front, texts))

    def round_trips(self, texts: Sequence[str]) -> list[tuple[float, str]]:
        return self._run(_round_trips(self._front, texts))

    def close(self) -> None:
        self._run(self._front.close())
        self._runner.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)


async def _open_front() -> Front:
    front = await Front.open(load(os.environ))
    give_up_at = time.monotonic() + WAIT_S
    while True:  # an operation is known once a worker has published it
        try:
            await front.route(_body("x"), CALLER)
            return front
        except UnknownOperation:
            if time.monotonic() > give_up_at:
                raise
            await asyncio.sleep(CATALOGUE_POLL_S)


async def _gather(front: Front, texts: Sequence[str]) -> list[str]:
    accepted = await front.submit_many([_body(text) for text in texts], CALLER)
    return list(await asyncio.gather(*(_answer(front, one) for one in accepted)))


async def _round_trips(front: Front, texts: Sequence[str]) -> list[tuple[float, str]]:
    trips: list[tuple[float, str]] = []
    for text in texts:
        start = time.perf_counter()
        answer = await _answer(front, await front.submit(_body(text), CALLER))
        trips.append((time.perf_counter() - start, answer))
    return trips


async def _answer(front: Front, accepted: ToolResult | ToolswarmError) -> str:
    if isinstance(accepted, ToolswarmError):
        raise BenchmarkFailed(f"a call was refused: {accepted}") from accepted
    result = await front.result(accepted.id, CALLER, WAIT_S)
    if result.status is not State.SUCCEEDED:
        raise BenchmarkFailed(f"a call ended as {result.status}: {result.error}")
    return str(result.value)


def _body(text: str) -> SubmitBody:
    return SubmitBody(operation="bench.echo", arguments={"text": text}, cache=CacheMode.SKIP)


def _environment(url: str, folder: Path, slots: int) -> Mapping[str, str]:
    private, public = folder / "signing_key.pem", folder / "signing_key.pub.pem"
    key = Ed25519PrivateKey.generate()
    private.touch(mode=0o600)
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return {
        "TOOLSWARM_STORE__BROKER_URL": url,
        "TOOLSWARM_SIGNING__PRIVATE_KEY_FILE": str(private),
        "TOOLSWARM_SIGNING__PUBLIC_KEY_FILE": str(public),
        "TOOLSWARM_WORKERS__BENCH__CONCURRENCY": str(slots),
        "TOOLSWARM_TOOLS__MODULES": '["benchmarks.echo_tool"]',
    }


def _open_client() -> Client:
    return _Caller()


def contender(name: str) -> Contender:
    """The variant of this name."""
    _, _, slots = name.partition("/")
    count = int(slots or DEFAULT_SLOTS)
    return Contender(
        name=name,
        settings=f"asyncio pool, {count} slots; ledger, signature and validation included",
        worker_argv=[sys.executable, "-m", "workers", "bench"],
        open_client=_open_client,
        environment=lambda url, folder: _environment(url, folder, count),
    )
