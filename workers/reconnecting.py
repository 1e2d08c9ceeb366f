# mypy: disable-error-code="misc,no-untyped-call,no-any-return,override"
# pyright: basic, reportIncompatibleVariableOverride=false, reportIncompatibleMethodOverride=false
# pyright: reportArgumentType=false
# (the stubs of kombu leave out the method that this extends)
"""How fast a worker comes back to a broker that was away: from a fifth of a second on, where kombu waits two."""

from typing import Any

from celery.app.amqp import AMQP
from kombu import Connection

_FIRST_S = 0.2
_STEP_S = 0.3
_LONGEST_S = 3.0


class QuickConnection(Connection):
    """kombu's connection, tried again sooner; the pauses still grow, so a broker that starts is not flooded."""

    def _ensure_connection(self, errback: Any = None, max_retries: Any = None, **options: Any) -> Any:
        pauses = {"interval_start": _FIRST_S, "interval_step": _STEP_S, "interval_max": _LONGEST_S}
        return super()._ensure_connection(errback, max_retries, **(pauses | options))


class Amqp(AMQP):
    """Celery's messaging, over such connections."""

    Connection = QuickConnection
