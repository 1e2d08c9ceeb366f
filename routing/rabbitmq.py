# mypy: disable-error-code="no-untyped-call,import-untyped"
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
# (py-amqp has no types)
"""RabbitMQ as it is used here: its queues, publishing with confirms, and the queue of what it put aside.

Every tool has one quorum queue `tool.NAME`, every worker one for its sessions. A task that comes back `delivery_limit`
times goes through the exchange `toolswarm.dead` to the queue of that name, which beat reads. All of this blocks: it is
for a thread, one at a time.
"""

import base64
from collections.abc import Sequence
from typing import Any

import amqp
import msgspec
from amqp.exceptions import AMQPError, PreconditionFailed

from store.outbox import Released
from store.task_broker import Node, TaskBroker, nodes_of
from toolswarm.errors import BrokerUnavailable, ConfigurationError

DEAD = "toolswarm.dead"
"""Exchange and queue of tasks that RabbitMQ gave up on."""
_TIMEOUT_S = 5.0
_HEARTBEAT_S = 10
_MOST_DEAD = 10_000
_LOST = (AMQPError, OSError, EOFError)


class DeadTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task that RabbitMQ gave up on."""

    tag: int
    call_id: str
    queue: str


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a publication."""

    refused: tuple[Released, ...] = ()
    """Not in RabbitMQ: it said so, or the connection was lost before it said anything."""
    nowhere: tuple[Released, ...] = ()
    """There is no such queue (a worker's own, and the worker is gone)."""
    error: str = ""
    """Why the connection was lost."""


def queue_arguments(broker: TaskBroker, queue: str) -> dict[str, Any]:
    """What a queue is declared with, the same by whoever comes first."""
    if "@" in queue:
        # Its tasks are of use to one worker only, and the ledger publishes again what is lost with it.
        return {"x-expires": broker.own_queue_expires_s * 1000}
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": broker.delivery_limit,
        "x-dead-letter-exchange": DEAD,
    }


