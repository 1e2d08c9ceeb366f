"""The setting for RabbitMQ: what its URL says, and what is told of one that stands under the wrong name."""

from pathlib import Path

import pytest

from store.configuration import load
from store.sections import Secret
from store.task_broker import Node, nodes_of
from toolswarm.errors import ConfigurationError


def test_a_url_may_name_several_nodes() -> None:
    url = Secret("amqp://u:p%40w@one:5673/swarm;amqp://u:p%40w@two")

    nodes = nodes_of(url)

    assert nodes == (
        Node(host="one", port=5673, user="u", password="p@w", virtual_host="swarm"),
        Node(host="two", port=5672, user="u", password="p@w", virtual_host="/"),
    )


def test_the_url_can_lie_in_a_file_and_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("amqp://u:hunter2@one\n")

    configuration = load({"TOOLSWARM_BROKER__URL_FILE": str(tmp_path / "url")})

    assert configuration.broker.url.reveal() == "amqp://u:hunter2@one"
    assert "hunter2" not in repr(configuration)


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("TOOLSWARM_STORE__BROKER_URL", "amqp://u:hunter2@one", "RabbitMQ goes into broker.url"),
        ("TOOLSWARM_STORE__CACHE_URL", "amqp://u:hunter2@one", "RabbitMQ goes into broker.url"),
        ("TOOLSWARM_BROKER__URL", "redis://u:hunter2@one", "Redis goes into store.broker_url"),
        ("TOOLSWARM_BROKER__URL", "amqps://u:hunter2@one", "amqps:// is not supported yet"),
        ("TOOLSWARM_BROKER__URL", "amqp://u:hunter2@one:port", "amqp://user:password@host:5672/vhost"),
        ("TOOLSWARM_BROKER__URL", "amqp://", "names no host"),
        ("TOOLSWARM_BROKER__DELIVERY_LIMIT", "0", "at least 1"),
    ],
)
def test_an_address_under_the_wrong_name_is_refused_with_the_right_one(name: str, value: str, advice: str) -> None:
    with pytest.raises(ConfigurationError, match=advice) as refused:
        load({name: value})

    assert "hunter2" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"TOOLSWARM_BROKER__URL_FILE: cannot read /nowhere/url"):
        load({"TOOLSWARM_BROKER__URL_FILE": "/nowhere/url"})
