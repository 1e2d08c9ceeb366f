"""Making a connection in the end: servers drop some of those who knock at the same time, so it is tried again."""

import random
import time
from collections.abc import Callable

from tasks.droplet.connect import HandshakeDropped
from tasks.droplet.patience import Patience
from tasks.droplet.session import Opened
from toolswarm.errors import OperationFailed

Dial = Callable[[float, Patience], Opened]
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 1.0
_SHORTEST_S = 0.1
_TICK_S = 0.05


def dialled(dial: Dial, host: str, patience: Patience, *, limit_s: float) -> Opened:
    """A connection; between two tries lies a time that others do not choose, too.

    Raises:
        OperationFailed: what `dial` raises, or `stopped`.
    """
    give_up_at = time.monotonic() + min(limit_s, max(_SHORTEST_S, patience.remaining_s()))
    longest_s = _FIRST_PAUSE_S
    while True:
        try:
            return dial(max(_SHORTEST_S, give_up_at - time.monotonic()), patience)
        except HandshakeDropped:
            pause_s = random.uniform(0.02, longest_s)  # noqa: S311 (it only has to differ)
            if time.monotonic() + pause_s > give_up_at:
                raise
            pause(pause_s, patience, host)
            longest_s = min(_LONGEST_PAUSE_S, 2 * longest_s)


def pause(pause_s: float, patience: Patience, host: str) -> None:
    """Wait so long.

    Raises:
        OperationFailed: `stopped`, `host_busy`.
    """
    until = time.monotonic() + pause_s
    while (left_s := until - time.monotonic()) > 0:
        check(patience, host)
        time.sleep(min(left_s, _TICK_S))


def check(patience: Patience, host: str) -> None:
    """Whether to go on waiting for a host.

    Raises:
        OperationFailed: `stopped`, `host_busy`.
    """
    if patience.stop_requested():
        raise OperationFailed(
            f"the call was stopped while it waited for host {host}", code="stopped", before_effect=True
        )
    if patience.remaining_s() <= 0:
        raise busy(host, "no channel was free in time")


def busy(host: str, why: str) -> OperationFailed:
    """Not now."""
    return OperationFailed(
        f"host {host} is busy: {why}; try again later",
        code="host_busy",
        retryable=True,
        before_effect=True,
        host=host,
    )


def again(error: OperationFailed) -> OperationFailed:
    """The same for somebody else."""
    return OperationFailed(
        error.message,
        code=error.failure_code,
        retryable=error.failure_retryable,
        before_effect=True,
        **error.details,
    )