class RabbitMq:
    """One connection to RabbitMQ, made when it is first needed and again when it was lost."""

    def __init__(self, broker: TaskBroker) -> None:
        self._broker = broker
        self._nodes = nodes_of(broker.url)
        self._connection: Any = None
        self._channel: Any = None
        self._declared: set[str] = set()
        self._numbers: dict[int, Released] = {}
        self._next = 1
        self._refused: list[Released] = []
        self._nowhere: list[Released] = []

    def connect(self) -> None:
        """See that there is a connection that lives.

        Raises:
            BrokerUnavailable: no node can be reached.
        """
        try:
            if self._connection is None:
                self._open()
            else:
                self._connection.heartbeat_tick()
                self._hear_what_is_there()
        except _LOST as error:
            self.close()
            raise _away(error) from error

    def publish(self, tasks: Sequence[Released]) -> Published:
        """Publish them and wait until each is confirmed: on the disks of most nodes."""
        self._refused, self._nowhere, error = [], [], ""
        pending = list(tasks)
        try:
            self.connect()
            while pending:
                self._declare(pending[0].queue)
                self._publish(pending.pop(0))
            while self._numbers:
                self._connection.drain_events(timeout=_TIMEOUT_S)
        except BrokerUnavailable as away:
            error = away.message
        except _LOST as lost:
            error = _away(lost).message
            self.close()
        except ConfigurationError:
            self._numbers.clear()
            self.close()  # the server has closed the channel
            raise
        refused = (*self._refused, *self._numbers.values(), *pending)
        self._numbers.clear()
        return Published(refused=refused, nowhere=tuple(self._nowhere), error=error)

    def take_dead(self) -> DeadTask | None:
        """The next task that RabbitMQ gave up on; it comes again unless `forget_dead` says that it was seen to.

        Raises:
            BrokerUnavailable: RabbitMQ does not answer.
        """
        self.connect()
        try:
            message = self._channel.basic_get(DEAD)
        except _LOST as error:
            self.close()
            raise _away(error) from error
        if message is None:
            return None
        headers: dict[str, Any] = message.headers or {}
        deaths = headers.get("x-death") or [{}]
        return DeadTask(tag=message.delivery_tag, call_id=str(headers.get("id")), queue=str(deaths[0].get("queue")))

    def forget_dead(self, task: DeadTask) -> None:
        """It was seen to."""
        try:
            self._channel.basic_ack(task.tag)
        except _LOST as error:
            self.close()
            raise _away(error) from error

    def close(self) -> None:
        """Close the connection; bears being called twice."""
        connection, self._connection, self._channel = self._connection, None, None
        self._declared.clear()
        if connection is not None:
            try:
                connection.collect()
            except _LOST:  # it was lost: there is nothing to close
                return

    def _open(self) -> None:
        errors: list[BaseException] = []
        for node in self._nodes:
            try:
                self._connection = _connection(node)
                self._connection.connect()
                break
            except _LOST as error:
                errors.append(error)
                self.close()
        else:
            raise errors[-1]
        self._channel = self._connection.channel()
        self._channel.confirm_select()
        self._next = 1
        self._channel.events["basic_ack"].add(self._confirmed)
        self._channel.events["basic_nack"].add(self._nacked)
        self._channel.events["basic_return"].add(self._returned)
        self._channel.exchange_declare(DEAD, "fanout", durable=True, auto_delete=False)
        self._channel.queue_declare(
            DEAD,
            durable=True,
            auto_delete=False,
            arguments={"x-queue-type": "quorum", "x-max-length": _MOST_DEAD},
        )
        self._channel.queue_bind(DEAD, DEAD)

    def _declare(self, queue: str) -> None:
        if queue in self._declared or "@" in queue:
            return  # a worker's own queue is the worker's to declare
        try:
            self._channel.queue_declare(
                queue, durable=True, auto_delete=False, arguments=queue_arguments(self._broker, queue)
            )
        except PreconditionFailed as error:
            raise ConfigurationError(
                f"the queue {queue} exists in RabbitMQ with other properties: set broker.delivery_limit as it was, or "
                "drain and delete the queue"
            ) from error
        self._declared.add(queue)

    def _publish(self, task: Released) -> None:
        message = task.message
        self._numbers[self._next] = task
        self._next += 1
        self._channel.basic_publish(
            amqp.Message(
                base64.b64decode(message["body"]),
                content_type=message["content-type"],
                content_encoding=message["content-encoding"],
                application_headers=message["headers"],
                correlation_id=task.call_id,
                message_id=task.call_id,
                delivery_mode=2,
                # Quorum queues know two priorities from RabbitMQ 4 on: more than 4 goes first.
                priority=9 if message["properties"]["priority"] == 0 else 0,
            ),
            routing_key=task.queue,
            mandatory=True,
            timeout=_TIMEOUT_S,
        )

    def _hear_what_is_there(self) -> None:
        try:
            self._connection.drain_events(timeout=0.001)
        except TimeoutError:
            return

    def _confirmed(self, number: int, multiple: bool) -> None:
        for one in [one for one in self._numbers if one <= number] if multiple else [number]:
            self._numbers.pop(one, None)

    def _nacked(self, number: int, multiple: bool) -> None:
        before = dict(self._numbers)
        self._confirmed(number, multiple)
        self._refused += [task for one, task in before.items() if one not in self._numbers]

    def _returned(self, _error: Any, _exchange: str, _routing_key: str, message: Any) -> None:
        """It is confirmed right after this; here is why it went nowhere."""
        call_id = message.properties.get("message_id")
        self._nowhere += [task for task in self._numbers.values() if task.call_id == call_id]


def _connection(node: Node) -> Any:
    return amqp.Connection(
        host=f"[{node.host}]:{node.port}" if ":" in node.host else f"{node.host}:{node.port}",
        userid=node.user,
        password=node.password,
        virtual_host=node.virtual_host,
        connect_timeout=_TIMEOUT_S,
        read_timeout=_TIMEOUT_S,
        write_timeout=_TIMEOUT_S,
        heartbeat=_HEARTBEAT_S,
        client_properties={"product": "toolswarm"},
    )


def _away(error: BaseException) -> BrokerUnavailable:
    return BrokerUnavailable(f"RabbitMQ does not answer ({type(error).__name__})", retry_after_s=1)
