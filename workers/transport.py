# mypy: disable-error-code="misc,attr-defined,has-type,unreachable,comparison-overlap,override,no-untyped-call"
# mypy: disable-error-code="no-any-return,valid-type,assignment,arg-type,call-arg,union-attr,operator"
# pyright: basic, reportAttributeAccessIssue=false, reportIncompatibleMethodOverride=false
# pyright: reportIncompatibleVariableOverride=false, reportOperatorIssue=false, reportOptionalIterable=false
# pyright: reportCallIssue=false, reportArgumentType=false, reportOptionalMemberAccess=false, reportOptionalOperand=false
# (the stubs of kombu leave out the internals that this extends)
"""Our kombu transport: kombu's Redis transport with another way to take, hold and return tasks.

kombu takes a task with BRPOP and only then writes down that it holds it; what is lost in between exists nowhere. Here
one script does both. Nothing else changes: lists, message format, events, remote control.

* **take**: `take.lua` pops as many tasks as there are free slots; when there are none, the worker waits on the queue's
  bell (a list with at most one entry), which producers of ours ring. Others are noticed within `brpop_timeout` (1 s).
* **hold**: every third of the visibility timeout a worker says that it still holds its tasks, on Redis' clock, and
  returns those that nobody spoke for: a dead worker's tasks are back within about 1.3 visibility timeouts.
* **ack**: all acknowledgements of one turn of the loop in one round trip. A lost one does no harm: the ledger knows.
"""

import logging
import time
from time import monotonic
from typing import Any

import redis
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis
from kombu.utils.json import loads
from redis.exceptions import NoScriptError, ResponseError

from store import keys
from store.scripts import SCRIPTS
from store.sentinel import MasterConnectionNow, from_kombu_options

logger = logging.getLogger(__name__)


class PollClock:
    """When this process last asked the broker for tasks: old while it lives means connected but silent."""

    def __init__(self) -> None:
        self.polled_at = time.monotonic()

    def touch(self) -> None:
        """It asks now."""
        self.polled_at = time.monotonic()

    def ago_s(self) -> float:
        """Seconds since it last asked."""
        return time.monotonic() - self.polled_at


POLL_CLOCK = PollClock()


def register_scheme() -> None:
    """Make kombu know the scheme `toolswarm` of broker_url in celeryconfig.py."""
    TRANSPORT_ALIASES["toolswarm"] = "workers.transport:Transport"


