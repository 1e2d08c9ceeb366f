"""An answer as it is remembered: packed (msgpack, zstd when that saves something), and sealed under its name."""

import hashlib
import struct
from collections.abc import Mapping, Sequence

import msgspec
import zstandard

from cache.seal import Sealer
from toolswarm.messages import ErrorInfo

VERSION = 1
ORDER_BYTES = 8
"""Before what is sealed, in the open: when the read began, in microseconds, for scripts to compare."""
_COMPRESS_FROM_BYTES = 2048
_WORTH_IT = 0.85
_ORDER = struct.Struct(">Q")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a read has answered."""

    value: bytes | None = None
    """JSON, as the ledger keeps it."""
    error: ErrorInfo | None = None
    """In place of a value: that there is none."""
    place: str | None = None
    """Where it was read."""
    cost_s: float = 0.0
    """How long the run took."""


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """What is sealed."""

    v: int
    home: str
    """The run of the server that it was made for: one that came back from a file, or took over, may lack changes."""
    life_s: float
    """From the fill to the end, in which nothing of it may be given any more."""
    read_s: float
    """From the begin of the read to the fill."""
    ttl_s: float
    cost_s: float
    place: str | None
    tags: tuple[tuple[str, bytes], ...]
    """Tag and generation."""
    negative: bool
    digest: bytes
    """Of the payload, unpacked: whether an answer has changed is seen by it."""
    packed_from: int
    """Size of the payload before it was compressed; 0: it is not."""
    payload: bytes

    def answer(self) -> Answer:
        """The answer in it."""
        payload = self.payload
        if self.packed_from:
            payload = zstandard.ZstdDecompressor().decompress(payload, max_output_size=self.packed_from)
        if self.negative:
            error = msgspec.json.decode(payload, type=ErrorInfo)
            return Answer(error=error, place=self.place, cost_s=self.cost_s)
        return Answer(value=payload, place=self.place, cost_s=self.cost_s)


_DECODER = msgspec.msgpack.Decoder(Kept)
_ENCODER = msgspec.msgpack.Encoder()


def payload_of(answer: Answer) -> bytes:
    """What of an answer is compared, counted and compressed."""
    return msgspec.json.encode(answer.error) if answer.value is None else answer.value


def digest_of(payload: bytes) -> bytes:
    """A short digest of a payload."""
    return hashlib.blake2b(payload, digest_size=16).digest()


def keep(
    answer: Answer, payload: bytes, *, ttl_s: float, life_s: float, read_s: float, tags: Mapping[str, bytes]
) -> Kept:
    """The answer, ready to be sealed once its home is known."""
    packed_from, packed = 0, payload
    if len(payload) >= _COMPRESS_FROM_BYTES:
        smaller = zstandard.ZstdCompressor(level=1).compress(payload)
        if len(smaller) < _WORTH_IT * len(payload):
            packed_from, packed = len(payload), smaller
    return Kept(
        v=VERSION,
        home="",
        life_s=life_s,
        read_s=read_s,
        ttl_s=ttl_s,
        cost_s=answer.cost_s,
        place=answer.place,
        tags=tuple(tags.items()),
        negative=answer.value is None,
        digest=digest_of(payload),
        packed_from=packed_from,
        payload=packed,
    )


def encode(sealer: Sealer, name: str, kept: Kept, began_at: float) -> bytes:
    """As it lies in the cache Redis."""
    order = _ORDER.pack(int(began_at * 1e6))
    return order + sealer.seal(name, _ENCODER.encode(kept), order)


def decode(sealer: Sealer, name: str, stored: bytes) -> Kept | None:
    """What was sealed under this name; None when this is not it."""
    plain = sealer.open(name, stored[ORDER_BYTES:], stored[:ORDER_BYTES])
    if plain is None:
        return None
    try:
        kept = _DECODER.decode(plain)
    except msgspec.MsgspecError:
        return None  # another version of ours
    return kept if kept.v == VERSION else None


def unchanged(kept: Kept, tags: Sequence[str], generations: Sequence[bytes | None]) -> bool:
    """Whether all that the answer depends on is as its read found it."""
    now = dict(zip(tags, generations, strict=True))
    return all(now.get(tag) == generation for tag, generation in kept.tags)
