"""Remembered results of reads: two levels, single flight over all processes, invalidation by tags.

Who uses it: the front (`routing/remembered.py`) looks before it accepts a call, and workers (`workers/remembering.py`)
fill after a read and invalidate before the caller of a write is told. All of it may be away: then every call runs.

```python
cache = Cache.open(configuration, broker=broker)            # broker: the ledger's Redis, for owed invalidations
await cache.start(); await cache.stop()                     # both bear being called twice
cache.available                                             # whether the cache Redis answers now
cache.seal                                                  # Sealer: seal(name, plain), open(name, sealed)

rules = cache.rules(operation)                              # Rules | None: None when the operation is not remembered
key = cache.key(operation, call)                            # Key | None: name, flight, rules; `call` is a ToolCall
name = cache.name(operation, call)                          # str: key.name, an HMAC over all that matters; or ""

# -- the front
found = cache.peek(name)                                    # level 1 only, no await: Found | None
found = await cache.get(name)                               # level 1, then level 2: Found | None; never raises
lease = await cache.lease(key, call_id, rank=0)             # Lease | None: which call runs for all, perhaps one's own
await cache.let_go(key, call_id)                            # the leading call ended without an answer to keep

# -- a worker
reading = await cache.begin(key, tags, call_id)             # Reading | None, just before the read runs
await cache.fill(reading, answer)                           # bool; a late fill of older data is refused
change = await cache.changing(tags, call_id, hold_s=60) # just before a write runs: nothing under the tags is used
await cache.changed(change)                                 # before its caller is told: nothing older is used again

# -- an operator
await cache.invalidate(tags)                                # raises BrokerUnavailable when nobody can be told
cache.counts                                                # dict[str, int] of this process: hit, stale, miss, fill, …
await cache.stats()                                         # dict[str, int] of the cache Redis; empty when it is away
```

`BlockingCache(configuration)` has the same methods for threads, without `await`.

`Found`: `answer` (`Answer`: `value` as JSON bytes or `error`, `place`, `cost_s`), `age_s`, `fresh_s` (negative: stale),
`stale`, `ttl_s`, `tags`, `level` (1 or 2). `Rules` (from `Operation.remember`, overridden by `[cache]`): `ttl_s`,
`longest_ttl_s`, `stale_s`, `stale_if_error_s`, `negative_ttl_s`, `public`.

What it promises. An answer is found only by the authorization context that it was made in, and only under the name that
it was sealed for. A read that begins after an acknowledged invalidation never gets an older answer from level 2, and
from level 1 not longer than the push takes. What cannot be told to the cache Redis is written down in the broker's
(`ts:cache:owed`) before the caller is told, and whoever reaches both delivers it. Tags have generations that are never
used twice, so a cache Redis that lost or evicted some remembers nothing wrong: what cannot be compared is not used.
"""

from cache.blocking import BlockingCache as BlockingCache
from cache.cache import Cache as Cache
from cache.cache import Change as Change
from cache.cache import Found as Found
from cache.cache import Lease as Lease
from cache.cache import Reading as Reading
from cache.entry import Answer as Answer
from cache.rules import Key as Key
from cache.rules import Rules as Rules
