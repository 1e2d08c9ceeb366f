"""One of several processes that read and change the same things through their caches, and count what was out of date.

`python -m tests.cache.stale_readers FOLDER NUMBER PROCESSES READS`. The things, and which of their versions every
process may rely on since when, lie in a file that all have mapped: the truth costs no round trip. Prints JSON.
"""

import asyncio
import json
import mmap
import random
import struct
import sys
import time
from pathlib import Path

from cache import Answer, Cache
from store.configuration import Cache as Settings
from store.configuration import Configuration, Store
from store.connection import Broker
from tests.servers.memories import call, key_of

THINGS = 40
AFTER_S = 0.05
_CELL = struct.Struct("<qqd")
"""Version, acknowledged version, when it was acknowledged (monotonic, the same for all processes of a machine)."""


class Truth:
    """The things as they are."""

    def __init__(self, file: Path) -> None:
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), THINGS * _CELL.size)

    def read(self, thing: int) -> tuple[int, int, float]:
        version, acknowledged, at = _CELL.unpack_from(self._map, thing * _CELL.size)
        return int(version), int(acknowledged), float(at)

    def change(self, thing: int) -> int:
        version, acknowledged, at = self.read(thing)
        _CELL.pack_into(self._map, thing * _CELL.size, version + 1, acknowledged, at)
        return version + 1

    def acknowledge(self, thing: int, version: int) -> None:
        now, _, _ = self.read(thing)
        _CELL.pack_into(self._map, thing * _CELL.size, now, version, time.monotonic())


class Process:
    """Readers, and writers of the things that are this process' own."""

    def __init__(self, cache: Cache, truth: Truth, *, number: int, processes: int, reads: int) -> None:
        self._cache = cache
        self._truth = truth
        self._own = [thing for thing in range(THINGS) if thing % processes == number]
        self._left = reads
        self._draw = random.Random(number)
        self._keys = [key_of(cache, call(label=str(thing))) for thing in range(THINGS)]
        self.counts = {"reads": 0, "hits": 0, "level_1": 0, "late": 0, "stale": 0, "changes": 0}

    async def run(self) -> None:
        writers = [asyncio.create_task(self._write_forever(part)) for part in (self._own[::2], self._own[1::2])]
        await asyncio.gather(*(self._read_all() for _ in range(8)))
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)

    async def _read_all(self) -> None:
        while self._left > 0:
            self._left -= 1
            await self._read(self._draw.randrange(THINGS))
            if self._left % 16 == 0:
                await asyncio.sleep(0)

    async def _read(self, thing: int) -> None:
        began_at, (_, acknowledged, at) = time.monotonic(), self._truth.read(thing)
        key = self._keys[thing]
        found = await self._cache.get(key.name)
        if found is not None:
            version = int(found.answer.value or b"")
            self.counts["hits"] += 1
            self.counts["level_1"] += found.level == 1
        else:
            reading = await self._cache.begin(key, (f"thing:{thing}",), "reader")
            version, _, _ = self._truth.read(thing)
            await asyncio.sleep(self._draw.random() * 0.002)
            if reading is not None:
                await self._cache.fill(reading, Answer(value=b"%d" % version))
        self.counts["reads"] += 1
        if version < acknowledged:
            self.counts["late"] += 1
            self.counts["stale"] += began_at - at > AFTER_S

    async def _write_forever(self, things: list[int]) -> None:
        while True:
            thing = self._draw.choice(things)
            change = await self._cache.changing((f"thing:{thing}",), f"writer-{thing}", hold_s=60)
            version = self._truth.change(thing)
            assert change is not None
            await self._cache.changed(change)
            self._truth.acknowledge(thing, version)
            self.counts["changes"] += 1
            await asyncio.sleep(self._draw.random() * 0.02)


async def main(folder: Path, number: int, processes: int, reads: int) -> dict[str, int]:
    broker_url, cache_url = (folder / "urls").read_text().split()
    broker = Broker(broker_url)
    # A machine that is busy with other things must not make the server look away: then nothing would be remembered.
    settings = Settings(secret_file=str(folder / "key"), timeout_s=5.0)
    configuration = Configuration(store=Store(broker_url=broker_url, cache_url=cache_url), cache=settings)
    cache = Cache.open(configuration, broker=broker)
    await cache.start()
    process = Process(cache, Truth(folder / "truth"), number=number, processes=processes, reads=reads)
    await process.run()
    await cache.stop()
    await broker.close()
    return process.counts


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))))
