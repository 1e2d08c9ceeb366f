"""How long a caller is willing to wait: till its attempt ends, or is to stop."""

import time
from typing import Protocol


class Patience(Protocol):
    """Implemented by `tasks.operation.Run`."""

    def remaining_s(self) -> float:
        """Seconds that are left."""
        ...

    def stop_requested(self) -> bool:
        """Whether to stop waiting now."""
        ...


class Within:
    """The patience of somebody, cut to a time."""

    def __init__(self, whole: Patience, limit_s: float) -> None:
        self._whole = whole
        self._until = time.monotonic() + limit_s

    def remaining_s(self) -> float:
        """Seconds that are left of both."""
        return min(self._until - time.monotonic(), self._whole.remaining_s())

    def stop_requested(self) -> bool:
        """Whether to stop waiting now."""
        return self._whole.stop_requested()
