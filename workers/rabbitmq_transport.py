# mypy: disable-error-code="misc,no-untyped-call,no-any-return"
# pyright: basic, reportIncompatibleVariableOverride=false
# (the stubs of kombu leave out the internals that this extends)
"""kombu's transport to RabbitMQ, as workers of ours need it."""

from typing import Any

from kombu import Exchange, Queue
from kombu.transport import TRANSPORT_ALIASES, pyamqp

from routing.rabbitmq import queue_arguments
from store.task_broker import TaskBroker
from workers.transport import POLL_CLOCK

SCHEME = "rabbitmq"
_TOUCH_S = 1.0


def register_scheme() -> None:
    """Make kombu know the scheme of broker_url in celeryconfig.py."""
    TRANSPORT_ALIASES[SCHEME] = "workers.rabbitmq_transport:Transport"


def queues_of(broker: TaskBroker, *names: str) -> list[Queue]:
    """What a worker consumes from: the same queues that `routing/rabbitmq.py` publishes to."""
    return [
        Queue(name, Exchange(""), routing_key=name, queue_arguments=queue_arguments(broker, name)) for name in names
    ]


class Transport(pyamqp.Transport):
    """kombu's, with a clock that says that this worker listens."""

    # Celery would make 28 queues for delayed tasks when it sees quorum queues of `amqp`; ours wait in the ledger.
    driver_type = "toolswarm-amqp"

    def establish_connection(self) -> Any:
        """As kombu, and `read_timeout` holds from the first answer on; who tries to reach RabbitMQ is not silent.

        A node that has just come back after a kill may never answer `basic.consume`: then it is asked again.
        """
        POLL_CLOCK.touch()
        connection = super().establish_connection()
        connection.transport.raise_on_initial_eintr = True
        return connection

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """As kombu; while the loop turns, what RabbitMQ sends is taken."""
        super().register_with_event_loop(connection, loop)
        POLL_CLOCK.touch()
        loop.call_repeatedly(_TOUCH_S, POLL_CLOCK.touch)

    def qos_semantics_matches_spec(self, connection: Any) -> bool:
        """Quorum queues know prefetch for each consumer only."""
        return True
