"""The section `[broker]` of `toolswarm.toml`: RabbitMQ, when it is to carry tasks instead of the ledger's Redis."""

from urllib.parse import unquote, urlsplit

import msgspec

from store.sections import Secret, Section
from toolswarm.errors import ConfigurationError

_FORM = "amqp://user:password@host:5672/vhost"
_PORT = 5672


class TaskBroker(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What carries tasks to workers, when it is not the ledger's Redis."""

    url: Secret = Secret("")
    """RabbitMQ, `amqp://user:password@host:5672/vhost` (several nodes: separated by `;`). Empty: the ledger's Redis
    carries the tasks, too. As a file: `TOOLSWARM_BROKER__URL_FILE`."""
    delivery_limit: int = 10
    """How often RabbitMQ hands out one task that always comes back before it puts it aside (dead-letter exchange). The
    same in all processes: it is a property of the queues."""
    own_queue_expires_s: int = 60
    """How long a worker's own queue (calls of its sessions) is kept without the worker."""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One node of RabbitMQ, and the login."""

    host: str
    port: int
    user: str
    password: str
    virtual_host: str


def nodes_of(url: Secret) -> tuple[Node, ...]:
    """Where RabbitMQ can be reached, the first to be tried first.

    Raises:
        ConfigurationError: it is no URL of RabbitMQ; the URL itself is not in the message.
    """
    return tuple(_node(one) for one in url.reveal().split(";"))


def _node(url: str) -> Node:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"broker.url: malformed; the form is {_FORM}") from error
    if parts.scheme == "amqps":
        raise ConfigurationError(
            "broker.url: amqps:// is not supported yet: keep amqp:// in a private network or tunnel"
        )
    if parts.scheme != "amqp":
        raise ConfigurationError(
            f"broker.url names a RabbitMQ, {_FORM}; Redis goes into store.broker_url, and broker.url stays empty",
            scheme=parts.scheme,
        )
    if not host:
        raise ConfigurationError(f"broker.url names no host; the form is {_FORM}")
    path = parts.path.removeprefix("/")
    return Node(
        host=host,
        port=port or _PORT,
        user=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        virtual_host=unquote(path) or "/",
    )


def check_brokers(broker: TaskBroker, *, ledger_url: str, cache_url: str) -> None:
    """Refuse an address under the wrong name.

    Raises:
        ConfigurationError: naming the setting that it belongs to.
    """
    for setting, url in (("store.broker_url", ledger_url), ("store.cache_url", cache_url)):
        if url.startswith(("amqp://", "amqps://")):
            raise ConfigurationError(
                f"{setting} names a Redis or Valkey (the ledger needs one); RabbitMQ goes into broker.url "
                "(TOOLSWARM_BROKER__URL, or a file: TOOLSWARM_BROKER__URL_FILE)"
            )
    if broker.url:
        nodes_of(broker.url)
    if broker.delivery_limit < 1:
        raise ConfigurationError("broker.delivery_limit must be at least 1")
