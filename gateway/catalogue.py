"""The catalogue as callers see it: found by any of its names, and encoded once for as long as it stays the same."""

import difflib
import hashlib
from collections.abc import Sequence

import msgspec

from gateway.openapi import document
from toolswarm.errors import UnknownOperation
from toolswarm.messages import Operation


class Snapshot:
    """One state of the catalogue with what is made of it: bytes, entity tags, the OpenAPI document."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.operations = tuple(sorted(operations, key=lambda operation: operation.full_name))
        self.body, self.etag = _encoded({"operations": self.operations})
        self.openapi_body, self.openapi_etag = _encoded(document(self.operations))

    def find(self, name: str) -> list[Operation]:
        """The operations that go by this name: in full, alone, as an alias, or those of the tool of this name.

        Raises:
            UnknownOperation: none does; `details["nearest"]` has the nearest names.
        """
        for found in (
            [operation for operation in self.operations if operation.full_name == name],
            [operation for operation in self.operations if operation.tool == name],
            [operation for operation in self.operations if name in (operation.name, *operation.aliases)],
        ):
            if found:
                return found
        near = difflib.get_close_matches(name, sorted(self._names()), n=3, cutoff=0.5)
        advice = f"; did you mean {' or '.join(near)}?" if near else "; GET /v1/tools lists them all"
        raise UnknownOperation(f"there is no tool or operation {name[:100]!r}{advice}", nearest=near)

    def _names(self) -> set[str]:
        names: set[str] = set()
        for operation in self.operations:
            names |= {operation.full_name, operation.name, operation.tool, *operation.aliases}
        return names


class Catalogue:
    """Keeps the snapshot of the catalogue that was seen last."""

    def __init__(self) -> None:
        self._seen: Sequence[Operation] = ()
        self._snapshot = Snapshot(())

    def snapshot(self, operations: Sequence[Operation]) -> Snapshot:
        """The snapshot of these operations; a new one is made only when they differ from the last."""
        if operations is not self._seen and list(operations) != list(self._seen):
            self._snapshot = Snapshot(operations)
        self._seen = operations
        return self._snapshot


def _encoded(content: object) -> tuple[bytes, str]:
    body = msgspec.json.encode(content)
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'
