"""The states of a call, and the only moves between them.

```
accepted -> running -> effecting -> succeeded | failed | unknown
accepted -> failed | cancelled | expired | unknown
running -> accepted | succeeded | failed | cancelled | expired | unknown
effecting -> accepted | cancelled
```

* `accepted`: the ledger holds the call durably; a task for it is in the broker or will be put there again.
* `running`: one worker holds the call under a fence (a growing number) and a lease (seconds).
* `effecting`: the worker has passed the point of no return; for an operation that must not run twice,
  nothing may run this call again.
* `succeeded`, `failed`: the operation answered.
* `cancelled`: somebody asked for it and no effect of a `once` operation had begun.
* `expired`: the deadline passed before the operation could answer, and nothing is left running.
* `unknown`: the worker was lost after the point of no return of an operation that must not run twice. The
  evidence is in the result; nobody repeats the call silently.

A lost `verifiable` call is given back in doubt: the next attempt looks first whether the effect happened. Until
somebody has looked, the call cannot end as anything but `unknown` (`accepted -> unknown`, `running -> unknown`).

A worker that is lost while `running` gives its call back (`running -> accepted`), and so does one that is lost
while `effecting` an operation that may run again (`effecting -> accepted`). `accepted -> failed` is the end of a
call whose attempts are used up.
"""

from enum import StrEnum


class State(StrEnum):
    """Where a call is in its life; the value is what the ledger, HTTP and the CLI say."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    EFFECTING = "effecting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    UNKNOWN = "unknown"

    @property
    def terminal(self) -> bool:
        """Whether the call has ended: nothing follows a terminal state."""
        return not TRANSITIONS[self]


TRANSITIONS: dict[State, frozenset[State]] = {
    State.ACCEPTED: frozenset({State.RUNNING, State.FAILED, State.CANCELLED, State.EXPIRED, State.UNKNOWN}),
    State.RUNNING: frozenset(
        {
            State.ACCEPTED,
            State.EFFECTING,
            State.SUCCEEDED,
            State.FAILED,
            State.CANCELLED,
            State.EXPIRED,
            State.UNKNOWN,
        }
    ),
    State.EFFECTING: frozenset({State.ACCEPTED, State.SUCCEEDED, State.FAILED, State.CANCELLED, State.UNKNOWN}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
    State.EXPIRED: frozenset(),
    State.UNKNOWN: frozenset(),
}