class QoS(kombu_redis.QoS):
    """Holds and acknowledges tasks through our scripts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._to_ack: list[str] = []
        self._flush_scheduled = False

    def append(self, message: Any, delivery_tag: str) -> None:
        """The script that took the task holds it already."""
        kombu_redis.virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge with the next flush, at the end of this turn of the loop."""
        kombu_redis.virtual.QoS.ack(self, delivery_tag)
        self.channel.end_alone(delivery_tag)
        if self.channel.connection is None:
            return  # taken over a connection that is closed by now: the task comes again, and has ended
        self._to_ack.append(delivery_tag)
        hub = self.channel.connection.hub
        if hub is None:
            self.flush_acks()
        elif not self._flush_scheduled:
            self._flush_scheduled = True
            hub.call_soon(self.flush_acks)

    def flush_acks(self) -> None:
        """Tell the broker of everything that was acknowledged."""
        self._flush_scheduled = False
        tags, self._to_ack = self._to_ack, []
        if not tags or not self._has_broker():
            return
        try:
            self.channel.run_script("ack", tags)
        except (*self.channel.connection_errors, ResponseError) as error:  # away, or full
            # They come again after the visibility timeout, and the ledger says that they have ended.
            logger.warning("%d acknowledgements were lost (%s)", len(tags), type(error).__name__)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Return the task to its queue, or drop it."""
        self.channel.end_alone(delivery_tag)
        if requeue and not self._has_broker():
            kombu_redis.virtual.QoS.ack(self, delivery_tag)  # the visibility timeout returns it
        elif requeue:
            self.restore_by_tag(delivery_tag, leftmost=True)
            kombu_redis.virtual.QoS.ack(self, delivery_tag)
        else:
            self.ack(delivery_tag)

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        """Return one task to the front of its list."""
        self.channel.run_script("give_back", [tag])

    def restore_unacked(self, client: Any = None) -> None:
        """Return everything that this worker holds; without a broker the visibility timeout does it."""
        self.flush_acks()
        tags = [tag for tag in self._delivered if tag not in self._dirty]
        if tags and self._has_broker():
            self.channel.run_script("give_back", tags)
        self._delivered.clear()

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> None:
        """Say what this worker still holds, and return what nobody spoke for."""
        if not self.channel.takes:
            return
        mine = [tag for tag in self._delivered if tag not in self._dirty]
        returned = self.channel.run_script("hold", [self.visibility_timeout, *mine])
        if returned:
            logger.warning("%d tasks of lost workers are back in %s", returned, self.channel.takes)

    def _has_broker(self) -> bool:
        # kombu closes a connection before its channels; asking for parameters then is an AttributeError (kombu #582).
        connection = self.channel.connection
        return connection is not None and connection.client is not None


class Channel(kombu_redis.Channel):
    """Takes tasks of the one queue named by the transport option `takes`, and of `own`; all others as kombu does."""

    QoS = QoS
    from_transport_options = (*kombu_redis.Channel.from_transport_options, "takes", "own", "sentinel")
    sentinel: dict[str, Any] | None = None
    """`sentinel.kombu_options`, when the broker is behind Sentinel."""
    takes = ""
    own = ""
    """The worker's own queue, for calls of sessions that live in it; delivered as if they had come from `takes`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._asked_for_tasks = False
        self._nothing_left = False
        self.alone: str | None = None
        """The task that this worker runs alone among its like, when it holds one."""
        self.held_key = keys.unacked_key(self.takes)
        self.held_index_key = keys.unacked_index_key(self.takes)
        self._bell = keys.bell_key(self.takes)
        self._bells = [self._bell, *([keys.bell_key(self.own)] if self.own else [])]

    @property
    def connection_class(self) -> type[redis.Connection]:
        """What kombu makes its connections of."""
        return MasterConnectionNow if self.sentinel else redis.Connection

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        settings = super()._connparams(asynchronous)
        return {**settings, "sentinels": from_kombu_options(self.sentinel)} if self.sentinel else settings

    def end_alone(self, delivery_tag: str) -> None:
        """A task has ended; when it was one that runs alone, the next may come."""
        if delivery_tag == self.alone:
            self.alone = None
            self._nothing_left = False

    def run_script(self, name: str, arguments: list[Any]) -> int:
        """Run one of the scripts on what is held: `ack`, `hold` or `give_back`."""
        script = SCRIPTS[name]
        whole = [3, self.held_key, self.held_index_key, self._bell, *arguments]
        with self.conn_or_acquire() as client:
            try:
                return int(client.evalsha(script.sha, *whole))
            except NoScriptError:
                return int(client.eval(script.source, *whole))

    def _brpop_start(self, timeout: float | None = None) -> None:
        POLL_CLOCK.touch()
        self.qos.flush_acks()
        if self.active_queues != [self.takes]:
            self._asked_for_tasks = False
            super()._brpop_start(timeout)
            return
        connection = self.client.connection
        self._in_poll = connection
        self._brpop_sent_at = monotonic()
        self._asked_for_tasks = not self._nothing_left
        if self._asked_for_tasks:
            lists = [self.own] if self.own else []
            if self.alone is None:
                lists.append(keys.alone_list(self.takes))
            lists += [keys.queue_list(self.takes, step) for step in self.priority_steps]
            room = self.qos.can_consume_max_estimate()
            whole = [self.held_key, self.held_index_key, self._bell, *lists]
            connection.send_command(
                "EVALSHA", SCRIPTS["take"].sha, len(whole), *whole, 100 if room is None else max(1, room)
            )
        else:
            connection.send_command("BRPOP", *self._bells, timeout or self.brpop_timeout)
        self._nothing_left = False

    def _brpop_read(self, **options: Any) -> bool:
        POLL_CLOCK.touch()
        if self.active_queues != [self.takes] and not self._asked_for_tasks:
            return bool(super()._brpop_read(**options))
        try:
            try:
                reply = self.client.parse_response(self.client.connection, "", **options)
            except NoScriptError:
                self._load_take()
                return True
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            if not self._asked_for_tasks:
                return True  # the bell, or its timeout: ask for tasks next
            self._nothing_left = not reply
            alone = keys.alone_list(self.takes).encode()
            for place in range(1, len(reply), 2):
                message = loads(reply[place].decode())
                if reply[place - 1] == alone:
                    self.alone = message["properties"]["delivery_tag"]
                self.connection._deliver(message, self.takes)
            return True
        finally:
            self._in_poll = None
            self._asked_for_tasks = False

    def _load_take(self) -> None:
        with self.conn_or_acquire() as client:
            client.script_load(SCRIPTS["take"].source)

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        super()._put(queue, message, **kwargs)
        if queue == self.takes:
            with self.conn_or_acquire() as client:
                pipe = client.pipeline(transaction=False)
                pipe.lpush(self._bell, "1")
                pipe.ltrim(self._bell, 0, 0)
                pipe.expire(self._bell, 60)
                pipe.execute()

    def _restore(self, message: Any, leftmost: bool = False) -> None:
        self.qos.restore_by_tag(message.delivery_tag, leftmost=leftmost)


class Transport(kombu_redis.Transport):
    """kombu's Redis transport, with our channel."""

    Channel = Channel
    hub: Any = None

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """As kombu; the loop is where acknowledgements are gathered."""
        self.hub = loop
        super().register_with_event_loop(connection, loop)
